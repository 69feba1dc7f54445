"""What networks compute, many at once, in float64: activations of every layer, losses.

Agrees with the exact engine to float32 rounding, not bit for bit. Axes: K networks, S sequences, T commands, W units
of a layer, I input bits, J output pins.
"""

import numpy as np

from analysis.features import split_layers
from protocol.engine import TaskData
from protocol.errors import UsageError
from protocol.layers import Gru, Linear, Relu
from protocol.recipe import Recipe


def activations(recipe: Recipe, weights_KP: np.ndarray, commands_STI: np.ndarray) -> list[np.ndarray]:
    """Outputs of every layer, (K, S, T, W) each; the last entry is the network's output."""
    arrays = split_layers(recipe, np.asarray(weights_KP, np.float64))
    commands = np.asarray(commands_STI, np.float64)
    signal = np.broadcast_to(commands, (len(weights_KP), *commands.shape))
    found = []
    for i, layer in enumerate(recipe.network.layers):
        if isinstance(layer, Gru):
            signal = _gru(
                signal, *(arrays[f"{i}.{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
            )
        elif isinstance(layer, Linear):
            signal = signal @ _transposed(arrays[f"{i}.weight"]) + arrays[f"{i}.bias"][:, None, None]
        elif isinstance(layer, Relu):
            signal = np.maximum(signal, 0)
        else:
            raise UsageError(f"layer {i}: {type(layer).__name__} cannot be computed here")
        found.append(signal)
    return found


def outputs(recipe: Recipe, weights_KP: np.ndarray, commands_STI: np.ndarray) -> np.ndarray:
    """(K, S, T, J)."""
    return activations(recipe, weights_KP, commands_STI)[-1]


def held_out_losses(recipe: Recipe, weights_KP: np.ndarray, data: TaskData, block: int = 32) -> np.ndarray:
    """(K,) mean squared error on the recipe's held-out sequences, `block` networks at a time."""
    losses = [np.zeros(0)]
    for begin in range(0, len(weights_KP), block):
        found = outputs(recipe, weights_KP[begin : begin + block], data.held_out_inputs)
        losses.append(((found - data.held_out_targets) ** 2).mean((1, 2, 3)))
    return np.concatenate(losses)


def _transposed(weight_KOI: np.ndarray) -> np.ndarray:
    return np.swapaxes(weight_KOI, 1, 2)[:, None]


def _gru(signal: np.ndarray, w_ih: np.ndarray, w_hh: np.ndarray, b_ih: np.ndarray, b_hh: np.ndarray) -> np.ndarray:
    """PyTorch's GRU: (K, S, T, I) -> (K, S, T, H)."""
    k, s, t, _ = signal.shape
    h = w_hh.shape[2]
    incoming = signal @ _transposed(w_ih) + b_ih[:, None, None]
    state, found = np.zeros((k, s, h)), np.empty((k, s, t, h))
    for step in range(t):
        recurrent = state @ np.swapaxes(w_hh, 1, 2) + b_hh[:, None]
        gate = 0.5 + 0.5 * np.tanh(0.5 * (incoming[:, :, step, : 2 * h] + recurrent[..., : 2 * h]))
        candidate = np.tanh(incoming[:, :, step, 2 * h :] + gate[..., :h] * recurrent[..., 2 * h :])
        state = candidate + gate[..., h:] * (state - candidate)
        found[:, :, step] = state
    return found
