"""Which network is tried on which task: populations of one shape whose tasks differ."""

import itertools
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from analysis.probes.contract import Unit, digests_of, unit_from
from protocol.canonical import canonical_json, hexdigest
from protocol.recipes.layers import Recurrent
from protocol.recipes.recipe import Recipe
from protocol.tasks.kinds import task_root


def shape_of(recipe: Recipe) -> str:
    """Equal for recipes whose networks can take each other's weights and tasks."""
    task, network = recipe.task_shape, recipe.network
    said = [task.input, task.length, task.target, task.width, task.target_length, recipe.training.loss]
    return hexdigest(canonical_json([said, network.layers]))


class Most(NamedTuple):
    """Pairs of recipes for each shape of networks."""

    pairs: int
    deep: int  # where several layers are recurrent: a step of such networks costs ten times as much


def task_pairs(
    table: pa.Table, recipes: Mapping[str, Recipe], seeds: int, most: Most
) -> list[tuple[list[str], list[str]]]:
    """(networks of the source, networks of the target), `seeds` each.

    Ordered pairs of recipes with one shape and two tasks. Of too many, deep ones are first a task and its change
    (original and modified); otherwise a fixed chance draws.
    """
    networks: dict[str, list[tuple[int, str]]] = defaultdict(list)
    columns = (table[name].to_pylist() for name in ("recipe", "seed", "id"))
    for digest, seed, name in zip(*columns, strict=True):
        networks[digest].append((seed, name))
    chosen = {d: [name for _, name in sorted(some)[:seeds]] for d, some in networks.items() if len(some) >= seeds}
    shapes: dict[str, list[str]] = defaultdict(list)
    for digest in sorted(chosen, key=lambda d: (recipes[d].name, d)):
        shapes[shape_of(recipes[digest])].append(digest)
    found = []
    for shape, members in sorted(shapes.items(), key=lambda item: recipes[item[1][0]].name):
        pairs = [
            pair
            for pair in itertools.permutations(members, 2)
            if canonical_json(recipes[pair[0]].task) != canonical_json(recipes[pair[1]].task)
        ]
        order = np.random.default_rng(int(shape[:8], 16)).permutation(len(pairs))
        count = most.pairs
        if is_deep(recipes[members[0]]):
            count = most.deep
            order = sorted(order, key=lambda i: not is_change(*(recipes[name] for name in pairs[i])))
        found += [(chosen[a], chosen[b]) for a, b in (pairs[i] for i in sorted(order[:count]))]
    return found


def is_deep(recipe: Recipe) -> bool:
    return sum(isinstance(layer, Recurrent) for layer in recipe.network.layers) > 1


def is_change(first: Recipe, second: Recipe) -> bool:
    """Is one task the other after a controlled change: other labels, a trigger, poison?"""
    return task_root(first.task) == task_root(second.task)


def transfer_units(table: pa.Table, recipes: Mapping[str, Recipe], seeds: int, most: Most) -> list[Unit]:
    """A unit for each (source network, target network): the target gives task, beginning and distance."""
    digests = digests_of(table)
    return [
        unit_from(digests, (a, b))
        for sources, targets in task_pairs(table, recipes, seeds, most)
        for a, b in zip(sources, targets, strict=True)
    ]
