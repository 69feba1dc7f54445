"""Numbers about a network's weights that do not depend on how its hidden units are numbered.

Two networks that differ only in the order (and, after tanh or in a recurrent layer, the sign) of their hidden units
compute the same function, yet their raw weights look unrelated. Axes: N networks, P parameters, F features; H hidden
units, I inputs (of a convolution: of one window), J outputs, B gates.
"""

import numpy as np

from protocol.recipes.layers import GATES, Conv2d, Linear, Recurrent
from protocol.recipes.recipe import Recipe

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
INPUTS_MAX = 128  # columns whose products are features, 8,256 numbers; more are projected to this many


def split_layers(recipe: Recipe, weights_NP: np.ndarray) -> dict[str, np.ndarray]:
    """Flat weights -> views by array name, each (N, *shape)."""
    return recipe.split(weights_NP)


def invariants(recipe: Recipe, weights_NP: np.ndarray) -> np.ndarray:
    """(N, F) float64: what the first weights do with each pair of inputs, the last with each pair of outputs.

    First layer, gate by gate: W^T W (I x I), of a convolution over the pixels of a window. Last layer, unless it is
    recurrent: W W^T (J x J) and its bias. Both are exact under any permutation or sign of hidden units. More than
    INPUTS_MAX inputs or outputs are projected first, by `narrowed`. Then mean, deviation and quantiles of every array:
    exact under permutation only.
    """
    arrays = split_layers(recipe, np.asarray(weights_NP, np.float64))
    (i, first), (j, last) = weighted_layers(recipe)[0], weighted_layers(recipe)[-1]
    gates = np.split(rows(arrays[weight_name(i, first)]), GATES.get(type(first), 1), axis=1)
    blocks = [upper(gram(narrowed(gate))) for gate in gates]
    if not isinstance(last, Recurrent):
        out = np.swapaxes(rows(arrays[weight_name(j, last)]), 1, 2)
        blocks += [upper(gram(narrowed(out))), arrays[f"{j}.bias"]]
    return np.concatenate([*blocks, array_statistics(recipe, weights_NP)], axis=1)


def array_statistics(recipe: Recipe, weights_NP: np.ndarray) -> np.ndarray:
    """(N, 7 an array) float64: mean, deviation and five quantiles of every array; any architecture, any numbering."""
    columns = []
    for array in split_layers(recipe, np.asarray(weights_NP, np.float64)).values():
        flat = array.reshape(len(array), -1)
        columns += [flat.mean(1, keepdims=True), flat.std(1, keepdims=True), row_quantiles(flat)]
    return np.concatenate(columns, axis=1)


def row_quantiles(flat_NV: np.ndarray) -> np.ndarray:
    """(N, 5) QUANTILES of each row: np.quantile's, bit for bit, in a third of its time. NaN in a row: all are NaN."""
    sorted_NV = np.sort(flat_NV, axis=1)
    last, columns = sorted_NV.shape[1] - 1, []
    for quantile in QUANTILES:
        at = quantile * last
        share = at - int(at)
        low_N, high_N = sorted_NV[:, int(at)], sorted_NV[:, min(int(at) + 1, last)]
        step_N = high_N - low_N
        columns.append(high_N - step_N * (1 - share) if share >= 0.5 else low_N + step_N * share)
    return np.where(np.isnan(sorted_NV[:, [-1]]), np.nan, np.stack(columns, axis=1))


def weighted_layers(recipe: Recipe) -> list[tuple[int, Linear | Conv2d | Recurrent]]:
    """(place, layer) of the layers with a weight matrix; norms are not among them."""
    return [
        (i, layer) for i, layer in enumerate(recipe.network.layers) if isinstance(layer, Linear | Conv2d | Recurrent)
    ]


def weight_name(i: int, layer: Linear | Conv2d | Recurrent) -> str:
    """The array through which layer `i` reads its inputs."""
    return f"{i}.weight_ih_l0" if isinstance(layer, Recurrent) else f"{i}.weight"


def rows(weight: np.ndarray) -> np.ndarray:
    """(N, H, I, kernel, kernel) or (N, H, I) -> (N, H, all that a unit reads)."""
    return weight.reshape(*weight.shape[:2], -1)


def gram(x_NHI: np.ndarray) -> np.ndarray:
    """(N, I, I): X^T X."""
    return np.swapaxes(x_NHI, 1, 2) @ x_NHI


def narrowed(x_NHI: np.ndarray, most: int | None = INPUTS_MAX) -> np.ndarray:
    """(N, H, min(I, most)): wide matrices times one fixed Gaussian matrix, the same for all networks.

    Gram matrices of the result keep every symmetry exactly and their inner products on average.
    """
    inputs = x_NHI.shape[2]
    return x_NHI if most is None or inputs <= most else x_NHI @ projection(inputs, most)


def projection(inputs: int, most: int) -> np.ndarray:
    """(inputs, most): Gaussian, the same at every call."""
    return np.random.default_rng([inputs, most]).normal(size=(inputs, most)) / np.sqrt(most)


def standardized(features_NF: np.ndarray) -> np.ndarray:
    """(N, F) float64: mean 0, deviation 1, cut at 5 deviations, so that one dead network does not set the scale."""
    centred_NF = features_NF - features_NF.mean(0)
    deviation_F = centred_NF.std(0)
    return np.clip(centred_NF / np.where(deviation_F > 0, deviation_F, 1), -5, 5)


def layer_norms(recipe: Recipe, weights_NP: np.ndarray) -> np.ndarray:
    """(N, arrays) float64: how large each array is, and nothing else. What training length alone would show."""
    arrays = split_layers(recipe, np.asarray(weights_NP, np.float64))
    return np.stack([np.sqrt((array.reshape(len(array), -1) ** 2).sum(1)) for array in arrays.values()], axis=1)


def upper(matrices: np.ndarray) -> np.ndarray:
    """(N, D, D) symmetric -> (N, D (D+1) / 2)."""
    i, j = np.triu_indices(matrices.shape[1])
    return matrices[:, i, j]
