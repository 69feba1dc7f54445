"""What the verification probe says where the answer is known: nulls stay null, planted truths are found."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from probes.verification.small_networks import EVERY, RELU, linear, random_params, recipe_of, shifted
from support.populations import publish
from support.trained import recipe_of as recipe_file
from support.trained import trained
from support.zoos import network

from analysis import open_zoo
from analysis.probes.contract import Inputs, Unit
from analysis.probes.run import probe
from analysis.probes.samples import middle
from analysis.probes.verification import radius as radius_module
from analysis.probes.verification.network.build import chain_of
from analysis.probes.verification.probe import (
    PIXEL,
    Around,
    Verification,
    VerificationSettings,
    answered_rightly,
    radius_rows,
)
from analysis.probes.verification.question import forward_of
from analysis.probes.verification.radius import Asked, own_answer, radii
from analysis.probes.verification.summary import by_class
from analysis.probes.verification.verify import Effort
from analysis.report.page import section_of
from analysis.report.selection import Selection
from analysis.report.studies.probes.verification import Certified
from protocol.errors import UsageError
from protocol.recipes.recipe import load_recipe
from protocol.tasks.datasets import Shelf

RECIPES = Path(__file__).parents[3] / "recipes"
LINES = Effort(alpha_steps=0)


def asked_of(recipe, params, points, kind="classes", tolerance=0.0):
    forward = forward_of(recipe, params)
    rows = tuple(own_answer(kind, outputs, tolerance) for outputs in forward(points))
    return Asked(chain=chain_of(recipe, params), forward=forward, points_Sn=points, rows=rows, least=0.0, most=1.0)


def test_of_a_linear_network_both_radii_are_the_known_distance():
    """Planted truth: two outputs a and b change places where the inputs move by (a - b) / |w_a - w_b|_1 each."""
    rng = np.random.default_rng(5)
    recipe = recipe_of([linear(2)], [6], 2)
    weight = rng.normal(size=(2, 6)).astype(np.float32)
    params = recipe.join({"0.weight": weight, "0.bias": np.zeros(2, np.float32)})
    points = rng.uniform(0.4, 0.6, (20, 6))
    difference = np.float64(weight[0]) - np.float64(weight[1])
    distance = np.abs(points @ difference) / np.abs(difference).sum()
    assert distance.max() < 0.4  # the range's ends are never met
    found = radii(asked_of(recipe, params, points), LINES, cap=0.5, steps=14, rng=rng)
    step = 0.5 / 2**13
    assert (found.certified_S <= distance).all() and (distance - found.certified_S < step).all()
    assert (found.attack_S >= distance).all() and (found.attack_S - distance < 2 * step).all()


def test_an_answer_that_never_changes_is_certified_to_the_cap_and_never_attacked():
    """Planted null: all weights 0, so that the biases alone answer."""
    recipe = recipe_of(*EVERY["mlp"])
    params = shifted(recipe, np.zeros(recipe.parameter_count, np.float32), 1, 1.0)
    points = np.random.default_rng(0).random((5, 5))
    found = radii(asked_of(recipe, params, points), LINES, cap=0.5, steps=6, rng=np.random.default_rng(0))
    assert (found.certified_S == 0.5 - 0.5 / 64).all() and np.isinf(found.attack_S).all()


def test_an_attack_within_a_certified_radius_is_our_mistake(monkeypatch):
    monkeypatch.setattr(radius_module, "proven", lambda asked, effort, radii_S: np.ones(len(radii_S), bool))
    recipe = recipe_of(*EVERY["mlp"])
    asked = asked_of(recipe, random_params(recipe, np.random.default_rng(1)), np.full((3, 5), 0.5))
    with pytest.raises(AssertionError, match="succeed within certified radii"):
        radii(asked, LINES, cap=0.9, steps=8, rng=np.random.default_rng(0))


@pytest.mark.parametrize("kind", ["classes", "pins", "values"])
def test_each_kind_of_answer_holds_at_its_own_point_alone(kind):
    outputs = np.array([0.5, -1.0, 2.0])
    rows, offsets = own_answer(kind, outputs, 0.1)
    changed = {"classes": [3.0, -1.0, 2.0], "pins": [0.5, 0.1, 2.0], "values": [0.5, -1.0, 2.11]}[kind]
    assert (rows @ outputs + offsets).min() > 0 >= (rows @ np.array(changed) + offsets).min()


def test_pins_that_are_fitted_to_0_and_1_change_in_the_middle():
    outputs = np.array([0.1, 0.9, 0.4])  # as of a machine
    rows, offsets = own_answer("pins", outputs, 0.0, 0.5)
    assert rows @ outputs + offsets == pytest.approx([0.4, 0.4, 0.1])
    assert (rows @ np.array([0.1, 0.9, 0.51]) + offsets).min() < 0
    machine = load_recipe(RECIPES / "ds1-singledirect.toml")
    right = answered_rightly(machine, np.array([[0.1, 0.9], [0.1, 0.4], [0.6, 0.9]]), np.array([[0.0, 1.0]] * 3), 0.0)
    assert middle(machine) == 0.5 and right.tolist() == [True, False, False]


def test_accuracies_are_in_their_order_and_shares_add_up():
    recipe = recipe_of(*EVERY["maxpool"])
    rng = np.random.default_rng(2)
    points, settings = rng.random((6, 36)), VerificationSettings(bisections=5, parts=8, alpha_steps=2, attack_steps=8)
    params = random_params(recipe, rng)
    targets = forward_of(recipe, params)(points).argmax(1)
    targets[0] = (targets[0] + 1) % 3  # one wrong answer
    around = Around(points_Sn=points, targets_S=targets[:, None], least=0.0, most=1.0, deviation=1.0)
    rows = radius_rows(recipe, params, around, settings, np.random.default_rng(0))
    assert [row["eps"] for row in rows] == [eps * PIXEL for eps in settings.eps]
    for row in rows:
        assert row["accuracy"] == pytest.approx(5 / 6)
        assert row["verified"] + row["falsified"] + row["unknown"] == pytest.approx(1)
        assert row["verified_accuracy"] <= row["attack_accuracy"] <= row["accuracy"]
        assert row["gap"] >= 0 and 0 <= row["unstable"] <= 1
    for name in ("verified", "verified_accuracy", "attack_accuracy"):
        assert sorted((row[name] for row in rows), reverse=True) == [row[name] for row in rows]
    assert rows[0]["radius"] <= rows[0]["attack_radius"]


def test_a_chain_that_is_too_long_is_refused_with_its_length():
    recipe = recipe_of(*EVERY["gru"])
    around = Around(points_Sn=np.full((2, 6), 0.5), targets_S=np.zeros((2, 1)), least=0.0, most=1.0, deviation=1.0)
    with pytest.raises(UsageError, match=r"a chain of \d+ blocks; blocks_max is 3"):
        radius_rows(
            recipe,
            random_params(recipe, np.random.default_rng(0)),
            around,
            VerificationSettings(blocks_max=3),
            np.random.default_rng(0),
        )


def test_a_long_chain_is_asked_around_fewer_samples_and_at_the_radii_alone():
    recipe = recipe_of(*EVERY["gru"])
    rng = np.random.default_rng(3)
    params = random_params(recipe, rng)
    points = rng.random((4, 6))
    targets = forward_of(recipe, params)(points).argmax(1)[:, None]
    around = Around(points_Sn=points, targets_S=targets, least=0.0, most=1.0, deviation=1.0)
    settings = VerificationSettings(bisections=5, long_blocks=5, long_samples=2, alpha_steps=2, parts=8)
    rows = radius_rows(recipe, params, around, settings, np.random.default_rng(0))
    assert {row["samples"] for row in rows} == {2} and rows[0]["accuracy"] == 1
    radii_of = [0.0, *(eps * PIXEL for eps in settings.eps)]
    assert any(rows[0]["radius"] == pytest.approx((a + b) / 2) for a in radii_of for b in radii_of)
    assert 0 < rows[0]["radius"] < rows[0]["attack_radius"]
    whole = radius_rows(recipe, params, around.first(2), replace(settings, long_blocks=100), np.random.default_rng(0))
    for row, other in zip(rows, whole, strict=True):
        assert row["verified"] <= other["verified"] and row["verified"] + row["falsified"] + row["unknown"] == 1
        assert row["gap"] == pytest.approx(other["gap"], abs=1e-2)


def test_right_is_every_target_of_a_sample():
    recipe = recipe_of([linear(4), RELU, linear(2)], [3], 2)
    outputs = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert answered_rightly(recipe, outputs, np.array([[0], [0]]), 0.0).tolist() == [True, False]


@pytest.mark.slow
def test_rows_of_trained_digits_are_the_same_when_computed_again_and_beat_no_attack():
    recipe = recipe_file("digits-mlp.toml", training={"max_steps": 600})
    (params,) = trained(recipe, [0])
    unit = Unit(networks=("n",), digests=("d",))
    inputs = Inputs(unit=unit, recipes=(recipe,), seeds=(0,), weights=(params,))
    settings = VerificationSettings(samples=4, eps=(1.0, 8.0))
    first, second = (Verification().rows(inputs, settings) for _ in range(2))
    assert [sorted(row.items()) for row in first] == [sorted(row.items()) for row in second]
    assert [row["weights"] for row in first] == ["trained", "trained", "initial", "initial"]
    assert first[0]["accuracy"] >= 0.75 and 0.005 < first[0]["radius"] < first[0]["attack_radius"]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """Pairs of digits by one hidden layer, and a short wave."""
    pair = recipe_file("ffl-mlp.toml", "pair", {"max_steps": 200})
    wave = recipe_file("regression-wave.toml", "wave", {"max_steps": 50}, samples=64, held_out=32)
    networks = []
    for recipe, seeds in ((pair, range(3)), (wave, range(2))):
        networks += [(network(recipe, seed)[0], w) for seed, w in zip(seeds, trained(recipe, seeds), strict=True)]
    folder = tmp_path_factory.mktemp("verified")
    data = {name: Shelf(folder).ensure(name) for name in [pair.data_set] if name}
    return open_zoo(publish(folder / "zoo", networks, [pair, wave], data))


def test_a_class_and_its_section_say_what_the_rows_say(zoo, tmp_path):
    settings = VerificationSettings(samples=4, eps=(1.0, 4.0), bisections=6, alpha_steps=2, attack_steps=8, restarts=2)
    rows = probe(zoo, None, settings, kept=tmp_path, processes=1)
    assert len(rows) == 5 * 2 * 2  # networks, with and without training, eps
    table = zoo.probe("verification", None, ["class"])
    pair, wave = by_class(table, 4 * PIXEL)
    own = [row for row in table.to_pylist() if row["class"] == "pair" and row["weights"] == "trained"]
    radii_of = sorted({row["network"]: row["radius"] for row in own}.values())
    assert (pair.networks, wave.networks) == (3, 2) and pair.radius == (radii_of[1], radii_of[0], radii_of[2])
    assert pair.accuracy[0] > 0.7 and pair.radius[0] <= pair.attack_radius[0]
    assert np.isnan(wave.unstable[0]) and 0 <= pair.unstable[0] < 0.5  # tanh does not bend
    with pytest.raises(UsageError, match="no rows with eps"):
        by_class(table, 0.5)
    selection = Selection(zoo=zoo, where="true", table=zoo.table(), permutations=300)
    study = Certified()
    section = section_of(study, selection)
    assert not section.missing and len(section.rows) == 2 and section.picture.startswith("<?xml")
    names = {"zoo": zoo, "table": zoo.table()}
    *lines, last = section.code.splitlines()
    exec("\n".join(lines), names)
    assert study.table(eval(last, names)).rows == section.rows
    assert "--probe verification --set" in section.note and "before training" in section.control
    assert section.verdict == study.words(by_class(table))
    firm, weak = (
        replace(pair, name=name, accuracy=(1.0,) * 3, verified_accuracy=(kept,) * 3)
        for name, kept in (("firm", 0.9), ("weak", 0.5))
    )
    assert "firm keeps 90% of its right answers for certain, weak 50% (of" in study.words([weak, firm])[1]
    assert (
        "each of 2 classes keeps 90% of its right answers for certain (of"
        in study.words([firm, replace(firm, name="other")])[1]
    )
    assert ", firm keeps 90% of its right answers for certain (of" in study.words([firm])[1]
