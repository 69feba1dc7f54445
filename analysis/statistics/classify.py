"""Is the class written in the weights? A linear classifier, cross-validated, beside the controls that could fool it.

Folds are cut by seed index: all networks of one seed, whatever their class, are in one fold, so a classifier never
meets in testing an initial state or a batch order that it may have met in training. Two controls go through the very
same folds: the initial weights (state 0), and shuffled labels. Axes: N networks, F features, K classes, R shuffles.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.statistics.labels import label_codes
from analysis.statistics.permutation import permutation_p
from analysis.statistics.proportions import wilson
from analysis.statistics.splits import FOLDS, fold_by_group
from protocol.errors import UsageError

SHUFFLES = 20
VALUES_AT_ONCE = 1_000_000  # targets of many labelings: 8 MB a copy
ROWS_AT_ONCE = 100  # of a sum that may be given up
ROUNDING = 1e-3  # float32 sums are closer than this
RIDGES = tuple(10.0**e for e in range(-4, 3))  # relative to the mean eigenvalue of the kernel


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Cross-validated: every network is predicted once, by a classifier that never saw its seed."""

    correct: int
    total: int
    low: float  # 95% Wilson interval
    high: float
    chance: float  # share of the largest class: what the best guess without weights gets
    folds: int
    shuffled: tuple[float, ...]  # accuracy with shuffled labels, one a shuffle
    confusion_KK: np.ndarray  # rows: true class; columns: predicted
    classes: tuple[str, ...]

    @property
    def accuracy(self) -> float:
        """Share of networks that are told right, 0 to 1."""
        return self.correct / self.total

    @property
    def shuffled_mean(self) -> float:
        """Mean accuracy with shuffled labels, 0 to 1; NaN without shuffles."""
        return float(np.mean(self.shuffled)) if self.shuffled else float("nan")

    @property
    def p(self) -> float:
        """How often shuffled labels do as well."""
        return permutation_p(self.accuracy, self.shuffled)


Guesser = Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]


def class_accuracy(
    features_NF: np.ndarray,
    labels: Sequence[str],
    groups: Sequence[int] | np.ndarray,
    shuffles: int = SHUFFLES,
    seed: int = 0,
    guess: "Guesser | None" = None,
) -> Accuracy:
    """Accuracy on networks whose group (a seed, see `splits.groups`) was not trained on, and with shuffled labels.

    `guess` takes training rows (M, F), their classes (R, M) in R labelings, test rows (T, F) and the number of classes,
    and returns the classes (R, T) that it takes the test rows for; default: `ridge_classes`. Raises UsageError when
    there are fewer than two classes, or a class has networks of fewer than two groups.
    """
    guess = guess or ridge_classes
    code_N, classes = label_codes(labels)
    fold_N = class_folds(code_N, np.asarray(groups), classes, seed)
    rng = np.random.default_rng(seed)
    codes_RN = np.stack([code_N, *(shuffled_within(code_N, fold_N, rng) for _ in range(shuffles))])
    guess_RN = np.empty_like(codes_RN)
    for fold in range(fold_N.max() + 1):
        test = fold_N == fold
        guess_RN[:, test] = guess(features_NF[~test], codes_RN[:, ~test], features_NF[test], len(classes))
    correct_R = (guess_RN == codes_RN).sum(1)
    confusion_KK = np.zeros((len(classes), len(classes)), int)
    np.add.at(confusion_KK, (code_N, guess_RN[0]), 1)
    low, high = wilson(int(correct_R[0]), len(labels))
    return Accuracy(
        correct=int(correct_R[0]),
        total=len(labels),
        low=low,
        high=high,
        chance=float(np.bincount(code_N).max() / len(labels)),
        folds=int(fold_N.max() + 1),
        shuffled=tuple((correct_R[1:] / len(labels)).tolist()),
        confusion_KK=confusion_KK,
        classes=classes,
    )


def class_folds(code_N: np.ndarray, group_N: np.ndarray, classes: Sequence[str], seed: int = 0) -> np.ndarray:
    """(N,) fold numbers; at most as many folds as the rarest class has groups, so that every fold may hold it.

    Raises UsageError when there are fewer than two classes, or a class has networks of fewer than two groups.
    """
    if len(classes) < 2:
        raise UsageError("telling classes apart needs networks of at least two classes")
    groups_of_class = [len(np.unique(group_N[code_N == k])) for k in range(len(classes))]
    if min(groups_of_class) < 2:
        lone = classes[int(np.argmin(groups_of_class))]
        raise UsageError(f"cross-validation needs at least two seeds of every class; class {lone} has one")
    return fold_by_group(code_N, group_N, min(FOLDS, *groups_of_class), seed)


def shuffled_within(code_N: np.ndarray, fold_N: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N,) labels shuffled within each fold; else what is rare in testing is common in training: below chance."""
    shuffled_N = code_N.copy()
    for fold in np.unique(fold_N):
        shuffled_N[fold_N == fold] = rng.permutation(code_N[fold_N == fold])
    return shuffled_N


def ridge_classes(train_MF: np.ndarray, codes_RM: np.ndarray, test_TF: np.ndarray, classes: int) -> np.ndarray:
    """Predicted classes (R, T) for R labelings of the same M training rows: the largest of `labeling_scores`."""
    return np.concatenate([scores.argmax(2).T for scores in _score_parts(train_MF, codes_RM, test_TF, classes)])


def ridge_scores(train_MF: np.ndarray, code_M: np.ndarray, test_TF: np.ndarray, classes: int) -> np.ndarray:
    """(T, K) scores of one labeling; the class with the largest is predicted."""
    return labeling_scores(train_MF, code_M[None], test_TF, classes)[:, 0]


def labeling_scores(train_MF: np.ndarray, codes_RM: np.ndarray, test_TF: np.ndarray, classes: int) -> np.ndarray:
    """(T, R, K) scores for R labelings of the same M training rows; float64, no unit.

    Ridge regression on one-hot labels. The penalty of each labeling is the one with the smallest leave-one-out error
    within the training rows, in closed form: (y - Hy) / (1 - diag H). Scaling is learnt from the training rows only.
    """
    return np.concatenate(list(_score_parts(train_MF, codes_RM, test_TF, classes)), axis=1)


def _score_parts(train_MF: np.ndarray, codes_RM: np.ndarray, test_TF: np.ndarray, classes: int) -> Iterator[np.ndarray]:
    """`labeling_scores` of some labelings after another: one factorization serves them all."""
    mean_F, scale_F = train_MF.mean(0, dtype=np.float64), train_MF.std(0, dtype=np.float64)
    scale_F[scale_F == 0] = 1.0
    factors = thin_svd((train_MF - mean_F) / scale_F, (test_TF - mean_F) / scale_F)
    at_once = max(1, VALUES_AT_ONCE // (len(train_MF) * classes))
    for begin in range(0, len(codes_RM), at_once):
        yield _scores(*factors, codes_RM[begin : begin + at_once], classes)


def _scores(
    left_MD: np.ndarray, size_D: np.ndarray, test_TD: np.ndarray, codes_RM: np.ndarray, classes: int
) -> np.ndarray:
    """`labeling_scores` of factored rows, for as many labelings as fit in memory.

    Centred one-hot labels add up to zero over the classes, so J = K - 1 contrasts hold all of them.
    """
    target_MRK = np.eye(classes)[codes_RM.T]
    center_RK = target_MRK.mean(0)
    contrast_KJ = contrasts(classes)
    target_MRJ = (target_MRK - center_RK) @ contrast_KJ
    seen_DRJ = np.tensordot(left_MD.T, target_MRJ, 1)
    best_R = best_penalties(left_MD, size_D, seen_DRJ, target_MRJ)
    scores_TRJ = np.zeros((len(test_TD), *seen_DRJ.shape[1:]))
    for i in np.unique(best_R):
        at_best_TD = test_TD * (size_D / penalized(size_D, RIDGES[i]))
        scores_TRJ[:, best_R == i] = np.tensordot(at_best_TD, seen_DRJ[:, best_R == i], 1)
    return scores_TRJ @ contrast_KJ.T + center_RK


def best_penalties(left_MD: np.ndarray, size_D: np.ndarray, seen_DRJ: np.ndarray, target_MRJ: np.ndarray) -> np.ndarray:
    """(R,) which of RIDGES has the smallest leave-one-out error, for each labeling.

    An error is a sum over rows of what is never negative: a penalty is given up once a part of its sum is more than the
    whole error of another. Most labelings are shuffled ones, which the largest penalties fit best, so these come first,
    and rows of large leverage. It needs no more than float32, and is nearly all of the work.
    """
    rough_MD, rough_DRJ, rough_MRJ = (x.astype(np.float32) for x in (left_MD, seen_DRJ, target_MRJ))
    error_IR = np.full((len(RIDGES), seen_DRJ.shape[1]), np.inf)
    for i in reversed(range(len(RIDGES))):
        shrink_D = size_D**2 / penalized(size_D, RIDGES[i])
        leverage_M = np.minimum(left_MD**2 @ shrink_D + 1 / len(left_MD), 1 - 1e-9)  # 1/M: the mean is learnt too
        weight_M1 = (1 / (1 - leverage_M)).astype(np.float32)[:, None]
        shrunk_MD = rough_MD * shrink_D.astype(np.float32)
        most_R, open_R, told_DRJ = error_IR.min(0) * (1 + ROUNDING), np.arange(error_IR.shape[1]), rough_DRJ
        sum_R = np.zeros(len(open_R))
        order_M = np.argsort(-leverage_M, kind="stable")
        for begin in range(0, len(order_M), ROWS_AT_ONCE):
            rows = order_M[begin : begin + ROWS_AT_ONCE]
            error_BRJ = np.tensordot(shrunk_MD[rows], told_DRJ, 1)
            error_BRJ -= rough_MRJ[rows[:, None], open_R]
            error_BRJ *= weight_M1[rows, :, None]
            sum_R += np.einsum("brj,brj->r", error_BRJ, error_BRJ)
            if not (kept := sum_R <= most_R[open_R]).all():
                open_R, sum_R, told_DRJ = open_R[kept], sum_R[kept], told_DRJ[:, kept]
                if not len(open_R):
                    break
        error_IR[i, open_R] = sum_R
    return error_IR.argmin(0)


def penalized(size_D: np.ndarray, ridge: float) -> np.ndarray:
    """(D,) squared singular values with the penalty, which is relative to their mean."""
    return size_D**2 + ridge * float((size_D**2).sum() / max(1, len(size_D)))


def contrasts(classes: int) -> np.ndarray:
    """(K, K - 1) orthonormal columns, each adding up to zero: class j + 1 against the mean of those before it."""
    columns = [[1.0] * j + [-float(j)] + [0.0] * (classes - 1 - j) for j in range(1, classes)]
    return np.array(columns).T / np.sqrt([j * (j + 1) for j in range(1, classes)])


def thin_svd(train_MF: np.ndarray, test_TF: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Left vectors (M, D), singular values (D,), and the test rows on the right vectors (T, D).

    From the smaller of the two Gram matrices: ten times faster than an SVD, exact enough under a penalty.
    """
    m, f = train_MF.shape
    value_D, vector = np.linalg.eigh(train_MF @ train_MF.T if m <= f else train_MF.T @ train_MF)
    kept = value_D > 1e-10 * max(value_D.max(initial=0), 1e-300)
    size_D, vector = np.sqrt(value_D[kept]), vector[:, kept]
    if m <= f:
        return vector, size_D, (test_TF @ train_MF.T) @ vector / size_D
    return train_MF @ vector / size_D, size_D, test_TF @ vector
