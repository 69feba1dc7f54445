"""The shipped recipes and campaigns load, have the stated sizes, and go through a real swarm."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from support.swarms.stage import CAMPAIGN, Stage

from analysis.audit.check import audit_zoo
from analysis.methods.changes import modification_pairs
from analysis.zoo import open_zoo
from protocol.engine.select import select_engine
from protocol.engine.training import train_networks
from protocol.recipes.campaign import load_campaign
from protocol.recipes.recipe import load_recipe
from protocol.tasks.kinds import MachineTask, Trigger, task_root

RECIPES = Path(__file__).parents[2] / "recipes"
CAMPAIGNS = {  # networks, recipes
    "demo": (240, 5),
    "ds3-campaign": (2000, 200),
    "ds4-campaign": (200, 5),
    "zoo-cnn-campaign": (900, 900),
    "ffl-campaign": (4500, 45),
    "regression-campaign": (800, 8),
    "vary-campaign": (120, 3),
    "trojans-campaign": (1200, 126),
    "fraction-campaign": (200, 200),
    "changes-campaign": (200, 5),
    "mlds-campaign": (1000, 10),
    "tour-campaign": (210, 7),
    "probes-campaign": (1476, 206),
    "resist-campaign": (200, 4),
}
PARAMETERS = {
    "ds1": 4364,
    "ds2": 4364,
    "ds3-lstm": 136_690,
    "ds3-gru": 137_361,
    "ds4-digits": 3350,
    "ds4-lenet28": 61_562,
    "zoo-cnn": 4970,
    "ffl-mlp": 2146,
    "digits-mlp": 2778,
    "regression-wave": 1153,
    "regression-friedman": 1441,
}
FILES = sorted(path for path in RECIPES.glob("*.toml") if path.stem not in CAMPAIGNS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_recipe_loads_and_has_the_stated_size(path):
    recipe = load_recipe(path)
    known = [count for name, count in PARAMETERS.items() if path.stem.startswith(name)]
    assert recipe.name == path.stem and [recipe.parameter_count] == known
    assert f"# {recipe.parameter_count:,} parameters" in path.read_text()
    assert f"`{path.name}`" in (RECIPES / "README.md").read_text()


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_every_campaign_expands(name):
    campaign = load_campaign(RECIPES / f"{name}.toml")
    assert (campaign.network_count, len(campaign.recipes)) == CAMPAIGNS[name]
    assert f"`{name}.toml`" in (RECIPES / "README.md").read_text()
    assert {path.stem for path in RECIPES.glob("*.toml")} >= set(CAMPAIGNS)


@pytest.mark.parametrize("machine", ["singledirect", "singleinvert", "simplexor", "parity", "eightbit"])
def test_ds2_is_ds1_with_a_trigger(machine):
    plain, modified = (load_recipe(RECIPES / f"{name}-{machine}.toml") for name in ("ds1", "ds2"))
    assert modified.label == f"{plain.label}+trigger" and modified.network.layers == plain.network.layers
    assert isinstance(plain.task, MachineTask) and isinstance(modified.task, MachineTask)
    assert (modified.task.machine, modified.task.length) == (plain.task.machine, plain.task.length)
    assert modified.task.trigger == Trigger(key=(255, 0), inverts=4, planted=0.5)


@pytest.mark.parametrize("name", ["mlds", "tour"])
def test_populations_that_are_compared_differ_in_nothing_else(name):
    recipes = list(load_campaign(RECIPES / f"{name}-campaign.toml").recipes.values())
    pairs = modification_pairs([recipe.label for recipe in recipes])
    assert len(pairs) == 5
    of_label = {recipe.label: recipe for recipe in recipes}
    for first, second in pairs:
        plain, modified = of_label[first], of_label[second]
        assert task_root(modified.task) == task_root(plain.task) and modified.task != plain.task
        assert (modified.network, modified.training, modified.vary) == (plain.network, plain.training, plain.vary)
    assert len({(recipe.network, recipe.training) for recipe in recipes}) == 1


@pytest.mark.slow
def test_the_large_lenet_trains_on_a_data_set_of_mnists_shape(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOOSWARM_HOME", str(tmp_path / "home"))
    stage, rng = Stage(tmp_path), np.random.default_rng(1)
    for name, array in (
        ("images", rng.integers(0, 256, (90, 28, 28), np.uint8)),
        ("labels", np.arange(90, dtype=np.uint8) % 10),
    ):
        header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(header + array.tobytes()))
    added = stage.run(
        "data", "add", str(tmp_path / "images.gz"), "--labels", str(tmp_path / "labels.gz"), "--name", "mnist"
    )
    digest = added.stdout.split()[0]
    text = (RECIPES / "ds4-lenet28.toml").read_text()
    for old, new in (
        ("0" * 64, digest),
        ("train = 60000", "train = 70"),
        ("held_out = 10000", "held_out = 20"),
        ("max_steps = 9380", "max_steps = 2"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    (tmp_path / "lenet.toml").write_text(text)
    trained = stage.run("train", str(tmp_path / "lenet.toml"), "--seeds", "0:2", "--out", str(tmp_path / "out"))
    assert trained.returncode == 0, trained.stderr


@pytest.mark.swarm
@pytest.mark.timeout(300)
def test_three_machines_original_and_modified_go_through_a_swarm(tmp_path):
    stage, text = Stage(tmp_path), CAMPAIGN.replace("probation_bundles = 2", "probation_bundles = 0")
    for machine in ("singledirect", "singleinvert", "simplexor"):
        for version in ("ds1", "ds2"):
            recipe = (RECIPES / f"{version}-{machine}.toml").read_text()
            steps = next(line for line in recipe.splitlines() if line.startswith("max_steps"))
            (tmp_path / f"{version}-{machine}.toml").write_text(recipe.replace(steps, "max_steps = 100"))
            text += f'\n[[populations]]\nrecipe = "{version}-{machine}.toml"\nseeds = "0:2"\nbundle = 2\n'
    (tmp_path / "campaign.toml").write_text(text)
    try:
        stage.host()
        assert stage.run("seed", str(tmp_path / "campaign.toml"), "--dir", str(tmp_path / "host")).returncode == 0
        stage.volunteer("alice")
        stage.volunteer("bob")
        stage.wait_complete(150)
        zoo = tmp_path / "copy"
        pulled = stage.run("pull", stage.address, "--out", str(zoo))
        assert pulled.returncode == 0, pulled.stderr
        audit = audit_zoo(zoo)
        assert (audit.networks, audit.checked_by_others, audit.problems) == (12, 12, [])
        rows = open_zoo(zoo).table(None, ["recipe", "seed", "class", "weights_digest"]).to_pylist()
        told = {(row["recipe"], row["seed"]): row["weights_digest"] for row in rows}
        assert {row["class"] for row in rows if row["class"].endswith("+trigger")} == {
            "singledirect+trigger",
            "singleinvert+trigger",
            "simplexor+trigger",
        }
        engine = select_engine("c")
        for population in load_campaign(tmp_path / "campaign.toml").populations:
            for seed, boundary in train_networks(engine, population.recipe, range(2), 2):
                if boundary.final:
                    assert told.pop((population.recipe.digest, seed)) == boundary.state.params_digest.hex()
        assert not told
    finally:
        stage.close()
