"""How much two attributions of the same inputs agree, with the two choices that make any two agree and without them.

Both choices are named by the note (its abstract): signs that are thrown away, and pixels that get zero because the
baseline says so. Absolute attributions over all pixels share the factor |x_i - x'_i|, and their zeros tie: they agree
for no reason. Axes: B inputs, F numbers of an input.
"""

from typing import NamedTuple

import numpy as np

from analysis.statistics.ranks import spearman_rows

LEAST = 10  # pixels that differ from the baseline; fewer say nothing


class Agreement(NamedTuple):
    """(B,) Spearman's correlations; NaN where undefined."""

    signed_z: np.ndarray  # with signs, on the pixels that differ from the baseline
    absolute_z: np.ndarray
    signed_all: np.ndarray
    absolute_all: np.ndarray
    slope_z: np.ndarray  # attribution over (x - x'), with signs, on those pixels: the mean gradients themselves


def agreement(one_BF: np.ndarray, other_BF: np.ndarray, moved_BF: np.ndarray) -> Agreement:
    """`moved_BF` = x - x', the same for both."""
    used = moved_BF != 0
    safe = np.where(used, moved_BF, 1.0)
    return Agreement(
        signed_z=spearman_rows(one_BF, other_BF, used, LEAST),
        absolute_z=spearman_rows(np.abs(one_BF), np.abs(other_BF), used, LEAST),
        signed_all=spearman_rows(one_BF, other_BF),
        absolute_all=spearman_rows(np.abs(one_BF), np.abs(other_BF)),
        slope_z=spearman_rows(one_BF / safe, other_BF / safe, used, LEAST),
    )


def mean(values: np.ndarray) -> float:
    """Of those that are defined; NaN when none is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def spread(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.std(ddof=1)) if len(known) > 1 else float("nan")
