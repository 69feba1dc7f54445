"""Families of networks as units: one recipe, all its seeds. Axes: M networks, P parameters."""

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa

from analysis.probes.contract import Inputs, Unit, digests_of, unit_from
from protocol.engine.initial import initial_states
from protocol.errors import UsageError
from protocol.recipes.layers import Flatten, LeakyRelu, Linear, Relu, Sigmoid, Tanh
from protocol.recipes.recipe import Recipe

SHORT = {Relu: "relu", Tanh: "tanh", Sigmoid: "sigmoid", LeakyRelu: "leaky"}


def families(
    table: pa.Table,
    recipes: Mapping[str, Recipe],
    wanted: Callable[[Recipe], bool],
    least: int,
    most: int,
    what: str,
) -> list[Unit]:
    """A unit a recipe, its first `most` networks. Raises UsageError: none has `least` networks and is `wanted`."""
    members: dict[str, list[tuple[int, str]]] = {}
    for name, digest, seed in zip(*(table[c].to_pylist() for c in ("id", "recipe", "seed")), strict=True):
        members.setdefault(digest, []).append((seed, name))
    digests = digests_of(table)
    found = [
        unit_from(digests, [name for _, name in sorted(pairs)[:most]])
        for digest, pairs in members.items()
        if len(pairs) >= least and wanted(recipes[digest])
    ]
    if not found:
        raise UsageError(f"no recipe here is {what}, with at least {least} networks")
    return found


def initial_weights(inputs: Inputs, count: int, first: int = 0) -> np.ndarray:
    """(M, P) `count` untrained networks of the unit's recipe: its own first, then those of seeds that follow.

    `first`: leave out so many, for a second population that shares no network with the first.
    """
    known = list(inputs.seeds)
    more = (seed for seed in range(first + count + len(known)) if seed not in set(known))
    seeds = [*known, *more][first : first + count]
    return np.stack([state.params for state in initial_states(inputs.recipes[0], seeds)])


def architecture(recipe: Recipe) -> str:
    """Kinds of units and widths: `tanh 32-16`, `relu 15x32`, `linear` without hidden layers; other layers by kind."""
    layers = recipe.network.layers
    widths = [str(layer.width) for layer in layers if isinstance(layer, Linear)][:-1]
    if len(widths) > 1 and len(set(widths)) == 1:
        widths = [f"{len(widths)}x{widths[0]}"]
    kinds = {
        SHORT.get(type(layer), type(layer).__name__.lower())
        for layer in layers
        if not isinstance(layer, Linear | Flatten)
    }
    return f"{'+'.join(sorted(kinds)) or 'linear'} {'-'.join(widths)}".strip()
