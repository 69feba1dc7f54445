"""Wald's sequential test (Wald 1945) of p = theta against p = theta + eta, with a fast path for no failures at all.

The log likelihood ratio walks up at a failure and down otherwise, until it is at ln(1/delta) (no) or at
-ln(1/delta) (yes). Each error is at most delta by Ville's inequality, and for every p beyond the ends by monotonicity.
The fast path: no failure in the first n draws, with (1 - theta - eta)^n <= delta / 2, is a yes; the walk's yes then has
the other half of delta. Both look at the same draws: the union bound does not ask for independence.
"""

import math
from dataclasses import dataclass

import numpy as np

from analysis.probes.quantitative.stated import BATCH, Draw, Question, Verdict

FIRST_BATCH = 64  # few draws show that most fail


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """Steps and limits of the log likelihood ratio."""

    up: float  # at a failure
    down: float  # at a success, negative
    no: float
    yes: float  # negative
    clean: int  # first draws that decide when none fails; 0: no fast path

    @classmethod
    def of(cls, question: Question, fast: bool = True) -> "Walk":
        low, high = question.theta, question.theta + question.eta
        return cls(
            up=math.log(high / low),
            down=math.log((1 - high) / (1 - low)),
            no=math.log(1 / question.delta),
            yes=-math.log((2 if fast else 1) / question.delta),
            clean=math.ceil(math.log(2 / question.delta) / -math.log1p(-high)) if fast else 0,
        )


def sequential(draw: Draw, question: Question, fast: bool = True) -> Verdict:
    """Draw until one limit is reached; the draws counted are those up to there. Undecided after `samples_max`."""
    walk = Walk.of(question, fast)
    samples = failures = 0
    height, batch = 0.0, FIRST_BATCH
    while samples < question.samples_max:
        failed = draw(min(batch, question.samples_max - samples))
        rest = walk.clean - samples  # draws until the fast path ends
        if failures == 0 and 0 < rest <= len(failed) and not failed[:rest].any():
            return Verdict(answer="yes", samples=walk.clean, failures=0)
        heights = height + np.cumsum(np.where(failed, walk.up, walk.down))
        over = (heights >= walk.no) | (heights <= walk.yes)
        if over.any():
            at = int(over.argmax())
            failures += int(failed[: at + 1].sum())
            return Verdict(
                answer="no" if heights[at] >= walk.no else "yes", samples=samples + at + 1, failures=failures
            )
        height, samples, failures = float(heights[-1]), samples + len(failed), failures + int(failed.sum())
        batch = min(BATCH, 2 * batch)
    return Verdict(answer="undecided", samples=samples, failures=failures)
