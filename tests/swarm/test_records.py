"""DHT records: what a node accepts, and that everything else is refused for a reason that can be counted."""

from types import SimpleNamespace

import msgspec
import pytest

from protocol.engine import ENGINE
from protocol.errors import Refused
from protocol.swarm.records import (
    BARE,
    CLAIM,
    CLAIM_TTL_MAX,
    DONE,
    CampaignEntry,
    Claim,
    Done,
    KeySpace,
    SwarmManifest,
    check_record,
    claims_key,
    earned,
    hash_key,
    make_subkey,
    manifest_key,
    sign_record,
)
from protocol.swarm.validator import RecordValidator
from protocol.trust.allowance import allow
from protocol.trust.identity import Identity

NOW = 1_000_000.0
CAMPAIGN = "ab" * 32
ANYTHING = Done(1)


@pytest.fixture(scope="module")
def organizer():
    return Identity.generate()


@pytest.fixture(scope="module")
def alice():
    return Identity.generate()


@pytest.fixture
def space(organizer):
    space = KeySpace(organizer.host)
    space.allow_campaign(CAMPAIGN, 100)  # shards of 64 and 36
    return space


@pytest.fixture
def claim(organizer, alice):
    """A claim of alice's, with the organizer's allowance in it."""

    def make(claimed, confirmed, assignments=64, host=alice.host, signer=organizer, expires=int(NOW) + 3600):
        return Claim(claimed, confirmed, allow(signer, host, assignments, 1800, expires))

    return make


def signed(identity, key, kind, payload, end=NOW + 60, subkey=None):
    """(hashed key, subkey, value, expiration) as they travel. `payload` may be bytes that mean nothing."""
    if not isinstance(payload, bytes):
        payload = msgspec.msgpack.encode(payload)
    hashed = hash_key(key)
    subkey = msgspec.msgpack.encode(make_subkey(identity.host, kind)) if subkey is None else subkey
    return hashed, subkey, sign_record(identity, hashed, subkey, payload, end), end


def reason(space, record, now=NOW):
    with pytest.raises(Refused) as refusal:
        hashed, subkey, value, end = record
        check_record(hashed, subkey, value, end, now, space)
    return refusal.value.reason


def test_every_kind_of_record_is_accepted_from_its_owner(space, organizer, alice, claim):
    entry = CampaignEntry(bytes.fromhex(CAMPAIGN), 100)
    manifest = SwarmManifest((entry,) * 8, 2**40, "coordinator.example.org:4002", 1, ENGINE)
    records = [
        (organizer, manifest_key(), BARE, manifest),
        (organizer, claims_key(CAMPAIGN, 1), DONE, Done(2**36 - 1)),
        (alice, claims_key(CAMPAIGN, 0), CLAIM, claim(2**64 - 1, 2**63)),
    ]
    for identity, key, kind, value in records:
        record = check_record(*signed(identity, key, kind, value), NOW, space)
        assert (record.key, record.host, record.kind, record.value) == (key, identity.host, kind, value)


def test_a_record_is_refused_in_any_other_hands(space, organizer, alice, claim):
    key, subkey, value, end = signed(alice, claims_key(CAMPAIGN, 0), CLAIM, claim(1, 0))
    mallory = Identity.generate()
    stolen = msgspec.msgpack.encode(make_subkey(mallory.host, CLAIM))
    assert reason(space, (key, stolen, value, end)) == "signature"
    assert reason(space, (hash_key(claims_key(CAMPAIGN, 1)), subkey, value, end)) == "signature"
    assert reason(space, (key, subkey, value, end + 1)) == "signature"  # a longer life than its owner gave it
    assert reason(space, (key, subkey, b"\x93\x02\x00" + value[3:], end)) == "signature"
    assert reason(space, signed(alice, manifest_key(), BARE, SwarmManifest((), 0, "", 1, ""))) == "record-owner"
    assert reason(space, signed(alice, claims_key(CAMPAIGN, 0), DONE, Done(1))) == "record-owner"


def test_the_key_space_is_closed(space, alice, claim):
    assert reason(space, signed(alice, "zs2/anything", BARE, ANYTHING)) == "record-key"
    assert reason(space, signed(alice, claims_key(CAMPAIGN, 2), CLAIM, claim(1, 0))) == "record-key"
    assert reason(space, signed(alice, claims_key("cd" * 32, 0), CLAIM, claim(1, 0))) == "record-key"
    assert reason(space, signed(alice, claims_key(CAMPAIGN, 0), "x", claim(1, 0))) == "record-kind"
    assert reason(space, signed(alice, claims_key(CAMPAIGN, 0), BARE, claim(1, 0))) == "record-kind"
    space.forget_campaign(CAMPAIGN)
    assert reason(space, signed(alice, claims_key(CAMPAIGN, 0), CLAIM, claim(1, 0))) == "record-key"


def test_lives_are_capped_and_numbers_must_be_finite(space, alice, claim):
    key = claims_key(CAMPAIGN, 0)
    for end in (NOW + CLAIM_TTL_MAX + 11, NOW + 1e9, float("inf"), float("nan")):
        assert reason(space, signed(alice, key, CLAIM, claim(1, 0), end)) == "record-ttl"
    expired = signed(alice, key, CLAIM, claim(1, 0), NOW - 1)
    assert check_record(*expired, NOW, space).value == claim(1, 0)  # the storage drops it; a reply is not spoilt


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"\xc1", "record-schema"),  # not msgpack
        (b"", "record-size"),
        (b"\x93\x01\x00", "record-schema"),  # cut short
        (b"\x93\x01\x00\xc0\x00", "record-schema"),  # something after the end
        (b"\x93\xcc\x01\x00\xc0", "record-schema"),  # another encoding of [1, 0]
        (b"\x94\x01\x00\xc0\x00", "record-schema"),  # one field too many
        (b"\x91\x01", "record-schema"),  # one too few
        (b"\x93\xff\x00\xc0", "record-schema"),  # a negative bitmap
        (b"\x93\xcb" + b"\x00" * 8 + b"\x00\xc0", "record-schema"),  # a float
        (b"\xc7\x02\x40\x92\x01", "record-schema"),  # hivemind's tuple extension
        (b"\x91" * 400 + b"\x00", "record-schema"),  # nested deeply
        (b"\x93\x01\x02\xc0", "record-bits"),  # confirmed without being claimed
        (b"\xc4\xff" + b"\x00" * 600, "record-size"),
    ],
)
def test_junk_is_refused(space, alice, payload, expected):
    assert reason(space, signed(alice, claims_key(CAMPAIGN, 0), CLAIM, payload)) == expected


def test_bits_past_the_end_of_the_last_shard_are_refused(space, organizer, alice, claim):
    assert reason(space, signed(alice, claims_key(CAMPAIGN, 1), CLAIM, claim(1 << 36, 0))) == "record-bits"
    assert reason(space, signed(organizer, claims_key(CAMPAIGN, 1), DONE, Done(1 << 36))) == "record-bits"


def test_a_claim_needs_the_organizers_allowance_and_stays_within_it(space, organizer, alice, claim):
    key, mallory = claims_key(CAMPAIGN, 0), Identity.generate()
    assert reason(space, signed(alice, key, CLAIM, Claim(1, 0))) == "claim-allowance"
    assert reason(space, signed(alice, key, CLAIM, claim(2**64 - 1, 0, assignments=8))) == "claim-allowance"
    assert check_record(*signed(alice, key, CLAIM, claim(255, 0, assignments=8)), NOW, space)
    assert reason(space, signed(alice, key, CLAIM, claim(1, 0, expires=int(NOW) - 61))) == "claim-allowance"
    assert reason(space, signed(alice, key, CLAIM, claim(1, 0, signer=alice))) == "signature"
    assert reason(space, signed(mallory, key, CLAIM, claim(1, 0))) == "signature", "it is another host's"
    good = claim(1, 0, assignments=8)
    more = Claim(1, 0, msgspec.structs.replace(good.allowance, assignments=64))
    assert check_record(*signed(alice, key, CLAIM, good), NOW, space)
    assert reason(space, signed(alice, key, CLAIM, more)) == "signature", "what was believed before is not believed now"


def test_a_full_key_keeps_those_who_have_earned_something(space, organizer, alice, claim):
    def value(payload):
        return signed(alice, claims_key(CAMPAIGN, 0), CLAIM, payload)[2]

    assert [earned(value(claim(1, 0, assignments=n))) for n in (1, 8, 9, 64)] == [0, 0, 1, 1]
    assert earned(value(Claim(1, 0))) == 0 and earned(value(Done(1))) == 1


def test_subkeys_name_one_owner_in_one_way(space, alice, claim):
    key, payload = claims_key(CAMPAIGN, 0), claim(1, 0)
    text = make_subkey(alice.host, CLAIM).encode()
    cases = {
        b"\xc0": "record-regular",
        b"": "record-subkey",
        b"\x01": "record-subkey",
        b"\xda\x00" + bytes([len(text)]) + text: "record-subkey",  # a longer length field
        b"\xc4" + bytes([len(text)]) + text: "record-subkey",  # bytes, not text
        msgspec.msgpack.encode(alice.host + "|"): "record-subkey",
        msgspec.msgpack.encode("x" * 200): "record-subkey",
        b"\xa2\xff\xfe": "record-subkey",
        msgspec.msgpack.encode("QmNotEd25519|c"): "host-name",
    }
    for subkey, expected in cases.items():
        assert reason(space, signed(alice, key, CLAIM, payload, subkey=subkey)) == expected, subkey


def test_the_guard_counts_by_reason_and_remembers_the_last_offender(space, alice, claim):
    guard = RecordValidator(alice, space, lambda: NOW)

    def judge(record):
        return guard.validate(
            SimpleNamespace(key=record[0], subkey=record[1], value=record[2], expiration_time=record[3])
        )

    good = signed(alice, claims_key(CAMPAIGN, 0), CLAIM, claim(1, 0))
    assert judge(good) and judge(good)
    for _ in range(3):
        assert not judge(signed(alice, "zs2/nothing", CLAIM, claim(1, 0)))
    assert not judge((*good[:2], bytes(len(good[2])), good[3]))
    assert guard.refused == {"record-key": 3, "record-schema": 1}
    assert alice.host in guard.offenders["record-key"]
    space.forget_campaign(CAMPAIGN)
    assert not judge(good)  # an earlier verdict does not outlive the key


def test_a_large_campaign_opens_quickly_and_closes_again(space):
    before = len(space.keys)
    space.allow_campaign("cd" * 32, 100_000)
    assert len(space.keys) == before + 1563
    space.forget_campaign("cd" * 32)
    assert len(space.keys) == before
    with pytest.raises(ValueError):
        space.allow_campaign("cd", 1)
