"""Change a network's weights without changing what it computes, and one canonical choice among such weights.

Which changes those are is said in `symmetry_rules`; here they are drawn at random, applied, and settled. The canonical
form is OURS. Axes: N networks, P parameters, H units of a group.
"""

from dataclasses import dataclass, field

import numpy as np

from analysis.weights.features import split_layers
from analysis.weights.symmetry_rules import Group, Spec, Use, symmetry_spec
from protocol.recipes.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Change:
    """A symmetry for each of N networks: new unit i is old unit order[i] times factor[i]; one entry a group."""

    order_NH: list[np.ndarray] = field(default_factory=list)  # int
    factor_NH: list[np.ndarray] = field(default_factory=list)  # float64


def moved(array_N: np.ndarray, use: Use, order_NH: np.ndarray, factor_NH: np.ndarray) -> np.ndarray:
    """One use of a change on one array (N, ...): renumber its axis, multiply or divide by the factors."""
    n, h = order_NH.shape
    if (order_NH == np.arange(h)).all():
        return array_N if (factor_NH == 1).all() else array_N * factors(array_N, use, factor_NH)
    block = np.arange(len(use.carries))[:, None, None] * h
    index = (order_NH[:, None, :, None] + block) * use.positions + np.arange(use.positions)
    shape = [n] + [1] * (array_N.ndim - 1)
    shape[use.axis + 1] = -1
    taken = np.take_along_axis(array_N, index.reshape(shape), use.axis + 1)
    return taken * factors(array_N, use, factor_NH)


def factors(array_N: np.ndarray, use: Use, factor_NH: np.ndarray) -> np.ndarray:
    """What one use of a change multiplies an array (N, ...) by: of the same shape along the use's axis, else 1."""
    power = 1 if use.axis == 0 else -1
    ones = np.ones_like(factor_NH)
    factor = np.concatenate([factor_NH**power if carried else ones for carried in use.carries], axis=1)
    shape = [len(factor_NH)] + [1] * (array_N.ndim - 1)
    shape[use.axis + 1] = -1
    return np.repeat(factor, use.positions, axis=1).reshape(shape)


def rows_of(array_N: np.ndarray, use: Use) -> np.ndarray:
    """(N, blocks, H, rest): what a unit has in an array (N, ...), block by block."""
    units = array_N.shape[use.axis + 1] // (len(use.carries) * use.positions)
    return np.moveaxis(array_N, use.axis + 1, 1).reshape(len(array_N), len(use.carries), units, -1)


def apply_change(spec: Spec, weights_NP: np.ndarray, change: Change) -> np.ndarray:
    """(N, P) float64: the same N functions with other weights, (N, P) of any float type."""
    arrays = split_layers(spec.recipe, np.asarray(weights_NP, np.float64))
    for use in spec.uses:
        arrays[use.array] = moved(arrays[use.array], use, change.order_NH[use.group], change.factor_NH[use.group])
    return joined(arrays)


def joined(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Arrays (N, *shape) in the recipe's order -> flat weights (N, P)."""
    return np.concatenate([array.reshape(len(array), -1) for array in arrays.values()], axis=1)


def identity(spec: Spec, n: int) -> Change:
    """The change of n networks that leaves all as it is."""
    return Change(
        [np.tile(np.arange(group.size), (n, 1)) for group in spec.groups],
        [np.ones((n, group.size)) for group in spec.groups],
    )


def random_change(spec: Spec, n: int, rng: np.random.Generator, scales: bool = True) -> Change:
    """A random symmetry for each of n networks: what tests plant, and what augmentation may use."""
    change = Change()
    for group in spec.groups:
        factor = np.ones((n, group.size))
        if group.scale and scales:
            factor *= np.exp(rng.normal(size=factor.shape))
        if group.sign:
            factor *= rng.choice([-1.0, 1.0], factor.shape)
        order_NCH = np.tile(np.arange(group.size), (n, 1)).reshape(n, group.cells, -1)
        change.order_NH.append(rng.permuted(order_NCH, axis=2).reshape(n, -1))
        change.factor_NH.append(factor)
    return change


def canonical(recipe: Recipe, weights_NP: np.ndarray) -> np.ndarray:
    """(N, P) float64: the same functions, written so that symmetric copies of a network get equal weights.

    Scales first (each unit's incoming weights get length 1), then the order (units by the sum of squares of all
    weights that touch them, largest first; by that of fourth powers where squares agree to six digits, as they do in
    orthogonal matrices), then signs (a fixed random projection of the incoming weights is positive). Two units that
    agree in both keep their order, so copies of a network with such a tie may still differ. Raises UsageError for
    layers without known symmetries.
    """
    spec = symmetry_spec(recipe)
    weights_NP = balanced(spec, weights_NP)
    change = identity(spec, len(weights_NP))
    for g, sizes in enumerate(zip(*(unit_sizes(spec, weights_NP, power) for power in (2, 4)), strict=True)):
        square_NH, fourth_NH = (size_NH / np.maximum(size_NH.max(1, keepdims=True), 1e-300) for size_NH in sizes)
        change.order_NH[g] = largest_first(spec.groups[g], np.round(square_NH, 6) + 1e-7 * fourth_NH)
    weights_NP = apply_change(spec, weights_NP, change)
    for g, group in enumerate(spec.groups):  # in order: the signs of earlier units are settled when these are read
        if group.sign:
            change = identity(spec, len(weights_NP))
            change.factor_NH[g] = np.where(_projection(spec, weights_NP, g) < 0, -1.0, 1.0)
            weights_NP = apply_change(spec, weights_NP, change)
    return weights_NP


def largest_first(group: Group, sizes_NH: np.ndarray) -> np.ndarray:
    """(N, H) order of the units, each within its cell."""
    sizes_NCH = sizes_NH.reshape(len(sizes_NH), group.cells, -1)
    first_C1 = np.arange(0, group.size, sizes_NCH.shape[2])[:, None]
    return (np.argsort(-sizes_NCH, axis=2, kind="stable") + first_C1).reshape(sizes_NH.shape)


def balanced(spec: Spec, weights_NP: np.ndarray) -> np.ndarray:
    """(N, P) float64: the same functions, incoming weights of units that may be scaled having length 1.

    The exact canonical chain of a ReLU network. After a norm, a unit's incoming weight is its gain. A unit without
    incoming weights is left as it is.
    """
    weights_NP = np.array(weights_NP, np.float64)
    arrays = split_layers(spec.recipe, weights_NP)  # views: they are scaled where they stand
    for g, group in enumerate(spec.groups):
        if group.scale:
            incoming = arrays[group.producers[0]].reshape(len(weights_NP), group.size, -1)
            length_NH = np.sqrt((incoming**2).sum(2))
            factor_NH = 1 / np.where(length_NH > 0, length_NH, 1)
            for use in spec.uses_of(g):
                arrays[use.array] *= factors(arrays[use.array], use, factor_NH)
    return weights_NP


def unit_sizes(spec: Spec, weights_NP: np.ndarray, power: int = 2) -> list[np.ndarray]:
    """A group's (N, H): sum of even powers of all weights that touch a unit."""
    arrays = split_layers(spec.recipe, np.asarray(weights_NP, np.float64))
    sizes = [np.zeros((len(weights_NP), group.size)) for group in spec.groups]
    for use in spec.uses:
        sizes[use.group] += rows_of(arrays[use.array] ** power, use).sum((1, 3))
    return sizes


def _projection(spec: Spec, weights_NP: np.ndarray, group: int) -> np.ndarray:
    """(N, H): a fixed random projection of what a unit's sign multiplies on its way in."""
    arrays, rng = split_layers(spec.recipe, weights_NP), np.random.default_rng(0)
    total = np.zeros((len(weights_NP), spec.groups[group].size))
    for use in spec.uses_of(group):
        if use.axis == 0 and use.array in spec.groups[group].producers:
            rows = rows_of(arrays[use.array], use)[:, use.carries.index(True)]
            total += rows @ rng.normal(size=rows.shape[2])
    return total
