"""Data sets as blobs: one container of fixed layout, named by the SHA-256 of its bytes, and the folders that hold them.

A data set of another host is bytes like weights are: a header of 64 bytes says the one legal length, so nothing is
parsed and nothing is allocated before the sizes are known to be right. All numbers are little-endian.

    0   magic `ZOODATA1`                        16  examples N, 8 bytes
    8   inputs: 0 uint8, 1 float32              24  an example's shape, four times 4 bytes, unused ones 0
    9   targets: 0 uint16 labels, 1 float32     40  24 zero bytes
    10  rank of an example, 1 to 4              64  inputs (N, shape), then labels (N,) or targets (N, width)
    11  one zero byte
    12  classes, or the width of the targets, 4 bytes

Images are (channels, rows, columns). Files of other formats are read in `data_files`, on the organizer's side only.
"""

import contextlib
import hashlib
import struct
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import msgspec
import numpy as np

from protocol.canonical import DIGEST, hexdigest
from protocol.errors import Refused, UsageError
from protocol.files import home_directory, move_into_place, write_atomic
from protocol.tasks.dataset_names import BUILT_IN, digest_of

MAGIC = b"ZOODATA1"
HEADER = struct.Struct("<8sBBBBIQ4I24s")
DATA_BYTES_MAX = 256 * 1024 * 1024  # CIFAR-10 has 184 MB; a volunteer keeps it on disk and maps it
EXAMPLES_MAX = 1 << 24
SIDE_MAX = 1 << 16  # of an example's shape
CLASSES_MAX = 4096  # what the widest layer can tell apart
READ_BYTES = 1 << 20
DATATYPES = (np.dtype("u1"), np.dtype("<f4"))


class DataMissing(UsageError):
    """A data set is not on this computer; it may come."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What the first 64 bytes say; `length` is the only legal length of the whole."""

    examples: int
    shape: tuple[int, ...]  # of one example
    is_float: bool  # inputs are float32, else uint8
    classes: int = 0  # targets are labels below this; 0: floats
    width: int = 0  # floats an example; 0: labels

    @property
    def input_bytes(self) -> int:
        size = self.examples * (4 if self.is_float else 1)
        for side in self.shape:
            size *= side
        return size

    @property
    def length(self) -> int:
        return HEADER.size + self.input_bytes + self.examples * (2 if self.classes else 4 * self.width)

    def to_bytes(self) -> bytes:
        shape = (*self.shape, 0, 0, 0, 0)[:4]
        kinds = (int(self.is_float), int(not self.classes), len(self.shape), 0)
        return HEADER.pack(MAGIC, *kinds, self.classes or self.width, self.examples, *shape, bytes(24))


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """N examples; the arrays are read-only and may be mapped from disk."""

    inputs: np.ndarray  # (N, *shape) uint8 or float32
    targets: np.ndarray  # (N,) uint16 labels, or (N, width) float32
    classes: int  # 0: the targets are floats

    @property
    def header(self) -> Header:
        width = 0 if self.classes else self.targets.shape[1]
        is_float = self.inputs.dtype != np.uint8
        shape = tuple(int(side) for side in self.inputs.shape[1:])
        return Header(examples=len(self.inputs), shape=shape, is_float=is_float, classes=self.classes, width=width)

    def to_bytes(self) -> bytes:
        """The exact bytes; raises Refused for arrays that no container can hold."""
        head = self.header.to_bytes()
        inputs = np.ascontiguousarray(self.inputs, DATATYPES[self.header.is_float])
        data = head + inputs.tobytes() + np.ascontiguousarray(self.targets, "<u2" if self.classes else "<f4").tobytes()
        dataset_from_bytes(data)
        return data


def read_header(data: bytes) -> Header:
    """The first 64 bytes of a container. Raises Refused."""
    if len(data) < HEADER.size:
        raise Refused("data-header", f"{len(data)} bytes; a data set begins with {HEADER.size}")
    magic, inputs, targets, rank, zero, count, examples, *sides, rest = HEADER.unpack(data[: HEADER.size])
    if magic != MAGIC:
        raise Refused("data-magic", "not a data set")
    if inputs > 1 or targets > 1 or not 1 <= rank <= 4 or zero or any(rest) or any(sides[rank:]):
        raise Refused("data-header", "a field has an impossible value")
    if not 1 <= examples <= EXAMPLES_MAX or not all(1 <= side <= SIDE_MAX for side in sides[:rank]):
        raise Refused("data-shape", f"{examples} examples of {tuple(sides[:rank])}")
    if not 1 <= count <= CLASSES_MAX:
        raise Refused("data-targets", f"{count} classes or targets; 1 to {CLASSES_MAX} are legal")
    header = Header(
        examples=examples,
        shape=tuple(sides[:rank]),
        is_float=bool(inputs),
        classes=0 if targets else count,
        width=count if targets else 0,
    )
    if header.length > DATA_BYTES_MAX:
        raise Refused("data-size", f"{header.length:,} bytes; the limit is {DATA_BYTES_MAX:,}")
    return header


def dataset_from_bytes(data: bytes | memoryview | np.ndarray) -> Dataset:
    """A container -> its arrays, not copied. Raises Refused: wrong length, labels out of range, values not finite."""
    header = read_header(bytes(data[: HEADER.size]))
    if len(data) != header.length:
        raise Refused("data-size", f"{len(data)} bytes; its header says {header.length}")
    middle = HEADER.size + header.input_bytes
    inputs = _array(data, HEADER.size, middle, DATATYPES[header.is_float], (header.examples, *header.shape))
    if header.classes:
        targets = _array(data, middle, len(data), np.dtype("<u2"), (header.examples,))
        if int(targets.max()) >= header.classes:
            raise Refused("data-labels", f"a label is {int(targets.max())}; there are {header.classes} classes")
    else:
        targets = _array(data, middle, len(data), np.dtype("<f4"), (header.examples, header.width))
    for what, values in (("inputs", inputs), ("targets", targets)):
        if values.dtype.kind == "f" and not all(np.isfinite(part).all() for part in np.array_split(values, 16)):
            raise Refused("data-values", f"{what}: NaN or infinite")
    return Dataset(inputs=inputs, targets=targets, classes=header.classes)


def _array(data, begin: int, end: int, kind: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    view = np.frombuffer(data, kind, count=(end - begin) // kind.itemsize, offset=begin).reshape(shape)
    view.flags.writeable = False
    return view


class Shelf:
    """Folders with a file a data set, named by its digest; new ones go into the first. A file there is verified."""

    def __init__(self, *folders: Path):
        self.folders = folders

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shelf) and other.folders == self.folders

    def __hash__(self) -> int:
        return hash(self.folders)

    def path(self, digest: str) -> Path:
        """Where a new data set goes. Raises Refused: not a digest, and so no file of ours."""
        if not self.folders or not DIGEST.fullmatch(digest):
            raise Refused("data-name", digest[:64])
        return self.folders[0] / digest

    def find(self, digest: str) -> Path | None:
        """Its file, when it is here."""
        if DIGEST.fullmatch(digest):
            for folder in self.folders:
                if (folder / digest).is_file():
                    return folder / digest
        return None

    def has(self, digest: str) -> bool:
        """Whether `load` would find it, here or made on the spot."""
        return self.find(digest) is not None or built_in(digest) is not None

    def ensure(self, digest: str) -> Path | None:
        """Its file; a built-in one is made when it is not there and can be. Raises OSError."""
        if self.find(digest) is None and (made := built_in(digest)) is not None:
            write_atomic(self.path(digest), made)
        return self.find(digest)

    def load(self, name: str) -> Dataset:
        """A data set by digest or built-in name. Raises DataMissing, also for a damaged file: fetch it again."""
        digest = digest_of(name)
        path = self.find(digest)
        if path is not None:
            return map_dataset(path, path.stat().st_mtime_ns)
        if (made := built_in(digest)) is not None:
            return dataset_from_bytes(made)
        places = ", ".join(map(str, self.folders)) or "any folder"
        raise DataMissing(f"data set {name[:16]} is not in {places}; add it with `zooswarm data add`, or fetch it")

    def put(self, data: bytes) -> str:
        """Keep a container; its digest. Raises Refused, OSError."""
        dataset_from_bytes(data)
        digest = hexdigest(data)
        write_atomic(self.path(digest), data)
        return digest

    def adopt(self, partial: Path, digest: str) -> Path:
        """A file that was written beside it becomes the data set. Raises Refused, and then the file is gone."""
        try:
            check_file(partial, digest)
        except Refused:
            partial.unlink(missing_ok=True)
            raise
        move_into_place(partial, self.path(digest))
        return self.path(digest)


NO_SHELF = Shelf()  # holds nothing but what is built in


@lru_cache(maxsize=8)
def map_dataset(path: Path, _modified: int) -> Dataset:
    """A file on our own disk, hashed once a process and then mapped. Raises DataMissing when it is damaged."""
    try:
        check_file(path, path.name)
        return dataset_from_bytes(np.memmap(path, np.uint8, "r"))
    except (OSError, ValueError, Refused) as error:
        raise DataMissing(f"{path}: damaged data set ({error}); remove it and fetch it again") from None


def check_file(path: Path, digest: str) -> None:
    """Raises Refused unless the file is a whole, legal container with this digest."""
    size = path.stat().st_size
    with path.open("rb") as f:
        head = f.read(HEADER.size)
        length = read_header(head).length
        if size != length:
            raise Refused("data-size", f"{size} bytes; its header says {length}")
        h = hashlib.sha256(head)
        while part := f.read(READ_BYTES):
            h.update(part)
    if h.hexdigest() != digest:
        raise Refused("data-digest", f"its bytes hash to {h.hexdigest()[:16]}, not to {digest[:16]}")
    dataset_from_bytes(np.memmap(path, np.uint8, "r"))


@lru_cache(maxsize=4)
def built_in(digest: str) -> bytes | None:
    """A built-in data set's bytes; None when this computer's libraries do not have it, or with another digest."""
    if digest == BUILT_IN["digits8x8"]:
        with contextlib.suppress(DataMissing):
            data = digits8x8().to_bytes()
            return data if hexdigest(data) == digest else None
    return None


def digits8x8() -> Dataset:
    """1,797 handwritten digits of 8 x 8 pixels (UCI, Alpaydin and Kaynak), as scikit-learn ships them; 0..255.

    Its file is read as it is, since importing scikit-learn takes over a second. Raises DataMissing: there is none.
    """
    found = find_spec("sklearn")
    places = (found.submodule_search_locations if found else None) or []
    files = [file for place in places if (file := Path(place) / "datasets" / "data" / "digits.csv.gz").is_file()]
    if not files:
        raise DataMissing("digits8x8: scikit-learn's digits.csv.gz is not there; install scikit-learn")
    rows = np.loadtxt(files[0], delimiter=",", dtype=np.uint32)  # 64 pixels of 0 to 16, then the label
    pixels = (rows[:, :64] * 255 // 16).astype(np.uint8)
    return Dataset(inputs=pixels.reshape(-1, 1, 8, 8), targets=rows[:, 64].astype(np.uint16), classes=10)


def own_folder() -> Path:
    """Where this user's data sets are: `data add` puts them there, `train` and `seed` look there."""
    return home_directory() / "data"
