"""Catalogue files that were made to hurt are refused before they are read; ordinary ones are not."""

import os
import random
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.zoos import ORGANIZER, PARITY, network, publish

from coordinator.zoo.files import write_part
from coordinator.zoo.writer import ZooWriter
from protocol.canonical import hexdigest
from protocol.errors import UsageError
from protocol.zoo.catalogue import read_part
from protocol.zoo.manifests import Part, manifest_path, signed_bytes
from protocol.zoo.parquet import check_part
from protocol.zoo.store import open_store, part_path
from protocol.zoo.thrift import Illegal, read_struct

ROWS = 12_000  # as many as 400 kB may state


@pytest.fixture
def writer(tmp_path) -> ZooWriter:
    writer = ZooWriter(tmp_path / "zoo", ORGANIZER)
    publish(writer, *(network(PARITY, seed) for seed in range(20)))
    return writer


def table_of(writer: ZooWriter, rows: int, **columns) -> pa.Table:
    """An ordinary catalogue of many rows, some columns replaced."""
    table = open_store(writer.path).catalogue().take(np.arange(rows) % 20)
    for name, values in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, values)
    return table


def same(text: str, rows: int) -> pa.Array:
    """One text, meant by every row."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([text]))


def noise(rows: int) -> pa.Array:
    rng = random.Random(1)
    return pa.array([rng.randbytes(32).hex() for _ in range(rows)])


def bomb(writer: ZooWriter, kind: str) -> tuple[pa.Table, dict]:
    """A small file, and how it is written, that becomes gigabytes or would for somebody more patient than a test."""
    padding = {"weights_digest": noise(ROWS)}  # else it would have too many rows for its length
    if kind == "text":
        return table_of(writer, ROWS, host=same("x" * 1_000_000, ROWS), **padding), {}
    if kind == "layers":
        return table_of(writer, ROWS, **{"network.layers": same("x" * 60_000, ROWS)}, **padding), {}
    if kind == "list":
        values = pa.array(np.zeros(20_000_000, np.float32))
        offsets = pa.array(np.linspace(0, len(values), 201).astype(np.int32))
        return table_of(writer, 200, training_losses=pa.ListArray.from_arrays(offsets, values)), {}
    if kind == "zeros":
        return table_of(writer, 20, host=pa.array(["0" * 4_000_000] * 20)), {"use_dictionary": False}
    if kind == "prefix":
        encoding = {"use_dictionary": False, "column_encoding": {"host": "DELTA_BYTE_ARRAY"}}
        return table_of(writer, 20, host=pa.array(["x" * 100_000] * 20)), encoding
    assert kind == "codec"
    return table_of(writer, 20), {"compression": "brotli"}


BOMBS = ("text", "layers", "list", "zeros", "prefix", "codec")


def write(path: Path, table: pa.Table, options: dict) -> Path:
    pq.write_table(table, path, **{"compression": "zstd", "store_schema": False} | options)
    return path


@pytest.mark.parametrize("kind", BOMBS)
def test_a_file_that_would_fill_the_memory_is_refused_unread(writer, tmp_path, kind):
    path = write(tmp_path / "bomb.parquet", *bomb(writer, kind))
    assert path.stat().st_size < 2_000_000
    before = pa.total_allocated_bytes()
    with pytest.raises(UsageError, match="made to hurt") as said:
        read_part(path)
    assert "\n" not in str(said.value) and str(path) in str(said.value)
    assert pa.total_allocated_bytes() - before < 10_000_000


def test_large_ordinary_parts_are_read(writer, tmp_path):
    columns = {"weights_digest": noise(ROWS), "state_digest": noise(ROWS), "id": noise(ROWS)}
    losses = pa.array([np.random.default_rng(1).random(100).astype(np.float32)] * ROWS)
    part = write_part(tmp_path, table_of(writer, ROWS, training_losses=losses, **columns))
    path = part_path(tmp_path, part.digest)
    check_part(path, ROWS)
    assert read_part(path).num_rows == ROWS
    with pytest.raises(UsageError, match="12,000 rows where the manifest says 11"):
        check_part(path, 11)


def test_rows_without_end_are_refused(writer, tmp_path):
    same_rows = table_of(writer, 20).take(np.zeros(200_000, np.int64))
    path = write(tmp_path / "rows.parquet", same_rows, {})
    with pytest.raises(UsageError, match="200,000 rows do not go into"):
        check_part(path)


def test_a_page_that_lies_about_its_length_is_refused(writer):
    (part,) = open_store(writer.path).manifest.catalogue
    path = part_path(writer.path, part.digest)
    data = bytearray(path.read_bytes())
    chunk = pq.read_metadata(path).row_group(0).column(0)
    place = chunk.dictionary_page_offset
    assert data[place : place + 3] == bytes([0x15, 4, 0x15])  # field 1: a dictionary page; field 2: its length
    data[place + 3 : place + 5] = b"\x80\x01" if data[place + 3] >= 128 else b"\x02"
    path.write_bytes(data)
    with pytest.raises(UsageError, match="damaged"):
        read_part(path)


def test_flipped_and_missing_bytes_are_one_line_never_a_traceback(writer, tmp_path):
    (part,) = open_store(writer.path).manifest.catalogue
    whole, rng = part_path(writer.path, part.digest).read_bytes(), random.Random(7)
    refused = 0
    for i in range(300):
        data = bytearray(whole)
        begin = rng.choice((0, len(data) - 9000))  # pages, or the footer
        for _ in range(rng.choice((1, 1, 4))):
            data[rng.randrange(begin, len(data))] = rng.randrange(256)
        path = tmp_path / f"{i}.parquet"
        path.write_bytes(data[: rng.choice((len(data), rng.randrange(len(data))))])
        said = refusal(path)
        refused += said is not None
        assert "\n" not in (said or "")
        path.unlink()
    assert refused > 150


def test_a_list_of_numbers_ends_where_its_bytes_do():
    """Eight bytes each were passed over unseen: a footer of twelve bytes could keep a reader busy for ever."""
    three = b"\x19\x37" + bytes(24) + b"\x00"
    found, used = read_struct(three)
    assert used == len(three) and found.values == {1: [None] * 3}
    for endless in (three[:20], b"\x19\xf7" + b"\xff" * 8 + b"\x7f" + bytes(9)):
        with pytest.raises(Illegal, match="cut off"):
            read_struct(endless)


def refusal(path: Path) -> str | None:
    try:
        read_part(path)
    except UsageError as error:
        return str(error)
    return None


SCRIPT = """
import sys
from pathlib import Path
from protocol.errors import UsageError
kind, zoo, copy = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
try:
    if kind == "open":
        from analysis.zoo import open_zoo
        open_zoo(zoo).table()
    elif kind == "audit":
        from analysis.audit.check import audit_zoo
        raise UsageError("; ".join(audit_zoo(zoo).problems))
    else:
        from support.pulling import Folder
        from analysis.pull.transfer import pull
        pull(Folder(zoo), copy)
except UsageError as error:
    print("refused" if "made to hurt" in str(error) else str(error))
status = Path("/proc/self/status").read_text()  # ru_maxrss would be that of who started us, if it was more
print(int(status.split("VmHWM:")[1].split()[0]) // 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["open", "audit", "pull"])
def test_opening_auditing_and_pulling_a_bomb_takes_little_memory(writer, tmp_path, kind):
    path = write(tmp_path / "bomb.parquet", *bomb(writer, "text"))
    data = path.read_bytes()
    assert len(data) < 450_000
    part = Part(digest=hexdigest(data), bytes=len(data), rows=ROWS, classes={"parity": ROWS})
    part_path(writer.path, part.digest).write_bytes(data)
    manifest = msgspec.structs.replace(open_store(writer.path).manifest, catalogue=(part,))
    manifest_path(writer.path, 1).write_bytes(signed_bytes(manifest, ORGANIZER.sign))
    command = [sys.executable, "-c", SCRIPT, kind, str(writer.path), str(tmp_path / "copy")]
    paths = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    said, megabytes = done.stdout.split()[-2:]
    assert said == "refused" and int(megabytes) < 500, done.stdout
