"""Training paths of several classes at common steps, and whether they share a plane.

Raw shares of variance on the first principal components are high for any path, a random walk's too (Antognini and
Sohl-Dickstein 2018): `wandered` is that control. OURS otherwise. Axes: N networks, S snapshots, P parameters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.methods.trajectories import Trajectories, path_map, replay
from analysis.statistics.intervals import jackknife
from analysis.weights.geometry import Map, squared_distances
from protocol.recipes.recipe import Recipe
from protocol.tasks.datasets import NO_SHELF, Shelf

POINTS = 12  # common steps, denser at the start


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassPaths:
    """Networks of several classes, trained again."""

    of_class: dict[str, Trajectories]
    steps_S: np.ndarray  # common to all
    snapshots_NSP: np.ndarray  # float32
    labels: list[str]
    seeds: list[int]


def class_paths(
    recipes: dict[str, Recipe], seeds: Mapping[str, Sequence[int]], points: int = POINTS, shelf: Shelf = NO_SHELF
) -> ClassPaths:
    """Replay `seeds` of every class, data sets from `shelf`; a network that has stopped keeps its last weights."""
    found = {name: replay(recipes[name], seeds[name], shelf=shelf) for name in sorted(seeds)}
    longest = max(int(path.steps_S[-1]) for path in found.values())
    steps_S = np.unique(np.round(np.linspace(0, longest**0.5, points) ** 2).astype(int))
    at = {name: np.searchsorted(path.steps_S, steps_S, side="right") - 1 for name, path in found.items()}
    return ClassPaths(
        of_class=found,
        steps_S=steps_S,
        snapshots_NSP=np.concatenate([path.weights_NSP[:, at[name]] for name, path in found.items()]),
        labels=[name for name in found for _ in seeds[name]],
        seeds=[seed for name in found for seed in seeds[name]],
    )


def moved(snapshots_NSP: np.ndarray) -> np.ndarray:
    """(N, S, P) each network as seen from its own first snapshot."""
    return snapshots_NSP - snapshots_NSP[:, :1]


def wandered(snapshots_NSP: np.ndarray, seed: int = 0) -> np.ndarray:
    """(N, S, P) control: the very same moves between snapshots, each forward or backward by the toss of a coin."""
    moves_NSP = np.diff(snapshots_NSP, axis=1)
    coins = np.random.default_rng(seed).choice(np.array([-1, 1], np.float32), moves_NSP.shape[:2])
    return np.concatenate(
        [np.zeros_like(snapshots_NSP[:, :1]), np.cumsum(moves_NSP * coins[..., None], axis=1)], axis=1
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """How much of all movement lies in its first two principal directions."""

    places: Map  # scores (N * S, 2), network by network
    value: float  # share of the variance
    low: float  # 95%, jackknife over groups
    high: float


def plane(moved_NSP: np.ndarray, group_N: np.ndarray) -> Plane:
    """Principal axes of all snapshots of all networks together."""
    n, s, _ = moved_NSP.shape
    square_BB = squared_distances(moved_NSP.reshape(n * s, -1))

    def part(rows: np.ndarray) -> float:
        at = (rows[:, None] * s + np.arange(s)).ravel()
        return _two_largest(square_BB[np.ix_(at, at)])

    low, high = jackknife(part, group_N, 0.0, 1.0)
    return Plane(places=path_map(moved_NSP), value=part(np.arange(n)), low=low, high=high)


def _two_largest(square_BB: np.ndarray) -> float:
    """Share of the two largest eigenvalues of the centred inner products (classical scaling)."""
    from scipy.linalg import eigh

    mean_B = square_BB.mean(0)
    inner_BB = -0.5 * (square_BB - mean_B - mean_B[:, None] + mean_B.mean())
    last = len(inner_BB) - 1
    largest = eigh(inner_BB, eigvals_only=True, subset_by_index=[max(0, last - 1), last])
    return float(largest.sum() / max(np.trace(inner_BB), 1e-300))
