"""What was planted is found, and where nothing was planted nothing is: the four uses of surrogates."""

import msgspec
import numpy as np
import pytest
from support.trained import curve, inputs_of, recipe_of, table, trained

from analysis.probes.contract import Inputs, Unit
from analysis.probes.gp.functions import functions, grid, points_of, scaled
from analysis.probes.gp.measures import (
    centroid,
    learnt,
    off_diagonal_correlation,
    participation_ratio,
    spectrum,
    step_of_half,
    strongest,
)
from analysis.probes.gp.probe_depth import GpDepth, GpDepthSettings
from analysis.probes.gp.probe_influence import GpInfluence, GpInfluenceSettings
from analysis.probes.gp.probe_ranking import GpRanking, GpRankingSettings, is_other
from analysis.probes.gp.probe_spectrum import GpSpectrum, GpSpectrumSettings, snapshot_steps
from analysis.probes.gp.ranking import rank, regret
from analysis.probes.gp.retraining import retrain, without
from analysis.probes.gp.summary import depths, influences, learning, rankings
from analysis.statistics.ranks import spearman, spearman_interval
from protocol.engine.initial import initial_state
from protocol.engine.select import select_engine
from protocol.engine.streams import task_data
from protocol.errors import UsageError
from protocol.recipes.layers import Relu
from protocol.recipes.recipe import Training

QUICK = {"restarts": 2, "kernels": ("rbf", "matern-5/2")}


# -- covariances ------------------------------------------------------------------------------------------------------


def test_a_planted_frequency_is_the_centroid_and_its_share_is_learnt():
    x_N = grid(64)
    phase_M = np.random.default_rng(0).uniform(0, 2 * np.pi, 400)
    waves_MN = np.sin(2 * np.pi * 7 * x_N + phase_M[:, None])
    assert centroid(waves_MN.T @ waves_MN / 400) == pytest.approx(7, abs=0.05)
    frequency_S, power_S = spectrum(np.eye(64))
    assert centroid(np.eye(64)) == pytest.approx(frequency_S.mean(), rel=0.02) and power_S.std() < 0.2 * power_S.mean()
    target_N = np.sin(2 * np.pi * x_N) + np.sin(2 * np.pi * 5 * x_N)
    assert strongest(target_N, 2).tolist() == strongest(target_N, 3).tolist() == [1, 5]
    half_MN = np.stack([target_N, np.sin(2 * np.pi * x_N) - 0.5 * np.sin(2 * np.pi * 5 * x_N)])
    assert learnt(half_MN, target_N, np.array([1, 5])) == pytest.approx(np.array([[1, 1], [1, -0.5]]), abs=1e-12)
    assert step_of_half(np.array([0, 10, 20]), np.array([0.0, 0.25, 0.75])) == 15
    assert step_of_half(np.array([0, 10]), np.array([0.0, 0.25])) == np.inf


def test_correlation_and_participation_of_known_covariances():
    rng = np.random.default_rng(1)
    one_N = rng.normal(size=12)
    assert participation_ratio(np.outer(one_N, one_N)) == pytest.approx(1)
    assert off_diagonal_correlation(np.ones((5, 5))) == pytest.approx(1)
    assert participation_ratio(np.eye(12)) == pytest.approx(12) and off_diagonal_correlation(np.eye(12)) == 0
    rows_MN = rng.normal(size=(300, 12))  # a null: independent values; (tr S)^2 / tr S^2 -> N / (1 + N / M)
    assert participation_ratio(rows_MN.T @ rows_MN / 300) == pytest.approx(12 / (1 + 12 / 300), rel=0.05)


# -- spectral bias ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_low_frequencies_come_first_and_untrained_networks_have_no_trend():
    recipe = curve()
    rows = GpSpectrum().rows(inputs_of([recipe], range(8)), GpSpectrumSettings(networks=8, snapshots=5, **QUICK))
    assert {row["network"] for row in rows} == {"curve"} and len(rows) == 5 * 2 * 2
    for found in learning(table(rows)):
        assert found.steps_S.tolist() == snapshot_steps(recipe, 5) == [0, 50, 150, 300, 800]
        assert found.length_S[-1][2] < found.length_S[0][1]  # shorter, beyond both intervals
        assert found.centroid_S[-1][1] > found.centroid_S[0][2]
        assert found.higher[0] > 0.8 and found.higher[1] < 0.05
        assert found.control_centroid_S.max() < 1.5 < found.centroid_S[-1][0]
        assert found.frequencies == [1, 3, 6] and found.half_steps == sorted(found.half_steps)
        assert found.half_steps[0] < 100 < found.half_steps[2]
    with pytest.raises(UsageError, match="five snapshots"):
        learning(table(rows[:16]))


def test_other_weights_than_the_recipes_are_refused():
    recipe = curve(hidden=(4,), steps=50)
    given = inputs_of([recipe], range(8))
    other = Inputs(unit=given.unit, recipes=given.recipes, seeds=given.seeds, weights=given.weights[::-1])
    with pytest.raises(UsageError, match="audit"):
        GpSpectrum().rows(other, GpSpectrumSettings(**QUICK))


# -- depth ------------------------------------------------------------------------------------------------------------


def test_deep_untrained_networks_are_nearly_constant_and_a_second_draw_agrees():
    rows = []
    for deep in (0, 1, 3, 8):
        recipe = curve("friedman", hidden=(16,) * deep, unit=Relu, steps=50, name=f"deep-{deep}")
        rows += GpDepth().rows(inputs_of([recipe], range(2)), GpDepthSettings(networks=64, points=24, restarts=2))
    (found,) = depths(table(rows))
    assert found.layers_S.tolist() == [1, 2, 4, 9] and np.isnan(found.trained_S).all()
    correlation_S = [value for value, _, _ in found.correlation_S]
    assert correlation_S == sorted(correlation_S) and correlation_S[0] < 0.9 and correlation_S[3] > 0.999
    assert found.participation_S[0][0] > found.participation_S[3][0] == pytest.approx(1, abs=0.001)
    assert found.again_S == pytest.approx(correlation_S, abs=0.05)


@pytest.mark.parametrize("file", ["ds4-digits.toml", "digits-mlp.toml", "ds1-parity.toml"])
def test_any_recipe_has_a_depth_and_classes_are_rows_of_their_own(file):
    recipe = recipe_of(file)
    unit, weights = Unit(networks=("n",), digests=("d",)), (initial_state(recipe, 3).params,)
    given = Inputs(unit=unit, recipes=(recipe,), seeds=(3,), weights=weights)
    rows = GpDepth().rows(given, GpDepthSettings(networks=6, points=10, restarts=1))
    outputs = recipe.flows[-1].features
    assert [(row["population"], row["networks"]) for row in rows] == [("initial", 6 * outputs), ("again", 6 * outputs)]
    assert all(1 <= row["participation"] <= 10 and -1 <= row["correlation"] <= 1 for row in rows)
    if recipe.task_shape.target == "classes":
        values = functions(recipe, np.stack(given.weights), points_of(recipe, task_data(recipe), 10).raw)
        assert values.shape == (10, 10) and values.sum(0) == pytest.approx(np.zeros(10), abs=1e-12)


def test_ranking_takes_classes_as_numbers():
    recipe = recipe_of("digits-mlp.toml", training={"max_steps": 20})
    (row,) = GpRanking().rows(inputs_of([recipe], range(2)), GpRankingSettings(networks=6, samples=20, **QUICK))
    assert row["networks"] == 60 and row["population"] == "initial" and row["architecture"] == "relu 32-16"
    assert np.isfinite([row[name] for name in ("evidence", "left_out_error", "left_out_nats", "error")]).all()
    assert 0 < row["left_out_error"] < 0.2  # of ten classes as 0 and 1, about their means


# -- influence --------------------------------------------------------------------------------------------------------


def test_leaving_out_nothing_gives_the_published_bits_and_a_point_less_is_a_point_less():
    recipe = curve("wave", hidden=(8,), samples=20, batch=20, steps=100)
    data, engine = task_data(recipe), select_engine("auto", threads=1)
    assert np.array_equal(retrain(engine, recipe, data, range(3)), np.stack(trained(recipe, range(3))))
    fewer, less = without(recipe, data, [4, 7])
    assert fewer.task_shape.samples == len(less.inputs) == 18 and fewer.training.batch == 18
    assert np.array_equal(less.inputs, np.delete(data.inputs, [4, 7], axis=0))
    begun = [r.stream_root for r in (recipe, fewer)]
    assert begun[0] == begun[1]  # so they start from the same weights
    for change in (
        {"twin": ""},
        {"training": Training(learning_rate=0.1, batch=2, max_steps=5, stop_held_out_loss=1.0)},
    ):
        with pytest.raises(UsageError):
            without(msgspec.structs.replace(recipe, **change), data, [0])


@pytest.mark.slow
@pytest.mark.long
def test_influence_goes_with_true_retraining_and_shuffled_influence_does_not():
    recipe = curve("wave", hidden=(24, 24), samples=24, batch=24, noise=0.3, steps=400)
    settings = GpInfluenceSettings(networks=8, untrained=32, removed=3, random=19, **QUICK)
    rows = GpInfluence().rows(inputs_of([recipe], range(8)), settings)
    assert len(rows) == 24 + 2 + 19
    (found,) = influences(table(rows))
    by = {one.name: one for one in found.judged}
    best = by["kernel of trained networks"]
    assert best.rho[0] > 0.5 and best.rho[1] > 0 and best.p < 0.01 and best.top > 1.2 and best.top_p <= 0.2
    shuffled = np.random.default_rng(0).permuted(np.tile(found.said_N, (200, 1)), axis=1)
    rhos = [spearman(row, found.moved_N) for row in shuffled]
    assert abs(np.mean(rhos)) < 0.05
    points_N = np.arange(len(found.moved_N))
    marks = [spearman_interval(row, found.moved_N, points_N) for row in shuffled]
    held = [low <= 0 <= high for _, low, high in marks]
    assert np.mean(held) > 0.9  # 95% intervals of nothing


@pytest.mark.slow
@pytest.mark.long
def test_where_influence_says_nothing_its_p_values_are_uniform():
    from scipy.stats import kstest

    rng, ps, top_ps = np.random.default_rng(4), [], []
    for _ in range(200):
        names = (
            "moved",
            "moved_first",
            "moved_second",
            "residual",
            "distance",
            "influence_initial",
            "influence_trained",
        )
        about = {"network": "n", "architecture": "a", "networks": 2, "removed": 1}
        rows = [about | {"what": "point"} | dict(zip(names, rng.random(7), strict=True)) for _ in range(30)]
        for what in ("top_initial", "top_trained", *["random"] * 39):
            rows.append(about | {"what": what, "removed": 3} | dict(zip(names, rng.random(7), strict=True)))
        judged = influences(table(rows))[0].judged
        ps.append([one.p for one in judged])
        top_ps.append(judged[0].top_p)
    for column in zip(*ps, strict=True):  # both kernels, and both baselines
        assert kstest(column, "uniform").pvalue > 0.01
    assert kstest(np.array(top_ps) - rng.uniform(0, 1 / 40, 200), "uniform").pvalue > 0.01  # of 40 equal steps


@pytest.mark.slow
@pytest.mark.long
def test_where_nothing_changes_the_trends_p_values_are_uniform():
    from scipy.stats import kstest

    rng, ps = np.random.default_rng(5), []
    for _ in range(200):
        rows = []
        for step in range(7):
            for population in ("trained", "control"):
                low, value, high = sorted(rng.random(3))
                about = {"network": "n", "architecture": "a", "view": "seeds", "networks": 8, "kernel": "rbf"}
                spans = {
                    f"{name}{end}": x
                    for name in ("length", "centroid")
                    for end, x in (("", value), ("_low", low), ("_high", high))
                }
                rows.append(about | spans | {"step": step, "population": population})
        found = learning(table(rows))[0]
        ps.append((found.higher[1], found.shorter[1], found.control[1]))
    for column in zip(*ps, strict=True):
        assert kstest(column, "uniform").pvalue > 0.01


def test_a_planted_outlier_is_the_most_influential_point():
    from analysis.probes.gp.influence import influence, process, rescale
    from analysis.probes.gp.kernels import kernel_named
    from analysis.probes.gp.surrogate import fit, seen

    recipe = curve("wave", hidden=(24, 24), samples=30, batch=30, steps=50)
    data, hits = task_data(recipe), 0
    points = points_of(recipe, data, 32)
    x_ND, z_MD = scaled(data.inputs), scaled(points.raw, data.inputs)
    initial_MN = functions(recipe, np.stack(trained(recipe, range(16))), data.inputs)
    kernel = fit(kernel_named("matern-5/2"), [seen(x_ND, initial_MN, False)], restarts=3)
    for planted in range(30):
        target_N = data.targets[:, 0, 0].astype(np.float64)
        target_N[planted] += 3.0
        target_N -= target_N.mean()
        best = rescale(kernel.matrix(x_ND), target_N)
        found = process(best.scale * kernel.matrix(x_ND), best.noise, target_N)
        hits += int(np.argmax(influence(found, best.scale * kernel.matrix(z_MD, x_ND))) == planted)
    assert hits > 20  # by chance: one


# -- ranking ----------------------------------------------------------------------------------------------------------


def test_a_planted_order_is_found_and_shuffled_scores_have_uniform_p():
    from scipy.stats import kstest

    rng = np.random.default_rng(2)
    error_TA = rng.random((5, 9)) + np.arange(9)  # architectures are alike over data sets
    found = rank(-error_TA + 0.1 * rng.normal(size=(5, 9)), error_TA)
    assert found.tau > 0.9 and found.low > 0.7 and found.p < 0.01 and found.regret == 0
    assert 0.3 < found.chance < 0.7
    taus, ps = [], []
    for _ in range(200):
        score_A = rng.normal(size=9)  # the same for all data sets, and nothing to do with errors
        null = rank(score_A + 0.3 * rng.normal(size=(5, 9)), error_TA, orders=199, seed=int(rng.integers(1 << 30)))
        taus.append(null.tau)
        ps.append(null.p)
    assert abs(np.mean(taus)) < 0.06 and kstest(ps, "uniform").pvalue > 0.01
    assert regret(np.array([1, 1, 0]), np.array([0.0, 1.0, 2.0])) == 0.25  # of equal scores the mean


def test_kendalls_tau_is_scipys():
    from scipy.stats import kendalltau

    rng = np.random.default_rng(3)
    for _ in range(20):
        score_A, error_A = rng.integers(0, 4, 9).astype(float), rng.random(9)
        assert rank(score_A[None], error_A[None], orders=10).tau == pytest.approx(
            kendalltau(score_A, -error_A).statistic
        )


@pytest.mark.slow
def test_rows_of_architectures_are_ranked_against_measured_errors():
    kinds = {"wide": (32,), "deep": (16, 16), "narrow": (2,), "line": ()}
    recipes = [
        curve(task, hidden=hidden, steps=300, samples=48, batch=16, noise=0.05, name=f"{task}-{name}")
        for task in ("wave", "runge", "triangle")
        for name, hidden in kinds.items()
    ]
    rows = []
    for recipe in recipes:
        others = [other for other in recipes if is_other(other, recipe)]
        assert len(others) == 2
        rows += GpRanking().rows(inputs_of([recipe, *others], range(4)), GpRankingSettings(networks=16, **QUICK))
    assert len(rows) == 3 * 4 * 2 and {row["population"] for row in rows} == {"initial", "other"}
    by = {(one.name, one.population): one for one in rankings(table(rows))}
    assert len(by) == 3 * 2 + 4 and all(one.architectures == 4 and len(one.tasks) == 3 for one in by.values())
    assert by["training_loss", ""].ranked.tau > 0.5  # four kinds of which two cannot learn it
    with pytest.raises(UsageError, match="three architectures"):
        rankings(table(rows[:2]))
