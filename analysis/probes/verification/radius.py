"""How far the inputs of one network may move before its answer can change: proven, and seen to change by an attack.

All radii are shares of the inputs' range, in the largest change of any input (L-infinity); boxes end where the range
does. The property is that the network's own answer stays: its class, the side of every pin, or a value within a
tolerance. Axes: S samples, n inputs, m outputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from analysis.probes.verification.bounds import Bounds
from analysis.probes.verification.falsify import attack
from analysis.probes.verification.network.chain import Chain
from analysis.probes.verification.network.operations import Bends
from analysis.probes.verification.question import (
    Forward,
    Question,
    ball,
    stacked,
    stays_class,
    stays_near,
    stays_sides,
)
from analysis.probes.verification.verify import Effort, Status, bounds_of, proof_needs, rows_below, verify


@dataclass(frozen=True, eq=False, kw_only=True)
class Asked:
    """A network, its samples, and what must stay true of its outputs around each."""

    chain: Chain
    forward: Forward
    points_Sn: np.ndarray
    rows: tuple[tuple[np.ndarray, np.ndarray], ...]  # (R, m) and (R,) a sample
    least: float  # of all inputs
    most: float
    seen: dict[float, Bounds] = field(default_factory=dict)  # CROWN's, of all samples within one radius

    def bounds(self, radius: float) -> Bounds:
        """CROWN's, of all samples within this radius."""
        if radius not in self.seen:
            self.bound_all([radius])
        return self.seen[radius]

    def bound_all(self, radii: Sequence[float]) -> None:
        """Several radii in one go, which long chains are glad of: most of their time is spent on small steps."""
        asked = [question for radius in radii for question in self.questions(np.full(len(self.points_Sn), radius))]
        found = bounds_of(self.chain, stacked(asked), "crown")
        for radius, boxes in zip(radii, torch.arange(len(asked)).split(len(self.points_Sn)), strict=True):
            self.seen[radius] = found.take(boxes)

    def questions(self, radii_S: np.ndarray) -> list[Question]:
        """One a sample, within its radius."""
        found = []
        for point, radius, (rows, offsets) in zip(self.points_Sn, radii_S, self.rows, strict=True):
            low, high = ball(point, radius * (self.most - self.least), self.least, self.most)
            found.append(Question(low_n=low, high_n=high, rows_Rm=rows, offsets_R=offsets))
        return found


@dataclass(frozen=True, eq=False, kw_only=True)
class Radii:
    certified_S: np.ndarray  # largest radius tried that is proven
    attack_S: np.ndarray  # smallest distance of a point that changes the answer; inf: none found


def own_answer(
    kind: str, outputs_m: np.ndarray, tolerance: float, middle: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Rows that say that the answer stays; `kind`: classes, pins (on above `middle`) or values, as in
    `TaskShape.target`. One class a sample."""
    if kind == "classes":
        return stays_class(len(outputs_m), int(outputs_m.argmax()))
    if kind == "pins":
        return stays_sides(outputs_m > middle, middle)
    return stays_near(outputs_m, tolerance)


def radii(
    asked: Asked, effort: Effort, *, cap: float, steps: int, rng: np.random.Generator, among: Sequence[float] = ()
) -> Radii:
    """Both by bisection of [0, cap], independently of each other, so that each can convict the other.

    `among`: certified are these radii only, and not by bisection. Raises AssertionError when an attack succeeds within
    a certified radius: then the bounds are wrong.
    """
    certified_S = _certified_among(asked, among) if among else _certified(asked, effort, cap, steps)
    attack_S = _attacked(asked, effort, cap, steps, rng)
    if (attack_S <= certified_S).any():
        raise AssertionError(f"attacks at {attack_S} succeed within certified radii {certified_S}")
    return Radii(certified_S=certified_S, attack_S=attack_S)


def _certified(asked: Asked, effort: Effort, cap: float, steps: int) -> np.ndarray:
    low_S, high_S = np.zeros(len(asked.points_Sn)), np.full(len(asked.points_Sn), cap)
    for _ in range(steps):
        middle_S = (low_S + high_S) / 2
        proven_S = proven(asked, effort, middle_S)
        low_S, high_S = np.where(proven_S, middle_S, low_S), np.where(proven_S, high_S, middle_S)
    return low_S


def _certified_among(asked: Asked, among: Sequence[float]) -> np.ndarray:
    """The greatest that CROWN proves, 0 where none is."""
    asked.bound_all(among)
    certified_S = np.zeros(len(asked.points_Sn))
    for radius in among:
        some, bounds = stacked(asked.questions(np.full(len(certified_S), radius))), asked.bounds(radius)
        needs = proof_needs(asked.chain, bounds, some)
        proven_S = (rows_below(asked.chain, bounds, some, "crown") > needs).all(1).numpy()
        certified_S = np.where(proven_S, np.maximum(certified_S, radius), certified_S)
    return certified_S


def proven(asked: Asked, effort: Effort, radii_S: np.ndarray) -> np.ndarray:
    """(S,) by lines alone: CROWN, then alpha-CROWN for those that it leaves."""
    some = stacked(asked.questions(radii_S))
    bounds = bounds_of(asked.chain, some, "crown")
    needs = proof_needs(asked.chain, bounds, some)
    found = (rows_below(asked.chain, bounds, some, "crown") > needs).all(1)
    left = torch.nonzero(~found)[:, 0]
    if effort.alpha_steps and len(left):
        few = some.take(left.tolist())
        own = bounds.take(left)
        lower = rows_below(asked.chain, own, few, "alpha", effort.alpha_steps, needs[left])
        found[left] = (lower > needs[left]).all(1)
    return found.numpy()


def _attacked(asked: Asked, effort: Effort, cap: float, steps: int, rng: np.random.Generator) -> np.ndarray:
    low_S, high_S = np.zeros(len(asked.points_Sn)), np.full(len(asked.points_Sn), 2 * cap)
    nearest_S = np.full(len(low_S), np.inf)
    for _ in range(steps + 1):  # the first looks at the cap itself
        middle_S = (low_S + high_S) / 2
        broken_S, _, distances_S = attacked(asked, effort, middle_S, rng)
        nearest_S = np.where(broken_S, np.minimum(nearest_S, distances_S), nearest_S)
        low_S = np.where(broken_S, low_S, middle_S)
        high_S = np.where(broken_S, np.minimum(middle_S, nearest_S), high_S)
    return nearest_S


def attacked(
    asked: Asked, effort: Effort, radii_S: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(S,) each: is the answer changed, the least margin, and how far away that point is, as a share of the range."""
    questions = asked.questions(radii_S)
    found = attack(asked.chain, stacked(questions), rng, steps=effort.attack_steps, restarts=effort.restarts)
    outputs = asked.forward(found.points_Bn)
    margins_S = np.array([q.margin(out) for q, out in zip(questions, outputs, strict=True)])
    distances_S = np.abs(found.points_Bn - asked.points_Sn).max(1) / (asked.most - asked.least)
    return margins_S <= 0, margins_S, distances_S


@dataclass(frozen=True, eq=False, kw_only=True)
class AtRadius:
    """One radius for all samples."""

    statuses: tuple[Status, ...]
    unstable: float | None  # share of the units that bend whose side is not known; None: no unit bends
    gap: float  # mean of the attack's least margin minus CROWN's bound on it


def at_radius(
    asked: Asked, known: Radii, effort: Effort, radius: float, rng: np.random.Generator, further: bool = True
) -> AtRadius:
    """What is proven or broken at this radius: told by the radii where they reach, and between them by `verify`, or
    not `further`."""
    radii_S = np.full(len(asked.points_Sn), radius)
    questions = asked.questions(radii_S)
    some = stacked(questions)
    bounds = asked.bounds(radius)
    lower_S = rows_below(asked.chain, bounds, some, "crown").amin(1).numpy()
    _, margins_S, _ = attacked(asked, effort, radii_S, rng)
    statuses = [
        Status.VERIFIED if radius <= certified else Status.FALSIFIED if broken <= radius or margin <= 0 else None
        for certified, broken, margin in zip(known.certified_S, known.attack_S, margins_S, strict=True)
    ]
    left = [s for s, status in enumerate(statuses) if status is None]
    if not further:
        statuses = [status or Status.UNKNOWN for status in statuses]
    elif left:
        told = verify(asked.chain, asked.forward, [questions[s] for s in left], rng, replace(effort, restarts=1))
        for s, verdict in zip(left, told, strict=True):
            statuses[s] = verdict.status
    return AtRadius(
        statuses=tuple(status for status in statuses if status is not None),
        unstable=_unstable(asked.chain, bounds.low, bounds.high),
        gap=float((margins_S - lower_S).mean()),
    )


def _unstable(chain: Chain, low: tuple[torch.Tensor, ...], high: tuple[torch.Tensor, ...]) -> float | None:
    unsure, units = 0, 0
    for block, l, h in zip(chain.blocks, low, high, strict=True):  # noqa: E741
        if isinstance(block.op, Bends):
            units += len(block.op.units) * len(l)
            unsure += int(((l < 0) & (h > 0))[:, block.op.units].sum())
    return unsure / units if units else None
