"""What a zoo's classes are to each other: which is a change of which, how large the change is, where networks begin.

Recipes say it, not names: two classes whose recipes differ in one share alone (sequences dropped, labels wrong, noise,
images poisoned) are doses of one change. Axes: N networks, P parameters, F features.
"""

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import msgspec
import numpy as np
import pyarrow as pa

from analysis.methods import properties, trojans
from analysis.methods.changes import modification_pairs
from analysis.statistics.auc import Auc
from analysis.statistics.intervals import jackknife
from analysis.statistics.shuffles import shuffled_labels
from protocol.canonical import hexdigest
from protocol.errors import UsageError
from protocol.recipes.recipe import Recipe

DOSES = ("drop", "label_noise", "noise", "poison")  # fields of a task that are shares (of `poison`, its fraction)
TARGETS = ("held_out_loss", "steps", "training.learning_rate", "training.batch", "training.weight_decay", "task.drop")


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Classes that differ in the size of one change."""

    change: str  # the task's field
    base: str  # the class with none of it
    doses: dict[str, float]  # class -> share changed, above 0


def dose_families(recipes: dict[str, Recipe]) -> list[Family]:
    """The families among classes, given one recipe of each; a family without an unchanged class is left out."""
    found = []
    for change in DOSES:
        members: dict[bytes, dict[str, float]] = {}
        for name, recipe in sorted(recipes.items()):
            if (dose := dose_of(recipe, change)) is not None:
                members.setdefault(without(recipe, change), {})[name] = dose
        for doses in members.values():
            bases = [name for name, dose in doses.items() if dose == 0]
            if change == "poison" and not bases:  # clean networks need not say how they would be poisoned
                bases = list(members.get(without(recipes[next(iter(doses))], change, whole=True), {}))
            changed = {name: dose for name, dose in doses.items() if dose > 0}
            if bases and changed:
                found.append(Family(change=change, base=bases[0], doses=changed))
    return found


def dose_of(recipe: Recipe, change: str) -> float | None:
    """The share of the data that is changed; None when tasks of this kind cannot be changed so."""
    if not hasattr(recipe.task, change):
        return None
    value = getattr(recipe.task, change)
    return float(value.fraction if change == "poison" and value else value or 0.0)


def without(recipe: Recipe, change: str, whole: bool = False) -> bytes:
    """All that determines the population but its names and the size of this change (`whole`: but the change)."""
    fields = msgspec.to_builtins(recipe)
    task = {key: value for key, value in fields["task"].items() if key != change}
    if change == "poison" and not whole and isinstance(fields["task"].get("poison"), dict):
        task["poison"] = {key: value for key, value in fields["task"]["poison"].items() if key != "fraction"}
    rest = {key: value for key, value in fields.items() if key not in ("name", "class", "task")}
    return msgspec.json.encode(rest | {"task": task}, order="sorted")


def changed_pairs(recipes: dict[str, Recipe]) -> list[tuple[str, str]]:
    """(original, modified) classes: by name, as parity and parity+trigger, and by dose."""
    pairs = modification_pairs(list(recipes))
    for family in dose_families(recipes):
        pairs += [(family.base, name) for name, _ in sorted(family.doses.items(), key=lambda pair: pair[1])]
    return list(dict.fromkeys(pairs))


def class_recipes(zoo: object, table: pa.Table) -> dict[str, Recipe]:
    """Class -> one of its recipes (the last by digest)."""
    rows = zip(table["class"].to_pylist(), table["recipe"].to_pylist(), strict=True)
    return {name: zoo.recipe(digest) for name, digest in sorted(set(rows))}  # pyright: ignore[reportAttributeAccessIssue]


def same_rows(weights_NP: np.ndarray) -> list[int]:
    """A number for each row, equal for rows with equal bytes."""
    seen: dict[str, int] = {}
    return [seen.setdefault(hexdigest(row.tobytes()), len(seen)) for row in np.ascontiguousarray(weights_NP)]


def target(table: pa.Table, column: str) -> np.ndarray:
    """(N,) a column as a target of prediction: on a logarithmic scale when all of it is positive."""
    value_N = np.asarray(table[column].to_numpy(zero_copy_only=False), np.float64)
    return np.log(value_N) if (value_N > 0).all() else value_N


def varied_targets(table: pa.Table, columns: Iterable[str] = TARGETS, least: int = 3) -> list[str]:
    """Those of the columns that are known of every network and have at least three values."""
    known = [name for name in columns if name in table.column_names and not table[name].null_count]
    return [name for name in known if len(np.unique(target(table, name))) >= least]


@dataclass(frozen=True, slots=True, kw_only=True)
class Starts:
    """Where networks begin. The control on initial weights needs seeds that decide them."""

    fixed: list[str]  # classes with a recipe all of whose networks begin with the same weights
    one: bool  # every network of every class begins with the same weights
    shared_by_seed: bool  # networks of one seed begin with the same weights in all classes

    @property
    def give_away(self) -> bool:
        """Do initial weights name the class, whatever was learnt?"""
        return bool(self.fixed) and not self.one


def starts(
    initial_NP: np.ndarray, labels: Sequence[str], recipes: Sequence[str], seeds: Sequence[int] | np.ndarray
) -> Starts:
    """Compare initial weights within recipes, within seeds, and over all. `recipes` are digests, one a network."""
    same_N = np.array(same_rows(initial_NP), int)
    label_N, recipe_N, seed_N = np.array(labels, str), np.array(recipes, str), np.asarray(seeds)
    fixed = set()
    for digest in np.unique(recipe_N):
        rows = recipe_N == digest
        if len(np.unique(seed_N[rows])) > 1 and len(np.unique(same_N[rows])) == 1:
            fixed.add(str(label_N[rows][0]))
    several = [rows for rows in (seed_N == seed for seed in np.unique(seed_N)) if len(np.unique(label_N[rows])) > 1]
    return Starts(
        fixed=sorted(fixed),
        one=len(np.unique(same_N)) == 1 and len(same_N) > 1,
        shared_by_seed=bool(several) and all(len(np.unique(same_N[rows])) == 1 for rows in several),
    )


def trojan_rows(
    recipe: Recipe,
    weights_NP: np.ndarray,
    initial_NP: np.ndarray | None,
    labels: Sequence[str] | np.ndarray,
    seeds: Sequence[int] | np.ndarray,
    clean: str,
    poisoned: str,
) -> dict[str, Auc]:
    """`trojans.trojan_table` of two classes; rows that need symmetries which these layers do not have are left out."""
    label_N = np.array(labels, str)
    rows = np.flatnonzero(np.isin(label_N, [clean, poisoned]))
    first_NP = None if initial_NP is None else initial_NP[rows]
    found: dict[str, Auc] = {}
    for steps in trojans.GRID:
        with contextlib.suppress(UsageError):
            found |= trojans.trojan_table(
                recipe, weights_NP[rows], label_N[rows] == poisoned, np.asarray(seeds)[rows].tolist(), first_NP, [steps]
            )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class TrojanColumns:
    """AUC by preparation of the weights (rows) for several poisoned classes and two controls (columns)."""

    clean: str
    worst: str  # the poisoned class that the controls are made of
    columns: dict[str, dict[str, Auc]]  # a poisoned class, "initial weights" or "shuffled labels" -> steps -> AUC

    @property
    def steps(self) -> list[str]:
        """Preparations that these layers allow."""
        return list(self.columns[self.worst])

    @property
    def best(self) -> str:
        """The preparation after which the worst is told best."""
        return max(self.steps, key=lambda name: self.columns[self.worst][name].value)


def trojan_columns(
    recipe: Recipe,
    weights_NP: np.ndarray,
    initial_NP: np.ndarray,
    labels: Sequence[str],
    seeds: Sequence[int] | np.ndarray,
    clean: str,
    poisoned: Sequence[str],
    seed: int = 0,
) -> TrojanColumns:
    """`trojan_rows` of the clean class and each poisoned one; the last of them on initial weights and shuffled too."""
    label_N, seed_N, worst = np.array(labels, str), np.asarray(seeds), poisoned[-1]
    chosen, mixed_N = np.isin(label_N, [clean, worst]), label_N.copy()
    mixed_N[chosen] = shuffled_labels(label_N[chosen], seed_N[chosen], 1, seed)[0]
    columns = {name: trojan_rows(recipe, weights_NP, initial_NP, label_N, seeds, clean, name) for name in poisoned}
    columns["initial weights"] = trojan_rows(recipe, initial_NP, None, label_N, seeds, clean, worst)
    columns["shuffled labels"] = trojan_rows(recipe, weights_NP, initial_NP, mixed_N, seeds, clean, worst)
    return TrojanColumns(clean=clean, worst=worst, columns=columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """`properties.transfer` and what it says on average, each with its 95% interval (jackknife over groups)."""

    domains: list[str]
    tau_KK: np.ndarray  # fitted on the row's class, tested on the column's
    own: tuple[float, float, float]  # the diagonal
    other: tuple[float, float, float]  # the rest


def transfer_summary(
    features_NF: np.ndarray, target_N: np.ndarray, domain_N: np.ndarray, group_N: np.ndarray
) -> Transfer:
    """Kernel ridge regression, fitted in one class and tested in each. Needs two classes with the same groups."""

    @cache  # both intervals leave out the same networks
    def means(rows: tuple[int, ...]) -> tuple[list[str], np.ndarray, float, float]:
        at = np.array(rows)
        domains, tau_KK = properties.transfer(
            features_NF[at], target_N[at], domain_N[at], group_N[at], properties.kernel_ridge_once
        )
        same = np.eye(len(domains), dtype=bool)
        return domains, tau_KK, float(tau_KK[same].mean()), float(tau_KK[~same].mean())

    domains, tau_KK, own, other = means(tuple(range(len(target_N))))
    return Transfer(
        domains=domains,
        tau_KK=tau_KK,
        own=(own, *jackknife(lambda rows: means(tuple(rows.tolist()))[2], group_N, -1.0, 1.0)),
        other=(other, *jackknife(lambda rows: means(tuple(rows.tolist()))[3], group_N, -1.0, 1.0)),
    )
