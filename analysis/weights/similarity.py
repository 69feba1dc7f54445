"""How alike networks are: in their weights, in what their layers compute, and along the line between two of them.

Weight distances that see through hidden numbering are in `chains`; `matching` renumbers one network to another.
Representation measures follow the ReSi benchmark's code (Klabunde et al. 2025): CKA (Kornblith et al. 2019),
orthogonal Procrustes (Williams et al. 2021), distance correlation (Szekely et al. 2007). The loss barrier is the
standard one (Entezari et al. 2022). Axes: N networks, P parameters, R rows of a representation, D units, L points.
"""

from dataclasses import dataclass

import numpy as np

from analysis.weights import forward
from analysis.weights.geometry import squared_distances
from analysis.weights.matching import match
from protocol.recipes.recipe import Recipe
from protocol.tasks.data import TaskData

BARRIER_POINTS = 25
REPRESENTATION_ROWS_MAX = 512  # rows of a distance matrix: 2 MB, 10 ms a pair


def euclidean(features_NF: np.ndarray, others_MF: np.ndarray | None = None) -> np.ndarray:
    """(N, M) Euclidean distances, or of rows to each other (N, N); equal rows are at (nearly) zero."""
    return np.sqrt(squared_distances(features_NF, others_MF))


def cosine(features_NF: np.ndarray) -> np.ndarray:
    """(N, N) cosines; a row of zeros has cosine 0 with all others."""
    rows = np.asarray(features_NF, np.float64)
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)
    return np.clip(unit @ unit.T, -1, 1)


def representations(recipe: Recipe, weights_NP: np.ndarray, inputs: np.ndarray, rows: int = 256) -> list[np.ndarray]:
    """Every layer's activations on the first inputs, (N, R, D) each, R at most `rows`.

    A row is a sample at its time step; of an image a sample at one place and D are its channels, the places drawn at
    random, the same for all networks.
    """
    found = []
    for layer in forward.activations(recipe, weights_NP, inputs[: -(-rows // inputs.shape[1])]):
        if layer.ndim == 6:
            flat = np.moveaxis(layer[:, :, 0], 2, 4).reshape(len(layer), -1, layer.shape[3])
            kept_R = np.sort(np.random.default_rng(flat.shape[1]).permutation(flat.shape[1])[:rows])
            found.append(flat[:, kept_R])
        else:
            found.append(layer.reshape(len(layer), -1, layer.shape[-1])[:, :rows])
    return found


def cka(x_RD: np.ndarray, y_RD: np.ndarray) -> float:
    """Linear centred kernel alignment, 0 to 1; 0 when one side is constant."""
    x, y = x_RD - x_RD.mean(0), y_RD - y_RD.mean(0)
    size = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    return float(np.linalg.norm(x.T @ y) ** 2 / size) if size > 0 else 0.0


def procrustes(x_RD: np.ndarray, y_RD: np.ndarray) -> float:
    """Angular shape distance after the best rotation, 0 (alike) to pi/2; both centred and of size 1."""
    x, y = x_RD - x_RD.mean(0), y_RD - y_RD.mean(0)
    size = np.linalg.norm(x) * np.linalg.norm(y)
    nuclear = np.linalg.svd(x.T @ y, compute_uv=False).sum()
    return float(np.arccos(np.clip(nuclear / size, 0, 1))) if size > 0 else float(np.pi / 2)


def distance_correlation(x_RD: np.ndarray, y_RD: np.ndarray) -> float:
    """0 to 1; the first REPRESENTATION_ROWS_MAX rows."""
    a, b = (_double_centred(euclidean(rows[:REPRESENTATION_ROWS_MAX])) for rows in (x_RD, y_RD))
    size = np.sqrt((a * a).mean() * (b * b).mean())
    return float(np.sqrt(max(0.0, (a * b).mean()) / size)) if size > 0 else 0.0


def _double_centred(distance_RR: np.ndarray) -> np.ndarray:
    return distance_RR - distance_RR.mean(0) - distance_RR.mean(1, keepdims=True) + distance_RR.mean()


@dataclass(frozen=True, slots=True, kw_only=True)
class Barrier:
    """Held-out loss along straight lines from one network to another, for J pairs."""

    at_L: np.ndarray  # 0: the first network, 1: the second
    naive_JL: np.ndarray
    matched_JL: np.ndarray  # the second network renumbered to the first

    @property
    def naive_J(self) -> np.ndarray:
        """(J,) highest rise above the straight line between the two losses, in the unit of the loss."""
        return rise(self.at_L, self.naive_JL)

    @property
    def matched_J(self) -> np.ndarray:
        """(J,) the same after matching."""
        return rise(self.at_L, self.matched_JL)


def rise(at_L: np.ndarray, losses_JL: np.ndarray) -> np.ndarray:
    """(J,): max over the line of loss - (1 - at) first - at last; zero at the least, as both ends are on it."""
    straight_JL = (1 - at_L) * losses_JL[:, :1] + at_L * losses_JL[:, -1:]
    return (losses_JL - straight_JL).max(1)


def barriers(
    recipe: Recipe, pairs_J2P: np.ndarray, data: TaskData, points: int = BARRIER_POINTS, samples: int = 64
) -> Barrier:
    """Barriers of the recipe's loss, pairs (J, 2, P), naive and after signed matching; on the first held-out samples.

    Matching leaves positive scales as they are: `symmetry.balanced` both first where they should not count. Raises
    UsageError for layers without known symmetries.
    """
    at_L = np.linspace(0, 1, points)
    inputs, targets = data.held_out_inputs[:samples], data.held_out_targets[:samples]

    def along(a_P: np.ndarray, b_P: np.ndarray) -> np.ndarray:
        line_LP = a_P + at_L[:, None] * (b_P - a_P)
        return forward.losses(recipe, forward.outputs(recipe, line_LP, inputs), targets)

    pairs_J2P = np.asarray(pairs_J2P, np.float64)
    return Barrier(
        at_L=at_L,
        naive_JL=np.stack([along(a_P, b_P) for a_P, b_P in pairs_J2P]),
        matched_JL=np.stack([along(a_P, match(recipe, a_P, b_P).weights_P) for a_P, b_P in pairs_J2P]),
    )
