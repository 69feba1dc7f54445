"""Ways to change a network's weights without changing what it computes, and one canonical choice among them.

A *group* is a layer of hidden units that can be renumbered together. Renumbering is exact for every layer; a layer
followed by ReLU may also scale its units by positive numbers, a GRU layer may flip their signs (its candidate gate is
tanh, which is odd; the reset and update gates do not flip), and a linear layer without activation may do both. The
network's inputs and outputs are fixed. The weights W_hh of a GRU carry the same group on both axes, which is why the
helpers of Git Re-Basin do not fit a recurrent layer.

Source: the groups are textbook; the recurrent signs and this canonical form are OURS. Axes: N networks, P parameters,
H units of a group.
"""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from analysis.features import split_layers
from protocol.errors import UsageError
from protocol.layers import Gru, Linear, Relu
from protocol.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One axis of one array that runs over a group's units, once a block (a GRU has three blocks a row axis)."""

    array: str
    axis: int  # 0: these units are produced here; 1: they are read here
    group: int
    carries: tuple[bool, ...]  # a block: does a unit's factor multiply it (axis 0) or divide it (axis 1)?


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Hidden units that are renumbered together, in the order of the network."""

    size: int
    scale: bool  # positive factors allowed
    sign: bool  # factors of -1 allowed
    producers: tuple[str, ...]  # arrays whose rows make the units from earlier ones: weights, then biases


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """All symmetries of an architecture that this module knows."""

    recipe: Recipe
    groups: tuple[Group, ...]
    uses: tuple[Use, ...]

    def uses_of(self, group: int) -> list[Use]:
        return [use for use in self.uses if use.group == group]

    def uses_in(self, array: str) -> list[Use]:
        return [use for use in self.uses if use.array == array]


@dataclass(frozen=True, slots=True)
class Change:
    """A symmetry for each of N networks: new unit i is old unit order[i] times factor[i]; one entry a group."""

    order_NH: list[np.ndarray] = field(default_factory=list)  # int
    factor_NH: list[np.ndarray] = field(default_factory=list)  # float64


@lru_cache(maxsize=64)
def symmetry_spec(recipe: Recipe) -> Spec:
    """The symmetries of a recipe's network. Raises UsageError for a layer that this version does not know."""
    layers = recipe.network.layers
    groups: list[Group] = []
    uses: list[Use] = []
    source: int | None = None  # the group that feeds the next layer; None: the network's inputs
    last = max(i for i, layer in enumerate(layers) if not isinstance(layer, Relu))
    for i, layer in enumerate(layers):
        if isinstance(layer, Relu):
            continue
        if not isinstance(layer, Gru | Linear):
            raise UsageError(f"layer {i}: no symmetries are known for {type(layer).__name__}")
        rectified = i + 1 < len(layers) and isinstance(layers[i + 1], Relu)
        if isinstance(layer, Gru):
            weight, extra, biases = f"{i}.weight_ih_l0", f"{i}.weight_hh_l0", (f"{i}.bias_ih_l0", f"{i}.bias_hh_l0")
            carries, read = (False, False, True), (True,)
        else:
            weight, extra, biases, carries, read = f"{i}.weight", None, (f"{i}.bias",), (True,), (True,)
        if source is not None:
            uses.append(Use(array=weight, axis=1, group=source, carries=read))
        if i == last:
            break
        source = len(groups)
        gru = isinstance(layer, Gru)
        groups.append(Group(size=layer.width, scale=not gru, sign=not rectified, producers=(weight, *biases)))
        uses += [Use(array=name, axis=0, group=source, carries=carries) for name in (weight, *biases)]
        if extra:
            uses.append(Use(array=extra, axis=0, group=source, carries=carries))
            uses.append(Use(array=extra, axis=1, group=source, carries=read))
    return Spec(recipe=recipe, groups=tuple(groups), uses=tuple(uses))


def moved(array_N: np.ndarray, use: Use, order_NH: np.ndarray, factor_NH: np.ndarray) -> np.ndarray:
    """One use of a change on one array (N, ...): renumber its axis, multiply or divide by the factors."""
    h = order_NH.shape[1]
    index = np.concatenate([order_NH + block * h for block in range(len(use.carries))], axis=1)
    power = 1 if use.axis == 0 else -1
    ones = np.ones_like(factor_NH)
    factor = np.concatenate([factor_NH**power if carried else ones for carried in use.carries], axis=1)
    shape = [len(array_N)] + [1] * (array_N.ndim - 1)
    shape[use.axis + 1] = index.shape[1]
    return np.take_along_axis(array_N, index.reshape(shape), use.axis + 1) * factor.reshape(shape)


def apply_change(spec: Spec, weights_NP: np.ndarray, change: Change) -> np.ndarray:
    """(N, P) float64: the same N functions with other weights."""
    arrays = split_layers(spec.recipe, np.asarray(weights_NP, np.float64))
    for use in spec.uses:
        arrays[use.array] = moved(arrays[use.array], use, change.order_NH[use.group], change.factor_NH[use.group])
    return joined(arrays)


def joined(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Arrays (N, *shape) in the recipe's order -> flat weights (N, P)."""
    return np.concatenate([array.reshape(len(array), -1) for array in arrays.values()], axis=1)


def identity(spec: Spec, n: int) -> Change:
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
        change.order_NH.append(rng.permuted(np.tile(np.arange(group.size), (n, 1)), axis=1))
        change.factor_NH.append(factor)
    return change


def canonical(recipe: Recipe, weights_NP: np.ndarray) -> np.ndarray:
    """(N, P) float64: the same functions, written so that symmetric copies of a network get equal weights.

    Scales first (each unit's incoming weights get length 1), then the order (units by the size of all weights that
    touch them, largest first), then signs (a fixed random projection of the incoming weights is positive). Two units
    of exactly the same size keep their order, so copies of a network with such a tie may still differ.
    """
    spec = symmetry_spec(recipe)
    weights_NP = balanced(spec, weights_NP)
    change = identity(spec, len(weights_NP))
    for g, touching_NH in enumerate(unit_sizes(spec, weights_NP)):
        change.order_NH[g] = np.argsort(-touching_NH, axis=1, kind="stable")
    weights_NP = apply_change(spec, weights_NP, change)
    for g, group in enumerate(spec.groups):  # in order: the signs of earlier units are settled when these are read
        if group.sign:
            change = identity(spec, len(weights_NP))
            change.factor_NH[g] = np.where(_projection(spec, weights_NP, g) < 0, -1.0, 1.0)
            weights_NP = apply_change(spec, weights_NP, change)
    return weights_NP


def balanced(spec: Spec, weights_NP: np.ndarray) -> np.ndarray:
    """(N, P) float64: the same functions, incoming weights of units that may be scaled having length 1.

    The exact canonical chain of a ReLU network. A unit without incoming weights is left as it is.
    """
    weights_NP = np.asarray(weights_NP, np.float64)
    for g, group in enumerate(spec.groups):
        if group.scale:
            incoming = split_layers(spec.recipe, weights_NP)[group.producers[0]]
            length_NH = np.sqrt((incoming**2).sum(2))
            change = identity(spec, len(weights_NP))
            change.factor_NH[g] = 1 / np.where(length_NH > 0, length_NH, 1)
            weights_NP = apply_change(spec, weights_NP, change)
    return weights_NP


def unit_sizes(spec: Spec, weights_NP: np.ndarray) -> list[np.ndarray]:
    """A group's (N, H): sum of squares of all weights that touch a unit."""
    arrays = split_layers(spec.recipe, np.asarray(weights_NP, np.float64))
    sizes = [np.zeros((len(weights_NP), group.size)) for group in spec.groups]
    for use in spec.uses:
        square = np.moveaxis(arrays[use.array] ** 2, use.axis + 1, 1)
        rows = square.reshape(len(square), len(use.carries), sizes[use.group].shape[1], -1)
        sizes[use.group] += rows.sum((1, 3))
    return sizes


def _projection(spec: Spec, weights_NP: np.ndarray, group: int) -> np.ndarray:
    """(N, H): a fixed random projection of what a unit's sign multiplies on its way in."""
    arrays, rng = split_layers(spec.recipe, weights_NP), np.random.default_rng(0)
    h, total = spec.groups[group].size, np.zeros((len(weights_NP), spec.groups[group].size))
    for name in spec.groups[group].producers:
        # The last block is the one that carries the sign: the candidate of a GRU, all of a linear layer.
        rows = arrays[name][:, -h:].reshape(len(weights_NP), h, -1)
        total += rows @ rng.normal(size=rows.shape[2])
    return total
