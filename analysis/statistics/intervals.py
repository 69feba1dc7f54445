"""Intervals for numbers that have no formula of their own.

The delete-a-group jackknife: Kott, Journal of Official Statistics 17 (2001) 521-526. Axes: N networks.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

JACKKNIFE_BLOCKS = 20


def jackknife(
    measure: Callable[[np.ndarray], float],
    group_N: np.ndarray,
    least: float = -np.inf,
    most: float = np.inf,
    seed: int = 0,
) -> tuple[float, float]:
    """95% interval of measure(all rows), from leaving out each of up to 20 blocks of whole groups once.

    `measure` takes row numbers; the interval is cut at `least` and `most`, the values that it can have. Networks of a
    group (a seed) go together, since they are not independent. NaN with fewer than two groups. Unlike a bootstrap it
    holds no network twice, which would look like a near neighbour.
    """
    from scipy.stats import t

    names, code_N = np.unique(group_N, return_inverse=True)
    blocks = min(JACKKNIFE_BLOCKS, len(names))
    if blocks < 2:
        return float("nan"), float("nan")
    block_N = np.random.default_rng(seed).permutation(np.arange(len(names)) % blocks)[code_N]
    value = measure(np.arange(len(code_N)))
    left_out_B = np.array([measure(np.flatnonzero(block_N != block)) for block in range(blocks)])
    error = np.sqrt((blocks - 1) / blocks * ((left_out_B - value) ** 2).sum())
    half = float(t.ppf(0.975, blocks - 1) * error)
    return max(least, value - half), min(most, value + half)


def median_interval(values: np.ndarray) -> tuple[float, float, float]:
    """(median, low, high): the narrowest two order statistics that hold the median with at least 95% (exact binomial).

    With fewer than six values not even their whole range, which is then returned, does. NaN without values.
    """
    from scipy.stats import binom

    ordered, n = np.sort(np.asarray(values, np.float64)), len(values)
    if not n:
        return float("nan"), float("nan"), float("nan")
    cut = max([0, *(c for c in range((n + 1) // 2) if binom.cdf(c, n, 0.5) <= 0.025)])
    return float(np.median(ordered)), float(ordered[cut]), float(ordered[n - 1 - cut])


def median_of(rows: Iterable[Mapping[str, Any]], key: str) -> tuple[float, float, float]:
    """`median_interval` over the rows that have the number: neither missing nor NaN."""
    values = np.array([row[key] for row in rows if row[key] is not None], np.float64)
    return median_interval(values[~np.isnan(values)])
