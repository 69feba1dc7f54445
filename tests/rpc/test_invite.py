"""Invite codes: what went in comes out, one wrong letter is found, and an invite stands wherever an address does."""

import random
import socket
import time

import base58
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.client import invite_for
from coordinator.directories import write_settings
from peer.session.welcome import Whereto
from peer.storage.home import JoinCache
from protocol.errors import UsageError
from protocol.rpc.channel import locate
from protocol.rpc.invite import PREFIX, Invite, check_time, is_invite, make_invite, read_invite
from protocol.rpc.wire import parse_address
from protocol.trust.identity import Identity

HOSTS = [Identity.generate().host for _ in range(4)]
NODE = f"/ip4/203.0.113.9/tcp/4001/p2p/{HOSTS[0]}"
names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}\.[a-z]{2,8})?", fullmatch=True).filter(str.isalpha)
places = st.one_of(st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(lambda ip: f"[{ip}]"), names)
targets = st.builds(lambda place, port: f"{place}:{port}", places, st.integers(1, 65535))
invites = st.builds(
    lambda organizer, targets, nodes, until: Invite(
        organizer=organizer, targets=tuple(targets), bootstrap=(NODE,) * nodes, expires_at=until
    ),
    st.sampled_from(HOSTS),
    st.lists(targets, min_size=1, max_size=4),
    st.integers(0, 2),
    st.one_of(st.just(0), st.integers(1, 2**32 - 1)),
)


@given(invites)
def test_what_goes_in_comes_out(invite):
    code = make_invite(invite)
    assert read_invite(code) == read_invite(f"  {code}\n") == invite
    assert is_invite(code) and parse_address(code) == (invite.targets[0], invite.organizer)


@settings(max_examples=50)
@given(invites, st.integers(0, 2**32))
def test_a_letter_that_is_wrong_lost_doubled_or_swapped_is_found(invite, seed):
    code, rng = make_invite(invite), random.Random(seed)
    at = rng.randrange(len(PREFIX), len(code) - 1)
    other = rng.choice([letter for letter in base58.BITCOIN_ALPHABET.decode() + "0OIl" if letter != code[at]])
    changed = {
        code[:at] + other + code[at + 1 :],
        code[:at] + code[at + 1 :],
        code[:at] + code[at] + code[at:],
        code[:at] + code[at + 1] + code[at] + code[at + 2 :],
        code[: rng.randrange(len(PREFIX), len(code))],
    } - {code}
    for wrong in changed:
        with pytest.raises(UsageError) as caught:
            read_invite(wrong)
        assert "copy it again" in str(caught.value)


def test_an_invite_to_one_address_is_sixty_characters():
    code = make_invite(Invite(organizer=HOSTS[0], targets=("203.0.113.7:7750",)))
    assert len(code) <= 64 and code[len(PREFIX) :].isalnum()


@pytest.mark.parametrize(
    "targets",
    [(), ("a:1",) * 5, ("a",), ("a:0",), (":1",), ("-a:1",), ("[fe80::1%eth0]:1",), (254 * "a" + ":1",)],
)
def test_what_has_no_place_in_a_code_is_refused(targets):
    with pytest.raises(UsageError):
        make_invite(Invite(organizer=HOSTS[0], targets=targets))


def test_a_code_of_another_version_says_so():
    body = base58.b58decode_check(make_invite(Invite(organizer=HOSTS[0], targets=("a:1",)))[len(PREFIX) :])
    with pytest.raises(UsageError, match="another version"):
        read_invite(PREFIX + base58.b58encode_check(b"\x02" + body[1:]).decode())


def test_an_invite_that_has_run_out_lets_nobody_in_but_who_was_in(tmp_path):
    invite = Invite(organizer=HOSTS[0], targets=("127.0.0.1:1",), expires_at=1_000_000)
    check_time(invite, 999_999.0)
    for now, ago in ((1_000_000.0, "0 hours"), (1_000_000.0 + 3 * 86_400, "3 days")):
        with pytest.raises(UsageError, match=f"ran out {ago} ago.*zooswarm invite"):
            check_time(invite, now)
    code = make_invite(invite)
    with pytest.raises(UsageError, match="ran out"):
        locate(code)
    known = tmp_path / "known.json"
    with pytest.raises(UsageError, match="ran out"):
        Whereto.typed(code, known)
    cache = JoinCache(address=invite.addresses[0], organizer=HOSTS[0], bootstrap=[], campaigns=[])
    known.write_bytes(msgspec.json.encode(cache))
    assert Whereto.typed(code, known).address == invite.addresses[0]


def test_of_several_addresses_the_first_that_answers():
    with socket.socket() as open_, socket.socket() as shut:
        for one in (open_, shut):
            one.bind(("127.0.0.1", 0))
        open_.listen()
        ports = [one.getsockname()[1] for one in (shut, open_)]
        invite = Invite(organizer=HOSTS[0], targets=tuple(f"127.0.0.1:{port}" for port in ports))
        assert locate(make_invite(invite)) == invite.addresses[1]
    assert locate(make_invite(invite)) == invite.addresses[0], "nobody answers: the first, to be tried again"


def test_the_organizer_prints_one_for_a_host_that_does_not_run(tmp_path):
    with pytest.raises(UsageError, match="zooswarm host"):
        invite_for(tmp_path, None, (), (), 0.0)
    write_settings(tmp_path, {"join": f"my.host.org:7750/{HOSTS[0]}"})
    now = time.time()
    invite = read_invite(invite_for(tmp_path, 2.0, ("192.0.2.1:7750",), (NODE,), now))
    assert invite.targets == ("my.host.org:7750", "192.0.2.1:7750") and invite.bootstrap == (NODE,)
    assert invite.expires_at == int(now + 2 * 86_400)
