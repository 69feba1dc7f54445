"""Where nodes listen and are found: libp2p multiaddresses, checked before they reach the daemon."""

import asyncio
import contextlib
import ipaddress
import re
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from protocol import TIMEOUTS
from protocol.errors import AddressError, BusyError, Refused
from protocol.trust.identity import public_key

EXAMPLE = "/ip4/203.0.113.7/tcp/4001/p2p/12D3KooW..."
ADDRESS = re.compile(r"(/(?:ip4|ip6|dns|dns4|dns6)/[^/,\s]+/(?:tcp/\d+|udp/\d+/quic(?:-v1)?))/p2p/(\w+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """How a node listens and whom it knows. Raises UsageError for what is not an address."""

    bootstrap: Sequence[str] = ()  # multiaddresses with /p2p/PeerID
    known: Sequence[str] = ()  # peers of last time, tried beside the bootstrap addresses
    listen: str = "127.0.0.1"  # 0.0.0.0 for the world
    port: int = 0  # 0: any
    announce: Sequence[str] = ()  # multiaddresses for others, without /p2p
    client_mode: bool = False  # keep nothing for others, be in nobody's routing table
    keepalive_seconds: float = 15.0

    def __post_init__(self) -> None:
        for address in (*self.bootstrap, *self.known):
            peer_of(address)
        for address in self.announce:
            if not ADDRESS.fullmatch(f"{address}/p2p/x") or "/tcp/0" in address:
                raise AddressError(f"{address}: not an address to announce; it looks like /ip4/203.0.113.7/tcp/4001")
        with contextlib.suppress(ValueError):
            ipaddress.ip_address(self.listen)
            return
        raise AddressError(f"{self.listen}: not an IP address to listen on; use 0.0.0.0 for every interface")


def split_address(address: str) -> tuple[str, str]:
    """A multiaddress -> (where to dial, PeerID). Raises UsageError."""
    match = ADDRESS.fullmatch(address)
    try:
        public_key(match[2] if match else "")
    except Refused:
        raise AddressError(f"{address}: not a swarm address; it looks like {EXAMPLE}") from None
    assert match
    return match[1], match[2]


def peer_of(address: str) -> str:
    """The host behind a multiaddress. Raises UsageError."""
    return split_address(address)[1]


def port_of(address: str) -> int | None:
    """The TCP port of a multiaddress, if it has one."""
    match = re.search(r"/tcp/(\d+)", address)
    return int(match[1]) if match else None


def outward_first(addresses: Iterable[str]) -> list[str]:
    """The addresses that most others can dial come first: names and public ones, private ones, loopback."""

    def inwardness(address: str) -> int:
        try:
            where = ipaddress.ip_address(address.split("/")[2])
        except ValueError:
            return 0  # a name
        return 2 if where.is_loopback else 1 if where.is_private or where.is_link_local else 0

    return sorted(addresses, key=inwardness)


async def tcp_answers(where: str, seconds: float = 4.0) -> bool:
    """Does anybody accept connections at this multiaddress? libp2p waits ever longer (to 5 minutes) before it dials
    an address again that refused, so we ask first. True for what we cannot ask."""
    _, _, name, protocol, port, *_ = where.split("/")
    if protocol != "tcp":
        return True
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(name, int(port)), seconds)
    except (*TIMEOUTS, OSError, OverflowError):
        return False
    writer.close()
    return True


def check_port_free(listen: str, port: int) -> None:
    """Raises UsageError when somebody listens there: libp2p shares busy ports silently, and half the calls get lost."""
    if not port:
        return
    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((listen, port))
        except OSError as error:
            raise BusyError(f"port {port} on {listen} cannot be used ({error.strerror}); choose another port") from None


def startup_message(error: str, listen: str) -> str:
    """One line about a libp2p daemon that did not start, with the mend."""
    text = " ".join(error.split())[-200:]
    if "cannot assign requested address" in text:
        return f"{listen} is not an address of this computer; listen on 0.0.0.0 or on one that is"
    if any(word in text for word in ("not found", "format", "ermission denied")):
        return (
            f"the libp2p daemon cannot run here ({text}); reinstall hivemind 1.1.12, and on Windows use WSL2 or Docker"
        )
    if "failed to start in" in text or "TimeoutError" in text:
        return "the libp2p daemon did not start within a minute; this computer is overloaded, try again later"
    return f"the libp2p daemon did not start: {text}"
