"""Code lengths and the exact engine's training again, on small networks of every kind of target."""

import math

import numpy as np
import pytest
from msgspec.structs import replace
from scipy.stats import norm

from analysis.probes.information import retrain
from analysis.probes.information.codes import Running, block_bits, heats, uniform_bits
from analysis.probes.information.lengths import block_ends, code_lengths, tempered_lengths
from analysis.probes.information.retrain import Fit, fit_from, softened, uniform_head
from analysis.weights.forward import outputs
from protocol.engine.select import select_engine
from protocol.engine.streams import task_data
from protocol.engine.training import train_networks
from protocol.errors import UsageError
from protocol.recipes.layers import Flatten, Gru, Linear, Relu
from protocol.recipes.recipe import Network, Recipe, Training
from protocol.tasks.kinds import DatasetTask, FunctionTask, MachineTask

SEED = 20261126
DIGITS = Recipe(
    name="digits",
    label="digits",
    task=DatasetTask(data="digits8x8", shape=(1, 8, 8), labels=10, train=400, held_out=200),
    network=Network(layers=(Flatten(), Linear(width=16), Relu(), Linear(width=10))),
    training=Training(loss="cross_entropy", learning_rate=0.01, batch=32, max_steps=300, segment_steps=100),
)
PINS = Recipe(
    name="pins",
    label="pins",
    task=MachineTask(machine="SimpleXORMachine", length=4, sequences=64, held_out=48),
    network=Network(layers=(Gru(width=6), Linear(width=20))),
    training=Training(learning_rate=0.02, batch=16, max_steps=60),
)
VALUES = Recipe(
    name="values",
    label="values",
    task=FunctionTask(function="wave", samples=128, held_out=96),
    network=Network(layers=(Linear(width=16), Relu(), Linear(width=1))),
    training=Training(learning_rate=0.01, batch=16, max_steps=400),
)
BCE = replace(PINS, training=replace(PINS.training, loss="bce"))
FIT = Fit(look_steps=20, looks=3, patience=2)


@pytest.fixture(scope="module")
def engine():
    return select_engine("auto")


def starts(recipe: Recipe, seeds=(0, 1)) -> np.ndarray:
    return np.stack([retrain.initial(recipe, seed) for seed in seeds])


def test_the_recipes_own_training_again_gives_its_own_network(engine):
    for recipe in (DIGITS, VALUES):
        (*_, (_, last)) = train_networks(engine, recipe, [3], 1)
        data = task_data(recipe)
        params, losses = retrain.trained(engine, recipe, data, retrain.initial(recipe, 3), 3, recipe.training.max_steps)
        assert params.tobytes() == last.state.params.tobytes() and len(losses) == recipe.training.max_steps


def test_a_network_becomes_the_same_whoever_is_trained_with_it(engine):
    data, both = task_data(DIGITS), starts(DIGITS)
    x, y = data.held_out_inputs[:120], data.held_out_targets[:120]
    together = fit_from(engine, DIGITS, both, x, y, FIT, SEED)
    alone = fit_from(engine, DIGITS, both[1:], x, y, FIT, SEED)
    assert together[1].tobytes() == alone[0].tobytes()
    assert (alone[0] != both[1]).any() and (together[0] != both[0]).any()


def test_early_stopping_keeps_the_start_where_training_only_harms(engine):
    data = task_data(DIGITS)
    good, _ = retrain.trained(engine, DIGITS, data, retrain.initial(DIGITS, 0), 0, 300)
    sure = outputs(DIGITS, good[None], data.inputs)[0, :, 0]
    sure = np.flatnonzero(np.sort(sure, 1)[:, -1] - np.sort(sure, 1)[:, -2] > 8)[:60]  # learnt, and by far
    x, y = data.inputs[sure], data.targets[sure].copy()
    y[:-6] = (y[:-6] + 1) % 10  # what is trained on is wrong, what is held back is right
    assert fit_from(engine, DIGITS, good[None], x, y, FIT, SEED)[0].tobytes() == good.tobytes()


@pytest.mark.parametrize("recipe", [DIGITS, PINS, BCE], ids=["classes", "mse pins", "bce pins"])
def test_a_head_of_zeros_codes_uniformly(engine, recipe):
    data, rows = task_data(recipe), np.arange(40)
    found = code_lengths(engine, recipe, uniform_head(recipe, starts(recipe)), data, rows, 8, FIT, SEED)
    first = uniform_bits(recipe) * 8
    assert first == pytest.approx(8 * (math.log2(10) if recipe is DIGITS else 4 * 20))
    assert found.prequential_KB[:, 0] == pytest.approx([first, first])
    assert found.static_KB.sum(1) == pytest.approx([5 * first, 5 * first])


def test_code_lengths_agree_with_the_exact_engines_loss(engine):
    for recipe in (DIGITS, BCE):
        data, params = task_data(recipe), starts(recipe)
        bits_KS, _ = block_bits(
            recipe, outputs(recipe, params, data.held_out_inputs), data.held_out_targets, Running.begin(recipe, data, 2)
        )
        values = 1 if recipe is DIGITS else 4 * 20
        exact_K = engine.held_out_loss(recipe, data, list(params)).astype(float) * values / math.log(2)
        assert bits_KS.mean(1) == pytest.approx(exact_K, rel=1e-5)


def test_values_cost_gaussian_bits_of_the_residuals_before():
    data = task_data(VALUES)
    found_KSTJ = outputs(VALUES, starts(VALUES), data.held_out_inputs[:20])
    begin = Running.begin(VALUES, data, 2)
    bits_KS, after = block_bits(VALUES, found_KSTJ, data.held_out_targets[:20], begin)
    square = float((data.targets.astype(float) ** 2).mean())
    residual_KS = (found_KSTJ - data.held_out_targets[None, :20])[:, :, 0, 0]
    for j in (0, 1, 19):
        variance = (square + (residual_KS[0, :j] ** 2).sum()) / (1 + j)
        assert bits_KS[0, j] == pytest.approx(-norm.logpdf(residual_KS[0, j], scale=math.sqrt(variance)) / math.log(2))
    halves = [block_bits(VALUES, found_KSTJ[:, :9], data.held_out_targets[:9], begin)]
    halves.append(block_bits(VALUES, found_KSTJ[:, 9:], data.held_out_targets[9:20], halves[0][1]))
    assert np.concatenate([bits for bits, _ in halves], 1) == pytest.approx(bits_KS)
    assert halves[1][1].total_K == pytest.approx(after.total_K) and halves[1][1].samples == after.samples == 21
    assert math.isnan(uniform_bits(VALUES))


def test_without_training_the_prequential_code_is_the_static_one(engine):
    for recipe in (DIGITS, PINS, VALUES):
        found = code_lengths(engine, recipe, starts(recipe), task_data(recipe), np.arange(40), 8, Fit(looks=0), SEED)
        assert found.prequential_KB == pytest.approx(found.static_KB)
    assert block_ends(500, 16) == [16, 32, 64, 128, 256, 500] and block_ends(16, 16) == [16]
    with pytest.raises(ValueError, match="blocks from 16"):
        block_ends(15, 16)


def test_a_start_that_is_too_sure_is_softened_and_a_modest_one_is_not(engine):
    data = task_data(DIGITS)
    params = retrain.trained(engine, DIGITS, data, retrain.initial(DIGITS, 0), 0, 300)[0]
    loud = softened(DIGITS, params[None], np.array([1 / 30]))[0]
    both = np.stack([uniform_head(DIGITS, params), loud])
    found = tempered_lengths(engine, DIGITS, both, data, np.arange(128), 64, FIT, SEED)
    assert found.heat_K[0] == 1 < found.heat_K[1]
    assert found.softened.static_KB[1].sum() < found.plain.static_KB[1].sum()
    assert (found.softened.prequential_KB[:, 0] == found.plain.prequential_KB[:, 0]).all()  # not known yet
    assert (found.softened.prequential_KB[0] == found.plain.prequential_KB[0]).all()
    logits = outputs(DIGITS, both, data.held_out_inputs[:5])
    halved = outputs(DIGITS, softened(DIGITS, both, np.array([2.0, 2.0])), data.held_out_inputs[:5])
    assert halved == pytest.approx(logits / 2, abs=1e-5)
    machine = task_data(PINS)
    assert heats(PINS, outputs(PINS, starts(PINS), machine.held_out_inputs), machine.held_out_targets).tolist() == [
        1,
        1,
    ]


def test_a_part_of_the_data_is_a_recipe_of_its_own():
    part = retrain.on_samples(replace(DIGITS, task=replace(DIGITS.task, drop=0.5)), 20)
    assert part.task_shape.samples == 20 and part.training.batch == 20 and part.digest != DIGITS.digest
    assert retrain.on_samples(DIGITS, 400).digest == DIGITS.digest
    data = task_data(DIGITS)
    mixed = retrain.mixed_labels(data, np.random.default_rng(SEED))
    assert (mixed.targets != data.targets).mean() > 0.8 and sorted(mixed.targets[:, 0]) == sorted(data.targets[:, 0])
    ends = replace(PINS, network=Network(layers=(Gru(width=20),)))
    with pytest.raises(UsageError, match="linear layer at the network's end"):
        uniform_head(ends, np.zeros(1))
