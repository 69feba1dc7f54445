"""Real networks, trained here in a moment, and a zoo of them."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
from support.populations import publish
from support.zoos import network

from analysis.probes.contract import Inputs, Unit
from protocol.engine.initial import initial_state
from protocol.engine.select import select_engine
from protocol.engine.training import train_networks
from protocol.recipes.layers import Linear, Tanh
from protocol.recipes.recipe import Network, Recipe, Training, load_recipe
from protocol.tasks.datasets import NO_SHELF, Shelf
from protocol.tasks.kinds import FunctionTask

RECIPES = Path(__file__).parents[2] / "recipes"


def recipe_of(file: str, name: str | None = None, training: Mapping | None = None, **task) -> Recipe:
    """A recipe of recipes/, with other numbers, e.g. `recipe_of("digits-mlp.toml", training={"max_steps": 200})`."""
    recipe = load_recipe(RECIPES / file)
    return msgspec.structs.replace(
        recipe,
        name=name or recipe.name,
        label=name or recipe.label,
        task=msgspec.structs.replace(recipe.task, **task),
        training=msgspec.structs.replace(recipe.training, **(training or {})),
    )


@lru_cache(maxsize=64)
def _trained(recipe: Recipe, seeds: tuple[int, ...]) -> dict[int, np.ndarray]:
    begin = {seed: initial_state(recipe, seed) for seed in seeds}
    ends = train_networks(select_engine("auto", threads=1), recipe, seeds, len(seeds), begin, NO_SHELF)
    return {seed: boundary.state.params for seed, boundary in ends if boundary.final}


def trained(recipe: Recipe, seeds: Iterable[int]) -> list[np.ndarray]:
    """(P,) float32 of each seed, as a swarm would train it; kept for the tests that ask again."""
    some = tuple(seeds)
    found = _trained(recipe, some)
    return [found[seed] for seed in some]


def trained_zoo(path: Path, populations: Mapping[Recipe, Iterable[int]]) -> Path:
    """A zoo of these networks, with the data sets that they name."""
    networks, data, shelf = [], {}, Shelf(path.parent / "data")
    for recipe, seeds in populations.items():
        some = tuple(seeds)
        networks += [(network(recipe, s)[0], w) for s, w in zip(some, trained(recipe, some), strict=True)]
        if recipe.data_set:
            data[recipe.data_set] = shelf.ensure(recipe.data_set)
    return publish(path, networks, list(populations), data)


def curve(
    function="waves",
    hidden=(64, 64, 64),
    unit: type = Tanh,
    steps=800,
    samples=128,
    batch=32,
    noise=0.0,
    name="curve",
    rate=0.01,
) -> Recipe:
    """A recipe of a perceptron for a function, with its name as its twin and its class."""
    layers = [layer for width in hidden for layer in (Linear(width=width), unit())]
    return Recipe(
        name=name,
        label=name,
        twin=name,
        task=FunctionTask(function=function, samples=samples, held_out=32, noise=noise),
        network=Network(layers=(*layers, Linear(width=1))),
        training=Training(learning_rate=rate, batch=batch, max_steps=steps),
    )


def inputs_of(recipes, seeds: range) -> Inputs:
    """As `run` gives them: recipes, each with all seeds."""
    pairs = [
        (recipe, seed, weights)
        for recipe in recipes
        for seed, weights in zip(seeds, trained(recipe, seeds), strict=True)
    ]
    names = tuple(f"{recipe.name}-{seed}" for recipe, seed, _ in pairs)
    kinds, numbers, weights = zip(*pairs, strict=True)
    return Inputs(unit=Unit(networks=names, digests=names), recipes=kinds, seeds=numbers, weights=weights)


def table(rows) -> pa.Table:
    """Rows as `run` stores them: what a row does not have is null."""
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows])
