"""Every p-value of the page: uniform where there is nothing to find, whatever the design; small where there is.

A null gives 200 draws of features without classes (40 with the fast tests) to a method, with seeds that the classes
share or do not; a p-value of R shuffles then takes each multiple of 1 / (R + 1) alike, and is made continuous by a
draw within its step before the test of Kolmogorov and Smirnov. A p of a trend over few doses has few values: of it we
ask that it is at most a no more often than in a share a of the draws. Everything is keyed by the number of the draw.
"""

import contextlib
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from scipy.stats import binom, kstest

import analysis.methods
import analysis.report
import analysis.statistics
from analysis.methods import changes, clusters, layer_tests
from analysis.methods.maps import same_class_nearby
from analysis.methods.retrieval import retrieval
from analysis.statistics.classify import class_accuracy
from analysis.statistics.distances import centre_test
from analysis.statistics.permutation import permanova
from analysis.statistics.splits import groups
from analysis.weights.similarity import euclidean
from protocol.errors import UsageError

DRAWS, FEW_DRAWS = 200, 40
SHUFFLES = 199
FEATURES = 12
ODD = 1e-3  # a draw of draws that is rarer is an error; the seeds are fixed, so it is one or it is not


class People(NamedTuple):
    """Networks of no class in particular."""

    features_NF: np.ndarray
    labels: list[str]
    seeds: list[int]


DESIGNS = {  # class and seed of each network
    "two classes of 20": (np.repeat([0, 1], 20), np.tile(np.arange(20), 2)),
    "ten classes of 4": (np.repeat(np.arange(10), 4), np.tile(np.arange(4), 10)),
    "twins": (np.repeat(np.arange(4), 10), np.tile(np.arange(10), 4)),
    "own seeds": (np.repeat(np.arange(4), [8, 10, 10, 12]), np.arange(40)),
    "seeds partly shared": (np.repeat(np.arange(4), 10), np.tile(np.arange(10), 4) + np.repeat([0, 0, 2, 3], 10)),
}


def people(design: str, draw: int, shift: float = 0.0, clouds: bool = False) -> People:
    """Twins share most of what they are; `clouds` are there to be found by clustering, and are no classes."""
    rng = np.random.default_rng([draw, len(design)])
    code_N, seed_N = DESIGNS[design]
    features_NF = rng.normal(size=(len(code_N), FEATURES))
    if design == "twins":
        features_NF += 2 * rng.normal(size=(seed_N.max() + 1, FEATURES))[seed_N]
    if clouds:
        features_NF += 6 * rng.normal(size=(3, FEATURES))[rng.integers(0, 3, len(code_N))]
    features_NF += shift * rng.normal(size=(code_N.max() + 1, FEATURES))[code_N]
    return People(features_NF, [f"class{k}" for k in code_N], seed_N.tolist())


Measure = Callable[[People, int], float]


def nearby(of: People, draw: int) -> float:
    return same_class_nearby(of.features_NF, of.labels, groups(of.seeds), SHUFFLES, draw).p


def centres(of: People, draw: int) -> float:
    return centre_test(of.features_NF, of.labels, groups(of.seeds), SHUFFLES, draw).p


def told(of: People, draw: int) -> float:
    return class_accuracy(of.features_NF, of.labels, of.seeds, SHUFFLES, draw).p


def layer(of: People, draw: int) -> float:
    return layer_tests.tested_layers({"all": of.features_NF}, of.labels, of.seeds, SHUFFLES, draw)["all"].p


def best_layer(of: People, draw: int) -> float:
    """The least of the corrected p-values: with Holm's it hardly ever was below 0.05."""
    depths = {f"1-{k}": of.features_NF[:, : 2 * k] for k in range(1, 7)}
    found = layer_tests.tested_layers(depths, of.labels, of.seeds, SHUFFLES, draw)
    return min(one.largest_p for one in found.values())


def k_means(of: People, draw: int) -> float:
    return clusters.agreement(of.features_NF, of.labels, np.array(of.seeds), SHUFFLES, draw)[0].p


def hdbscan(of: People, draw: int) -> float:
    return clusters.agreement(of.features_NF, of.labels, np.array(of.seeds), SHUFFLES, draw)[1].p


def explained(of: People, draw: int) -> float:
    return permanova(euclidean(of.features_NF), of.labels, np.array(of.seeds), SHUFFLES, draw).p


def retrieved(of: People, draw: int) -> float:
    return retrieval(of.features_NF, of.labels, np.array(of.seeds), SHUFFLES, draw).p


def separated(of: People, draw: int) -> float:
    return changes.separation(*of, "class0", "class1", shuffles=SHUFFLES, seed=draw).p


def by_one_number(of: People, draw: int) -> float:
    """As of the loss alone: five values, so scores are tied."""
    coarse_N1 = np.round(of.features_NF[:, :1])
    return changes.separation(coarse_N1, *of[1:], "class0", "class1", shuffles=SHUFFLES, seed=draw).p


MEASURES = (nearby, centres, told, layer, best_layer, k_means, hdbscan, explained, retrieved, separated, by_one_number)
CLUSTERED = (k_means, hdbscan)
PAIRS = [
    (measure, design)
    for measure in MEASURES
    for design in DESIGNS
    if (measure, design) != (retrieved, "two classes of 20")  # it needs four classes
]
name_of = lambda value: value if isinstance(value, str) else value.__name__  # noqa: E731


def p_values(measure: Measure, design: str, draws: int) -> np.ndarray:
    found = []
    for draw in range(2 * draws):
        if len(found) == draws:
            break
        with contextlib.suppress(UsageError):  # this draw's split leaves all of a class on one side
            found.append(measure(people(design, draw, clouds=measure in CLUSTERED), draw))
    assert len(found) == draws
    return np.array(found)


def uniform(p_D: np.ndarray) -> float:
    """p of the test that these p-values are uniform."""
    steps = SHUFFLES + 1
    assert (np.abs(p_D * steps - np.round(p_D * steps)) < 1e-9).all() and p_D.min() > 0 and p_D.max() <= 1
    within_D = np.random.default_rng(0).random(len(p_D))
    return float(kstest(p_D - within_D / steps, "uniform").pvalue)


@pytest.mark.parametrize(("measure", "design"), PAIRS[::3], ids=name_of)
def test_some_nulls_are_uniform(measure, design):
    assert uniform(p_values(measure, design, FEW_DRAWS)) > ODD


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(("measure", "design"), PAIRS, ids=name_of)
def test_every_null_is_uniform(measure, design):
    p_D = p_values(measure, design, DRAWS)
    odd = uniform(p_D)
    print(f"{measure.__name__}, {design}: {np.mean(p_D <= 0.05):.3f} at 0.05, KS p {odd:.2g}")
    assert odd > ODD


def test_the_test_of_uniformity_sees_what_it_must():
    """Labels shuffled over seeds, twins: the p-values of what stood here before."""
    free = [
        permanova(euclidean((of := people("twins", draw)).features_NF), of.labels, np.arange(40), SHUFFLES, draw).p
        for draw in range(FEW_DRAWS)
    ]
    assert uniform(np.array(free)) < 1e-9


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("measure", MEASURES, ids=name_of)
@pytest.mark.parametrize("design", ["two classes of 20", "twins"])
def test_what_is_planted_is_found(measure, design):
    """Classes that leave no doubt, in 40 networks: found at 0.05 in four of five draws at least (printed)."""
    if (measure, design) == (retrieved, "two classes of 20"):
        return
    shift = 6.0 if measure is by_one_number else 3.0 if measure in CLUSTERED or design == "twins" else 1.5
    found = np.mean([measure(people(design, draw, shift), draw) <= 0.05 for draw in range(FEW_DRAWS)])
    print(f"{measure.__name__}, {design}, shift {shift}: power {found:.2f}")
    assert found >= 0.8


def trend(draw: int, step: float) -> float:
    """The p of a larger dose, a larger distance; 20 networks for each of four doses and none."""
    rng, doses = np.random.default_rng(draw), {f"x+{k}": float(k) for k in (1, 2, 3, 4)}
    labels = [name for name in ("x", *doses) for _ in range(20)]
    shift_N = np.repeat(np.arange(5.0), 20)[:, None] * step
    features_NF = rng.normal(size=(100, FEATURES)) + shift_N * np.ones(FEATURES)
    return changes.dose_response(features_NF, labels, list(range(20)) * 5, doses, "x", bootstraps=2).p


@pytest.mark.parametrize("draws", [FEW_DRAWS, pytest.param(DRAWS, marks=[pytest.mark.slow, pytest.mark.long])])
def test_a_trend_over_doses_raises_no_more_alarms_than_it_says(draws):
    p_D = np.array([trend(draw, 0.0) for draw in range(draws)])
    for level in np.unique(p_D):
        assert (p_D <= level + 1e-9).sum() <= binom.ppf(1 - ODD, draws, level)
    assert np.mean([trend(draw, 0.5) <= 0.05 for draw in range(10)]) >= 0.8


def test_no_other_module_makes_a_p():
    """Whoever adds a p-value to the page adds its null here (probes have a page and tests of their own)."""
    covered = {one.__module__ for one in (
        same_class_nearby, layer_tests.tested_layers, clusters.agreement, retrieval, changes.separation, centre_test,
        class_accuracy, permanova,
    )}  # fmt: skip
    makers = ("permutation_p(", "largest_p(", "rank_trend(", "permutation_test(", ".pvalue")
    found = {
        each.name
        for package in (analysis.methods, analysis.statistics, analysis.report)
        for each in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
        if any(maker in inspect.getsource(importlib.import_module(each.name)) for maker in makers)
    }
    assert found == covered
