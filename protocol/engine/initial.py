"""Initial states: uniform or normal draws from a recipe's stream, or an orthogonal matrix made of them."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from protocol.engine import Engine, State
from protocol.recipes.layers import GroupNorm, LayerNorm, Recurrent
from protocol.recipes.recipe import Network, Recipe
from protocol.tasks.philox import StreamKey, stream_key, uniform_of_each, words_of_each

DRAWN_TOGETHER = 1 << 16  # parameters, so that the draws stay in the caches
HALVES_MEAN = 8 * 32767.5  # of the sum of eight 16-bit numbers
HALVES_SCALE = 1 / 53509.91992145008  # its standard deviation, sqrt(8 * (65536^2 - 1) / 12)

Orthogonal = Callable[[list[StreamKey], int, int, int], np.ndarray]


def initial_state(recipe: Recipe, seed: int) -> State:
    """Step 0: parameters as `network.init` says, moments zero. Parameter p takes its own words of the stream."""
    return initial_states(recipe, [seed])[0]


def initial_states(recipe: Recipe, seeds: Sequence[int], engine: Engine | None = None) -> list[State]:
    """Of many networks, which cost little more than one: K streams are drawn side by side.

    Where `engine` has `orthogonal`, it makes those arrays, in less time and bit for bit as here.
    """
    count, states = recipe.parameter_count, []
    make_orthogonal = getattr(engine, "orthogonal", orthogonal)
    together = max(1, DRAWN_TOGETHER // count)
    for at in range(0, len(seeds), together):
        some = seeds[at : at + together]
        keys = [stream_key("init", recipe.stream_root, recipe.stream_seed("init", seed)) for seed in some]
        params = _pytorch(recipe, keys) if recipe.network.init == "pytorch" else _drawn(recipe, keys, make_orthogonal)
        states += [State(step=0, params=row.copy(), moments=np.zeros((2, count), np.float32)) for row in params]
    return states


def _pytorch(recipe: Recipe, keys: list[StreamKey]) -> np.ndarray:
    """PyTorch's default, (K, P): uniform in ±1/sqrt(n), n = hidden width or fan in; norms 1 and 0.

    (2u - 1) is exact, so there is one rounding, that of the product.
    """
    bounds = np.empty(recipe.parameter_count, np.float32)
    first_shape = {span.layer: span.shape for span in reversed(recipe.spans)}
    for span in recipe.spans:
        layer = recipe.network.layers[span.layer]
        fan = layer.width if isinstance(layer, Recurrent) else math.prod(first_shape[span.layer][1:])
        bounds[span.begin : span.end] = 1.0 / np.sqrt(np.float64(fan))
    params = (uniform_of_each(keys, recipe.parameter_count) * np.float32(2) - np.float32(1)) * bounds
    for span in recipe.spans:
        if isinstance(recipe.network.layers[span.layer], LayerNorm | GroupNorm):
            params[:, span.begin : span.end] = span.name.endswith(".weight")
    return params


def _drawn(recipe: Recipe, keys: list[StreamKey], make_orthogonal: Orthogonal) -> np.ndarray:
    """Weights by torch.nn.init's function of the name, for each array by itself; biases 0; norms 1 and 0. (K, P)"""
    params = np.zeros((len(keys), recipe.parameter_count), np.float32)
    for span in recipe.spans:
        name = span.name.partition(".")[2]
        if isinstance(recipe.network.layers[span.layer], LayerNorm | GroupNorm):
            params[:, span.begin : span.end] = name == "weight"
        elif name.startswith("weight"):
            params[:, span.begin : span.end] = _weights(recipe.network, span.shape, keys, span.begin, make_orthogonal)
    return params


def _weights(
    network: Network, shape: tuple[int, ...], keys: list[StreamKey], at: int, make_orthogonal: Orthogonal
) -> np.ndarray:
    """One weight array of K networks, (K, count) float32; `at` is its first parameter's number."""
    count, place = math.prod(shape), math.prod(shape[2:])
    fan_in, fan_out = shape[1] * place, shape[0] * place
    if network.init == "constant":
        return np.full((len(keys), count), network.init_value, np.float32)
    if network.init == "orthogonal":
        flat = make_orthogonal(keys, at, shape[0], fan_in)
        return (flat.reshape(len(keys), -1) * network.init_gain).astype(np.float32)
    spread = 2.0 / (fan_in + fan_out) if network.init == "xavier" else 2.0 / fan_in
    if network.init_draw == "normal":
        return (normals(keys, count, at) * (network.init_gain * np.sqrt(spread))).astype(np.float32)
    bound = np.float32(network.init_gain * np.sqrt(3.0 * spread))
    return (uniform_of_each(keys, count, at) * np.float32(2) - np.float32(1)) * bound


def normals(keys: list[StreamKey], count: int, start: int) -> np.ndarray:
    """Nearly normal draws, (K, count) float64: the sum of the eight 16-bit halves of four words, centred and scaled."""
    four = words_of_each(keys, 4 * count, 4 * start).reshape(len(keys), count, 4).astype(np.int64)
    total = ((four & 0xFFFF) + (four >> 16)).sum(axis=-1)  # integers: any order
    return (total.astype(np.float64) - HALVES_MEAN) * HALVES_SCALE


def orthogonal(keys: list[StreamKey], start: int, rows: int, columns: int) -> np.ndarray:
    """Matrices of normal draws, made orthonormal by rows, or by columns where those are fewer: (K, R, C) float64."""
    matrix = normals(keys, rows * columns, start).reshape(len(keys), rows, columns)
    return orthonormal(matrix) if rows <= columns else orthonormal(matrix.swapaxes(1, 2).copy()).swapaxes(1, 2)


def orthonormal(rows: np.ndarray) -> np.ndarray:
    """Gram and Schmidt, modified: each row is scaled to length 1 and taken out of the rows after it. (K, R, N) float64.

    A product's terms are added by halves: the second half of the row onto the first, until one is left.
    """
    rows = rows.copy()
    for r in range(rows.shape[1]):
        row = rows[:, r]
        row /= np.sqrt(halving_sum(row * row))[:, None]
        below = rows[:, r + 1 :]
        below -= halving_sum(below * row[:, None])[..., None] * row[:, None]
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
