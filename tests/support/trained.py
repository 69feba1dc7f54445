"""Real networks, trained here in a moment, and a zoo of them."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

import msgspec
import numpy as np
from support.populations import publish
from support.zoos import network

from protocol.engine.initial import initial_state
from protocol.engine.select import select_engine
from protocol.engine.training import train_networks
from protocol.recipes.recipe import Recipe, load_recipe
from protocol.tasks.datasets import NO_SHELF

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
    networks, data = [], {}
    for recipe, seeds in populations.items():
        some = tuple(seeds)
        networks += [(network(recipe, s)[0], w) for s, w in zip(some, trained(recipe, some), strict=True)]
        if recipe.data_set:
            data[recipe.data_set] = NO_SHELF.ensure(recipe.data_set)
    return publish(path, networks, list(populations), data)
