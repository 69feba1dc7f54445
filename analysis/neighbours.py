"""Exact nearest neighbours of every network, streamed in row blocks: no N x N matrix is ever held.

50,000 networks of 4,364 weights take minutes on two cores and no more memory than the weights, twice (centred), and a
few blocks of distances. Each block serves both of its sides. Results are kept in the user's cache directory under the
digest of the weights. `run` says where the blocks are computed: here (the default), or on a Dask cluster (`on_dask`);
the code of a block is the same, and so is the result, but for the rounding of float32 products.
Axes: N networks, P parameters, k neighbours.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from protocol.canonical import write_atomic
from protocol.errors import UsageError

# 64 MB of float32 distances, and products large enough to keep the cores busy. Not a power of two: turning such a block
# on its side would meet the same lines of the cache again and again, and takes eight times as long.
BLOCK_ROWS = 4000
Pair = tuple[int, int]
Run = Callable[[np.ndarray, list[Pair], int, int], Iterable[tuple[Pair, tuple]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """The k nearest of every network, itself left out, nearest first."""

    index_Nk: np.ndarray  # int64 rows of the same matrix
    distance_Nk: np.ndarray  # float32, Euclidean


def here(weights_NP: np.ndarray, pairs: list[Pair], k: int, rows: int) -> Iterator[tuple[Pair, tuple]]:
    """Run the blocks one after another in this process."""
    square_N = np.einsum("np,np->n", weights_NP, weights_NP)
    for pair in pairs:
        yield pair, nearest_of_blocks(weights_NP, square_N, pair, k, rows)


def on_dask(client: Any) -> Run:
    """Run the blocks on a Dask cluster (`pip install zooswarm[dask]`): on_dask(dask.distributed.Client(...)).

    The weights are sent to every worker once.
    """

    def run(weights_NP: np.ndarray, pairs: list[Pair], k: int, rows: int) -> Iterator[tuple[Pair, tuple]]:
        from dask.distributed import as_completed  # pyright: ignore[reportMissingImports]

        square_N = np.einsum("np,np->n", weights_NP, weights_NP)
        shared = client.scatter([weights_NP, square_N], broadcast=True)
        jobs = [client.submit(nearest_of_blocks, *shared, pair, k, rows, pure=False) for pair in pairs]
        of_job = dict(zip((job.key for job in jobs), pairs, strict=True))
        for job, found in as_completed(jobs, with_results=True):
            yield of_job[job.key], found

    return run


def neighbours(
    weights_NP: np.ndarray,
    k: int = 10,
    run: Run = here,
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
    index_Nk, square_Nk = np.full((n, k), -1, np.int64), np.full((n, k), np.inf, np.float32)
    blocks = -(-n // BLOCK_ROWS)
    pairs = [(i, j) for i in range(blocks) for j in range(i, blocks)] if k else []
    centred_NP = weights_NP - (weights_NP.mean(0, dtype=np.float64).astype(np.float32) if n else 0)
    for done, ((i, j), (of_i, of_j)) in enumerate(run(centred_NP, pairs, k, BLOCK_ROWS), 1):
        for block, found in ((i, of_i), (j, of_j)):
            if found is not None:
                _merge(index_Nk, square_Nk, block * BLOCK_ROWS, *found)
        progress(done, len(pairs))
    result = Neighbours(index_Nk=index_Nk, distance_Nk=np.sqrt(square_Nk))
    if kept:
        _keep(kept, result)
    return result


def nearest_of_blocks(weights_NP: np.ndarray, square_N: np.ndarray, pair: Pair, k: int, rows: int) -> tuple:
    """One block of distances: ((index, square) of the first rows among the second, and the other way round or None)."""
    first, second = (slice(b * rows, (b + 1) * rows) for b in pair)
    square_AB = weights_NP[first] @ weights_NP[second].T
    square_AB *= -2
    square_AB += square_N[first, None]
    square_AB += square_N[second]
    if pair[0] == pair[1]:
        np.fill_diagonal(square_AB, np.inf)
        return _smallest(square_AB, k, pair[1] * rows), None
    return _smallest(square_AB, k, pair[1] * rows), _smallest(square_AB.T, k, pair[0] * rows)


def _smallest(square_AB: np.ndarray, k: int, offset: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns (from `offset`) and values of the k smallest of each row, nearest first; ties go to the lower column.

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
    return index_Ak + offset, np.maximum(np.take_along_axis(square_AB, index_Ak, 1), 0)


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
    from platformdirs import user_cache_path

    home = os.environ.get("ZOOSWARM_HOME")
    return (Path(home) / "cache" if home else user_cache_path("zooswarm")) / "analysis"


def _keep(path: Path, found: Neighbours) -> None:
    import io

    sink = io.BytesIO()
    np.savez(sink, index_Nk=found.index_Nk, distance_Nk=found.distance_Nk)
    write_atomic(path, sink.getvalue())


def progress_bar(title: str) -> Callable[[int, int], None]:
    """A bar on the terminal's error output, for `progress`."""
    from rich.console import Console
    from rich.progress import Progress

    bar = Progress(console=Console(stderr=True), transient=True)
    task = bar.add_task(title, total=None)
    bar.start()

    def hear(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)
        if done == total:
            bar.stop()

    return hear
