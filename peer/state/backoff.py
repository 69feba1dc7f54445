"""When to try again: pure values, the clock is an argument. Seconds on one monotonic clock."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field, replace
from math import inf


@dataclass(frozen=True, slots=True)
class Backoff:
    """Grows from `first` to `longest` seconds, doubling, until something works."""

    first: float = 1.0
    longest: float = 10.0
    delay: float = 0.0  # seconds; 0 while all is well
    until: float = -inf

    def failed(self, now: float) -> "Backoff":
        delay = min(self.longest, max(self.first, 2 * self.delay))
        return replace(self, delay=delay, until=now + delay)

    def worked(self) -> "Backoff":
        return replace(self, delay=0.0, until=-inf) if self.delay else self

    def ready(self, now: float) -> bool:
        return now >= self.until


@dataclass(slots=True)
class Retries:
    """A Backoff for each of many things that went wrong by themselves. Things that go well are not in here."""

    first: float
    longest: float
    waiting: dict[Hashable, Backoff] = field(default_factory=dict)

    def put_off(self, key: Hashable, now: float) -> None:
        self.waiting[key] = self.waiting.get(key, Backoff(self.first, self.longest)).failed(now)

    def ready(self, key: Hashable, now: float) -> bool:
        return key not in self.waiting or self.waiting[key].ready(now)

    def forget(self, key: Hashable) -> None:
        self.waiting.pop(key, None)

    def keep_only(self, keys: Iterable[Hashable]) -> None:
        """Forget everything that nobody asks for any more."""
        if self.waiting:
            wanted = set(keys)
            self.waiting = {key: backoff for key, backoff in self.waiting.items() if key in wanted}

    def earliest(self, keys: Iterable[Hashable]) -> float:
        """When the first of these may be tried: -inf is at once, inf when there are none."""
        return min((self.waiting[key].until if key in self.waiting else -inf for key in keys), default=inf)
