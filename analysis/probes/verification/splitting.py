"""Branch and bound on one row: cut the box, or the sides of ReLUs, until every part is proven or a point breaks it.

A network with few inputs is cut along an input (any activation), any other piecewise linear one at a unit whose side is
not known (beta-CROWN, Wang et al. 2021). Where all sides are known a linear program gives the forces that make the
bound exact, so the search is complete but for rounding. Axes: B parts at once, n inputs, M values of a block.
"""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from analysis.probes.verification.alpha import tightened
from analysis.probes.verification.bounds import Bounds, Lower, crown, lower_bounds
from analysis.probes.verification.exact import leaf
from analysis.probes.verification.network.chain import Chain
from analysis.probes.verification.network.operations import Bends

INPUTS_MAX = 10  # up to this many, the box itself is cut
PARTS_AT_ONCE = 32
Clock = Callable[[], float]  # seconds


@dataclass(frozen=True, eq=False, kw_only=True)
class Part:
    """A part of the box, with a lower bound of the row there."""

    bound: float
    point_n: torch.Tensor  # where the linear function below the row is least: a candidate
    bounds: Bounds  # of one box
    signs: tuple[torch.Tensor | None, ...]  # (1, M) a block
    cut: tuple[int, int] | None  # (block, unit), or (-1, input), to cut next; None: nothing is left to cut


class Found(NamedTuple):
    """Bounds on the least value of the row over the box."""

    bound: float  # sound
    value: float  # of the best point seen
    point_n: np.ndarray
    parts: int
    finished: bool  # every part is above what was asked for
    late: bool  # the clock ended it


def search(
    chain: Chain,
    bounds: Bounds,
    row_m: torch.Tensor,
    offset: float,
    *,
    need: float = 0.0,
    gap: float | None = None,
    parts: int,
    clock: Clock = lambda: 0.0,
    until: float = float("inf"),
    steps: int = 10,
    cut_inputs: bool | None = None,
) -> Found:
    """Cut the worst parts until all bounds exceed `need`, a point has a value of 0 or below, or, with `gap`, until the
    least value is known to within it; at most `parts` parts, or until the clock shows `until`. `cut_inputs`: None, as
    the network's inputs and operations suggest."""
    few = chain.inputs <= INPUTS_MAX or not chain.piecewise_linear
    by_inputs = few if cut_inputs is None else cut_inputs
    ask = _Row(chain, row_m[None, None], torch.full((1, 1), offset, dtype=torch.float64), steps, by_inputs)
    order = itertools.count()
    first = ask.parts(bounds, [tuple([None] * len(chain.blocks))])
    best, point, closed, seen, stuck = float("inf"), first[0].point_n, float("inf"), 1, False
    heap: list[tuple[float, int, Part]] = []
    fresh = first
    while True:
        for part, value in zip(fresh, ask.values([part.point_n for part in fresh]), strict=True):
            best, point = (value, part.point_n) if value < best else (best, point)
        goal = need if gap is None else best - gap
        for part in fresh:
            if part.bound <= goal and part.cut is not None:
                heapq.heappush(heap, (part.bound, next(order), part))
            else:
                stuck |= part.bound <= goal
                closed = min(closed, part.bound)
        while heap and heap[0][0] > goal:  # only `gap` moves the goal
            closed = min(closed, heapq.heappop(heap)[0])
        lowest = min(closed, heap[0][0]) if heap else closed
        late = clock() >= until
        if not heap or (gap is None and best <= 0) or seen >= parts or late:
            finished = not heap and not stuck
            return Found(min(lowest, best), best, point.numpy(), seen, finished, late and bool(heap))
        worst = [heapq.heappop(heap)[2] for _ in range(min(len(heap), PARTS_AT_ONCE))]
        fresh = ask.children(worst)
        seen += len(fresh)


class _Row:
    """One row of one network: bounds of parts, and their children."""

    def __init__(self, chain: Chain, row_11m: torch.Tensor, offset_11: torch.Tensor, steps: int, by_inputs: bool):
        self.chain, self.row, self.offset, self.steps = chain, row_11m, offset_11, steps
        self.by_inputs = by_inputs

    def values(self, points: list[torch.Tensor]) -> list[float]:
        if not points:
            return []
        return (self.chain(torch.stack(points)) @ self.row[0, 0] + self.offset[0, 0]).tolist()

    def children(self, parts: list[Part]) -> list[Part]:
        """Two of each."""
        if self.by_inputs:
            halves = [half for part in parts for half in _halves(part)]
            bounds = crown(
                self.chain, torch.stack([low for low, _ in halves]), torch.stack([high for _, high in halves])
            )
            return self.parts(bounds, [tuple([None] * len(self.chain.blocks))] * len(halves))
        sides = [_with_side(part, side) for part in parts for side in (1.0, -1.0)]
        return self.parts(_joined([bounds for bounds, _ in sides]), [signs for _, signs in sides])

    def parts(self, bounds: Bounds, signs: list[tuple[torch.Tensor | None, ...]]) -> list[Part]:
        """One a box of `bounds`."""
        count = len(signs)
        rows, offsets = self.row.expand(count, -1, -1), self.offset.expand(count, -1)
        together = tuple(
            None if all(one[k] is None for one in signs) else torch.cat([_or_zero(one[k], low) for one in signs])
            for k, low in enumerate(bounds.low)
        )
        found = tightened(self.chain, bounds, rows, offsets, steps=0 if self.by_inputs else self.steps, signs=together)
        cuts = [self._input_cut(bounds, found.lower, b) if self.by_inputs else self._unit_cut(bounds, found.lower, b)
                for b in range(count)]  # fmt: skip
        slopes = found.lower.input_rows_BRn[:, 0]
        points = torch.where(slopes > 0, bounds.low_Bn, bounds.high_Bn)
        made = []
        for b, cut in enumerate(cuts):
            own = bounds.take(torch.tensor([b]))
            part = Part(
                bound=float(found.lower.values_BR[b, 0]), point_n=points[b], bounds=own, signs=signs[b], cut=cut
            )
            made.append(self._leaf(part) if cut is None and not self.by_inputs else part)
        return made

    def _input_cut(self, bounds: Bounds, lower: Lower, b: int) -> tuple[int, int] | None:
        """The input that moves the linear bound most, or the widest where none does."""
        width = bounds.high_Bn[b] - bounds.low_Bn[b]
        weight = width * lower.input_rows_BRn[b, 0].abs()
        place = int((weight + 1e-3 * weight.sum() * width / width.max().clamp(min=1e-300)).argmax())
        middle = (bounds.low_Bn[b, place] + bounds.high_Bn[b, place]) / 2
        can_be_cut = bool(bounds.low_Bn[b, place] < middle < bounds.high_Bn[b, place])
        return (-1, place) if can_be_cut else None

    def _unit_cut(self, bounds: Bounds, lower: Lower, b: int) -> tuple[int, int] | None:
        """The unit whose upper line's intercept costs the bound most."""
        chosen, most = None, -1.0
        for k, block in enumerate(self.chain.blocks):
            if isinstance(block.op, Bends):
                low, high, bend = bounds.low[k][b], bounds.high[k][b], block.op.slopes
                unsure = (low < 0) & (high > 0) & (bend < 1)
                cost = lower.block_rows[k][b, 0].clamp(max=0).abs() * -low * high / (high - low).clamp(min=1e-300)
                cost = torch.where(unsure, cost * (1 - bend), -1.0)
                if float(cost.max()) > most or (chosen is None and bool(unsure.any())):
                    chosen, most = (k, int(cost.argmax())), float(cost.max())
        return chosen

    def _leaf(self, part: Part) -> Part:
        """With the multipliers of the linear program as forces; the better of both bounds."""
        told = leaf(self.chain, part.bounds, part.signs, self.row[0, 0])
        if told is None:
            return part
        with torch.no_grad():
            if told.point_n is None:  # that forces alone give a bound above 0 shows that nothing is here
                empty = lower_bounds(self.chain, part.bounds, 0 * self.row, 0 * self.offset, None, told.forces)
                return replace(part, bound=float("inf")) if float(empty.values_BR) > 0 else part
            found = lower_bounds(self.chain, part.bounds, self.row, self.offset, None, told.forces)
        bound = max(part.bound, float(found.values_BR))
        return replace(part, bound=bound, point_n=torch.from_numpy(told.point_n))


def _or_zero(sign: torch.Tensor | None, low_BM: torch.Tensor) -> torch.Tensor:
    return torch.zeros(1, low_BM.shape[1], dtype=torch.float64) if sign is None else sign


def _halves(part: Part) -> list[tuple[torch.Tensor, torch.Tensor]]:
    assert part.cut is not None
    low, high, place = part.bounds.low_Bn[0], part.bounds.high_Bn[0], part.cut[1]
    middle = (low[place] + high[place]) / 2
    until, since = high.clone(), low.clone()
    until[place] = since[place] = middle
    return [(low, until), (since, high)]


def _with_side(part: Part, side: float) -> tuple[Bounds, tuple[torch.Tensor | None, ...]]:
    """The part where the unit to be cut is on this side of 0."""
    assert part.cut is not None
    k, unit = part.cut
    sign = _or_zero(part.signs[k], part.bounds.low[k]).clone()
    sign[0, unit] = side
    low, high = list(part.bounds.low), list(part.bounds.high)
    low[k], high[k] = low[k].clone(), high[k].clone()
    (low if side > 0 else high)[k][0, unit] = 0.0
    signs = tuple(sign if j == k else old for j, old in enumerate(part.signs))
    return replace(part.bounds, low=tuple(low), high=tuple(high)), signs


def _joined(all_bounds: list[Bounds]) -> Bounds:
    """Boxes side by side; where lines start is what it was."""

    def join(parts: list[tuple], axis: int = 0) -> tuple:
        return tuple(None if values[0] is None else torch.cat(values, axis) for values in zip(*parts, strict=True))

    return Bounds(
        low_Bn=torch.cat([one.low_Bn for one in all_bounds]),
        high_Bn=torch.cat([one.high_Bn for one in all_bounds]),
        low=join([one.low for one in all_bounds]),
        high=join([one.high for one in all_bounds]),
        sizes=join([one.sizes for one in all_bounds]),
        rooms=join([one.rooms for one in all_bounds]),
        fractions=join([one.fractions for one in all_bounds], 1),
        outputs=join([one.outputs for one in all_bounds]),
    )
