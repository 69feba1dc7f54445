"""A zoo that version 0.1 made stays readable and sound: no layout or digest may drift. Its bits were exact-1's."""

import shutil
from pathlib import Path

import pytest

from analysis.audit.check import audit_zoo
from analysis.audit.telling import told
from analysis.zoo import open_zoo
from protocol.canonical import hexdigest
from protocol.engine.reference.engine import NumpyEngine
from protocol.engine.streams import task_data
from protocol.engine.training import start
from protocol.errors import UsageError

KEPT = Path(__file__).with_name("kept_by_0_1")


@pytest.fixture
def old_zoo(tmp_path) -> Path:
    return Path(shutil.copytree(KEPT, tmp_path / "zoo"))


@pytest.mark.slow
def test_its_files_and_evidence_are_sound_and_one_line_says_that_this_version_cannot_train_it_again(old_zoo):
    audit = audit_zoo(old_zoo, replay=8)
    assert audit.problems == []
    assert (audit.networks, audit.bundles, audit.replayed, audit.other_engines) == (8, 2, 0, {"exact-1": 8})
    lines = told(audit)
    assert lines.count("cannot be replayed 8 networks are of exact-1; this version computes exact-2") == 1
    assert sum("made by version 0.1, whose manifest is not signed" in line for line in lines) == 1
    assert sum("evidence of 2 bundles, which is of version 0.1" in line for line in lines) == 1
    assert lines[-1].startswith("no problem was found, but no network was trained again: an older version")


def test_it_opens_and_lists_and_its_networks_still_do_what_they_did(old_zoo):
    zoo = open_zoo(old_zoo)
    assert {recipe.engine for recipe in zoo.recipes.values()} == {"exact-1"}
    assert sorted(zoo.table().column("class").to_pylist()) == ["eightbit"] * 4 + ["simplexor"] * 4
    for recipe in zoo.recipes.values():
        with pytest.raises(UsageError, match="networks are those of the engine exact-1, which this version cannot"):
            start(NumpyEngine(), recipe, task_data(recipe), [0])


def test_nobody_has_signed_it(old_zoo):
    name = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
    problems = audit_zoo(old_zoo, organizer=name).problems
    assert problems and all("nobody has signed" in text or "0.1" in text for text in problems)


def test_its_recipes_still_hash_to_their_names(old_zoo):
    zoo = open_zoo(old_zoo)
    names = {path.stem for path in (old_zoo / "recipes").iterdir()}
    assert names == {zoo.recipe(digest).digest for digest in names}
    assert all(hexdigest(path.read_bytes()) == path.stem for path in (old_zoo / "recipes").iterdir())


def test_a_changed_byte_of_its_evidence_is_found(old_zoo):
    path = next((old_zoo / "evidence").iterdir())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert any(path.stem[:16] in problem for problem in audit_zoo(old_zoo).problems)
