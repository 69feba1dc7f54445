"""Simulated time: one queue of events, coroutines that wait in it, and the trace of what happened.

Nothing here knows of hosts or networks. Two events at the same moment happen in the order in which they were asked
for, so a run is a pure function of what its participants draw from their random numbers.
"""

import hashlib
import heapq
import random
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any

STILL_MAX = 100_000  # events at one moment: more are a circle
LINES_KEPT = 400  # of the trace, for a report; the digest covers all of them


def branch(seed: int, *path: object) -> random.Random:
    """One random stream of the seed's tree. Whoever draws more from one stream changes no other."""
    return random.Random("/".join(map(str, (seed, *path))))


class Timer:
    """One event in the queue; `cancel` before it happens and it never does."""

    __slots__ = ("arguments", "call", "over", "when")

    def __init__(self, when: float, call: Callable[..., object], arguments: tuple):
        self.when, self.call, self.arguments, self.over = when, call, arguments, False

    def cancel(self) -> None:
        self.call, self.arguments, self.over = _nothing, (), True


def _nothing() -> None:
    return


class Crashed(Exception):
    """Thrown into a coroutine whose host has died: it must not reach the world any more."""


class Later:
    """A value that is not here yet; coroutines `await` it. Set once: what comes second is ignored."""

    def __init__(self) -> None:
        self.done, self._value, self._error = False, None, None
        self._waiting: list[Callable[[], None]] = []

    def set(self, value: Any = None, error: BaseException | None = None) -> None:
        if self.done:
            return
        self.done, self._value, self._error = True, value, error
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call()

    def when_done(self, call: Callable[[], None]) -> None:
        self._waiting.append(call)

    def __await__(self) -> Generator["Later", None, Any]:
        if not self.done:
            yield self
        if self._error is not None:
            raise self._error
        return self._value


class Task:
    """A coroutine that runs in simulated time. `finished` is told its result, unless it was killed before."""

    def __init__(self, work: Coroutine[Later, None, Any], finished: Callable[[Any], None]):
        self._work, self._finished, self.alive = work, finished, True
        self._step()

    def _step(self) -> None:
        if not self.alive:
            return
        try:
            self._work.send(None).when_done(self._step)
        except StopIteration as stop:
            self.alive = False
            self._finished(stop.value)

    def kill(self) -> None:
        """The coroutine's world is gone: its clean-up sees Crashed wherever it turns."""
        if self.alive:
            self.alive = False
            try:
                self._work.throw(Crashed())
            except (Crashed, StopIteration):
                return
            raise AssertionError("a killed coroutine went on waiting")


class Kernel:
    """The clock and everything that is going to happen."""

    def __init__(self) -> None:
        self.now = 0.0  # seconds since the simulation began
        self.events = 0  # that have happened
        self.trace = Trace()
        self._queue: list[tuple[float, int, Timer]] = []
        self._asked = self._still = 0

    def at(self, when: float, call: Callable[..., object], *arguments: object) -> Timer:
        timer = Timer(max(when, self.now), call, arguments)
        self._asked += 1
        heapq.heappush(self._queue, (timer.when, self._asked, timer))
        return timer

    def after(self, seconds: float, call: Callable[..., object], *arguments: object) -> Timer:
        return self.at(self.now + seconds, call, *arguments)

    def sleep(self, seconds: float) -> Later:
        later = Later()
        self.after(seconds, later.set)
        return later

    def run(self, until: float) -> None:
        """Let everything happen that is due by then."""
        queue, pop = self._queue, heapq.heappop
        while queue and queue[0][0] <= until:
            when, _, timer = pop(queue)
            self._still = 0 if when > self.now else self._still + 1
            assert self._still < STILL_MAX, f"time stands still at {when}: {timer.call}"
            self.now = when
            self.events += 1
            timer.over = True
            timer.call(*timer.arguments)
        self.now = max(self.now, until)

    def note(self, who: str, what: str) -> None:
        """A line of the trace."""
        self.trace.add(f"{self.now:.6f} {who} {what}")


class Trace:
    """What happened, line by line: the last lines in full, all of them under one digest."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._hash = hashlib.sha256()

    def add(self, line: str) -> None:
        self.lines.append(line)
        self._hash.update(line.encode() + b"\n")

    @property
    def digest(self) -> str:
        """64 hex digits: two runs with the same digest did the same."""
        return self._hash.hexdigest()
