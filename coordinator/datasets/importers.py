"""An organizer's files -> a data set: IDX, CIFAR binary, CSV, safetensors, .npy and .npz. Nothing here runs any code.

Only the organizer's own disk is read here; what travels between hosts is the container of `datasets`. Every reader
has a limit that is checked before it allocates, so that a small archive cannot become a large array.
"""

import csv
import gzip
import io
import zipfile
import zlib
from pathlib import Path

import numpy as np

from protocol.errors import Refused, UsageError
from protocol.files import read_limited
from protocol.tasks.datasets import CLASSES_MAX, DATA_BYTES_MAX, Dataset

RAW_BYTES_MAX = 2 * DATA_BYTES_MAX  # before conversion: CSV text and float64 are longer than what they say
CIFAR_SIDE = (3, 32, 32)
INPUT_NAMES = ("inputs", "x", "images", "data")
TARGET_NAMES = ("labels", "targets", "y", "target")
Arrays = dict[str, np.ndarray]


def read_data(files: list[Path], labels: Path | None = None, *, regression: bool = False) -> Dataset:
    """One data set of one file or more, in order; `labels` holds the targets when the files do not.

    With `regression`, targets are numbers to predict, not classes. Raises UsageError naming the file.
    """
    if not files:
        raise UsageError("name one file or more")
    parts = [read_arrays(path) for path in files]
    inputs = [pick(arrays, INPUT_NAMES, path) for arrays, path in zip(parts, files, strict=True)]
    if labels is not None:
        targets = np.asarray(pick(read_arrays(labels), (*TARGET_NAMES, *INPUT_NAMES), labels))
    else:
        targets = join([pick(arrays, TARGET_NAMES, path) for arrays, path in zip(parts, files, strict=True)], files)
    return make(join(inputs, files), targets, regression, str(files[0]))


def read_arrays(path: Path) -> Arrays:
    """The arrays of one file, by name; the format is told by the name's end and by the first bytes."""
    data = read_limited(path, RAW_BYTES_MAX, "data file")
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if data[:2] == b"\x1f\x8b":
        data, suffixes = gunzip(data, path), [s for s in suffixes if s != ".gz"]
    suffix = suffixes[-1] if suffixes else ""
    if data[:6] == b"\x93NUMPY":
        return {"array": read_npy(data, path)}
    if suffix == ".npz":
        return read_npz(data, path)
    if suffix == ".safetensors":
        return read_safetensors(data, path)
    if suffix in (".csv", ".tsv", ".txt"):
        return read_csv(data, path, "\t" if suffix == ".tsv" else ",")
    if len(data) >= 4 and data[:2] == b"\0\0" and data[2] in IDX_KINDS and 1 <= data[3] <= 4:
        return {"array": read_idx(data, path)}
    for record, skip in ((3073, 0), (3074, 1)):  # CIFAR-10; CIFAR-100 has a coarse label before the fine one
        if suffix == ".bin" and data and len(data) % record == 0:
            rows = np.frombuffer(data, np.uint8).reshape(-1, record)
            return {"inputs": rows[:, skip + 1 :].reshape(-1, *CIFAR_SIDE), "labels": rows[:, skip]}
    raise UsageError(f"{path}: not a data file that we read: IDX, CIFAR .bin, .csv, .safetensors, .npy or .npz")


def gunzip(data: bytes, path: Path) -> bytes:
    """Decompressed, at most RAW_BYTES_MAX bytes of it."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as f:
            plain = f.read(RAW_BYTES_MAX + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path}: damaged .gz file: {error}") from None
    if len(plain) > RAW_BYTES_MAX:
        raise UsageError(f"{path}: unpacks to more than {RAW_BYTES_MAX:,} bytes")
    return plain


IDX_KINDS = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def read_idx(data: bytes, path: Path) -> np.ndarray:
    """The MNIST family's format: two zero bytes, element type, rank, big-endian sides, values."""
    kind, rank = np.dtype(IDX_KINDS[data[2]]), data[3]
    sides = tuple(int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(rank))
    count = 1
    for side in sides:
        count *= side
    if len(data) != 4 + 4 * rank + count * kind.itemsize:
        raise UsageError(f"{path}: damaged IDX file: {len(data):,} bytes, its header says {sides} of {kind}")
    return np.frombuffer(data, kind, offset=4 + 4 * rank).reshape(sides)


def read_npy(data: bytes, path: Path) -> np.ndarray:
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # NumPy reads a header with a parser of Python; its errors are of every kind
        raise UsageError(f"{path}: cannot read this .npy array: {error}") from None
    if array.dtype.kind not in "buif":
        raise UsageError(f"{path}: an array of {array.dtype}; numbers are wanted")
    return array


def read_npz(data: bytes, path: Path) -> Arrays:
    """Keras' x_train, x_test, y_train, y_test are joined to x and y."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > RAW_BYTES_MAX:
                raise UsageError(f"{path}: unpacks to more than {RAW_BYTES_MAX:,} bytes")
            arrays: Arrays = {}
            for member in members:
                with archive.open(member) as f:  # a member that lies about its size is cut off here
                    raw = f.read(RAW_BYTES_MAX + 1)
                arrays[member.filename.removesuffix(".npy").lower()] = read_npy(raw, path)
    except UsageError:
        raise
    except Exception as error:  # a zip file that lies about its offsets raises what comes along
        raise UsageError(f"{path}: damaged .npz file: {error}") from None
    for name in ("x", "y"):
        if name not in arrays and {f"{name}_train", f"{name}_test"} <= arrays.keys():
            arrays[name] = join([arrays.pop(f"{name}_train"), arrays.pop(f"{name}_test")], [path, path])
    return arrays


def read_safetensors(data: bytes, path: Path) -> Arrays:
    from safetensors.numpy import load

    try:
        arrays = load(data)
    except Exception as error:  # its own kinds are not all that it raises
        raise UsageError(f"{path}: cannot read this safetensors file: {error}") from None
    return {name.lower(): array for name, array in arrays.items()}


def read_csv(data: bytes, path: Path, delimiter: str) -> Arrays:
    """Rows of numbers; the last column is the target: a class number, a class name, or a number to predict."""
    try:
        rows = [row for row in csv.reader(io.StringIO(data.decode("utf-8-sig")), delimiter=delimiter) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: not a CSV text file: {error}") from None
    if rows and not all(map(is_number, rows[0][:-1] or rows[0])):
        rows = rows[1:]  # a header
    if not rows:
        raise UsageError(f"{path}: there is no row of numbers")
    for i, row in enumerate(rows):
        if len(row) != len(rows[0]) or not all(map(is_number, row[:-1])):
            raise UsageError(f"{path}: data row {i + 1}: expected {len(rows[0])} columns, numbers but for the last")
    last = [row[-1].strip() for row in rows]
    if len(rows[0]) == 1:
        return {"array": column(last)}
    return {"inputs": np.array([row[:-1] for row in rows], np.float64), "targets": column(last)}


def column(cells: list[str]) -> np.ndarray:
    """Whole numbers, other numbers, or class names numbered in sorted order."""
    if all(cell.isdecimal() for cell in cells):
        return np.array([int(cell) for cell in cells], np.float64 if len(max(cells, key=len)) > 9 else np.int64)
    if all(map(is_number, cells)):
        return np.array(cells, np.float64)
    names = {name: i for i, name in enumerate(sorted(set(cells)))}
    return np.array([names[cell] for cell in cells], np.int64)


def is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def pick(arrays: Arrays, names: tuple[str, ...], path: Path) -> np.ndarray:
    """The array with one of these names; a lonely one that has no name is taken."""
    for name in (*names, "array"):
        if name in arrays:
            return arrays[name]
    hint = "; name the file with the labels: --labels FILE" if names is TARGET_NAMES else ""
    raise UsageError(f"{path}: it has {', '.join(arrays) or 'nothing'}; expected one of {', '.join(names)}{hint}")


def join(parts: list[np.ndarray], paths: list[Path]) -> np.ndarray:
    for part, path in zip(parts, paths, strict=True):
        if part.shape[1:] != parts[0].shape[1:] or part.dtype.kind != parts[0].dtype.kind:
            raise UsageError(f"{path}: examples of {part.shape[1:]}; those before have {parts[0].shape[1:]}")
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


def make(inputs: np.ndarray, targets: np.ndarray, regression: bool, source: str) -> Dataset:
    """Arrays as they were found -> a data set. Images without a channel get one. Raises UsageError."""
    if inputs.ndim == 0 or targets.ndim == 0 or len(inputs) != len(targets) or not len(inputs):
        raise UsageError(f"{source}: {inputs.shape} inputs and {targets.shape} targets: as many of one as of the other")
    if inputs.ndim == 3 and inputs.dtype == np.uint8:
        inputs = inputs[:, None]
    inputs = inputs.reshape(len(inputs), 1) if inputs.ndim == 1 else inputs
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused below
        inputs = inputs if inputs.dtype == np.uint8 else inputs.astype(np.float32)
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    whole = targets.ndim == 1 and (targets.dtype.kind in "bui" or bool((targets == np.trunc(targets)).all()))
    if regression or not whole:
        dataset = Dataset(inputs=inputs, targets=targets.reshape(len(targets), -1).astype(np.float32), classes=0)
    else:
        low, high = int(targets.min()), int(targets.max())
        if low < 0 or high >= CLASSES_MAX:
            mend = "numbers to predict? say --regression"
            raise UsageError(f"{source}: labels from {low} to {high}; classes are 0 to {CLASSES_MAX - 1}; {mend}")
        dataset = Dataset(inputs=inputs, targets=targets.astype(np.uint16), classes=high + 1)
    try:
        dataset.to_bytes()
    except Refused as error:
        raise UsageError(f"{source}: cannot become a data set: {error}") from None
    return dataset
