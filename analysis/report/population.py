"""Which networks the page looks at, and what must be said about them before anything else.

Axes: N networks, P parameters.
"""

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from analysis.methods import families
from analysis.statistics import splits
from analysis.zoo import Zoo
from protocol.errors import UsageError
from protocol.recipes.recipe import Recipe, check_recipe

UNTRAINED = "Warning: the untrained networks tell it too, so something other than training tells the classes apart."
RATE = r',"rate":[^,}]*'  # of dropout, in the catalogue's JSON
SAMPLE_MAX = 2000  # networks in maps and classifiers: the largest kernel that two cores factor in seconds


@dataclass(frozen=True, kw_only=True)
class Population:
    """Networks of one architecture; their weights are read when they are first asked for."""

    zoo: Zoo
    where: str  # the expression that selects them
    table: pa.Table
    permutations: int = 1000
    note: str = ""  # what was left out, in words; empty when nothing was
    kept: dict[str, Any] = field(default_factory=dict, repr=False)  # what two sections need and is dear

    @cached_property
    def recipe(self) -> Recipe:
        """Any of them: the arrays are the same."""
        return self.zoo.recipe(self.table["recipe"][0].as_py())

    @cached_property
    def recipes(self) -> dict[str, Recipe]:
        """Class -> one of its recipes."""
        return families.class_recipes(self.zoo, self.table)

    @cached_property
    def labels(self) -> list[str]:
        return self.table["class"].to_pylist()

    @cached_property
    def seeds(self) -> list[int]:
        """What folds are cut by: seeds; where networks are copies of others, groups of seeds tied together by them."""
        seeds = self.table["seed"].to_pylist()
        return splits.groups(seeds, self.copies).tolist() if self.copied else seeds

    @cached_property
    def weights_NP(self) -> np.ndarray:
        return self.zoo.weights_of(self.table)

    @cached_property
    def initial_NP(self) -> np.ndarray:
        return self.zoo.initial_weights_of(self.table)

    @cached_property
    def copies(self) -> list[int]:
        return splits.copies(self.recipe, self.weights_NP)

    @property
    def copied(self) -> int:
        """Networks that are copies of another one, up to the numbering of hidden units."""
        return len(self.copies) - len(set(self.copies))

    @cached_property
    def starts(self) -> families.Starts:
        return families.starts(self.initial_NP, self.labels, self.table["recipe"].to_pylist(), self.seeds)


def draw(zoo: Zoo, table: pa.Table, where: str | None, permutations: int) -> Population:
    """The networks of the most common architecture, thinned by seed so that classes keep their seeds in common.

    Dropout rates are no part of an architecture: trained networks do not drop.
    """
    kind_N = np.array([without_rates(text) for text in table["network.layers"].to_pylist()], object)
    parameters_N = table["network.parameters"].to_numpy()
    counts = Counter(zip(kind_N, parameters_N.tolist(), strict=True))
    (kind, parameters), rows = max(counts.items(), key=lambda pair: (pair[1], pair[0]))
    chosen = table.filter(pa.array((kind_N == kind) & (parameters_N == parameters)))
    conditions, notes = [f"({where})"] if where else [], []
    if rows < table.num_rows:
        layers = chosen["network.layers"].unique().to_pylist()
        column = "network.layers" if len(layers) == 1 else f"regexp_replace(network.layers, {literal(RATE)}, '', 'g')"
        conditions.append(f"{column} = {literal(layers[0] if len(layers) == 1 else kind)}")
        if sum(one == kind for one, _ in counts) > 1:
            conditions.append(f"network.parameters = {parameters}")
        notes.append(f"the {rows:,} of {table.num_rows:,} networks that have the most common layers")
    if rows > SAMPLE_MAX:
        every = -(-rows // SAMPLE_MAX)
        chosen = chosen.filter(pa.array(chosen["seed"].to_numpy() % every == 0))
        conditions.append(f"seed % {every} = 0")
        notes.append(f"{chosen.num_rows:,} of them, those whose seed is a multiple of {every}")
    return Population(
        zoo=zoo, where=" and ".join(conditions), table=chosen, permutations=permutations, note="; ".join(notes)
    )


def comparable(people: Population) -> tuple[Population, list[str]]:
    """The networks of classes with two seeds at least, and the classes that were left out."""
    label_N, seed_N = np.array(people.labels, str), people.table["seed"].to_numpy()
    lone = [name for name in sorted(set(people.labels)) if len(np.unique(seed_N[label_N == name])) < 2]
    if not lone:
        return people, []
    left_out = f"class not in ({', '.join(map(literal, lone))})"
    kept = people.table.filter(pa.array(~np.isin(label_N, lone)))
    where = " and ".join(filter(None, [people.where, left_out]))
    return replace(people, where=where, table=kept, kept={}), lone


def prelude(people: Population, weights: bool = True) -> str:
    """What every call on the page starts from; `weights` as well as the table."""
    if not weights:
        return f"where = {people.where or None!r}\ntable = zoo.table(where)"
    tied = [] if not people.copied else ["seeds = groups(seeds, copies(recipe, weights_NP)).tolist()"]
    imports = ["from analysis.statistics.splits import copies, groups"] if tied else []
    lines = [
        *imports,
        f"where = {people.where or None!r}",
        "table = zoo.table(where)",
        'recipe = zoo.recipe(table["recipe"][0].as_py())',
        "weights_NP, initial_NP = zoo.weights(where), zoo.initial_weights(where)",
        'classes, seeds = table["class"].to_pylist(), table["seed"].to_pylist()',
        *tied,
    ]
    return "\n".join(lines)


def caveats(people: Population) -> list[str]:
    """What a reader must know of these networks' beginnings before believing a comparison, a sentence each."""
    found, start = [], people.starts
    varied = {name: recipe.vary for name, recipe in people.recipes.items()}
    if start.one:
        found.append(
            "All networks begin from the very same weights, so the control on initial weights has nothing to tell "
            "classes apart by: it shows nothing."
        )
    elif start.fixed:
        found.append(
            f"The seed does not decide the initial weights of {names(start.fixed)}: all networks of "
            "such a class begin from the same weights, which differ from those of other classes and name the class "
            "before any training. The control on initial weights is void here, so no comparison of classes below is a "
            "finding."
        )
    if ordered := sorted(name for name, vary in varied.items() if "order" not in vary):
        found.append(
            f"All networks of {names(ordered)} see their batches in one order, which differs from that of other "
            "classes: what tells such a class apart may be this order and not its data."
        )
    kinds = {name: recipe.network.init for name, recipe in people.recipes.items()}
    if len(set(kinds.values())) > 1:
        odd = sorted(name for name in kinds if list(kinds.values()).count(kinds[name]) * 2 <= len(kinds))
        found.append(
            f"Not all classes draw their initial weights alike ({', '.join(sorted(set(kinds.values())))}): "
            f"{names(odd)} may be told by the kind of beginning, which the control on initial weights then shows."
        )
    if people.copied:
        found.append(
            f"{people.copied:,} networks are copies of others, up to the numbering of their hidden units. Copies are "
            "kept in one fold, so no classifier meets one of them in both training and testing."
        )
    return found


def names(classes: list[str], most: int = 6) -> str:
    listed = ", ".join(classes[:most]) + (f" and {len(classes) - most} more" if len(classes) > most else "")
    return f"class {listed}" if len(classes) == 1 else f"classes {listed}"


def shared_starts(people: Population) -> str:
    """For comparisons of an original with a modified class: do networks of one seed begin alike?"""
    if people.starts.shared_by_seed:
        return "Networks of one seed begin from the same weights in all classes."
    return (
        "Networks of one seed do not share their initial weights across classes, since every random stream is keyed by "
        "the whole recipe's digest: what is seen here is seen in spite of different beginnings."
    )


def known(recipe: Recipe) -> bool:
    """Can this version make the recipe's data?"""
    try:
        check_recipe(recipe, "recipe")
    except UsageError:
        return False
    return True


def count_by(table: pa.Table, column: str) -> list[tuple[str, int]]:
    """(value, rows) of every value of a text column, by value."""
    return sorted((pair["values"], pair["counts"]) for pair in table[column].value_counts().to_pylist())


def without_rates(layers: str) -> str:
    """Layers in JSON, their dropout rates left out."""
    return re.sub(RATE, "", layers)


def literal(text: str) -> str:
    """A SQL text literal."""
    return "'" + text.replace("'", "''") + "'"
