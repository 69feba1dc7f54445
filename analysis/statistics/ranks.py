"""Rank correlations: of many rows at once, and of one pair of columns with its interval. Axes: B rows, F entries,
N networks."""

import numpy as np

from analysis.statistics.intervals import jackknife


def spearman_rows(a_BF: np.ndarray, b_BF: np.ndarray, used_BF: np.ndarray | None = None, least: int = 3) -> np.ndarray:
    """(B,) Spearman's correlation of row i of one with row i of the other, ties at their mean rank.

    `used_BF`: only these entries, finite ones. NaN where fewer than `least` are used, or where all of them tie.
    """
    from scipy.stats import rankdata

    used = np.ones(a_BF.shape, bool) if used_BF is None else used_BF
    # What is not used ties behind all others, and so leaves their ranks alone.
    a, b = (rankdata(np.where(used, side, np.inf), axis=1) * used for side in (a_BF, b_BF))
    count = np.maximum(used.sum(1, keepdims=True), 1)
    a, b = ((side - side.sum(1, keepdims=True) / count) * used for side in (a, b))
    size = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    known = (size > 0) & (used.sum(1) >= least)
    return np.where(known, (a * b).sum(1) / np.where(known, size, 1.0), np.nan)


def spearman(a_N: np.ndarray, b_N: np.ndarray) -> float:
    """NaN with fewer than three networks, or where all of one side tie."""
    return float(spearman_rows(np.asarray(a_N)[None], np.asarray(b_N)[None])[0])


def spearman_interval(a_N: np.ndarray, b_N: np.ndarray, group_N: np.ndarray) -> tuple[float, float, float]:
    """(correlation, low, high): 95% by leaving out blocks of whole groups (jackknife), cut at -1 and 1.

    No interval (NaN) where without some block all that is left ties: how far the correlation hangs on that block cannot
    be told. All NaN where it is not defined of all rows.
    """
    a, b = np.asarray(a_N, np.float64), np.asarray(b_N, np.float64)
    undefined: list[bool] = []

    def measure(some: np.ndarray) -> float:
        value = spearman(a[some], b[some])
        undefined.append(bool(np.isnan(value)))
        return value

    low, high = jackknife(measure, np.asarray(group_N), -1.0, 1.0)
    nan = float("nan")
    return (spearman(a, b), nan, nan) if any(undefined) else (spearman(a, b), low, high)
