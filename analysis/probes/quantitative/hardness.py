"""Adversarial hardness: the largest radius at which the answer is yes, by bisection."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from analysis.probes.quantitative.stated import Draw, Question, Verdict

STEPS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardness:
    """The radius is between `low`, answered yes, and `high`, answered otherwise (or the largest asked)."""

    low: float
    high: float
    samples: int  # of all steps


def hardness(
    draw_at: Callable[[float], Draw],
    test: Callable[[Draw, Question], Verdict],
    question: Question,
    radius_max: float,
    steps: int = STEPS,
) -> Hardness:
    """Each step at delta / steps, so all of its answers are right together with probability 1 - delta.

    It assumes that failures grow with the radius, as they do where the ball holds a growing share of another class.
    A measure of volume: in high dimension the adversarial share of a ball is tiny even where an attack finds one at
    once, so it is no robustness by itself.
    """
    one = replace(question, delta=question.delta / steps)
    low, high, samples = 0.0, radius_max, 0
    for _ in range(steps):
        middle = (low + high) / 2
        found = test(draw_at(middle), one)
        samples += found.samples
        low, high = (middle, high) if found.answer == "yes" else (low, middle)
    return Hardness(low=low, high=high, samples=samples)
