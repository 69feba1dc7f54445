"""Data sets as blobs: the container, hostile bytes, files of an organizer's disk, the folders that hold them."""

import contextlib
import gzip
import io
import random
import struct
import zipfile

import numpy as np
import pytest

from coordinator.datasets import importers
from coordinator.datasets.importers import read_data
from protocol.canonical import hexdigest
from protocol.errors import Refused, UsageError
from protocol.tasks.dataset_names import BUILT_IN
from protocol.tasks.datasets import HEADER, DataMissing, Dataset, Shelf, dataset_from_bytes, digits8x8, read_header

RNG = np.random.default_rng(5)
IMAGES = RNG.integers(0, 256, (30, 6, 5), np.uint8)
LABELS = RNG.integers(0, 7, 30).astype(np.uint8)
LABELS[3] = 6


def labelled(**changes) -> Dataset:
    return Dataset(**{"inputs": IMAGES[:, None], "targets": LABELS.astype(np.uint16), "classes": 7, **changes})


def idx(array: np.ndarray) -> bytes:
    kind = {"uint8": 8, "int32": 12, "float32": 13}[array.dtype.name]
    sides = b"".join(struct.pack(">I", side) for side in array.shape)
    return bytes([0, 0, kind, array.ndim]) + sides + array.astype(array.dtype.newbyteorder(">")).tobytes()


def save(path, data: bytes):
    path.write_bytes(data)
    return path


# -- the container ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["labels", "targets"])
def test_a_container_gives_back_its_arrays(kind):
    if kind == "labels":
        dataset = labelled()
    else:
        inputs, targets = RNG.normal(size=(9, 4)).astype(np.float32), RNG.normal(size=(9, 2)).astype(np.float32)
        dataset = Dataset(inputs=inputs, targets=targets, classes=0)
    data = dataset.to_bytes()
    again = dataset_from_bytes(data)
    assert np.array_equal(again.inputs, dataset.inputs) and np.array_equal(again.targets, dataset.targets)
    assert again.classes == dataset.classes and again.inputs.dtype == dataset.inputs.dtype
    assert read_header(data[: HEADER.size]).length == len(data)
    assert again.to_bytes() == data
    assert not again.inputs.flags.writeable


def header(**changes) -> bytes:
    fields = {"magic": b"ZOODATA1", "inputs": 0, "targets": 0, "rank": 1, "zero": 0, "count": 2, "examples": 3}
    fields |= {"a": 2, "b": 0, "c": 0, "d": 0, "rest": bytes(24), **changes}
    return HEADER.pack(*fields.values())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "data-header"),
        (header()[:-1], "data-header"),
        (header(magic=b"ZOODATA2"), "data-magic"),
        (header(inputs=2), "data-header"),
        (header(targets=9), "data-header"),
        (header(rank=0), "data-header"),
        (header(rank=5), "data-header"),
        (header(zero=1), "data-header"),
        (header(b=3), "data-header"),
        (header(rest=b"\1" + bytes(23)), "data-header"),
        (header(examples=0), "data-shape"),
        (header(examples=2**63), "data-shape"),
        (header(a=0), "data-shape"),
        (header(a=2**32 - 1), "data-shape"),
        (header(rank=4, a=65536, b=65536, c=65536, d=65536), "data-size"),
        (header(count=0), "data-targets"),
        (header(count=2**31), "data-targets"),
        (header() + bytes(3 * 2 + 3 * 2 - 1), "data-size"),
        (header() + bytes(3 * 2 + 3 * 2 + 1), "data-size"),
        (header() + bytes(3 * 2) + bytes([0, 0, 1, 0, 2, 0]), "data-labels"),
        (header(inputs=1) + np.array([0, 1, 2, np.nan, 4, 5], "<f4").tobytes() + bytes(6), "data-values"),
        (header(targets=1) + bytes(6) + np.array([0, 1, 2, np.inf, 4, 5], "<f4").tobytes(), "data-values"),
    ],
)
def test_hostile_bytes_are_refused_before_anything_is_allocated(data, reason):
    with pytest.raises(Refused) as refused:
        dataset_from_bytes(data)
    assert refused.value.reason == reason


def test_random_damage_is_refused_or_harmless():
    seed = random.randrange(10**6)
    print("seed", seed)
    rng, data = random.Random(seed), labelled().to_bytes()
    for _ in range(300):
        hurt = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            hurt[rng.randrange(80)] = rng.randrange(256)
        hurt = bytes(hurt[: rng.choice([len(hurt), rng.randrange(len(hurt))])])
        with contextlib.suppress(Refused):
            assert dataset_from_bytes(hurt).to_bytes() == hurt


# -- an organizer's files --------------------------------------------------------------------------------------------


def same(dataset: Dataset, images=IMAGES, labels=LABELS):
    assert np.array_equal(dataset.inputs[:, 0], images)
    assert np.array_equal(dataset.targets, labels)


def test_idx_with_and_without_gzip(tmp_path):
    images = save(tmp_path / "train-images-idx3-ubyte", idx(IMAGES))
    labels = save(tmp_path / "train-labels-idx1-ubyte.gz", gzip.compress(idx(LABELS)))
    dataset = read_data([images], labels)
    same(dataset)
    assert dataset.classes == 7 and dataset.inputs.shape == (30, 1, 6, 5)
    zipped = save(tmp_path / "images.gz", gzip.compress(idx(IMAGES), mtime=1))
    assert read_data([zipped], labels).to_bytes() == dataset.to_bytes()


def test_idx_that_lies_is_named(tmp_path):
    for data in (idx(IMAGES)[:-1], idx(IMAGES) + b"x", bytes([0, 0, 8, 4]) + b"\xff" * 16, b"\0\0\x08\x03\0"):
        with pytest.raises(UsageError, match="bad"):
            read_data([save(tmp_path / "bad", data)], save(tmp_path / "l", idx(LABELS)))


def test_an_archive_that_unpacks_without_end_is_cut_off(tmp_path, monkeypatch):
    monkeypatch.setattr(importers, "RAW_BYTES_MAX", 100_000)
    bomb = save(tmp_path / "bomb.gz", gzip.compress(bytes(10_000_000)))
    with pytest.raises(UsageError, match="unpacks to more than"):
        read_data([bomb])
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", bytes(10_000_000))
    with pytest.raises(UsageError, match="unpacks to more than"):
        read_data([tmp_path / "bomb.npz"])
    with pytest.raises(UsageError, match="at most"):
        read_data([save(tmp_path / "long.npy", bytes(200_000))])


@pytest.mark.parametrize(("record", "skip"), [(3073, 0), (3074, 1)])
def test_cifar_batches_are_joined(tmp_path, record, skip):
    rows = RNG.integers(0, 10, (8, record), np.uint8)
    files = [save(tmp_path / f"data_batch_{i}.bin", rows[4 * i : 4 * i + 4].tobytes()) for i in range(2)]
    dataset = read_data(files)
    assert dataset.inputs.shape == (8, 3, 32, 32)
    assert np.array_equal(dataset.targets, rows[:, skip])
    assert np.array_equal(dataset.inputs.reshape(8, -1), rows[:, skip + 1 :])


def test_csv_with_class_names_numbers_and_floats(tmp_path):
    text = "length,width,kind\n1.5,2,setosa\n3,4,virginica\n5,6,setosa\n"
    dataset = read_data([save(tmp_path / "iris.csv", text.encode())])
    assert dataset.classes == 2 and dataset.targets.tolist() == [0, 1, 0]
    assert dataset.inputs.tolist() == [[1.5, 2], [3, 4], [5, 6]]
    numbers = save(tmp_path / "n.csv", b"1,2,3\n4,5,6\n")
    assert read_data([numbers]).classes == 7
    assert read_data([numbers], regression=True).targets.tolist() == [[3], [6]]
    assert read_data([save(tmp_path / "f.tsv", b"1\t0.5\n2\t0.25\n")]).targets.tolist() == [[0.5], [0.25]]


@pytest.mark.parametrize("text", [b"", b"a,b\n", b"1,2\n3\n", b"1,2\nx,3\n", b"\xff\xfe,1\n", b"1,nan\n", b"1e99,1\n"])
def test_csv_that_is_none_is_named(tmp_path, text):
    with pytest.raises(UsageError, match=r"bad\.csv"):
        read_data([save(tmp_path / "bad.csv", text)])


def test_npy_npz_and_safetensors(tmp_path):
    from safetensors.numpy import save_file

    np.save(tmp_path / "x.npy", IMAGES)
    np.save(tmp_path / "y.npy", LABELS)
    same(read_data([tmp_path / "x.npy"], tmp_path / "y.npy"))
    np.savez(tmp_path / "a.npz", x_train=IMAGES[:20], x_test=IMAGES[20:], y_train=LABELS[:20], y_test=LABELS[20:])
    same(read_data([tmp_path / "a.npz"]))
    save_file({"inputs": IMAGES, "labels": LABELS}, tmp_path / "a.safetensors")
    same(read_data([tmp_path / "a.safetensors"]))


def test_pickles_and_what_is_no_data_are_refused(tmp_path):
    np.save(tmp_path / "p.npy", np.array([{"a": 1}], object), allow_pickle=True)
    stream = io.BytesIO()
    np.savez(stream, x=np.array([{}], object), y=LABELS)
    (tmp_path / "p.npz").write_bytes(stream.getvalue())
    for name, data in (("s.safetensors", b"\xff" * 40), ("z.npz", b"PK\3\4junk"), ("m.pt", b"\x80\x04.")):
        (tmp_path / name).write_bytes(data)
    for name in ("p.npy", "p.npz", "s.safetensors", "z.npz", "m.pt"):
        with pytest.raises(UsageError, match=name):
            read_data([tmp_path / name])
    with pytest.raises(UsageError, match="--labels"):
        np.savez(tmp_path / "x.npz", x=IMAGES)
        read_data([tmp_path / "x.npz"])
    with pytest.raises(UsageError, match="as many"):
        read_data([save(tmp_path / "i", idx(IMAGES))], save(tmp_path / "l", idx(LABELS[:-1])))
    with pytest.raises(UsageError, match="--regression"):
        read_data([save(tmp_path / "i", idx(IMAGES))], save(tmp_path / "l", idx(LABELS.astype(np.int32) - 9)))


# -- shelves ---------------------------------------------------------------------------------------------------------


def test_a_shelf_keeps_by_digest_and_notices_damage(tmp_path):
    shelf, data = Shelf(tmp_path / "new", tmp_path), labelled().to_bytes()
    digest = shelf.put(data)
    assert digest == hexdigest(data) and shelf.path(digest).read_bytes() == data
    same(shelf.load(digest))
    hurt = bytearray(data)
    hurt[100] ^= 1
    shelf.path(digest).write_bytes(hurt)
    with pytest.raises(DataMissing, match="damaged"):
        shelf.load(digest)
    with pytest.raises(DataMissing, match="data add"):
        shelf.load("0" * 64)
    with pytest.raises(UsageError, match="digits8x8"):
        shelf.load("mnist")


def test_a_partial_file_becomes_a_data_set_only_if_it_is_the_one(tmp_path):
    shelf, data = Shelf(tmp_path), labelled().to_bytes()
    partial = tmp_path / ".partial"
    for hurt in (data[:-1], data[:-1] + bytes([data[-1] ^ 1]), b"", bytes(2000)):
        partial.write_bytes(hurt)
        with pytest.raises(Refused):
            shelf.adopt(partial, hexdigest(data))
        assert not partial.exists() and not shelf.find(hexdigest(data))
    partial.write_bytes(data)
    same(dataset_from_bytes(shelf.adopt(partial, hexdigest(data)).read_bytes()))


def test_the_handwritten_digits_are_pinned_and_need_no_shelf(tmp_path):
    digits = Shelf().load("digits8x8")
    assert digits.inputs.shape == (1797, 1, 8, 8) and digits.classes == 10
    assert hexdigest(digits8x8().to_bytes()) == BUILT_IN["digits8x8"]
    found = Shelf(tmp_path).ensure(BUILT_IN["digits8x8"])
    assert found is not None and hexdigest(found.read_bytes()) == BUILT_IN["digits8x8"]
