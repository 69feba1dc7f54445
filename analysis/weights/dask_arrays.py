"""Weights as Dask arrays over a zoo's shards: for zoos that no single machine holds (`pip install zooswarm[dask]`).

Workers read the rows that they need from the zoo's files, which all of them must see (a shared or copied directory), so
the weights never pass through the analyst's process. Any Dask computation works on the array: means, variances, inner
products, `features` block by block with `map_blocks`. Axes: N networks, P parameters, k neighbours.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from analysis.weights.neighbours import BLOCK_ROWS, Both, Neighbours, Pair, block_pairs, merged, nearest_of_blocks
from protocol.errors import UsageError
from protocol.zoo.store import Store, open_store

if TYPE_CHECKING:
    import dask.array as da  # pyright: ignore[reportMissingImports]
    import pyarrow as pa


class Opened(Protocol):
    """What an `analysis.zoo.Zoo` is here."""

    store: Store

    def table(self, where: str | None = None, columns: list[str] | None = None) -> "pa.Table": ...


def dask_weights(zoo: Opened, where: str | None = None, rows: int = BLOCK_ROWS) -> "da.Array":
    """(N, P) float32 in blocks of `rows` networks; row i is row i of `zoo.table(where)`, as in `zoo.weights(where)`.

    Nothing is read before something is computed. Raises UsageError: no network, or networks of different shapes.
    """
    import dask.array as da  # pyright: ignore[reportMissingImports]
    from dask.delayed import delayed  # pyright: ignore[reportMissingImports]

    table = zoo.table(where, ["shard", "row", "network.parameters"])
    sizes = table["network.parameters"].unique().to_pylist()
    if len(sizes) != 1:
        raise UsageError(
            f"{zoo.store.path}: {len(sizes)} shapes of networks here; narrow `where`, e.g. to one recipe_name"
        )
    shards, row_N, path = table["shard"].to_pylist(), table["row"].to_numpy(), str(zoo.store.path)
    blocks = []
    for begin in range(0, len(shards), rows):
        some = slice(begin, begin + rows)
        block = delayed(read_rows)(path, shards[some], row_N[some])
        blocks.append(da.from_delayed(block, (len(shards[some]), sizes[0]), np.float32))
    return da.concatenate(blocks)


def read_rows(path: str, shards: list[str], row_N: np.ndarray) -> np.ndarray:
    """(rows, P) float32, run by a worker: these rows of these shards of the zoo at `path`. Raises UsageError."""
    return open_store(path).gather(shards, row_N)


def neighbours(
    weights_NP: "da.Array", client: Any, k: int = 10, progress: Callable[[int, int], None] = lambda done, total: None
) -> Neighbours:
    """`neighbours.neighbours` of a Dask array (whole rows in each block), the same code for each two blocks.

    The array's blocks of rows are kept by the workers while it runs. Distances differ from those of one process by the
    rounding of float32 products. Raises UsageError: not finite.
    """
    from dask.delayed import delayed  # pyright: ignore[reportMissingImports]

    n, rows = len(weights_NP), weights_NP.chunks[0][0]
    k = min(k, max(n - 1, 0))
    mean_P = weights_NP.mean(axis=0, dtype=np.float64)
    if not np.isfinite(mean_P := client.compute(mean_P).result()).all():
        raise UsageError("nearest neighbours need finite numbers; some of these are not")
    centred = client.persist((weights_NP - mean_P.astype(np.float32)).astype(np.float32))
    blocks = [row[0] for row in centred.to_delayed()]
    pairs = block_pairs(len(blocks)) if k else []
    jobs = client.compute([delayed(nearest_of_blocks)(blocks[i], blocks[j], i == j, k) for i, j in pairs])
    return merged(n, k, rows, as_they_come(jobs, pairs), lambda done: progress(done, len(pairs)))


def as_they_come(jobs: list[Any], pairs: list[Pair]) -> Iterator[tuple[Pair, Both]]:
    """Each pair of blocks with its nearest, in the order in which workers finish."""
    from dask.distributed import as_completed  # pyright: ignore[reportMissingImports]

    of_job = {job.key: pair for job, pair in zip(jobs, pairs, strict=True)}
    for job, found in as_completed(jobs, with_results=True):
        yield of_job[job.key], found
