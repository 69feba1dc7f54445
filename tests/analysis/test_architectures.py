"""Every layer that a recipe may use has its symmetries, and the analyses see through them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.engines.engine_recipes import made

from analysis.methods import layer_tests, trojans
from analysis.statistics import splits
from analysis.weights import chains, features, forward, matching, similarity, symmetry
from analysis.weights.symmetry_rules import symmetry_spec
from protocol.engine.initial import initial_state
from protocol.engine.reference.engine import NumpyEngine
from protocol.engine.streams import task_data
from protocol.errors import UsageError
from protocol.recipes.layers import (
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool,
    GroupNorm,
    Gru,
    Last,
    Layer,
    LayerNorm,
    LeakyRelu,
    Linear,
    Lstm,
    MaxPool2d,
    Relu,
    Rnn,
    Sigmoid,
    Tanh,
)
from protocol.recipes.recipe import Recipe, load_recipe

FOLDER = Path(__file__).parents[2] / "recipes"
RECIPES = sorted(path for path in FOLDER.glob("*.toml") if "[[populations]]" not in path.read_text())
ACTIVATIONS = st.sampled_from([None, Relu(), LeakyRelu(slope=0.1), Tanh(), Sigmoid()])


def kept(*layers: Layer | None) -> tuple[Layer, ...]:
    return tuple(layer for layer in layers if layer is not None)


@st.composite
def image_networks(draw) -> tuple[Layer, ...]:
    layers: list[Layer | None] = []
    for channels in draw(st.lists(st.sampled_from([2, 4, 6]), min_size=1, max_size=3)):
        norm = draw(st.sampled_from([None, None, LayerNorm(), GroupNorm(groups=2), GroupNorm(groups=channels)]))
        layers += [Conv2d(channels=channels, kernel=3, padding=1), norm, draw(ACTIVATIONS)]
        layers.append(draw(st.sampled_from([None, Dropout(rate=0.2)])))
    layers.append(draw(st.sampled_from([None, MaxPool2d(kernel=2), AvgPool2d(kernel=2, stride=1)])))
    layers.append(draw(st.sampled_from([Flatten(), GlobalAvgPool()])))
    return kept(*layers, *draw(vector_layers()), Linear(width=3))


@st.composite
def vector_layers(draw) -> tuple[Layer, ...]:
    if draw(st.booleans()):
        return ()
    norm = draw(st.sampled_from([None, None, LayerNorm(), GroupNorm(groups=3)]))
    return kept(Linear(width=6), norm, draw(ACTIVATIONS))


@st.composite
def sequence_networks(draw) -> tuple[Layer, ...]:
    layers: list[Layer | None] = []
    for _ in range(draw(st.integers(1, 2))):
        layers.append(draw(st.sampled_from([Gru(width=4), Lstm(width=4), Rnn(width=4), Linear(width=5)])))
        layers += [draw(st.sampled_from([None, LayerNorm()])), draw(ACTIVATIONS)]
    return kept(*layers, Last(), *draw(vector_layers()), Linear(width=3))


def image(layers: tuple[Layer, ...]):
    return made(*layers, inputs=(2, 5, 5), samples=9, held_out=7)


def sequence(layers: tuple[Layer, ...]):
    return made(*layers, inputs=(4,), length=5, target_length=1, samples=9, held_out=7)


any_network = st.one_of(image_networks().map(image), sequence_networks().map(sequence))
seeds = st.integers(0, 2**32 - 1)
LENET = (Conv2d(channels=6, kernel=3, padding=1), Relu(), MaxPool2d(kernel=2), Flatten(), Linear(width=8), Relu())
TANH = (Conv2d(channels=6, kernel=3), Tanh(), Conv2d(channels=5, kernel=2), Tanh(), Flatten())
NORMS = (Conv2d(channels=6, kernel=3), GroupNorm(groups=2), Relu(), Conv2d(channels=4, kernel=2), LayerNorm(), Tanh())
NETWORKS = {
    "lenet": image((*LENET, Linear(width=3))),
    "leaky": image((Conv2d(channels=6, kernel=3), LeakyRelu(), AvgPool2d(kernel=2), Flatten(), Linear(width=3))),
    "tanh cnn": image((*TANH, Linear(width=3))),
    "lstm": sequence((Lstm(width=6), Lstm(width=5), Last(), Linear(width=3))),
    "rnn": sequence((Rnn(width=6), Last(), Linear(width=3))),
    "sigmoid": sequence((Linear(width=6), Sigmoid(), Linear(width=5), Tanh(), Last(), Linear(width=3))),
    "norms": image((*NORMS, Flatten(), Linear(width=3))),
}
networks = pytest.mark.parametrize("one", NETWORKS.values(), ids=NETWORKS)


def drawn(recipe: Recipe, n: int, seed: int) -> np.ndarray:
    """(n, P) normal weights, as large as those of trained networks."""
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=(n, *shape)) / np.sqrt(max(1, np.prod(shape[1:]))) for _, shape in recipe.shapes]
    return np.concatenate([array.reshape(n, -1) for array in arrays], axis=1)


def changed(recipe: Recipe, weights_NP: np.ndarray, seed: int, scales: bool = True) -> np.ndarray:
    spec = symmetry_spec(recipe)
    change = symmetry.random_change(spec, len(weights_NP), np.random.default_rng(seed), scales)
    return symmetry.apply_change(spec, weights_NP, change)


def check_symmetry(recipe: Recipe, inputs: np.ndarray, seed: int, n: int = 3) -> None:
    """Outputs stay, the canonical form and distances between canonical forms do too."""
    weights_NP = drawn(recipe, n, seed)
    changed_NP = changed(recipe, weights_NP, seed)
    tidy_NP = symmetry.canonical(recipe, weights_NP)
    before, after, tidy = (forward.outputs(recipe, w, inputs) for w in (weights_NP, changed_NP, tidy_NP))
    near(after, before)
    near(tidy, before)
    near(symmetry.canonical(recipe, changed_NP), tidy_NP)
    near(*(similarity.euclidean(symmetry.canonical(recipe, w)) for w in (weights_NP, changed_NP)))
    near(*(chains.chain_features(recipe, w) for w in (weights_NP, changed_NP)))


def near(found: np.ndarray, expected: np.ndarray) -> None:
    """Within 1e-6, relative; zeros within 1e-9 of the largest."""
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9 * np.abs(expected).max())


# --- what networks compute --------------------------------------------------------------------------------------------


@given(one=any_network)
@settings(max_examples=15, deadline=None)
def test_the_float64_forward_pass_is_that_of_the_exact_engine(one):
    weights_KP = np.stack([initial_state(one.recipe, seed).params for seed in range(2)])
    exact = NumpyEngine().held_out_loss(one.recipe, one.data, list(weights_KP))
    assert forward.held_out_losses(one.recipe, weights_KP, one.data, block=2) == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize(
    ("target", "loss"), [("values", "mse"), ("pins", "mse"), ("pins", "bce"), ("classes", "cross_entropy")]
)
def test_every_loss_is_that_of_the_exact_engine(monkeypatch, target, loss):
    one = made(Lstm(width=4), Linear(width=3), inputs=(4,), length=5, target=target, loss=loss, as_bytes=True)
    weights_KP = np.stack([initial_state(one.recipe, seed).params for seed in range(3)])
    exact = NumpyEngine().held_out_loss(one.recipe, one.data, list(weights_KP))
    monkeypatch.setattr(forward, "VALUES_AT_ONCE", 1000)  # a few samples at a time
    assert forward.held_out_losses(one.recipe, weights_KP, one.data, block=2) == pytest.approx(exact, rel=1e-5)


# --- symmetry ---------------------------------------------------------------------------------------------------------


@given(one=any_network, seed=seeds)
@settings(max_examples=25, deadline=None)
def test_symmetries_of_random_architectures_leave_outputs_canonical_forms_and_distances(one, seed):
    check_symmetry(one.recipe, one.data.held_out_inputs, seed)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_symmetries_of_every_recipe(path):
    recipe = load_recipe(path)
    shape = recipe.task_shape
    inputs = np.random.default_rng(1).normal(size=(4, shape.length, *shape.input))
    check_symmetry(recipe, inputs, 1, n=2)


@pytest.mark.parametrize("init", ["orthogonal", "he", "xavier", "pytorch"])
def test_initial_networks_have_one_canonical_form_though_their_units_are_equally_large(init):
    one = made(Linear(width=8), Tanh(), Linear(width=8), Tanh(), Linear(width=3), inputs=(5,), network={"init": init})
    weights_NP = np.stack([initial_state(one.recipe, seed).params for seed in range(4)])
    for dtype, digits in ((np.float64, 1e-9), (np.float32, 1e-5)):
        copies_NP = changed(one.recipe, weights_NP, 3).astype(dtype)
        found, expected = (symmetry.canonical(one.recipe, w) for w in (copies_NP, weights_NP))
        assert found == pytest.approx(expected, abs=digits)


def freedoms(one) -> list[tuple[bool, bool, int]]:
    return [(group.scale, group.sign, group.cells) for group in symmetry_spec(one.recipe).groups]


def test_each_layer_allows_what_is_exact_and_no_more():
    assert freedoms(NETWORKS["lenet"]) == [(True, False, 1)] * 2 == freedoms(NETWORKS["leaky"]) * 2
    assert freedoms(NETWORKS["tanh cnn"]) == [(False, True, 1)] * 2 == freedoms(NETWORKS["lstm"])
    assert freedoms(NETWORKS["sigmoid"]) == [(False, False, 1), (False, True, 1)]
    assert freedoms(NETWORKS["norms"]) == [(True, False, 2), (False, True, 1)]
    assert freedoms(image((Conv2d(channels=4, kernel=3), MaxPool2d(kernel=2), Flatten(), Linear(width=3)))) == [
        (True, False, 1)
    ]
    halves = (Conv2d(channels=6, kernel=3), GroupNorm(groups=2), GroupNorm(groups=3), GlobalAvgPool(), Linear(width=3))
    assert freedoms(image(halves)) == [(True, True, 6)]  # runs of three and of two share no equal runs but units


@pytest.mark.parametrize("gate", [0, 1, 3])
def test_the_gates_of_an_lstm_do_not_flip_and_its_candidate_does(gate):
    """Flipping g's rows and the columns that read h is exact; any other gate's rows besides are not."""
    one = NETWORKS["lstm"]
    weights_NP = drawn(one.recipe, 1, 2)
    spec = symmetry_spec(one.recipe)
    change = symmetry.identity(spec, 1)
    change.factor_NH[0][0, 1] = -1
    flipped_NP = symmetry.apply_change(spec, weights_NP, change)
    before, after = (forward.outputs(one.recipe, w, one.data.held_out_inputs) for w in (weights_NP, flipped_NP))
    assert np.abs(flipped_NP - weights_NP).max() > 0.1 and after == pytest.approx(before, abs=1e-12)
    arrays = {name: array.copy() for name, array in features.split_layers(one.recipe, flipped_NP).items()}
    arrays["0.weight_ih_l0"][:, gate * 6 + 1] *= -1
    wrong = forward.outputs(one.recipe, symmetry.joined(arrays), one.data.held_out_inputs)
    assert np.abs(wrong - before).max() > 1e-4


# --- matching ---------------------------------------------------------------------------------------------------------


@networks
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_planted_signed_permutations_are_recovered(one, noise):
    recipe, spec, rng = one.recipe, symmetry_spec(one.recipe), np.random.default_rng(3)
    for seed in range(4):
        a_P = drawn(recipe, 1, seed)[0]
        planted = symmetry.random_change(spec, 1, rng, scales=False)
        b_P = symmetry.apply_change(spec, (a_P + noise * drawn(recipe, 1, seed + 99)[0])[None], planted)[0]
        found = matching.match(recipe, a_P, b_P)
        for order_NH, undo_NH, factor_NH, sign_NH in zip(
            planted.order_NH, found.change.order_NH, planted.factor_NH, found.change.factor_NH, strict=True
        ):
            assert (order_NH[0][undo_NH[0]] == np.arange(order_NH.shape[1])).all()
            assert (factor_NH[0][undo_NH[0]] == sign_NH[0]).all()
        if not noise:
            assert found.weights_P == pytest.approx(a_P, abs=1e-12)


@networks
def test_matching_keeps_the_function(one):
    weights_NP = drawn(one.recipe, 2, 5)
    found = matching.match(one.recipe, *weights_NP)
    before, after = (
        forward.outputs(one.recipe, w[None], one.data.held_out_inputs) for w in (weights_NP[1], found.weights_P)
    )
    assert after == pytest.approx(before, abs=1e-9) and found.similarity > weights_NP[0] @ weights_NP[1]


# --- features and similarity ------------------------------------------------------------------------------------------


@networks
def test_features_see_networks_and_not_their_numbering(one):
    weights_NP = drawn(one.recipe, 5, 6)
    permuted_NP = symmetry.apply_change(symmetry_spec(one.recipe), weights_NP, unsigned(one.recipe, 5))
    before, after = (features.invariants(one.recipe, w) for w in (weights_NP, permuted_NP))
    assert after == pytest.approx(before, rel=1e-6, abs=1e-9)
    changed_NP = changed(one.recipe, weights_NP, 7)
    for depth in (1, 2, None):
        before, after = (chains.chain_distance(chains.chains(one.recipe, w, depth)) for w in (weights_NP, changed_NP))
        assert after == pytest.approx(before, abs=1e-6) and before[~np.eye(5, dtype=bool)].min() > 1e-3
    layers = layer_tests.layer_features(one.recipe, weights_NP)
    assert len(layers) == len(features.weighted_layers(one.recipe)) and all(len(x) == 5 for x in layers.values())
    both_NP = np.concatenate([weights_NP, changed_NP]).astype(np.float32)  # as a zoo holds them: scales are rounded
    assert splits.copies(one.recipe, both_NP) == [*range(5), *range(5)]


def unsigned(recipe: Recipe, n: int) -> symmetry.Change:
    spec = symmetry_spec(recipe)
    found = symmetry.random_change(spec, n, np.random.default_rng(n))
    return symmetry.Change(found.order_NH, symmetry.identity(spec, n).factor_NH)


def test_the_coded_chain_of_convolutions_contracts_channels_and_keeps_kernel_places():
    recipe = NETWORKS["tanh cnn"].recipe
    weights_NP = drawn(recipe, 2, 8)
    arrays = features.split_layers(recipe, weights_NP)
    first = arrays["0.weight"].reshape(2, 6, -1)
    second = np.einsum("nca,nocp->noap", first, arrays["2.weight"].reshape(2, 5, 6, -1)).reshape(2, 5, -1)
    (found,) = chains.chains(recipe, weights_NP, 2, "as_coded", inputs_max=None)
    assert found == pytest.approx(second)
    (narrow,) = chains.chains(recipe, weights_NP, 2, "as_coded", inputs_max=20)
    assert narrow == pytest.approx(features.narrowed(second, 20)) and narrow.shape == (2, 5, 20)


def test_a_network_of_one_input_has_a_chain_with_its_biases():
    recipe = load_recipe(FOLDER / "regression-wave.toml")
    weights_NP = drawn(recipe, 4, 15)
    for depth in (1, 2):
        (found,) = chains.chains(recipe, weights_NP, depth)
        assert found.shape == (4, 32, 1 + depth)
        before, after = (
            chains.chain_distance(chains.chains(recipe, w, depth))
            for w in (weights_NP, changed(recipe, weights_NP, 15))
        )
        assert before[~np.eye(4, dtype=bool)].min() > 1e-3 and after == pytest.approx(before, abs=1e-6)


def test_a_projected_kernel_is_near_the_exact_one():
    recipe = NETWORKS["tanh cnn"].recipe
    weights_NP = drawn(recipe, 6, 9)
    exact, near = (chains.chain_similarity(chains.chains(recipe, weights_NP, 2, inputs_max=m)) for m in (None, 64))
    assert np.abs(exact - near).max() < 0.3 and np.abs(near - exact).max() > 0


@networks
def test_representations_of_symmetric_copies_are_alike(one):
    weights_NP = drawn(one.recipe, 2, 10)
    weights_NP[1] = changed(one.recipe, weights_NP[:1], 10)[0]
    found = similarity.representations(one.recipe, weights_NP, one.data.held_out_inputs, rows=40)
    assert len(found) == len(one.recipe.network.layers)
    final = found[-1]
    assert final[1] == pytest.approx(final[0], abs=1e-9) and similarity.cka(*final) == pytest.approx(1)
    for layer in found:
        assert layer.shape[0] == 2 and layer.shape[1] <= 40 and layer.ndim == 3


@networks
def test_a_barrier_between_symmetric_copies_disappears_by_matching(one):
    a_P = drawn(one.recipe, 1, 11)[0]
    b_P = changed(one.recipe, a_P[None], 11, scales=False)[0]
    found = similarity.barriers(one.recipe, np.stack([a_P, b_P])[None], one.data, points=7)
    assert found.matched_J == pytest.approx([0], abs=1e-9) and np.ptp(found.naive_JL) > 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lenet", "lstm"])
def test_trojans_are_looked_for_in_any_architecture(name):
    recipe, rng = NETWORKS[name].recipe, np.random.default_rng(12)
    trojan_N, start_P = np.arange(40) % 2 == 1, drawn(recipe, 1, 13)[0]
    weights_NP = start_P + 0.1 * drawn(recipe, 40, 14) + trojan_N[:, None] * 0.1 * rng.normal(size=len(start_P))
    table = trojans.trojan_table(recipe, weights_NP, trojan_N, [k // 2 for k in range(40)])
    assert len(table) == len(trojans.GRID) - 1 and table["standardize"].value > 0.9  # none without a reference


def test_real_data_reach_every_layer():
    recipe = load_recipe(FOLDER / "ds4-digits.toml")
    weights_NP = np.stack([initial_state(recipe, seed).params for seed in range(2)])
    data = task_data(recipe)
    exact = NumpyEngine().held_out_loss(recipe, data, [weights_NP[0]])
    assert forward.held_out_losses(recipe, weights_NP, data)[0] == pytest.approx(exact[0], rel=1e-5)
    assert similarity.barriers(recipe, weights_NP[None], data, points=3).naive_JL.shape == (1, 3)


def test_a_layer_of_another_version_is_named(monkeypatch):
    one = sequence((Linear(width=5), Sigmoid(), Last(), Linear(width=3)))
    from analysis.weights import symmetry_rules

    symmetry_rules.symmetry_spec.cache_clear()  # a random network of another test may have been this one
    monkeypatch.delitem(symmetry_rules.PASSES, Sigmoid)
    with pytest.raises(UsageError, match="layer 1: no symmetries are known for Sigmoid"):
        symmetry_rules.symmetry_spec(one.recipe)
