"""Answer questions about a network: verified, falsified with a witness, unknown, or timeout.

From cheap to dear: attack, interval bounds, CROWN, alpha-CROWN, branch and bound. "Verified" means more than a positive
bound: it exceeds `evaluation_error`, so that no float64 forward pass anywhere in the box can contradict it. A witness
counts only when another forward pass (`question.Forward`) agrees.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch

from analysis.probes.verification.alpha import tightened
from analysis.probes.verification.bounds import Bounds, crown, evaluation_error, intervals, lower_bounds
from analysis.probes.verification.exact import SLACK, minimum
from analysis.probes.verification.falsify import attack
from analysis.probes.verification.network.chain import Chain
from analysis.probes.verification.network.operations import UNIT
from analysis.probes.verification.question import Forward, Question, Stacked, stacked
from analysis.probes.verification.splitting import Clock, Found, search


class Status(StrEnum):
    VERIFIED = "verified"
    FALSIFIED = "falsified"
    UNKNOWN = "unknown"
    TIMEOUT = "timeout"


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How hard to try. A step that is 0 is left out."""

    attack_steps: int = 20
    restarts: int = 4
    alpha_steps: int = 20
    parts: int = 1000  # of branch and bound, a row
    branch_steps: int = 10  # of alpha and beta, a part
    milp_seconds: float = 0.0  # of the mixed-integer program, a row, in place of branch and bound
    seconds: float = 60.0  # of branch and bound; a question that is not settled by then times out


@dataclass(frozen=True, eq=False, kw_only=True)
class Verdict:
    status: Status
    method: str  # what settled it, or was tried last
    margin: float  # the least row at the worst point seen
    bound: float = float("-inf")  # nowhere in the box is the least row below this
    witness_n: np.ndarray | None = None
    parts: int = 0


def verify(
    chain: Chain,
    forward: Forward,
    questions: Sequence[Question],
    rng: np.random.Generator,
    effort: Effort = Effort(),
    clock: Clock = time.monotonic,
) -> list[Verdict]:
    """One verdict a question; all have equally many rows. Chance decides where attacks start."""
    asked = stacked(questions)
    found = attack(chain, asked, rng, steps=effort.attack_steps, restarts=effort.restarts)
    margins = [q.margin(out) for q, out in zip(questions, forward(found.points_Bn), strict=True)]
    verdicts = {
        b: Verdict(status=Status.FALSIFIED, method="attack", margin=margin, witness_n=found.points_Bn[b])
        for b, margin in enumerate(margins)
        if margin <= 0
    }
    for method in ("intervals", "crown", "alpha"):
        left = [b for b in range(len(questions)) if b not in verdicts]
        if left and (method != "alpha" or effort.alpha_steps):
            some = asked.take(left)
            bounds = bounds_of(chain, some, method)
            needs = proof_needs(chain, bounds, some)
            lower = rows_below(chain, bounds, some, method, effort.alpha_steps, needs)
            for i in torch.nonzero((lower > needs).all(1))[:, 0].tolist():
                b = left[i]
                verdicts[b] = Verdict(
                    status=Status.VERIFIED, method=method, bound=float(lower[i].min()), margin=margins[b]
                )
    for b in range(len(questions)):
        if b not in verdicts:
            verdicts[b] = _by_branches(chain, forward, questions[b], margins[b], effort, clock)
    return [verdicts[b] for b in range(len(questions))]


def bounds_of(chain: Chain, asked: Stacked, method: str) -> Bounds:
    return (intervals if method == "intervals" else crown)(chain, asked.low_Bn, asked.high_Bn)


@torch.no_grad()
def rows_below(
    chain: Chain,
    bounds: Bounds,
    asked: Stacked,
    method: str,
    alpha_steps: int = 0,
    enough: float | torch.Tensor = float("inf"),
) -> torch.Tensor:
    """(B, R) lower bounds of the rows by `intervals` of the outputs, by `crown`, or by `alpha`."""
    if method == "alpha":
        with torch.enable_grad():
            found = tightened(chain, bounds, asked.rows_BRm, asked.offsets_BR, steps=alpha_steps, enough=enough)
        return found.lower.values_BR
    if method == "crown":
        return lower_bounds(chain, bounds, asked.rows_BRm, asked.offsets_BR).values_BR
    low, high = (values[..., None] for values in bounds.outputs)
    total = (asked.rows_BRm.clamp(min=0) @ low + asked.rows_BRm.clamp(max=0) @ high)[..., 0] + asked.offsets_BR
    return total - 2 * chain.terms * UNIT * _size(bounds, asked)


def proof_needs(chain: Chain, bounds: Bounds, asked: Stacked) -> torch.Tensor:
    """(B, R): a lower bound above this means that every float64 forward pass gives a positive row, too."""
    off = (asked.rows_BRm.abs() @ evaluation_error(chain, bounds)[..., None])[..., 0]
    return off + 2 * chain.terms * UNIT * (_size(bounds, asked) + off)


def _size(bounds: Bounds, asked: Stacked) -> torch.Tensor:
    """(B, R): of all that a row adds up."""
    most = torch.maximum(bounds.outputs[0].abs(), bounds.outputs[1].abs())
    return (asked.rows_BRm.abs() @ most[..., None])[..., 0] + asked.offsets_BR.abs()


def _by_branches(
    chain: Chain, forward: Forward, question: Question, margin: float, effort: Effort, clock: Clock
) -> Verdict:
    """Row by row, those first that look worst; the first row that fails ends it."""
    until = clock() + effort.seconds
    asked = stacked([question])
    bounds = bounds_of(chain, asked, "crown")
    needs = proof_needs(chain, bounds, asked)[0]
    lower = rows_below(chain, bounds, asked, "alpha", effort.alpha_steps)[0]
    parts, late, proven = 0, False, True
    for r in torch.argsort(lower).tolist():
        need = float(needs[r])
        if lower[r] > need:
            continue
        told = _row_by_branches(chain, bounds, asked, r, need, effort, clock, until)
        parts, late, lower[r] = parts + told.parts, late or told.late, max(float(lower[r]), told.bound)
        if told.value <= 0 and question.contains(told.point_n):
            margin = min(margin, question.margin(forward(told.point_n[None])[0]))
            if margin <= 0:
                return Verdict(
                    status=Status.FALSIFIED, method="branches", margin=margin, witness_n=told.point_n, parts=parts
                )
        proven = proven and told.finished and float(lower[r]) > need
    status = Status.VERIFIED if proven else Status.TIMEOUT if late else Status.UNKNOWN
    return Verdict(status=status, method="branches", bound=float(lower.min()), margin=margin, parts=parts)


def _row_by_branches(
    chain: Chain, bounds: Bounds, asked: Stacked, r: int, need: float, effort: Effort, clock: Clock, until: float
) -> Found:
    row, offset = asked.rows_BRm[0, r], float(asked.offsets_BR[0, r])
    if effort.milp_seconds and chain.piecewise_linear:
        return by_program(chain, bounds, row, offset, effort.milp_seconds)
    return search(
        chain, bounds, row, offset, need=need, parts=effort.parts, clock=clock, until=until, steps=effort.branch_steps
    )


def by_program(chain: Chain, bounds: Bounds, row_m: torch.Tensor, offset: float, seconds: float) -> Found:
    """The mixed-integer program's answer, its bound lowered by what its tolerances may hide."""
    told = minimum(chain, bounds, row_m.numpy(), offset, seconds)
    middle = ((bounds.low_Bn + bounds.high_Bn) / 2)[0].numpy()
    if told is None:
        return Found(float("-inf"), float("inf"), middle, 1, False, True)
    slack = SLACK * (1 + float(row_m.abs() @ bounds.sizes[-1][0]) + abs(offset))
    return Found(told.bound - slack, told.value, told.point_n, 1, told.optimal, not told.optimal)
