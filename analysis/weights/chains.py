"""Chain-normalized features: products of weight matrices from the inputs onward, in which hidden numbering cancels.

The idea is the chain rule of Wang et al. (arXiv 2208.04369; formulas from the authors' code of its 2019 predecessor,
the 2022 text could not be read). `as_coded` is that code: rows normalized in a chain of linear layers, convolutions
contracted over channels with their kernel places kept. `canonical` is OURS: exact also under positive scale (ReLU) and
sign (tanh, recurrent layers), through every layer, with the gains of norms. Activations, strides and pools are left
out of a chain. Axes: N networks, I inputs of a chain, H units, C channels, F features.
"""

from typing import NamedTuple

import numpy as np

from analysis.weights.features import (
    INPUTS_MAX,
    gram,
    narrowed,
    projection,
    rows,
    split_layers,
    upper,
    weight_name,
    weighted_layers,
)
from analysis.weights.symmetry import balanced
from analysis.weights.symmetry_rules import SIGNED_GATES, symmetry_spec
from protocol.recipes.layers import GATES, Conv2d, GroupNorm, LayerNorm, Linear, Recurrent
from protocol.recipes.recipe import Recipe

CHAINS = ("canonical", "as_coded")


def chains(
    recipe: Recipe,
    weights_NP: np.ndarray,
    depth: int | None = None,
    kind: str = "canonical",
    inputs_max: int | None = INPUTS_MAX,
    biases: bool | None = None,
) -> list[np.ndarray]:
    """Matrices (N, H, I): what the units of the last layers within `depth` get from the inputs, gate by gate.

    Their Gram matrices X^T X do not depend on the order (or sign, or with `canonical` the scale) of hidden units.
    depth counts layers with weights; default: all but the last, whose few outputs would squeeze the chain. A chain of
    more than `inputs_max` inputs (kernels multiply: 9, 81, 729) goes through one fixed random projection; None: never.
    With `biases` each is an input more; by default where the task has one input, whose chain would be one number.
    Raises UsageError for layers without known symmetries, ValueError for an unknown `kind`.
    """
    if kind not in CHAINS:
        raise ValueError(f"kind is one of {CHAINS}, not {kind!r}")
    depth = depth or max(1, len(weighted_layers(recipe)) - 1)
    if kind == "as_coded":
        return _coded(recipe, weights_NP, depth, inputs_max)
    return chains_of_all_depths(recipe, weights_NP, inputs_max, biases)[depth - 1]


def chains_of_all_depths(
    recipe: Recipe, weights_NP: np.ndarray, inputs_max: int | None = INPUTS_MAX, biases: bool | None = None
) -> list[list[np.ndarray]]:
    """`chains` of every depth from 1, canonical: each the one before and a layer more. Raises UsageError likewise."""
    arrays = split_layers(recipe, balanced(symmetry_spec(recipe), weights_NP))
    biases = recipe.flows[0].features == 1 if biases is None else biases
    return [link.gates for link in _linked(recipe, arrays, inputs_max, biases)]


def chain_features(
    recipe: Recipe,
    weights_NP: np.ndarray,
    depth: int | None = None,
    kind: str = "canonical",
    inputs_max: int | None = INPUTS_MAX,
) -> np.ndarray:
    """(N, F) float64: Gram matrices of the chains. `canonical` without a depth: of every depth, with all products
    that OUR extension knows: biases, recurrent weights between two gates, and the read-out chain to the outputs."""
    if kind == "as_coded" or depth:
        return np.concatenate([upper(gram(x)) for x in chains(recipe, weights_NP, depth, kind, inputs_max)], axis=1)
    arrays = split_layers(recipe, balanced(symmetry_spec(recipe), weights_NP))
    last, found = weighted_layers(recipe)[-1][0], []
    for i, gates, through in _linked(recipe, arrays, inputs_max, biases=True):
        layer = recipe.network.layers[i]
        if isinstance(layer, Recurrent):
            found += [upper(gram(x)) for x in gates]
            for gate, inner in zip(gates, np.split(arrays[f"{i}.weight_hh_l0"], len(gates), axis=1), strict=True):
                found.append((np.swapaxes(gate, 1, 2) @ inner @ gates[_signed(layer)]).reshape(len(gate), -1))
        else:
            found += [x.reshape(len(x), -1) if i == last else upper(gram(x)) for x in gates]
        if through is not None and i != last:
            found.append(upper(gram(through)))
    return np.concatenate(found, axis=1)


class ChainLink(NamedTuple):
    """A chain up to one layer with weights."""

    place: int
    gates: list[np.ndarray]  # (N, H, I) each; one but for a recurrent layer
    through: np.ndarray | None  # the signed gate, through the norms that follow; None: there are none


def _linked(recipe: Recipe, arrays: dict, inputs_max: int | None, biases: bool) -> list[ChainLink]:
    """The canonical chain, layer by layer; `arrays` are balanced."""
    carried, found = None, []
    for i, layer in weighted_layers(recipe):
        reached = contracted(arrays[weight_name(i, layer)], carried, inputs_max)
        names = ("bias_ih_l0", "bias_hh_l0") if isinstance(layer, Recurrent) else ("bias",)
        if biases:
            reached = np.concatenate([reached, *(arrays[f"{i}.{name}"][..., None] for name in names)], axis=2)
        gates = np.split(reached, GATES.get(type(layer), 1), axis=1)
        carried = gates[_signed(layer) if isinstance(layer, Recurrent) else 0]
        through = _through_norms(recipe, arrays, i, carried, biases)
        found.append(ChainLink(i, gates, through))
        carried = carried if through is None else through
    return found


def _coded(recipe: Recipe, weights_NP: np.ndarray, depth: int, inputs_max: int | None) -> list[np.ndarray]:
    """The authors' chain: of a recurrent network its first layer only, with the gates stacked."""
    arrays, carried = split_layers(recipe, np.asarray(weights_NP, np.float64)), None
    numbered = weighted_layers(recipe)
    depth = 1 if isinstance(numbered[0][1], Recurrent) else depth
    for i, layer in numbered[:depth]:
        weight = arrays[weight_name(i, layer)]
        if depth > 1 and isinstance(layer, Linear):
            length_NI = np.sqrt((weight**2).sum(1, keepdims=True))
            weight = weight / np.where(length_NI > 0, length_NI, 1)
        carried = contracted(weight, carried, inputs_max)
    return [] if carried is None else [carried]


def contracted(weight: np.ndarray, carried: np.ndarray | None, most: int | None = INPUTS_MAX) -> np.ndarray:
    """(N, H, I'): weights (N, H, C, ...) over a chain (N, C, I); kernel places, and the places of a flattened image,
    stay apart, so I' is I times their number, `narrowed` to `most`."""
    if carried is None:
        return narrowed(rows(weight), most)
    n, units, channels, inputs = *weight.shape[:2], *carried.shape[1:]
    places_PNHC = np.moveaxis(weight.reshape(n, units, channels, -1), 3, 0)
    if most is None or inputs * len(places_PNHC) <= most:
        return np.stack([place @ carried for place in places_PNHC], axis=3).reshape(n, units, -1)
    through_PIM = np.moveaxis(projection(inputs * len(places_PNHC), most).reshape(inputs, -1, most), 1, 0)
    return np.asarray(sum(place @ (carried @ r_IM) for place, r_IM in zip(places_PNHC, through_PIM, strict=True)))


def _signed(layer: Recurrent) -> int:
    """The gate that carries the sign of the hidden state: a candidate."""
    return SIGNED_GATES[type(layer)].index(True)


def _through_norms(recipe: Recipe, arrays: dict, i: int, carried: np.ndarray, biases: bool) -> np.ndarray | None:
    """The chain times the gains of the norms between layer `i` and the next weights, their biases as more inputs.

    Where a norm has a gain for each place of an image, its mean.
    """
    through = None
    for k, layer in list(enumerate(recipe.network.layers))[i + 1 :]:
        if isinstance(layer, Linear | Conv2d | Recurrent):
            break
        if isinstance(layer, LayerNorm | GroupNorm):
            gain, bias = (
                arrays[f"{k}.{name}"].reshape(*carried.shape[:2], -1).mean(2, keepdims=True)
                for name in ("weight", "bias")
            )
            carried = through = np.concatenate([carried * gain, bias], 2) if biases else carried * gain
    return through


def chain_kernel(chains_NHI: list[np.ndarray], others_MHI: list[np.ndarray] | None = None) -> np.ndarray:
    """(N, M): inner products of the Gram features, |X_a X_b^T|^2, without building I^2 numbers a network.

    Widths H may differ between the two sides. Uses the Gram matrices where I is the smaller side.
    """
    total = 0
    for x, y in zip(chains_NHI, others_MHI or chains_NHI, strict=True):
        if x.shape[2] ** 2 <= 4 * x.shape[1] * y.shape[1]:
            total = total + gram(x).reshape(len(x), -1) @ gram(y).reshape(len(y), -1).T
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
