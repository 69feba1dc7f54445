"""Exact nearest neighbours of every network, streamed in row blocks: no N x N matrix is ever held.

50,000 networks of 4,364 weights take minutes on two cores and no more memory than the weights, twice (centred), and a
few blocks of distances. Each block serves both of its sides. Results are kept in the user's cache directory under the
digest of the weights. `shards` does the same for weights on several machines.
Axes: N networks, P parameters, k neighbours.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from protocol.errors import UsageError
from protocol.files import cache_directory, write_atomic

# 64 MB of float32 distances, and products large enough to keep the cores busy. Not a power of two: turning such a block
# on its side would meet the same lines of the cache again and again, and takes eight times as long.
BLOCK_ROWS = 4000
Pair = tuple[int, int]
Nearest = tuple[np.ndarray, np.ndarray]  # (rows, k) places in the other block, and squared distances
Both = tuple[Nearest, Nearest | None]  # of the first block's rows and of the second's


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """The k nearest of every network, itself left out, nearest first."""

    index_Nk: np.ndarray  # int64 rows of the same matrix
    distance_Nk: np.ndarray  # float32, Euclidean


def neighbours(
    weights_NP: np.ndarray,
    k: int = 10,
    progress: Callable[[int, int], None] = lambda done, total: None,
    cache: Path | None = None,
) -> Neighbours:
    """The exact k nearest neighbours by Euclidean distance; `progress` hears (blocks done, blocks in all).

    For cosine distances give rows of length 1. `cache` is a directory, e.g. `cache_dir()`; None: nothing is kept.
    Distances come from float32 products of centred rows: relative error about 1e-3 for near copies, whose squared
    distance is a millionth of their size; far below what separates networks. Raises UsageError: not finite.
    """
    weights_NP = np.ascontiguousarray(weights_NP, np.float32)
    if not np.isfinite(weights_NP.sum(dtype=np.float64)):
        raise UsageError("nearest neighbours need finite numbers; some of these are not")
    n, k = len(weights_NP), min(k, max(len(weights_NP) - 1, 0))
    kept = cache / f"neighbours-{digest(weights_NP, k)}.npz" if cache else None
    if kept and kept.is_file():
        with np.load(kept) as found:
            return Neighbours(index_Nk=found["index_Nk"], distance_Nk=found["distance_Nk"])
    centred_NP = weights_NP - (weights_NP.mean(0, dtype=np.float64).astype(np.float32) if n else 0)
    blocks = [centred_NP[begin : begin + BLOCK_ROWS] for begin in range(0, n, BLOCK_ROWS)]
    pairs = block_pairs(len(blocks)) if k else []
    found = (((i, j), nearest_of_blocks(blocks[i], blocks[j], i == j, k)) for i, j in pairs)
    result = merged(n, k, BLOCK_ROWS, found, lambda done: progress(done, len(pairs)))
    if kept:
        _keep(kept, result)
    return result


def block_pairs(blocks: int) -> list[Pair]:
    """Every block with itself and the later ones."""
    return [(i, j) for i in range(blocks) for j in range(i, blocks)]


def merged(
    n: int,
    k: int,
    rows: int,
    found: Iterable[tuple[Pair, Both]],
    progress: Callable[[int], None],
) -> Neighbours:
    """The nearest of all, from those of pairs of blocks of `rows` networks, in any order."""
    index_Nk, square_Nk = np.full((n, k), -1, np.int64), np.full((n, k), np.inf, np.float32)
    for done, ((i, j), (of_i, of_j)) in enumerate(found, 1):
        for block, other, nearest in ((i, j, of_i), (j, i, of_j)):
            if nearest is not None:
                _merge(index_Nk, square_Nk, block * rows, nearest[0] + other * rows, nearest[1])
        progress(done)
    return Neighbours(index_Nk=index_Nk, distance_Nk=np.sqrt(square_Nk))


def nearest_of_blocks(first_AP: np.ndarray, second_BP: np.ndarray, same: bool, k: int) -> Both:
    """The nearest of each block's rows among the other's; of one only where they are the same."""
    square_AB = first_AP @ second_BP.T
    square_AB *= -2
    square_AB += np.einsum("ap,ap->a", first_AP, first_AP)[:, None]
    square_AB += np.einsum("bp,bp->b", second_BP, second_BP)
    if same:
        np.fill_diagonal(square_AB, np.inf)
        return _smallest(square_AB, k), None
    return _smallest(square_AB, k), _smallest(square_AB.T, k)


def _smallest(square_AB: np.ndarray, k: int) -> Nearest:
    """Columns and values of the k smallest of each row, nearest first; ties go to the lower column.

    A partition of the values alone is several times faster than one of their places.
    """
    square_AB = np.ascontiguousarray(square_AB)
    rows, columns = square_AB.shape
    k = min(k, columns)
    limit_A = np.partition(square_AB, k - 1, axis=1)[:, k - 1]
    found = np.flatnonzero(square_AB <= limit_A[:, None])
    if len(found) > 2 * k * rows:  # whole blocks of copies
        index_Ak = np.argsort(square_AB, axis=1, kind="stable")[:, :k]
    else:
        row, column = np.divmod(found, columns)
        order = np.lexsort((column, square_AB.ravel()[found], row))
        place = np.arange(len(found)) - np.searchsorted(row, row)  # in its row; `found` is in the order of rows
        index_Ak = column[order][place < k].reshape(rows, k)
    return index_Ak, np.maximum(np.take_along_axis(square_AB, index_Ak, 1), 0)


def _merge(index_Nk: np.ndarray, square_Nk: np.ndarray, begin: int, index: np.ndarray, square: np.ndarray) -> None:
    """Take what is nearer into the rows from `begin`; equal distances go to the lower row, whatever the block order."""
    place = slice(begin, begin + len(index))
    both_index = np.concatenate([index_Nk[place], index], axis=1)
    both_square = np.concatenate([square_Nk[place], square], axis=1)
    order = np.lexsort((both_index, both_square), axis=1)[:, : index_Nk.shape[1]]
    index_Nk[place] = np.take_along_axis(both_index, order, 1)
    square_Nk[place] = np.take_along_axis(both_square, order, 1)


def vote(found: Neighbours, labels: list[str], group_N: np.ndarray) -> float:
    """Share of networks whose nearest neighbour of another group (`splits.groups`) has their class.

    Neighbours of the own group do not count: a network's twin by seed, or its copy, is no evidence.
    """
    label_N, right = np.array(labels, str), []
    for i, row in enumerate(found.index_Nk):
        foreign = row[group_N[row] != group_N[i]]
        right.append(len(foreign) > 0 and label_N[foreign[0]] == label_N[i])
    return float(np.mean(right))


def digest(weights_NP: np.ndarray, k: int) -> str:
    """Names a result: SHA-256 of the shape, k, and every weight."""
    sha = hashlib.sha256(f"neighbours/1 {weights_NP.shape} {k} ".encode())
    for begin in range(0, len(weights_NP), BLOCK_ROWS):
        sha.update(weights_NP[begin : begin + BLOCK_ROWS].astype("<f4").tobytes())
    return sha.hexdigest()


def cache_dir() -> Path:
    """Where this user's results are kept (ZOOSWARM_HOME moves it); deleting it is harmless."""
    return cache_directory() / "analysis"


def _keep(path: Path, found: Neighbours) -> None:
    import io

    sink = io.BytesIO()
    np.savez(sink, index_Nk=found.index_Nk, distance_Nk=found.distance_Nk)
    write_atomic(path, sink.getvalue())
