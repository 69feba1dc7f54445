"""DHT records: which keys exist, what may stand under them, and the one function that judges a record.

A swarm's key space is closed: `zs2/manifest` and, for each known campaign, `zs2/{campaign}/claims/{shard}`. Every
value is a dictionary entry under its owner's subkey `PeerID` or `PeerID|kind`, typed msgpack plus a signature over key,
subkey, value and expiration. Everything else is refused by every node, and so is a claim beyond what the organizer has
allowed its host (`allowance`).
"""

import hashlib
import math
import struct
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from protocol.errors import Refused
from protocol.trust.allowance import Allowance, Allowances
from protocol.trust.identity import HOST_LENGTH, Identity, verify_signature

PREFIX = "zs2"  # changes with any change of keys, kinds or schemas: two versions never share a record
DOMAIN = "dht-record"  # of the signatures
VALUE_BYTES_MAX = 512  # 1,500 entries of 512 + 64 bytes stay under libp2p's 4 MiB message limit
SIGNATURE_BYTES = 64
SUBKEY_BYTES_MAX = HOST_LENGTH + 16
SKEW_SECONDS = 10.0  # how far our clocks may differ after correction
SHARD_SIZE = 64  # assignments a key: one bitmap is one msgpack integer
KEYED_ASSIGNMENTS_MAX = 4_000_000  # of a campaign in a record, more than campaigns have: 62,500 keys in memory
SWARM_CAMPAIGNS_MAX = 8  # of one manifest

CLAIM, DONE, BARE = "c", "d", ""
CLAIM_TTL_MAX, DONE_TTL, MANIFEST_TTL = 300.0, 3600.0, 7200.0  # seconds

Bitmap = Annotated[int, Meta(ge=0)]  # bit i: assignment i of the shard


class Value(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of everything that stands in the DHT: a msgpack array, no field added or missing."""


class CampaignEntry(Value, frozen=True, array_like=True):
    """One campaign of the swarm: enough to know its keys."""

    digest: Annotated[bytes, Meta(min_length=32, max_length=32)]
    assignments: Annotated[int, Meta(ge=1, le=KEYED_ASSIGNMENTS_MAX)]


class SwarmManifest(Value, frozen=True, array_like=True):
    """What the organizer says about the swarm."""

    campaigns: Annotated[tuple[CampaignEntry, ...], Meta(max_length=SWARM_CAMPAIGNS_MAX)]
    beacon_epoch: Annotated[int, Meta(ge=0)]
    coordinator: Annotated[str, Meta(max_length=128)]  # gRPC host:port, or "" for none
    protocol: Annotated[int, Meta(ge=1, le=65535)]
    engine: Annotated[str, Meta(max_length=32)]


class Claim(Value, frozen=True, array_like=True):
    """A host's lease on assignments of one shard: those it asks for, and among them those it holds."""

    claimed: Bitmap
    confirmed: Bitmap
    allowance: Allowance | None = None  # without one no node takes the record


class Done(Value, frozen=True, array_like=True):
    """The organizer's bitmap: results accepted or awaiting judgement. A cleared bit is free again."""

    done: Bitmap


@dataclass(frozen=True, slots=True)
class Rule:
    """What may stand under one kind of one key."""

    schema: type[Value]
    ttl_seconds_max: float
    organizer_only: bool = False


@dataclass(frozen=True, slots=True)
class RecordKey:
    """One key of the closed key space."""

    name: str
    rules: dict[str, Rule]  # by kind
    size: int = 0  # assignments in the shard, for claims


@dataclass(frozen=True, slots=True)
class Record:
    """A record that passed every check."""

    key: str
    host: str
    kind: str
    value: Any
    expiration: float


RULES_MANIFEST = {BARE: Rule(SwarmManifest, MANIFEST_TTL, organizer_only=True)}
RULES_CLAIMS = {CLAIM: Rule(Claim, CLAIM_TTL_MAX), DONE: Rule(Done, DONE_TTL, organizer_only=True)}
KINDS = {CLAIM: Claim, DONE: Done}


def check_record(key: bytes, subkey: bytes, value: bytes, expiration: float, now: float, space: "KeySpace") -> Record:
    """Judge one record as it came from the network: hashed key, msgpack subkey, payload plus signature.

    `expiration` and `now` are seconds of the swarm's clock. An expired record is not refused here: it is merely
    gone, and the storage drops it. Raises Refused with the reason to count.
    """
    host, kind = split_subkey(subkey)
    if not SIGNATURE_BYTES < len(value) <= VALUE_BYTES_MAX + SIGNATURE_BYTES:
        raise Refused("record-size", f"{len(value)} bytes from {host}")
    entry = space.keys.get(key)
    if entry is None:
        raise Refused("record-key", f"unknown key from {host}")
    rule = entry.rules.get(kind)
    if rule is None:
        raise Refused("record-kind", f"{entry.name}: kind {kind!r} from {host}")
    if rule.organizer_only and host != space.organizer:
        raise Refused("record-owner", f"{entry.name}: only the organizer may write this, not {host}")
    if not math.isfinite(expiration) or expiration > now + rule.ttl_seconds_max + SKEW_SECONDS:
        raise Refused("record-ttl", f"{entry.name}: expires too late, from {host}")
    payload = value[:-SIGNATURE_BYTES]
    decoded = decode_value(payload, rule.schema)
    check_meaning(entry, host, decoded)
    verify_signature(host, DOMAIN, signed_bytes(key, subkey, payload, expiration), value[-SIGNATURE_BYTES:])
    if isinstance(decoded, Claim):
        if decoded.allowance is None:
            raise Refused("claim-allowance", f"{host} has no allowance of the organizer")
        space.allowances.check(decoded.allowance, host, decoded.claimed.bit_count(), now)
    return Record(entry.name, host, kind, decoded, expiration)


def check_meaning(entry: RecordKey, host: str, value: Value) -> None:
    """What the types cannot say. Raises Refused."""
    if isinstance(value, Claim) and (value.claimed >> entry.size or value.confirmed & ~value.claimed):
        raise Refused("record-bits", f"{entry.name}: bits that cannot be, from {host}")
    if isinstance(value, Done) and value.done >> entry.size:
        raise Refused("record-bits", f"{entry.name}: bits past the shard's end, from {host}")


def decode_value(payload: bytes, schema: type[Value]) -> Value:
    """Typed msgpack -> value. Raises Refused unless the bytes are exactly what we would have written."""
    try:
        value = msgspec.msgpack.decode(payload, type=schema)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refused("record-schema", f"not a {schema.__name__}") from None
    if msgspec.msgpack.encode(value) != payload:
        raise Refused("record-schema", f"a {schema.__name__} in another encoding")
    return value


def earned(value: bytes) -> int:
    """What a checked record's writer has earned, for when a key is full: a new host's claim nothing, everything else
    something."""
    try:
        claim = msgspec.msgpack.decode(value[:-SIGNATURE_BYTES], type=Claim)
    except (msgspec.DecodeError, RecursionError):
        return 1  # the organizer's
    return int(claim.allowance is not None and claim.allowance.proved)


def split_subkey(subkey: bytes) -> tuple[str, str]:
    """Msgpack subkey -> (host, kind). Raises Refused for regular values (nil) and anything but one short string."""
    if subkey == b"\xc0":
        raise Refused("record-regular", "a plain value without an owner")
    try:
        text = msgspec.msgpack.decode(subkey[: SUBKEY_BYTES_MAX + 1], type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Refused("record-subkey", "not a string") from None
    if msgspec.msgpack.encode(text) != subkey:
        raise Refused("record-subkey", "in another encoding")
    host, bar, kind = text.partition("|")
    if bar and not kind:
        raise Refused("record-subkey", "an empty kind")
    return host, kind


def make_subkey(host: str, kind: str) -> str:
    return f"{host}|{kind}" if kind else host


def signed_bytes(key: bytes, subkey: bytes, payload: bytes, expiration: float) -> bytes:
    """What a record's signature covers: a replay under another key, subkey or expiration does not verify."""
    return struct.pack(">20sdH", key, expiration, len(subkey)) + subkey + payload


def sign_record(identity: Identity, key: bytes, subkey: bytes, payload: bytes, expiration: float) -> bytes:
    """The value as it travels: payload, then the owner's signature."""
    return payload + identity.sign(DOMAIN, signed_bytes(key, subkey, payload, expiration))


def hash_key(name: str) -> bytes:
    """The 20 bytes that the DHT knows a key by: the SHA-1 of its UTF-8 text (never a security boundary here)."""
    return hashlib.sha1(name.encode(), usedforsecurity=False).digest()


def manifest_key() -> str:
    return f"{PREFIX}/manifest"


def claims_key(campaign: str, shard: int) -> str:
    """`campaign` is the campaign's digest (64 hex digits); the key carries its first 16."""
    return f"{PREFIX}/{campaign[:16]}/claims/{shard}"


def shard_count(assignments: int) -> int:
    return -(-assignments // SHARD_SIZE)


def shard_size(assignments: int, shard: int) -> int:
    """Assignments in this shard: 64, fewer in the last one."""
    return min(SHARD_SIZE, assignments - shard * SHARD_SIZE)


class KeySpace:
    """The keys that exist in this swarm, by their hash. It grows and shrinks with the campaigns we know."""

    def __init__(self, organizer: str):
        self.organizer = organizer
        self.campaigns: dict[str, int] = {}  # digest -> assignments
        self.version = 0  # counts changes, so that caches of verdicts know when to forget
        self.keys: dict[bytes, RecordKey] = {}
        self.allowances = Allowances(organizer)
        self._add(RecordKey(manifest_key(), RULES_MANIFEST))

    def allow_campaign(self, digest: str, assignments: int) -> None:
        """Open the claim keys of a campaign; again with the same count is harmless. Raises ValueError (our bug)."""
        if len(digest) != 64 or not 1 <= assignments <= KEYED_ASSIGNMENTS_MAX:
            raise ValueError(f"not a campaign: {digest!r} with {assignments} assignments")
        if self.campaigns.get(digest) == assignments:
            return
        self.forget_campaign(digest)
        self.campaigns[digest] = assignments
        for shard in range(shard_count(assignments)):
            self._add(RecordKey(claims_key(digest, shard), RULES_CLAIMS, size=shard_size(assignments, shard)))

    def forget_campaign(self, digest: str) -> None:
        """Close a campaign's keys; unknown ones are ignored."""
        assignments = self.campaigns.pop(digest, 0)
        for shard in range(shard_count(assignments)):
            self.keys.pop(hash_key(claims_key(digest, shard)), None)
        self.version += 1

    def follow(self, manifest: SwarmManifest) -> None:
        """Open the keys of the manifest's campaigns. None is closed: a paused campaign may come back."""
        for campaign in manifest.campaigns:
            self.allow_campaign(campaign.digest.hex(), campaign.assignments)

    def _add(self, key: RecordKey) -> None:
        self.keys[hash_key(key.name)] = key
        self.version += 1
