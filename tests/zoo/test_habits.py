"""A zoo in the tables and data sets that analysts know, and splits of it that do not leak."""

import hashlib
import sys

import numpy as np
import pyarrow as pa
import pytest
import torch
from support.zoos import ADDER, ORGANIZER, PARITY, network, publish
from torch.utils.data import DataLoader

from analysis import open_zoo
from analysis.catalogue.parts import parts_by_digest
from analysis.statistics.splits import groups, split_problems
from analysis.weights.pairs import labels_of
from coordinator.zoo.writer import ZooWriter
from protocol.errors import UsageError

SEEDS = 40


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """Twins of two classes: every seed is there twice, and one host trained all."""
    writer = ZooWriter(tmp_path_factory.mktemp("habits") / "zoo", ORGANIZER, clock=lambda: 1_800_000_000.0)
    publish(writer, *(network(recipe, seed) for recipe in (PARITY, ADDER) for seed in range(SEEDS)))
    return open_zoo(writer.path)


def absent(monkeypatch, *names: str) -> None:
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)  # an import of it fails


# --- frames ----------------------------------------------------------------------------------------------------------


def test_a_frame_has_the_rows_of_the_table_and_texts_that_are_texts(zoo):
    frame = zoo.frame("class = 'parity' and seed < 5", ["class", "seed", "held_out_loss"])
    assert frame["class"].tolist() == ["parity"] * 5 and frame["seed"].tolist() == [0, 1, 2, 3, 4]
    assert frame.groupby("class").size().to_dict() == {"parity": 5}, "no class of the rest of the zoo comes along"
    whole = zoo.frame()
    assert list(whole.columns) == zoo.table().column_names and len(whole) == len(zoo) == 2 * SEEDS
    assert whole["id"].tolist() == zoo.table()["id"].to_pylist()


def test_a_polars_frame_has_the_same_values(zoo):
    polars = pytest.importorskip("polars")
    frame = zoo.frame("seed < 3", ["class", "seed", "checkers"], kind="polars")
    assert isinstance(frame, polars.DataFrame) and frame.to_dicts() == zoo.table("seed < 3", frame.columns).to_pylist()
    assert frame.schema["class"] == polars.String
    assert zoo.frame(kind="polars").height == len(zoo)


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_a_library_that_is_not_here_is_named_with_the_mend(zoo, monkeypatch, kind):
    absent(monkeypatch, "pandas", "polars")
    with pytest.raises(UsageError, match=rf"a frame needs {kind}: pip install 'zooswarm\[frames\]'"):
        zoo.frame(columns=["seed"], kind=kind)


def test_a_kind_of_frame_that_is_not_there_is_said(zoo):
    with pytest.raises(UsageError, match="pandas and polars"):
        zoo.frame(kind="spark")


# --- data sets -------------------------------------------------------------------------------------------------------


def test_a_dataset_pairs_weights_with_classes(zoo):
    data = zoo.dataset("seed in (1, 3)")
    assert data.classes == ("adder", "parity") and data.label_N.tolist() == [0, 0, 1, 1]
    assert data.ids == tuple(zoo.table("seed in (1, 3)")["id"].to_pylist())
    weights_P, label = data[2]
    assert np.array_equal(weights_P.numpy(), network(PARITY, 1)[1]) and label.dtype == torch.int64
    weights_P += 1  # an item is a copy
    assert np.array_equal(data[2][0].numpy(), network(PARITY, 1)[1])
    ((weights_NP, labels_N),) = DataLoader(data, batch_size=4)
    assert torch.equal(labels_N, data.label_N) and weights_NP.shape == (4, PARITY.parameter_count)


def test_a_dataset_of_numbers_of_a_mapped_file_and_of_initial_weights(zoo, tmp_path):
    mapped = zoo.dataset("seed < 4", "held_out_loss", into=tmp_path / "weights.npy")
    assert mapped.classes == () and mapped.label_N.dtype == torch.float32 and mapped.label_N[0] == 0.25
    assert isinstance(mapped.weights_NP, np.memmap) and torch.equal(mapped[0][0], zoo.dataset("seed < 4")[0][0])
    assert zoo.dataset("seed < 4", "seed").label_N.tolist() == [0, 1, 2, 3] * 2
    begun = zoo.dataset("seed < 4", initial=True)
    assert np.array_equal(begun.weights_NP, zoo.initial_weights("seed < 4"))
    assert not np.array_equal(begun.weights_NP, mapped.weights_NP)


def test_what_is_no_label_is_said_in_one_line(zoo):
    with pytest.raises(UsageError, match="no such column: colour"):
        zoo.dataset(label="colour")
    with pytest.raises(UsageError, match="checkers is no label"):
        zoo.dataset(label="checkers")
    with pytest.raises(UsageError, match=r'1 of these networks have no loss: add ."loss" is not null'):
        labels_of(pa.chunked_array([[0.5, None]]), "loss")


def test_a_hugging_face_view_has_the_same_rows_and_names_its_classes(zoo):
    datasets = pytest.importorskip("datasets")
    found = zoo.hugging_face("seed in (1, 3)", columns=["seed", "class"])
    assert isinstance(found, datasets.Dataset) and found.column_names == ["id", "weights", "label", "seed", "class"]
    assert found.features["label"].names == ["adder", "parity"] and list(found["label"]) == [0, 0, 1, 1]
    weights_NP = found.with_format("numpy")["weights"][:]
    assert np.array_equal(weights_NP, zoo.weights("seed in (1, 3)")) and weights_NP.dtype == np.float32
    assert found.select([3])[0]["id"] == zoo.table("seed in (1, 3)")["id"][3].as_py()
    assert list(zoo.hugging_face("seed < 2", "held_out_loss")["label"]) == [0.25] * 4


def test_without_the_library_the_mend_is_named(zoo, monkeypatch):
    absent(monkeypatch, "datasets")
    with pytest.raises(UsageError, match=r"needs datasets: pip install 'zooswarm\[huggingface\]'"):
        zoo.hugging_face("seed = 0")


# --- splits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("salt", range(5))
def test_twins_that_share_a_seed_are_in_one_part(zoo, salt):
    part_N = zoo.splits(by="seed", salt=salt)
    seeds = zoo.table()["seed"].to_pylist()
    assert split_problems(part_N, seed=seeds) == [] and set(part_N) == {0, 1, 2}
    torn_N = np.random.default_rng(salt).permutation(part_N)
    assert split_problems(torn_N, seed=seeds), "a split by rows leaks, and that is seen"


@pytest.mark.parametrize(("by", "column"), [("recipe", "recipe"), ("machine", "task.machine"), ("class", "class")])
def test_recipes_machines_and_classes_are_not_torn(zoo, by, column):
    salt = next(salt for salt in range(100) if parted(zoo, by, salt))
    part_N = zoo.splits(by=by, parts=(0.5, 0.5), salt=salt)
    assert split_problems(part_N, key=zoo.table()[column].to_pylist()) == []
    assert split_problems(part_N, seed=zoo.table()["seed"].to_pylist()), "another question: seeds are on both sides"


def parted(zoo, by: str, salt: int) -> bool:
    try:
        return len(zoo.splits(by=by, parts=(0.5, 0.5), salt=salt)) > 0
    except UsageError:
        return False


def test_a_network_keeps_its_part_in_every_selection_and_when_the_zoo_grows(zoo, tmp_path):
    def told(of, where=None) -> dict[str, int]:
        return dict(zip(of.table(where)["id"].to_pylist(), of.splits(where).tolist(), strict=True))

    whole, some = told(zoo), told(zoo, "class = 'parity' and seed >= 10")
    assert some.items() <= whole.items() and len(some) == SEEDS - 10
    writer = ZooWriter(tmp_path / "zoo", ORGANIZER, clock=lambda: 1_800_000_000.0)
    publish(writer, *(network(ADDER, seed) for seed in range(20)))
    before = told(open_zoo(writer.path))
    publish(writer, *(network(recipe, seed) for recipe in (PARITY, ADDER) for seed in range(3 * SEEDS)))
    assert before.items() <= told(open_zoo(writer.path)).items()


def test_shares_are_met_on_average_and_another_salt_is_another_split():
    part_N = parts_by_digest(range(20_000), (0.6, 0.2, 0.2))
    share_K = np.bincount(part_N) / len(part_N)
    limit = 5 * np.sqrt(0.24 / len(part_N))  # five standard errors of the largest share
    assert np.abs(share_K - [0.6, 0.2, 0.2]).max() < limit
    other_N = parts_by_digest(range(20_000), (0.6, 0.2, 0.2), salt=1)
    assert abs((part_N == other_N).mean() - (0.36 + 0.04 + 0.04)) < limit


def test_the_split_is_the_same_on_every_computer():
    """A change here would move networks that somebody has learnt from into his test."""
    upper = [hashlib.sha256(f"zooswarm split 0 {seed}".encode()).hexdigest()[0] >= "8" for seed in range(200)]
    assert parts_by_digest(range(200), (0.5, 0.5)).tolist() == upper


def test_groups_tied_by_several_keys_are_a_split_too(zoo):
    table = zoo.table()
    seeds, hosts = table["seed"].to_pylist(), [seed // 4 for seed in table["seed"].to_pylist()]
    part_N = zoo.splits(by=groups(seeds, hosts), parts=(0.5, 0.5))
    assert split_problems(part_N, seed=seeds, host=hosts) == []
    with pytest.raises(UsageError, match="3 groups for 80 networks"):
        zoo.splits(by=[1, 2, 3])


@pytest.mark.parametrize("parts", [(1.0,), (0.5, 0.6), (1.2, -0.2), (0.5, float("nan")), (1.0, 0.0)])
def test_shares_that_are_none_are_refused(zoo, parts):
    with pytest.raises(UsageError, match="add up to 1"):
        zoo.splits(parts=parts)


def test_a_part_without_a_network_or_a_network_without_a_value_is_said(zoo):
    with pytest.raises(UsageError, match=r"1 different values of host leave part . of 3 empty: another `salt`"):
        zoo.splits(by="host")
    with pytest.raises(UsageError, match="1 of these networks have no groups"):
        parts_by_digest(["a", None])
    with pytest.raises(UsageError, match="no such column"):
        zoo.splits(by="colour")
