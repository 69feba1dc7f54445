"""The service on its address: started and stopped."""

from collections.abc import Callable

from coordinator.server.coordinator import Coordinator
from coordinator.server.doors.door import Door
from coordinator.server.doors.limits import STAMP_BITS
from coordinator.server.service import Service
from protocol.errors import BusyError
from protocol.rpc.channel import server_credentials


def serve(
    coordinator: Coordinator,
    listen: str,
    bootstrap: Callable[[], list[str]] = list,
    *,
    plaintext: bool = False,
    stamp_bits: int = STAMP_BITS,
) -> tuple[Door, Service, int]:
    """Start the service on `host:port`; port 0 takes any. Raises UsageError when the address cannot be had.

    `bootstrap` gives the swarm node's addresses, for those who join. All speak TLS, unless `plaintext` (tests).
    """
    service = Service(coordinator, bootstrap, stamp_bits)
    door = Door(service.answers(), service.calls, service.desk.has_standing)
    port = door.start(listen, None if plaintext else server_credentials(coordinator.identity))
    if not port:
        door.stop(0.0)
        raise BusyError(taken(listen))
    return door, service, port


def taken(listen: str) -> str:
    return f"--listen {listen}: this address is in use or not ours; choose another, e.g. --listen 127.0.0.1:0"


def stop(door: Door, service: Service, grace_seconds: float = 2.0) -> None:
    service.stopping.set()
    door.stop(grace_seconds)
