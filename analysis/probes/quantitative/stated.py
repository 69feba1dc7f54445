"""The question: is a property's failure probability p at most theta, or at least theta + eta? And an answer to it.

Each tester answers yes with probability at most delta when p >= theta + eta, and no with probability at most delta when
p <= theta. In between it promises nothing.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from protocol.errors import UsageError

Draw = Callable[[int], np.ndarray]  # n -> (n,) bool: does the property fail, in n fresh independent draws
Answer = Literal["yes", "no", "undecided"]
BATCH = 4096  # draws at a time: few enough for any network's memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Raises UsageError unless 0 < theta < theta + eta < 1 and 0 < delta < 1."""

    theta: float  # the largest failure probability that is good enough
    eta: float  # width of the zone above it in which either answer will do
    delta: float  # largest probability of either wrong answer
    samples_max: int = 20_000_000  # then: undecided

    def __post_init__(self) -> None:
        if not (self.theta > 0 and self.eta > 0 and self.theta + self.eta < 1 and 0 < self.delta < 1):
            raise UsageError(f"theta {self.theta}, eta {self.eta}, delta {self.delta}: 0 < theta < theta + eta < 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was answered, after how many draws, of which how many failed."""

    answer: Answer
    samples: int
    failures: int


def failures_of(draw: Draw, samples: int) -> int:
    """Failures in so many draws, a batch at a time."""
    return sum(int(draw(min(BATCH, samples - done)).sum()) for done in range(0, samples, BATCH))


def chernoff_samples(low: float, high: float, delta: float) -> int:
    """Draws after which the share of failures is told from `low` and from `high` with error delta each.

    N = ceil((sqrt(3 low) + sqrt(2 high))^2 ln(1/delta) / (high - low)^2), as the published code has it. It follows
    from exp(-N h^2 / (3 low)) <= delta above `low` (h <= low) and exp(-N g^2 / (2 high)) <= delta below `high`, with
    h + g = high - low: ours, as their text could not be read. 1e-12 of slack for rounding.
    """
    roots = math.sqrt(3 * low) + math.sqrt(2 * high)
    return math.ceil(roots**2 * math.log(1 / delta) / (high - low) ** 2 - 1e-12)


def chernoff_cut(low: float, high: float) -> float:
    """The share of failures at which both bounds above are delta: low + (high - low) sqrt(3 low) / (their sum)."""
    first, second = math.sqrt(3 * low), math.sqrt(2 * high)
    return low + (high - low) * first / (first + second)
