"""Classes as numbers, and sums over pairs of them. Axes: N networks, K classes, R labelings."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np

LABELINGS_AT_ONCE = 50  # of 1,000 networks and 10 classes: 4 MB; one product of matrices serves them all


def label_codes(labels: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels -> (codes (N,) int from 0 to K - 1, the K names in the order of their codes, sorted)."""
    names, code_N = np.unique(np.array(labels, str), return_inverse=True)
    return code_N, tuple(names.tolist())


def class_sums(pair_NN: np.ndarray, labelings: Iterable[np.ndarray], classes: int) -> Iterator[np.ndarray]:
    """(K, K) sums of a symmetric matrix over all pairs of two classes, for one labeling (N,) after another.

    A network of code K is of no class: so some are left out without a copy of the matrix.
    """
    rest, one_hot = iter(labelings), np.eye(classes + 1, classes)
    while some := list(islice(rest, LABELINGS_AT_ONCE)):
        member_RNK = one_hot[np.stack(some)]
        sums_NRK = np.tensordot(pair_NN, member_RNK.transpose(1, 0, 2), 1)
        yield from np.matmul(member_RNK.transpose(0, 2, 1), sums_NRK.transpose(1, 0, 2))
