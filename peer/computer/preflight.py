"""What could stand in the way of volunteering here, in words: one line each, with the mend. Judged from facts alone."""

import ipaddress
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from peer.state.lending.sizes import size_text

CLOCK_SECONDS = 30.0  # heartbeats go by the organizer's clock; a wrong one of ours muddles hours and logs
MEMORY_MIN, DISK_MIN = 10**9, 2 * 10**9
CALIBRATION_SECONDS = 0.5
CALIBRATION_NETWORKS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was found. None: it was not tried."""

    answer_seconds: float | None = None  # of the coordinator
    clock_ahead: float | None = None  # seconds that the organizer's clock is ahead of ours
    nodes: int | None = None  # of the swarm, in sight
    listen: str = "127.0.0.1"
    addresses: Sequence[str] = ()  # under which others may dial us, multiaddresses
    memory_limit: int
    memory_free: int
    disk_limit: int
    disk_free: int
    threads: int
    cores: int
    steps_per_second: float | None = None


class Finding(NamedTuple):
    well: bool
    what: str
    words: str

    def __str__(self) -> str:
        return f"{'ok' if self.well else 'LOOK':5}{self.what:12}{self.words}"


def judge(found: Facts) -> list[Finding]:
    findings = [_coordinator(found), _clock(found), _swarm(found), _reach(found), *_room(found), _speed(found)]
    return [finding for finding in findings if finding is not None]


def _coordinator(found: Facts) -> Finding | None:
    if found.answer_seconds is None:
        return None
    return Finding(True, "coordinator", f"answers in {1000 * found.answer_seconds:.0f} ms, with the organizer's key")


def _clock(found: Facts) -> Finding | None:
    if found.clock_ahead is None:
        return None
    off, direction = abs(found.clock_ahead), "behind" if found.clock_ahead > 0 else "ahead of"
    if off <= CLOCK_SECONDS:
        return Finding(True, "clock", f"within {max(1.0, off):.0f} s of the organizer's")
    return Finding(False, "clock", f"{off:,.0f} s {direction} the organizer's; set it (`timedatectl set-ntp true`)")


def _swarm(found: Facts) -> Finding | None:
    if found.nodes is None:
        return None
    if found.nodes:
        return Finding(True, "swarm", f"{found.nodes} other node{'s' if found.nodes > 1 else ''} in sight")
    return Finding(False, "swarm", "no other node answers; a firewall may hold back outgoing TCP: try another network")


def _reach(found: Facts) -> Finding | None:
    """How others reach our node. Nobody has to: everything that we send, we send by calls of our own."""
    if found.nodes is None:
        return None
    if ipaddress.ip_address(found.listen).is_loopback:
        return Finding(
            True, "reachable", "from this computer only, which is enough; --listen 0.0.0.0 helps the swarm more"
        )
    if any("/p2p-circuit" in address for address in found.addresses):
        return Finding(True, "reachable", "through a relay, behind a router; forward --port to be reached directly")
    public = [address for address in found.addresses if is_public(address)]
    if public:
        return Finding(
            True, "reachable", f"announced as {public[0].partition('/p2p/')[0]}, if no firewall is before it"
        )
    return Finding(
        True, "reachable", "from your own network only, which is enough; forward --port to help the swarm more"
    )


def is_public(address: str) -> bool:
    """Of a multiaddress: a name, or an address of the public internet."""
    parts = address.split("/")
    if len(parts) < 3 or parts[1] not in ("ip4", "ip6"):
        return len(parts) >= 3 and parts[1].startswith("dns")
    try:
        return ipaddress.ip_address(parts[2]).is_global
    except ValueError:
        return False


def _room(found: Facts) -> list[Finding]:
    memory = f"{size_text(found.memory_limit)} allowed, {size_text(found.memory_free)} free"
    disk = f"{size_text(found.disk_limit)} allowed, {size_text(found.disk_free)} free"
    few_memory = min(found.memory_limit, found.memory_free) < MEMORY_MIN
    few_disk = min(found.disk_limit, found.disk_free) < DISK_MIN
    return [
        Finding(
            not few_memory, "memory", memory + ("; most campaigns need 1 GB: --memory, or close programs" * few_memory)
        ),
        Finding(
            not few_disk, "disk", disk + ("; bundles need about 2 GB: --disk, or --dir on another disk" * few_disk)
        ),
    ]


def _speed(found: Facts) -> Finding | None:
    cores = f"{found.threads} of {found.cores} cores"
    if found.steps_per_second is None:
        return Finding(True, "processor", cores)
    return Finding(
        True,
        "processor",
        f"{cores}, {found.steps_per_second:,.0f} network-steps a second with a small recurrent network",
    )


def steps_per_second(backend: str, threads: int, device: str, clock: Callable[[], float] = time.perf_counter) -> float:
    """Measured with the self-test's network, after the self-test. Raises UsageError as `select_engine` does."""
    from protocol.engine.initial import initial_state
    from protocol.engine.select import SELF_TEST, select_engine
    from protocol.engine.streams import task_data

    engine, recipe = select_engine(backend, threads, device=device), SELF_TEST
    data, seeds = task_data(recipe), list(range(CALIBRATION_NETWORKS))
    states, steps, began = [initial_state(recipe, seed) for seed in seeds], 0, clock()
    while (took := clock() - began) < CALIBRATION_SECONDS and steps < recipe.training.max_steps:
        states, _ = engine.train(recipe, data, seeds, states, recipe.training.segment_steps)
        steps += recipe.training.segment_steps
    return steps * len(seeds) / max(took, 1e-9)
