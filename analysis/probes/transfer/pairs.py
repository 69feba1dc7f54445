"""Which network is tried on which task: populations of one shape whose tasks differ."""

import itertools
from collections import defaultdict
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from analysis.probes.contract import Unit, digests_of, unit_from
from protocol.canonical import canonical_json, hexdigest
from protocol.recipes.recipe import Recipe


def shape_of(recipe: Recipe) -> str:
    """Equal for recipes whose networks can take each other's weights and tasks."""
    task, network = recipe.task_shape, recipe.network
    said = [task.input, task.length, task.target, task.width, task.target_length, recipe.training.loss]
    return hexdigest(canonical_json([said, network.layers]))


def task_pairs(
    table: pa.Table, recipes: Mapping[str, Recipe], seeds: int, most: int
) -> list[tuple[list[str], list[str]]]:
    """(networks of the source, networks of the target), `seeds` each; at most `most` pairs of recipes a shape.

    Ordered pairs of recipes with one shape and two tasks; too many are drawn from by a fixed chance.
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
        found += [(chosen[a], chosen[b]) for a, b in (pairs[i] for i in sorted(order[:most]))]
    return found


def transfer_units(table: pa.Table, recipes: Mapping[str, Recipe], seeds: int, most: int) -> list[Unit]:
    """A unit for each (source network, target network): the target gives task, beginning and distance."""
    digests = digests_of(table)
    return [
        unit_from(digests, (a, b))
        for sources, targets in task_pairs(table, recipes, seeds, most)
        for a, b in zip(sources, targets, strict=True)
    ]
