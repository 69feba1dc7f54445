"""Labels dealt again, in every way in which chance could have dealt them.

Networks that share a seed may share a start (twins do), and then resemble each other whatever their class. So labels
change places inside a block of networks that share a seed (Anderson and ter Braak 2003), and a whole block, with all of
its labels, changes places with another of its size, since seeds are drawn alike (Winkler et al. 2015). Where every
network has a seed of its own this is the free shuffle; where every seed has every class it keeps it so, and a measure
that treats networks of one seed in a special way meets the same design in every shuffle.
Axes: N networks, R shuffles, B blocks, S networks of a block.
"""

from collections.abc import Sequence

import numpy as np


def shuffled_labels(
    code_N: np.ndarray,
    blocks: Sequence[int] | np.ndarray,
    shuffles: int,
    seed: int | np.random.Generator = 0,
    stratum_N: np.ndarray | None = None,
) -> np.ndarray:
    """(R, N) labels, each row a shuffle of `code_N`.

    `blocks` are numbers of groups, one a network (see `splits.groups`). `stratum_N` are numbers of parts that keep
    their labels to themselves, such as folds; a block in several of them counts as several blocks.
    """
    rng = np.random.default_rng(seed)
    stratum_N = np.zeros(len(code_N), int) if stratum_N is None else np.asarray(stratum_N)
    pairs_B2, block_N = np.unique(np.stack([stratum_N, np.asarray(blocks)], axis=1), axis=0, return_inverse=True)
    size_B, order_N = np.bincount(block_N), np.argsort(block_N, kind="stable")
    first_B, ordered_N = np.cumsum(size_B) - size_B, np.asarray(code_N)[order_N]
    codes_RN = np.tile(ordered_N, (shuffles, 1))
    for stratum, size in np.unique(np.stack([pairs_B2[:, 0], size_B], axis=1), axis=0).tolist():
        alike_B = np.flatnonzero((pairs_B2[:, 0] == stratum) & (size_B == size))
        at_BS = first_B[alike_B][:, None] + np.arange(size)
        deal_RB = np.argsort(rng.random((shuffles, len(alike_B))), axis=1)
        codes_RN[:, at_BS] = ordered_N[at_BS][deal_RB]
    if size_B.max(initial=0) > 1:
        place_RN = np.argsort(block_N[order_N] + rng.random(codes_RN.shape), axis=1)
        codes_RN = np.take_along_axis(codes_RN, place_RN, axis=1)
    shuffled_RN = np.empty_like(codes_RN)
    shuffled_RN[:, order_N] = codes_RN
    return shuffled_RN
