"""Between protobuf and our structs: sizes bounded, and what a refusal looks like."""

from collections.abc import Iterable, Iterator

import grpc

from protocol.errors import AddressError, Refused
from protocol.rpc import coordinator_pb2 as pb
from protocol.rpc.invite import is_invite, read_invite
from protocol.trust.envelope import ENVELOPE_OVERHEAD, Envelope, unseal
from protocol.trust.identity import HOST_LENGTH, public_key
from protocol.trust.messages import Welcome

CHUNK_BYTES = 256 * 1024
TICKET = "zooswarm-ticket-bin"  # the metadata of SubmitResult that carries a host's ticket, if it has one
ENCLOSED_BYTES_MAX = 1024 * 1024  # trace and weights that go along with a result
MESSAGE_BYTES_MAX = 9 * 1024 * 1024  # an inbox, the largest signed message, with room
GRPC_OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),
]


def to_wire(envelope: Envelope) -> pb.Signed:
    return pb.Signed(kind=envelope.kind, signer=envelope.signer, payload=envelope.payload, signature=envelope.signature)


def from_wire(signed: pb.Signed) -> Envelope:
    """Raises Refused when a field is absurd; the signature is checked by `unseal`."""
    if len(signed.kind) > 64 or len(signed.signer) != HOST_LENGTH or len(signed.signature) != 64:
        raise Refused("envelope", "kind, signer or signature have impossible lengths")
    if len(signed.payload) > MESSAGE_BYTES_MAX - ENVELOPE_OVERHEAD:
        raise Refused("message-size", f"{len(signed.payload)} bytes")
    return Envelope(kind=signed.kind, signer=signed.signer, payload=signed.payload, signature=signed.signature)


def open_welcome(reply: pb.Signed, nonce: bytes, organizer: str | None) -> tuple[str, Welcome]:
    """(organizer, what it says to who joins). Raises Refused: another organizer's, or the answer to another call."""
    envelope = from_wire(reply)
    if organizer is not None and envelope.signer != organizer:
        raise Refused("organizer", f"{envelope.signer} answers there, not {organizer}")
    welcome = unseal(envelope, Welcome)
    if welcome.nonce != nonce:
        raise Refused("welcome", "an answer to another call")
    return envelope.signer, welcome


def chunks(data: bytes, upload: Envelope | None = None) -> Iterator[pb.BlobChunk]:
    """A blob as a stream of messages; the first one carries the signed Upload, if any, and with it all of a small
    blob."""
    if upload is not None:
        small = data if len(data) <= CHUNK_BYTES else b""
        yield pb.BlobChunk(upload=to_wire(upload), data=small)
        data = b"" if small else data
    for start in range(0, len(data), CHUNK_BYTES):
        yield pb.BlobChunk(data=data[start : start + CHUNK_BYTES])


def collect(stream: Iterable[pb.BlobChunk], size: int) -> bytes:
    """Exactly `size` bytes from a stream. Raises Refused on the first byte too many, or at the end if some miss."""
    parts, got = [], 0
    for chunk in stream:
        got += len(chunk.data)
        if got > size:
            raise Refused("blob-size", f"more than the announced {size} bytes")
        parts.append(chunk.data)
    if got != size:
        raise Refused("blob-size", f"{got} bytes of the announced {size}")
    return b"".join(parts)


def parse_address(text: str) -> tuple[str, str | None]:
    """`host:port`, `host:port/PeerID` or an invite code -> (target, organizer or None). Raises UsageError.

    Of an invite the first address, whether it has run out or not: `channel.locate` looks.
    """
    if is_invite(text):
        invite = read_invite(text)
        return invite.targets[0], invite.organizer
    target, slash, organizer = text.partition("/")
    name, colon, port = target.rpartition(":")
    if not colon or not name or not port.isdecimal() or not 0 < int(port) < 65536:
        raise AddressError(f"{text!r} is not an address; expected host:port/ORGANIZER as `zooswarm host` prints it")
    if not slash:
        return target, None
    try:
        public_key(organizer)
    except Refused as error:
        raise AddressError(f"{text!r}: the part after / is not an organizer's PeerID ({error})") from None
    return target, organizer


def refusal(error: grpc.RpcError) -> Refused | None:
    """The Refused that the other side sent, or None when the call failed for another cause (it is away)."""
    code = error.code() if isinstance(error, grpc.Call) else None
    if code not in (
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.NOT_FOUND,
    ):
        return None
    reason, _, detail = (error.details() or "refused").partition(": ")
    return Refused(reason, detail)
