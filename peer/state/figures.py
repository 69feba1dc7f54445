"""What a person sees of a volunteer: its own figures since the start, and the organizer's word about credit."""

from collections import deque
from dataclasses import dataclass, field
from itertools import takewhile
from math import inf

WINDOW_SECONDS = 600.0
FINISHED_MAX = 4096  # a rate over more networks than that needs no more memory
LOSSES_MAX = 36  # for a chart that fits beside its label; the training process tells one a second
SEGMENTS_MAX = 64  # speed is measured over the last ones


@dataclass(slots=True)
class Figures:
    networks: int = 0  # trained since the start
    checks: int = 0  # answered
    admitted: int = 0  # of our results
    credit: int = 0  # network-segments, the organizer's word
    escrow: int = 0  # of these, what waits for later clean bundles
    clean_bundles: int = 0
    training: str = ""  # the last segment, in words; "" when nothing trains
    losses: deque[float] = field(default_factory=lambda: deque(maxlen=LOSSES_MAX))  # best held-out ones, as told
    waits_for: str = "the swarm"
    began: float = -inf
    trained_seconds: float = 0.0
    steps_per_second: float = 0.0  # network-steps a second of training time, over the last segments
    _segments: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=SEGMENTS_MAX))
    _finished: deque[float] = field(default_factory=lambda: deque(maxlen=FINISHED_MAX))

    def stepped(self, steps: int, seconds: float) -> None:
        self._segments.append((steps, seconds))
        self.trained_seconds += seconds
        spent = sum(seconds for _, seconds in self._segments)
        self.steps_per_second = sum(steps for steps, _ in self._segments) / spent if spent else 0.0

    def finished(self, now: float) -> None:
        self.networks += 1
        self._finished.append(now)
        while self._finished[0] <= now - WINDOW_SECONDS:
            self._finished.popleft()

    @property
    def seconds_a_network(self) -> float:
        """Of training time, since the start; 0 before the first network."""
        return self.trained_seconds / self.networks if self.networks else 0.0

    def networks_per_hour(self, now: float) -> float:
        """Over the last ten minutes, or since the start when that is less."""
        window = max(1.0, min(WINDOW_SECONDS, now - self.began))
        past = sum(1 for _ in takewhile(lambda at: at <= now - window, self._finished))
        return 3600.0 * (len(self._finished) - past) / window
