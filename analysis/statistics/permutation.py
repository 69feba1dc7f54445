"""p-values by shuffling: how often chance alone does as well.

Holm's correction and PERMANOVA are a few lines each; statsmodels and scikit-bio, which have them too, are heavy for
that. Axes: N networks, K classes, R shuffles, D doses, L layers or other things that are tested together.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.statistics.labels import class_sums, label_codes
from analysis.statistics.shuffles import shuffled_labels
from protocol.errors import UsageError

PERMUTATIONS = 1000
ORDERS_MAX = 5040  # all orders of seven values; of more, so many are drawn
TOO_FEW = "PERMANOVA needs two classes and more networks than classes"
EQUAL = 1e-6  # of the largest: values that differ by less are equal, as rounding alone may order them


def permutation_p(value: float, null_R: Sequence[float] | np.ndarray) -> float:
    """(1 + how many are larger, and a fair share of those that are equal) / (1 + R): never zero (Phipson, Smyth 2010).

    Under the null every multiple of 1 / (1 + R) is then as likely as another, also for a measure of few values: the
    place of `value` among its equals is drawn, all places alike (a randomized test: Lehmann and Romano 2005, 5.8), by
    a stream that is keyed by where the larger and the equal ones are, so a call repeats itself. A measure that is the
    same in every shuffle tells nothing: 1. NaN without shuffles.
    """
    null_R = np.asarray(null_R, float)
    apart_R, least = null_R - value, EQUAL * max(abs(value), float(np.abs(null_R).max(initial=0)))
    side_R = np.where(np.abs(apart_R) <= least, 0, np.sign(apart_R)).astype(np.int8)
    larger, equal = int((side_R > 0).sum()), int((side_R == 0).sum())
    if equal == len(side_R):
        return 1.0 if equal else float("nan")
    key = int.from_bytes(hashlib.sha256(side_R.tobytes()).digest())
    place = int(np.random.default_rng(key).integers(equal + 1)) if equal else 0
    return (1 + larger + place) / (1 + len(side_R))


def largest_p(value_L: Sequence[float] | np.ndarray, null_RL: np.ndarray) -> list[float]:
    """p-values of L measures, corrected for their number: how often the largest of all L is as large by chance.

    The single-step maximum of Westfall and Young (1993): as dependent as the measures are, so no power is lost where
    they tell the same. A row of `null_RL` is one shuffle, all measures alike; they are on one scale.
    """
    null_R = np.asarray(null_RL).max(1)
    return [permutation_p(value, null_R) for value in np.asarray(value_L).tolist()]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979), in the order given: for p-values that no common shuffle made."""
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(stepped, 1)
    return corrected.tolist()


def rank_trend(x_D: Sequence[float] | np.ndarray, y_D: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """(Spearman's rho, -1 to 1, and its one-sided p): does y rise with x?

    The p is exact over all orders of up to seven values: how many order y as well or better. Ties keep their midranks
    in every order, so orders that differ by equal values only count as equal: [0, 0, 3] rises by chance in 1 of 3. Of
    more values, 5,040 random orders are drawn, always the same ones. Where x or y is constant nothing rises: rho is
    NaN and p is 1. Raises ValueError with fewer than two values, or when lengths differ.
    """
    from scipy.stats import permutation_test, rankdata

    rank_x, rank_y = (rankdata(values) - (len(values) + 1) / 2 for values in (x_D, y_D))
    found = permutation_test(
        (rank_y,),
        lambda order_D, axis=-1: (order_D * rank_x).sum(axis),  # of multiples of 1/4: exact, so equal orders are equal
        permutation_type="pairings",
        alternative="greater",
        n_resamples=ORDERS_MAX,
        rng=np.random.default_rng(0),
        vectorized=True,
    )
    size = float(np.sqrt((rank_x**2).sum() * (rank_y**2).sum()))
    return float(found.statistic) / size if size else float("nan"), float(found.pvalue)


@dataclass(frozen=True, slots=True, kw_only=True)
class Permanova:
    """Do classes have different centres, in any metric?"""

    f: float  # pseudo-F
    r2: float  # share of the squared distances that the classes explain, 0 to 1
    p: float
    null_R: np.ndarray  # pseudo-F with shuffled labels


def permanova(
    distance_NN: np.ndarray,
    labels: Sequence[str],
    groups: Sequence[int] | np.ndarray,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Permanova:
    """Permutational analysis of variance (Anderson 2001) of a distance matrix (N, N) by class.

    Labels are shuffled by group (`shuffled_labels`). Raises UsageError: fewer than two classes, or no more networks
    than classes.
    """
    code_N, classes = label_codes(labels)
    n, k = len(code_N), len(classes)
    if k < 2 or n <= k:
        raise UsageError(TOO_FEW)
    square_NN = np.asarray(distance_NN, np.float64) ** 2
    total = square_NN.sum() / (2 * n)

    def pseudo_f(sums_KK: np.ndarray) -> float:
        within = float(np.diag(sums_KK) @ (0.5 / np.bincount(code_N, minlength=k)))
        return (total - within) / (k - 1) / max(within / (n - k), 1e-300)

    labelings = (code_N, *shuffled_labels(code_N, groups, permutations, seed))
    f, *null = (pseudo_f(sums_KK) for sums_KK in class_sums(square_NN, labelings, k))
    null_R = np.array(null)
    r2 = f * (k - 1) / (f * (k - 1) + n - k)
    return Permanova(f=f, r2=r2, p=permutation_p(f, null_R), null_R=null_R)


def explained(square_NN: np.ndarray, code_N: np.ndarray, rows: np.ndarray) -> float:
    """`Permanova.r2` of some rows, from the squared distances of all. Raises UsageError as `permanova` does."""
    counts = np.bincount(code_N[rows])
    if len(rows) <= np.count_nonzero(counts) or np.count_nonzero(counts) < 2:
        raise UsageError(TOO_FEW)
    left_N = np.full(len(code_N), len(counts))
    left_N[rows] = code_N[rows]
    (sums_KK,) = class_sums(square_NN, [left_N], len(counts))
    within = float(np.diag(sums_KK) @ (1 / np.maximum(counts, 1))) * len(rows)
    return 1 - within / max(float(sums_KK.sum()), 1e-300)
