"""`zooswarm data`, `train` and `seed` as a person meets them, and data sets in a zoo that is written by hand."""

import numpy as np
import pytest
from click.testing import CliRunner
from support.zoos import CAMPAIGN, EVIDENCE, ORGANIZER, network

from coordinator.cli import data as data_verb
from coordinator.zoo.writer import ZooWriter
from peer.local_training import TRAIN
from protocol.canonical import hexdigest
from protocol.errors import UsageError
from protocol.recipes.recipe import load_recipe, parse_recipe
from protocol.tasks.datasets import Dataset, Shelf
from protocol.zoo.manifests import latest_manifest
from protocol.zoo.store import data_path, open_store
from protocol.zoo.verify import verify_zoo

TRAINING = """
name = "r"
class = "r"
{task}
[network]
layers = [{{ kind = "linear", width = {width} }}]
[training]
learning_rate = 0.01
batch = 4
max_steps = 4
loss = "{loss}"
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOOSWARM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def run(verb, *arguments: str):
    return CliRunner().invoke(verb, arguments)


def table_of(told: str) -> str:
    return told.split("\n\n", 1)[1]


@pytest.mark.slow
def test_what_data_add_prints_is_a_task_that_trains(tmp_path, home):
    (tmp_path / "iris.csv").write_text("".join(f"{i % 7},{i % 5}.5,{'ab'[i % 2]}\n" for i in range(40)))
    told = run(data_verb, "add", str(tmp_path / "iris.csv"), "--name", "iris")
    assert told.exit_code == 0
    digest = told.output.split()[0]
    assert f"{digest}  iris  40 examples of 2 float32, 2 classes" in run(data_verb, "list").output
    recipe = tmp_path / "r.toml"
    recipe.write_text(TRAINING.format(task=table_of(told.output), width=2, loss="cross_entropy"))
    assert load_recipe(recipe).data_set == digest
    out = ["--seeds", "0:2", "--out", str(tmp_path / "out"), "--threads", "1"]
    (home / "data").rename(tmp_path / "elsewhere")
    lost = run(TRAIN, str(recipe), *out)
    assert isinstance(lost.exception, UsageError) and "data add" in str(lost.exception)
    found = run(TRAIN, str(recipe), *out, "--data", str(tmp_path / "elsewhere"))
    assert found.exit_code == 0 and len(found.output.splitlines()) == 2
    (tmp_path / "elsewhere").rename(home / "data")
    assert run(TRAIN, str(recipe), *out).output == found.output


def test_numbers_to_predict_and_another_directory(tmp_path, home):
    (tmp_path / "n.csv").write_text("".join(f"{i},{i % 3}\n" for i in range(20)))
    told = run(
        data_verb, "add", str(tmp_path / "n.csv"), "--name", "n", "--regression", "--dir", str(tmp_path / "host")
    )
    assert "values = 1" in told.output and (tmp_path / "host" / "data" / told.output.split()[0]).is_file()
    assert not home.exists()
    recipe = tmp_path / "r.toml"
    recipe.write_text(TRAINING.format(task=table_of(told.output), width=1, loss="mse"))
    load_recipe(recipe)


def test_mistakes_are_one_line(tmp_path):
    (tmp_path / "x").write_bytes(b"hello")
    for arguments, said in (
        ([str(tmp_path / "x"), "--name", "x"], "not a data file that we read"),
        ([str(tmp_path / "y"), "--name", "x"], "cannot read"),
        ([str(tmp_path / "x"), "--name", "a\nb"], "--name"),
    ):
        error = run(data_verb, "add", *arguments).exception
        assert isinstance(error, UsageError) and said in str(error) and "\n" not in str(error)


def test_list_names_what_is_damaged(tmp_path, home):
    (home / "data").mkdir(parents=True)
    (home / "data" / ("a" * 64)).write_bytes(b"junk")
    (home / "data" / "names.json").write_text("[]")
    told = run(data_verb, "list").output
    assert "digits8x8  built in  1,797 examples" in told and "damaged" in told


# -- in a zoo --------------------------------------------------------------------------------------------------------


def test_a_zoo_keeps_the_data_that_its_recipes_name(tmp_path):
    dataset = Dataset(
        inputs=np.arange(80, dtype=np.uint8).reshape(20, 4), targets=np.arange(20, dtype=np.uint16) % 2, classes=2
    )
    shelf = Shelf(tmp_path / "shelf")
    digest = shelf.put(dataset.to_bytes())
    task = {"kind": "dataset", "data": digest, "shape": [4], "labels": 2, "train": 12, "held_out": 6}
    network_table = {"layers": [{"kind": "linear", "width": 2}]}
    training = {"learning_rate": 0.1, "batch": 4, "max_steps": 9, "loss": "cross_entropy"}
    recipe = parse_recipe(
        {"name": "d", "class": "d", "task": task, "network": network_table, "training": training}, "recipe"
    )
    writer = ZooWriter(tmp_path / "zoo", ORGANIZER, clock=lambda: 4e9)
    blobs = {hexdigest(EVIDENCE): EVIDENCE}, {hexdigest(CAMPAIGN): CAMPAIGN}
    with pytest.raises(ValueError, match="data set is neither given nor in the zoo"):
        writer.publish([network(recipe, 0)], {recipe.digest: recipe}, *blobs)
    with pytest.raises(ValueError, match="data set"):
        writer.publish([], {recipe.digest: recipe}, *blobs, {"b" * 64: shelf.path(digest)})
    writer.publish([network(recipe, 0)], {recipe.digest: recipe}, *blobs, {digest: shelf.path(digest)})
    number = writer.publish([network(recipe, 1)], {recipe.digest: recipe}, *blobs)
    manifest = latest_manifest(tmp_path / "zoo")
    assert manifest is not None and manifest.number == number
    assert [(ref.digest, ref.bytes) for ref in manifest.data] == [(digest, len(dataset.to_bytes()))]
    assert verify_zoo(tmp_path / "zoo").problems == ()
    assert np.array_equal(open_store(tmp_path / "zoo").shelf.load(digest).inputs, dataset.inputs)
    writer.collect_garbage(0)
    assert data_path(tmp_path / "zoo", digest).is_file()
    data_path(tmp_path / "zoo", digest).unlink()
    assert any(digest in problem for problem in verify_zoo(tmp_path / "zoo").problems)
