"""Splits that do not leak: networks that share anything which training did not make stay on one side.

A classifier that meets the same initial weights, the same batch order, or a copy of a network on both sides learns to
recognize it instead of its class. `groups` ties such networks together, `split_problems` looks at a split that somebody
else made. Axes: N networks, P parameters.
"""

from collections.abc import Hashable, Iterable, Sequence
from functools import lru_cache

import numpy as np

from analysis.weights.symmetry import canonical
from protocol.recipes.recipe import Recipe

FOLDS = 5
# Symmetric copies agree to float32 rounding; independent networks do not agree in the first digit.
COPY_TOLERANCE = 1e-4


def groups(*keys: Iterable[Hashable]) -> np.ndarray:
    """(N,) group numbers: two networks that share a value of any key are in one group, through others if need be.

    E.g. `groups(seeds)`, `groups(recipes)`, `groups(seeds, copies(recipe, weights_NP))`. Raises ValueError when keys
    are not equally long.
    """
    from scipy.cluster.hierarchy import DisjointSet

    rows = list(zip(*(list(key) for key in keys), strict=True))
    if len(keys) == 1:  # nothing is tied through others
        last_of = {row: i for i, row in enumerate(rows)}
        return np.unique([str(last_of[row]) for row in rows], return_inverse=True)[1]
    ties = DisjointSet()
    for i, row in enumerate(rows):
        ties.add(i)
        for key in enumerate(row):
            ties.add(key)
            ties.merge(i, key)
    last = {ties[i]: i for i in range(len(rows))}
    # Which seeds share a fold depends on how groups are numbered: by the digits of their last row, as ever.
    return np.unique([str(last[ties[i]]) for i in range(len(rows))], return_inverse=True)[1]


def copies(recipe: Recipe, weights_NP: np.ndarray) -> list[int]:
    """A number for each network, equal for networks that are the same up to the numbering of their hidden units."""
    tidy_NP = canonical(recipe, weights_NP)
    n, p = tidy_NP.shape
    along_N = tidy_NP @ np.random.default_rng(0).normal(size=p) / np.sqrt(p)  # copies lie close on a random axis too
    order_N = np.argsort(along_N, kind="stable")
    first_N = np.arange(n)
    for place, i in enumerate(order_N):
        for j in order_N[place + 1 :]:
            if along_N[j] - along_N[i] > 5 * COPY_TOLERANCE:  # of five deviations, were all weights off by the most
                break
            if np.abs(tidy_NP[i] - tidy_NP[j]).max() <= COPY_TOLERANCE:
                first_N[first_N == first_N[j]] = first_N[i]
    seen: dict[int, int] = {}
    return [seen.setdefault(int(first), len(seen)) for first in first_N]


def fold_by_group(code_N: np.ndarray, group_N: np.ndarray, folds: int = FOLDS, seed: int = 0) -> np.ndarray:
    """(N,) fold numbers from 0, none left out: a group is in one fold, classes are spread as evenly as that allows.

    At most as many folds as there are groups, at least two. Raises ValueError with a single group.
    """
    folds = max(2, min(folds, len(np.unique(group_N))))
    return _folds(tuple(np.asarray(code_N).tolist()), tuple(np.asarray(group_N).tolist()), folds, seed).copy()


@lru_cache(maxsize=64)  # trained weights, initial ones and shuffles go through the same folds
def _folds(codes: tuple[int, ...], groups: tuple[int, ...], folds: int, seed: int) -> np.ndarray:
    from sklearn.model_selection import StratifiedGroupKFold

    split = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    fold_N = np.zeros(len(groups), int)
    for fold, (_, test) in enumerate(split.split(groups, codes, groups)):
        fold_N[test] = fold
    return np.unique(fold_N, return_inverse=True)[1]  # an empty fold leaves no gap in the numbers


def random_folds(group_N: np.ndarray, rng: np.random.Generator, folds: int = FOLDS) -> np.ndarray:
    """(N,) fold numbers of whole groups, numbered from 0, at random: for targets that are not classes."""
    return rng.permutation(np.arange(group_N.max() + 1) % folds)[group_N]


def split_problems(fold_N: np.ndarray, **keys: Sequence[Hashable]) -> list[str]:
    """What a split leaks, a line each; e.g. split_problems(fold_N, seed=seeds, copy=copies(recipe, weights_NP))."""
    problems = []
    for name, values in keys.items():
        where: dict[Hashable, set[int]] = {}
        for value, fold in zip(values, fold_N.tolist(), strict=True):
            where.setdefault(value, set()).add(fold)
        if torn := sum(len(folds) > 1 for folds in where.values()):
            problems.append(f"{torn} of {len(where)} values of {name} are in more than one fold")
    return problems
