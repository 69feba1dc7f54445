"""The second question of MLDS: is a small change of the data seen in the weights, and does it grow with the change?

The question is that of MLDS (Clemens 2021), whose methods could not be read; the measures and controls are OURS.
Axes: N networks, F features, R labelings.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from analysis.statistics.auc import Auc, auc, auc_values, ridge_scorer, unseen_auc, unseen_scores
from analysis.statistics.baselines import auc_baseline
from analysis.statistics.classify import labeling_scores
from analysis.statistics.distances import class_distances
from analysis.statistics.permutation import permutation_p, rank_trend
from analysis.statistics.shuffles import shuffled_labels
from analysis.statistics.splits import fold_by_group
from protocol.errors import UsageError

ENOUGH = 0.9  # an AUC that counts as telling two populations apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Separation:
    """Two populations: can a network be told to be of the second, by a classifier that has not seen its seed?"""

    first: str
    second: str
    trained: Auc
    initial: Auc | None  # control: the same on the initial weights
    shuffled_max: float  # control: largest AUC with shuffled labels
    p: float  # with shuffled labels
    enough: int | None  # training networks a class after which the AUC passes 0.9; None: never, or not asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSeparation:
    """An original and a modified class, told apart by what they weigh and by what should not tell them apart."""

    trained: Separation
    initial: Separation  # control
    loss: Separation  # the held-out loss alone
    baseline: Auc  # all that is known beside the weights, by a classifier that can use it


def pair_separations(
    trained_NF: np.ndarray,
    initial_NF: np.ndarray,
    loss_N: np.ndarray,
    known_NF: np.ndarray,
    labels: Sequence[str],
    seeds: Sequence[int] | np.ndarray,
    pairs: Sequence[tuple[str, str]],
    shuffles: int = 1000,
) -> list[PairSeparation]:
    """`separation` of every (original, modified) pair, and what `known_NF` tells: layer sizes, steps, loss.

    Raises UsageError with fewer than two seeds of a class.
    """
    tables = {"trained": trained_NF, "initial": initial_NF, "loss": loss_N[:, None]}
    label_N, seed_N, found = np.array(labels, str), np.asarray(seeds), []
    for pair in pairs:
        told = {
            name: separation(x, labels, seeds, *pair, shuffles=shuffles, sizes=name == "trained")
            for name, x in tables.items()
        }
        both = np.isin(label_N, pair)
        baseline = auc_baseline(known_NF[both], label_N[both] == pair[1], seed_N[both])
        found.append(PairSeparation(**told, baseline=baseline))
    return found


def modification_pairs(labels: Sequence[str]) -> list[tuple[str, str]]:
    """(original, modified) classes: `parity` with `parity+trigger`, for every suffix there is.

    Without a class `digits`, `digits+poison-0.0` is the original of `digits+poison-0.1`.
    """
    names = sorted(set(labels))
    undone = {name[: found.start()]: name for name in names if (found := re.search(r"-0(\.0+)?$", name))}
    pairs = []
    for name in names:
        plain = name.split("+")[0]
        original = plain if plain in names else undone.get(name.rpartition("-")[0])
        if "+" in name and original is not None and original != name:
            pairs.append((original, name))
    return pairs


def separation(
    features_NF: np.ndarray,
    labels: Sequence[str],
    seeds: Sequence[int] | np.ndarray,
    first: str,
    second: str,
    initial_NF: np.ndarray | None = None,
    shuffles: int = 1000,
    seed: int = 0,
    sizes: bool = True,
) -> Separation:
    """Original against modified, or any two classes; with `sizes`, how many networks are `enough`.

    Raises UsageError with fewer than two seeds of either.
    """
    chosen = np.isin(np.array(labels, str), [first, second])
    x, second_N, seed_N = features_NF[chosen], np.array(labels, str)[chosen] == second, np.asarray(seeds)[chosen]
    if min(len(np.unique(seed_N[second_N == side])) for side in (False, True)) < 2:
        raise UsageError(f"telling {first} from {second} needs two seeds of each")
    fold_N = fold_by_group(second_N, seed_N, seed=seed)
    codes_RN = np.vstack([second_N, shuffled_labels(second_N, seed_N, shuffles, seed, fold_N)]).astype(int)
    score_RN = labelings_scored(x, codes_RN, fold_N)
    trained = unseen_auc(score_RN[0], second_N, seed_N)
    null_R = auc_values(score_RN[1:], codes_RN[1:] == 1)
    by_size = auc_by_size(x, second_N, seed_N, seed=seed) if sizes else ()  # no further than is asked
    return Separation(
        first=first,
        second=second,
        trained=trained,
        initial=None if initial_NF is None else _auc(initial_NF[chosen], second_N, fold_N, seed_N),
        shuffled_max=float(null_R.max(initial=0)),
        p=permutation_p(trained.value, null_R),
        enough=next((size for size, value in by_size if value >= ENOUGH), None),
    )


def labelings_scored(features_NF: np.ndarray, codes_RN: np.ndarray, fold_N: np.ndarray) -> np.ndarray:
    """(R, N) scores of unseen networks for R labelings of two classes: one factorization a fold serves them all."""
    score_RN = np.zeros(codes_RN.shape)
    for fold in np.unique(fold_N):
        test = fold_N == fold
        score_RN[:, test] = labeling_scores(features_NF[~test], codes_RN[:, ~test], features_NF[test], 2)[:, :, 1].T
    return score_RN


def _auc(features_NF: np.ndarray, second_N: np.ndarray, fold_N: np.ndarray, seed_N: np.ndarray) -> Auc:
    return unseen_auc(unseen_scores(features_NF, second_N, fold_N), second_N, seed_N)


def learning_sizes(
    features_NF: np.ndarray, second_N: np.ndarray, seed_N: np.ndarray, repeats: int = 5, seed: int = 0
) -> dict[int, float]:
    """Training networks a class (2, 4, 8, ...) -> mean AUC over `repeats` draws, on all networks of other seeds."""
    return dict(auc_by_size(features_NF, second_N, seed_N, repeats, seed))


def auc_by_size(
    features_NF: np.ndarray, second_N: np.ndarray, seed_N: np.ndarray, repeats: int = 5, seed: int = 0
) -> Iterator[tuple[int, float]]:
    """`learning_sizes`, one after another."""
    rng, size = np.random.default_rng(seed), 2
    while size <= min(int(second_N.sum()), int((~second_N).sum())) * 2 // 3:
        values = []
        for _ in range(repeats):
            drawn = [rng.permutation(np.flatnonzero(second_N == side))[:size] for side in (False, True)]
            train = np.concatenate(drawn)
            test = ~np.isin(seed_N, seed_N[train])
            if len(np.unique(second_N[test])) == 2:
                score = ridge_scorer(features_NF[train], second_N[train], features_NF[test])
                values.append(auc(score, second_N[test]).value)
        if values:
            yield size, float(np.mean(values))
        size *= 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Dose:
    """One size of a change of the data: how far its population lies from the unchanged one."""

    label: str
    dose: float
    distance: float  # of the two centres, corrected for spread
    low: float  # 95%, bootstrap over networks
    high: float
    auc: Auc


class DoseResponse(NamedTuple):
    """How far each dose lies from the unchanged class, by dose, and whether the distance rises."""

    rows: list[Dose]
    rho: float  # Spearman's; NaN with fewer than three doses, or when nothing rises
    p: float


def dose_response(
    features_NF: np.ndarray,
    labels: Sequence[str],
    seeds: Sequence[int] | np.ndarray,
    doses: dict[str, float],
    base: str,
    bootstraps: int = 200,
    seed: int = 0,
) -> DoseResponse:
    """Distance from the class `base` against the size of the change, and (Spearman's rho, its p by `rank_trend`).

    `doses` says how large the change of each class is. The p is one-sided and exact over all orders of up to seven
    doses: with three it cannot be below 1/6, or 1/3 where two distances are equal, as those cut at zero are. With fewer
    than three doses rho and p are NaN. Features are standardized by the base networks, so distances are in deviations
    of `base`. Raises ValueError when a class has no network.
    """
    label_N, rng = np.array(labels, str), np.random.default_rng(seed)
    own = features_NF[label_N == base]
    scale_F = own.std(0)
    features_NF = np.clip((features_NF - own.mean(0)) / np.where(scale_F > 0, scale_F, 1), -5, 5)
    rows = []
    for name, dose in sorted(doses.items(), key=lambda pair: pair[1]):
        chosen = np.isin(label_N, [base, name])
        x, second_N = features_NF[chosen], label_N[chosen] == name
        draws = [
            np.concatenate([rng.choice(np.flatnonzero(second_N == s), (second_N == s).sum()) for s in (0, 1)])
            for _ in range(bootstraps)
        ]
        centre = class_distances(x, second_N.astype(str).tolist()).centres
        # A resample holds networks twice, which makes its spread too small and its distance too large: pivot.
        spread = np.quantile(
            [class_distances(x[d], second_N[d].astype(str).tolist()).centres for d in draws], (0.025, 0.5, 0.975)
        )
        seed_N = np.asarray(seeds)[chosen]
        fold_N = fold_by_group(second_N, seed_N, seed=seed)
        rows.append(
            Dose(
                label=name,
                dose=dose,
                distance=centre,
                low=max(0.0, centre - float(spread[2] - spread[1])),
                high=centre + float(spread[1] - spread[0]),
                auc=_auc(x, second_N, fold_N, seed_N),
            )
        )
    if len(rows) < 3:
        return DoseResponse(rows, float("nan"), float("nan"))
    return DoseResponse(rows, *rank_trend([row.dose for row in rows], [row.distance for row in rows]))
