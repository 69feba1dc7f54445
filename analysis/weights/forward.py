"""What networks compute, many at once, in float64: activations of every layer, losses. For every layer of a recipe.

Agrees with the exact engine to float32 rounding, not bit for bit; dropout is off. Axes: K networks, S samples, T time
steps (1 for vectors and images), I inputs or W units of a layer, or C channels of height Y and width X; J outputs.
"""

from collections.abc import Callable

import numpy as np

from analysis.weights.features import split_layers
from protocol.errors import UsageError
from protocol.recipes.layers import (
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool,
    GroupNorm,
    Gru,
    Last,
    Layer,
    LayerNorm,
    LeakyRelu,
    Linear,
    Lstm,
    MaxPool2d,
    Pool,
    Recurrent,
    Relu,
    Sigmoid,
    Tanh,
)
from protocol.recipes.recipe import Recipe
from protocol.tasks.data import TaskData

VALUES_AT_ONCE = 1 << 24  # activations that `held_out_losses` holds: 128 MB


def activations(recipe: Recipe, weights_KP: np.ndarray, inputs: np.ndarray) -> list[np.ndarray]:
    """Outputs of every layer, (K, S, T, W) or of images (K, S, 1, C, Y, X); the last entry is the network's output.

    Inputs are those of `protocol.engine.TaskData`, (S, T, I) or (S, 1, C, Y, X): bytes are scaled as in training.
    Raises UsageError for a layer that this version does not know.
    """
    arrays = split_layers(recipe, np.asarray(weights_KP, np.float64))
    shape = recipe.task_shape
    scale = shape.scale if np.asarray(inputs).dtype == np.uint8 else 1.0
    signal = np.asarray(inputs, np.float64).reshape(len(inputs), -1, *shape.input) * scale
    signal = np.broadcast_to(signal, (len(weights_KP), *signal.shape))
    found = []
    for i, layer in enumerate(recipe.network.layers):
        own = [array for name, array in arrays.items() if name.startswith(f"{i}.")]
        signal = _output(i, layer, signal, own)
        found.append(signal)
    return found


def outputs(recipe: Recipe, weights_KP: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """(K, S, T, J)."""
    return activations(recipe, weights_KP, inputs)[-1]


def losses(recipe: Recipe, outputs_KSTJ: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(K,) mean loss of the recipe's kind; targets as in `protocol.engine.TaskData`: (S, T, J), or classes (S, T)."""
    if recipe.training.loss == "cross_entropy":
        top = outputs_KSTJ.max(3, keepdims=True)
        log_total = np.log(np.exp(outputs_KSTJ - top).sum(3)) + top[..., 0]
        index = np.broadcast_to(np.asarray(targets, np.int64)[None, ..., None], (*outputs_KSTJ.shape[:3], 1))
        return (log_total - np.take_along_axis(outputs_KSTJ, index, 3)[..., 0]).mean((1, 2))
    targets = np.asarray(targets, np.float64)
    if recipe.training.loss == "bce":
        return (np.logaddexp(0, outputs_KSTJ) - outputs_KSTJ * targets).mean((1, 2, 3))
    return ((outputs_KSTJ - targets) ** 2).mean((1, 2, 3))


def held_out_losses(recipe: Recipe, weights_KP: np.ndarray, data: TaskData, block: int = 32) -> np.ndarray:
    """(K,) mean loss on the recipe's held-out samples, `block` networks at a time."""
    values = sum(flow.features * flow.length for flow in recipe.flows)
    rows = max(1, VALUES_AT_ONCE // (block * values))
    samples = len(data.held_out_inputs)
    total_K = np.zeros(len(weights_KP))
    for begin in range(0, len(weights_KP), block):
        some = slice(begin, begin + block)
        for first in range(0, samples, rows):
            part = slice(first, first + rows)
            found = outputs(recipe, weights_KP[some], data.held_out_inputs[part])
            total_K[some] += losses(recipe, found, data.held_out_targets[part]) * found.shape[1]
    return total_K / samples


def _output(i: int, layer: Layer, signal: np.ndarray, own: list[np.ndarray]) -> np.ndarray:
    """One layer's output for its arrays, (K, ...) each."""
    if isinstance(layer, Recurrent):
        return _recurrent(layer, signal, *own)
    if isinstance(layer, Linear):
        weight, bias = own
        return signal @ _transposed(weight) + bias[:, None, None]
    if isinstance(layer, Conv2d):
        return np.stack([_conv(layer, *parts) for parts in zip(signal[:, :, 0], *own, strict=True)])[:, :, None]
    if isinstance(layer, Pool):
        windows = _windows(signal, layer.kernel, layer.stride or layer.kernel)
        return windows.max((-2, -1)) if isinstance(layer, MaxPool2d) else windows.mean((-2, -1))
    if isinstance(layer, LayerNorm | GroupNorm):
        return _normalized(layer, signal, *own)
    simple: dict[type, Callable[[np.ndarray], np.ndarray]] = {
        Relu: lambda x: np.maximum(x, 0),
        Tanh: np.tanh,
        Sigmoid: _sigmoid,
        Dropout: lambda x: x,
        Last: lambda x: x[:, :, -1:],
        GlobalAvgPool: lambda x: x.mean((-2, -1)),
        Flatten: lambda x: x.reshape(*x.shape[:3], -1),
    }
    if isinstance(layer, LeakyRelu):
        return np.where(signal > 0, signal, layer.slope * signal)
    if type(layer) not in simple:
        raise UsageError(f"layer {i}: {type(layer).__name__} cannot be computed here")
    return simple[type(layer)](signal)


def _transposed(weight_KOI: np.ndarray) -> np.ndarray:
    return np.swapaxes(weight_KOI, 1, 2)[:, None]


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def _windows(images: np.ndarray, kernel: int, stride: int) -> np.ndarray:
    """(..., Y, X) -> (..., Y', X', kernel, kernel), a view."""
    found = np.lib.stride_tricks.sliding_window_view(images, (kernel, kernel), axis=(-2, -1))
    return found[..., ::stride, ::stride, :, :]


def _conv(layer: Conv2d, image: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """One network: (S, C, Y, X) -> (S, channels, Y', X')."""
    around = (layer.padding, layer.padding)
    windows = _windows(np.pad(image, ((0, 0), (0, 0), around, around)), layer.kernel, layer.stride)
    found = np.tensordot(windows, weight, axes=((1, 4, 5), (1, 2, 3))) + bias
    return np.moveaxis(found, 3, 1)


def _normalized(layer: LayerNorm | GroupNorm, signal: np.ndarray, gain: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Each of the layer's runs of features at mean 0 and deviation 1, then gain and bias."""
    runs = layer.groups if isinstance(layer, GroupNorm) else 1
    grouped = signal.reshape(*signal.shape[:3], runs, -1)
    centred = grouped - grouped.mean(4, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(4, keepdims=True) + layer.epsilon)
    each = (len(gain), 1, 1, *gain.shape[1:], *[1] * (signal.ndim - 2 - gain.ndim))
    return scaled.reshape(signal.shape) * gain.reshape(each) + bias.reshape(each)


def _recurrent(
    layer: Recurrent, signal: np.ndarray, w_ih: np.ndarray, w_hh: np.ndarray, b_ih: np.ndarray, b_hh: np.ndarray
) -> np.ndarray:
    """PyTorch's GRU, LSTM or plain tanh cell over the sequence: (K, S, T, I) -> (K, S, T, H)."""
    k, s, t, _ = signal.shape
    h = w_hh.shape[2]
    incoming = signal @ _transposed(w_ih) + b_ih[:, None, None]
    state, cell, found = np.zeros((k, s, h)), np.zeros((k, s, h)), np.empty((k, s, t, h))
    for step in range(t):
        recurrent = state @ np.swapaxes(w_hh, 1, 2) + b_hh[:, None]
        if isinstance(layer, Gru):
            gate = _sigmoid(incoming[:, :, step, : 2 * h] + recurrent[..., : 2 * h])
            candidate = np.tanh(incoming[:, :, step, 2 * h :] + gate[..., :h] * recurrent[..., 2 * h :])
            state = candidate + gate[..., h:] * (state - candidate)
        elif isinstance(layer, Lstm):
            enter, forget, candidate, leave = np.split(incoming[:, :, step] + recurrent, 4, axis=2)
            cell = _sigmoid(forget) * cell + _sigmoid(enter) * np.tanh(candidate)
            state = _sigmoid(leave) * np.tanh(cell)
        else:
            state = np.tanh(incoming[:, :, step] + recurrent)
        found[:, :, step] = state
    return found
