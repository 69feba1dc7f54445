"""What our processes use: this one, the libp2p daemon, the training process, and whatever those start."""

import contextlib
import time
from collections.abc import Callable

import psutil

FAMILY_SECONDS = 2.0  # between two looks at who belongs to us: that walks over all processes of the computer ...
SAME_SECONDS = 20.0  # ... and so many while nobody of us ends: a new one mostly takes an old one's place


class Meter:
    """For one thread. The first reading counts from the start of each process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock, self._self = clock, psutil.Process()
        self._family: dict[int, psutil.Process] = {}
        self._seconds: dict[int, float] = {}  # last read, by process: those that ended keep counting
        self._ended, self._looked_at, self._changed_at = 0.0, float("-inf"), float("-inf")

    def _look(self) -> None:
        now = self._clock()
        changed = now < self._changed_at + SAME_SECONDS
        if now < self._looked_at + (FAMILY_SECONDS if changed else SAME_SECONDS):
            return
        self._looked_at = now
        found = {each.pid: each for each in (self._self, *self._self.children(recursive=True))}
        if found.keys() != self._family.keys():
            self._changed_at = now
        for pid in self._seconds.keys() - found.keys():
            self._ended += self._seconds.pop(pid)
        self._family = {pid: self._family.get(pid, each) for pid, each in found.items()}

    def cpu_seconds(self) -> float:
        """Processor time of all of us so far, user and system."""
        self._look()
        for pid, process in self._family.items():
            try:
                times = process.cpu_times()
            except psutil.Error:  # it has ended: somebody may take its place soon
                self._changed_at = self._clock()
            else:
                self._seconds[pid] = times.user + times.system
        return self._ended + sum(self._seconds.values())

    def memory_bytes(self) -> int:
        """Resident memory of all of us; what several share is counted for each."""
        self._look()
        total = 0
        for process in self._family.values():
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss
        return total
