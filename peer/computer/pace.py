"""No more processor time than allowed: the training process stands still whenever we are ahead of our share.

`Purse` decides: it fills at the allowed rate, and what all our processes use is paid from it. `Governor` acts.
"""

import os
import threading
import time
from collections.abc import Callable
from typing import Protocol

from peer.computer.meter import Meter

GRAIN_SECONDS = 0.1  # between two looks, at least
STILL_SECONDS_MAX = 1.0  # between two looks while it stands still
SAVED_SECONDS = 1.0  # what is not used for longer is not saved up
OWED_SECONDS = 4.0  # of our share: a start that took more is forgiven, so that training begins


class Purse:
    """Processor seconds that we may use. All times are handed in; a pure value of what it was told."""

    def __init__(self, cores: float, now: float, used: float, of_cores: int):
        self.cores, self._now, self._used, self.left = cores, now, used, 0.0
        self._owed_max = cores * OWED_SECONDS + 3 * GRAIN_SECONDS * of_cores  # what all cores take between two looks

    def look(self, now: float, used: float) -> float:
        """How long to stand still, seconds; 0: train. `used`: processor time of all our processes so far."""
        self.left += self.cores * (now - self._now) - (used - self._used)
        self.left = min(self.cores * SAVED_SECONDS, max(-self._owed_max, self.left))
        self._now, self._used = now, used
        return max(0.0, -self.left / self.cores)


def next_look(still: float) -> float:
    """In how many seconds to look again."""
    return max(GRAIN_SECONDS, min(still, STILL_SECONDS_MAX))


class Holdable(Protocol):
    """The training process."""

    def hold(self, why: str) -> None: ...
    def let_go(self, why: str) -> None: ...


class Governor:
    """A thread that keeps all our processes at `cores` on average: it makes the training process stand still."""

    def __init__(self, cores: float, trainer: Holdable, clock: Callable[[], float] = time.monotonic):
        self._cores, self._trainer, self._clock = cores, trainer, clock
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pace", daemon=True)

    def start(self) -> "Governor":
        self._thread.start()
        return self

    def stop(self) -> None:
        """The training process is free when this returns."""
        self._stopped.set()
        self._thread.join()
        self._trainer.let_go("pace")

    def _run(self) -> None:
        meter = Meter(self._clock)
        purse, wait = Purse(self._cores, self._clock(), meter.cpu_seconds(), os.cpu_count() or 1), 0.0
        while not self._stopped.wait(wait):
            still = purse.look(self._clock(), meter.cpu_seconds())
            if still:
                self._trainer.hold("pace")
            else:
                self._trainer.let_go("pace")
            wait = next_look(still)
