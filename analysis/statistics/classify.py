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
from analysis.statistics.shuffles import shuffled_labels
from analysis.statistics.splits import FOLDS, fold_by_group
from protocol.errors import UsageError

SHUFFLES = 20
VALUES_AT_ONCE = 1_000_000  # scores of many labelings: 8 MB a copy
DENSE_MAX = 64  # classes of so few labelings are added up as fast with their zeros
EVEN = 8  # rows that the product of matrices takes at once: seven take longer than eight
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
        """How often shuffled labels do as well; NaN without shuffles."""
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
    # Within folds: else what is rare in testing would be common in training, and shuffled labels below chance.
    codes_RN = np.vstack([code_N, shuffled_labels(code_N, np.asarray(groups), shuffles, seed, fold_N)])
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


def ridge_classes(train_MF: np.ndarray, codes_RM: np.ndarray, test_TF: np.ndarray, classes: int) -> np.ndarray:
    """Predicted classes (R, T) for R labelings of the same M training rows: the largest of `labeling_scores`."""
    return np.concatenate([scores.argmax(2).T for scores in score_parts(train_MF, codes_RM, test_TF, classes)])


def ridge_scores(train_MF: np.ndarray, code_M: np.ndarray, test_TF: np.ndarray, classes: int) -> np.ndarray:
    """(T, K) scores of one labeling; the class with the largest is predicted."""
    return labeling_scores(train_MF, code_M[None], test_TF, classes)[:, 0]


def labeling_scores(train_MF: np.ndarray, codes_RM: np.ndarray, test_TF: np.ndarray, classes: int) -> np.ndarray:
    """(T, R, K) scores for R labelings of the same M training rows; float64, no unit.

    Ridge regression on one-hot labels. The penalty of each labeling is the one with the smallest leave-one-out error
    within the training rows, in closed form: (y - Hy) / (1 - diag H). Scaling is learnt from the training rows only.
    """
    return np.concatenate(list(score_parts(train_MF, codes_RM, test_TF, classes)), axis=1)


def score_parts(train_MF: np.ndarray, codes_RM: np.ndarray, test_TF: np.ndarray, classes: int) -> Iterator[np.ndarray]:
    """`labeling_scores` of some labelings after another: one factorization serves them all."""
    mean_F, scale_F = train_MF.mean(0, dtype=np.float64), train_MF.std(0, dtype=np.float64)
    scale_F[scale_F == 0] = 1.0
    left_MD, size_D, test_TD = thin_svd((train_MF - mean_F) / scale_F, (test_TF - mean_F) / scale_F)
    square_D = size_D**2
    penalized_ID = square_D + np.array(RIDGES)[:, None] * float(square_D.sum() / max(1, len(size_D)))
    used, best_R = np.unique(best_penalties(left_MD, square_D / penalized_ID, codes_RM, classes), return_inverse=True)
    hats_UMT = np.stack([left_MD @ (test_TD * (size_D / penalized_ID[i])).T for i in used])
    hats_UMT += (1 - hats_UMT.sum(1, keepdims=True)) / len(left_MD)  # what the labels' mean adds: almost 1 / M
    at_once = max(1, VALUES_AT_ONCE // (len(train_MF) * classes))
    for begin in range(0, len(codes_RM), at_once):
        some = slice(begin, begin + at_once)
        yield class_totals(codes_RM[some], classes, hats_UMT, best_R[some]).transpose(2, 0, 1)


def class_totals(codes_RM: np.ndarray, classes: int, values_UMV: np.ndarray, table_R: np.ndarray) -> np.ndarray:
    """(R, K, V) sums over the rows of each class, by labeling, of the table of values that is its own: one-hot labels
    times the values, without the zeros."""
    from scipy.sparse import csr_array

    labelings, (tables, m, _) = len(codes_RM), values_UMV.shape
    if tables == 1 and labelings * classes <= DENSE_MAX:
        return (codes_RM[:, None] == np.arange(classes)[:, None]).astype(float) @ values_UMV[0]
    row_RM = codes_RM + classes * np.arange(labelings)[:, None]
    place_RM = np.arange(m) + m * table_R[:, None]
    shape = (labelings * classes, tables * m)
    chosen = csr_array((np.ones(row_RM.size), (row_RM.ravel(), place_RM.ravel())), shape)
    return (chosen @ values_UMV.reshape(tables * m, -1)).reshape(labelings, classes, -1)


def best_penalties(left_MD: np.ndarray, shrink_ID: np.ndarray, codes_RM: np.ndarray, classes: int) -> np.ndarray:
    """(R,) which of RIDGES has the smallest leave-one-out error, by labeling; `shrink_ID` is what it leaves.

    It needs no more than float32, and is nearly all of the work. An error is either computed row by row, or added up
    over pairs of rows of one class, which costs the same for few classes as for many.
    """
    m, d = left_MD.shape
    leverage_IM = np.minimum(shrink_ID @ (left_MD**2).T + 1 / m, 1 - 1e-9)  # 1/M: the mean is learnt too
    left_MD, shrink_ID = left_MD.astype(np.float32), shrink_ID.astype(np.float32)
    weight_IM = (1 / (1 - leverage_IM)).astype(np.float32)
    by_rows, by_pairs = len(codes_RM) * (classes - 1) * (d + 40), len(codes_RM) * 1.3 * m + m * (d + m / 2)  # measured
    if by_pairs < by_rows:
        return errors_by_pairs(left_MD, shrink_ID, weight_IM, codes_RM, classes).argmin(0)
    return errors_by_rows(left_MD, shrink_ID, weight_IM, codes_RM, classes).argmin(0)


def errors_by_rows(
    left_MD: np.ndarray, shrink_ID: np.ndarray, weight_IM: np.ndarray, codes_RM: np.ndarray, classes: int
) -> np.ndarray:
    """(I, R) leave-one-out errors: the sum over rows of ((y - Hy) / (1 - diag H))^2, all classes together.

    Centred one-hot labels add up to zero over the classes, so J = K - 1 contrasts hold all of them.
    """
    error_IR, contrast_KJ = np.empty((len(shrink_ID), len(codes_RM))), contrasts(classes)
    at_once = max(1, VALUES_AT_ONCE // (len(left_MD) * classes))
    for begin in range(0, len(codes_RM), at_once):
        target_MRJ = contrast_KJ[codes_RM[begin : begin + at_once].T]
        target_MRJ = (target_MRJ - target_MRJ.mean(0)).astype(np.float32)
        seen_DRJ = np.tensordot(left_MD.T, target_MRJ, 1)
        for i, (shrink_D, weight_M) in enumerate(zip(shrink_ID, weight_IM, strict=True)):
            error_MRJ = np.tensordot(left_MD * shrink_D, seen_DRJ, 1)
            error_MRJ -= target_MRJ
            error_MRJ *= weight_M[:, None, None]
            error_IR[i, begin : begin + at_once] = np.einsum("mrj,mrj->r", error_MRJ, error_MRJ)
    return error_IR


def errors_by_pairs(
    left_MD: np.ndarray, shrink_ID: np.ndarray, weight_IM: np.ndarray, codes_RM: np.ndarray, classes: int
) -> np.ndarray:
    """(I, R) the same: with B what takes one-hot labels to weighted errors (less their sign), the sum of B^T B over
    pairs of rows that have one class. Rows of features are centred, so H sees nothing of the labels' mean."""
    m = len(left_MD)
    pair_IMM = np.zeros((-(-len(shrink_ID) // EVEN) * EVEN, m, m), np.float32)
    for i, (shrink_D, weight_M) in enumerate(zip(shrink_ID, weight_IM, strict=True)):
        half_MD = left_MD * np.sqrt(shrink_D)
        b_MM = half_MD @ half_MD.T  # of itself, as below: half the work
        b_MM += np.float32(1 / m)
        b_MM[np.diag_indices(m)] -= np.float32(1)
        b_MM *= weight_M[:, None]
        pair_IMM[i] = b_MM.T @ b_MM
    pair_IMM[:, np.arange(m), np.arange(m)] /= 2  # a pair counts twice, a row once
    error_IR = np.zeros((len(pair_IMM), len(codes_RM)))
    codes_MR = np.ascontiguousarray(codes_RM.T, np.int8 if classes < 128 else np.int32)
    same_MR = np.empty(codes_MR.shape, np.float32)
    for row in range(m):
        np.copyto(same_MR[row:], codes_MR[row:] == codes_MR[row])
        error_IR += pair_IMM[:, row, row:] @ same_MR[row:]
    return 2 * error_IR[: len(shrink_ID)]


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
