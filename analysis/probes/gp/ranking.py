"""Does a score computed without training put architectures in the order of their test errors? Axes: T data sets, A
architectures, R draws.

Kendall's tau-b; the regret of taking the best-scored one; a p-value by giving the scores to other architectures.
"""

from dataclasses import dataclass

import numpy as np

from analysis.statistics.permutation import permutation_p

ORDERS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """How well a score ranks, over one or several data sets."""

    tau: float  # -1 to 1, mean over data sets; 1: a higher score always has a lower error
    low: float  # 95%, bootstrap over architectures
    high: float
    regret: float  # mean over data sets: (error of the chosen - error of the best) / (worst - best)
    chance: float  # what regret a random choice has
    p: float  # how often scores given to other architectures do as well
    null_R: np.ndarray  # their taus


def regret(score_A: np.ndarray, error_A: np.ndarray) -> float:
    """0: the best architecture has the best score; 1: the worst has. Of equal scores the mean is taken."""
    score_A, error_A = np.asarray(score_A, float), np.asarray(error_A, float)
    chosen = error_A[score_A == score_A.max()].mean()
    return float((chosen - error_A.min()) / max(float(np.ptp(error_A)), 1e-300))


def rank(score_TA: np.ndarray, error_TA: np.ndarray, orders: int = ORDERS, seed: int = 0) -> Ranked:
    """Judge one score over data sets. The p is one-sided: the scores of architectures are given to others, the same
    others for all data sets, since both scores and errors of an architecture are alike over data sets."""
    rng = np.random.default_rng(seed)
    score_TA, error_TA = np.asarray(score_TA, float), np.asarray(error_TA, float)
    ranks = [(_ranks(s), _ranks(-e)) for s, e in zip(score_TA, error_TA, strict=True)]
    a = score_TA.shape[1]
    tau = float(np.mean([_taus(s[None], e)[0] for s, e in ranks]))
    order_RA = np.stack([rng.permutation(a) for _ in range(orders)])
    null_R = np.mean([_taus(s[order_RA], e) for s, e in ranks], axis=0)
    again_RA = rng.integers(0, a, (orders, a))
    drawn_R = np.mean([_taus(s[again_RA], e[again_RA]) for s, e in ranks], axis=0)
    low, high = np.quantile(drawn_R, (0.025, 0.975))
    pairs = list(zip(score_TA, error_TA, strict=True))
    return Ranked(
        tau=tau,
        low=float(low),
        high=float(high),
        regret=float(np.mean([regret(s, e) for s, e in pairs])),
        chance=float(np.mean([(e.mean() - e.min()) / max(float(np.ptp(e)), 1e-300) for e in error_TA])),
        p=permutation_p(tau, null_R),
        null_R=null_R,
    )


def _ranks(values: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    return rankdata(values)


def _taus(s_RA: np.ndarray, e_A: np.ndarray) -> np.ndarray:
    """(R,) Kendall's tau-b of every row with `e_A` (or with its row of it): sum of sign products over the root of
    untied pairs; 0 where one side is all ties."""
    first, second = np.triu_indices(s_RA.shape[1], 1)
    sign_RB = np.sign(s_RA[:, first] - s_RA[:, second])
    sign_eB = np.sign(np.atleast_2d(e_A)[:, first] - np.atleast_2d(e_A)[:, second])
    size = np.sqrt((sign_RB**2).sum(1) * (sign_eB**2).sum(1))
    return np.where(size > 0, (sign_RB * sign_eB).sum(1) / np.where(size > 0, size, 1), 0.0)
