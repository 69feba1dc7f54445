"""Where networks lie in weight space: principal axes and distances, a block at a time, so a zoo need not fit twice.

Axes: N networks, M others, P parameters, F features, D directions.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

BLOCK_ROWS = 1024  # 18 MB of the 4,364-parameter network at a time
SPARE_DIRECTIONS = 10  # beyond those asked for: the iteration converges with the gap behind the last of them
ITERATIONS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Map:
    """Scores on the first principal axes."""

    scores_ND: np.ndarray
    explained_D: np.ndarray  # share of the total variance, 0 to 1; empty of a map that explains none

    @property
    def explained(self) -> float:
        """Share of the variance on all of its axes; NaN of a map that explains none."""
        return float(self.explained_D.sum()) if len(self.explained_D) else float("nan")


def pca(weights_NP: np.ndarray, directions: int = 2, seed: int = 0) -> Map:
    """Principal components by block subspace iteration (Halko, Martinsson, Tropp 2011, algorithm 4.4).

    Signs are fixed: the score of largest size on each axis is positive. Fewer than two networks score zero. Scores are
    in the unit of the weights.
    """
    n, p = weights_NP.shape
    if n < 2:
        return Map(scores_ND=np.zeros((n, directions)), explained_D=np.zeros(directions))
    mean_P = weights_NP.mean(0, dtype=np.float64)
    kept = min(directions + SPARE_DIRECTIONS, n, p)
    axes_PD = np.linalg.qr(np.random.default_rng(seed).normal(size=(p, kept)))[0]
    once = list(blocks(weights_NP, mean_P)) if n <= BLOCK_ROWS else None  # few networks are centred once
    for _ in range(ITERATIONS):
        moved_PD = np.zeros_like(axes_PD)
        for _, block in once or blocks(weights_NP, mean_P):
            moved_PD += block.T @ (block @ axes_PD)
        axes_PD = np.linalg.qr(moved_PD)[0]
    scores_ND, total = np.empty((n, kept)), 0.0
    for rows, block in once or blocks(weights_NP, mean_P):
        scores_ND[rows] = block @ axes_PD
        total += float((block * block).sum())
    left_ND, size_D, _ = np.linalg.svd(scores_ND, full_matrices=False)
    best_ND = np.zeros((n, directions))
    best_ND[:, : min(kept, directions)] = (left_ND * size_D)[:, :directions]
    signs_D = np.sign(best_ND[np.abs(best_ND).argmax(0), np.arange(directions)])
    explained_D = np.zeros(directions)
    explained_D[: min(kept, directions)] = size_D[:directions] ** 2 / max(total, 1e-300)
    return Map(scores_ND=best_ND * np.where(signs_D == 0, 1, signs_D), explained_D=explained_D)


def squared_distances(features_NF: np.ndarray, others_MF: np.ndarray | None = None) -> np.ndarray:
    """(N, M) float64 squared Euclidean distances, of rows to each other (N, N) without `others_MF`; never below 0.

    From products of rows centred on the mean of the others, so that nearly equal rows are at nearly zero; a row is at
    exactly zero from itself. (`neighbours` has its own, in float32 and in place: there they are most of the work.)
    """
    others, itself = (features_NF, True) if others_MF is None else (others_MF, False)
    center_F = others.mean(0, dtype=np.float64)
    once = list(blocks(others, center_F)) if len(others) <= BLOCK_ROWS else None  # few rows are centred once
    square_NM, norm_N = np.zeros((len(features_NF), len(others))), np.zeros(len(features_NF))
    for rows, block in once if once and itself else blocks(features_NF, center_F):
        norm_N[rows] = (block * block).sum(1)
        for columns, other in once or blocks(others, center_F):
            square_NM[rows, columns] = block @ other.T
    norm_M = norm_N if itself else squares(once or blocks(others, center_F), len(others))
    square_NM *= 2
    np.subtract(norm_N[:, None] + norm_M, square_NM, out=square_NM)
    np.maximum(square_NM, 0, out=square_NM)
    if itself:
        np.fill_diagonal(square_NM, 0)
    return square_NM


def squares(parts: Iterable[tuple[slice, np.ndarray]], n: int) -> np.ndarray:
    """(N,) squared lengths of rows, from `blocks`."""
    norm_N = np.zeros(n)
    for rows, block in parts:
        norm_N[rows] = (block * block).sum(1)
    return norm_N


def blocks(weights_NP: np.ndarray, center_P: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """(slice of rows, those rows (B, P) centred, as float64), BLOCK_ROWS at a time."""
    for begin in range(0, len(weights_NP), BLOCK_ROWS):
        rows = slice(begin, begin + BLOCK_ROWS)
        yield rows, weights_NP[rows].astype(np.float64) - center_P
