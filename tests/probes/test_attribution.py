"""Integrated gradients and what their agreement says: exact where the answer is known, the note's finding on digits."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from support.trained import recipe_of, trained

pytest.importorskip("captum")

from analysis.probes.attribution.agreement import agreement
from analysis.probes.attribution.gradients import Answer, integrated_gradients
from analysis.probes.attribution.probe import Attribution, AttributionSettings
from analysis.probes.attribution.randomize import layers_with_weights, replaced
from analysis.probes.contract import Inputs, Unit
from analysis.statistics.ranks import spearman_interval, spearman_rows


def attributed(network: torch.nn.Module, x: np.ndarray, steps=50, of="logit", start=0.0):
    """Of class 1, x of shape (B, 1, F)."""
    inputs = torch.tensor(x)
    answer = Answer(network.double(), of)
    return integrated_gradients(
        answer, inputs, torch.full_like(inputs[:1], start), torch.ones(len(x), dtype=torch.int64), steps
    )


def test_a_linear_networks_attributions_are_its_weights_times_the_move():
    network = torch.nn.Linear(6, 3)
    x = np.random.default_rng(0).normal(size=(5, 1, 6))
    found = attributed(network, x, start=0.5)
    weights = network.weight.detach().numpy()
    assert found.values_BF.numpy() == pytest.approx((x[:, 0] - 0.5) * weights[1], abs=1e-6)
    assert found.error_B.max() < 1e-6 and set(found.steps_B.tolist()) == {50}


def test_attributions_add_up_to_the_rise_of_the_answer():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3))
    x = np.random.default_rng(1).normal(size=(20, 1, 6)) * 3
    found = attributed(network, x, of="probability")
    with torch.no_grad():
        answer = Answer(network, "probability")
        rise = (answer(torch.tensor(x)) - answer(torch.zeros(20, 1, 6).double()))[:, 1]
    off = (found.values_BF.sum(1) - rise).abs() / rise.abs()
    assert off.max() <= 0.01
    assert off.numpy() == pytest.approx(found.error_B.numpy(), abs=1e-9)


def test_steps_double_for_the_inputs_that_need_it_and_end():
    class Steep(torch.nn.Module):
        """Rises within a hundredth of the way, at another place for each input; or never where the input is 0."""

        def forward(self, x):
            level = torch.sigmoid(2000 * (x.sum(-1, keepdim=True) - 1 / 3)) * x.abs().amax(-1, keepdim=True)
            return torch.cat([-level, level], -1)

    found = attributed(Steep(), np.array([[[1.0]], [[0.0]], [[0.01]]]), steps=4)
    assert found.steps_B[0] > 4 and found.error_B[0] <= 0.01
    assert found.error_B[1] == 0.0 and found.values_BF[1] == 0.0


@pytest.mark.parametrize("least", [3, 5])
def test_rank_correlations_are_scipys(least):
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 4, (30, 8)).astype(float), rng.normal(size=(30, 8))
    used = rng.random((30, 8)) < 0.6
    found = spearman_rows(a, b, used, least)
    for i, value in enumerate(found):
        one, other = a[i, used[i]], b[i, used[i]]
        if used[i].sum() < least or len(set(one)) < 2:
            assert np.isnan(value)
        else:
            assert value == pytest.approx(spearmanr(one, other).statistic, abs=1e-12)
    assert spearman_rows(a, b) == pytest.approx([spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)])


def test_the_interval_of_a_rank_correlation_holds_it_and_is_narrow_where_groups_agree():
    rng = np.random.default_rng(3)
    a = rng.normal(size=200)
    value, low, high = spearman_interval(a, a + rng.normal(size=200), np.arange(200) // 2)
    assert low < value < high and low > 0.5 and high - low < 0.4
    assert spearman_interval(a, a, np.arange(200)) == pytest.approx((1.0, 1.0, 1.0))
    assert np.isnan(spearman_interval(a, np.zeros(200), np.arange(200))).all()
    lone_N = (np.arange(200) == 7).astype(float)  # without its block all tie: a number whose interval nobody knows
    value, low, high = spearman_interval(a, lone_N, np.arange(200))
    assert value == pytest.approx(spearmanr(a, lone_N).statistic) and np.isnan([low, high]).all()


def test_attributions_of_nothing_agree_without_signs_and_do_not_with_them():
    """A planted null: gradients that know nothing of each other, times the same input, half of it zero."""
    rng = np.random.default_rng(4)
    moved = rng.exponential(size=(400, 64)) * (rng.random((400, 64)) < 0.5)
    found = agreement(moved * rng.normal(size=(400, 64)), moved * rng.normal(size=(400, 64)), moved)
    assert abs(np.nanmean(found.signed_z)) < 0.03 and abs(np.nanmean(found.signed_all)) < 0.03
    assert np.nanmean(found.absolute_all) > 0.7
    assert np.nanmean(found.absolute_z) > 0.15  # without signs the common factor shows even there
    assert abs(np.nanmean(found.slope_z)) < 0.03


def test_attributions_of_the_same_thing_agree():
    rng = np.random.default_rng(5)
    moved = rng.exponential(size=(50, 64)) * (rng.random((50, 64)) < 0.5)
    one = moved * rng.normal(size=(50, 64))
    found = agreement(one, 2 * one, moved)
    assert all(np.allclose(values, 1.0) for values in found)


def test_too_few_pixels_say_nothing():
    moved = np.zeros((1, 64))
    moved[0, :9] = 1.0
    found = agreement(moved * np.arange(64), moved * np.arange(64), moved)
    assert np.isnan(found.signed_z[0]) and found.signed_all[0] == 1.0


def test_layers_are_replaced_and_no_others():
    recipe = recipe_of("digits-mlp.toml")
    trained_P, fresh_P = np.zeros(recipe.parameter_count, np.float32), np.ones(recipe.parameter_count, np.float32)
    assert layers_with_weights(recipe) == [5, 3, 1]
    found = recipe.split(replaced(recipe, trained_P, fresh_P, [5, 3]))
    assert {name: float(array.mean()) for name, array in found.items()} == {
        "1.weight": 0.0, "1.bias": 0.0, "3.weight": 1.0, "3.bias": 1.0, "5.weight": 1.0, "5.bias": 1.0
    }  # fmt: skip
    assert replaced(recipe, trained_P, fresh_P, layers_with_weights(recipe)).tolist() == fresh_P.tolist()


@pytest.mark.slow
def test_on_digits_the_notes_finding_holds():
    """Absolute attributions of all pixels agree with those of networks that know nothing; repaired ones do not."""
    recipe = recipe_of("digits-mlp.toml")
    seeds = list(range(8))
    weights = trained(recipe, seeds)
    settings = AttributionSettings(layers=False)
    fresh, second = [], []
    for seed in seeds:
        other = (seed + 1) % len(seeds)
        inputs = Inputs(
            unit=Unit(networks=(f"n{seed}", f"n{other}"), digests=("d", "e")),
            recipes=(recipe, recipe),
            seeds=(seed, other),
            weights=(weights[seed], weights[other]),
        )
        rows = {row["compared"]: row for row in Attribution().rows(inputs, settings)}
        fresh.append(rows["fresh"])
        second.append(rows["second"])
    means = {key: float(np.mean([row[key] for row in fresh])) for key in ("signed_z", "absolute_all")}
    print(means, np.mean([row["signed_z"] for row in second]))
    assert abs(means["signed_z"]) < 0.05
    assert means["absolute_all"] > 0.8
    assert np.mean([row["signed_z"] for row in second]) > 0.7
    assert all(row["defined"] == 1.0 for row in fresh)
