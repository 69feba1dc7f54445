"""Chain-normalized features: products of weight matrices from the inputs onward, in which hidden numbering cancels.

The idea is the chain rule of Wang et al. (arXiv 2208.04369; formulas from the authors' code of its 2019 predecessor,
the 2022 text could not be read). `as_coded` is that code. `canonical` is OURS: exact also under positive scale (ReLU)
and sign (GRU), through every layer of a recurrent network. Axes: N networks, I input bits, H units, F features.
"""

import numpy as np

from analysis.features import split_layers, upper
from analysis.symmetry import balanced, symmetry_spec
from protocol.layers import Gru, Linear
from protocol.recipe import Recipe

CHAINS = ("canonical", "as_coded")


def chains(
    recipe: Recipe, weights_NP: np.ndarray, depth: int | None = None, kind: str = "canonical"
) -> list[np.ndarray]:
    """Matrices (N, H, I): what the units of the last layers within `depth` get from the inputs, gate by gate.

    Their Gram matrices X^T X do not depend on the order (or sign, or with `canonical` the scale) of hidden units.
    depth counts layers with weights; default: all but the last, whose few outputs would squeeze the chain.
    """
    if kind not in CHAINS:
        raise ValueError(f"kind is one of {CHAINS}, not {kind!r}")
    numbered = [(i, layer) for i, layer in enumerate(recipe.network.layers) if isinstance(layer, Gru | Linear)]
    depth = depth or max(1, len(numbered) - 1)
    coded = kind == "as_coded"
    if coded and isinstance(numbered[0][1], Gru):
        depth = 1  # the authors' code stacks the gates of the first layer and goes no deeper
    ready_NP = np.asarray(weights_NP, np.float64) if coded else balanced(symmetry_spec(recipe), weights_NP)
    arrays = split_layers(recipe, ready_NP)
    carried, gates = None, []
    for i, layer in numbered[:depth]:
        weight = arrays[f"{i}.weight_ih_l0" if isinstance(layer, Gru) else f"{i}.weight"]
        if coded and depth > 1:
            length_NI = np.sqrt((weight**2).sum(1, keepdims=True))
            weight = weight / np.where(length_NI > 0, length_NI, 1)
        reached = weight if carried is None else weight @ carried
        gates = np.split(reached, 3, axis=1) if isinstance(layer, Gru) and not coded else [reached]
        carried = gates[-1]  # of a GRU the candidate: it carries the sign of the hidden state
    return gates


def chain_features(
    recipe: Recipe, weights_NP: np.ndarray, depth: int | None = None, kind: str = "canonical"
) -> np.ndarray:
    """(N, F) float64: Gram matrices of the chains. `canonical` without a depth: of every depth, with all products
    that OUR extension knows: biases, recurrent weights between two gates, and the read-out chain to the outputs."""
    if kind == "as_coded" or depth:
        return np.concatenate([upper(_gram(x)) for x in chains(recipe, weights_NP, depth, kind)], axis=1)
    arrays = split_layers(recipe, balanced(symmetry_spec(recipe), weights_NP))
    numbered = [(i, layer) for i, layer in enumerate(recipe.network.layers) if isinstance(layer, Gru | Linear)]
    carried, found = None, []
    for place, (i, layer) in enumerate(numbered):
        last = place == len(numbered) - 1
        if isinstance(layer, Gru):
            gates = np.split(_with_bias(arrays, i, carried), 3, axis=1)
            recurrent = np.split(arrays[f"{i}.weight_hh_l0"], 3, axis=1)
            found += [upper(_gram(x)) for x in gates]
            for gate, inner in zip(gates, recurrent, strict=True):
                found.append((np.swapaxes(gate, 1, 2) @ inner @ gates[-1]).reshape(len(gate), -1))
            reached = gates[-1]
        else:
            weight = arrays[f"{i}.weight"]
            reached = np.concatenate(
                [weight if carried is None else weight @ carried, arrays[f"{i}.bias"][..., None]], 2
            )
            found.append(reached.reshape(len(reached), -1) if last else upper(_gram(reached)))
        carried = reached
    return np.concatenate(found, axis=1)


def _with_bias(arrays: dict[str, np.ndarray], i: int, carried: np.ndarray | None) -> np.ndarray:
    """(N, 3 H, I + 2): input weights of a GRU through the chain so far, and both biases as two inputs more."""
    weight = arrays[f"{i}.weight_ih_l0"]
    columns = [weight if carried is None else weight @ carried]
    columns += [arrays[f"{i}.{name}_l0"][..., None] for name in ("bias_ih", "bias_hh")]
    return np.concatenate(columns, axis=2)


def _gram(x_NHI: np.ndarray) -> np.ndarray:
    return np.swapaxes(x_NHI, 1, 2) @ x_NHI


def chain_kernel(chains_NHI: list[np.ndarray], others_MHI: list[np.ndarray] | None = None) -> np.ndarray:
    """(N, M): inner products of the Gram features, |X_a X_b^T|^2, without building I^2 numbers a network.

    Widths H may differ between the two sides. Uses the Gram matrices where I is the smaller side.
    """
    total = 0
    for x, y in zip(chains_NHI, others_MHI or chains_NHI, strict=True):
        if x.shape[2] ** 2 <= 4 * x.shape[1] * y.shape[1]:
            total = total + _gram(x).reshape(len(x), -1) @ _gram(y).reshape(len(y), -1).T
        else:
            total = total + np.stack([((one @ np.swapaxes(y, 1, 2)) ** 2).sum((1, 2)) for one in x])
    return np.asarray(total)


def chain_similarity(chains_NHI: list[np.ndarray]) -> np.ndarray:
    """(N, N) in [0, 1]: cosine of the Gram features, an uncentred linear CKA with input coordinates as samples."""
    kernel_NN = chain_kernel(chains_NHI)
    size_N = np.sqrt(np.maximum(np.diag(kernel_NN), 1e-300))
    return np.clip(kernel_NN / size_N[:, None] / size_N, 0, 1)


def chain_distance(chains_NHI: list[np.ndarray]) -> np.ndarray:
    """(N, N): the angle arccos of `chain_similarity`, a metric."""
    angle_NN = np.arccos(chain_similarity(chains_NHI))
    np.fill_diagonal(angle_NN, 0)
    return angle_NN
