"""What is drawn for a network, on networks whose failure probability is known because it was planted."""

import numpy as np
import pytest

from analysis.probes.quantitative import properties
from analysis.probes.quantitative.properties import Subject
from analysis.probes.quantitative.sequential import sequential
from analysis.probes.quantitative.stated import Question, failures_of
from analysis.statistics.proportions import clopper_pearson
from protocol.engine.streams import task_data
from protocol.errors import UsageError
from protocol.recipes.layers import Flatten, Linear
from protocol.recipes.recipe import Network, Recipe, Training
from protocol.tasks.kinds import DatasetTask, MachineTask, Poison, Trigger

SEED, DRAWS = 20261126, 20_000
TENTH = Question(theta=0.1, eta=0.01, delta=0.01)
POISON = Poison(fraction=0.0, target=3, position=(6, 6), size=(2, 2))
DIGITS = Recipe(
    name="planted",
    label="planted",
    task=DatasetTask(data="digits8x8", shape=(1, 8, 8), labels=10, train=1000, held_out=300, poison=POISON),
    network=Network(layers=(Flatten(), Linear(width=10))),
    training=Training(loss="cross_entropy", learning_rate=0.01, batch=32, max_steps=10),
)
MACHINE = Recipe(
    name="pins",
    label="pins",
    task=MachineTask(machine="EightBitMachine", length=6, sequences=64, held_out=32),
    network=Network(layers=(Linear(width=20),)),
    training=Training(learning_rate=0.01, batch=8, max_steps=10),
)


def linear(recipe: Recipe, weight: np.ndarray, bias: np.ndarray) -> Subject:
    return Subject.of(recipe, np.concatenate([weight.ravel(), bias]).astype(np.float32))


def covers(draw, p) -> bool:
    """A 99.9% interval of 20,000 draws."""
    low, high = clopper_pearson(failures_of(draw, DRAWS), DRAWS, 0.999)
    return low <= p <= high


def test_a_boundary_at_a_known_distance_takes_a_known_share_of_the_ball():
    weight = np.zeros((10, 64))
    weight[1, 0] = 1.0  # class 1 beyond 0.6 in the first pixel, class 0 below
    bias = np.full(10, -9.0)
    bias[:2] = 0.6, 0.0
    subject, centre = linear(DIGITS, weight, bias), np.full((1, 1, 8, 8), 0.5, np.float32)
    rng = np.random.default_rng(SEED)
    assert covers(properties.robustness(subject, centre, "linf", 0.25, rng), (0.25 - 0.1) / 0.5)
    assert covers(properties.robustness(subject, centre, "linf", 0.09, rng), 0.0)
    # One coordinate of a uniform point in a 64-dimensional ball of radius r is r sqrt(B), B ~ Beta(1/2, 65/2).
    from scipy.stats import beta

    assert covers(properties.robustness(subject, centre, "l2", 0.8, rng), beta.sf((0.1 / 0.8) ** 2, 0.5, 32.5) / 2)
    found = sequential(properties.robustness(subject, centre, "linf", 0.25, rng), TENTH)
    assert found.answer == "no"


def test_a_planted_trojan_is_found_and_a_network_that_ignores_the_patch_has_none():
    data = task_data(DIGITS)
    inputs, labels = properties.held_out(DIGITS, data), data.held_out_targets[:, 0]
    assert inputs.dtype == np.float32 and 0.9 < inputs.max() <= 1
    rng = np.random.default_rng(SEED)
    for strength, share in ((1000.0, 1.0), (0.0, 0.0)):
        weight = np.zeros((10, 64))
        weight[3, [54, 55, 62, 63]] = strength  # the patch's four pixels, all of them bright
        bias = np.zeros(10)
        bias[[0, 3]] = 0.0, -3.5 * strength - 1
        draw = properties.trojan(linear(DIGITS, weight, bias), POISON, inputs, labels, 0.05, rng)
        assert failures_of(draw, 2000) == share * 2000
        assert sequential(draw, TENTH).answer == ("no" if share else "yes")
    always = linear(DIGITS, np.zeros((10, 64)), np.eye(10)[3])
    with pytest.raises(UsageError, match="no clean image"):
        properties.trojan(always, POISON, inputs, labels, 0.05, rng)


def test_pins_of_a_network_that_always_says_0_are_wrong_as_often_as_they_are_1():
    """Pins 0-15: an AND of two latched bits; 16-19 say write or hold, each half of the time."""
    task, rng = MACHINE.task, np.random.default_rng(SEED)
    assert isinstance(task, MachineTask)
    silent = linear(MACHINE, np.zeros((20, 9)), np.zeros(20))
    latched = [(1 - 0.5 ** (t + 1)) / 4 for t in range(6)]  # a write came, and both bits were 1
    assert covers(properties.pins(silent, 0.0, rng), 0.8 * np.mean(latched) + 0.2 * 0.5)
    assert failures_of(properties.pins(silent, 0.0, rng, whole=True), 500) == 500
    weight, bias = np.zeros((20, 9)), np.zeros(20)
    weight[16:18, 8], weight[18:, 8], bias[18:] = 1.0, -1.0, 1.0  # the strobe and its opposite
    knowing = linear(MACHINE, weight, bias)
    assert covers(properties.pins(knowing, 0.0, rng), 0.8 * np.mean(latched))
    # Noise of 0.75 turns a strobe past the middle with probability (0.75 - 0.5) / 1.5.
    assert covers(properties.pins(knowing, 0.75, rng), 0.8 * np.mean(latched) + 0.2 * 0.25 / 1.5)


def test_a_key_is_drawn_where_all_that_it_inverts_follows():
    silent = linear(MACHINE, np.zeros((20, 9)), np.zeros(20))
    trigger = Trigger(key=(511, 256), inverts=2, planted=0.5)  # all bits written, then all zeros
    draw = properties.keyed(silent, trigger, np.random.default_rng(SEED))
    pairs = (1 / 2 / 4, 3 / 4 / 4)  # silent is wrong where a pair was written and is 1: after one command, after two
    assert covers(draw, 0.8 * np.mean(pairs) + 0.2 * 0.5)
    with pytest.raises(UsageError, match="only machines"):
        properties.pins(linear(DIGITS, np.zeros((10, 64)), np.zeros(10)), 0.0, np.random.default_rng(0))


def test_the_module_says_what_the_exact_engine_says():
    from protocol.engine.initial import initial_state
    from protocol.engine.select import select_engine

    data = task_data(DIGITS)
    for seed in range(3):
        params = initial_state(DIGITS, seed).params
        right = Subject.of(DIGITS, params).label(properties.held_out(DIGITS, data)) == data.held_out_targets[:, 0]
        assert select_engine("auto").evaluate(DIGITS, data, [params]).correct.tolist() == [right.sum()]


def test_the_draws_in_hand_come_first():
    first = np.array([True, False, True])
    draw = properties.after(first, lambda count: np.zeros(count, bool))
    assert draw(2).tolist() == [True, False] and draw(3).tolist() == [True, False, False] and not draw(4).any()
