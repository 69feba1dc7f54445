"""What `zooswarm join` was told, and the limits that follow from it on this computer."""

import os
import platform
from dataclasses import dataclass
from math import inf
from pathlib import Path

from peer.computer.sensors import TEMPERATURE_VARIABLE, temperature
from peer.state import PeerSettings
from peer.state.lending.limits import default_disk, default_memory
from peer.state.lending.pausing import Terms, parse_hours
from peer.state.lending.sizes import parse_rate, parse_size
from peer.storage.home import Home
from protocol.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinOptions:
    """What `zooswarm join` was told; the verb has the defaults."""

    address: str
    directory: Path | None
    ticket: str | None
    threads: int | None
    nice: int
    name: str | None
    backend: str
    until_done: bool
    listen: str
    port: int
    device: str
    gpu_memory: float
    memory: str | None
    disk: str | None
    cpu: float | None
    only_when_idle: bool
    not_on_battery: bool
    max_temperature: float | None
    bandwidth: str | None
    hours: str | None
    page: str | None = None


def settings_of(options: JoinOptions, home: Home) -> PeerSettings:
    """Raises UsageError for a limit that is no size."""
    return PeerSettings(
        threads=options.threads or os.cpu_count() or 1,
        device=f"cpu {platform.machine()}"[:64],
        until_done=options.until_done,
        memory_bytes=parse_size(options.memory) if options.memory else default_memory(physical_memory()),
        disk_bytes=parse_size(options.disk) if options.disk else default_disk(home.free_bytes() + home.used_bytes()),
        cpu_cores=options.cpu / 100 if options.cpu else inf,
        bandwidth=rate_of(options),
        terms=Terms(
            only_when_idle=options.only_when_idle,
            not_on_battery=options.not_on_battery,
            max_temperature=measurable(options.max_temperature),
            hours=parse_hours(options.hours) if options.hours else None,
        ),
    )


def rate_of(options: JoinOptions) -> float:
    """Bytes a second. Raises UsageError."""
    return parse_rate(options.bandwidth) if options.bandwidth else inf


def measurable(degrees: float | None) -> float | None:
    """Raises UsageError: the limit would never hold, for nothing here says how hot the processor is."""
    if degrees is not None and temperature() is None:
        raise UsageError(
            f"--max-temperature {degrees:g}: no sensor of the processor can be read here; leave it out, or name a file "
            f"that holds the degrees in {TEMPERATURE_VARIABLE}"
        )
    return degrees


def physical_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
