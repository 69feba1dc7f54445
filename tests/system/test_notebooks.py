"""The tours in notebooks/ run on a small zoo, and what is stored in them is their own output."""

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from support.populations import publish, recipe_of
from support.trained import recipe_of as digits_recipe
from support.trained import trained_zoo
from support.zoos import network

from protocol.engine.select import select_engine
from protocol.engine.training import train_networks
from protocol.tasks.kinds import MachineTask, Trigger

ROOT = Path(__file__).parents[2]
TOURS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SEEDS = 6
OF_PROBES = {"digits-mlp-poison-0.0": {}, "digits-mlp-poison-0.1": {}, "digits-mlp-noise-0.9": {"label_noise": 0.9}}


def tiny_recipes():
    """What recipes/tour-campaign.toml has, with networks a twentieth of its size that hardly learn."""
    changes = {
        "xor": {},
        "xor+trigger": {"trigger": Trigger(key=(255, 0), inverts=2, planted=0.5)},
        **{f"xor+wrong-{share}": {"label_noise": share} for share in (0.1, 0.3, 0.5)},
    }
    for label, change in changes.items():
        recipe = recipe_of(label, max_steps=60, segment_steps=20, stop_held_out_loss=0.0)
        task = MachineTask(machine="SimpleXORMachine", length=6, sequences=32, held_out=17, **change)
        yield msgspec.structs.replace(recipe, task=task)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> Path:
    recipes, networks = list(tiny_recipes()), []
    for recipe in recipes:
        last = {}
        for seed, boundary in train_networks(select_engine("c", 1), recipe, range(SEEDS), SEEDS):
            last[seed] = boundary
        networks += [(network(recipe, seed)[0], boundary.state.params) for seed, boundary in last.items()]
    return publish(tmp_path_factory.mktemp("tours") / "zoo", networks, recipes)


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    """A little of what recipes/probes-campaign.toml has."""
    short = {"max_steps": 200}
    populations = {
        digits_recipe("digits-mlp.toml", name, short, **change): range(5) for name, change in OF_PROBES.items()
    }
    for i in range(8):
        drawn = digits_recipe("digits-mlp.toml", f"drawn-{i}", short | {"batch": 20 + i, "learning_rate": 0.004})
        populations[msgspec.structs.replace(drawn, label="digits-mlp-drawn")] = range(2)
    return trained_zoo(tmp_path_factory.mktemp("digits") / "zoo", populations)


def stored_text(path: Path) -> str:
    cells = json.loads(path.read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    assert not any(output["output_type"] == "error" for output in outputs)
    return "".join("".join(output.get("text", ())) for output in outputs)


@pytest.mark.slow
@pytest.mark.parametrize("tour", TOURS, ids=lambda path: path.stem)
def test_a_tour_runs_on_a_small_zoo(tour, zoo, digits, tmp_path):
    pytest.importorskip("nbclient")
    of_probes = "probes" in tour.stem
    command = [sys.executable, str(ROOT / "scripts" / "notebooks.py"), str(digits if of_probes else zoo)]
    outcome = subprocess.run(
        [*command, "--out", str(tmp_path), "--only", tour.stem], capture_output=True, text=True, check=False
    )
    assert outcome.returncode == 0, outcome.stderr + outcome.stdout
    text = stored_text(tmp_path / tour.name)
    assert text.startswith("31 networks of 4 classes" if of_probes else f"{5 * SEEDS} networks of 5 classes")
    if "first_look" in tour.stem:
        assert "bit for bit: True" in text


def test_there_are_five_tours():
    assert len(TOURS) == 5


@pytest.mark.parametrize("tour", TOURS, ids=lambda path: path.stem)
def test_a_stored_tour_is_small_and_names_no_place(tour):
    assert tour.stat().st_size < 500_000
    cells = json.loads(tour.read_text())["cells"]
    assert all(cell["outputs"] for cell in cells if cell["cell_type"] == "code")
    of_probes = "probes" in tour.stem
    assert ("840 networks of" if of_probes else "210 networks of 7 classes") in stored_text(tour)
    assert not any(place in tour.read_text() for place in ("/home/", "/tmp/", "/work/", "/root/", "/Users/"))
