"""How networks move while they train. A zoo keeps only where they end; the way there is trained again, bit for bit.

`replay` trains again, `class_paths` several classes at common steps; then when classes separate, and whether networks
share a plane. Raw shares of variance on the first principal components are high for any path, a random walk's too
(Antognini and Sohl-Dickstein 2018): `wandered` is that control. OURS otherwise (the questions are those of Schurholt et
al. 2022 and of MLDS). Axes: N networks, S snapshots, P parameters. A network that stopped early keeps its last weights
for the snapshots that follow.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.statistics.classify import Accuracy, class_accuracy
from analysis.statistics.intervals import jackknife
from analysis.weights.geometry import Map, pca, squared_distances
from protocol.recipes.recipe import Recipe
from protocol.tasks.datasets import NO_SHELF, Shelf

SNAPSHOTS_MAX = 60  # a network; a curve needs no more, and they are held in memory
LANCZOS_LEAST = 100  # rows; of fewer, all eigenvalues are found as fast
POINTS = 12  # common steps of several classes, denser at the start
Features = Callable[[Recipe, np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectories:
    """Networks of one shape at common steps."""

    steps_S: np.ndarray
    weights_NSP: np.ndarray  # float32
    held_out_NS: np.ndarray
    last_N: np.ndarray  # the step at which each stopped


def replay(
    recipe: Recipe,
    seeds: Sequence[int],
    steps_S: Sequence[int] | None = None,
    threads: int = 1,
    shelf: Shelf = NO_SHELF,
) -> Trajectories:
    """Train `seeds` again and look at the ends of segments: all of them, thinned to 60, or the last up to each of
    `steps_S`. Raises UsageError: a data set is not in `shelf`."""
    from protocol.engine.select import select_engine
    from protocol.engine.training import train_networks

    seen: dict[int, list] = {seed: [] for seed in seeds}
    engine = select_engine("auto", threads=threads)
    for seed, boundary in train_networks(engine, recipe, seeds, len(seeds), shelf=shelf):
        seen[seed].append((boundary.step, boundary.state.params, boundary.held_out_loss))
    if steps_S is None:
        ends = sorted({step for rows in seen.values() for step, _, _ in rows})
        steps_S = [ends[round(i)] for i in np.linspace(0, len(ends) - 1, min(SNAPSHOTS_MAX, len(ends)))]
    at_NS = [np.searchsorted([step for step, _, _ in rows], steps_S, side="right") - 1 for rows in seen.values()]
    return Trajectories(
        steps_S=np.asarray(steps_S),
        weights_NSP=np.stack(
            [np.stack([rows[i][1] for i in at]) for rows, at in zip(seen.values(), at_NS, strict=True)]
        ),
        held_out_NS=np.array([[rows[i][2] for i in at] for rows, at in zip(seen.values(), at_NS, strict=True)]),
        last_N=np.array([rows[-1][0] for rows in seen.values()]),
    )


def at_step(recipe: Recipe, seeds: Sequence[int], step: int, threads: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Weights (N, P) float32 and held-out losses (N,) of `seeds` at the end of the segment that holds `step`, or where
    they stopped before: networks at an age, so that none has merely trained for longer."""
    from protocol.engine.select import select_engine
    from protocol.engine.streams import task_data
    from protocol.engine.training import advance, start

    engine, data, seeds = select_engine("auto", threads=threads), task_data(recipe), list(seeds)
    found = dict(zip(seeds, start(engine, recipe, data, seeds), strict=True))
    while running := [seed for seed, one in found.items() if one.step < step and not one.final]:
        found.update(
            zip(running, advance(engine, recipe, data, running, [found[seed].state for seed in running]), strict=True)
        )
    return np.stack([one.state.params for one in found.values()]), np.array([o.held_out_loss for o in found.values()])


def distance_to_ends(weights_NSP: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Euclidean distances of every snapshot to the network's own first and last one: (N, S) each."""
    first, last = (np.linalg.norm(weights_NSP - weights_NSP[:, [end]], axis=2) for end in (0, -1))
    return first, last


def path_map(weights_NSP: np.ndarray) -> Map:
    """Principal axes of all snapshots of all networks together; scores (N * S, 2), network by network."""
    return pca(weights_NSP.reshape(-1, weights_NSP.shape[2]))


def when_classes_separate(
    recipe: Recipe, weights_NSP: np.ndarray, labels: list[str], seeds: list[int], features: Features
) -> list[Accuracy]:
    """Class from weights at every snapshot. The first, at step 0, is the control: there it must be guessing."""
    return [
        class_accuracy(features(recipe, weights_NSP[:, s]), labels, seeds, shuffles=0)
        for s in range(weights_NSP.shape[1])
    ]


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
    mean_B = square_BB.mean(0)
    inner_BB = -0.5 * (square_BB - mean_B - mean_B[:, None] + mean_B.mean())
    return float(two_largest(inner_BB).sum() / max(np.trace(inner_BB), 1e-300))


def two_largest(matrix_BB: np.ndarray) -> np.ndarray:
    """The two largest eigenvalues (or the only one) of a symmetric matrix: by Lanczos (ARPACK), to the last digits,
    which takes a quarter of the time; by LAPACK where it is small, or ARPACK gives up."""
    from scipy.linalg import eigh
    from scipy.sparse.linalg import ArpackError, eigsh

    last = len(matrix_BB) - 1
    if last >= LANCZOS_LEAST:
        start_B = np.random.default_rng(0).normal(size=last + 1)
        with contextlib.suppress(ArpackError):
            return np.asarray(eigsh(matrix_BB, k=2, return_eigenvectors=False, v0=start_B, tol=0))
    return eigh(matrix_BB, eigvals_only=True, subset_by_index=[max(0, last - 1), last])
