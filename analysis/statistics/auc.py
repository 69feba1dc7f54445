"""Area under the ROC curve with its interval, and scores that a classifier gave to networks it had not seen.

DeLong's interval (DeLong, DeLong and Clarke-Pearson 1988) by midranks (Sun and Xu 2014). Axes: N networks, F features.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from analysis.statistics.classify import ridge_scores

Z_95 = 1.959964  # deviations of a normal distribution to either side that hold 95%
WIDENED = 1.5  # standard errors of cross-validated scores, see `unseen_auc`
Scorer = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Auc:
    """How often a network of the second kind scores above one of the first; 0.5 is guessing."""

    value: float
    low: float  # 95%, DeLong on the logit scale; widened if the scores are cross-validated
    high: float
    first: int  # networks
    second: int

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def auc(score_N: np.ndarray, second_N: np.ndarray, widened: float = 1.0) -> Auc:
    """AUC of scores for telling `second_N` (bool) from the rest; NaN when a side is empty.

    DeLong's interval is right for scores that one fixed classifier gave; `widened` multiplies its standard error.
    At exactly 0 or 1 DeLong's variance is zero; there the interval is that of the rule of three.
    """
    from scipy.stats import rankdata

    x, y = np.asarray(score_N)[np.asarray(second_N, bool)], np.asarray(score_N)[~np.asarray(second_N, bool)]
    m, n = len(x), len(y)
    if not m or not n:
        return Auc(value=float("nan"), low=float("nan"), high=float("nan"), first=n, second=m)
    joint = rankdata(np.concatenate([x, y]))
    own_x, own_y = (joint[:m] - rankdata(x)) / n, 1 - (joint[m:] - rankdata(y)) / m
    value = float(own_x.mean())
    variance = (own_x.var(ddof=1) / m if m > 1 else 0.25) + (own_y.var(ddof=1) / n if n > 1 else 0.25)
    least = min(1.0, widened**2 * 3 / min(m, n))
    if value in (0.0, 1.0):
        low, high = (max(0.0, 1 - least), 1.0) if value else (0.0, min(1.0, least))
    else:
        logit, half = np.log(value / (1 - value)), widened * Z_95 * np.sqrt(variance) / (value * (1 - value))
        low, high = (1 / (1 + np.exp(-(logit + side * half))) for side in (-1, 1))
    return Auc(value=value, low=float(low), high=float(high), first=n, second=m)


def auc_values(score_RN: np.ndarray, second_RN: np.ndarray) -> np.ndarray:
    """(R,) `auc(...).value` of each row; of shuffled labels nobody asks for more. Both kinds are in every row."""
    from scipy.stats import rankdata

    m_R = second_RN.sum(1)
    ranks_R = np.where(second_RN, rankdata(score_RN, axis=1), 0).sum(1)
    return (ranks_R - m_R * (m_R + 1) / 2) / (m_R * (second_RN.shape[1] - m_R))


def ridge_scorer(train_MF: np.ndarray, second_M: np.ndarray, test_TF: np.ndarray) -> np.ndarray:
    """(T,) how much each test network looks like the second kind: the ridge classifier of `classify`."""
    return ridge_scores(train_MF, second_M.astype(int), test_TF, 2)[:, 1]


def unseen_scores(
    features_NF: np.ndarray, second_N: np.ndarray, fold_N: np.ndarray, scorer: Scorer = ridge_scorer
) -> np.ndarray:
    """(N,) each network scored by a classifier trained without its fold."""
    score_N = np.zeros(len(features_NF))
    for fold in np.unique(fold_N):
        test = fold_N == fold
        score_N[test] = scorer(features_NF[~test], second_N[~test], features_NF[test])
    return score_N


def unseen_auc(score_N: np.ndarray, second_N: np.ndarray) -> Auc:
    """AUC of cross-validated scores, with DeLong's standard error times WIDENED.

    The classifiers of the folds share training networks and are themselves drawn by chance, which DeLong does not
    know: his intervals held the true AUC in 78 to 88% of our simulations. The factor is OURS, chosen in simulations (40
    to 200 networks, 50 or 500 features, ridge classifier); in fresh ones it covered 92 to 99%; 97 to 98% where there
    was nothing to tell (docs/analyses.md).
    Repeated cross-validation with the correction of Nadeau and Bengio (2003) covered 81 to 90%.
    """
    return auc(score_N, second_N, WIDENED)
