"""Classes as numbers. Axes: N networks, K classes."""

from collections.abc import Sequence

import numpy as np


def label_codes(labels: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels -> (codes (N,) int from 0 to K - 1, the K names in the order of their codes, sorted)."""
    names, code_N = np.unique(np.array(labels, str), return_inverse=True)
    return code_N, tuple(names.tolist())
