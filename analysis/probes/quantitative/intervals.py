"""PROVERO's tests of intervals, adaptive and fixed: coarse and cheap ones first, a dear one only near theta.

As the published code (github.com/teobaluta/provero), with its last test mended: that one compares the share of failures
with both ends of [theta, theta + eta] and so answers nothing in between; ours compares it with `stated.chernoff_cut`.
`published=True` brings the defect back, for the test that shows it.
"""

import math
from dataclasses import replace

from analysis.probes.quantitative.stated import (
    Answer,
    Draw,
    Question,
    Verdict,
    chernoff_cut,
    chernoff_samples,
    failures_of,
)
from protocol.errors import UsageError

SLACK = 1e-12  # intervals that differ by rounding are the same
Interval = tuple[float, float]


class _Count:
    """Draws so far; says when there would be too many."""

    def __init__(self, draw: Draw, samples_max: int):
        self._draw, self._most = draw, samples_max
        self.samples = self.failures = 0

    def share(self, samples: int) -> float | None:
        """Of failures in so many fresh draws; None if they would be too many."""
        if self.samples + samples > self._most:
            return None
        failures = failures_of(self._draw, samples)
        self.samples += samples
        self.failures += failures
        return failures / samples

    def says(self, answer: Answer) -> Verdict:
        return Verdict(answer=answer, samples=self.samples, failures=self.failures)


def adaptive(draw: Draw, question: Question, published: bool = False) -> Verdict:
    """Intervals [theta - w, theta] and [theta + eta, theta + eta + w], w halved each round until it is eta.

    Raises UsageError: eta is more than 2.5 theta, where the bound behind the last test (deviations up to theta itself)
    does not hold.
    """
    theta, eta = _checked(question)
    tests = 3 + max(0.0, math.log2(theta / eta)) + max(0.0, math.log2((1 - theta - eta) / eta))
    delta, count = question.delta / tests, _Count(draw, question.samples_max)
    left, right = theta, 1 - theta - eta  # widths
    while True:
        if left > eta + SLACK and (found := _early(count, (theta - left, theta), delta, "yes")):
            return found
        if right > eta + SLACK and (found := _early(count, (theta + eta, theta + eta + right), delta, "no")):
            return found
        if left <= eta + SLACK and right <= eta + SLACK:
            return _last(count, replace(question, delta=delta), published)
        left, right = max(eta, left / 2), max(eta, right / 2)


def fixed(draw: Draw, question: Question, alpha: float, published: bool = False) -> Verdict:
    """[0, theta] and [theta + eta, 1] in equal pieces no wider than `alpha`, tested from the far ends inward in turns.

    The published code gives each test delta over the number of pieces of one side, which is more than delta in all,
    never accepts the piece that ends at theta, and returns nothing after its last test; ours splits delta over all
    tests of a side and lets the last test decide. Raises UsageError as `adaptive` does.
    """
    theta, eta = _checked(question)
    sides = math.ceil(theta / alpha - SLACK), math.ceil((1 - theta - eta) / alpha - SLACK)
    deltas = [question.delta / (pieces + (0 if published else 1)) for pieces in sides]
    count = _Count(draw, question.samples_max)
    for piece in range(max(sides)):
        if piece < sides[0] - published:
            width = theta / sides[0]
            if found := _early(count, (piece * width, (piece + 1) * width), deltas[0], "yes"):
                return found
        if piece < sides[1]:
            width = (1 - theta - eta) / sides[1]
            high = 1 - piece * width
            if found := _early(count, (high - width, high), deltas[1], "no"):
                return found
    return _last(count, replace(question, delta=min(deltas)), published)


def _checked(question: Question) -> Interval:
    if question.eta > 2.5 * question.theta:
        raise UsageError(f"eta {question.eta} is more than 2.5 theta: no bound here; use the sequential test")
    return question.theta, question.eta


def _early(count: _Count, interval: Interval, delta: float, looked_for: Answer) -> Verdict | None:
    """Test one interval for the one answer that it may give; undecided when there are no draws left."""
    low, high = max(0.0, interval[0]), min(1.0, interval[1])
    share = count.share(chernoff_samples(low, high, delta))
    if share is None:
        return count.says("undecided")
    found = "yes" if share <= low else "no" if share > high else None
    return count.says(looked_for) if found == looked_for else None


def _last(count: _Count, question: Question, published: bool) -> Verdict:
    low, high = question.theta, question.theta + question.eta
    share = count.share(chernoff_samples(low, high, question.delta))
    if share is None:
        return count.says("undecided")
    if published:
        return count.says("yes" if share <= low else "no" if share > high else "undecided")
    return count.says("yes" if share <= chernoff_cut(low, high) else "no")
