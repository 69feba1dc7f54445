"""All probes of one zoo in one table: a number a network of each, how they go together, what the weights tell of them.

    numbers = wide(zoo, zoo.table())
    pairs = correlations(numbers)
    told = foretold(numbers, recipe, weights_NP, initial_NP)   # networks of one shape, in the order of `numbers`

Networks of one class share most of what they are, so every correlation stands beside the same one within classes: ranks
less their class's mean. Axes: N networks, K numbers, F features, P parameters.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from analysis.catalogue.probe_tables import probe_names
from analysis.methods.properties import PREDICTORS, Prediction, predict
from analysis.statistics.ranks import spearman_interval
from analysis.statistics.splits import FOLDS, groups
from analysis.weights.chains import chain_features
from analysis.weights.features import array_statistics
from analysis.zoo import Zoo
from protocol.errors import UsageError
from protocol.recipes.recipe import Recipe

LEAST = 20  # networks that have a number, or both of a pair; fewer have intervals as wide as all there is
POISON, LOSS, LOSS_ALONE = "poisoned share", "held-out loss", "loss alone"
RIDGE = PREDICTORS["kernel ridge"]
Mark = tuple[float, float, float]  # value and its 95% interval


class Number(NamedTuple):
    """What one probe says of a network in one number: SQL over the rows of the probe that are about the network."""

    name: str
    probe: str
    value: str  # an aggregate
    where: str = "true"


SECOND, FRESH = ("max(signed_z) filter (where compared = 'second')", "max(signed_z) filter (where compared = 'fresh')")
TRAINED = "weights = 'trained'"
NUMBERS = (
    Number("halving radius", "corruption", "any_value(halving)", f"{TRAINED} and layer = 'all'"),
    Number("certified radius", "verification", "any_value(radius)", TRAINED),
    Number("attack radius", "verification", "any_value(attack_radius)", TRAINED),
    Number("hardness", "quantitative", "avg(hardness_low)", f"{TRAINED} and property = 'robust' and norm = 'linf'"),
    Number("trojan works", "quantitative", "avg(p)", f"{TRAINED} and property = 'trojan'"),
    Number("bits known", "information", "avg(net_bits)", "kind = 'own'"),
    Number("attribution gap", "attribution", f"{SECOND} - {FRESH}"),
    Number(
        "transfers",
        "transfer",
        "avg(score) filter (where method = 'ptu') - avg(score) filter (where method = 'scratch')",
        "source = 'trained'",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wide:
    """A row a network, in the order of the table that was asked about."""

    ids: list[str]
    classes: list[str]
    seeds: list[int]
    recipes: list[str]
    names: list[str]  # of the columns
    values_NK: np.ndarray  # NaN where a probe did not look

    def column(self, name: str) -> np.ndarray:
        return self.values_NK[:, self.names.index(name)]


def wide(zoo: Zoo, table: pa.Table) -> Wide:
    """Numbers that at least LEAST of these networks have, and the poison and held-out loss of the catalogue.

    Raises UsageError: fewer than two probes left rows of them.
    """
    ids, there = table["id"].to_pylist(), probe_names(zoo.store.path)
    columns: dict[str, np.ndarray] = {}
    for number in NUMBERS:
        if number.probe in there:
            found = told(zoo, number)
            columns[number.name] = np.array([found.get(network, np.nan) for network in ids], np.float64)
    kept = {name: values for name, values in columns.items() if (~np.isnan(values)).sum() >= LEAST}
    if len({number.probe for number in NUMBERS if number.name in kept}) < 2:
        raise UsageError(f"Fewer than two probes left numbers of at least {LEAST} of these networks.")
    losses = np.array(table["held_out_loss"].to_pylist(), np.float64)
    shares = np.array([poisoned(zoo.recipes[digest]) for digest in table["recipe"].to_pylist()], np.float64)
    for name, values in ((POISON, shares), (LOSS, losses)):
        if len(np.unique(values[~np.isnan(values)])) > 1:
            kept[name] = values
    return Wide(
        ids=ids,
        classes=table["class"].to_pylist(),
        seeds=table["seed"].to_pylist(),
        recipes=table["recipe"].to_pylist(),
        names=list(kept),
        values_NK=np.stack(list(kept.values()), 1),
    )


def poisoned(recipe: Recipe) -> float:
    """Share of the training images; NaN where no poison is named."""
    poison = getattr(recipe.task, "poison", None)
    return poison.fraction if poison else float("nan")


def told(zoo: Zoo, number: Number) -> dict[str, float]:
    """Network -> number."""
    rows = zoo.sql(
        f"select network, {number.value} as value from probes.{number.probe} where {number.where} group by network"
    )
    return {row["network"]: float(row["value"]) for row in rows.to_pylist() if row["value"] is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two numbers of the same networks: Spearman's correlation, over all and within classes."""

    first: str
    second: str
    networks: int
    overall: Mark
    within: Mark


def correlations(numbers: Wide) -> list[Pair]:
    """Every pair that at least LEAST networks have both of; intervals by leaving out blocks of seeds."""
    found = []
    for first, second in combinations(numbers.names, 2):
        a, b = numbers.column(first), numbers.column(second)
        both = ~np.isnan(a) & ~np.isnan(b)
        if both.sum() < LEAST:
            continue
        seed_N, class_N = np.array(numbers.seeds)[both], np.array(numbers.classes, str)[both]
        within = spearman_interval(centred_ranks(a[both], class_N), centred_ranks(b[both], class_N), seed_N)
        overall = spearman_interval(a[both], b[both], seed_N)
        found.append(Pair(first=first, second=second, networks=int(both.sum()), overall=overall, within=within))
    return found


def centred_ranks(values_N: np.ndarray, class_N: np.ndarray) -> np.ndarray:
    """(N,) ranks less the mean rank of the class."""
    from scipy.stats import rankdata

    ranks = rankdata(values_N)
    names, code_N = np.unique(class_N, return_inverse=True)
    return ranks - (np.bincount(code_N, ranks, len(names)) / np.bincount(code_N, minlength=len(names)))[code_N]


@dataclass(frozen=True, slots=True, kw_only=True)
class Foretold:
    """A number predicted from features, on networks whose seed, recipe or class no training network had."""

    number: str
    split: str
    groups: int
    taus: dict[str, Mark]  # features -> Kendall's tau; NaN where the split leaves too few groups
    shuffled: float  # tau with the target shuffled, from the first features


def foretold(numbers: Wide, recipe: Recipe, weights_NP: np.ndarray, initial_NP: np.ndarray) -> list[Foretold]:
    """Every number by seeds, recipes and classes. Controls: initial weights, the loss alone, a shuffled target."""
    features = features_of(numbers, recipe, weights_NP, initial_NP)
    splits = {"seed": numbers.seeds, "recipe": numbers.recipes, "class": numbers.classes}
    found = []
    for name in numbers.names:
        target_N = numbers.column(name)
        known = np.isfinite(target_N)
        for split, keys in splits.items():
            group_N = groups(np.array(keys, str)[known].tolist())
            if len(np.unique(group_N)) < FOLDS or len(np.unique(target_N[known])) < 2:
                continue
            asked = {key: x_NF for key, x_NF in features.items() if key != LOSS_ALONE or name != LOSS}
            told = {key: predict(x_NF[known], target_N[known], group_N, RIDGE) for key, x_NF in asked.items()}
            first: Prediction = next(iter(told.values()))
            taus = {key: (one.tau, one.tau_low, one.tau_high) for key, one in told.items()}
            found.append(
                Foretold(number=name, split=split, groups=first.groups, taus=taus, shuffled=first.shuffled_tau)
            )
    return found


def features_of(
    numbers: Wide, recipe: Recipe, weights_NP: np.ndarray, initial_NP: np.ndarray
) -> Mapping[str, np.ndarray]:
    """(N, F) of weights, then of what must not know: initial weights, and the held-out loss."""
    features = {
        "statistics": array_statistics(recipe, weights_NP),
        "chain features": chain_features(recipe, weights_NP),
        "initial weights": array_statistics(recipe, initial_NP),
    }
    if LOSS in numbers.names:
        features[LOSS_ALONE] = np.log(np.maximum(numbers.column(LOSS), 1e-12))[:, None]
    return features
