"""Predict what a network is like from its weights alone: its loss, its hyper-parameters, how long it trained.

Per-layer statistics with boosted trees: Unterthiner et al. (2020), seven statistics an array as in the authors' code
(their notebook stops training on its test set; here nothing is chosen on test networks). Kernel ridge on canonical
features is OURS. Intervals are bootstrapped over groups of test networks. Axes: N networks, F features.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.stats import kendalltau, rankdata

from analysis.statistics.classify import RIDGES
from analysis.statistics.splits import FOLDS, groups, random_folds
from analysis.weights.geometry import squared_distances
from protocol.errors import UsageError

BOOTSTRAPS = 300
TREES = 300
DRAWN_MAX = 2000  # networks; of more, comparing all pairs takes 200 MB and more
PAIRS_MAX = 200  # networks; of more, sorting is faster than looking at every pair
Predictor = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def boosted(train_MF: np.ndarray, target_M: np.ndarray, test_TF: np.ndarray) -> np.ndarray:
    """(T,) gradient-boosted trees (scikit-learn), of a fixed size: nothing is tuned."""
    from sklearn.ensemble import GradientBoostingRegressor

    model = GradientBoostingRegressor(
        n_estimators=TREES, learning_rate=0.05, max_depth=3, subsample=0.7, max_features="sqrt", random_state=0
    )
    return model.fit(train_MF, target_M).predict(test_TF)


def ranked(predictor: Predictor) -> Predictor:
    """Predict the target's rank among the training networks instead, and read the value of that rank off them.

    What saturates (accuracy) or spans decades (loss) is ranked better so: OURS. Nothing of the test fold is used.
    """

    def predict_by_rank(train_MF: np.ndarray, target_M: np.ndarray, test_TF: np.ndarray) -> np.ndarray:
        known_M = np.sort(target_M)
        share_M = (rankdata(target_M) - 0.5) / len(target_M)
        return np.interp(predictor(train_MF, share_M, test_TF), np.sort(share_M), known_M)

    return predict_by_rank


def kernel_ridge(train_MF: np.ndarray, target_M: np.ndarray, test_TF: np.ndarray, linear: bool = False) -> np.ndarray:
    """(T,) ridge regression with a Gaussian kernel as wide as the median distance, or linear.

    The penalty with the smallest leave-one-out error within the training rows, in closed form.
    """
    train_MF, test_TF = (np.asarray(rows) for rows in (train_MF, test_TF))
    kernel = _kept_kernel(
        train_MF.tobytes(), test_TF.tobytes(), train_MF.dtype.str, test_TF.dtype.str, train_MF.shape[1], linear
    )
    return _ridge(*kernel, target_M)


def kernel_ridge_once(train_MF: np.ndarray, target_M: np.ndarray, test_TF: np.ndarray) -> np.ndarray:
    """`kernel_ridge` of rows that do not come again: nothing is kept of them."""
    return _ridge(*_kernel(train_MF, test_TF, linear=False), target_M)


def _ridge(value_M: np.ndarray, vector_MM: np.ndarray, inner_TM: np.ndarray, target_M: np.ndarray) -> np.ndarray:
    centre = target_M.mean()
    seen_M = vector_MM.T @ (target_M - centre)
    square_MM = vector_MM**2
    best, best_error = np.zeros(len(inner_TM)), np.inf
    for ridge in RIDGES:
        inverse_M = 1 / (value_M + ridge * value_M.mean() + 1e-12)
        weight_M = vector_MM @ (inverse_M * seen_M)
        left_out_M = weight_M / np.maximum(square_MM @ inverse_M, 1e-12)
        if (error := float((left_out_M**2).mean())) < best_error:
            best, best_error = inner_TM @ weight_M, error
    return best + centre


@lru_cache(maxsize=2 * FOLDS)  # the same folds serve all targets, of trained and of initial weights; 6 MB each
def _kept_kernel(
    train: bytes, test: bytes, train_type: str, test_type: str, features: int, linear: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    train_MF, test_TF = (
        np.frombuffer(rows, kind).reshape(-1, features) for rows, kind in ((train, train_type), (test, test_type))
    )
    return _kernel(train_MF, test_TF, linear)


def _kernel(train_MF: np.ndarray, test_TF: np.ndarray, linear: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Eigenvalues (M,) and vectors (M, M) of the training rows' kernel, and that of the test rows with them (T, M)."""
    mean_F, scale_F = train_MF.mean(0), train_MF.std(0)
    scale_F = np.where(scale_F > 0, scale_F, 1)
    x, y = (np.clip((rows - mean_F) / scale_F, -5, 5) for rows in (train_MF, test_TF))
    if linear:
        inner_MM, inner_TM = x @ x.T, y @ x.T
    else:
        square_MM, square_TM = squared_distances(x), squared_distances(y, x)
        width = max(float(np.median(square_MM)), 1e-12)
        inner_MM, inner_TM = np.exp(-square_MM / width), np.exp(-square_TM / width)
    value_M, vector_MM = np.linalg.eigh(inner_MM)
    return np.maximum(value_M, 0), vector_MM, inner_TM


PREDICTORS: dict[str, Predictor] = {
    "boosted trees": boosted,
    "boosted trees on ranks": ranked(boosted),
    "kernel ridge": kernel_ridge,
    "linear ridge": lambda train, target, test: kernel_ridge(train, target, test, linear=True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """How well a number was predicted for networks whose group was not trained on."""

    predicted_N: np.ndarray
    r2: float
    r2_low: float  # 95%, bootstrap over groups
    r2_high: float
    tau: float  # Kendall's
    tau_low: float
    tau_high: float
    shuffled_tau: float  # control: the target shuffled over groups, same folds
    groups: int


def predict(
    features_NF: np.ndarray, target_N: np.ndarray, group_N: np.ndarray, predictor: Predictor = boosted, seed: int = 0
) -> Prediction:
    """Predict every network by a model that saw no network of its group (see `splits.groups`).

    Raises UsageError: fewer than five groups, or a target that is not finite.
    """
    target_N, group_N = np.asarray(target_N, np.float64), groups(np.asarray(group_N).tolist())
    if group_N.max(initial=-1) + 1 < FOLDS or not np.isfinite(target_N).all():
        raise UsageError(f"predicting needs finite targets, and networks of at least {FOLDS} groups (such as seeds)")
    rng = np.random.default_rng(seed)
    fold_N = random_folds(group_N, rng)
    predicted_N, shuffled_N = np.empty(len(target_N)), np.empty(len(target_N))
    mixed_N = target_N[rng.permutation(len(target_N))]
    for fold in range(FOLDS):
        test = fold_N == fold
        predicted_N[test] = predictor(features_NF[~test], target_N[~test], features_NF[test])
        shuffled_N[test] = predictor(features_NF[~test], mixed_N[~test], features_NF[test])
    rows_of = [np.flatnonzero(group_N == g) for g in range(group_N.max() + 1)]
    draws = [
        np.concatenate([rows_of[g] for g in rng.integers(0, len(rows_of), len(rows_of))]) for _ in range(BOOTSTRAPS)
    ]
    r2_low, r2_high = interval([r_squared(predicted_N[d], target_N[d]) for d in draws])
    tau_low, tau_high = interval(drawn_taus(predicted_N, target_N, draws))
    return Prediction(
        predicted_N=predicted_N,
        r2=r_squared(predicted_N, target_N),
        r2_low=r2_low,
        r2_high=r2_high,
        tau=tau(predicted_N, target_N),
        tau_low=tau_low,
        tau_high=tau_high,
        shuffled_tau=tau(shuffled_N, mixed_N),
        groups=len(rows_of),
    )


def interval(values: list[float]) -> tuple[float, float]:
    """The middle 95% of bootstrapped values; NaN when none is defined."""
    if np.isnan(values).all():
        return float("nan"), float("nan")
    low, high = np.nanquantile(values, (0.025, 0.975))
    return float(low), float(high)


def r_squared(predicted_N: np.ndarray, target_N: np.ndarray) -> float:
    """1 - residual / variance; below 0 when the mean would have been better. NaN for a constant target."""
    if not np.ptp(target_N):  # the mean of equal numbers may be rounded: their spread is not always 0
        return float("nan")
    return float(1 - ((predicted_N - target_N) ** 2).sum() / ((target_N - target_N.mean()) ** 2).sum())


def tau(predicted_N: np.ndarray, target_N: np.ndarray) -> float:
    """Kendall's tau-b; 0 when either side is constant: a constant ranks nothing."""
    of = tau_of_pairs if len(target_N) <= PAIRS_MAX else kendalltau
    found = float(of(predicted_N, target_N)[0])  # pyright: ignore[reportArgumentType]
    return 0.0 if np.isnan(found) else found


def drawn_taus(predicted_N: np.ndarray, target_N: np.ndarray, draws: list[np.ndarray]) -> list[float]:
    """`tau` of rows drawn with repetition, bit for bit: all pairs are compared once, and counted in every draw."""
    n = len(target_N)
    if n > DRAWN_MAX:
        return [tau(predicted_N[d], target_N[d]) for d in draws]
    times_RN = np.stack([np.bincount(d, minlength=n) for d in draws]).astype(np.float32)
    x_NN, y_NN = (np.sign(np.subtract.outer(values, values)).astype(np.float32) for values in (predicted_N, target_N))

    def counted(pair_NN: np.ndarray) -> np.ndarray:  # products are whole numbers below 2^24
        return np.einsum("rn,rn->r", times_RN @ pair_NN, times_RN, dtype=np.float64) / 2

    same_R, untied_x_R, untied_y_R = map(counted, (x_NN * y_NN, np.abs(x_NN), np.abs(y_NN)))
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.clip(same_R / np.sqrt(untied_x_R) / np.sqrt(untied_y_R), -1, 1)).tolist()


def tau_of_pairs(x_N: np.ndarray, y_N: np.ndarray) -> tuple[float]:
    """`kendalltau` without its p-value, bit for bit: over all pairs, four times as fast for 100 networks."""
    x_NN, y_NN = (np.sign(np.subtract.outer(values, values)) for values in (x_N, y_N))
    same = float((x_NN * y_NN).sum()) / 2  # pairs in the same order less those in the other: whole numbers
    untied_x, untied_y = np.abs(x_NN).sum() / 2, np.abs(y_NN).sum() / 2
    with np.errstate(invalid="ignore"):
        return (float(np.clip(same / np.sqrt(untied_x) / np.sqrt(untied_y), -1, 1)),)  # 0 / 0, NaN, where all are tied


def transfer(
    features_NF: np.ndarray,
    target_N: np.ndarray,
    domain_N: np.ndarray,
    group_N: np.ndarray,
    predictor: Predictor = boosted,
) -> tuple[list[str], np.ndarray]:
    """(domains, tau_KK): trained on the row's networks (a class, a recipe), tested on the column's.

    On the diagonal, and wherever domains share groups, the tested groups are left out of training, by fold.
    """
    domains = sorted(set(np.asarray(domain_N).tolist()))
    group_N = groups(np.asarray(group_N).tolist())
    fold_N = random_folds(group_N, np.random.default_rng(0))
    tau_KK = np.zeros((len(domains), len(domains)))
    for i, source in enumerate(domains):
        predicted_N = np.full(len(target_N), np.nan)
        for fold in range(FOLDS):
            train = (np.asarray(domain_N) == source) & (fold_N != fold)
            predicted_N[fold_N == fold] = predictor(features_NF[train], target_N[train], features_NF[fold_N == fold])
        for j, goal in enumerate(domains):
            test = np.asarray(domain_N) == goal
            tau_KK[i, j] = tau(predicted_N[test], target_N[test])
    return domains, tau_KK
