"""The host's node in the swarm: the first, through which others come in."""

import ipaddress
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from coordinator.directories import read_settings, write_settings
from coordinator.server.running.addresses import bindable, free_port, resolve
from protocol.errors import BusyError, UsageError

BOOTSTRAP_SECONDS = 10.0  # how long the node's addresses are taken to stay the same

log = logging.getLogger(__name__)


def start_node(path: Path, name: str, dht_port: int, announce: str | None, say: Callable[[str], None]):
    """The swarm's first node, on the port of last time if it can be had. Raises UsageError."""
    wanted, ip = dht_port or kept_ports(path).get("dht_port", 0), resolve(name)
    try:
        node, port = _node(path, ip, wanted or free_port(ip), announce)
    except UsageError as error:
        if dht_port or not wanted:
            raise
        node, port = _node(path, ip, free_port(ip), announce)
        say(f"the swarm's port {wanted} is taken ({error}); using {port} from now on")
    write_settings(path, {**read_settings(path), "dht_port": port})
    return node


def _node(path: Path, ip: str, port: int, announce: str | None):
    from protocol.swarm.addresses import NodeOptions
    from protocol.swarm.node import SwarmNode

    if not bindable(ip, port):
        raise BusyError(f"port {port} is in use")
    shown = []
    if announce:
        try:
            kind = f"ip{ipaddress.ip_address(announce).version}"
        except ValueError:
            kind = "dns"
        shown = [f"/{kind}/{announce}/tcp/{port}"]
    options = NodeOptions(listen=ip, port=port, announce=shown)
    node = SwarmNode(path / "identity", options, log_path=path / "swarm.log")
    return node.start(), port


def kept_ports(path: Path) -> dict[str, int]:
    settings = read_settings(path)
    ports = {name: settings.get(name) for name in ("dht_port", "page_port")}
    return {name: port for name, port in ports.items() if isinstance(port, int) and 0 < port < 65536}


class Remembered:
    """The node's addresses, asked for at most every BOOTSTRAP_SECONDS: every Join wants them."""

    def __init__(self, ask: Callable[[], list[str]]):
        self._ask, self._lock = ask, threading.Lock()
        self._value: list[str] = []
        self._asked_at = -BOOTSTRAP_SECONDS

    def __call__(self) -> list[str]:
        with self._lock:
            if time.monotonic() - self._asked_at >= BOOTSTRAP_SECONDS:
                try:
                    self._value = self._ask()
                except Exception as error:
                    log.warning("the swarm node does not say where it is: %r", error)
                self._asked_at = time.monotonic()
            return self._value
