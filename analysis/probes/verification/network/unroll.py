"""Recurrent cells unrolled over time into blocks: PyTorch's GRU, LSTM and plain tanh cell.

What is not yet needed is carried along, so that a chain is enough: at step t the values are the state, the inputs from
t on, and, when a later layer reads the whole sequence, the outputs so far. Gates multiply, so only bounds are computed
for these networks, no exact answer. Axes: H hidden units, I inputs of a step, T steps.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import scipy.sparse
import torch

from analysis.probes.verification.network.chain import Block, Matrix, Sparse
from analysis.probes.verification.network.operations import Curves, Operation, Products
from protocol.recipes.layers import Flow, Gru, Lstm, Recurrent

Sum = tuple[str, Mapping[str, np.ndarray | float], np.ndarray | float]  # a name, matrices of what is added, a bias


class Wires:
    """Named runs of values between blocks."""

    def __init__(self, sizes: Mapping[str, int]):
        self.sizes, self.blocks = dict(sizes), []

    def step(self, sums: Sequence[Sum], rest: Sequence[str], curves: Mapping[str, str] | None = None) -> None:
        """New runs, each a sum of old ones times matrices (or numbers), then the old ones of `rest` as they are; tanh
        or sigmoid on the runs of `curves`."""
        sizes = self._affine(sums, rest)
        width, begins = sum(sizes.values()), dict(zip(sizes, np.cumsum([0, *sizes.values()]), strict=False))
        op = None
        if curves:
            units = np.concatenate([begins[name] + np.arange(sizes[name]) for name in curves])
            kinds = np.concatenate([np.full(sizes[name], kind == "sigmoid") for name, kind in curves.items()])
            op = Curves(width, torch.from_numpy(units), torch.from_numpy(kinds))
        self._finish(op, sizes)

    def multiply(self, names: Sequence[str], left: Sequence[Sum], right: Sequence[Sum], rest: Sequence[str]) -> None:
        """New runs `names`, value by value the products of sums, then the old ones of `rest`."""
        sizes = self._affine([*left, *right], rest)
        products = {name: sizes[one[0]] for name, one in zip(names, left, strict=True)}
        op = Products(sum(sizes.values()), sum(products.values()))
        self._finish(op, products | {name: self.sizes[name] for name in rest})

    def _affine(self, sums: Sequence[Sum], rest: Sequence[str]) -> dict[str, int]:
        rows, biases, sizes = [], [], {}
        for name, terms, bias in [*sums, *((name, {name: 1.0}, 0.0) for name in rest)]:
            sizes[name] = max(_height(matrix, self.sizes[source]) for source, matrix in terms.items())
            rows.append([_matrix(terms.get(source), sizes[name], size) for source, size in self.sizes.items()])
            biases.append(np.broadcast_to(np.asarray(bias, np.float64), (sizes[name],)))
        self._weight: Sparse = scipy.sparse.block_array(rows, format="csr")
        self._bias = np.concatenate(biases)
        return sizes

    def _finish(self, op: Operation | None, sizes: dict[str, int]) -> None:
        self.blocks.append(Block(Matrix(self._weight), torch.from_numpy(self._bias), op))
        self.sizes = sizes


def _height(matrix: np.ndarray | float, size: int) -> int:
    return len(matrix) if isinstance(matrix, np.ndarray) else size


def _matrix(term: np.ndarray | float | None, height: int, width: int) -> Sparse:
    if isinstance(term, np.ndarray):
        return scipy.sparse.csr_array(term)
    return scipy.sparse.csr_array((height, width)) if term is None else scipy.sparse.eye_array(width) * term


def unrolled(layer: Recurrent, flow: Flow, own: Sequence[np.ndarray], only_last: bool) -> list[Block]:
    """(T, I) -> (T, H), or the last step's H. `own`: w_ih (gates H, I), w_hh, b_ih, b_hh as in PyTorch."""
    wires = Wires({f"x{t}": flow.features for t in range(flow.length)})
    for t in range(flow.length):
        done = [] if only_last else [f"y{s}" for s in range(t - 1)]
        keep = [*done, *(f"x{s}" for s in range(t + 1, flow.length))]
        before = "" if t == 0 else "h" if only_last else f"y{t - 1}"
        if t and not only_last:
            keep = [*done, before, *keep[len(done) :]]
        after = "h" if only_last else f"y{t}"
        cell = _gru if isinstance(layer, Gru) else _lstm if isinstance(layer, Lstm) else _plain
        cell(wires, layer.width, own, (f"x{t}", before, after), keep)
    order = ["h"] if only_last else [f"y{t}" for t in range(flow.length)]
    wires.step([], order)
    return wires.blocks


def _gates(names: Sequence[str], own: Sequence[np.ndarray], x: str, before: str) -> list[Sum]:
    """W_ih x + W_hh h + both biases, gate by gate; no state before the first step."""
    w_ih, w_hh, b_ih, b_hh = (np.split(array, len(names)) for array in own)
    return [
        (name, {x: w_ih[i]} | ({before: w_hh[i]} if before else {}), b_ih[i] + b_hh[i]) for i, name in enumerate(names)
    ]


def _plain(wires: Wires, width: int, own: Sequence[np.ndarray], names: tuple[str, str, str], keep: list[str]) -> None:
    x, before, after = names
    (gate,) = _gates([after], own, x, before)
    wires.step([gate], keep, {after: "tanh"})


def _gru(wires: Wires, width: int, own: Sequence[np.ndarray], names: tuple[str, str, str], keep: list[str]) -> None:
    """h' = n + z (h - n), n = tanh(W x + b + r (W h + b)), r and z sigmoid."""
    x, before, after = names
    gates = [array[: 2 * width] for array in own]
    w_ih, w_hh, b_ih, b_hh = (array[2 * width :] for array in own)
    zero = np.zeros((width, wires.sizes[x]))
    sums = [
        *_gates(["r", "z"], gates, x, before),
        ("from_x", {x: w_ih}, b_ih),
        ("from_h", {before: w_hh} if before else {x: zero}, b_hh),
    ]
    state = [before] if before and before not in keep else []
    wires.step(sums, [*state, *keep], {"r": "sigmoid", "z": "sigmoid"})
    wires.multiply(["rh"], [("r", {"r": 1.0}, 0)], [("from_h", {"from_h": 1.0}, 0)], ["z", "from_x", *state, *keep])
    wires.step([("n", {"from_x": 1.0, "rh": 1.0}, 0)], ["z", *state, *keep], {"n": "tanh"})
    change = {"n": -1.0} | ({before: 1.0} if before else {})
    wires.multiply(["zd"], [("z", {"z": 1.0}, 0)], [("d", change, 0)], ["n", *keep])
    wires.step([(after, {"n": 1.0, "zd": 1.0}, 0)], keep)


def _lstm(wires: Wires, width: int, own: Sequence[np.ndarray], names: tuple[str, str, str], keep: list[str]) -> None:
    """c' = f c + i g, h' = o tanh(c'); i, f, o sigmoid, g tanh."""
    x, before, after = names
    cell = ["c"] if "c" in wires.sizes else []
    kinds = {"i": "sigmoid", "f": "sigmoid", "g": "tanh", "o": "sigmoid"}
    wires.step(_gates(list(kinds), own, x, before), [*cell, *keep], kinds)
    left, right = [("i", {"i": 1.0}, 0)], [("g", {"g": 1.0}, 0)]
    if cell:
        left, right = [*left, ("f", {"f": 1.0}, 0)], [*right, ("c", {"c": 1.0}, 0)]
    products = ["ig", "fc"][: len(left)]
    wires.multiply(products, left, right, ["o", *keep])
    wires.step([("c", dict.fromkeys(products, 1.0), 0), ("shown", dict.fromkeys(products, 1.0), 0)], ["o", *keep],
               {"shown": "tanh"})  # fmt: skip
    wires.multiply([after], [("o", {"o": 1.0}, 0)], [("shown", {"shown": 1.0}, 0)], ["c", *keep])
