"""What is planted is found, with honest p-values; what is not there is not found."""

import numpy as np
import pytest
from support.populations import recipe_of

from analysis.methods import changes, clusters, layer_tests
from analysis.methods.retrieval import found_among_nearest, retrieval
from analysis.statistics import permutation, splits
from analysis.statistics.auc import auc
from analysis.statistics.classify import class_accuracy
from analysis.statistics.shuffles import shuffled_labels
from analysis.weights import symmetry
from analysis.weights.similarity import euclidean
from protocol.errors import UsageError
from protocol.recipes.layers import Gru, Linear


def planted(classes: int, each: int, shift: float, seed: int, features: int = 30):
    """Features with class centres `shift` deviations long; labels; seeds shared by the classes."""
    rng = np.random.default_rng(seed)
    code_N = np.repeat(np.arange(classes), each)
    features_NF = rng.normal(size=(len(code_N), features)) + shift * rng.normal(size=(classes, features))[code_N]
    return features_NF, [f"class{k}" for k in code_N], list(range(each)) * classes


# --- hypothesis-training-testing -------------------------------------------------------------------------------------


def test_a_layer_that_knows_the_class_passes_and_one_that_does_not_fails():
    known_NF, labels, seeds = planted(4, 30, 1.0, 1)
    noise_NF = np.random.default_rng(2).normal(size=known_NF.shape)
    found = layer_tests.tested_layers({"knows": known_NF, "noise": noise_NF}, labels, seeds, permutations=200)
    assert found["knows"].accuracy > 0.9 and found["knows"].p == pytest.approx(1 / 201) == found["knows"].largest_p
    assert found["noise"].largest_p > 0.05 and found["noise"].low < found["noise"].chance < found["noise"].high
    assert found["noise"].null_R.mean() == pytest.approx(0.25, abs=0.03)


def test_p_values_by_hand():
    assert permutation.permutation_p(0.9, np.zeros(999)) == 0.001
    assert permutation.permutation_p(-1.0, np.zeros(999)) == 1 == permutation.permutation_p(0.0, np.zeros(999))
    assert np.isnan(permutation.permutation_p(1.0, []))
    assert permutation.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert permutation.largest_p([3.0, 1.0], np.array([[0, 2], [2, 0], [4, 0]])) == [0.5, 1.0]


def test_a_tie_is_broken_fairly_and_always_alike():
    rng = np.random.default_rng(16)
    drawn = [permutation.permutation_p(1.0, rng.permutation([2.0, *[1.0] * 3, *[0.0] * 95])) for _ in range(400)]
    counts = np.bincount(np.round(np.array(drawn) * 100).astype(int))
    assert counts[:2].sum() == 0 and len(counts) == 6 and counts[2:].min() > 70  # of 100 expected
    null_R = rng.integers(0, 3, 99)
    assert permutation.permutation_p(1, null_R) == permutation.permutation_p(1, null_R * (1 + 1e-12))


# --- shuffles --------------------------------------------------------------------------------------------------------


def test_labels_stay_with_their_seed_where_every_seed_has_every_class():
    code_N, seed_N = np.repeat([0, 1, 2], 8), np.tile(np.arange(8), 3)
    mixed_RN = shuffled_labels(code_N, seed_N, 300)
    for seed in range(8):
        assert (np.sort(mixed_RN[:, seed_N == seed], axis=1) == [0, 1, 2]).all()
    assert np.abs((mixed_RN == 0).mean(0) - 1 / 3).max() < 0.12


def test_whole_seeds_change_places_and_strata_keep_their_labels():
    """Four networks have seeds of their own; two pairs share one: a pair of one class may become the other pair's."""
    code_N, seed_N = np.array([0, 0, 1, 1, 0, 0, 1, 1]), np.array([10, 11, 12, 13, 5, 5, 6, 6])
    mixed_RN = shuffled_labels(code_N, seed_N, 500)
    assert {tuple(row) for row in mixed_RN[:, 4:].tolist()} == {(0, 0, 1, 1), (1, 1, 0, 0)}
    assert len({tuple(row) for row in mixed_RN[:, :4].tolist()}) == 6
    apart_RN = shuffled_labels(code_N, seed_N, 100, stratum_N=np.array([0, 1, 0, 1, 0, 0, 1, 1]))
    assert (apart_RN[:, [0, 2]].sum(1) == 1).all() and (apart_RN[:, 4:] == [0, 0, 1, 1]).all()
    assert (shuffled_labels(code_N, np.zeros(8, int), 100).sum(1) == 4).all()


@pytest.mark.parametrize(
    ("values", "p"),
    [
        ([1, 2, 3], 1 / 6),
        ([0, 0, 3], 1 / 3),  # of the six orders, those that swap equal values are one
        ([0, 0, 1, 2], 1 / 12),
        ([0, 3, 3], 1 / 3),
        ([2, 2, 2], 1.0),
        ([3, 2, 1], 1.0),
    ],
)
def test_ties_count_in_the_null_of_a_trend_too(values, p):
    assert permutation.rank_trend(range(len(values)), values)[1] == pytest.approx(p)


@pytest.mark.parametrize("count", [4, 7, 8])
def test_a_trend_is_spearmans(count):
    from scipy.stats import spearmanr

    rng = np.random.default_rng(count)
    x, y = rng.integers(0, 4, count), rng.integers(0, 4, count)
    rho, p = permutation.rank_trend(x, y)
    assert rho == pytest.approx(spearmanr(x, y).statistic)  # pyright: ignore[reportAttributeAccessIssue]
    assert permutation.rank_trend(x, y) == (rho, p) and 0 < p <= 1


def test_distances_that_are_cut_at_zero_are_no_evidence():
    """Two of three doses do nothing at all, so their distances are equal: any one of three orders gives as much."""
    rng, doses = np.random.default_rng(15), {"x+1": 1.0, "x+2": 2.0, "x+3": 3.0}
    base_NF = rng.normal(size=(30, 20))
    features_NF = np.concatenate([base_NF, base_NF, base_NF, base_NF + 2])
    labels = [name for name in ("x", *doses) for _ in range(30)]
    rows, rho, p = changes.dose_response(features_NF, labels, list(range(30)) * 4, doses, "x", bootstraps=20)
    assert [row.distance for row in rows[:2]] == [0, 0] and rows[2].distance > 1
    assert rho == pytest.approx(np.sqrt(3) / 2) and p == pytest.approx(1 / 3)


def test_unseen_classes_are_retrieved_only_if_there_is_something_to_retrieve():
    features_NF, labels, seeds = planted(6, 30, 1.5, 3)
    found = retrieval(features_NF, labels, seeds, permutations=200)
    assert found.low < found.mean_average_precision < found.high
    assert found.p < 0.01 and found.mean_average_precision > found.chance + 0.2 and found.cmc[1] > 0.6
    noise_NF = np.random.default_rng(4).normal(size=features_NF.shape)
    found = retrieval(noise_NF, labels, seeds, permutations=200)
    assert found.p > 0.01 and found.mean_average_precision == pytest.approx(found.chance, abs=0.06)
    with pytest.raises(UsageError, match="four classes"):
        retrieval(features_NF[:60], labels[:60], seeds[:60])
    with pytest.raises(UsageError, match="two seeds"):
        retrieval(features_NF, labels, [0] * 180)


def test_average_precision_is_that_of_scikit_learn():
    from sklearn.metrics import average_precision_score

    rng = np.random.default_rng(17)
    alike_BQG, own_BQG = rng.uniform(-1, 1, (2, 3, 40)), rng.random((2, 3, 40)) < 0.2
    expected = [
        [average_precision_score(*q) for q in zip(*b, strict=True)] for b in zip(own_BQG, alike_BQG, strict=True)
    ]
    assert found_among_nearest(alike_BQG, own_BQG)[1] == pytest.approx(np.array(expected), abs=1e-5)


def test_permanova_is_the_classical_f_test_in_one_dimension():
    from scipy.stats import f_oneway

    rng = np.random.default_rng(5)
    x, labels = rng.normal(size=(30, 1)) + np.repeat([0.0, 0.5, 1.5], 10)[:, None], list("abc" * 10)
    labels = sorted(labels)
    found = permutation.permanova(euclidean(x), labels, np.arange(30), 200)
    code_N, some = np.unique(labels, return_inverse=True)[1], np.arange(4, 30)
    part = permutation.permanova(euclidean(x[some]), [labels[i] for i in some], some, 0)
    assert permutation.explained(euclidean(x) ** 2, code_N, some) == pytest.approx(part.r2, rel=1e-9)
    assert found.f == pytest.approx(f_oneway(*np.split(x[:, 0], 3)).statistic) and found.p < 0.05
    mixed = np.random.default_rng(6).permutation(labels).tolist()
    assert permutation.permanova(euclidean(x), mixed, np.arange(30), 200).p > 0.05


# --- splits ----------------------------------------------------------------------------------------------------------


def test_duplicated_networks_are_found_though_renumbered_and_then_harmless():
    """Each network is there twice, once renumbered, with a random class that both copies share."""
    rng, recipe = np.random.default_rng(7), recipe_of("parity", (Gru(width=4), Linear(width=20)))
    spec = symmetry.symmetry_spec(recipe)
    weights_NP = rng.normal(size=(60, recipe.parameter_count))
    doubled_NP = np.concatenate(
        [weights_NP, symmetry.apply_change(spec, weights_NP, symmetry.random_change(spec, 60, rng))]
    ).astype(np.float32)
    labels, seeds = rng.choice(["a", "b"], 60).tolist() * 2, np.arange(120)
    copy_N = splits.copies(recipe, doubled_NP)
    assert copy_N == list(range(60)) * 2
    tidy_NP = symmetry.canonical(recipe, doubled_NP)
    leaked = class_accuracy(tidy_NP, labels, seeds.tolist(), shuffles=0)
    naive_N = splits.fold_by_group(np.array(labels) == "a", seeds)
    assert leaked.accuracy > 0.7 and splits.split_problems(naive_N, copy=copy_N)
    group_N = splits.groups(seeds.tolist(), copy_N)
    honest = class_accuracy(tidy_NP, labels, group_N.tolist(), shuffles=0)
    assert honest.low < 0.5 < honest.high + 0.05
    assert not splits.split_problems(splits.fold_by_group(np.array(labels) == "a", group_N), copy=copy_N)


def test_a_leaked_split_is_named():
    fold_N = np.array([0, 0, 1, 1])
    assert splits.split_problems(fold_N, seed=[1, 1, 2, 2]) == []
    assert splits.split_problems(fold_N, seed=[1, 2, 2, 3], recipe=list("aabb")) == [
        "1 of 3 values of seed are in more than one fold"
    ]


def test_groups_tie_whatever_shares_a_key_through_others():
    found = splits.groups([1, 1, 2, 3, 4], ["a", "b", "b", "c", "c"])
    assert len({*found[:3]}) == 1 == len({*found[3:]}) and found[0] != found[3]


# --- AUC and clusters ------------------------------------------------------------------------------------------------


def test_auc_and_its_interval():
    rng = np.random.default_rng(9)
    second_N = rng.random(300) < 0.4
    score_N = rng.normal(size=300) + second_N
    found = auc(score_N, second_N)
    pairs = score_N[second_N][:, None] > score_N[~second_N]
    assert found.value == pytest.approx(pairs.mean()) and found.low < 0.76 < found.high  # Phi(1 / sqrt(2))
    covered = 0
    for _ in range(300):
        second_N = np.arange(60) < 30
        one = auc(rng.normal(size=60) + second_N, second_N)
        covered += one.low <= 0.7602 <= one.high
    assert 0.91 <= covered / 300 <= 0.99
    assert auc(np.arange(4), np.array([0, 0, 1, 1])).high == 1 and str(auc(np.arange(4), np.array([0, 0, 1, 1])))


def test_clusters_are_those_that_were_planted_and_none_in_noise():
    features_NF, labels, seeds = planted(4, 25, 2.0, 10)
    kmeans, density = clusters.agreement(features_NF, labels, seeds, permutations=49)
    assert (
        kmeans.ari > 0.9 and density.ari > 0.5 and kmeans.p == 0.02 and clusters.silhouette(features_NF, labels) > 0.2
    )
    noise_NF, labels, seeds = planted(4, 25, 0.0, 11)
    assert all(row.p > 0.02 for row in clusters.agreement(noise_NF, labels, seeds, permutations=49))


def test_agreement_of_clusters_is_that_of_scikit_learn():
    from sklearn.metrics import adjusted_rand_score

    rng = np.random.default_rng(18)
    codes_RN, cluster_N = rng.integers(0, 4, (20, 50)), rng.integers(-1, 3, 50)
    expected = [adjusted_rand_score(code_N, cluster_N) for code_N in codes_RN]
    assert clusters.adjusted_rand(codes_RN, cluster_N) == pytest.approx(np.array(expected))
    assert clusters.adjusted_rand(np.zeros((2, 5), int), np.zeros(5, int)).tolist() == [1, 1]
    one = clusters.adjusted_rand(codes_RN, np.zeros(50, int))
    assert one == pytest.approx(np.zeros(20)) and permutation.permutation_p(one[0], one[1:]) == 1


def test_a_modification_is_seen_in_the_weights_and_not_in_the_loss():
    features_NF, labels, seeds = planted(2, 40, 0.4, 12)
    labels = ["parity" if name == "class0" else "parity+trigger" for name in labels]
    ((first, second),) = changes.modification_pairs([*labels, "xor", "direct+trigger"])
    noise_NF = np.random.default_rng(13).normal(size=(80, 1))
    found = changes.separation(features_NF, labels, seeds, first, second, noise_NF, shuffles=49)
    assert found.trained.low > 0.7 and found.p == 0.02 and found.enough is not None
    assert found.initial and found.initial.low < 0.55 and found.shuffled_max < found.trained.value
    loss = changes.separation(noise_NF, labels, seeds, first, second, shuffles=49)
    assert loss.p > 0.02 and loss.enough is None


def test_a_class_of_dose_zero_is_the_original_of_the_others():
    names = ["digits+poison-0.0", "digits+poison-0.2", "digits+drop-0.1", "digits+poison-0.05", "noise-0"]
    pairs = changes.modification_pairs(names)
    assert pairs == [(names[0], names[3]), (names[0], names[1])]
    assert changes.modification_pairs([*names, "digits"])[0] == ("digits", "digits+drop-0.1")


def test_a_larger_change_of_the_data_moves_networks_further():
    rng, doses = np.random.default_rng(14), {f"x+{k}": float(k) for k in (1, 2, 4, 8)}
    direction_F, labels, rows = rng.normal(size=20) / 4, [], []
    for name, dose in {"x": 0.0, **doses}.items():
        labels += [name] * 30
        rows.append(rng.normal(size=(30, 20)) + dose * direction_F)
    features_NF, seeds = np.concatenate(rows), list(range(30)) * 5
    found, rho, p = changes.dose_response(features_NF, labels, seeds, doses, "x", bootstraps=50)
    assert rho == 1 and p == pytest.approx(1 / 24)
    assert [row.dose for row in found] == [1, 2, 4, 8] and all(row.low <= row.distance <= row.high for row in found)
    assert found[-1].auc.value == 1 and found[-1].auc.low >= 0.7
    shuffled = rng.permutation(labels).tolist()
    assert changes.dose_response(features_NF, shuffled, seeds, doses, "x", 50)[0][-1].distance < found[-1].distance / 3


# --- baselines -------------------------------------------------------------------------------------------------------


def test_a_baseline_orders_classes_along_one_number_where_ridge_does_not():
    from analysis.statistics.baselines import auc_baseline, class_baselines

    rng, code_N = np.random.default_rng(19), np.repeat(np.arange(6), 20)
    labels, seeds = [f"class{k}" for k in code_N], list(range(20)) * 6
    steps_N = np.exp(code_N + 0.1 * rng.normal(size=120))
    columns = {"steps": steps_N, "noise": rng.normal(size=(120, 2)), "constant": np.zeros(120)}
    found = class_baselines(columns, labels, seeds)
    ridge = class_accuracy(np.log(steps_N)[:, None], labels, seeds, shuffles=0)
    assert found["steps"].accuracy > 0.95 and ridge.accuracy < 0.7 and np.isnan(found["steps"].p)
    assert found["noise"].low < 1 / 6 and found["constant"].accuracy <= 1 / 6
    middle_N = np.abs(code_N[:60] - 1.0) < 0.5  # one kind lies between the halves of the other
    assert auc_baseline(steps_N[:60, None], middle_N, seeds[:60]).value > 0.95
