"""Files of weights: what must be in one, how it is mapped, and how rows of many become one matrix.

`copy_pieces` is what a matrix costs: the pages of the result, and one copy. Files are read through mappings, so what is
not asked for is not read, and what was read once stays in the page cache for all readers. Axes: N networks, P
parameters.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from protocol.canonical import NOT_DECODABLE
from protocol.errors import DamageError, FileError, UsageError
from protocol.recipes.recipe import Recipe
from protocol.zoo.manifests import ShardRef

SHARD_HEADER_BYTES_MAX = 1024 * 1024  # names, shapes and a thousand seeds
PIECE_BYTES = 1 << 20
THREADS_MAX = 4  # more do not copy faster: it is the memory that is slow


class Piece(NamedTuple):
    """Rows of one file, and where in the matrix they go."""

    path: Path
    ref: ShardRef
    recipe: Recipe
    to_N: np.ndarray
    row_N: np.ndarray


def copy_pieces(pieces: Sequence[Piece], weights_NP: np.ndarray, verify: bool = False) -> None:
    """Fill the matrix (or those rows of it that the pieces name). Raises UsageError naming a file."""
    threads = min(THREADS_MAX, os.cpu_count() or 1, len(pieces))
    if threads < 2:
        for piece in pieces:
            copy_piece(piece, weights_NP, verify)
        return
    with ThreadPoolExecutor(threads) as pool:  # NumPy copies without the interpreter's lock
        for job in [pool.submit(copy_piece, piece, weights_NP, verify) for piece in pieces]:
            job.result()


def copy_piece(piece: Piece, weights_NP: np.ndarray, verify: bool) -> None:
    path, ref, recipe, to_N, row_N = piece
    if row_N.min() < 0 or row_N.max() >= ref.rows:
        raise DamageError(f"{path}: the catalogue names rows that this file does not have; fetch the zoo again")
    if verify:
        check_file(path, ref.digest)
    arrays = map_shard(path, ref, recipe)
    to, source = as_slice(to_N), as_slice(row_N)
    for span in recipe.spans:
        weights_NP[to, span.begin : span.end] = arrays[span.name].reshape(ref.rows, -1)[source]


def split_by(which_N: np.ndarray, groups: int) -> list[np.ndarray]:
    """Places of each of the numbers 0, 1, ..., ascending."""
    order_N = np.argsort(which_N, kind="stable")
    return np.split(order_N, np.cumsum(np.bincount(which_N, minlength=groups))[:-1]) if groups else []


def as_slice(index: np.ndarray) -> np.ndarray | slice:
    """A run i, i+1, ... as a slice: copied twice as fast as one gathered row by row."""
    first, last = int(index[0]), int(index[-1])
    run = last - first == len(index) - 1 and bool((np.diff(index) == 1).all())
    return slice(first, last + 1) if run else index


def shard_arrays(recipe: Recipe, rows: int) -> Iterator[tuple[str, tuple[int, ...], int, int]]:
    """(name, shape, begin, end) of a shard's arrays in flat order; byte offsets after the header."""
    for span in recipe.spans:
        yield span.name, (rows, *span.shape), 4 * rows * span.begin, 4 * rows * span.end


def check_shard_size(ref: ShardRef, recipe: Recipe) -> None:
    """Raises UsageError unless the file has room for a header and its networks, and for nothing else."""
    spare = ref.bytes - 4 * ref.rows * recipe.parameter_count
    if not 8 < spare <= 8 + SHARD_HEADER_BYTES_MAX:
        raise DamageError(f"shard {ref.digest[:16]}: {ref.rows} networks of {recipe.name} have not {ref.bytes:,} bytes")


def map_shard(path: Path, ref: ShardRef, recipe: Recipe) -> dict[str, np.ndarray]:
    """Map a safetensors file whose header says exactly what the recipe says. Raises UsageError naming the file.

    The header is read here rather than by the safetensors library because mapping at its offset is 8x faster for a
    filtered read and leaves the bytes in the page cache for all readers.
    """
    check_shard_size(ref, recipe)
    checked_size(path, ref.bytes)
    try:
        with path.open("rb") as f:
            length = int.from_bytes(f.read(8), "little")
            header = msgspec.json.decode(f.read(length)) if length <= SHARD_HEADER_BYTES_MAX else None
        mapped = np.memmap(path, np.dtype("<f4"), "r", offset=8 + length) if header else np.zeros(0, "<f4")
    except (OSError, ValueError, *NOT_DECODABLE):
        raise DamageError(f"{path}: damaged: its header cannot be read; fetch it again") from None
    arrays: dict[str, np.ndarray] = {}
    values = np.asarray(mapped)  # slices of a memmap take ten times as long to make
    for name, shape, begin, end in shard_arrays(recipe, ref.rows):
        entry = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, end]}
        if not isinstance(header, dict) or header.get(name) != entry or 4 * len(values) < end:
            raise DamageError(f"{path}: damaged: {name} is not the float32 array {shape} that the recipe asks for")
        arrays[name] = values[begin // 4 : end // 4].reshape(shape)
    return arrays


def check_file(path: Path, digest: str) -> None:
    """Raises UsageError unless the file hashes to its name; OSError."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):  # the whole may be larger than the memory
            found.update(piece)
    if found.hexdigest() != digest:
        raise damaged(path)


def checked_size(path: Path, size: int) -> Path:
    try:
        found = path.stat().st_size
    except OSError as error:
        raise FileError(f"{path}: cannot read: {error.strerror or error}; fetch the zoo again") from None
    if found != size:
        raise DamageError(f"{path}: damaged: {found:,} bytes where the manifest says {size:,}; fetch it again")
    return path


def damaged(path: Path) -> UsageError:
    return DamageError(f"{path}: damaged: its bytes do not hash to its name; fetch it again")
