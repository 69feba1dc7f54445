"""Networks in the plane, and how much of their classes such a map keeps.

Principal components are geometry; t-SNE is van der Maaten and Hinton (JMLR 2008) by scikit-learn, begun from the
principal components (Kobak and Berens 2019), so that it repeats itself. Axes: N networks, P parameters, F features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.statistics.intervals import jackknife
from analysis.statistics.labels import label_codes
from analysis.statistics.permutation import permutation_p
from analysis.statistics.shuffles import shuffled_labels
from analysis.statistics.splits import groups
from analysis.weights.features import invariants, standardized
from analysis.weights.geometry import Map, pca
from analysis.weights.neighbours import neighbours
from protocol.errors import UsageError
from protocol.recipes.recipe import Recipe

TSNE_AXES = 30  # principal axes that t-SNE sees
TSNE_LEAST = 10  # networks
NEIGHBOURS = 30  # looked at for one of another seed


def tsne(features_NF: np.ndarray, seed: int = 0) -> Map:
    """A map that keeps neighbours near; distances between far groups mean nothing, so no share is explained."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    axes_ND = pca(features_NF, min(TSNE_AXES, features_NF.shape[1], len(features_NF))).scores_ND
    begin = axes_ND[:, :2] / max(float(axes_ND[:, 0].std()), 1e-300) * 1e-4
    perplexity = min(30.0, (len(features_NF) - 1) / 3)
    with threadpool_limits(1):  # sums in another order give another picture
        settings: dict[str, Any] = {"perplexity": perplexity, "init": begin, "random_state": seed, "n_jobs": 1}
        places_ND = TSNE(2, **settings).fit_transform(axes_ND)
    return Map(scores_ND=np.asarray(places_ND, np.float64), explained_D=np.zeros(0))


def network_maps(recipe: Recipe, weights_NP: np.ndarray) -> dict[str, Map]:
    """Every map of the page: two of numbers that do not see how hidden units are numbered, one of raw weights."""
    free_NF = standardized(invariants(recipe, weights_NP))
    maps = {"Numbering-free features, PCA": pca(free_NF), "Raw weights, PCA": pca(weights_NP)}
    if len(weights_NP) >= TSNE_LEAST:
        maps["Numbering-free features, t-SNE"] = tsne(free_NF)
    return maps


@dataclass(frozen=True, slots=True, kw_only=True)
class SameClassNearby:
    """Share of networks whose nearest neighbour of another group has their class."""

    value: float
    low: float  # 95%, jackknife over groups
    high: float
    shuffled: float  # the mean with shuffled labels
    p: float
    classes: int


def same_class_nearby(
    features_NF: np.ndarray, labels: Sequence[str], group_N: np.ndarray, permutations: int = 1000, seed: int = 0
) -> SameClassNearby:
    """Neighbours by Euclidean distance; a network none of whose 30 nearest is of another group counts as wrong.

    Raises UsageError with a single network.
    """
    code_N, classes = label_codes(labels)
    index_Nk = neighbours(features_NF, NEIGHBOURS).index_Nk
    if not index_Nk.size:
        raise UsageError("one network has no neighbours: a map needs two")
    foreign_Nk = group_N[index_Nk] != group_N[:, None]
    nearest_N = index_Nk[np.arange(len(code_N)), foreign_Nk.argmax(1)]
    found_N = foreign_Nk.any(1)
    right_N = found_N & (code_N[nearest_N] == code_N)
    mixed_RN = shuffled_labels(code_N, group_N, permutations, seed)  # by group: neighbours are looked for in others
    null_R = (found_N & (mixed_RN[:, nearest_N] == mixed_RN)).mean(1)
    low, high = jackknife(lambda rows: float(right_N[rows].mean()), group_N, 0.0, 1.0)
    return SameClassNearby(
        value=float(right_N.mean()),
        low=low,
        high=high,
        shuffled=float(null_R.mean()) if permutations else float("nan"),
        p=permutation_p(float(right_N.mean()), null_R),
        classes=len(classes),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassMap:
    """A map, and how much of the classes it keeps."""

    map: Map
    labels: tuple[str, ...]  # of the networks, in the order of the map's rows
    nearby: SameClassNearby


def class_maps(
    recipe: Recipe,
    weights_NP: np.ndarray,
    labels: Sequence[str],
    seeds: Sequence[int] | np.ndarray,
    permutations: int = 1000,
) -> dict[str, ClassMap]:
    """Name -> map, for every map of `network_maps`. Raises UsageError with a single network."""
    group_N = groups(seeds)
    return {
        name: ClassMap(
            map=place, labels=tuple(labels), nearby=same_class_nearby(place.scores_ND, labels, group_N, permutations)
        )
        for name, place in network_maps(recipe, weights_NP).items()
    }
