"""A whole population in memory, from a zoo or trained here: rows about networks beside their weights.

    from analysis.methods import cohorts
    cohort = cohorts.train(load_campaign(Path("recipes/zoo-cnn-campaign.toml")))   # here, on one core
    cohort = cohorts.read(open_zoo("PATH"), "class like 'zoo-cnn%'")               # or out of a swarm's zoo

Both give the same bits. Axes: N networks, P parameters.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.zoo import Zoo
from protocol.errors import UsageError
from protocol.recipes.campaign import Campaign
from protocol.recipes.recipe import Recipe
from protocol.tasks.datasets import NO_SHELF, Shelf

MEASURED = ("loss", "accuracy", "attack_success")
LAYERS = "network.layers."


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """Networks of one shape. A row has the catalogue's recipe columns, `seed`, and what was MEASURED, held out."""

    recipe: Recipe  # one of theirs
    rows: list[dict[str, Any]]
    weights_NP: np.ndarray  # float32
    initial_NP: np.ndarray  # float32, step 0

    def column(self, name: str) -> np.ndarray:
        """(N,) of a column, or of a layer's field as in a campaign: `network.layers.7.rate`. Numbers are float64.

        Raises UsageError: no such column.
        """
        try:
            if name.startswith(LAYERS):
                at, field = name.removeprefix(LAYERS).split(".")
                values = [json.loads(row["network.layers"])[int(at)][field] for row in self.rows]
            else:
                values = [row[name] for row in self.rows]
        except (KeyError, IndexError, ValueError):
            raise UsageError(f"no column {name!r}; there are {', '.join(sorted(self.rows[0]))}") from None
        are_numbers = all(value is None or isinstance(value, int | float) for value in values)
        return np.array(values, np.float64) if are_numbers else np.array(values, str)

    def where(self, chosen_N: np.ndarray) -> "Cohort":
        """Those of a mask (N,)."""
        at = np.flatnonzero(chosen_N)
        return Cohort(
            recipe=self.recipe,
            rows=[self.rows[i] for i in at],
            weights_NP=self.weights_NP[at],
            initial_NP=self.initial_NP[at],
        )


def train(
    campaign: Campaign,
    threads: int = 1,
    shelf: Shelf = NO_SHELF,
    progress: Callable[[int, int], object] | None = None,
) -> Cohort:
    """Every network of a campaign, trained here without a swarm. Raises UsageError: networks of different shapes."""
    from protocol.engine.initial import initial_state
    from protocol.engine.measures import measure
    from protocol.engine.select import select_engine
    from protocol.engine.training import train_networks
    from protocol.zoo.catalogue import recipe_columns

    recipes = list(campaign.recipes.values())
    one_shape([recipe.parameter_count for recipe in recipes])
    engine, rows, weights, initial = select_engine("auto", threads=threads), [], [], []
    for population in campaign.populations:
        recipe = population.recipe
        seeds = range(population.first_seed, population.first_seed + population.count)
        begin = {seed: initial_state(recipe, seed) for seed in seeds}
        ends = train_networks(engine, recipe, seeds, population.bundle, begin, shelf)
        last = {seed: boundary.state.params for seed, boundary in ends if boundary.final}
        params = [last[seed] for seed in seeds]
        found = measure(engine, recipe, params, shelf)
        measured = dict(zip(MEASURED, (found.loss, found.accuracy, found.attack_success), strict=True))
        for i, seed in enumerate(seeds):
            numbers = {name: None if value is None else float(value[i]) for name, value in measured.items()}
            rows.append(recipe_columns(recipe) | {"seed": seed} | numbers)
            initial.append(begin[seed].params)
        weights += params
        if progress:
            progress(len(rows), campaign.network_count)
    return Cohort(recipe=recipes[0], rows=rows, weights_NP=np.stack(weights), initial_NP=np.stack(initial))


def read(zoo: Zoo, where: str | None = None) -> Cohort:
    """Networks of a zoo, measured now. Raises UsageError: none, or networks of different shapes."""
    table = zoo.table(where)
    if not table.num_rows:
        raise UsageError(f"no network of {zoo!r} is {where}")
    one_shape(table["network.parameters"].to_pylist())
    measured = zoo.measures(where).to_pylist()
    rows = [row | numbers for row, numbers in zip(table.to_pylist(), measured, strict=True)]
    return Cohort(
        recipe=zoo.recipe(rows[0]["recipe"]),
        rows=rows,
        weights_NP=zoo.weights_of(table),
        initial_NP=zoo.initial_weights_of(table),
    )


def one_shape(parameters: list[int]) -> None:
    """Raises UsageError unless all networks have equally many parameters."""
    if len(set(parameters)) > 1:
        raise UsageError("these networks do not have one shape: narrow `where`, or the campaign")
