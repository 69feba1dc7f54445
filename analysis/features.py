"""Numbers about a network's weights that do not depend on how its hidden units are numbered.

Two networks that differ only in the order (and, for a GRU, the sign) of their hidden units compute the same function,
yet their raw weights look unrelated. Axes: N networks, P parameters, F features; H hidden units, I inputs, J outputs.
"""

import numpy as np

from protocol.recipe import Recipe

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


def split_layers(recipe: Recipe, weights_NP: np.ndarray) -> dict[str, np.ndarray]:
    """Flat weights -> views by array name, each (N, *shape)."""
    arrays, offset = {}, 0
    for name, shape in recipe.shapes:
        size = int(np.prod(shape))
        arrays[name] = weights_NP[:, offset : offset + size].reshape(len(weights_NP), *shape)
        offset += size
    return arrays


def invariants(recipe: Recipe, weights_NP: np.ndarray) -> np.ndarray:
    """(N, F) float64: what the first layer does with each pair of inputs, the last with each pair of outputs.

    First layer, gate by gate: W^T W (I x I). Last layer: W W^T (J x J) and its bias. Both are exact under any
    permutation or sign of hidden units. Then mean, deviation and quantiles of every array.
    """
    arrays = split_layers(recipe, np.asarray(weights_NP, np.float64))
    weights = [name for name, shape in recipe.shapes if len(shape) == 2]
    first, last = arrays[weights[0]], arrays[weights[-1]]
    gates = 3 if "weight_ih" in weights[0] else 1
    blocks = [upper(np.einsum("nhi,nhj->nij", gate, gate)) for gate in np.split(first, gates, axis=1)]
    if "weight_ih" not in weights[-1] and "weight_hh" not in weights[-1]:
        blocks += [upper(np.einsum("nih,njh->nij", last, last)), arrays[weights[-1].replace("weight", "bias")]]
    for array in arrays.values():
        flat = array.reshape(len(array), -1)
        blocks += [flat.mean(1, keepdims=True), flat.std(1, keepdims=True), np.quantile(flat, QUANTILES, axis=1).T]
    return np.concatenate(blocks, axis=1)


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
