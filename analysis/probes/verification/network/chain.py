"""A network as a chain of blocks, y = op(W x + b): the one form that every bound here is computed on.

`chain.Chain` computes in float64 with PyTorch on the CPU. `build.chain_of` makes one of a recipe and flat parameters.
Axes: B boxes or points, R rows of a linear function of a block's values, N values going into a block, M coming out of
its affine map.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse
import torch

from analysis.probes.verification.network.operations import Curves, Operation, Products
from protocol.errors import UsageError

DENSE_ENTRIES = 1 << 12  # a matrix this small is dense, whatever is in it
DENSE_SHARE = 0.08  # and one with more than this share of entries
ENTRIES_MAX = 1 << 24  # entries held of one matrix: 128 MB

Sparse = Any  # an array of scipy.sparse, of whose shapes and kinds type checkers know too little


class Matrix:
    """(M, N) float64, held dense or sparse. Raises UsageError when it is too large."""

    def __init__(self, entries: Sparse):
        self.entries: Sparse = scipy.sparse.csr_array(entries)
        self.entries.sum_duplicates()
        self.shape: tuple[int, int] = self.entries.shape
        size = self.shape[0] * self.shape[1]
        self.is_dense = size <= DENSE_ENTRIES or self.entries.nnz > DENSE_SHARE * size
        if (size if self.is_dense else self.entries.nnz) > ENTRIES_MAX:
            raise UsageError(f"a layer of {self.shape[1]} x {self.shape[0]} is too large to be verified")
        self._plain, self._turned = self._tensor(self.entries), self._tensor(self.entries.T.tocsr())

    @cached_property
    def _absolute(self) -> torch.Tensor:
        return self._tensor(abs(self.entries))

    def _tensor(self, entries: Sparse) -> torch.Tensor:
        if self.is_dense:
            return torch.from_numpy(entries.toarray())
        found = entries.tocoo()
        places = torch.from_numpy(np.stack([found.row, found.col]).astype(np.int64))
        return torch.sparse_coo_tensor(
            places, torch.from_numpy(found.data), found.shape, is_coalesced=True, check_invariants=False
        )

    def times(self, values_BN: torch.Tensor) -> torch.Tensor:
        """W x, (B, M)."""
        if self.is_dense:
            return _product(self._plain, values_BN)
        return _Times.apply(values_BN, self._plain, self._turned)  # pyright: ignore

    def size_times(self, sizes_BN: torch.Tensor) -> torch.Tensor:
        """|W| x, (B, M)."""
        return _product(self._absolute, sizes_BN)

    def pulled(self, rows_BRM: torch.Tensor) -> torch.Tensor:
        """A W, (B, R, N): rows over what comes out as rows over what goes in."""
        flat = rows_BRM.reshape(-1, self.shape[0])
        return _product(self._turned, flat).reshape(*rows_BRM.shape[:2], self.shape[1])

    def rows(self, places_R: torch.Tensor) -> torch.Tensor:
        """(R, N) dense."""
        return torch.from_numpy(self.entries[places_R.numpy()].toarray())


class _Times(torch.autograd.Function):
    """W x of a sparse W; its gradient by the turned W, where PyTorch's own would sort W anew at every step."""

    @staticmethod
    def forward(ctx: Any, values_BN: torch.Tensor, plain: torch.Tensor, turned: torch.Tensor) -> torch.Tensor:
        ctx.turned = turned
        return _product(plain, values_BN)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return _product(ctx.turned, grads[0]), None, None


def _product(matrix_MN: torch.Tensor, values_BN: torch.Tensor) -> torch.Tensor:
    if matrix_MN.is_sparse:
        return torch.sparse.mm(matrix_MN, values_BN.T).T
    return values_BN @ matrix_MN.T


@dataclass(frozen=True)
class Block:
    """y = op(W x + b); an `op` of None is the identity."""

    weight: Matrix
    bias: torch.Tensor  # (M,)
    op: Operation | None = None


class Chain:
    """Blocks in order. `inputs` values go in, `outputs` come out."""

    def __init__(self, blocks: Sequence[Block]):
        self.blocks = tuple(blocks)
        self.inputs = self.blocks[0].weight.shape[1]
        last = self.blocks[-1]
        self.outputs = last.op.outputs if last.op else last.weight.shape[0]
        widest = max(max(block.weight.shape) for block in self.blocks)
        self.terms = widest + 2 * len(self.blocks) + 16  # of the longest sum, for the bounds on rounding
        self.reduced: dict[tuple[int, bytes], Any] = {}  # parts of blocks that `behind` made

    def __call__(self, values_BN: torch.Tensor) -> torch.Tensor:
        """(B, inputs) -> (B, outputs)."""
        for block in self.blocks:
            values_BN = block.weight.times(values_BN) + block.bias
            values_BN = block.op(values_BN) if block.op else values_BN
        return values_BN

    @cached_property
    def unknown(self) -> list[torch.Tensor]:
        """Of each block, the values whose bounds lines may tighten: the units of its operation, and what passes a curve
        to be multiplied next (one pull for both); without copies of values of which the bounds are known already."""
        found, told = [], torch.zeros(self.inputs, dtype=torch.bool)
        for k, block in enumerate(self.blocks):
            copied = torch.from_numpy(
                _copies(block.weight.entries, block.bias.numpy(), torch.nonzero(told)[:, 0].numpy())
            )
            wanted = torch.zeros(len(copied), dtype=torch.bool)
            if block.op:
                wanted[block.op.units] = True
            if isinstance(block.op, Curves):
                wanted[self._factors(k + 1)] = True
            wanted &= ~copied
            found.append(torch.nonzero(wanted)[:, 0])
            told = _passed(block.op, wanted | copied)
        return found

    def _factors(self, k: int) -> torch.Tensor:
        """Places of what goes into block k that it multiplies as they are."""
        op = self.blocks[k].op if k < len(self.blocks) else None
        if not isinstance(op, Products):
            return torch.arange(0)
        entries = self.blocks[k].weight.entries[op.units.numpy()]
        single = np.diff(entries.indptr) == 1
        first = entries.indptr[:-1][single]
        return torch.from_numpy(entries.indices[first][entries.data[first] == 1.0].astype(np.int64))

    @cached_property
    def piecewise_linear(self) -> bool:
        """Whether branch and bound over units, and the mixed-integer program, can be exact."""
        return all(block.op is None or block.op.piecewise_linear for block in self.blocks)


def _passed(op: Operation | None, told_M: torch.Tensor) -> torch.Tensor:
    """(outputs,) bool: the bounds after the operation are as tight as lines could make them. A curve is monotone; lines
    say more of a bend or a product than their intervals do."""
    if isinstance(op, Products):
        return torch.cat([torch.zeros(op.pairs, dtype=torch.bool), told_M[2 * op.pairs :]])
    if op is None or isinstance(op, Curves):
        return told_M
    return told_M.index_fill(0, op.units, False)


def _copies(entries: Sparse, bias_M: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(M,) bool: the row is one of these places, times 1."""
    ones = np.diff(entries.indptr) == 1
    first = np.minimum(entries.indptr[:-1], max(0, entries.nnz - 1))
    if not entries.nnz:
        return np.zeros(len(bias_M), bool)
    return ones & (entries.data[first] == 1.0) & np.isin(entries.indices[first], places) & (bias_M == 0)
