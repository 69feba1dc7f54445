"""Exact minima of piecewise linear networks by linear programs of SciPy (HiGHS).

`minimum` is the mixed-integer program with one binary a unit that bends (MIPVerify, Tjeng et al. 2019): exact up to the
solver's tolerances, so a verdict from it keeps a distance (`SLACK`). `leaf` is the linear program of a branch in which
every unit's side is known; of its answer only the multipliers are taken, as the forces of a bound that is sound by
itself. Axes: n inputs, m outputs, M values of a block, V variables of the program.
"""

from typing import NamedTuple

import numpy as np
import scipy.optimize
import scipy.sparse
import torch

from analysis.probes.verification.bounds import Bounds
from analysis.probes.verification.network.chain import Chain, Sparse
from analysis.probes.verification.network.operations import Bends
from protocol.errors import UsageError

SLACK = 1e-5  # of the size of what is summed: HiGHS allows 1e-6 in a binary and in a constraint


class Minimum(NamedTuple):
    """Of one row over a box."""

    value: float  # of the point
    point_n: np.ndarray
    bound: float  # what the solver proved it not to be below
    optimal: bool  # or else it ran out of time


class _Program:
    """Variables with bounds, rows of constraints."""

    def __init__(self) -> None:
        self.low, self.high, self.binary = [], [], []
        self.rows, self.least, self.most = [], [], []

    @property
    def size(self) -> int:
        return sum(map(len, self.low))

    def add(self, low: np.ndarray, high: np.ndarray, binary: bool = False) -> np.ndarray:
        """New variables; their places."""
        begin = self.size
        self.low.append(low)
        self.high.append(high)
        self.binary.append(np.full(len(low), binary))
        return np.arange(begin, begin + len(low))

    def require(self, terms: list[tuple[np.ndarray, Sparse]], least: np.ndarray, most: np.ndarray) -> None:
        """least <= sum of matrix @ variables at places <= most."""
        self.rows.append((terms, len(least)))
        self.least.append(least)
        self.most.append(most)

    def solve(self, cost_V: np.ndarray, seconds: float) -> scipy.optimize.OptimizeResult:
        parts = []
        for terms, height in self.rows:
            found = [scipy.sparse.coo_array(matrix) for _, matrix in terms]
            values = np.concatenate([m.data for m in found])
            rows = np.concatenate([m.row for m in found])
            columns = np.concatenate([places[m.col] for (places, _), m in zip(terms, found, strict=True)])
            parts.append(scipy.sparse.csr_array((values, (rows, columns)), shape=(height, self.size)))
        least, most = np.concatenate(self.least), np.concatenate(self.most)
        limits = scipy.optimize.LinearConstraint(scipy.sparse.vstack(parts), least, most)  # pyright: ignore[reportArgumentType]
        low, high = np.concatenate(self.low), np.concatenate(self.high)
        return scipy.optimize.milp(
            cost_V,
            integrality=np.concatenate(self.binary).astype(int),
            bounds=scipy.optimize.Bounds(low, high),  # pyright: ignore[reportArgumentType]
            constraints=limits,
            options={"mip_rel_gap": 0.0, "time_limit": seconds},
        )


def minimum(chain: Chain, bounds: Bounds, row_m: np.ndarray, offset: float, seconds: float = 60.0) -> Minimum | None:
    """The least of row f(x) + offset over the (one) box of `bounds`; None when time ran out before any point was found.

    Raises UsageError: the network is not piecewise linear.
    """
    if not chain.piecewise_linear:
        raise UsageError("only ReLU, leaky ReLU and max-pooling have an exact minimum")
    program = _Program()
    inputs = program.add(bounds.low_Bn[0].numpy(), bounds.high_Bn[0].numpy())
    places = inputs
    for k, block in enumerate(chain.blocks):
        low, high = bounds.low[k][0].numpy(), bounds.high[k][0].numpy()
        before = (places, block.weight.entries)
        bend = block.op.slopes.numpy() if isinstance(block.op, Bends) else np.ones(len(low))
        places = program.add(np.maximum(low, bend * low), np.maximum(high, bend * high))
        _bend(program, before, places, block.bias.numpy(), (low, high), bend)
    cost = np.zeros(program.size)
    cost[places] = row_m
    found = program.solve(cost, seconds)
    if found.x is None:
        return None
    point = np.clip(found.x[inputs], bounds.low_Bn[0].numpy(), bounds.high_Bn[0].numpy())
    values = chain(torch.from_numpy(point)[None])[0].numpy()
    proven = found.fun if found.mip_dual_bound is None else found.mip_dual_bound  # None: a plain linear program
    return Minimum(float(row_m @ values) + offset, point, float(proven) + offset, found.status == 0)


def _bend(
    program: _Program,
    before: tuple[np.ndarray, Sparse],
    places: np.ndarray,
    bias: np.ndarray,
    limits: tuple[np.ndarray, np.ndarray],
    bend: np.ndarray,
) -> None:
    """y = max(z, s z), z = W y' + b in [l, u]: y >= z, y >= s z, y <= z - (1 - s) l (1 - a), y <= s z + (1 - s) u a."""
    (low, high), (source, weight) = limits, before
    bends = (low < 0) & (high > 0) & (bend < 1)
    slope = np.where(high <= 0, bend, 1.0)
    fixed = np.nonzero(~bends)[0]
    identity: Sparse = scipy.sparse.eye_array(len(low), format="csr")
    scaled = scipy.sparse.diags_array(slope).tocsr() @ weight
    equal = (slope * bias)[fixed]
    program.require([(places, identity[fixed]), (source, -scaled[fixed])], equal, equal)
    free = np.nonzero(bends)[0]
    if not len(free):
        return
    sides = program.add(np.zeros(len(free)), np.ones(len(free)), binary=True)
    b, l, u, s = bias[free], low[free], high[free], bend[free]  # noqa: E741
    own, z = identity[free], weight[free]
    bent = scipy.sparse.diags_array(s).tocsr() @ z
    endless = np.full(len(free), np.inf)
    program.require([(places, own), (source, -z)], b, endless)
    program.require([(places, own), (source, -bent)], s * b, endless)
    below, above = -(1 - s) * l, (1 - s) * u
    program.require([(places, own), (source, -z), (sides, scipy.sparse.diags_array(below))], -endless, b + below)
    program.require([(places, own), (source, -bent), (sides, scipy.sparse.diags_array(-above))], -endless, s * b)


class Leaf(NamedTuple):
    """What a linear program tells about a branch in which all units' sides are known."""

    point_n: np.ndarray | None  # the minimiser; None: no point of the box has these sides
    forces: tuple[torch.Tensor | None, ...]  # (1, 1, M) a block: multipliers along the branch's signs


def leaf(chain: Chain, bounds: Bounds, signs: tuple[torch.Tensor | None, ...], row_m: torch.Tensor) -> Leaf | None:
    """Minimise row f(x) where every unit with a sign keeps it. None when the solver gives no answer."""
    cost, rows, sides, where = _linear(chain, bounds, signs, row_m)
    box = np.stack([bounds.low_Bn[0].numpy(), bounds.high_Bn[0].numpy()], 1)
    over = -rows * sides[:, None]  # -S (G x + g) <= 0
    found = scipy.optimize.linprog(cost[:-1], over[:, :-1], -over[:, -1], bounds=box)
    if found.status == 0:
        return Leaf(np.clip(found.x, *box.T), _forces(chain, where, sides, -found.ineqlin.marginals))
    if found.status != 2:
        return None
    wide = np.concatenate([over[:, :-1], -np.ones((len(over), 1))], 1)
    apart = scipy.optimize.linprog(
        np.eye(1, wide.shape[1], wide.shape[1] - 1)[0], wide, -over[:, -1], bounds=[*map(tuple, box), (None, None)]
    )
    if apart.status != 0 or apart.fun <= 0:
        return None
    return Leaf(None, _forces(chain, where, sides, -apart.ineqlin.marginals))


def _linear(
    chain: Chain, bounds: Bounds, signs: tuple[torch.Tensor | None, ...], row_m: torch.Tensor
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[tuple[int, int]]]:
    """The network where all sides are known: the row and every signed unit as (n + 1,) functions of the inputs, the
    signs, and the units' places."""
    identity = torch.eye(chain.inputs + 1, chain.inputs, dtype=torch.float64)
    values, rows, sides, where = identity, [], [], []
    for k, (block, sign) in enumerate(zip(chain.blocks, signs, strict=True)):
        values = block.weight.times(values)
        values[-1] += block.bias
        units = torch.nonzero(sign[0])[:, 0].tolist() if sign is not None else []
        rows += [values[:, unit].numpy().copy() for unit in units]
        sides += [float(sign[0, unit]) for unit in units] if sign is not None else []
        where += [(k, unit) for unit in units]
        if isinstance(block.op, Bends):
            values = values * torch.where(bounds.low[k][0] >= 0, 1.0, block.op.slopes)
    return (values @ row_m).numpy(), np.array(rows).reshape(-1, chain.inputs + 1), np.array(sides), where


def _forces(
    chain: Chain, where: list[tuple[int, int]], sides: np.ndarray, multipliers: np.ndarray
) -> tuple[torch.Tensor | None, ...]:
    forces: list[torch.Tensor | None] = [None] * len(chain.blocks)
    for (k, unit), side, multiplier in zip(where, sides, multipliers, strict=True):
        force = forces[k]
        if force is None:
            force = forces[k] = torch.zeros(1, 1, len(chain.blocks[k].bias), dtype=torch.float64)
        force[0, 0, unit] = side * max(float(multiplier), 0.0)
    return tuple(forces)
