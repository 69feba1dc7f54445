"""The NumPy backend: slow, readable, and with docs/exact_arithmetic.md the specification of `exact-2`.

Arithmetic is IEEE-754 binary32 by float32 ufuncs, one rounding an operation, only + - * / sqrt, comparisons and `fma`.
Every sum is written out in its order: no np.sum, no matmul. Reading order: `arithmetic`, `passes`, `passes_image`,
`losses`.
"""

import math
from collections.abc import Callable

import numpy as np

from protocol.engine import Evaluation, State
from protocol.engine.reference.arithmetic import LANES, F, fma
from protocol.engine.reference.losses import count_correct, loss_and_delta
from protocol.engine.reference.passes import (
    DropoutPass,
    GruPass,
    LastPass,
    LeakyReluPass,
    LinearPass,
    LstmPass,
    NormPass,
    ReluPass,
    RnnPass,
    SigmoidPass,
    TanhPass,
)
from protocol.engine.reference.passes_image import ConvPass, PoolPass
from protocol.engine.schedule import step_sizes
from protocol.engine.streams import batch_order, dropout_draw, dropout_key
from protocol.recipes.layers import (
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    Flow,
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
    Relu,
    Rnn,
    Sigmoid,
    Tanh,
)
from protocol.recipes.recipe import Recipe, Training
from protocol.tasks.data import TaskData

Pass = (
    LinearPass
    | GruPass
    | LstmPass
    | RnnPass
    | LastPass
    | ReluPass
    | LeakyReluPass
    | TanhPass
    | SigmoidPass
    | DropoutPass
    | NormPass
    | ConvPass
    | PoolPass
)


SQUARES = 64  # sums that the squares of a gradient go to


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
        return self.evaluate(recipe, data, params).loss

    def evaluate(self, recipe: Recipe, data: TaskData, params: list[np.ndarray]) -> Evaluation:
        rows, loss = np.arange(len(data.held_out_inputs)), recipe.training.loss
        inputs, targets = load(recipe, data.held_out_inputs, data.held_out_targets, rows)
        losses, correct = [], []
        for flat in params:
            outputs = forward(network_passes(recipe, flat, 0), inputs, None)
            losses.append(loss_and_delta(loss, outputs, targets, len(rows))[0])
            correct.append(count_correct(loss, outputs, targets, len(rows)))
        return Evaluation.of(recipe, np.array(losses, F), np.array(correct, np.int64))


def train_one(recipe: Recipe, data: TaskData, seed: int, state: State, steps: int) -> tuple[State, list[np.float32]]:
    """`steps` steps of one network: (new state, the loss of each step's batch before the step)."""
    params, moments = state.params.copy(), state.moments.copy()
    order, sizes = batch_order(recipe, seed, state.step, steps), step_sizes(recipe, state.step, steps)
    losses = []
    for s in range(steps):
        step = state.step + s
        loss, gradient = loss_and_gradient(recipe, params, data, order[s], seed, step)
        resist = recipe.training.resist
        if resist is not None and step >= resist.begin:
            moved = corrupted(params, gradient, F(resist.radius))
            there = loss_and_gradient(recipe, moved, data, order[s], seed, step)[1]
            gradient = fma(there, F(resist.share), gradient * F(1.0 - resist.share))
        params, moments = optimize(recipe.training, sizes[s], params, moments, gradient)
        losses.append(loss)
    return State(step=state.step + steps, params=params, moments=moments), losses


def loss_and_gradient(
    recipe: Recipe, params: np.ndarray, data: TaskData, rows: np.ndarray, seed: int = 0, step: int = 0
) -> tuple[np.float32, np.ndarray]:
    """Mean loss over every sample and target of a batch, and its gradient (P,)."""
    passes = network_passes(recipe, params, seed)
    inputs, targets = load(recipe, data.inputs, data.targets, rows)
    outputs = forward(passes, inputs, step)
    loss, delta = loss_and_delta(recipe.training.loss, outputs, targets, len(rows))
    gradients: list[np.ndarray] = []
    for layer in reversed(passes):
        delta, arrays = layer.backward(delta)
        gradients = arrays + gradients
    return loss, np.concatenate([g.reshape(-1) for g in gradients])


def optimize(
    t: Training, sizes: np.ndarray, params: np.ndarray, moments: np.ndarray, gradient: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One step: (params, moments) -> (params, moments). `sizes` is a row of `schedule.step_sizes`."""
    first, second = moments
    rate, correction, shrink = sizes
    decay, momentum, epsilon = F(t.weight_decay), F(t.momentum), F(t.epsilon)
    if t.clip_norm > 0:
        gradient = clip(gradient, F(t.clip_norm))
    if t.weight_decay > 0 and t.optimizer == "adamw":
        params = fma(-params, shrink, params)
    elif t.weight_decay > 0:
        gradient = fma(params, decay, gradient)
    if t.optimizer == "sgd" and not t.momentum:
        params = fma(-gradient, rate, params)
    elif t.optimizer == "sgd":
        first = fma(first, momentum, gradient)
        params = fma(-(fma(first, momentum, gradient) if t.nesterov else first), rate, params)
    elif t.optimizer == "rmsprop":
        second = fma(second, F(t.alpha), (gradient * gradient) * F(1.0 - t.alpha))
        move = gradient / (np.sqrt(second) + epsilon)
        if t.momentum:
            move = first = fma(first, momentum, move)
        params = fma(-move, rate, params)
    else:
        first = fma(first, F(t.beta1), gradient * F(1.0 - t.beta1))
        second = fma(second, F(t.beta2), (gradient * gradient) * F(1.0 - t.beta2))
        params = params - (first * rate) / fma(np.sqrt(second), correction, epsilon)
    return params, np.stack([first, second])


def corrupted(params: np.ndarray, gradient: np.ndarray, radius: np.float32) -> np.ndarray:
    """The parameters moved along the gradient by `radius` of their own norm."""
    return fma(gradient, (radius * norm(params)) / (norm(gradient) + F(1e-12)), params)


def clip(gradient: np.ndarray, limit: np.float32) -> np.ndarray:
    """Scaled so that the norm is at most `limit`."""
    scale = limit / (norm(gradient) + F(1e-6))
    return gradient * scale if scale < F(1) else gradient


def norm(values: np.ndarray) -> np.float32:
    """Of a vector (P,): squares go to 64 sums in turn, then a tree like that over lanes."""
    padded = np.zeros(-(-len(values) // SQUARES) * SQUARES, F)
    padded[: len(values)] = values
    total = np.zeros(SQUARES, F)
    for row in padded.reshape(-1, SQUARES):
        total = fma(row, row, total)
    while len(total) > 1:
        total = total[: len(total) // 2] + total[len(total) // 2 :]
    return np.sqrt(total[0])


def load(recipe: Recipe, inputs: np.ndarray, targets: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Samples -> inputs (T, features, C, L) float32; targets likewise, or class numbers (T, C, L) int32."""
    values = lanes(inputs[rows].reshape(len(rows), recipe.task_shape.length, -1))
    if inputs.dtype == np.uint8:
        values = values * F(recipe.task_shape.scale)
    if recipe.task_shape.target == "classes":
        return values, lanes(targets[rows][..., None])[:, 0].astype(np.int32)
    return values, lanes(targets[rows])


def lanes(values: np.ndarray) -> np.ndarray:
    """(B, T, width) -> (T, width, C, L) float32; lanes past the last row are zero."""
    blocks = -(-len(values) // LANES)
    padded = np.zeros((blocks * LANES, *values.shape[1:]), F)
    padded[: len(values)] = values
    return np.ascontiguousarray(np.moveaxis(padded.reshape(blocks, LANES, *values.shape[1:]), (0, 1), (2, 3)))


def network_passes(recipe: Recipe, params: np.ndarray, seed: int) -> list[Pass]:
    """The recipe's layers over views of the flat parameters (P,)."""
    passes: list[Pass] = []
    views = recipe.split(params)
    for index, (layer, flow) in enumerate(zip(recipe.network.layers, recipe.flows, strict=False)):
        arrays = [views[span.name] for span in recipe.spans if span.layer == index]
        if isinstance(layer, Dropout):
            passes.append(DropoutPass(*dropout_draw(layer), dropout_key(recipe, seed, index)))
        elif not isinstance(layer, Flatten):  # features of an image are in order already
            passes.append(_layer_pass(layer, flow, arrays))
    return passes


def _layer_pass(layer: Layer, flow: Flow, arrays: list[np.ndarray]) -> Pass:
    if isinstance(layer, Conv2d):
        return ConvPass(arrays[0], arrays[1], flow.shape, layer.stride, layer.padding)
    if isinstance(layer, MaxPool2d | AvgPool2d):
        kernel = layer.kernel, layer.kernel
        return PoolPass(isinstance(layer, MaxPool2d), flow.shape, kernel, layer.stride or layer.kernel)
    if isinstance(layer, GlobalAvgPool):
        return PoolPass(False, flow.shape, (flow.shape[1], flow.shape[2]), 1)
    if isinstance(layer, LayerNorm):
        return NormPass(arrays[0], arrays[1], 1, 1, F(layer.epsilon))
    if isinstance(layer, GroupNorm):
        return NormPass(arrays[0], arrays[1], layer.groups, math.prod(flow.shape[1:]), F(layer.epsilon))
    if isinstance(layer, LeakyRelu):
        return LeakyReluPass(F(layer.slope))
    return SIMPLE_PASSES[type(layer)](*arrays)


SIMPLE_PASSES: dict[type, Callable[..., Pass]] = {  # of layers that their arrays say all about
    Linear: LinearPass,
    Gru: GruPass,
    Lstm: LstmPass,
    Rnn: RnnPass,
    Last: LastPass,
    Relu: ReluPass,
    Tanh: TanhPass,
    Sigmoid: SigmoidPass,
}


def forward(passes: list[Pass], inputs: np.ndarray, step: int | None) -> np.ndarray:
    for layer in passes:
        inputs = layer.forward(inputs, step)
    return inputs
