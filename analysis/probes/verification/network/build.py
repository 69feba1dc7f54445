"""From a recipe and flat parameters to a chain of blocks, exactly: convolutions and pools as matrices, maxima as ReLUs,
recurrent cells unrolled over time.

A maximum is b + relu(a - b), two values at a time, so that all that is known about ReLUs holds for max-pooling too.
Entries of the matrices are the parameters themselves; only the 1/k^2 of average pooling may be rounded, once, which the
bounds' allowance for rounding covers.
"""

import math

import numpy as np
import scipy.sparse
import torch

from analysis.probes.verification.network.chain import Block, Chain, Matrix, Sparse
from analysis.probes.verification.network.operations import Bends, Curves, Operation
from analysis.probes.verification.network.unroll import unrolled
from protocol.errors import UsageError
from protocol.recipes.layers import (
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    Flow,
    GlobalAvgPool,
    Last,
    Layer,
    LeakyRelu,
    Linear,
    MaxPool2d,
    Recurrent,
    Relu,
    Sigmoid,
    Tanh,
)
from protocol.recipes.recipe import Recipe


def chain_of(recipe: Recipe, params_P: np.ndarray) -> Chain:
    """Inputs are one sample's values in order (time, features) or (channel, row, column), outputs (time, width).

    Raises UsageError for a layer that cannot be bounded here (norms divide by what they measure), or is too large.
    """
    arrays = recipe.split(np.asarray(params_P, np.float64))
    blocks: list[Block] = []
    layers = recipe.network.layers
    for i, layer in enumerate(layers):
        own = [array for name, array in arrays.items() if name.startswith(f"{i}.")]
        if isinstance(layer, Recurrent):
            only_last = isinstance(layers[i + 1] if i + 1 < len(layers) else None, Last)
            blocks += unrolled(layer, recipe.flows[i], own, only_last)
        elif isinstance(layer, Last) and i and isinstance(layers[i - 1], Recurrent):
            continue  # the unrolled cells gave it already
        else:
            blocks += _blocks(i, layer, recipe.flows[i], own)
    return Chain(blocks)


def _blocks(i: int, layer: Layer, flow: Flow, own: list[np.ndarray]) -> list[Block]:
    size = flow.length * flow.features
    if isinstance(layer, Flatten | Dropout):
        return []
    if isinstance(layer, Linear):
        weight, bias = own
        return [block(scipy.sparse.kron(np.eye(flow.length), weight), np.tile(bias, flow.length))]
    if isinstance(layer, Conv2d):
        return [_conv(layer, flow, *own)]
    if isinstance(layer, MaxPool2d):
        windows = _windows(flow.shape, layer.kernel, layer.stride or layer.kernel, 0)
        return _maxima(windows.reshape(-1, layer.kernel**2), size)
    if isinstance(layer, AvgPool2d):
        return [_mean(_windows(flow.shape, layer.kernel, layer.stride or layer.kernel, 0), size)]
    if isinstance(layer, GlobalAvgPool):
        return [_mean(np.arange(size).reshape(flow.shape[0], -1), size)]
    if isinstance(layer, Last):
        return [_select(np.arange(size - flow.features, size), size)]
    operation = _operation(layer, size)
    if operation is None:
        raise UsageError(f"layer {i}: {type(layer).__name__} has no bounds here; verify networks without it")
    return [_select(np.arange(size), size, operation)]


def _operation(layer: Layer, size: int) -> Operation | None:
    if isinstance(layer, Relu | LeakyRelu):
        return Bends(torch.full((size,), layer.slope if isinstance(layer, LeakyRelu) else 0.0, dtype=torch.float64))
    if isinstance(layer, Tanh | Sigmoid):
        return Curves(size, torch.arange(size), torch.full((size,), isinstance(layer, Sigmoid)))
    return None


def block(weight: Sparse, bias_M: np.ndarray, op: Operation | None = None) -> Block:
    return Block(Matrix(scipy.sparse.csr_array(weight, dtype=np.float64)), torch.from_numpy(bias_M.copy()), op)


def _select(places_M: np.ndarray, size: int, op: Operation | None = None) -> Block:
    return block(_chosen(places_M, size), np.zeros(len(places_M)), op)


def _chosen(places_M: np.ndarray, size: int) -> Sparse:
    """(M, size) with a 1 in each row."""
    ones = np.ones(len(places_M))
    return scipy.sparse.csr_array((ones, (np.arange(len(places_M)), places_M)), shape=(len(places_M), size))


def _windows(shape: tuple[int, ...], kernel: int, stride: int, padding: int) -> np.ndarray:
    """(C, Y', X', kernel * kernel): the place of each value under each window in the flat image, -1 for padding."""
    places = np.arange(math.prod(shape)).reshape(shape)
    around = (padding, padding)
    padded = np.pad(places, ((0, 0), around, around), constant_values=-1)
    found = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(1, 2))[:, ::stride, ::stride]
    return found.reshape(*found.shape[:3], kernel**2)


def _conv(layer: Conv2d, flow: Flow, weight: np.ndarray, bias: np.ndarray) -> Block:
    windows = _windows(flow.shape, layer.kernel, layer.stride, layer.padding)
    _, height, width, _ = windows.shape
    columns = np.moveaxis(windows, 0, 2).reshape(1, height * width, -1)  # (1, Y'X', C k k), as the weights are ordered
    values = np.broadcast_to(weight.reshape(len(weight), 1, -1), (len(weight), *columns.shape[1:]))
    columns = np.broadcast_to(columns, values.shape)
    rows = np.broadcast_to(np.arange(len(weight) * height * width).reshape(len(weight), -1, 1), values.shape)
    inside = columns >= 0
    shape = (len(weight) * height * width, flow.features)
    entries = scipy.sparse.csr_array((values[inside], (rows[inside], columns[inside])), shape=shape)
    return block(entries, np.repeat(bias, height * width))


def _mean(windows: np.ndarray, size: int) -> Block:
    places = windows.reshape(-1, windows.shape[-1])
    rows = np.repeat(np.arange(len(places)), places.shape[1])
    values = np.full(places.size, 1.0 / places.shape[1])
    entries = scipy.sparse.csr_array((values, (rows, places.ravel())), shape=(len(places), size))
    return block(entries, np.zeros(len(places)))


def _maxima(places_MK: np.ndarray, size: int) -> list[Block]:
    """The greatest of each row's K values, by halves. Rows may share values."""
    blocks, count = [], len(places_MK)
    while places_MK.shape[1] > 1:
        pairs = places_MK.shape[1] // 2
        first, second, left = places_MK[:, :pairs].ravel(), places_MK[:, pairs : 2 * pairs].ravel(), places_MK[:, -1]
        left = left if places_MK.shape[1] % 2 else left[:0]
        over = _chosen(first, size) - _chosen(second, size)
        weight: Sparse = scipy.sparse.vstack([over, _chosen(second, size), _chosen(left, size)])
        slopes = torch.ones(weight.shape[0])
        slopes[: len(first)] = 0
        blocks.append(block(weight, np.zeros(weight.shape[0]), Bends(slopes)))
        n = len(first)
        kept = np.concatenate([np.arange(n, 2 * n), np.arange(2 * n, 2 * n + len(left))])
        added = _chosen(kept, weight.shape[0]).tolil()
        added[np.arange(n), np.arange(n)] = 1.0
        blocks.append(block(added, np.zeros(len(kept))))
        halves = np.arange(n).reshape(count, pairs)
        places_MK = (
            np.concatenate([halves, n + np.arange(len(left)).reshape(len(left), -1)], 1) if len(left) else halves
        )
        size = len(kept)
    return blocks
