"""Properties, trojans, neighbours and trajectories: planted effects are found, controls stay where they belong."""

import numpy as np
import pytest
from scipy.stats import kendalltau
from support.populations import publish, recipe_of
from support.zoos import network

from analysis import open_zoo
from analysis.methods import properties, trajectories, trojans
from analysis.statistics import splits
from analysis.weights import dask_arrays, neighbours, symmetry
from analysis.weights.features import array_statistics, invariants
from protocol.engine.initial import initial_state
from protocol.errors import UsageError
from protocol.recipes.layers import Gru, Linear, Relu

SMALL = (Gru(width=4), Linear(width=5), Relu(), Linear(width=20))


# --- properties ------------------------------------------------------------------------------------------------------


def test_tau_over_all_pairs_is_scipys_bit_for_bit():
    rng = np.random.default_rng(0)
    for n in rng.integers(2, 60, 100):
        x_N, y_N = (rng.integers(0, rng.integers(1, 40), n).astype(float) for _ in range(2))
        expected = np.asarray(kendalltau(x_N, y_N).statistic)
        assert np.array_equal(properties.tau_of_pairs(x_N, y_N)[0], expected, equal_nan=True)


@pytest.mark.parametrize("count", range(1, 40))
def test_r_squared_of_a_constant_is_undefined_even_where_its_mean_is_rounded(count):
    target_N = np.full(count, 0.1)
    assert np.isnan(properties.r_squared(np.zeros(count), target_N))


@pytest.mark.slow
def test_a_property_in_the_statistics_is_predicted_and_a_random_one_is_not():
    rng, recipe = np.random.default_rng(1), recipe_of("parity", SMALL)
    spread_N = rng.uniform(0.5, 2, 150)
    weights_NP = rng.normal(size=(150, recipe.parameter_count)) * spread_N[:, None]
    features_NF = array_statistics(recipe, weights_NP)
    for predictor in properties.PREDICTORS.values():
        found = properties.predict(features_NF, np.log(spread_N), np.arange(150), predictor)
        assert found.tau_low > 0.7 and found.r2_low > 0.8 and abs(found.shuffled_tau) < 0.2
        assert found.tau_low <= found.tau <= found.tau_high and found.groups == 150
    noise = properties.predict(features_NF, rng.normal(size=150), np.arange(150), properties.kernel_ridge)
    assert noise.tau_low < 0.1 and noise.r2 < 0.15
    with pytest.raises(UsageError, match="finite"):
        properties.predict(features_NF, np.full(150, np.nan), np.arange(150))


def test_copies_on_both_sides_fake_a_prediction_and_groups_undo_it():
    rng = np.random.default_rng(2)
    features_NF, target_N = np.repeat(rng.normal(size=(60, 40)), 2, axis=0), np.repeat(rng.normal(size=60), 2)
    leaked = properties.predict(features_NF, target_N, np.arange(120), properties.kernel_ridge)
    honest = properties.predict(features_NF, target_N, np.repeat(np.arange(60), 2), properties.kernel_ridge)
    assert leaked.tau > 0.4 > 0.2 > honest.tau
    assert splits.split_problems(np.arange(120) % 5, copy=np.repeat(np.arange(60), 2).tolist())


def test_transfer_works_between_domains_that_share_the_rule_only():
    rng = np.random.default_rng(3)
    features_NF, domain_N = rng.normal(size=(180, 5)), np.repeat(["a", "b", "c"], 60)
    target_N = features_NF[:, 0] * np.where(domain_N == "c", -1, 1)
    domains, tau_KK = properties.transfer(features_NF, target_N, domain_N, np.arange(180), properties.kernel_ridge)
    assert domains == ["a", "b", "c"] and tau_KK.diagonal().min() > 0.5 < tau_KK[0, 1] and tau_KK[0, 2] < -0.5


# --- trojans ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_trojans_are_found_where_the_initial_weights_are_shared_and_the_controls_are_at_chance():
    rng, recipe = np.random.default_rng(4), recipe_of("parity", SMALL)
    trojan_N, shared_P = np.arange(80) % 2 == 1, rng.normal(size=recipe.parameter_count)
    mark_P = rng.normal(size=recipe.parameter_count) * 0.4
    initial_NP = shared_P + 0.1 * rng.normal(size=(80, recipe.parameter_count))
    trained_NP = initial_NP + 0.5 * rng.normal(size=initial_NP.shape) + trojan_N[:, None] * mark_P
    table = trojans.trojan_table(recipe, trained_NP, trojan_N, [k // 2 for k in range(80)], initial_NP)
    assert set(table) == {str(steps) for steps in trojans.GRID} and len(table) == len(trojans.GRID)
    assert all(
        table[name].low > 0.8 for name in ("raw", "standardize", "standardize + select", "matched + standardize")
    )
    controls = []
    for _ in range(6):  # one draw of 80 networks alone strays by 0.09
        noise_NP = shared_P + 0.1 * rng.normal(size=initial_NP.shape)
        table = trojans.trojan_table(recipe, noise_NP, trojan_N, [k // 2 for k in range(80)], grid=trojans.GRID[:3])
        controls.append([row.value for row in table.values()])
    assert np.abs(np.mean(controls, axis=0) - 0.5).max() < 0.12


def test_selection_sees_no_test_network():
    """Pure noise, thousands of weights: selecting on all networks would 'find' the label."""
    rng = np.random.default_rng(5)
    noise_NF, trojan_N = rng.normal(size=(60, 3000)), np.arange(60) % 2 == 1
    from analysis.statistics.auc import auc, unseen_scores

    fold_N = splits.fold_by_group(trojan_N, np.arange(60))
    honest = auc(unseen_scores(noise_NF, trojan_N, fold_N, trojans.scorer(trojans.Steps(select=True), 50)), trojan_N)
    assert honest.low < 0.5


# --- neighbours ------------------------------------------------------------------------------------------------------


def exact(weights_NP: np.ndarray, k: int):
    square = ((weights_NP[:, None].astype(np.float64) - weights_NP[None]) ** 2).sum(2)
    np.fill_diagonal(square, np.inf)
    order = np.argsort(square, axis=1, kind="stable")[:, :k]
    return order, np.sqrt(np.take_along_axis(square, order, 1))


@pytest.mark.parametrize("rows", [7, 16, 1000])
def test_neighbours_are_exact_for_every_block_size(monkeypatch, rows):
    weights_NP = np.random.default_rng(6).normal(size=(50, 30)).astype(np.float32) + 100
    monkeypatch.setattr(neighbours, "BLOCK_ROWS", rows)
    heard = []
    found = neighbours.neighbours(weights_NP, 5, progress=lambda done, total: heard.append((done, total)))
    index, distance = exact(weights_NP, 5)
    assert (found.index_Nk == index).all() and found.distance_Nk == pytest.approx(distance, rel=1e-4)
    assert heard[-1][0] == heard[-1][1] == len(heard)


@pytest.mark.parametrize("values", [1, 3, 1000])
def test_the_smallest_of_a_row_are_in_order_and_ties_go_to_the_lower_column(values):
    square_AB = np.random.default_rng(3).integers(0, values, (30, 40)).astype(np.float32)
    for side in (square_AB, square_AB.T):
        index_Ak, value_Ak = neighbours._smallest(side, 6)
        expected = np.argsort(side, axis=1, kind="stable")[:, :6]
        assert (index_Ak == expected).all()
        assert (value_Ak == np.take_along_axis(side, expected, 1)).all()


def test_numbers_that_are_not_finite_have_no_neighbours():
    with pytest.raises(UsageError, match="finite"):
        neighbours.neighbours(np.array([[0.0], [np.nan], [1.0]]))


def test_neighbours_are_kept_by_digest(tmp_path, monkeypatch):
    weights_NP = np.random.default_rng(7).normal(size=(20, 4)).astype(np.float32)
    first = neighbours.neighbours(weights_NP, 3, cache=tmp_path)
    (kept,) = tmp_path.iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(neighbours, "nearest_of_blocks", lambda *_: pytest.fail("computed again"))
        again = neighbours.neighbours(weights_NP, 3, cache=tmp_path)
    assert (again.index_Nk == first.index_Nk).all() and kept.suffix == ".npz"
    neighbours.neighbours(weights_NP + 1e-3, 3, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    assert neighbours.neighbours(weights_NP[:1], 3).index_Nk.shape == (1, 0)


def test_a_neighbour_of_the_same_seed_or_a_copy_does_not_vote():
    rng = np.random.default_rng(8)
    weights_NP = np.repeat(rng.normal(size=(40, 20)), 2, axis=0)
    labels = np.repeat(rng.choice(["a", "b"], 40), 2).tolist()
    found = neighbours.neighbours(weights_NP, 10)
    assert neighbours.vote(found, labels, np.arange(80)) == 1
    assert neighbours.vote(found, labels, np.arange(80) // 2) < 0.75


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_dask_cluster_reads_the_shards_and_finds_the_same_neighbours(tmp_path):
    distributed = pytest.importorskip("dask.distributed")
    recipe = recipe_of("parity", SMALL)
    weights_NP = np.random.default_rng(9).normal(size=(60, recipe.parameter_count))
    rows = [network(recipe, seed)[0] for seed in range(60)]
    for half in (slice(0, 25), slice(25, 60)):  # two publications, two shards
        publish(tmp_path / "zoo", list(zip(rows[half], weights_NP[half].astype(np.float32), strict=True)), [recipe])
    zoo = open_zoo(tmp_path / "zoo")
    array = dask_arrays.dask_weights(zoo, rows=16)
    assert array.chunks[0] == (16, 16, 16, 12) and array.shape == zoo.weights().shape
    with distributed.Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        told = []
        found = dask_arrays.neighbours(array, client, 4, progress=lambda done, total: told.append((done, total)))
        spread = client.compute(array.std(axis=0)).result()
        assert (client.compute(array).result() == zoo.weights()).all()
    here = neighbours.neighbours(zoo.weights(), 4)
    assert (found.index_Nk == here.index_Nk).all() and told[-1] == (10, 10)
    assert found.distance_Nk == pytest.approx(here.distance_Nk, rel=1e-5)  # another process rounds its products so
    assert spread == pytest.approx(zoo.weights().std(axis=0), rel=1e-4)
    with pytest.raises(UsageError, match="shapes"):
        dask_arrays.dask_weights(zoo, "false")


# --- trajectories ----------------------------------------------------------------------------------------------------


def test_a_replayed_path_begins_at_the_initial_weights_and_stays_where_it_stops():
    recipe = recipe_of("parity", SMALL, segment_steps=20, max_steps=60, stop_held_out_loss=0.0)
    found = trajectories.replay(recipe, [3, 5])
    assert found.steps_S.tolist() == [0, 20, 40, 60] and found.last_N.tolist() == [60, 60]
    assert np.array_equal(found.weights_NSP[1, 0], initial_state(recipe, 5).params)
    longer = trajectories.replay(recipe, [3, 5], [0, 30, 60, 900])
    assert np.array_equal(longer.weights_NSP[:, 1], found.weights_NSP[:, 1])
    assert np.array_equal(longer.weights_NSP[:, 3], found.weights_NSP[:, 3])
    first, last = trajectories.distance_to_ends(found.weights_NSP)
    assert (first[:, 0] == 0).all() and (last[:, -1] == 0).all() and (np.diff(first, axis=1) > 0).all()
    assert trajectories.path_map(found.weights_NSP).scores_ND.shape == (8, 2)


def test_networks_of_one_age_are_those_of_their_paths_and_stopped_ones_stay():
    recipe = recipe_of("parity", SMALL, segment_steps=20, max_steps=60, stop_held_out_loss=0.0)
    paths = trajectories.replay(recipe, [3, 5])
    for step, place in ((0, 0), (40, 2), (41, 3), (500, 3)):
        weights_NP, losses_N = trajectories.at_step(recipe, [3, 5], step)
        assert np.array_equal(weights_NP, paths.weights_NSP[:, place])
        assert losses_N.tolist() == paths.held_out_NS[:, place].tolist()


def test_classes_separate_after_step_0_and_not_before():
    rng, recipe = np.random.default_rng(10), recipe_of("parity", SMALL)
    spec = symmetry.symmetry_spec(recipe)
    labels, seeds = ["a", "b"] * 30, np.repeat(np.arange(30), 2).tolist()
    initial_NP = rng.normal(size=(60, recipe.parameter_count))
    moved_NP = initial_NP + (np.array(labels) == "b")[:, None] * rng.normal(size=recipe.parameter_count)
    moved_NP = symmetry.apply_change(spec, moved_NP, symmetry.random_change(spec, 60, rng, scales=False))
    before, after = trajectories.when_classes_separate(
        recipe, np.stack([initial_NP, moved_NP], axis=1), labels, seeds, invariants
    )
    assert before.low < 0.5 < before.high and after.low > 0.6
