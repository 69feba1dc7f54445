"""The first question of MLDS: do networks cluster by what they learnt, although nobody tells the method their classes?

The question is that of MLDS (Clemens 2021), whose methods could not be read; the measures and controls are OURS.
Axes: N networks, F features, K classes, D principal axes, R shuffles.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.statistics.labels import label_codes
from analysis.statistics.permutation import permutation_p
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
    features_NF: np.ndarray, labels: Sequence[str], permutations: int = 199, seed: int = 0
) -> list[Agreement]:
    """k-means (with as many clusters as classes) and HDBSCAN on the first principal axes, against the labels.

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
    rng = np.random.default_rng(seed)
    shuffled_RN = [rng.permutation(code_N) for _ in range(permutations)]
    rows = []
    for method, cluster_N in found.items():
        ari = adjusted_rand(code_N, cluster_N)
        null_R = np.array([adjusted_rand(other_N, cluster_N) for other_N in shuffled_RN])
        rows.append(
            Agreement(
                method=method,
                found=len(set(cluster_N.tolist()) - {-1}),
                unclustered=int((cluster_N == -1).sum()),
                ari=ari,
                nmi=float(normalized_mutual_info_score(code_N, cluster_N)),
                ami=float(adjusted_mutual_info_score(code_N, cluster_N)),
                null_ari=float(null_R.max(initial=-1)),
                p=permutation_p(ari, null_R),
                cluster_N=cluster_N,
            )
        )
    return rows


def adjusted_rand(code_N: np.ndarray, cluster_N: np.ndarray) -> float:
    """Adjusted Rand index of two groupings, numbers from -1: scikit-learn's formula, without its checks of input."""
    clusters = int(cluster_N.max()) + 2
    pairs_KC = np.bincount((code_N + 1) * clusters + cluster_N + 1).astype(int)
    pairs_KC = np.pad(pairs_KC, (0, -len(pairs_KC) % clusters)).reshape(-1, clusters)
    both, first, second = (int((x**2).sum()) for x in (pairs_KC, pairs_KC.sum(1), pairs_KC.sum(0)))
    together, only_first, only_second = both - len(code_N), first - both, second - both
    apart = len(code_N) ** 2 - only_first - only_second - both
    if not only_first and not only_second:
        return 1.0
    shared = (together + only_first) * (only_first + apart) + (together + only_second) * (only_second + apart)
    return 2.0 * (together * apart - only_first * only_second) / shared


def silhouette(features_NF: np.ndarray, labels: Sequence[str]) -> float:
    """-1 to 1: how much nearer networks are to their own class than to the next; about 0 when classes do not matter."""
    from sklearn.metrics import silhouette_score

    return float(silhouette_score(standardized(features_NF), np.array(labels, str)))
