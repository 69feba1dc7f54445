"""Signed messages: a msgspec Struct as msgpack, signed by one host for one purpose.

Bytes -> verified `Envelope` -> frozen Struct, once, at the edge. The kind is part of what is signed, so a receipt can
never be passed off as a verdict.
"""

import threading
from collections.abc import Iterable
from typing import ClassVar, TypeVar

import msgspec
from cachetools import LRUCache

from protocol.canonical import NOT_DECODABLE, sha256
from protocol.errors import Refused
from protocol.trust.identity import Identity, verify_signature

ENVELOPE_OVERHEAD = 512
PROVED_MAX = 65_536  # a few minutes of a busy coordinator, 10 MB


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all signed messages. `KIND` is signed; `BYTES_MAX` is checked before anything is parsed."""

    KIND: ClassVar[str] = ""
    BYTES_MAX: ClassVar[int] = 64 * 1024


class Envelope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: str
    signer: str  # a host: the PeerID holds the public key
    payload: bytes
    signature: bytes

    @property
    def digest(self) -> bytes:
        """Names the message: SHA-256 over kind, signer and payload (not the signature, which is not unique)."""
        return sha256(b"zooswarm/envelope/1\0", self.kind.encode(), b"\0", self.signer.encode(), b"\0", self.payload)

    @property
    def proof(self) -> bytes:
        """Names the message and its signature: SHA-256 over all of it."""
        return sha256(b"zooswarm/proof/1\0", self.to_bytes())

    def to_bytes(self) -> bytes:
        return msgspec.msgpack.encode(self)


class Proved:
    """Proofs of envelopes whose signatures hold, those that were looked up last. May be used from any thread.

    What has this very SHA-256 was verified already, here or by whoever `add` believes, so it need not be again; one
    flipped bit gives another. Nothing is remembered of signatures that do not hold.
    """

    def __init__(self, most: int = PROVED_MAX):
        self._known: LRUCache[bytes, bool] = LRUCache(most)
        self._lock = threading.Lock()

    def add(self, proofs: Iterable[bytes]) -> None:
        with self._lock:
            for proof in proofs:
                self._known[proof] = True

    def among(self, proofs: Iterable[bytes]) -> tuple[bytes, ...]:
        """Those that are known."""
        with self._lock:
            return tuple(proof for proof in proofs if self._known.get(proof))


PROVED = Proved()  # of this process
M = TypeVar("M", bound=Message)


def seal(identity: Identity, message: Message) -> Envelope:
    payload = msgspec.msgpack.encode(message)
    if len(payload) > message.BYTES_MAX:
        raise ValueError(f"{message.KIND}: {len(payload)} bytes; the limit is {message.BYTES_MAX}")
    return Envelope(
        kind=message.KIND,
        signer=identity.host,
        payload=payload,
        signature=identity.sign("message/" + message.KIND, payload),
    )


def unseal(envelope: Envelope, kind: type[M], signer: str | None = None) -> M:
    """The message inside, after kind, size, signer, signature and schema are right. Raises Refused."""
    if envelope.kind != kind.KIND:
        raise Refused("message-kind", f"got {envelope.kind[:40]!r}, expected {kind.KIND!r}")
    if len(envelope.payload) > kind.BYTES_MAX:
        raise Refused("message-size", f"{kind.KIND} of {len(envelope.payload)} bytes; the limit is {kind.BYTES_MAX}")
    if signer is not None and envelope.signer != signer:
        raise Refused("signer", f"{kind.KIND} is signed by {envelope.signer[:60]}, expected {signer}")
    proof = envelope.proof
    if not PROVED.among((proof,)):
        verify_signature(envelope.signer, "message/" + kind.KIND, envelope.payload, envelope.signature)
        PROVED.add((proof,))
    try:
        return msgspec.msgpack.decode(envelope.payload, type=kind)
    except NOT_DECODABLE as error:
        raise Refused("message-schema", f"{kind.KIND}: {error}") from None


def envelope_from_bytes(data: bytes, bytes_max: int = 1024 * 1024) -> Envelope:
    """Raises Refused when the bytes are no envelope. The signature is checked by `unseal`."""
    if len(data) > bytes_max + ENVELOPE_OVERHEAD:
        raise Refused("message-size", f"{len(data)} bytes; the limit is {bytes_max}")
    try:
        return msgspec.msgpack.decode(data, type=Envelope)
    except NOT_DECODABLE as error:
        raise Refused("envelope", str(error)) from None
