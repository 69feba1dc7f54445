"""Analysis finds what is there, and does not find what is not."""

import re
from pathlib import Path

import numpy as np
import pytest
from support.populations import GRU, RECIPES, SEEDS, planted, publish, recipe_of
from support.zoos import network

from analysis import open_zoo
from analysis.methods.curves import loss_curves
from analysis.statistics import classify
from analysis.statistics.classify import class_accuracy, class_folds
from analysis.statistics.distances import centre_test, class_distances
from analysis.statistics.intervals import jackknife
from analysis.statistics.proportions import wilson
from analysis.weights.features import invariants
from analysis.weights.geometry import pca
from protocol.engine.initial import initial_state
from protocol.engine.reference.engine import NumpyEngine
from protocol.engine.streams import task_data
from protocol.errors import UsageError
from protocol.recipes.layers import Gru, Linear, Relu


@pytest.fixture(scope="module")
def clusters(tmp_path_factory) -> Path:
    networks = [planted(recipe, seed, 0.3) for recipe in RECIPES for seed in range(SEEDS)]
    return publish(tmp_path_factory.mktemp("clusters [1]") / "zoo", networks, RECIPES)


# --- tables and matrices ---------------------------------------------------------------------------------------------


def test_rows_of_the_matrix_are_rows_of_the_table(clusters):
    zoo = open_zoo(clusters)
    table = zoo.table("class = 'xor' and seed >= 3")
    assert table["seed"].to_pylist() == list(range(3, SEEDS))
    expected = [planted(RECIPES[1], seed, 0.3)[1] for seed in range(3, SEEDS)]
    assert np.array_equal(zoo.weights("class = 'xor' and seed >= 3"), np.stack(expected))
    initial_NP = zoo.initial_weights("class = 'xor' and seed >= 3")
    assert np.array_equal(initial_NP[0], initial_state(RECIPES[1], 3).params)
    assert zoo.weights("false").shape == (0, 0)


def test_recipe_fields_can_be_asked_for_with_and_without_quotes(clusters):
    zoo = open_zoo(clusters)
    assert zoo.table("training.learning_rate > 0.025").num_rows == SEEDS
    assert zoo.table('"training.learning_rate" > 0.025 -- a remark').num_rows == SEEDS


@pytest.mark.parametrize("where", ["machine = 1", "class =", "true; drop table x", "seed + 'x' > 0"])
def test_a_bad_expression_is_one_line_that_names_the_columns(clusters, where):
    with pytest.raises(UsageError, match=r"columns: id, class, seed") as error:
        open_zoo(clusters).table(where)
    assert "\n" not in str(error.value)


def test_an_expression_reads_no_other_file(clusters):
    with pytest.raises(UsageError):
        open_zoo(clusters).table("(select count(*) from read_text('/etc/hostname')) > 0")


def test_a_damaged_catalogue_is_named(tmp_path):
    path = publish(tmp_path / "zoo", [planted(RECIPES[0], 0, 0.0)], RECIPES)
    (part,) = (path / "catalogue").iterdir()
    part.write_bytes(part.read_bytes()[:300] + bytes(part.stat().st_size - 300))
    with pytest.raises(UsageError, match=part.name):
        open_zoo(path).table()


def test_networks_of_two_shapes_do_not_make_a_matrix(tmp_path):
    wide = recipe_of("wide", (Linear(width=6), Relu(), Linear(width=20)))
    path = publish(tmp_path / "zoo", [planted(r, 0, 0.0) for r in (RECIPES[0], wide)], [RECIPES[0], wide])
    zoo = open_zoo(path)
    for matrix in (zoo.weights, zoo.initial_weights):
        with pytest.raises(UsageError, match="do not have one shape"):
            matrix()
    assert zoo.weights("class = 'wide'").shape == (1, wide.parameter_count)


LAYERS = [GRU, (Linear(width=7), Relu(), Gru(width=3), Linear(width=20))]


@pytest.mark.parametrize("layers", LAYERS)
def test_a_module_agrees_with_the_exact_engine(tmp_path, layers):
    import torch

    recipe, engine = recipe_of("parity", layers), NumpyEngine()
    states, _ = engine.train(recipe, task_data(recipe), [3], [initial_state(recipe, 3)], 3)
    zoo = open_zoo(publish(tmp_path / "zoo", [(network(recipe, 3)[0], states[0].params)], [recipe]))
    data = zoo.data("net-parity")
    module = zoo.module(f"{recipe.digest[:16]}-3")
    with torch.no_grad():
        outputs = module(torch.tensor(data.held_out_inputs, dtype=torch.float32)).numpy()
    assert outputs.shape == (17, 5, 20)
    exact = engine.held_out_loss(recipe, data, [states[0].params])[0]
    assert np.mean((outputs - data.held_out_targets) ** 2) == pytest.approx(exact, rel=1e-5)
    assert [name for name, _ in module.named_parameters()] == [name for name, _ in recipe.shapes]


def test_an_unknown_network_or_recipe_is_one_line(clusters):
    zoo = open_zoo(clusters)
    with pytest.raises(UsageError, match="no network \"x' or 'y\""):
        zoo.module("x' or 'y")
    with pytest.raises(UsageError, match="recipes: net-direct, net-parity"):
        zoo.data("nothing")


# --- geometry --------------------------------------------------------------------------------------------------------


def test_principal_components_are_those_of_an_svd_for_every_block_size(monkeypatch):
    weights_NP = np.random.default_rng(1).normal(size=(50, 30)).astype(np.float32) * np.linspace(5, 1, 30) ** 2 + 3
    left, size, _ = np.linalg.svd(weights_NP - weights_NP.mean(0), full_matrices=False)
    found = pca(weights_NP)
    assert np.abs(found.scores_ND) == pytest.approx(np.abs(left[:, :2] * size[:2]), rel=1e-3, abs=1e-3)
    assert found.explained_D == pytest.approx((size**2 / (size**2).sum())[:2], rel=1e-4)
    monkeypatch.setattr("analysis.weights.geometry.BLOCK_ROWS", 7)
    assert pca(weights_NP).scores_ND == pytest.approx(found.scores_ND, abs=1e-6)


def test_distances_are_those_of_all_pairs():
    rng = np.random.default_rng(2)
    weights_NP = rng.normal(size=(9, 5)) + 100
    labels = list("aabbbcccc")
    found = class_distances(weights_NP, labels)
    square = ((weights_NP[:, None] - weights_NP[None]) ** 2).sum(2)
    same = np.array([[a == b for b in labels] for a in labels])
    assert found.rms_KK[0, 1] == pytest.approx(np.sqrt(square[:2, 2:5].mean()))
    assert found.rms_KK[1, 1] == pytest.approx(np.sqrt(square[2:5, 2:5].sum() / 6))
    assert found.within == pytest.approx(np.sqrt(square[same & ~np.eye(9, dtype=bool)].mean()))
    assert found.between == pytest.approx(np.sqrt(square[~same].mean()))
    assert np.isnan(class_distances(weights_NP[:2], ["a", "b"]).within)


def test_the_distance_of_centres_is_not_fooled_by_spread():
    rng = np.random.default_rng(7)
    labels = ["tight"] * 200 + ["wide"] * 200
    weights_NP = rng.normal(size=(400, 50)) * np.repeat([1.0, 5.0], 200)[:, None]
    found = centre_test(weights_NP, labels, np.arange(400), 50)
    assert found.distances.centres <= found.null_max and found.p > 0.05
    weights_NP[:200, 0] += 3
    assert class_distances(weights_NP, labels).centres == pytest.approx(3, abs=0.5)


def test_the_interval_of_the_centres_is_that_of_leaving_networks_out():
    rng = np.random.default_rng(3)
    labels, group_N = ["a"] * 12 + ["b"] * 12 + ["lone"], np.arange(25) % 12
    weights_NP = rng.normal(size=(25, 6)).astype(np.float32) + (np.array(labels) == "b")[:, None]
    found = centre_test(weights_NP, labels, group_N, 5)

    def centres(rows: np.ndarray) -> float:
        return class_distances(weights_NP[rows], [labels[i] for i in rows]).centres

    assert (found.low, found.high) == pytest.approx(jackknife(centres, group_N, 0.0), rel=1e-9)


def test_scores_are_those_of_one_hot_labels_and_errors_the_same_by_rows_and_by_pairs():
    rng = np.random.default_rng(4)
    for labelings, classes in ((1, 3), (40, 4)):  # with the zeros and without them
        codes_RM, value_MV = rng.integers(0, classes, (labelings, 30)), rng.normal(size=(30, 5))
        one_hot_RKM = codes_RM[:, None] == np.arange(classes)[:, None]
        tables_UMV, table_R = np.stack([value_MV, -value_MV]), rng.integers(0, 2, labelings)
        expected_RKV = (1 - 2 * table_R[:, None, None]) * (one_hot_RKM @ value_MV)
        assert np.allclose(classify.class_totals(codes_RM, classes, tables_UMV, table_R), expected_RKV)
        assert np.allclose(
            classify.class_totals(codes_RM, classes, tables_UMV[:1], 0 * table_R), one_hot_RKM @ value_MV
        )
        x = value_MV - value_MV.mean(0)
        left_MD, size_D, _ = (side.astype(np.float32) for side in np.linalg.svd(x, full_matrices=False))
        shrink_ID = size_D**2 / (size_D**2 + np.array([[0.1], [1], [10]], np.float32))
        weight_IM = 1 / (1 - shrink_ID @ (left_MD**2).T - np.float32(1 / 30))
        by_rows, by_pairs = (
            errors(left_MD, shrink_ID, weight_IM, codes_RM, classes)
            for errors in (classify.errors_by_rows, classify.errors_by_pairs)
        )
        assert by_rows.shape == (3, labelings) and np.allclose(by_rows, by_pairs, rtol=1e-4)


def test_numbering_free_features_do_not_see_the_order_or_sign_of_hidden_units():
    recipe, rng = recipe_of("parity"), np.random.default_rng(3)
    a = {name: rng.normal(size=shape) for name, shape in recipe.shapes}
    order = rng.permutation(4)
    gates = np.concatenate([order, order + 4, order + 8])
    b = {
        "0.weight_ih_l0": a["0.weight_ih_l0"][gates],
        "0.weight_hh_l0": a["0.weight_hh_l0"][gates][:, order],
        "0.bias_ih_l0": a["0.bias_ih_l0"][gates],
        "0.bias_hh_l0": a["0.bias_hh_l0"][gates],
        "1.weight": a["1.weight"][:, order],
        "1.bias": a["1.bias"],
    }
    weights_NP = np.stack([np.concatenate([net[name].ravel() for name, _ in recipe.shapes]) for net in (a, b)])
    found = invariants(recipe, weights_NP)
    assert found[0] == pytest.approx(found[1])
    assert not np.allclose(weights_NP[0], weights_NP[1])


# --- classes from weights --------------------------------------------------------------------------------------------


def test_planted_clusters_are_found(clusters):
    zoo = open_zoo(clusters)
    table = zoo.table()
    classes, seeds = table["class"].to_pylist(), table["seed"].to_pylist()
    trained = class_accuracy(zoo.weights(), classes, seeds)
    assert trained.accuracy > 0.95 and trained.chance == pytest.approx(1 / 3)
    assert 0.2 < trained.shuffled_mean < 0.45
    assert trained.confusion_KK.sum() == 3 * SEEDS and np.trace(trained.confusion_KK) == trained.correct
    assert class_accuracy(zoo.weights(), classes, seeds).shuffled == trained.shuffled


def test_initial_weights_and_shuffled_labels_stay_at_chance():
    pairs = [(recipe, seed) for recipe in RECIPES for seed in range(80)]
    initial_NP = np.stack([initial_state(recipe, seed).params for recipe, seed in pairs])
    found = class_accuracy(initial_NP, [recipe.label for recipe, _ in pairs], [seed for _, seed in pairs])
    assert found.low < 1 / 3 < found.high
    assert found.shuffled_mean == pytest.approx(1 / 3, abs=0.03)


def test_no_seed_is_in_two_folds():
    rng = np.random.default_rng(4)
    code_N, seed_N = rng.integers(0, 3, 200), rng.integers(0, 40, 200)
    fold_N = class_folds(code_N, seed_N, ("a", "b", "c"))
    assert all(len(set(fold_N[seed_N == seed])) == 1 for seed in set(seed_N))
    assert set(fold_N) == set(range(5))


def test_what_leaks_through_the_seed_does_not_count():
    """Each seed has its own fingerprint and a majority class: with seeds in both parts, this would be 'learnt'."""
    rng = np.random.default_rng(5)
    prints = rng.normal(size=(30, 40)) * 10
    seeds = np.repeat(np.arange(30), 6)
    labels = np.where(np.repeat(rng.random(30) < 0.5, 6), "a", "b")
    labels[::6] = np.where(labels[::6] == "a", "b", "a")  # so that every class has every seed
    features_NF = prints[seeds] + rng.normal(size=(180, 40))
    accuracy = class_accuracy(features_NF, labels.tolist(), seeds.tolist(), shuffles=0)
    assert accuracy.low < accuracy.chance + 0.05


def test_the_classifier_is_ridge_regression_of_scikit_learn():
    from sklearn.linear_model import RidgeClassifierCV

    from analysis.statistics.classify import ridge_classes

    rng = np.random.default_rng(6)
    for features in (8, 200):
        x, code = rng.normal(size=(90, features)), rng.integers(0, 3, 90)
        x[:, 0] += 2 * code
        mine = ridge_classes(x[:60], code[None, :60], x[60:], 3)[0]
        scaled = (x - x[:60].mean(0)) / x[:60].std(0)
        mean_eigenvalue = 60 * features / min(59, features)
        theirs = RidgeClassifierCV([10.0**e * mean_eigenvalue for e in range(-4, 3)]).fit(scaled[:60], code[:60])
        assert (mine == theirs.predict(scaled[60:])).mean() > 0.95


def test_wilson_interval_is_the_textbook_one():
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 20)[0] == 0 and wilson(20, 20)[1] == 1


def test_losses_of_different_lengths_share_a_grid():
    steps_S, losses_NS = loss_curves([[3.0, 2.0, 1.0], [5.0]], np.array([50, 100]))
    assert steps_S.tolist() == [50, 100, 150]
    assert losses_NS.tolist() == [[3, 2, 1], [5, 5, 5]]


# --- documents --------------------------------------------------------------------------------------------------------


def test_the_snippets_in_the_documents_run(clusters):
    root = Path(__file__).parents[2]
    for text in ((root / "docs" / "zoo.md").read_text(), (clusters / "README.md").read_text()):
        code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
        names: dict = {}
        exec(code.replace("PATH", str(clusters)), names)
        assert set(names["weights"]) == {name for name, _ in RECIPES[0].shapes}


@pytest.mark.slow
def test_the_snippet_about_methods_runs(clusters, capsys):
    text = (Path(__file__).parents[2] / "docs" / "analyses.md").read_text()
    first, *_ = re.findall(r"```python\n(.*?)```", text, re.DOTALL)  # the others train whole campaigns
    exec(first.replace("PATH", str(clusters)), {})
    assert capsys.readouterr().out.endswith("[]\n")
