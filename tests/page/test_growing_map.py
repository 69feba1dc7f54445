"""The map of a zoo that grows: made from the zoo's files, drawn again when there is more, and steady."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest
from support.zoos import ORGANIZER, PARITY, network, publish

from analysis.report.live_map import Panels, write_map
from analysis.weights.growing_map import GrowingMap, class_numbers, fitted, sample, turned_onto
from analysis.zoo import open_zoo
from coordinator.server.page.map_child import STARTS_MAX, MapChild
from coordinator.zoo.writer import ZooWriter
from protocol.errors import UsageError
from protocol.page.told import map_from_bytes


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def grow(path, seeds):
    """A zoo's next manifest."""
    publish(ZooWriter(path, ORGANIZER), *(network(PARITY, seed) for seed in seeds))


def test_a_turned_map_is_turned_back(rng):
    before_N2 = rng.normal(size=(30, 2))
    angle = 2.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.diag([1, -1])
    places_N2 = np.vstack([before_N2 @ turn, rng.normal(size=(5, 2))])
    turned_N2 = turned_onto(places_N2, [*before_N2, *[None] * 5])
    assert np.allclose(turned_N2[:30], before_N2) and len(turned_N2) == 35
    assert np.allclose(np.linalg.norm(turned_N2, axis=1), np.linalg.norm(places_N2, axis=1)), "sizes stay"


def test_the_first_maps_are_not_turned(rng):
    places_N2 = rng.normal(size=(4, 2))
    assert np.array_equal(turned_onto(places_N2, [None] * 4), places_N2)


def test_places_are_within_the_square_and_keep_their_proportions(rng):
    places_N2 = rng.normal(size=(500, 2)) * [10, 1]
    square_N2 = fitted(np.vstack([places_N2, [[1e9, 0]]]))
    assert square_N2.min() >= 0 and square_N2.max() == 1
    spread = square_N2[:500].std(0)
    assert spread[0] > 0.1 and spread[0] / spread[1] == pytest.approx(10, rel=0.2), (
        "one far out does not press the others"
    )
    assert fitted(np.zeros((1, 2))).tolist() == [[0.5, 0.5]]


def test_a_sample_keeps_whom_it_has():
    ids = [f"n-{i}" for i in range(100)]
    first, more = sample(ids, 20), sample([*ids, *[f"m-{i}" for i in range(100)]], 20)
    assert len(first) == len(more) == 20 and sample(ids, 200) == list(range(100))
    assert len(set(first) & set(more)) >= 5
    assert {i for i in more if i < 100} <= set(first), "who is in the larger zoo's sample was in the smaller one's"


def test_a_class_keeps_its_number():
    known: list[str] = []
    assert class_numbers(["b", "a", "b"], known, 3) == [0, 1, 0]
    assert class_numbers(["c", "d", "a", "d"], known, 3) == [3, 2, 1, 2] and known == ["b", "a", "d"]


def test_features_are_computed_once(rng):
    asked = []

    def weights_of(some):
        asked.append(list(some))
        return rng.normal(size=(len(some), PARITY.parameter_count)).astype(np.float32)

    growing = GrowingMap(PARITY)
    first_N2 = growing.update(["a", "b", "c"], weights_of)
    second_N2 = growing.update(["a", "b", "c", "d"], weights_of)
    assert asked == [[0, 1, 2], [3]] and first_N2.shape == (3, 2) and second_N2.shape == (4, 2)


def test_the_map_gains_the_points_of_a_zoo_that_grows(tmp_path):
    zoo, out, panels = tmp_path / "zoo", tmp_path / "map.json", Panels()
    for seeds in (range(3), range(3, 8)):
        grow(zoo, seeds)
        number = write_map(panels, zoo, out)
        found = map_from_bytes(out.read_bytes())
        assert (found.manifest, found.networks) == (number, len(open_zoo(zoo)))
        assert len(found.panels[0].points) == seeds.stop and found.panels[0].classes == [PARITY.label]


def test_without_a_zoo_there_is_one_line(tmp_path):
    with pytest.raises(UsageError, match="no such zoo"):
        write_map(Panels(), tmp_path / "none", tmp_path / "map.json")


@pytest.mark.slow
def test_the_child_draws_when_it_is_asked_and_ends_with_us(tmp_path):
    grow(tmp_path / "zoo", range(4))
    child = MapChild(tmp_path / "zoo", tmp_path / "map.json", tmp_path / "map.log")
    try:
        assert child.look(0) == (None, child.look(0)[1]) and child._child is None, "no zoo, no process"
        found, note = None, ""
        deadline = time.monotonic() + 60
        while found is None and time.monotonic() < deadline:
            time.sleep(0.1)
            found, note = child.look(1)
        assert found is not None and found.networks == 4 and note == ""
        process = child._child
    finally:
        child.close()
    assert process.poll() is not None


def test_a_child_that_fails_says_why_and_is_left_alone(tmp_path):
    failing = (sys.executable, "-c", "import sys; sys.exit('zooswarm: pyarrow is not installed')")
    child = MapChild(tmp_path, tmp_path / "map.json", tmp_path / "map.log", failing)
    found, note = None, ""
    for _ in range(STARTS_MAX + 2):
        found, note = child.look(1)
        if child._child is not None:
            child._child.wait(20)
    assert found is None and note == "No map: pyarrow is not installed"
    child.close()


def test_a_file_that_is_no_map_is_not_shown(tmp_path):
    (tmp_path / "map.json").write_text(json.dumps({"panels": "x" * 100}))
    waiting = (sys.executable, "-c", "input()")
    child = MapChild(tmp_path, tmp_path / "map.json", tmp_path / "map.log", waiting)
    found, note = child.look(1)
    child.close()
    assert found is None and "No map" in note


@pytest.mark.slow
def test_the_verb_writes_a_map(tmp_path):
    grow(tmp_path / "zoo", range(3))
    command = [
        sys.executable,
        "-m",
        "protocol.cli.main",
        "map",
        str(tmp_path / "zoo"),
        "--out",
        str(tmp_path / "m.json"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and map_from_bytes((tmp_path / "m.json").read_bytes()).networks == 3
    done = subprocess.run(
        [*command[:4], str(tmp_path / "none"), *command[5:]], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1
