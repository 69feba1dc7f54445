"""Where a host listens, and under which address others reach it."""

import ipaddress
import re
import socket

from coordinator.server.serving import taken
from protocol.errors import AddressError, BusyError

HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?")


def split_listen(listen: str) -> tuple[str, int]:
    """`host:port` -> (host, port). Raises UsageError."""
    name, colon, port = listen.rpartition(":")
    name = name.strip("[]")
    if not colon or not name or not port.isdecimal() or int(port) > 65535:
        raise AddressError(f"--listen {listen}: expected HOST:PORT, e.g. 127.0.0.1:7750 or 0.0.0.0:7750")
    return name, int(port)


def check_announced(name: str) -> None:
    """Raises UsageError for what is neither a host's name nor an address, before anything is made for it."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        if not HOST_NAME.fullmatch(name):
            raise AddressError(
                f"--announce {name}: expected a name or an address without a port, e.g. zoo.example.org or 203.0.113.5"
            ) from None


def bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name else name


def local_name(name: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name)


def reachable_name(name: str) -> str:
    """What others dial when we listen on every interface: the address of the default route, or this machine's name."""
    if name not in ("0.0.0.0", "::"):
        return name
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1: nothing is sent
            return probe.getsockname()[0]
        except OSError:
            return socket.gethostname()


def free_port(name: str) -> int:
    with socket.socket() as probe:
        probe.bind((name, 0))
        return probe.getsockname()[1]


def resolve(name: str) -> str:
    """Raises UsageError."""
    try:
        return str(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError:
        raise AddressError(f"--listen {name}: no such address") from None


def refuse_taken(listen: str, name: str, port: int) -> None:
    """Raises UsageError when the service could not listen there."""
    if port and not bindable(resolve(name), port):
        raise BusyError(taken(listen))


def bindable(ip: str, port: int) -> bool:
    """Whether this port can be had."""
    with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port of our own last run may be in TIME_WAIT
        try:
            probe.bind((ip, port))
        except OSError:
            return False
        return True
