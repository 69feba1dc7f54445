"""The rules that a simulation may replace, and three broken ones that its checkers have to notice.

Each broken rule changes one function or parameter, and nothing that the checkers look at with.
"""

from collections.abc import Callable
from dataclasses import dataclass

from protocol.trust import admission
from protocol.trust.admission import Decision
from protocol.trust.verdict import Verdict


def unchanged(value):
    return value


@dataclass(frozen=True, kw_only=True)
class Rules:
    """As the product has them, by default."""

    receipt_epoch: Callable[[int], int] = unchanged  # links shown so far -> the epoch that a receipt states
    lease: Callable[[float], float] = unchanged  # the policy's seconds -> those of a claim
    decide: Callable[[int, dict[int, Verdict], dict[int, Verdict]], Decision] = admission.decide


def dated_back(epoch: int) -> int:
    """The receipt states an epoch before the last link: its challenge was known before the result was handed in."""
    return max(0, epoch - 1)


def without_end(seconds: float) -> float:
    return 1e12


def accused_decides(slots: int, answers: dict[int, Verdict], replays: dict[int, Verdict]) -> Decision:
    """Where a checker disagrees with the worker, the worker's own word settles it: of course it agrees with itself."""
    own = {slot: Verdict(cells=said.cells, bad_cells=(), bad_networks=()) for slot, said in answers.items()}
    return admission.decide(slots, answers, {slot: own[slot] for slot, said in answers.items() if not said.valid})


BROKEN = {
    "challenge known before commitment": Rules(receipt_epoch=dated_back),
    "leases never end": Rules(lease=without_end),
    "verdict of the accused host counts": Rules(decide=accused_decides),
}
