"""L_IT of planted nulls stays null, planted truths are found: small networks, trained here by the exact engine."""

import numpy as np
import pytest
from msgspec.structs import replace
from scipy.stats import ttest_1samp

from analysis.probes.information.retrain import Fit, initial, mixed_labels, trained
from analysis.probes.information.transfer import (
    REFERENCE,
    Plan,
    area,
    coded,
    compared,
    fooled,
    knowing,
    orders,
    reference,
)
from protocol.engine.select import select_engine
from protocol.engine.streams import task_data
from protocol.errors import UsageError
from protocol.recipes.layers import Flatten, Linear, Relu, Tanh
from protocol.recipes.recipe import Network, Recipe, Training
from protocol.tasks.kinds import DatasetTask, FunctionTask

SEED, SEEDS, STEPS = 20261126, range(8), 400
DIGITS = Recipe(
    name="digits",
    label="digits",
    task=DatasetTask(data="digits8x8", shape=(1, 8, 8), labels=10, train=600, held_out=256),
    network=Network(layers=(Flatten(), Linear(width=24), Relu(), Linear(width=10))),
    training=Training(loss="cross_entropy", learning_rate=0.005, batch=32, max_steps=STEPS),
)
PLAN = Plan(samples=256, shuffles=2, fit=Fit(rate=2e-3, look_steps=50, looks=4, patience=2))


@pytest.fixture(scope="module")
def engine():
    return select_engine("auto")


@pytest.fixture(scope="module")
def found(engine):
    """A dictionary of columns for each seed and question."""
    data = task_data(DIGITS)
    rows = []
    for seed in SEEDS:
        rng = np.random.default_rng([SEED, seed])
        starts = {REFERENCE: reference(DIGITS, seed)}
        starts |= {f"saw {n}": knowing(engine, DIGITS, data, seed, STEPS, n) for n in (30, 150, 600)}
        starts |= {f"fooled {n}": fooled(engine, DIGITS, data, seed, STEPS, rng, n) for n in (30, 150, 600)}
        starts["fooled again"] = fooled(engine, DIGITS, data, seed, STEPS, rng)
        starts["initial"], starts["another"] = initial(DIGITS, seed), initial(DIGITS, 1000 + seed)
        mixed = mixed_labels(data, rng)
        starts["forgot"] = trained(engine, DIGITS, mixed, starts["saw 600"], seed, STEPS)[0]
        order = orders(np.arange(256), PLAN, rng)
        codes = coded(engine, DIGITS, starts, data, order, PLAN)
        row = {str(n): compared(codes, f"saw {n}", f"fooled {n}", 256, DIGITS) for n in (30, 150, 600)}
        row["mixed"] = compared(codes, "fooled again", "fooled 600", 256, DIGITS)
        row["initial"] = compared(codes, "initial", "another", 256, DIGITS)
        row["forgot"] = compared(codes, "forgot", "fooled 600", 256, DIGITS)
        rows.append(row)
    return rows


def column(found, question: str, name: str) -> np.ndarray:
    return np.array([row[question][name] for row in found])


def test_networks_that_know_nothing_score_but_no_more_than_their_control(found):
    """The control is there because a start that was trained on noise may well score by itself."""
    for null in ("mixed", "initial"):
        net = column(found, null, "net_bits")
        assert ttest_1samp(net, 0.0).pvalue > 0.01, net
        assert abs(net.mean()) < 0.1 * column(found, null, "reference_bits").mean()
        assert column(found, null, "static_softened_bits").mean() < 10
    assert column(found, "mixed", "static_bits").max() < 0  # it is sure of what is not so
    assert ttest_1samp(column(found, "initial", "bits"), 0.0, alternative="greater").pvalue < 0.05


def test_what_was_learnt_is_found_and_grows_with_the_samples(found):
    net = np.stack([column(found, n, "net_bits") for n in ("30", "150", "600")])
    own = np.stack([column(found, n, "bits") for n in ("30", "150", "600")])
    static = np.stack([column(found, n, "static_softened_bits") for n in ("30", "150", "600")])
    assert (own[2] > own[0]).all() and own[0].mean() < own[1].mean() < own[2].mean()
    assert (static[2] > static[0]).all() and static[0].mean() < static[1].mean() < static[2].mean()
    assert (net.min(1) > 0).all() and (column(found, "600", "net_bits") > 100).all()
    # Bounded by what the reference itself must learn; the static form rewards all that lies beyond uniform.
    assert (own <= np.stack([column(found, n, "reference_bits") for n in ("30", "150", "600")])).all()
    assert column(found, "600", "uniform_bits") == pytest.approx(256 * np.log2(10))
    assert (column(found, "600", "static_bits") > own[2]).all()


def test_training_on_noise_makes_a_network_forget(found):
    before, after = column(found, "600", "bits"), column(found, "forgot", "bits")
    assert (after < before).all() and (before - after).mean() > 100


def test_the_area_form_is_positive_where_there_is_something_to_learn_and_only_there(engine):
    data = task_data(DIGITS)
    for seed in range(3):
        mixed = mixed_labels(data, np.random.default_rng([SEED, seed]))
        assert area(engine, DIGITS, data, seed, knowing(engine, DIGITS, data, seed, STEPS)) > 500
        blind, _ = trained(engine, DIGITS, mixed, initial(DIGITS, seed), seed, STEPS)
        assert area(engine, DIGITS, mixed, seed, blind) < 0
    regression = replace(DIGITS, training=replace(DIGITS.training, loss="mse"))
    assert np.isnan(area(engine, regression, data, 0, reference(DIGITS, 0)))


def test_values_are_coded_too(engine):
    recipe = Recipe(
        name="wave",
        label="wave",
        task=FunctionTask(function="wave", samples=128, held_out=128),
        network=Network(layers=(Linear(width=24), Tanh(), Linear(width=1))),
        training=Training(learning_rate=0.01, batch=32, max_steps=1500),
    )
    data, plan = task_data(recipe), Plan(samples=128, shuffles=2, fit=PLAN.fit)
    net, null = [], []
    for seed in range(4):
        rng = np.random.default_rng([SEED, seed])
        starts = {
            REFERENCE: reference(recipe, seed),
            "own": knowing(engine, recipe, data, seed, 1500),
            "control": fooled(engine, recipe, data, seed, 1500, rng),
            "again": fooled(engine, recipe, data, seed, 1500, rng),
        }
        codes = coded(engine, recipe, starts, data, orders(np.arange(128), plan, rng), plan)
        net.append(compared(codes, "own", "control", 128, recipe)["net_bits"])
        null.append(compared(codes, "again", "control", 128, recipe)["net_bits"])
    assert min(net) > 40 and abs(np.mean(null)) < 0.25 * np.mean(net)


def test_too_few_samples_are_refused():
    with pytest.raises(UsageError, match="31 held-out samples"):
        orders(np.arange(31), PLAN, np.random.default_rng(0))
    with pytest.raises(UsageError, match="first = 1"):
        orders(np.arange(31), Plan(first=1), np.random.default_rng(0))


def test_samples_that_do_not_make_two_blocks_are_told():
    for rows, samples in ((31, 500), (256, 31)):
        with pytest.raises(UsageError, match="32 are the fewest"):
            orders(np.arange(rows), Plan(samples=samples, first=16), np.random.default_rng(0))
