"""Which networks the page looks at, and the lines that select them.

Axes: N networks, P parameters.
"""

import re
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa

from analysis.methods import families
from analysis.methods.trajectories import ClassPaths
from analysis.report.snippet import run
from analysis.statistics import splits
from analysis.zoo import Zoo
from protocol.errors import UsageError
from protocol.recipes.recipe import Recipe, check_engine, check_recipe

RATE = r',"rate":[^,}]*'  # of dropout, in the catalogue's JSON
REPLAYED = 8  # networks a class that are trained again
REPLAYED_CLASSES_MAX = 10
REPLAY_WORK_MAX = 4e9  # parameters times steps of all replayed networks: about half a minute on one core
SAMPLE_MAX = 2000  # networks in maps and classifiers: the largest kernel that two cores factor in seconds


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Networks of one architecture; their weights are read when they are first asked for."""

    zoo: Zoo
    where: str  # the expression that selects them
    table: pa.Table
    permutations: int = 1000
    note: str = ""  # what was left out, in words; empty when nothing was

    @cached_property
    def recipe(self) -> Recipe:
        """Any of them: the arrays are the same."""
        return self.zoo.recipe(self.table["recipe"][0].as_py())

    @cached_property
    def recipes(self) -> dict[str, Recipe]:
        """Class -> one of its recipes."""
        return families.class_recipes(self.zoo, self.table)

    @cached_property
    def classes(self) -> list[str]:
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
    def paths(self) -> ClassPaths:
        """Some networks trained again: what two studies need and is dear. Raises UsageError, see `chosen_seeds`."""
        return run(f"{paths_code(self)}\npaths", self)

    @cached_property
    def starts(self) -> families.Starts:
        return families.starts(self.initial_NP, self.classes, self.table["recipe"].to_pylist(), self.seeds)


def draw(zoo: Zoo, table: pa.Table, where: str | None, permutations: int) -> Selection:
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
    return Selection(
        zoo=zoo, where=" and ".join(conditions), table=chosen, permutations=permutations, note="; ".join(notes)
    )


def comparable(selection: Selection) -> tuple[Selection, list[str]]:
    """The networks of classes with two seeds at least, and the classes that were left out."""
    label_N, seed_N = np.array(selection.classes, str), selection.table["seed"].to_numpy()
    lone = [name for name in sorted(set(selection.classes)) if len(np.unique(seed_N[label_N == name])) < 2]
    if not lone:
        return selection, []
    left_out = f"class not in ({', '.join(map(literal, lone))})"
    kept = selection.table.filter(pa.array(~np.isin(label_N, lone)))
    where = " and ".join(filter(None, [selection.where, left_out]))
    return replace(selection, where=where, table=kept), lone


def chosen_seeds(selection: Selection) -> dict[str, list[int]]:
    """Class -> its first seeds, of the one recipe that is replayed. Raises UsageError: too much work, or unknown."""
    digests, seeds = selection.table["recipe"].to_pylist(), selection.table["seed"].to_pylist()
    found = {}
    for name in sorted(selection.recipes)[:REPLAYED_CLASSES_MAX]:
        own = selection.recipes[name].digest
        found[name] = sorted(seed for seed, digest in zip(seeds, digests, strict=True) if digest == own)[:REPLAYED]
    steps_N, class_N = selection.table["steps"].to_numpy(), np.array(selection.classes, str)
    work = sum(steps_N[class_N == name].mean() * len(some) for name, some in found.items())
    if min(len(some) for some in found.values()) < 2:
        raise UsageError("A class has no recipe with two seeds, so there are no paths to compare.")
    if not all(known(selection.recipes[name]) for name in found):
        raise UsageError("This version lacks the tasks or the engine of these networks: it cannot train them again.")
    if work * selection.recipe.parameter_count > REPLAY_WORK_MAX:
        raise UsageError(
            "Training these networks again takes more than a page should: see analysis.methods.trajectories.replay."
        )
    return found


def paths_code(selection: Selection) -> str:
    """The lines that train the networks of `chosen_seeds` again and call them `paths`. Raises UsageError."""
    return f"""from analysis.methods.trajectories import class_paths
from analysis.methods.families import class_recipes
paths = class_paths(class_recipes(zoo, table), {chosen_seeds(selection)!r}, shelf=zoo.store.shelf)"""


def prelude(selection: Selection, weights: bool = True) -> str:
    """What every call on the page starts from; `weights` as well as the table."""
    if not weights:
        return f"where = {selection.where or None!r}\ntable = zoo.table(where)"
    tied = [] if not selection.copied else ["seeds = groups(seeds, copies(recipe, weights_NP)).tolist()"]
    imports = ["from analysis.statistics.splits import copies, groups"] if tied else []
    lines = [
        *imports,
        f"where = {selection.where or None!r}",
        "table = zoo.table(where)",
        'recipe = zoo.recipe(table["recipe"][0].as_py())',
        "weights_NP, initial_NP = zoo.weights(where), zoo.initial_weights(where)",
        'classes, seeds = table["class"].to_pylist(), table["seed"].to_pylist()',
        *tied,
    ]
    return "\n".join(lines)


def known(recipe: Recipe) -> bool:
    """Can this version make the recipe's data?"""
    try:
        check_recipe(recipe, "recipe")
        check_engine(recipe, "recipe")
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
