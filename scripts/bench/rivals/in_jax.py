"""JAX's way to train the same networks: vmap over networks, lax.scan over time and over steps, one jitted function.

Needs `pip install jax` (0.10 was tried); nothing else of the project does. float32, on the processor, one thread as far
as XLA can be told: the flags below are read when jax is first imported.
"""

import os

os.environ["JAX_PLATFORMS"] = "cpu"  # gpu.py says otherwise before anything is computed
os.environ["XLA_FLAGS"] = " ".join(
    [os.environ.get("XLA_FLAGS", ""), "--xla_cpu_multi_thread_eigen=false", "intra_op_parallelism_threads=1"]
).strip()

import jax  # pyright: ignore[reportMissingImports] - only where JAX is measured
import jax.numpy as jnp  # pyright: ignore[reportMissingImports] - only where JAX is measured
import numpy as np
from jax import lax  # pyright: ignore[reportMissingImports] - only where JAX is measured

from protocol.engine.initial import initial_state
from protocol.engine.streams import batch_order
from protocol.recipes.layers import (
    AvgPool2d,
    Conv2d,
    Flatten,
    Gru,
    Last,
    Layer,
    Linear,
    Lstm,
    MaxPool2d,
    Recurrent,
    Relu,
    Sigmoid,
    Tanh,
)
from protocol.recipes.recipe import Recipe
from protocol.tasks.data import TaskData

ORDER_STEPS = 1000  # batches prepared in advance; then the same ones again
ACTIVATIONS = {Relu: jax.nn.relu, Tanh: jnp.tanh, Sigmoid: jax.nn.sigmoid}
Params = dict[str, jax.Array]


class JaxLoop:
    """K networks at once."""

    def __init__(self, recipe: Recipe, data: TaskData, seeds: list[int]):
        self.networks, self.recipe, self.at = len(seeds), recipe, 0
        shape = recipe.task_shape
        inputs = np.asarray(data.inputs, np.float32)
        inputs = inputs * np.float32(shape.scale) if data.inputs.dtype == np.uint8 else inputs
        self.inputs = jnp.asarray(inputs[:, 0] if shape.length == 1 else inputs)
        self.targets = jnp.asarray(data.targets[:, 0] if shape.target_length == 1 else data.targets)
        self.orders_NKB = np.stack([batch_order(recipe, seed, 0, ORDER_STEPS) for seed in seeds], 1)
        starts = [recipe.split(initial_state(recipe, seed).params) for seed in seeds]
        params = {name: jnp.stack([start[name] for start in starts]) for name in starts[0]}
        self.state = (params, jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params))
        self._train = jax.jit(self._scan, donate_argnums=0)

    def run(self, steps: int) -> np.ndarray:
        """Trains; returns the training losses (K, N). A new N is compiled anew."""
        rows_NKB = self.orders_NKB[np.arange(self.at, self.at + steps) % ORDER_STEPS]
        self.state, losses_NK = self._train(self.state, rows_NKB, self.at, self.inputs, self.targets)
        self.at += steps
        return np.asarray(losses_NK).T

    def _scan(self, state, rows_NKB, at, inputs, targets):
        def step(carry, rows_KB):
            state, count = carry

            def one(state, rows):
                return self._step(state, count + 1, inputs[rows], targets[rows])

            state, loss_K = jax.vmap(one)(state, rows_KB)
            return (state, count + 1), loss_K

        (state, _), losses_NK = lax.scan(step, (state, jnp.float32(at)), rows_NKB)
        return state, losses_NK

    def _step(self, state, count, values, wanted):
        """One network's step: Adam (Kingma and Ba 2015, algorithm 1) after clipping."""
        params, first, second = state
        t = self.recipe.training
        loss, gradients = jax.value_and_grad(lambda p: self._loss(p, values, wanted))(params)
        if t.clip_norm:
            norm = jnp.sqrt(sum(jnp.sum(jnp.square(g)) for g in jax.tree.leaves(gradients)))
            factor = jnp.minimum(1.0, t.clip_norm / (norm + 1e-6))
            gradients = jax.tree.map(lambda g: factor * g, gradients)
        first = jax.tree.map(lambda m, g: t.beta1 * m + (1 - t.beta1) * g, first, gradients)
        second = jax.tree.map(lambda v, g: t.beta2 * v + (1 - t.beta2) * g * g, second, gradients)
        rate, root = t.learning_rate / (1 - t.beta1**count), jnp.sqrt(1 - t.beta2**count)
        params = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) / root + t.epsilon), params, first, second)
        return (params, first, second), loss

    def _loss(self, params: Params, values: jax.Array, wanted: jax.Array) -> jax.Array:
        for i, layer in enumerate(self.recipe.network.layers):
            arrays = {name.partition(".")[2]: a for name, a in params.items() if name.partition(".")[0] == str(i)}
            values = apply(layer, arrays, values)
        if self.recipe.training.loss == "cross_entropy":
            return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(values), wanted[:, None], 1))
        if self.recipe.training.loss == "mse":
            return jnp.mean(jnp.square(values - wanted))
        return jnp.mean(jax.nn.softplus(values) - wanted * values)  # binary cross-entropy with logits


def apply(layer: Layer, arrays: Params, values: jax.Array) -> jax.Array:
    """One layer on a batch, (B, T, features), (B, features) or (B, C, H, W). Raises NotImplementedError."""
    if isinstance(layer, Recurrent):
        return recur(layer, arrays, values)
    if isinstance(layer, Linear):
        return values @ arrays["weight"].T + arrays["bias"]
    if isinstance(layer, Conv2d):
        pads = [(layer.padding, layer.padding)] * 2
        out = lax.conv_general_dilated(values, arrays["weight"], (layer.stride,) * 2, pads)
        return out + arrays["bias"][:, None, None]
    if isinstance(layer, MaxPool2d | AvgPool2d):
        return pool(layer, values)
    if isinstance(layer, Last):
        return values[:, -1]
    if isinstance(layer, Flatten):
        return values.reshape(len(values), -1)
    if type(layer) in ACTIVATIONS:
        return ACTIVATIONS[type(layer)](values)
    raise NotImplementedError(f"no {type(layer).__name__} in rivals/in_jax.py")


def pool(layer: MaxPool2d | AvgPool2d, values: jax.Array) -> jax.Array:
    stride = layer.stride or layer.kernel
    window, strides = (1, 1, layer.kernel, layer.kernel), (1, 1, stride, stride)
    if isinstance(layer, MaxPool2d):
        return lax.reduce_window(values, -jnp.inf, lax.max, window, strides, "VALID")
    return lax.reduce_window(values, 0.0, lax.add, window, strides, "VALID") / layer.kernel**2


def recur(layer: Recurrent, arrays: Params, values: jax.Array) -> jax.Array:
    """PyTorch's cells; the inputs' products of all time steps are one product before the scan."""
    into_TBG = (values @ arrays["weight_ih_l0"].T + arrays["bias_ih_l0"]).swapaxes(0, 1)
    weight, bias = arrays["weight_hh_l0"].T, arrays["bias_hh_l0"]

    def gru(hidden, into):
        reset_in, update_in, new_in = jnp.split(into, 3, -1)
        reset_h, update_h, new_h = jnp.split(hidden @ weight + bias, 3, -1)
        update = jax.nn.sigmoid(update_in + update_h)
        new = jnp.tanh(new_in + jax.nn.sigmoid(reset_in + reset_h) * new_h)
        hidden = new + update * (hidden - new)
        return hidden, hidden

    def lstm(carry, into):
        hidden, cell = carry
        enter, forget, new, out = jnp.split(into + hidden @ weight + bias, 4, -1)
        cell = jax.nn.sigmoid(forget) * cell + jax.nn.sigmoid(enter) * jnp.tanh(new)
        hidden = jax.nn.sigmoid(out) * jnp.tanh(cell)
        return (hidden, cell), hidden

    def rnn(hidden, into):
        hidden = jnp.tanh(into + hidden @ weight + bias)
        return hidden, hidden

    start = jnp.zeros((len(values), layer.width), jnp.float32)
    if isinstance(layer, Lstm):
        return lax.scan(lstm, (start, start), into_TBG)[1].swapaxes(0, 1)
    return lax.scan(gru if isinstance(layer, Gru) else rnn, start, into_TBG)[1].swapaxes(0, 1)
