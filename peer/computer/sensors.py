"""What the computer is doing: `Sensors.look()` gives the `Conditions` that the rule in `peer.state` judges."""

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import psutil

from peer.computer.meter import Meter
from peer.state.lending.pausing import Conditions

LOAD_SECONDS = 2.0  # between two readings of what everybody uses
LOADS = 3  # readings that are averaged: a moment of work is nobody at the keyboard
SLOW_SECONDS = 10.0  # between two readings of the temperature: it changes slowly, and some sensors are slow to read
POWER_VARIABLE = "ZOOSWARM_POWER_FILE"  # a file that holds 1 on mains and 0 on battery, instead of what we find
TEMPERATURE_VARIABLE = "ZOOSWARM_TEMPERATURE_FILE"  # a file that holds degrees, or a thousand a degree as Linux has it
PROCESSOR_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal", "x86_pkg_temp", "acpitz")


class Sensors:
    """Reads the computer as often as it pays; in between it gives what it read last. For one thread."""

    def __init__(self, paused_seconds: Callable[[], float], clock: Callable[[], float] = time.monotonic):
        self._paused_seconds, self._clock, self._meter = paused_seconds, clock, Meter(clock)
        self._loads: deque[tuple[float, float, float]] = deque(maxlen=LOADS + 1)  # when, everybody's CPU time, ours
        self._bytes: int | None = None
        self._temperature: float | None = None
        self._load_at = self._slow_at = float("-inf")

    def look(self) -> Conditions:
        now = self._clock()
        if now >= self._load_at:
            self._load_at = now + LOAD_SECONDS
            self._loads.append((now, busy_seconds(), self._meter.cpu_seconds()))
            self._bytes = self._meter.memory_bytes()
        if now >= self._slow_at:
            self._slow_at = now + SLOW_SECONDS
            self._temperature = temperature()
        others, own = self._cores()
        local = datetime.now()
        return Conditions(
            hour=local.hour + local.minute / 60 + local.second / 3600,
            paused_seconds=self._paused_seconds(),
            on_battery=on_battery(),
            others_cores=others,
            own_cores=own,
            own_bytes=self._bytes,
            temperature=self._temperature,
        )

    def _cores(self) -> tuple[float | None, float | None]:
        """What others and we have used, on average over the last readings."""
        if len(self._loads) < 2:
            return None, None
        (then, busy_then, own_then), (now, busy, own) = self._loads[0], self._loads[-1]
        ours = (own - own_then) / (now - then)
        return max(0.0, (busy - busy_then) / (now - then) - ours), ours


def busy_seconds() -> float:
    """Processor time that anybody has used since the computer started, all cores together."""
    times = psutil.cpu_times()
    return sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq"))


def free_memory() -> int:
    """What programs may still take, bytes."""
    return psutil.virtual_memory().available


def on_battery() -> bool | None:
    """None: there is no battery, or it cannot be read."""
    told = os.environ.get(POWER_VARIABLE)
    if told:
        try:
            return Path(told).read_text().strip() == "0"
        except OSError:
            return None
    with contextlib.suppress(OSError, AttributeError, RuntimeError, NotImplementedError):
        battery = psutil.sensors_battery()
        return None if battery is None or battery.power_plugged is None else not battery.power_plugged
    return None


def temperature() -> float | None:
    """The hottest sensor of the processor, degrees Celsius; None where none can be read."""
    told = os.environ.get(TEMPERATURE_VARIABLE)
    if told:
        with contextlib.suppress(OSError, ValueError):
            degrees = float(Path(told).read_text())
            return degrees / 1000 if degrees >= 1000 else degrees
        return None
    with contextlib.suppress(OSError, AttributeError, RuntimeError, NotImplementedError, ValueError):
        found = psutil.sensors_temperatures()
        for name in PROCESSOR_SENSORS:
            if readings := [each.current for each in found.get(name, ()) if each.current]:
                return max(readings)
    return None
