"""Do networks of one class lie together, although nobody told the method what the classes are?

Four answers with intervals and p-values: clusters, nearest neighbours, PERMANOVA, and retrieval of unseen classes.
Axes: N networks, P parameters.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.methods import clusters
from analysis.methods.maps import same_class_nearby
from analysis.methods.retrieval import retrieval
from analysis.statistics.intervals import jackknife
from analysis.statistics.labels import label_codes
from analysis.statistics.permutation import explained, permanova
from analysis.statistics.splits import groups
from analysis.weights import chains
from analysis.weights.features import invariants, standardized
from analysis.weights.similarity import euclidean
from protocol.errors import UsageError
from protocol.recipes.recipe import Recipe

RETRIEVED_CLASSES = 4  # at least: half are trained on, and retrieval needs two others


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouped:
    """One answer, on its own scale."""

    value: float
    low: float  # 95%
    high: float
    p: float
    shuffled: float  # with shuffled labels: the mean; of clusters, the largest


def grouped(
    recipe: Recipe,
    weights_NP: np.ndarray,
    labels: Sequence[str],
    seeds: Sequence[int] | np.ndarray,
    permutations: int = 1000,
) -> dict[str, Grouped]:
    """Method -> answer. Raises UsageError with fewer than two classes or too few networks of them.

    Intervals: jackknife over seeds, with clusters, neighbours and the maps of retrieval held fixed.
    """
    label_N, group_N = np.array(labels, str), groups(seeds)
    found = _clusters(invariants(recipe, weights_NP), label_N, group_N, permutations)
    features_NF = chains.chain_features(recipe, weights_NP)
    near = same_class_nearby(standardized(features_NF), labels, group_N, permutations)
    found["nearest neighbour, share of same class"] = Grouped(
        value=near.value, low=near.low, high=near.high, p=near.p, shuffled=near.shuffled
    )
    found["PERMANOVA, share of variance"] = _explained(recipe, weights_NP, label_N, group_N, permutations)
    if len(set(labels)) >= RETRIEVED_CLASSES:
        seen = retrieval(features_NF, labels, group_N, permutations)
        found["retrieval of unseen classes, mAP"] = Grouped(
            value=seen.mean_average_precision, low=seen.low, high=seen.high, p=seen.p, shuffled=seen.chance
        )
    return found


def _clusters(
    features_NF: np.ndarray, label_N: np.ndarray, group_N: np.ndarray, permutations: int
) -> dict[str, Grouped]:
    code_N, found = label_codes(label_N.tolist())[0], {}
    for one in clusters.agreement(features_NF, label_N.tolist(), group_N, permutations):
        low, high = jackknife(
            lambda rows, of=one.cluster_N: float(clusters.adjusted_rand(code_N[rows][None], of[rows])[0]),
            group_N,
            -1.0,
            1.0,
        )
        found[f"{one.method}, Rand index"] = Grouped(value=one.ari, low=low, high=high, p=one.p, shuffled=one.null_ari)
    return found


def _explained(
    recipe: Recipe, weights_NP: np.ndarray, label_N: np.ndarray, group_N: np.ndarray, permutations: int
) -> Grouped:
    """R2 by PERMANOVA, whose mean with shuffled labels is (K - 1) / (N - 1)."""
    try:
        distance_NN = chains.chain_distance(chains.chains(recipe, weights_NP))
    except UsageError:  # layers that chains do not know
        distance_NN = euclidean(standardized(chains.chain_features(recipe, weights_NP)))

    whole, square_NN = permanova(distance_NN, label_N.tolist(), group_N, permutations), distance_NN**2
    code_N = label_codes(label_N.tolist())[0]
    low, high = jackknife(lambda rows: explained(square_NN, code_N, rows), group_N, 0.0, 1.0)
    return Grouped(
        value=whole.r2,
        low=low,
        high=high,
        p=whole.p,
        shuffled=(len(set(label_N.tolist())) - 1) / (len(label_N) - 1),
    )
