"""Where networks lie in weight space: principal axes and distances, a block at a time, so a zoo need not fit twice.

Axes: N networks, P parameters, K classes, D directions.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

BLOCK_ROWS = 1024  # 18 MB of the 4,364-parameter network at a time
SPARE_DIRECTIONS = 10  # beyond those asked for: the iteration converges with the gap behind the last of them
ITERATIONS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Map:
    """Scores on the first principal axes."""

    scores_ND: np.ndarray
    explained_D: np.ndarray  # share of the total variance, 0 to 1


def pca(weights_NP: np.ndarray, directions: int = 2, seed: int = 0) -> Map:
    """Principal components by block subspace iteration (Halko, Martinsson, Tropp 2011, algorithm 4.4).

    Signs are fixed: the score of largest size on each axis is positive. Fewer than two networks score zero.
    """
    n, p = weights_NP.shape
    if n < 2:
        return Map(scores_ND=np.zeros((n, directions)), explained_D=np.zeros(directions))
    mean_P = weights_NP.mean(0, dtype=np.float64)
    kept = min(directions + SPARE_DIRECTIONS, n, p)
    axes_PD = np.linalg.qr(np.random.default_rng(seed).normal(size=(p, kept)))[0]
    for _ in range(ITERATIONS):
        moved_PD = np.zeros_like(axes_PD)
        for _, block in blocks(weights_NP, mean_P):
            moved_PD += block.T @ (block @ axes_PD)
        axes_PD = np.linalg.qr(moved_PD)[0]
    scores_ND, total = np.empty((n, kept)), 0.0
    for rows, block in blocks(weights_NP, mean_P):
        scores_ND[rows] = block @ axes_PD
        total += float((block * block).sum())
    left_ND, size_D, _ = np.linalg.svd(scores_ND, full_matrices=False)
    best_ND = np.zeros((n, directions))
    best_ND[:, : min(kept, directions)] = (left_ND * size_D)[:, :directions]
    signs_D = np.sign(best_ND[np.abs(best_ND).argmax(0), np.arange(directions)])
    explained_D = np.zeros(directions)
    explained_D[: min(kept, directions)] = size_D[:directions] ** 2 / max(total, 1e-300)
    return Map(scores_ND=best_ND * np.where(signs_D == 0, 1, signs_D), explained_D=explained_D)


@dataclass(frozen=True, slots=True, kw_only=True)
class Distances:
    """Root-mean-square Euclidean distances between networks of two classes; the diagonal is within a class."""

    classes: tuple[str, ...]
    rms_KK: np.ndarray  # NaN on the diagonal of a class with one network
    within: float  # over all pairs of one class; NaN when there is none
    between: float  # over all pairs of two classes; NaN when there is none
    centres: float  # between the centres of two classes, corrected for their spread; NaN when there are none


def class_distances(weights_NP: np.ndarray, labels: list[str]) -> Distances:
    """Exact over all pairs in one pass: the mean squared distance of two classes is |mean - mean|^2 + both spreads."""
    classes = tuple(sorted(set(labels)))
    code_N = np.searchsorted(np.array(classes), np.array(labels)) if labels else np.zeros(0, int)
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
        centres=centre_distance(mean_square_KK),
    )


def centre_distance(mean_square_KK: np.ndarray) -> float:
    """Root mean square distance of class centres over pairs of classes, without the part that chance gives.

    E|x - y|^2 across two classes is |centre - centre|^2 and half of each class's own mean square: so the difference is
    an unbiased estimate. Zero when it is negative; NaN with fewer than two classes of two networks.
    """
    own_K = np.diag(mean_square_KK)
    centre_KK = mean_square_KK - (own_K[:, None] + own_K[None]) / 2
    several_K = ~np.isnan(own_K)
    pairs_KK = np.outer(several_K, several_K) & ~np.eye(len(own_K), dtype=bool)
    return float(np.sqrt(max(0.0, centre_KK[pairs_KK].mean()))) if pairs_KK.any() else float("nan")


def shuffled_centres(weights_NP: np.ndarray, labels: list[str], shuffles: int = 20, seed: int = 0) -> np.ndarray:
    """`centres` with the labels shuffled, one a shuffle: what chance gives.

    From the N x N squared distances, so that a shuffle costs N^2 K and not a pass over all weights.
    """
    names, code_N = np.unique(np.array(labels, str), return_inverse=True)
    count_K = np.bincount(code_N, minlength=len(names)).astype(float)
    pairs_KK = np.outer(count_K, count_K)
    np.fill_diagonal(pairs_KK, count_K * (count_K - 1))
    square_NN, rng, found = squared_distances(weights_NP), np.random.default_rng(seed), []
    for _ in range(shuffles):
        member_NK = np.eye(len(names))[rng.permutation(code_N)]
        with np.errstate(invalid="ignore", divide="ignore"):
            found.append(centre_distance(member_NK.T @ (square_NN @ member_NK) / pairs_KK))
    return np.array(found)


def squared_distances(weights_NP: np.ndarray) -> np.ndarray:
    """(N, N) float64, from centred rows."""
    center_P = weights_NP.mean(0, dtype=np.float64)
    norm_N, inner_NN = np.zeros(len(weights_NP)), np.zeros((len(weights_NP),) * 2)
    for rows, block in blocks(weights_NP, center_P):
        norm_N[rows] = (block * block).sum(1)
        for others, other in blocks(weights_NP, center_P):
            inner_NN[rows, others] = block @ other.T
    square_NN = np.maximum(norm_N[:, None] + norm_N - 2 * inner_NN, 0)
    np.fill_diagonal(square_NN, 0)
    return square_NN


def pooled(mean_squares: np.ndarray, pairs: np.ndarray) -> float:
    if not pairs.sum():
        return float("nan")
    return float(np.sqrt(np.nansum(mean_squares * pairs) / pairs.sum()))


def blocks(weights_NP: np.ndarray, center_P: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Centred rows as float64, a block at a time."""
    for begin in range(0, len(weights_NP), BLOCK_ROWS):
        rows = slice(begin, begin + BLOCK_ROWS)
        yield rows, weights_NP[rows].astype(np.float64) - center_P
