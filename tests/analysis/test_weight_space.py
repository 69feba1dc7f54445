"""Symmetric copies are recognized; nothing that leaves the function alone changes a verdict."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.populations import recipe_of

from analysis.weights import chains, features, forward, matching, similarity, symmetry
from protocol.engine.initial import initial_state
from protocol.engine.reference.engine import NumpyEngine
from protocol.engine.streams import task_data
from protocol.recipes.layers import Gru, Linear, Relu

ARCHITECTURES = {
    "gru": (Gru(width=5), Gru(width=4), Linear(width=6), Relu(), Linear(width=20)),
    "mlp": (Linear(width=8), Relu(), Linear(width=7), Relu(), Linear(width=20)),
    "affine": (Linear(width=5), Gru(width=4), Relu(), Linear(width=6), Linear(width=20)),
    "headless": (Linear(width=6), Relu(), Gru(width=20)),
}
architectures = pytest.mark.parametrize("layers", ARCHITECTURES.values(), ids=ARCHITECTURES)
seeds = st.integers(0, 2**32 - 1)


def random_networks(layers, n: int, seed: int):
    recipe = recipe_of("parity", layers)
    return recipe, np.random.default_rng(seed).normal(size=(n, recipe.parameter_count))


def test_quantiles_of_rows_are_those_of_numpy():
    rng = np.random.default_rng(0)
    for values in (1, 2, 3, 4, 5, 20, 101):
        flat_NV = rng.standard_normal((6, values))
        flat_NV[1, 0], flat_NV[2, -1] = np.nan, np.inf
        with np.errstate(invalid="ignore"):
            expected = np.quantile(flat_NV, features.QUANTILES, axis=1).T
            assert np.array_equal(features.row_quantiles(flat_NV), expected, equal_nan=True)


# --- symmetry --------------------------------------------------------------------------------------------------------


@architectures
@given(seed=seeds)
@settings(max_examples=10, deadline=None)
def test_a_symmetry_changes_the_weights_and_not_the_function(layers, seed):
    recipe, weights_NP = random_networks(layers, 3, seed)
    spec = symmetry.symmetry_spec(recipe)
    changed_NP = symmetry.apply_change(spec, weights_NP, symmetry.random_change(spec, 3, np.random.default_rng(seed)))
    commands = task_data(recipe).held_out_inputs
    before, after, tidy = (
        forward.outputs(recipe, w, commands) for w in (weights_NP, changed_NP, symmetry.canonical(recipe, weights_NP))
    )
    assert np.abs(weights_NP - changed_NP).max() > 0.1
    assert after == pytest.approx(before, abs=1e-9 * np.abs(before).max())
    assert tidy == pytest.approx(before, abs=1e-9 * np.abs(before).max())


@architectures
@given(seed=seeds)
@settings(max_examples=10, deadline=None)
def test_symmetric_copies_have_one_canonical_form(layers, seed):
    recipe, weights_NP = random_networks(layers, 4, seed)
    spec = symmetry.symmetry_spec(recipe)
    changed_NP = symmetry.apply_change(spec, weights_NP, symmetry.random_change(spec, 4, np.random.default_rng(seed)))
    expected_NP = symmetry.canonical(recipe, weights_NP)
    assert symmetry.canonical(recipe, changed_NP) == pytest.approx(expected_NP, abs=1e-9)
    assert symmetry.canonical(recipe, expected_NP) == pytest.approx(expected_NP, abs=1e-9)


def test_dead_units_have_a_canonical_form_too():
    recipe, weights_NP = random_networks(ARCHITECTURES["mlp"], 1, 0)
    assert np.isfinite(symmetry.canonical(recipe, weights_NP * 0)).all()


@architectures
def test_the_float64_forward_pass_is_that_of_the_exact_engine(layers):
    recipe = recipe_of("parity", layers)
    weights_KP = np.stack([initial_state(recipe, seed).params for seed in range(3)])
    exact = NumpyEngine().held_out_loss(recipe, task_data(recipe), list(weights_KP))
    assert forward.held_out_losses(recipe, weights_KP, task_data(recipe), block=2) == pytest.approx(exact, rel=1e-5)


# --- matching --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_planted_signed_permutations_are_recovered(noise):
    recipe = recipe_of("parity", (Gru(width=16), Gru(width=16), Linear(width=12), Relu(), Linear(width=20)))
    rng = np.random.default_rng(8)
    spec = symmetry.symmetry_spec(recipe)
    for _ in range(5):
        a_P = rng.normal(size=recipe.parameter_count)
        planted = symmetry.random_change(spec, 1, rng, scales=False)
        b_P = symmetry.apply_change(spec, (a_P + noise * rng.normal(size=len(a_P)))[None], planted)[0]
        found = matching.match(recipe, a_P, b_P)
        for order_NH, undo_NH, factor_NH, sign_NH in zip(
            planted.order_NH, found.change.order_NH, planted.factor_NH, found.change.factor_NH, strict=True
        ):
            assert (order_NH[0][undo_NH[0]] == np.arange(order_NH.shape[1])).all()
            assert (factor_NH[0][undo_NH[0]] == sign_NH[0]).all()
        if not noise:
            assert found.weights_P == pytest.approx(a_P, abs=1e-12)


def test_without_signs_a_recurrent_layer_is_not_recovered():
    recipe, weights_NP = random_networks(ARCHITECTURES["gru"], 1, 3)
    spec = symmetry.symmetry_spec(recipe)
    planted = symmetry.random_change(spec, 1, np.random.default_rng(3), scales=False)
    b_P = symmetry.apply_change(spec, weights_NP, planted)[0]
    a_P = weights_NP[0]
    signed, unsigned = (matching.match(recipe, a_P, b_P, signed=s).similarity for s in (True, False))
    assert signed == pytest.approx(a_P @ a_P) and unsigned < 0.8 * signed


@architectures
def test_matching_keeps_the_function_and_never_loses_similarity_to_restarts(layers):
    recipe, weights_NP = random_networks(layers, 2, 5)
    commands = task_data(recipe).held_out_inputs
    found = matching.match(recipe, *weights_NP)
    before, after = (forward.outputs(recipe, w[None], commands) for w in (weights_NP[1], found.weights_P))
    assert after == pytest.approx(before, abs=1e-9)
    assert found.similarity > weights_NP[0] @ weights_NP[1]
    assert matching.match(recipe, *weights_NP, restarts=3).similarity >= found.similarity


# --- similarity ------------------------------------------------------------------------------------------------------


@architectures
@given(seed=seeds)
@settings(max_examples=5, deadline=None)
def test_chain_features_and_distances_do_not_see_a_symmetry(layers, seed):
    recipe, weights_NP = random_networks(layers, 5, seed)
    spec = symmetry.symmetry_spec(recipe)
    changed_NP = symmetry.apply_change(spec, weights_NP, symmetry.random_change(spec, 5, np.random.default_rng(seed)))
    features_NF = chains.chain_features(recipe, weights_NP)
    assert chains.chain_features(recipe, changed_NP) == pytest.approx(features_NF, rel=1e-6, abs=1e-9)
    before, after = (similarity.euclidean(symmetry.canonical(recipe, w)) for w in (weights_NP, changed_NP))
    assert after == pytest.approx(before, rel=1e-6)
    for depth in (1, 2, None):
        before, after = (chains.chain_similarity(chains.chains(recipe, w, depth)) for w in (weights_NP, changed_NP))
        assert after == pytest.approx(before, abs=1e-9)


def test_the_coded_chain_forgets_numbering_but_not_scale():
    recipe, weights_NP = random_networks(ARCHITECTURES["mlp"], 3, 1)
    spec, rng = symmetry.symmetry_spec(recipe), np.random.default_rng(1)
    coded = [chains.chain_features(recipe, weights_NP, kind="as_coded")]
    for scales in (False, True):
        changed_NP = symmetry.apply_change(spec, weights_NP, symmetry.random_change(spec, 3, rng, scales))
        coded.append(chains.chain_features(recipe, changed_NP, kind="as_coded"))
    assert coded[1] == pytest.approx(coded[0])
    assert np.abs(coded[2] - coded[0]).max() > 0.1 * np.abs(coded[0]).max()


def test_the_kernel_trick_gives_the_inner_products_of_the_features():
    rng = np.random.default_rng(2)
    for units, inputs in ((3, 40), (30, 4)):
        x, y = rng.normal(size=(4, units, inputs)), rng.normal(size=(5, units + 1, inputs))
        grams = [np.swapaxes(a, 1, 2) @ a for a in (x, y)]
        expected = np.einsum("nij,mij->nm", *grams)
        assert chains.chain_kernel([x], [y]) == pytest.approx(expected)


def test_representation_measures_know_a_rotation_and_an_unrelated_layer():
    rng = np.random.default_rng(3)
    x, noise = rng.normal(size=(200, 6)), rng.normal(size=(200, 6))
    turned = x @ np.linalg.qr(rng.normal(size=(6, 6)))[0] * 3 + 1
    assert similarity.cka(x, turned) == pytest.approx(1) and similarity.cka(x, noise) < 0.2
    assert similarity.procrustes(x, turned) < 1e-6 < 0.8 < similarity.procrustes(x, noise)
    assert similarity.distance_correlation(x, turned) == pytest.approx(1)
    assert similarity.distance_correlation(x, noise) < 0.4
    assert similarity.cka(x, x * 0) == 0 == similarity.distance_correlation(x, x * 0)


def test_a_barrier_between_symmetric_copies_disappears_by_matching():
    recipe = recipe_of("parity", ARCHITECTURES["gru"])
    a_P = initial_state(recipe, 0).params * 3.0
    spec = symmetry.symmetry_spec(recipe)
    b_P = symmetry.apply_change(spec, a_P[None], symmetry.random_change(spec, 1, np.random.default_rng(4), False))[0]
    found = similarity.barriers(recipe, np.stack([a_P, b_P])[None], task_data(recipe), points=7)
    assert found.matched_J == pytest.approx([0], abs=1e-9)
    assert np.ptp(found.naive_JL) > 1e-4
    assert similarity.rise(found.at_L, np.array([[1, 1, 1, 9, 1, 1, 1.0]])) == pytest.approx([8])
