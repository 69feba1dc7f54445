"""Distances within and between classes, and what shuffled labels give.

Over all pairs of networks, a block of rows at a time. Axes: N networks, P parameters, K classes, R shuffles.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.statistics.intervals import jackknife
from analysis.statistics.labels import class_sums, label_codes
from analysis.statistics.permutation import PERMUTATIONS, permutation_p
from analysis.statistics.shuffles import shuffled_labels
from analysis.weights.geometry import blocks, squared_distances


@dataclass(frozen=True, slots=True, kw_only=True)
class Distances:
    """Root-mean-square Euclidean distances between networks of two classes; the diagonal is within a class."""

    classes: tuple[str, ...]
    rms_KK: np.ndarray  # NaN on the diagonal of a class with one network
    within: float  # over all pairs of one class; NaN when there is none
    between: float  # over all pairs of two classes; NaN when there is none
    centres: float  # root of `centre_square`, 0 when that is negative; NaN when there are no two classes


def class_distances(weights_NP: np.ndarray, labels: Sequence[str]) -> Distances:
    """Of weights or any other features (N, P), in their unit.

    Exact over all pairs in one pass: the mean squared distance of two classes is |mean - mean|^2 + both spreads.
    """
    code_N, classes = label_codes(labels)
    p, k = weights_NP.shape[1], len(classes)
    center_P = weights_NP.mean(0, dtype=np.float64) if len(weights_NP) else np.zeros(p)
    sum_KP, square_K = np.zeros((k, p)), np.zeros(k)
    for rows, block in blocks(weights_NP, center_P):
        member_KB = np.equal.outer(np.arange(k), code_N[rows]).astype(float)
        sum_KP += member_KB @ block
        square_K += member_KB @ (block * block).sum(1)
    count_K = np.bincount(code_N, minlength=k).astype(float)
    mean_KP = sum_KP / count_K[:, None]
    spread_K = np.maximum(square_K / count_K - (mean_KP**2).sum(1), 0)
    norm_K = (mean_KP**2).sum(1)
    apart_KK = norm_K[:, None] + norm_K[None] - 2 * mean_KP @ mean_KP.T
    mean_square_KK = np.maximum(apart_KK, 0) + spread_K[:, None] + spread_K[None]
    with np.errstate(invalid="ignore", divide="ignore"):
        # A network is no pair with itself.
        np.fill_diagonal(mean_square_KK, np.where(count_K > 1, 2 * spread_K * count_K / (count_K - 1), np.nan))
    pairs_KK = np.outer(count_K, count_K)
    np.fill_diagonal(pairs_KK, count_K * (count_K - 1))
    same = np.eye(k, dtype=bool)
    return Distances(
        classes=classes,
        rms_KK=np.sqrt(mean_square_KK),
        within=pooled(mean_square_KK[same], pairs_KK[same]),
        between=pooled(mean_square_KK[~same], pairs_KK[~same]),
        centres=float(np.sqrt(np.maximum(0, centre_square(mean_square_KK)))),
    )


def centre_square(mean_square_KK: np.ndarray) -> float:
    """Mean square distance of class centres over pairs of classes, without the part that chance gives.

    E|x - y|^2 across two classes is |centre - centre|^2 and half of each class's own mean square: so the difference is
    an unbiased estimate, and negative about as often as not when centres are the same. NaN with fewer than two classes
    of two networks.
    """
    own_K = np.diag(mean_square_KK)
    centre_KK = mean_square_KK - (own_K[:, None] + own_K[None]) / 2
    several_K = ~np.isnan(own_K)
    pairs_KK = np.outer(several_K, several_K) & ~np.eye(len(own_K), dtype=bool)
    return float(centre_KK[pairs_KK].mean()) if pairs_KK.any() else float("nan")


def centre_squares(square_NN: np.ndarray, codes_RN: np.ndarray, classes: int) -> np.ndarray:
    """(R,) `centre_square` of R labelings that have as many networks of each class; code K: of none.

    From the squared distances, so that a labeling costs N^2 K and not a pass over all weights.
    """
    count_K = np.bincount(codes_RN[0], minlength=classes)[:classes].astype(float)
    pairs_KK = np.outer(count_K, count_K)
    np.fill_diagonal(pairs_KK, count_K * (count_K - 1))
    sums = class_sums(square_NN, codes_RN, classes)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.array([centre_square(sums_KK / pairs_KK) for sums_KK in sums])


def pooled(mean_squares: np.ndarray, pairs: np.ndarray) -> float:
    """Root of the mean square over all pairs, from mean squares and how many pairs each is of; NaN without pairs."""
    if not pairs.sum():
        return float("nan")
    return float(np.sqrt(np.nansum(mean_squares * pairs) / pairs.sum()))


@dataclass(frozen=True, slots=True, kw_only=True)
class CentreTest:
    """Are the centres of classes further apart than chance puts them?"""

    distances: Distances
    low: float  # 95% of `distances.centres`, jackknife over groups
    high: float
    null_R: np.ndarray  # `centre_square` with shuffled labels
    p: float  # of that square, not of its root, which is 0 about every other time by chance

    @property
    def null_max(self) -> float:
        """The largest distance of centres that shuffled labels gave."""
        return float(np.sqrt(self.null_R.max(initial=0)))


def centre_test(
    weights_NP: np.ndarray,
    labels: Sequence[str],
    group_N: np.ndarray,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> CentreTest:
    """Distances (N, P) by class, with the interval and p of the distance between their centres."""
    found, square_NN = class_distances(weights_NP, labels), squared_distances(weights_NP)
    code_N, classes = label_codes(labels)
    codes_RN = np.vstack([code_N, shuffled_labels(code_N, group_N, permutations, seed)])
    square, *null = centre_squares(square_NN, codes_RN, len(classes))

    def centres(rows: np.ndarray) -> float:
        left_RN = np.full((1, len(code_N)), len(classes))
        left_RN[0, rows] = code_N[rows]
        (left,) = centre_squares(square_NN, left_RN, len(classes))
        return float(np.sqrt(np.maximum(0, left)))

    low, high = jackknife(centres, group_N, 0.0)
    return CentreTest(distances=found, low=low, high=high, null_R=np.array(null), p=permutation_p(square, null))
