"""Tables and matrices of a zoo: the same rows whatever way they were found, and bytes that are checked when asked."""

import numpy as np
import pyarrow as pa
import pytest
from support.zoos import ADDER, ORGANIZER, PARITY, network, publish

from analysis import open_zoo
from analysis.catalogue import rows as catalogue
from analysis.catalogue.rows import Catalogue, is_mentioned
from coordinator.zoo.writer import ZooWriter
from protocol.errors import UsageError
from protocol.zoo.store import shard_path


@pytest.fixture
def zoo(tmp_path):
    """Two files of each kind, whose rows interleave."""
    writer = ZooWriter(tmp_path / "zoo", ORGANIZER, clock=lambda: 1_800_000_000.0)
    publish(writer, *(network(recipe, seed) for recipe in (PARITY, ADDER) for seed in (0, 2, 5)))
    publish(writer, *(network(recipe, seed) for recipe in (PARITY, ADDER) for seed in (4, 1, 3)))
    return open_zoo(tmp_path / "zoo")


def expected(*recipes, seeds=range(6)):
    return np.stack([network(recipe, seed)[1] for recipe in recipes for seed in seeds])


@pytest.mark.parametrize("runs", [0, 1000])
def test_rows_of_several_files_come_in_one_order(zoo, monkeypatch, runs):
    monkeypatch.setattr(catalogue, "RUNS_MAX", runs)  # long runs are sliced, short ones gathered
    table = zoo.table()
    assert table["class"].to_pylist() == ["adder"] * 6 + ["parity"] * 6
    assert table["seed"].to_pylist() == [0, 1, 2, 3, 4, 5] * 2
    assert table["training_losses"].to_pylist()[7] == pytest.approx([0.5, 0.3])
    assert np.array_equal(zoo.weights(), expected(ADDER, PARITY))
    assert zoo.weights().dtype == np.float32


@pytest.mark.parametrize(
    ("where", "seeds"),
    [
        ("class = 'parity' and seed in (1, 5)", [1, 5]),
        ("task.machine = 'parity' and training.batch * 2 = 8 and seed < 2", [0, 1]),
        ("\"task.machine\" = 'parity' and seed = (select max(seed) from catalogue)", [5]),
        ("TASK.machine = 'parity' -- a comment", [0, 1, 2, 3, 4, 5]),
        ("struct_extract(task, 'machine') = 'parity' and len(training_losses) = 2 and seed = 3", [3]),
        ("false", []),
    ],
)
def test_an_expression_finds_the_same_rows_with_the_columns_it_needs(zoo, where, seeds):
    found = zoo.table(where, ["seed", "class"])
    assert found["seed"].to_pylist() == seeds and found.column_names == ["seed", "class"]
    assert zoo.table(where).num_columns == len(zoo.table().column_names)
    if seeds:
        assert np.array_equal(zoo.weights(where), expected(PARITY, seeds=seeds))


def test_a_column_that_was_not_thought_of_is_missed_by_duckdb_and_then_read(zoo, monkeypatch):
    assert zoo.table("columns('^se.d$') = 3", ["seed"])["seed"].to_pylist() == [3, 3]
    assert not is_mentioned("seed", "se ed = 3") and is_mentioned("task.machine", "Task.x = 1")
    assert is_mentioned("anything", "count(*) > 1") and is_mentioned("anything", "catalogue is not null")
    monkeypatch.setattr(catalogue, "is_mentioned", lambda name, where: False)
    assert zoo.table("task.machine = 'parity' and seed = 3", ["seed"])["seed"].to_pylist() == [3]
    with pytest.raises(UsageError, match="no_such"):
        zoo.table("no_such = 3")


def test_shared_texts_are_dictionaries_that_filter_group_and_join_as_texts(zoo):
    table = zoo.table()
    assert pa.types.is_dictionary(table.schema.field("class").type)
    assert pa.types.is_string(table.schema.field("id").type)
    parity = table.filter(pa.compute.field("class") == "parity")
    assert parity.num_rows == 6 and set(parity["task.machine"].to_pylist()) == {"parity"}
    counts = table.group_by("class").aggregate([("id", "count")]).to_pylist()
    assert {row["class"]: row["id_count"] for row in counts} == {"adder": 6, "parity": 6}
    assert np.array_equal(zoo.weights_of(parity), expected(PARITY))
    assert np.array_equal(
        zoo.weights_of(pa.table({"shard": table["shard"].cast(pa.string()), "row": table["row"]})),
        expected(ADDER, PARITY),
    )


def test_a_matrix_in_a_file_is_mapped_and_can_be_opened_again(zoo, tmp_path):
    path = tmp_path / "weights.npy"
    mapped = zoo.weights("class = 'adder'", into=path)
    assert isinstance(mapped, np.memmap) and not mapped.flags.writeable
    assert np.array_equal(mapped, expected(ADDER)) and np.array_equal(np.load(path, mmap_mode="r"), mapped)
    assert zoo.weights("false", into=path).shape == (0, 0)  # written anew
    with pytest.raises(UsageError, match="file"):
        zoo.weights(into=path / "weights.npy")
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["weights.npy"]


def test_a_flipped_bit_is_seen_when_files_are_verified(zoo):
    ref = zoo.store.manifest.shards[0]
    path = shard_path(zoo.store.path, ref.recipe, ref.digest)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    where = f"recipe = '{ref.recipe}'"
    assert zoo.weights(where).shape[0] == 6  # lengths and headers are right
    with pytest.raises(UsageError, match=f"{path.name}.*do not hash"):
        zoo.weights(where, verify=True)
    other = f"recipe <> '{ref.recipe}'"
    assert np.array_equal(zoo.weights(other, verify=True), zoo.weights(other))


def test_only_the_columns_that_are_asked_for_are_read(zoo, monkeypatch):
    read = []
    part = Catalogue._part
    monkeypatch.setattr(
        Catalogue, "_part", lambda self, path, names: read.append(set(names)) or part(self, path, names)
    )
    zoo.weights("class = 'parity'")
    assert set().union(*read) == {"id", "class", "recipe", "seed", "shard", "row"}
