"""What every value inside a network lies between when the inputs lie in a box: intervals, and lines pulled backward.

`intervals` (IBP) goes forward once. `crown` goes backward from every unit whose line depends on its bounds, and from a
question's rows to the inputs (`lower_bounds`). Formulas: IBP (Gowal et al. 2018), CROWN (Zhang et al. 2018), beta (Wang
et al. 2021), written down in docs/probes.md.

Rounding. Bounds are of the real function of the parameters. Every sum of products of n terms computed in float64 is off
by at most n u / (1 - n u) times the sum of their sizes, in any order (Higham 2002, 3.1), u = 2^-53. `lower_bounds` adds
up these sizes beside the bound itself, through bounds on the values (|A| (|W| |y| + |b|) in each block), and moves the
bound outward by 2 (n + ...) u times that; `intervals` likewise. `evaluation_error` is how far a float64 forward pass
may be from the real function, so that "verified" can be asked of the forward pass as well. Axes as in `chain`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from analysis.probes.verification.network.behind import Part, behind, entering
from analysis.probes.verification.network.chain import Block, Chain
from analysis.probes.verification.network.operations import UNIT, Lines

ENTRIES_AT_ONCE = 1 << 23  # of rows pulled backward together: 64 MB


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Of the values before each block's operation; `sizes` of rounding, (B, M) a block."""

    low_Bn: torch.Tensor
    high_Bn: torch.Tensor
    low: tuple[torch.Tensor, ...]
    high: tuple[torch.Tensor, ...]
    sizes: tuple[torch.Tensor, ...]  # |W| |y| + |b| of each block's affine map
    rooms: tuple[torch.Tensor | None, ...]  # of each block's operation
    fractions: tuple[torch.Tensor | None, ...]  # (2, B, 1, U): where lines start
    outputs: tuple[torch.Tensor, torch.Tensor]  # (B, outputs) each

    def take(self, boxes: torch.Tensor) -> "Bounds":
        """Of some boxes only."""

        def some(values: Sequence[torch.Tensor | None]) -> tuple:
            return tuple(None if value is None else value[boxes] for value in values)

        return Bounds(
            low_Bn=self.low_Bn[boxes],
            high_Bn=self.high_Bn[boxes],
            low=some(self.low),
            high=some(self.high),
            sizes=some(self.sizes),
            rooms=some(self.rooms),
            fractions=tuple(None if value is None else value[:, boxes] for value in self.fractions),
            outputs=(self.outputs[0][boxes], self.outputs[1][boxes]),
        )


class Lower(NamedTuple):
    """Lower bounds of rows over the outputs."""

    values_BR: torch.Tensor
    input_rows_BRn: torch.Tensor  # the linear function of the inputs that is nowhere above
    block_rows: tuple[torch.Tensor, ...]  # the rows over each block's values, (B, R, outputs of the block)


def intervals(chain: Chain, low_Bn: torch.Tensor, high_Bn: torch.Tensor) -> Bounds:
    """Interval bounds of every block."""
    return _bounds(chain, low_Bn, high_Bn, tight=False)


@torch.no_grad()
def crown(chain: Chain, low_Bn: torch.Tensor, high_Bn: torch.Tensor) -> Bounds:
    """Interval bounds, met with backward bounds for every unit on whose bounds a line depends."""
    return _bounds(chain, low_Bn, high_Bn, tight=True)


@torch.no_grad()
def _bounds(chain: Chain, low_Bn: torch.Tensor, high_Bn: torch.Tensor, tight: bool) -> Bounds:
    lows, highs, sizes, rooms, fractions = [], [], [], [], []
    lines: list[Lines | None] = []
    reached = Reached(low_Bn, high_Bn, sizes, rooms, lines)
    low, high = low_Bn, high_Bn
    for k, block in enumerate(chain.blocks):
        low, high, size = _affine(chain, k, low, high)
        sizes.append(size)
        if block.op and tight and k:
            low, high = _tightened(chain, reached, k, low, high)
        lows.append(low)
        highs.append(high)
        rooms.append(block.op.room(low, high) if block.op else None)
        fractions.append(block.op.fractions(low, high)[:, :, None] if block.op else None)
        lines.append(block.op.lines(low, high, fractions[-1]) if block.op and tight else None)
        if block.op:
            low, high = block.op.interval(low, high)
    return Bounds(
        low_Bn=low_Bn,
        high_Bn=high_Bn,
        low=tuple(lows),
        high=tuple(highs),
        sizes=tuple(sizes),
        rooms=tuple(rooms),
        fractions=tuple(fractions),
        outputs=(low, high),
    )


def _affine(
    chain: Chain, k: int, low: torch.Tensor, high: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Middle and radius through W and |W|, moved outward; and |W| |y| + |b|."""
    block = chain.blocks[k]
    middle = (low + high) / 2
    radius = torch.maximum(high - middle, middle - low) * (1 + 4 * UNIT)
    size = block.weight.size_times(torch.maximum(low.abs(), high.abs())) + block.bias.abs()
    spread = block.weight.size_times(radius) + 6 * chain.terms * UNIT * size
    centre = block.weight.times(middle) + block.bias
    return centre - spread, centre + spread, size


class Link(NamedTuple):
    """What a row is pulled through: a block, and what is known of it."""

    block: Block
    room: torch.Tensor | None
    sizes: torch.Tensor
    lines: Lines | None
    force: torch.Tensor | None = None


class Reached:
    """What is known of a chain's first blocks; grows with the lists that it is given."""

    def __init__(self, low_Bn, high_Bn, sizes: list, rooms: list, lines: list):
        self.low_Bn, self.high_Bn, self.sizes, self.rooms, self.lines = low_Bn, high_Bn, sizes, rooms, lines
        self._links: dict[tuple[int, bytes], Link] = {}

    def link(self, part: Part) -> Link | None:
        """None: nothing happens in it to what is kept."""
        if part.block is None:
            return None
        if part.key not in self._links:
            room, lines = self.rooms[part.place], self.lines[part.place]
            self._links[part.key] = Link(
                part.block,
                None if room is None else room[:, part.after],
                self.sizes[part.place][:, part.before],
                None if lines is None else tuple(line[..., part.lines] for line in lines),
            )
        return self._links[part.key]


def _tightened(
    chain: Chain, reached: Reached, k: int, low: torch.Tensor, high: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Backward bounds of block k's values, where intervals do not tell enough."""
    block = chain.blocks[k]
    units = chain.unknown[k]
    if not len(units):
        return low, high
    columns = entering(block, units)
    parts = behind(chain, k - 1, columns)
    links = [link for part in parts if (link := reached.link(part)) is not None]
    box = reached.low_Bn[:, parts[-1].entering], reached.high_Bn[:, parts[-1].entering]
    if block.op and block.op.piecewise_linear:
        units = units[((low[:, units] < 0) & (high[:, units] > 0)).any(0)]
    low, high = low.clone(), high.clone()
    together = max(1, ENTRIES_AT_ONCE // (2 * len(low) * chain.terms))
    for some in torch.split(units, together):
        if len(some):
            rows = block.weight.rows(some)[:, columns]
            both = torch.cat([rows, -rows])[None].expand(len(low), -1, -1)
            bias = block.bias[some]
            found = _backward(links, box, chain.terms, both, torch.cat([bias, -bias])[None]).values_BR
            low[:, some] = torch.maximum(low[:, some], found[:, : len(some)])
            high[:, some] = torch.minimum(high[:, some], -found[:, len(some) :])
    return low, torch.maximum(low, high)  # rounding may cross them where a unit does not vary


def lower_bounds(
    chain: Chain,
    bounds: Bounds,
    rows_BRm: torch.Tensor,
    offsets_BR: torch.Tensor,
    fractions: Sequence[torch.Tensor | None] | None = None,
    forces: Sequence[torch.Tensor | None] | None = None,
) -> Lower:
    """Of A f(x) + offset over each box, sound for any `fractions`.

    `forces` (beta): (B, R, M) a block, subtracted from the rows over the values before its operation; sound where
    forces times those values is known not to be negative, as where a branch fixes a unit's sign.
    """
    lines = [
        None if block.op is None or fraction is None else block.op.lines(low, high, fraction)
        for block, low, high, fraction in zip(
            chain.blocks, bounds.low, bounds.high, fractions or bounds.fractions, strict=True
        )
    ]
    links = [
        Link(*of, forces[k] if forces else None)
        for k, of in enumerate(zip(chain.blocks, bounds.rooms, bounds.sizes, lines, strict=True))
    ]
    return _backward(links[::-1], (bounds.low_Bn, bounds.high_Bn), chain.terms, rows_BRm, offsets_BR)


def _backward(
    links: Sequence[Link],
    box: tuple[torch.Tensor, torch.Tensor],
    terms: int,
    rows: torch.Tensor,
    offsets_BR: torch.Tensor,
) -> Lower:
    """From values after the first of these links to the inputs, which lie in the box."""
    total = offsets_BR.expand(rows.shape[:2])
    size = total.abs()  # of all that was added up
    seen = []
    for block, room, sizes, own, force in links:
        seen.append(rows)
        if block.op is not None and room is not None and own is not None:
            size = size + _weighed(rows, room)
            rows, constant = block.op.pull(rows, own)
            total = total + constant
        if force is not None:
            rows = rows - force
            size = size + _weighed(force, sizes)
        size = size + _weighed(rows, sizes)
        total = total + rows @ block.bias
        rows = block.weight.pulled(rows)
    low_Bn, high_Bn = box
    corner = rows.clamp(min=0) * low_Bn[:, None] + rows.clamp(max=0) * high_Bn[:, None]
    size = size + corner.abs().sum(-1)
    values = total + corner.sum(-1) - 2 * terms * UNIT * size
    return Lower(values, rows, tuple(reversed(seen)))


def _weighed(rows_BRM: torch.Tensor, sizes_BM: torch.Tensor) -> torch.Tensor:
    return (sizes_BM[:, None] @ rows_BRM.abs().transpose(1, 2))[:, 0]  # three times as fast as the other way round


@torch.no_grad()
def evaluation_error(chain: Chain, bounds: Bounds) -> torch.Tensor:
    """(B, outputs): how far any float64 forward pass may be from the real function, for inputs in the box."""
    error = torch.zeros_like(bounds.low_Bn)
    for k, block in enumerate(chain.blocks):
        error = block.weight.size_times(error) * (1 + 4 * chain.terms * UNIT)
        error = error + 2 * chain.terms * UNIT * bounds.sizes[k]
        if block.op:
            error = block.op.rounding(error, bounds.low[k], bounds.high[k])
    return error
