"""Area under the ROC curve with its interval, and scores that a classifier gave to networks it had not seen.

DeLong's interval (DeLong, DeLong and Clarke-Pearson 1988) by midranks (Sun and Xu 2014), its parts added up over groups
of networks that are not independent (Obuchowski 1997). Axes: N networks, F features.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.statistics.classify import ridge_scores

Z_95 = 1.959964  # deviations of a normal distribution to either side that hold 95%
WIDENED = 1.45  # standard errors of cross-validated scores, see `unseen_auc`
Scorer = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Auc:
    """How often a network of the second kind scores above one of the first; 0.5 is guessing."""

    value: float
    low: float  # 95%, on the logit scale; widened if the scores are cross-validated
    high: float
    first: int  # networks
    second: int

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def auc(
    score_N: np.ndarray, second_N: np.ndarray, widened: float = 1.0, group_N: Sequence[int] | np.ndarray | None = None
) -> Auc:
    """AUC of scores for telling `second_N` (bool) from the rest; NaN when a side is empty.

    DeLong's interval is right for scores that one fixed classifier gave; `widened` multiplies its standard error.
    Networks of a group (twins, that share a seed) count together: what they share moves both sides alike, and cancels.
    Without groups each network is one. At exactly 0 or 1 the variance is zero; there the interval is that of the rule
    of three.
    """
    from scipy.stats import rankdata

    second_N = np.asarray(second_N, bool)
    x, y = np.asarray(score_N)[second_N], np.asarray(score_N)[~second_N]
    (m, n), lone = (len(x), len(y)), 0
    if not m or not n:
        return Auc(value=float("nan"), low=float("nan"), high=float("nan"), first=n, second=m)
    joint = rankdata(np.concatenate([x, y]))
    own_x, own_y = (joint[:m] - rankdata(x)) / n, 1 - (joint[m:] - rankdata(y)) / m
    value = float(own_x.mean())
    groups_N = np.arange(m + n) if group_N is None else np.asarray(group_N)
    parts_N = np.empty(m + n)
    for side_N, own in ((second_N, own_x), (~second_N, own_y)):
        few = len(np.unique(groups_N[side_N]))
        parts_N[side_N] = (own - value) / len(own) * np.sqrt(few / (few - 1) if few > 1 else 1.0)
        lone += few == 1
    sums_G = np.bincount(np.unique(groups_N, return_inverse=True)[1], parts_N)
    variance = float(sums_G @ sums_G) + 0.25 * lone  # one group does not tell how much groups vary
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


def unseen_auc(score_N: np.ndarray, second_N: np.ndarray, group_N: Sequence[int] | np.ndarray) -> Auc:
    """AUC of cross-validated scores, with the standard error over groups (seeds) times WIDENED.

    The classifiers of the folds share training networks and are themselves drawn by chance, which DeLong does not
    know: his intervals held the true AUC in 80 to 90% of our simulations, and always where twins share most of what
    they are. The factor is OURS, chosen in simulations; fresh ones are in docs/analyses.md and tests/analysis.
    A jackknife that trains again without each block of seeds held it in 99 to 100%: what a network does in training and
    in testing counts twice there. Nadeau and Bengio's (2003) correction covered 81 to 90%.
    """
    return auc(score_N, second_N, WIDENED, group_N)
