"""The first question of MLDS: do networks cluster by what they learnt, although nobody tells the method their classes?

The question is that of MLDS (Clemens 2021), whose methods could not be read; the measures and controls are OURS.
Axes: N networks, F features, K classes, D principal axes, R shuffles.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.statistics.labels import label_codes
from analysis.statistics.permutation import permutation_p
from analysis.statistics.shuffles import shuffled_labels
from analysis.weights.features import standardized
from analysis.weights.geometry import pca
from protocol.errors import UsageError

AXES = 10  # principal axes that clustering works on: distances in thousands of noisy directions are all alike


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How well clusters that were found without labels agree with the labels; 1 is perfect, 0 is chance."""

    method: str
    found: int  # clusters
    unclustered: int  # networks that HDBSCAN calls noise; they count as one cluster more
    ari: float  # adjusted Rand index
    nmi: float  # adjusted for chance as well (AMI) in `ami`; plain NMI is above 0 by chance
    ami: float
    null_ari: float  # largest with shuffled labels
    p: float  # of the adjusted Rand index
    cluster_N: np.ndarray  # of every network; -1: noise


def agreement(
    features_NF: np.ndarray,
    labels: Sequence[str],
    groups: Sequence[int] | np.ndarray,
    permutations: int = 1000,
    seed: int = 0,
) -> list[Agreement]:
    """k-means (with as many clusters as classes) and HDBSCAN on the first principal axes, against the labels.

    Labels are shuffled by group. Where there is one cluster, or none, all labels agree with it alike: p is 1.
    Raises UsageError with fewer than two classes, or fewer than two networks a class on average.
    """
    from sklearn.cluster import HDBSCAN, KMeans
    from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score

    code_N, classes = label_codes(labels)
    if len(code_N) < 2 * len(classes) or len(classes) < 2:
        raise UsageError("clustering needs two classes and a few networks of each")
    places_ND = pca(standardized(features_NF), min(AXES, features_NF.shape[1])).scores_ND
    smallest = max(3, int(np.bincount(code_N).min()) // 4)
    found = {
        "k-means": KMeans(len(classes), n_init=10, random_state=seed).fit_predict(places_ND),  # pyright: ignore[reportArgumentType]
        "HDBSCAN": HDBSCAN(min_cluster_size=smallest, copy=True).fit_predict(places_ND),  # pyright: ignore[reportArgumentType]
    }
    codes_RN = np.vstack([code_N, shuffled_labels(code_N, groups, permutations, seed)])
    rows = []
    for method, cluster_N in found.items():
        ari, *null_R = adjusted_rand(codes_RN, cluster_N).tolist()
        rows.append(
            Agreement(
                method=method,
                found=len(set(cluster_N.tolist()) - {-1}),
                unclustered=int((cluster_N == -1).sum()),
                ari=ari,
                nmi=float(normalized_mutual_info_score(code_N, cluster_N)),
                ami=float(adjusted_mutual_info_score(code_N, cluster_N)),
                null_ari=max(null_R, default=float("nan")),
                p=permutation_p(ari, null_R),
                cluster_N=cluster_N,
            )
        )
    return rows


def adjusted_rand(codes_RN: np.ndarray, cluster_N: np.ndarray) -> np.ndarray:
    """(R,) adjusted Rand index of R labelings, numbers from 0, with one clustering: scikit-learn's formula."""
    of_cluster_NC = np.equal.outer(cluster_N, np.unique(cluster_N)).astype(np.float64)
    counts_RKC = np.stack([(codes_RN == k) @ of_cluster_NC for k in range(int(codes_RN.max()) + 1)], axis=1)
    both_R, first_R, second_R = (
        (x**2).reshape(len(x), -1).sum(1) for x in (counts_RKC, counts_RKC.sum(2), counts_RKC.sum(1))
    )
    n = codes_RN.shape[1]
    together_R, only_first_R, only_second_R = both_R - n, first_R - both_R, second_R - both_R
    apart_R = n**2 - only_first_R - only_second_R - both_R
    shared_R = (together_R + only_first_R) * (only_first_R + apart_R)
    shared_R += (together_R + only_second_R) * (only_second_R + apart_R)
    equal_R = (only_first_R == 0) & (only_second_R == 0)
    index_R = 2 * (together_R * apart_R - only_first_R * only_second_R) / np.where(equal_R, 1, shared_R)
    return np.where(equal_R, 1.0, index_R)


def silhouette(features_NF: np.ndarray, labels: Sequence[str]) -> float:
    """-1 to 1: how much nearer networks are to their own class than to the next; about 0 when classes do not matter."""
    from sklearn.metrics import silhouette_score

    return float(silhouette_score(standardized(features_NF), np.array(labels, str)))
