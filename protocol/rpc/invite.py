"""An invite code: all that a newcomer needs to join a swarm, as one word to copy: `zoo-...`.

It carries the organizer's whole key (32 bytes: nobody else can answer, as with a full address), where he answers, nodes
of the swarm to ask when he does not, and until when it is meant to be used. A mistyped or lost letter is found, but for
one in four thousand million. It is no secret and opens no door: who must be kept out needs tickets, for an invite that
has run out is refused by the newcomer's own program.

    "zoo-" base58( 0x01  organizer's key (32)  fields  checksum (4) )

A field is a tag byte and its content; all numbers have the highest byte first.

    1  IPv4 address (4) and port (2)
    2  IPv6 address (16) and port (2)
    3  length of a name (1), the name in ASCII, port (2)
    4  seconds since 1970 (4): until then
    5  length (1), a libp2p multiaddress in ASCII
"""

import ipaddress
import re
import struct
from dataclasses import dataclass

import base58

from protocol.errors import InviteError, Refused, UsageError, VersionError
from protocol.trust.identity import HOST_LENGTH, MULTIHASH_PREFIX, PUBLIC_PREFIX, public_key

PREFIX = "zoo-"
VERSION = 1
CODE_CHARS_MAX = 1400  # what fits a screen; decoding takes the square of it
TARGETS_MAX, BOOTSTRAP_MAX = 4, 4
NAME_CHARS_MAX = 253
EXPIRES_MAX = 1 << 32  # the year 2106
DNS_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")
MEND = "copy it again, in one piece, or ask the organizer for `zooswarm invite`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Invite:
    """What a code says. `targets` are host:port, in the order in which they should be tried."""

    organizer: str  # PeerID
    targets: tuple[str, ...]
    bootstrap: tuple[str, ...] = ()  # multiaddresses with /p2p/PeerID
    expires_at: int = 0  # seconds since 1970; 0: never

    @property
    def addresses(self) -> tuple[str, ...]:
        """host:port/ORGANIZER of each target."""
        return tuple(f"{target}/{self.organizer}" for target in self.targets)


def is_invite(text: str) -> bool:
    """Whether a person means an invite code, right or wrong. No host is called so: a port would follow."""
    return text.strip()[: len(PREFIX)].lower() == PREFIX and ":" not in text


def make_invite(invite: Invite) -> str:
    """The code. Raises UsageError for what has no place in one."""
    fields = [_target_field(target) for target in invite.targets]
    if not 1 <= len(fields) <= TARGETS_MAX or len(invite.bootstrap) > BOOTSTRAP_MAX:
        raise UsageError(f"an invite carries 1 to {TARGETS_MAX} addresses, and {BOOTSTRAP_MAX} of other nodes at most")
    if invite.expires_at:
        if not 0 < invite.expires_at < EXPIRES_MAX:
            raise UsageError("an invite cannot last that long; leave --days out")
        fields.append(b"\x04" + struct.pack(">I", invite.expires_at))
    fields += [b"\x05" + _short(address, 255) for address in invite.bootstrap]
    body = bytes([VERSION]) + public_key(invite.organizer) + b"".join(fields)
    code = PREFIX + base58.b58encode_check(body).decode()
    if len(code) > CODE_CHARS_MAX:
        raise UsageError("these addresses are too long for an invite")
    return code


def read_invite(text: str) -> Invite:
    """What `make_invite` was given. Raises UsageError: mistyped, cut off, or of a later version."""
    code = text.strip()
    if not is_invite(code):
        raise InviteError(f"{code[:40]!r} is no invite; it begins with {PREFIX}")
    if len(code) > CODE_CHARS_MAX:
        raise InviteError(f"this invite has {len(code):,} characters, {CODE_CHARS_MAX} at most; {MEND}")
    try:
        body = base58.b58decode_check(code[len(PREFIX) :])
    except ValueError:  # a letter that base58 has not, or the checksum
        raise InviteError(f"this invite has a letter that is wrong, missing or too many; {MEND}") from None
    if body[:1] != bytes([VERSION]):
        raise VersionError("this invite is of another version of zooswarm; update it, or ask for a full address")
    try:
        return _read_body(body)
    except (Refused, UsageError, IndexError, ValueError, struct.error) as error:
        raise InviteError(f"this invite is not one that zooswarm made ({error}); {MEND}") from None


def check_time(invite: Invite, now: float) -> None:
    """Raises UsageError when it has run out. `now`: seconds since 1970."""
    if invite.expires_at and now >= invite.expires_at:
        days = (now - invite.expires_at) / 86_400
        ago = f"{days:.0f} days" if days >= 2 else f"{days * 24:.0f} hours"
        raise InviteError(f"this invite ran out {ago} ago; ask the organizer for a new one (`zooswarm invite`)")


def _target_field(target: str) -> bytes:
    name, _, port = target.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f"{target!r}: expected host:port")
    end = struct.pack(">H", int(port))
    try:
        address = ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        if not DNS_NAME.fullmatch(name):
            raise UsageError(f"{target!r}: {name!r} is no name of a computer") from None
        return b"\x03" + _short(name, NAME_CHARS_MAX) + end
    if getattr(address, "scope_id", None):
        raise UsageError(f"{target!r}: an address of one network card is of no use to others") from None
    return (b"\x01" if address.version == 4 else b"\x02") + address.packed + end


def _short(text: str, most: int) -> bytes:
    data = text.encode("ascii", "replace")
    if not data.decode() == text or not 0 < len(data) <= most:
        raise UsageError(f"{text[:40]!r} is too long, or not ASCII")
    return bytes([len(data)]) + data


def _read_body(body: bytes) -> Invite:
    """Raises Refused, ValueError, IndexError, struct.error."""
    raw, rest = body[1:33], body[33:]
    organizer = base58.b58encode(MULTIHASH_PREFIX + PUBLIC_PREFIX + raw).decode()
    if len(raw) != 32 or len(organizer) != HOST_LENGTH:
        raise ValueError("no key")
    public_key(organizer)
    targets, bootstrap, expires_at = list[str](), list[str](), 0
    while rest:
        tag, rest = rest[0], rest[1:]
        if tag in (1, 2, 3):
            name, rest = _read_name(tag, rest)
            (port,) = struct.unpack(">H", rest[:2])
            rest = rest[2:]
            targets.append(f"{name}:{port}")
        elif tag == 4:
            (expires_at,) = struct.unpack(">I", rest[:4])
            rest = rest[4:]
        elif tag == 5:
            text, rest = _read_short(rest)
            bootstrap.append(text)
        else:
            raise ValueError(f"field {tag}")
    invite = Invite(organizer=organizer, targets=tuple(targets), bootstrap=tuple(bootstrap), expires_at=expires_at)
    if base58.b58decode_check(make_invite(invite)[len(PREFIX) :]) != body:
        raise ValueError("fields in another order")
    return invite


def _read_name(tag: int, rest: bytes) -> tuple[str, bytes]:
    if tag == 3:
        return _read_short(rest)
    size = 4 if tag == 1 else 16
    address = ipaddress.ip_address(rest[:size])
    return (str(address) if tag == 1 else f"[{address}]"), rest[size:]


def _read_short(rest: bytes) -> tuple[str, bytes]:
    size = rest[0]
    if len(rest) <= size:
        raise ValueError("cut off")
    return rest[1 : 1 + size].decode("ascii"), rest[1 + size :]
