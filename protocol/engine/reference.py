"""The NumPy backend: slow, readable, and with docs/exact_arithmetic.md the specification of `exact-1`.

Arithmetic is IEEE-754 binary32 by float32 ufuncs, one rounding an operation, only + - * / sqrt and comparisons. Every
sum is written out in its order: no np.sum, no matmul.

Axes: C lane blocks of 16 samples (the batch, zero-padded), L = 16 lanes, T time steps, I inputs and J outputs of a
layer. Activations are (T, width, C, L): NumPy works on all blocks and lanes at once, which shares no sum among them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from protocol.engine import State, TaskData
from protocol.engine.data import batch_order, step_sizes
from protocol.layers import Gru, Linear
from protocol.recipe import Recipe

F = np.float32
LANES = 16

TANH_CLAMP = F(7.90531110763549805)
TANH_P = tuple(
    F(c)
    for c in (
        -2.76076847742355e-16,
        2.00018790482477e-13,
        -8.60467152213735e-11,
        5.12229709037114e-08,
        1.48572235717979e-05,
        6.37261928875436e-04,
        4.89352455891786e-03,
    )
)
TANH_Q = tuple(F(c) for c in (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03))


class NumpyEngine:
    """The reference backend."""

    name = "numpy"

    def train(
        self, recipe: Recipe, data: TaskData, seeds: list[int], states: list[State], steps: int
    ) -> tuple[list[State], np.ndarray]:
        results = [train_one(recipe, data, seed, state, steps) for seed, state in zip(seeds, states, strict=True)]
        losses = np.array([losses for _, losses in results], F).reshape(len(seeds), steps)
        return [state for state, _ in results], losses

    def held_out_loss(self, recipe: Recipe, data: TaskData, params: list[np.ndarray]) -> np.ndarray:
        rows = np.arange(len(data.held_out_inputs))
        inputs = lanes(data.held_out_inputs, rows)
        targets = lanes(data.held_out_targets, rows)
        losses = []
        for flat in params:
            outputs = forward(layer_parameters(recipe, flat), inputs)[-1].output
            losses.append(squared_error(outputs, targets, len(rows))[0])
        return np.array(losses, F)


def train_one(recipe: Recipe, data: TaskData, seed: int, state: State, steps: int) -> tuple[State, list[np.float32]]:
    """`steps` steps of one network: (new state, the loss of each step's batch before the step)."""
    t = recipe.training
    params, (first, second) = state.params.copy(), state.moments.copy()
    beta1, beta2, epsilon = F(t.beta1), F(t.beta2), F(t.epsilon)
    rest1, rest2 = F(1.0 - t.beta1), F(1.0 - t.beta2)
    order, sizes = batch_order(recipe, seed, state.step, steps), step_sizes(recipe, state.step, steps)
    losses = []
    for rows, (rate, correction) in zip(order, sizes, strict=True):
        loss, gradient = loss_and_gradient(recipe, params, data, rows)
        first = first * beta1 + gradient * rest1
        second = second * beta2 + (gradient * gradient) * rest2
        params = params - (first * rate) / (np.sqrt(second) * correction + epsilon)
        losses.append(loss)
    return State(step=state.step + steps, params=params, moments=np.stack([first, second])), losses


def loss_and_gradient(
    recipe: Recipe, params: np.ndarray, data: TaskData, rows: np.ndarray
) -> tuple[np.float32, np.ndarray]:
    """Mean squared error over every sample, time step and pin of a batch, and its gradient (P,)."""
    passes = forward(layer_parameters(recipe, params), lanes(data.inputs, rows))
    loss, delta = squared_error(passes[-1].output, lanes(data.targets, rows), len(rows))
    gradients: list[np.ndarray] = []
    for index in reversed(range(len(passes))):
        delta, arrays = passes[index].backward(delta)
        gradients = arrays + gradients
    return loss, np.concatenate([g.reshape(-1) for g in gradients])


def lanes(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows of (N, T, width) bytes -> (T, width, C, L) float32; lanes past the last row are zero."""
    blocks = -(-len(rows) // LANES)
    padded = np.zeros((blocks * LANES, *values.shape[1:]), F)
    padded[: len(rows)] = values[rows]
    return np.ascontiguousarray(np.moveaxis(padded.reshape(blocks, LANES, *values.shape[1:]), (0, 1), (2, 3)))


def squared_error(outputs: np.ndarray, targets: np.ndarray, samples: int) -> tuple[np.float32, np.ndarray]:
    """(loss, its derivative by the outputs). A lane adds over time (outer) and pins (inner); padding counts nothing."""
    length, pins, blocks, _ = outputs.shape
    real = np.arange(blocks * LANES).reshape(blocks, LANES) < samples
    error = np.where(real, outputs - targets, F(0))
    total: np.ndarray = np.zeros((blocks, LANES), F)
    for t in range(length):
        for pin in range(pins):
            total = total + error[t, pin] * error[t, pin]
    count = F(samples * length * pins)
    return over_lanes(total) / count, error * (F(2) / count)


def over_lanes(values: np.ndarray) -> Any:
    """(..., C, L) -> (...): within each block the tree l + (l+8), l + (l+4), l + (l+2), l + (l+1); blocks rising."""
    half = LANES // 2
    while half:
        values = values[..., :half] + values[..., half:]
        half //= 2
    total = np.zeros(values.shape[:-2], F)
    for block in range(values.shape[-2]):
        total = total + values[..., block, 0]
    return total


def chain(start: np.ndarray | np.float32, weights: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """start + weights @ inputs, inputs rising: any shape that fits, (J, I), (..., I, C, L) -> (..., J, C, L)."""
    total = np.asarray(start)
    for i in range(weights.shape[1]):
        total = total + weights[:, i, None, None] * inputs[..., i, None, :, :]
    return total


def outer(delta: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """A weight's gradient: (T, J, C, L), (T, I, C, L) -> (J, I). A lane adds over time rising, then `over_lanes`."""
    total = np.zeros((delta.shape[1], inputs.shape[1], *delta.shape[2:]), F)
    for t in range(len(delta)):
        total = total + delta[t][:, None] * inputs[t][None]
    return over_lanes(total)


def over_time(delta: np.ndarray) -> np.ndarray:
    """A bias's gradient: (T, J, C, L) -> (J,), in the order of `outer`."""
    total = np.zeros(delta.shape[1:], F)
    for t in range(len(delta)):
        total = total + delta[t]
    return over_lanes(total)


def column(bias: np.ndarray) -> np.ndarray:
    return bias[:, None, None]


def tanh(x: np.ndarray) -> np.ndarray:
    """Clamped odd 13 / even 6 rational approximation; absolute error below 4e-7."""
    x = np.where(x < TANH_CLAMP, x, TANH_CLAMP)
    x = np.where(x > -TANH_CLAMP, x, -TANH_CLAMP)
    square = x * x
    p, q = TANH_P[0], TANH_Q[0]
    for coefficient in TANH_P[1:]:
        p = p * square + coefficient
    for coefficient in TANH_Q[1:]:
        q = q * square + coefficient
    return (p * x) / q


def sigmoid(x: np.ndarray) -> np.ndarray:
    return tanh(x * F(0.5)) * F(0.5) + F(0.5)


@dataclass
class LinearPass:
    """Affine map at every time step: a chain from the bias."""

    weight: np.ndarray  # (J, I)
    bias: np.ndarray  # (J,)

    def forward(self, inputs: np.ndarray) -> np.ndarray:
        self.inputs = inputs
        self.output = chain(column(self.bias), self.weight, inputs)
        return self.output

    def backward(self, delta: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        below = chain(F(0), self.weight.T, delta)
        return below, [outer(delta, self.inputs), over_time(delta)]


@dataclass
class ReluPass:
    def forward(self, inputs: np.ndarray) -> np.ndarray:
        self.output = np.where(inputs > 0, inputs, F(0))
        return self.output

    def backward(self, delta: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        return np.where(self.output > 0, delta, F(0)), []


@dataclass
class GruPass:
    """PyTorch's GRU cell, gates in the order r, z, n. The hidden state starts at zero."""

    weight_ih: np.ndarray  # (3H, I)
    weight_hh: np.ndarray  # (3H, H)
    bias_ih: np.ndarray  # (3H,)
    bias_hh: np.ndarray  # (3H,)

    def forward(self, inputs: np.ndarray) -> np.ndarray:
        length, _, *block = inputs.shape
        h = self.weight_hh.shape[1]
        both = column(self.bias_ih + self.bias_hh)[: 2 * h]
        hidden = np.zeros((length + 1, h, *block), F)
        self.gates = np.empty((4, length, h, *block), F)  # r, z, n, and g: what the hidden state says to n
        for t in range(length):
            x, before = inputs[t], hidden[t]
            rz = chain(chain(both, self.weight_ih[: 2 * h], x), self.weight_hh[: 2 * h], before)
            r, z = sigmoid(rz[:h]), sigmoid(rz[h:])
            g = chain(column(self.bias_hh[2 * h :]), self.weight_hh[2 * h :], before)
            n = tanh(chain(column(self.bias_ih[2 * h :]), self.weight_ih[2 * h :], x) + r * g)
            hidden[t + 1] = n + z * (before - n)
            self.gates[:, t] = r, z, n, g
        self.inputs, self.hidden, self.output = inputs, hidden[:-1], hidden[1:]
        return self.output

    def backward(self, delta: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        one = F(1)
        deltas_x, deltas_h = [], []
        carried = np.zeros_like(delta[0])
        for t in reversed(range(len(delta))):
            r, z, n, g = self.gates[:, t]
            d = carried + delta[t]
            dn = (d * (one - z)) * (one - n * n)
            dz = (d * (self.hidden[t] - n)) * (z * (one - z))
            dr = (dn * g) * (r * (one - r))
            deltas_x.append(np.concatenate([dr, dz, dn]))
            deltas_h.append(np.concatenate([dr, dz, dn * r]))
            carried = chain(d * z, self.weight_hh.T, deltas_h[-1])
        dx, dh = np.stack(deltas_x[::-1]), np.stack(deltas_h[::-1])
        below = chain(F(0), self.weight_ih.T, dx)
        return below, [outer(dx, self.inputs), outer(dh, self.hidden), over_time(dx), over_time(dh)]


Pass = LinearPass | ReluPass | GruPass


def layer_parameters(recipe: Recipe, params: np.ndarray) -> list[Pass]:
    """The recipe's layers over views of the flat parameters (P,)."""
    arrays, offset = [], 0
    for _, shape in recipe.shapes:
        size = int(np.prod(shape))
        arrays.append(params[offset : offset + size].reshape(shape))
        offset += size
    rest = iter(arrays)
    passes: list[Pass] = []
    for layer in recipe.network.layers:
        if isinstance(layer, Gru):
            passes.append(GruPass(next(rest), next(rest), next(rest), next(rest)))
        elif isinstance(layer, Linear):
            passes.append(LinearPass(next(rest), next(rest)))
        else:
            passes.append(ReluPass())
    return passes


def forward(passes: list[Pass], inputs: np.ndarray) -> list[Pass]:
    for layer in passes:
        inputs = layer.forward(inputs)
    return passes
