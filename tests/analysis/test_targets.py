"""A CNN population with drawn hyper-parameters, trained here: what its weights tell, and what the controls do not."""

from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from support.populations import publish, recipe_of
from support.zoos import network

from analysis import open_zoo
from analysis.methods import cohorts, probing, properties, targets
from analysis.statistics import splits
from analysis.weights import symmetry
from analysis.weights.modules import network_module
from protocol.engine.initial import initial_state
from protocol.errors import UsageError
from protocol.recipes.campaign import Campaign, Population, load_campaign
from protocol.recipes.layers import Gru, Linear, Relu
from protocol.recipes.recipe import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
FLAT = (Linear(width=8), Relu(), Linear(width=20))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> cohorts.Cohort:
    """A fifth of the shipped campaign's draws."""
    text = (RECIPES / "zoo-cnn-campaign.toml").read_text()
    assert text.count("count = 300") == 1
    path = tmp_path_factory.mktemp("campaign") / "campaign.toml"
    path.write_text(text.replace("count = 300", "count = 60"))
    path.with_name("zoo-cnn.toml").write_text((RECIPES / "zoo-cnn.toml").read_text())
    return cohorts.train(load_campaign(path))


@pytest.mark.slow
def test_accuracy_and_loss_are_read_from_the_statistics_of_the_weights(cohort):
    found = targets.read_numbers(cohort, ["accuracy", "loss"])
    for told in found.values():
        assert told.trained.tau_low > 0.65 and told.trained.r2_low > 0.7
        assert abs(told.trained.shuffled_tau) < 0.2 and told.initial.tau < 0.4
        assert told.trained.groups == len(cohort.rows) == 180
    assert targets.as_lines(found)[0].startswith("accuracy: tau 0.")


@pytest.mark.slow
def test_how_it_was_initialized_and_trained_is_read_too(cohort):
    rate = targets.read_numbers(cohort, ["training.learning_rate"])["training.learning_rate"]
    assert rate.trained.tau_low > 0.5 and abs(rate.initial.tau) < 0.25
    trained, initial = targets.read_category(cohort, "network.init")
    assert trained.low > 0.5 and initial.accuracy > 0.95  # an init does show in initial weights
    domains, tau_KK = targets.read_across(cohort, "loss", "network.init")
    assert domains == ["he", "orthogonal", "xavier"] and tau_KK.min() > 0.4
    assert cohort.column("network.layers.7.rate").max() < 0.5
    with pytest.raises(UsageError, match="no column 'dropout'"):
        cohort.column("dropout")


@pytest.mark.slow
def test_the_step_of_a_snapshot_is_read():
    recipe = recipe_of("parity", FLAT, segment_steps=25, max_steps=200, stop_held_out_loss=0.0)
    found = targets.read_step(recipe, range(15))
    assert found.tau_low > 0.6 and found.groups == 15 and len(found.predicted_N) == 15 * 8


@pytest.mark.slow
def test_learnt_probes_read_accuracy_and_shuffled_ones_do_not(cohort):
    group_N = splits.groups(cohort.column("recipe").tolist())
    reader = probing.reader(cohort.recipe, probing.Settings(probes=6, epochs=10))
    found = properties.predict(cohort.weights_NP, cohort.column("accuracy"), group_N, reader)
    assert found.tau_low > 0.45 and abs(found.shuffled_tau) < 0.2


def trained_here(machines, seeds) -> cohorts.Cohort:
    recipes = [recipe_of(machine.lower(), FLAT, stop_held_out_loss=0.0) for machine in machines]
    recipes = [replace(r, task=replace(r.task, machine=m)) for r, m in zip(recipes, machines, strict=True)]
    several = tuple(Population(recipe=recipe, count=seeds) for recipe in recipes)
    return cohorts.train(Campaign(name="here", populations=several))


@pytest.mark.slow
def test_learnt_probes_read_the_class():
    different = trained_here(["SingleDirectMachine", "SingleInvertMachine"], 30)
    labels, seeds = different.column("class").tolist(), different.column("seed").astype(int)
    settings = probing.Settings(probes=8, epochs=20)
    found = probing.class_accuracy(different.recipe, different.weights_NP, labels, seeds, settings)
    assert found.low > 0.6 and found.shuffled_mean < 0.75 and found.total == 60
    before = probing.class_accuracy(different.recipe, different.initial_NP, labels, seeds, settings, shuffles=0)
    assert before.low < 0.5


@pytest.mark.parametrize("layers", [FLAT, (Gru(width=4), *FLAT)])
def test_symmetric_copies_give_the_same_answers(layers):
    recipe, rng = recipe_of("parity", layers), np.random.default_rng(1)
    weights_NP = np.stack([initial_state(recipe, seed).params for seed in range(6)])
    spec = symmetry.symmetry_spec(recipe)
    copies_NP = symmetry.apply_change(spec, weights_NP.astype(np.float64), symmetry.random_change(spec, 6, rng))
    torch.manual_seed(0)
    prober = probing.Prober(recipe, (5, 9), 2, probing.Settings(probes=4))
    asked, again = probing.asked(prober, weights_NP), probing.asked(prober, copies_NP)
    assert not np.allclose(weights_NP, copies_NP) and asked == pytest.approx(again, abs=1e-4)
    with torch.no_grad():
        one = network_module(recipe, weights_NP[2])(prober.probes()).flatten()
        told = prober.answers(torch.tensor(weights_NP))[2]
    assert told.sign() * told.abs().expm1() == pytest.approx(one, abs=1e-5)


@pytest.mark.slow
def test_a_reader_is_the_same_every_time_and_leaves_chance_alone():
    recipe, rng = recipe_of("parity", FLAT), np.random.default_rng(2)
    weights_NP, target_N = rng.normal(size=(30, recipe.parameter_count)), rng.normal(size=30)
    reader = probing.reader(recipe, probing.Settings(probes=2, epochs=2))
    state = torch.random.get_rng_state()
    first = reader(weights_NP, target_N, weights_NP)
    assert torch.equal(state, torch.random.get_rng_state())
    torch.manual_seed(3)
    assert np.array_equal(first, reader(weights_NP, target_N, weights_NP))


def test_a_population_trained_here_is_the_zoos_bit_for_bit(tmp_path):
    here = trained_here(["SimpleXORMachine"], 3)
    rows = [network(here.recipe, seed)[0] for seed in range(3)]
    path = publish(tmp_path / "zoo", list(zip(rows, here.weights_NP, strict=True)), [here.recipe])
    there = cohorts.read(open_zoo(path), "class = 'simplexormachine'")
    assert np.array_equal(here.weights_NP, there.weights_NP) and np.array_equal(here.initial_NP, there.initial_NP)
    for name in ("recipe", "seed", "loss", "accuracy", "training.learning_rate"):
        assert np.array_equal(here.column(name), there.column(name))
    with pytest.raises(UsageError, match="no network"):
        cohorts.read(open_zoo(path), "class = 'other'")


def test_twins_whose_order_alone_varies_share_their_start_and_nothing_else():
    """The trojans campaign's shared start, as any zoo can hold it."""
    drawn = load_campaign(RECIPES / "trojans-campaign.toml").recipes.values()
    shared = [recipe for recipe in drawn if recipe.label.startswith("shared")]
    assert len({initial_state(recipe, seed).params_digest for recipe in shared for seed in (0, 99)}) == 1
    others = [recipe for recipe in drawn if not recipe.label.startswith("shared")]
    assert len({initial_state(recipe, seed).params_digest for recipe in others for seed in (0, 99)}) == 2 * len(others)


def test_a_cohort_has_one_shape():
    two = (load_recipe(RECIPES / "ffl-mlp.toml"), load_recipe(RECIPES / "regression-wave.toml"))
    campaign = Campaign(name="here", populations=tuple(Population(recipe=recipe, count=1) for recipe in two))
    with pytest.raises(UsageError, match="one shape"):
        cohorts.train(campaign)
