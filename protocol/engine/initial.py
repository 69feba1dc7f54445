"""Initial states: uniform or normal draws from a recipe's stream, or an orthogonal matrix made of them."""

import math

import numpy as np

from protocol.engine import State
from protocol.recipes.layers import GroupNorm, LayerNorm, Recurrent
from protocol.recipes.recipe import Network, Recipe
from protocol.tasks.philox import StreamKey, random_words, stream_key, uniform

HALVES_MEAN = 8 * 32767.5  # of the sum of eight 16-bit numbers
HALVES_SCALE = 1 / 53509.91992145008  # its standard deviation, sqrt(8 * (65536^2 - 1) / 12)


def initial_state(recipe: Recipe, seed: int) -> State:
    """Step 0: parameters as `network.init` says, moments zero. Parameter p takes its own words of the stream."""
    count = recipe.parameter_count
    key = stream_key("init", recipe.stream_root, recipe.stream_seed("init", seed))
    params = _pytorch(recipe, key) if recipe.network.init == "pytorch" else _drawn(recipe, key)
    return State(step=0, params=params, moments=np.zeros((2, count), np.float32))


def _pytorch(recipe: Recipe, key: StreamKey) -> np.ndarray:
    """PyTorch's default: uniform in ±1/sqrt(n), n = hidden width or fan in; norms 1 and 0.

    (2u - 1) is exact, so there is one rounding, that of the product.
    """
    bounds = np.empty(recipe.parameter_count, np.float32)
    first_shape = {span.layer: span.shape for span in reversed(recipe.spans)}
    for span in recipe.spans:
        layer = recipe.network.layers[span.layer]
        fan = layer.width if isinstance(layer, Recurrent) else math.prod(first_shape[span.layer][1:])
        bounds[span.begin : span.end] = 1.0 / np.sqrt(np.float64(fan))
    params = (uniform(key, recipe.parameter_count) * np.float32(2) - np.float32(1)) * bounds
    for span in recipe.spans:
        if isinstance(recipe.network.layers[span.layer], LayerNorm | GroupNorm):
            params[span.begin : span.end] = span.name.endswith(".weight")
    return params


def _drawn(recipe: Recipe, key: StreamKey) -> np.ndarray:
    """Weights by torch.nn.init's function of the name, for each array by itself; biases 0; norms 1 and 0."""
    params = np.zeros(recipe.parameter_count, np.float32)
    for span in recipe.spans:
        name = span.name.partition(".")[2]
        if isinstance(recipe.network.layers[span.layer], LayerNorm | GroupNorm):
            params[span.begin : span.end] = name == "weight"
        elif name.startswith("weight"):
            params[span.begin : span.end] = _weights(recipe.network, span.shape, key, span.begin)
    return params


def _weights(network: Network, shape: tuple[int, ...], key: StreamKey, at: int) -> np.ndarray:
    """One weight array, flat float32; `at` is its first parameter's number."""
    count, place = math.prod(shape), math.prod(shape[2:])
    fan_in, fan_out = shape[1] * place, shape[0] * place
    if network.init == "constant":
        return np.full(count, network.init_value, np.float32)
    if network.init == "orthogonal":
        matrix = normals(key, count, at).reshape(shape[0], fan_in)
        flat = orthonormal(matrix) if shape[0] <= fan_in else orthonormal(matrix.T.copy()).T
        return (flat.reshape(-1) * network.init_gain).astype(np.float32)
    spread = 2.0 / (fan_in + fan_out) if network.init == "xavier" else 2.0 / fan_in
    if network.init_draw == "normal":
        return (normals(key, count, at) * (network.init_gain * np.sqrt(spread))).astype(np.float32)
    bound = np.float32(network.init_gain * np.sqrt(3.0 * spread))
    return (uniform(key, count, at) * np.float32(2) - np.float32(1)) * bound


def normals(key: StreamKey, count: int, start: int) -> np.ndarray:
    """Nearly normal draws, (count,) float64: the sum of the eight 16-bit halves of four words, centred and scaled."""
    four = random_words(key, 4 * count, 4 * start).reshape(count, 4).astype(np.int64)
    total = ((four & 0xFFFF) + (four >> 16)).sum(axis=1)  # integers: any order
    return (total.astype(np.float64) - HALVES_MEAN) * HALVES_SCALE


def orthonormal(rows: np.ndarray) -> np.ndarray:
    """Gram and Schmidt, modified: each row is scaled to length 1 and taken out of the rows after it. (R, N) float64.

    A product's terms are added by halves: the second half of the row onto the first, until one is left.
    """
    rows = rows.copy()
    for r in range(len(rows)):
        rows[r] = rows[r] / np.sqrt(halving_sum(rows[r] * rows[r]))
        below = rows[r + 1 :]
        rows[r + 1 :] = below - halving_sum(below * rows[r])[:, None] * rows[r]
    return rows


def halving_sum(values: np.ndarray) -> np.ndarray:
    """(..., N) -> (...): padded with zeros to a power of two, then halves are added."""
    width = 1 << (values.shape[-1] - 1).bit_length()
    padded = np.zeros((*values.shape[:-1], width))
    padded[..., : values.shape[-1]] = values
    while width > 1:
        width //= 2
        padded = padded[..., :width] + padded[..., width:]
    return padded[..., 0]
