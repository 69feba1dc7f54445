"""What lies behind some values of a chain: its blocks without all that does not reach them.

An unrolled network carries every step along, so most of what a block holds says nothing about one step's gates. Bounds
of these need rows over what is left only; blocks in which nothing happens to it are left out.
"""

from dataclasses import dataclass

import numpy as np
import torch

from analysis.probes.verification.network.chain import Block, Chain, Matrix


@dataclass(frozen=True, eq=False)
class Part:
    """A block, reduced. Places are those of the whole block, in order."""

    place: int  # of the block in its chain
    block: Block | None  # None: what is kept passes as it is
    after: torch.Tensor  # kept of the values after its operation
    before: torch.Tensor  # of those before it
    lines: torch.Tensor  # kept of the operation's lines
    entering: torch.Tensor  # of what goes in

    @property
    def key(self) -> tuple[int, bytes]:
        return self.place, self.after.numpy().tobytes()


def behind(chain: Chain, last: int, places: torch.Tensor) -> list[Part]:
    """From block `last` to the first, of its values after the operation only `places` (sorted); each part made once."""
    found = []
    for k in range(last, -1, -1):
        key = (k, places.numpy().tobytes())
        if key not in chain.reduced:
            chain.reduced[key] = _reduced(chain.blocks[k], k, places)
        found.append(chain.reduced[key])
        places = found[-1].entering
    return found


def entering(block: Block, before: torch.Tensor) -> torch.Tensor:
    """The places of what goes in that some of these rows look at, sorted."""
    return torch.from_numpy(np.unique(block.weight.entries[before.numpy()].indices).astype(np.int64))


def _reduced(block: Block, k: int, after: torch.Tensor) -> Part:
    op, before, lines = block.op.kept(after) if block.op else (None, after, after[:0])
    columns = entering(block, before)
    whole = len(before) == block.weight.shape[0] and len(columns) == block.weight.shape[1]
    if whole:
        return Part(k, block, after, before, lines, columns)
    weight, bias = block.weight.entries[before.numpy()][:, columns.numpy()], block.bias[before]
    passes = op is None and not bias.any() and _is_identity(weight)
    return Part(k, None if passes else Block(Matrix(weight), bias, op), after, before, lines, columns)


def _is_identity(weight) -> bool:
    rows, columns = weight.shape
    ones = weight.nnz == rows == columns and (np.diff(weight.indptr) == 1).all()
    return bool(ones and (weight.data == 1.0).all() and (weight.indices == np.arange(rows)).all())
