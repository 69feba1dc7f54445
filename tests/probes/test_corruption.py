"""The worst change of the weights: the closed form, the search, and what is found where the answer is known."""

import math

import numpy as np
import pytest
import torch
from support.trained import recipe_of, trained

from analysis.probes.contract import Inputs, Unit
from analysis.probes.corruption.ascent import halving_radius
from analysis.probes.corruption.directions import at_random, dual, first_order_gain, norm, projected, worst
from analysis.probes.corruption.probe import Corruption, CorruptionSettings
from analysis.probes.samples import held_out

NORMS = [1.0, 1.5, 2.0, 3.0, math.inf]
EPS = 0.3


def gradient(count=60, seed=0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=count))


@pytest.mark.parametrize("p", NORMS)
@pytest.mark.parametrize("k", [1, 7, 60])
def test_the_closed_form_has_its_norm_its_entries_and_its_value(p, k):
    g = gradient()
    a = worst(g, EPS, p, k)
    assert norm(a, p) == pytest.approx(EPS, rel=1e-14)
    assert int((a != 0).sum()) == (1 if p == 1 else k)
    assert float(a @ g) == pytest.approx(first_order_gain(g, EPS, p, k), rel=1e-14)


@pytest.mark.parametrize("p", NORMS)
@pytest.mark.parametrize("k", [1, 7, 60])
def test_no_feasible_point_gains_more_to_first_order(p, k):
    g, rng = gradient(), np.random.default_rng(1)
    best = float(worst(g, EPS, p, k) @ g)
    points = torch.stack([at_random(rng, np.arange(60), 60, EPS, p, k) for _ in range(20_000)])
    assert torch.linalg.vector_norm(points, p, dim=1).max() <= EPS * (1 + 1e-12)
    assert int((points != 0).sum(1).max()) <= k
    assert float((points @ g).max()) <= best * (1 + 1e-12)


def test_a_gradient_of_any_size_gives_the_same_change_and_none_gives_none():
    g = gradient()
    for scale in (1e-200, 1e200):
        assert torch.allclose(worst(scale * g, EPS, 1.5, 7), worst(g, EPS, 1.5, 7), rtol=1e-12)
    assert not worst(torch.zeros(5, dtype=torch.float64), EPS, 2.0, 3).any()


@pytest.mark.parametrize("p", NORMS)
def test_projection_is_inside_and_leaves_what_is_inside(p):
    change = gradient(seed=2)
    inside = projected(change, EPS, p, 7)
    assert norm(inside, p) <= EPS * (1 + 1e-12) and int((inside != 0).sum()) <= 7
    assert torch.equal(projected(inside, EPS * (1 + 1e-9), p, 7), inside)
    assert 1 / p + 1 / dual(p) == pytest.approx(1)


def test_the_halving_radius_is_where_the_score_is_halved():
    def score_at(rho):
        return 0.9 if rho < 0.02 else 0.1

    found = halving_radius(score_at, {0.01: 0.9, 0.1: 0.1}, 0.9, 0.1, 12)
    assert 0.02 <= found <= 0.02 * 1.001
    assert 0.02 <= halving_radius(score_at, {}, 0.9, 0.1, 20) <= 0.02 * 1.001
    assert halving_radius(lambda rho: 0.9, {}, 0.9, 0.1, 5) == math.inf


def inputs_of(recipe, params, seed=0) -> Inputs:
    unit = Unit(networks=("n",), digests=("d",))
    return Inputs(unit=unit, recipes=(recipe,), seeds=(seed,), weights=(params,))


@pytest.fixture(scope="module")
def digits():
    recipe = recipe_of("digits-mlp.toml", training={"max_steps": 1000})
    return recipe, trained(recipe, range(3))


@pytest.mark.slow
def test_on_digits_many_steps_do_no_less_than_one_and_far_more_than_the_best_of_100_random(digits):
    recipe, params = digits
    for seed, weights in enumerate(params):
        settings = CorruptionSettings(layer_radii=(), radii=(0.01, 0.03))
        rows = Corruption().rows(inputs_of(recipe, weights, seed), settings)
        for row in rows:
            assert row["multi_step"] >= row["one_step"]
            if row["weights"] == "trained":
                assert row["one_step"] > 10 * row["random_max"] > 0
                assert row["one_step"] > row["first_order"]  # curvature: the loss is not linear
        assert rows[0]["score"] > 0.9
        assert 0.01 < rows[0]["halving"] < 0.1


def test_rows_are_the_same_when_they_are_computed_again(digits):
    recipe, params = digits
    settings = CorruptionSettings(radii=(0.03,), trials=2, steps=2, samples=20)
    first, second = (Corruption().rows(inputs_of(recipe, params[0]), settings) for _ in range(2))
    assert [sorted(row.items()) for row in first] == [sorted(row.items()) for row in second]
    assert [row["layer"] for row in first] == ["all", "1", "3", "5", "all"]


def test_a_network_that_was_never_trained_has_nothing_to_halve_and_loses_little(digits):
    """The null: the same rows of initial weights, as if they were trained ones."""
    recipe, params = digits
    settings = CorruptionSettings(radii=(0.01,), layer_radii=(), trials=20)
    begun = Inputs.initial(inputs_of(recipe, params[0]))
    null, learnt = (Corruption().rows(inputs_of(recipe, weights), settings)[0] for weights in (begun, params[0]))
    assert math.isnan(null["halving"]) and not math.isnan(learnt["halving"])
    assert null["multi_step"] < 0.2 * learnt["multi_step"]


def test_a_planted_direction_is_found():
    """One steep weight among flat ones: the loss is that of one output, which one weight alone can move."""
    recipe = recipe_of("regression-wave.toml", training={"max_steps": 1})
    weights = np.zeros(recipe.parameter_count, np.float32)  # nothing but the last bias reaches the output
    settings = CorruptionSettings(radii=(0.1,), layer_radii=(), trials=100, steps=5)
    weights[-1] = 1.0
    row = Corruption().rows(inputs_of(recipe, weights), settings)[0]
    assert row["eps"] == pytest.approx(0.1)
    # The output is the bias b, the loss its mean square distance from the targets: it rises by 2 b' eps + eps^2.
    targets = held_out(recipe, inputs_of(recipe, weights).data(), settings.samples).targets
    slope = 2 * (1.0 - float(targets.mean()))
    assert row["first_order"] == pytest.approx(slope * 0.1)
    assert row["one_step"] == pytest.approx(slope * 0.1 + 0.01)
    assert row["multi_step"] == pytest.approx(row["one_step"])
    assert row["random_max"] < 0.5 * row["one_step"]


def test_a_layers_change_moves_that_layer_alone(digits):
    recipe, params = digits
    settings = CorruptionSettings(radii=(0.03,), layer_radii=(0.03,), trials=2, steps=2, samples=20)
    for row in Corruption().rows(inputs_of(recipe, params[0]), settings):
        if row["layer"] != "all":
            spans = [span for span in recipe.spans if str(span.layer) == row["layer"]]
            assert row["k"] == sum(span.end - span.begin for span in spans)
            own = np.concatenate([params[0][span.begin : span.end] for span in spans]).astype(np.float64)
            assert row["eps"] == pytest.approx(0.03 * np.linalg.norm(own))
