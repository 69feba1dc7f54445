"""Many networks in one call: the orders of their epochs, which C draws, and their first parameters."""

from ctypes import c_int32, c_void_p

import numpy as np
import pytest

from protocol.engine.initial import initial_state, initial_states
from protocol.engine.native import orders
from protocol.engine.native.engine import NativeEngine
from protocol.engine.reference.engine import NumpyEngine
from protocol.engine.streams import task_data
from protocol.engine.training import means
from protocol.recipes.layers import Dropout, Gru, LayerNorm, Linear
from protocol.recipes.recipe import Network, Recipe, Training
from protocol.tasks.kinds import MachineTask
from protocol.tasks.philox import permutation, stream_key, stream_keys


def recipe_of(*layers, init="pytorch", sequences=37, batch=20) -> Recipe:
    return Recipe(
        name="test",
        label="test",
        task=MachineTask(machine="EightBitMachine", length=5, sequences=sequences, held_out=21),
        network=Network(layers=layers, init=init),
        training=Training(batch=batch, learning_rate=0.02, max_steps=60, segment_steps=10),
    )


LINEAR = recipe_of(Linear(width=20))


@pytest.fixture(scope="module")
def engine() -> NativeEngine:
    return NativeEngine()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 63, 64, 65, 1437, 4095, 4096, 70_001])
def test_c_draws_the_order_of_an_epoch(engine, count):
    for key in ((0, 0), (0xFFFFFFFF, 1), (123456789, 0x9ABCDEF0)):
        words, order, space = np.array(key, np.uint32), np.empty(count, np.int32), np.empty(2 * count, np.uint64)
        key_at, order_at, space_at = (array.ctypes.data_as(c_void_p) for array in (words, order, space))
        engine._c.exact_order(key_at, c_int32(count), order_at, space_at)
        assert np.array_equal(order, permutation(key, count))


def test_the_keys_of_many_epochs_are_those_of_each():
    parts = ("order", b"root", 2**40)
    words = np.frombuffer(stream_keys(*parts, numbers=range(7, 11)), np.uint32).reshape(-1, 2)
    assert [tuple(row) for row in words.tolist()] == [stream_key(*parts, number) for number in range(7, 11)]


def test_a_network_goes_on_in_its_epoch_whatever_was_trained_meanwhile(engine):
    """Batches straddle epochs, whose orders are kept from call to call: alone, together, twice in a call, afresh."""
    data, seeds = task_data(LINEAR), [3, 4, 3, 5]
    begun = initial_states(LINEAR, seeds)
    ends, losses = engine.train(LINEAR, data, seeds, begun, 9)
    assert ends[0].digest == ends[2].digest
    alone, some = begun[0], losses
    for steps in (1, 1, 3, 4):
        (alone,), some = engine.train(LINEAR, data, [3], [alone], steps)
        engine.train(LINEAR, data, [4, 3], begun[1:3], 2)  # from elsewhere, the same network too
    assert alone.digest == ends[0].digest
    assert np.array_equal(some[0], losses[0, -4:])
    for seed, state, end in zip(seeds, begun, ends, strict=True):
        (reference,), _ = NumpyEngine().train(LINEAR, data, [seed], [state], 9)
        assert reference.digest == end.digest


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_share_networks_that_stand_at_different_steps(engine, threads):
    recipe = recipe_of(Gru(width=5), Dropout(rate=0.2), Linear(width=20))
    data, seeds = task_data(recipe), list(range(11))
    states = [engine.train(recipe, data, [s], initial_states(recipe, [s]), 1 + s % 3)[0][0] for s in seeds]
    shared = NativeEngine(threads)
    for _ in range(3):
        together, losses = shared.train(recipe, data, seeds, states, 4)
        for k, seed in enumerate(seeds):
            (alone,), row = engine.train(recipe, data, [seed], [states[k]], 4)
            assert alone.digest == together[k].digest and np.array_equal(row[0], losses[k])
        states = together
    params = [state.params for state in states]
    many = shared.evaluate(recipe, data, params)
    each = [engine.evaluate(recipe, data, [one]) for one in params]
    assert many.loss.tolist() == [one.loss[0] for one in each]
    assert many.correct is not None and many.correct.tolist() == [
        one.correct[0] for one in each if one.correct is not None
    ]


def test_no_networks_are_no_call(engine):
    states, losses = engine.train(LINEAR, task_data(LINEAR), [], [], 3)
    assert states == [] and losses.shape == (0, 3)
    assert engine.held_out_loss(LINEAR, task_data(LINEAR), []).shape == (0,)


def test_too_few_samples_are_refused_before_c_reads_them(engine):
    data = task_data(recipe_of(Linear(width=20), sequences=36))
    with pytest.raises(ValueError, match="36 samples"):
        engine.train(LINEAR, data, [0], initial_states(LINEAR, [0]), 1)


def test_orders_are_kept_of_few_networks(monkeypatch):
    monkeypatch.setattr(orders, "KEPT_BYTES", 3 * 4 * 37)
    kept = orders.KeptOrders()
    for seed in range(9):
        kept.keep(LINEAR, seed, kept.take(LINEAR, seed, 0, 1))
    assert [kept.take(LINEAR, seed, 1, 1).ready for seed in range(9)] == 6 * [False] + 3 * [True]


@pytest.mark.parametrize("init", ["pytorch", "xavier", "he", "orthogonal", "constant"])
def test_many_networks_begin_as_each_alone(init):
    recipe, seeds = recipe_of(Gru(width=5), LayerNorm(), Linear(width=20), init=init), [0, 9, 2**31 - 1]
    found = [state.digest for state in initial_states(recipe, seeds)]
    assert found == [initial_state(recipe, seed).digest for seed in seeds]


def test_a_mean_is_a_float32_sum_in_step_order():
    losses = np.random.default_rng(5).uniform(0, 3, (7, 50)).astype(np.float32)
    for row, mean in zip(losses, means(losses), strict=True):
        total = np.float32(0)
        for loss in row:
            total = total + loss
        assert mean == total / np.float32(50)
