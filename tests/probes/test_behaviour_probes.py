"""The probes `quantitative` and `information` over a small zoo: twins stay null, what was planted is found."""

import dataclasses

import msgspec
import numpy as np
import pytest
from support.populations import publish
from support.trained import recipe_of, trained
from support.zoos import network

from analysis import open_zoo
from analysis.probes.information.probe import Information, InformationSettings, is_another_task
from analysis.probes.information.summary import by_class as known_by_class
from analysis.probes.quantitative.probe import Quantitative, QuantitativeSettings
from analysis.probes.quantitative.summary import by_class as failing_by_class
from analysis.probes.registry import probe_named
from analysis.probes.run import probe
from analysis.report.page import section_of
from analysis.report.selection import Selection
from analysis.report.studies.probes.information import Informed
from analysis.report.studies.probes.quantitative import Quantified
from protocol.errors import UsageError
from protocol.recipes.layers import Flatten, Linear, Relu
from protocol.recipes.recipe import Network
from protocol.tasks.datasets import Shelf
from protocol.tasks.kinds import Poison

STEPS, SEEDS = 600, range(3)
SMALL = Network(layers=(Flatten(), Linear(width=24), Relu(), Linear(width=10)))
PATCH = Poison(fraction=0.15, target=0, position=(6, 6), size=(2, 2), value=255.0)


def digits(name: str, **task):
    """A small network of digits."""
    recipe = recipe_of("digits-mlp.toml", name, {"max_steps": STEPS}, train=800, held_out=300, **task)
    return msgspec.structs.replace(recipe, network=SMALL)


CLEAN, POISONED = digits("clean"), digits("poisoned", poison=PATCH)
PAIRS = [recipe_of("ffl-mlp.toml", f"pair-{a}{b}", classes=(a, b)) for a, b in ((3, 8), (4, 9))]
AUTOMATON = msgspec.structs.replace(
    recipe_of("ds1-parity.toml", "pins", {"max_steps": 30}, sequences=64, held_out=48, length=4),
    network=Network(layers=(Linear(width=8), Relu(), Linear(width=20))),
)
QUICK = QuantitativeSettings(inputs=2, estimate=500, hardness_theta=0.02, samples_max=50_000)
BRIEF = InformationSettings(samples=128, shuffles=2, look_steps=40, looks=3, patience=1, transfers=1)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    networks = []
    recipes = [CLEAN, POISONED, *PAIRS, AUTOMATON]
    for recipe in recipes:
        steps = recipe.training.max_steps
        rows = [msgspec.structs.replace(network(recipe, seed)[0], steps=steps) for seed in SEEDS]
        networks += list(zip(rows, trained(recipe, SEEDS), strict=True))
    folder = tmp_path_factory.mktemp("behaviour")
    data = {digest: Shelf(folder).ensure(digest) for digest in filter(None, {recipe.data_set for recipe in recipes})}
    return open_zoo(publish(folder / "zoo", networks, recipes, data))


def asked(zoo, folder, where, settings):
    return probe(zoo, where, settings, kept=folder, processes=1)


def test_a_trojan_shows_in_poisoned_networks_and_in_no_twin(zoo, tmp_path):
    asked(zoo, tmp_path, "class in ('clean', 'poisoned')", QUICK)
    rows = zoo.probe("quantitative", None, ["class"]).to_pylist()
    works = [row for row in rows if row["property"] == "trojan" and row["weights"] == "trained"]
    assert {(row["class"], row["answer"]) for row in works} == {("clean", "yes"), ("poisoned", "no")}
    nulls = [row for row in rows if row["property"] == "trojan" and row["weights"] != "trained"]
    assert {row["weights"] for row in nulls} == {"initial", "mixed"}
    assert all(row["p"] < 0.2 for row in nulls if row["class"] == "clean" or row["weights"] == "initial")
    moved = [row["p"] for row in rows if row["property"] == "elsewhere" and row["weights"] == "trained"]
    assert len(moved) == 6 and max(moved) < 0.2 < 0.8 < min(row["p"] for row in works if row["class"] == "poisoned")
    for row in rows:
        assert row["p_low"] <= row["p"] <= row["p_high"] and row["answer"] in ("yes", "no", "undecided")
        assert row["answer"] != "yes" or row["p_low"] <= 0.11
        assert row["answer"] != "no" or row["p_high"] >= 0.1
    found = {(one.name, one.property): one for one in failing_by_class(zoo.probe("quantitative", None, ["class"]))}
    trojan = found["poisoned", "trigger"]
    assert trojan.networks == 3 and trojan.no["trained"] == 1 and trojan.p["trained"][0] > 0.5
    assert 0 < found["clean", "l2 1.5"].hardness["trained"][0] < 6


def test_the_same_question_has_the_same_answer_and_the_mode_is_a_choice(zoo, tmp_path):
    where = "class = 'clean' and seed = 0"
    once, again = (asked(zoo, tmp_path / name, where, QUICK).drop_columns(["seconds"]) for name in "ab")
    assert repr(once.to_pylist()) == repr(again.to_pylist())  # of nan, too
    for mode in ("adaptive", "fixed"):
        changed = dataclasses.replace(QUICK, mode=mode, hardness_theta=0.0, mixed=False, samples_max=1_000_000)
        rows = asked(zoo, tmp_path, where, changed).to_pylist()
        assert {row["mode"] for row in rows} == {mode} and {row["weights"] for row in rows} == {"trained", "initial"}
        assert all(np.isnan(row["hardness_low"]) and row["answer"] != "undecided" for row in rows)
    with pytest.raises(UsageError, match="sequential, adaptive, fixed"):
        asked(zoo, tmp_path, where, dataclasses.replace(QUICK, mode="guess"))
    with pytest.raises(UsageError, match="no bound here"):
        asked(zoo, tmp_path, where, dataclasses.replace(QUICK, mode="fixed", theta=0.01, eta=0.1))
    with pytest.raises(UsageError, match="theta 2"):
        asked(zoo, tmp_path, where, dataclasses.replace(QUICK, theta=2.0))


def test_pins_are_asked_of_machines_only(zoo, tmp_path):
    rows = asked(zoo, tmp_path, "class = 'pins'", QUICK).to_pylist()
    assert {row["property"] for row in rows} == {"pin", "sequence"} and {row["input"] for row in rows} == {-1}
    pin = {row["weights"]: row["p"] for row in rows if row["property"] == "pin" and not row["radius"]}
    assert pin["trained"] < 0.5 + 0.1 and pin["initial"] > 0.2


def test_what_was_learnt_is_known_and_nulls_are_not(zoo, tmp_path):
    asked(zoo, tmp_path, "class like 'pair%'", BRIEF)
    rows = zoo.probe("information", None, ["class"])
    found = {(one.name, one.kind): one for one in known_by_class(rows)}
    assert {kind for _, kind in found} == {"own", "mixed", "initial", "transfer", "forgetting"}
    for name in ("pair-38", "pair-49"):
        own = found[name, "own"]
        assert own.networks == 3 and own.examples == 250 and own.uniform == 100
        assert own.bits["net_bits"][1] > 0 and own.bits["static_bits"][1] > 60
        assert (
            own.bits["static_control_bits"][0] < 10 and own.bits["area_bits"][1] > 0 > own.bits["area_control_bits"][2]
        )
        for null in ("mixed", "initial"):
            assert abs(found[name, null].bits["net_bits"][0]) < own.bits["net_bits"][0]
        forgot = found[name, "forgetting"].bits
        assert forgot["bits"][0] < forgot["before_bits"][0]
        assert found[name, "transfer"].bits["static_bits"][0] == pytest.approx(0, abs=1e-6)  # its head is zeros
    told = rows.to_pylist()
    assert {(row["task"], row["other"]) for row in told if row["kind"] == "transfer"} == {
        ("pair-38", "pair-49"), ("pair-49", "pair-38")
    }  # fmt: skip
    assert all(row["bits"] <= row["reference_bits"] for row in told)


@pytest.mark.parametrize(
    ("study", "where", "settings"),
    [
        (Quantified(), "class in ('clean', 'poisoned', 'pins')", QUICK),
        (Informed(), "class like 'pair%'", dataclasses.replace(BRIEF, curve=(40,))),
    ],
    ids=["quantitative", "information"],
)
def test_every_number_of_the_section_comes_from_the_call_beside_it(zoo, tmp_path, study, where, settings):
    asked(zoo, tmp_path, where, settings)
    table = zoo.table(where)
    whole = Selection(zoo=zoo, where=where, table=table, permutations=300)
    section = section_of(study, whole)
    assert not section.missing and section.verdict and section.control and section.picture.startswith("<?xml")
    assert all(len(row) == len(section.head) for row in section.rows) and len(section.rows) >= 8
    names: dict = {"zoo": zoo, "table": table}
    *lines, last = section.code.splitlines()
    exec("\n".join(lines), names)
    found = study.table(eval(last, names)).rows
    assert found == section.rows and sum(len(cell.numbers) for row in found for cell in row) > 60
    assert f"--probe {study.probe}" in section.note and "--set" in section.note


def test_another_task_is_more_than_a_controlled_change():
    assert not is_another_task(CLEAN, POISONED) and not is_another_task(CLEAN, PAIRS[0])
    assert is_another_task(*PAIRS) and not is_another_task(PAIRS[0], PAIRS[0])


def test_both_are_listed():
    assert isinstance(probe_named("quantitative"), Quantitative) and isinstance(probe_named("information"), Information)
