"""What training starts from: initializations, schedules, and the recipes that are refused before it starts."""

import numpy as np
import pytest
from support.engines.engine_recipes import made

from protocol.engine.initial import initial_state, initial_states, normals, orthogonal, orthonormal
from protocol.engine.native.build import supported_isas
from protocol.engine.native.engine import NativeEngine
from protocol.engine.schedule import half_turn_cosine, learning_rates, step_sizes
from protocol.engine.select import SELF_TEST_DIGEST, self_test
from protocol.errors import UsageError
from protocol.recipes.layers import Conv2d, Flatten, GroupNorm, Linear, Lstm
from protocol.recipes.recipe import Training, parse_recipe

NETWORK = (
    Conv2d(channels=8, kernel=3),
    GroupNorm(groups=2),
    Flatten(),
    Linear(width=40),
    Lstm(width=30),
    Linear(width=3),
)


def arrays(**network) -> dict[str, np.ndarray]:
    m = made(*NETWORK, inputs=(2, 6, 6), network=network)
    params = initial_state(m.recipe, 7).params
    assert params.dtype == np.float32
    return m.recipe.split(params)


@pytest.mark.parametrize("init", ["pytorch", "xavier", "he", "orthogonal", "constant"])
def test_norms_start_at_one_and_only_pytorch_draws_biases(init):
    found = arrays(init=init)
    assert (found["1.weight"] == 1).all() and (found["1.bias"] == 0).all()
    assert (found["3.bias"] == 0).all() == (init != "pytorch")


def test_spreads_are_those_of_the_names():
    fan_in, fan_out = 8 * 16, 40
    for init, variance in (("xavier", 2 / (fan_in + fan_out)), ("he", 2 / fan_in)):
        for draw in ("uniform", "normal"):
            weights = arrays(init=init, init_draw=draw, init_gain=2.0)["3.weight"]
            assert weights.var() == pytest.approx(4 * variance, rel=0.05)
            assert abs(weights.mean()) < 4 * np.sqrt(4 * variance / weights.size)
    bound = np.abs(arrays()["0.weight"]).max()
    assert 0.9 / np.sqrt(18) < bound <= np.float32(1 / np.sqrt(18))
    assert (arrays(init="constant", init_value=0.5)["3.weight"] == np.float32(0.5)).all()


def test_orthogonal_rows_or_columns_have_length_one():
    found = arrays(init="orthogonal", init_gain=3.0)
    for name in ("0.weight", "3.weight", "4.weight_ih_l0", "4.weight_hh_l0"):
        flat = found[name].reshape(len(found[name]), -1).astype(np.float64) / 3
        gram = flat @ flat.T if flat.shape[0] <= flat.shape[1] else flat.T @ flat
        assert np.abs(gram - np.eye(len(gram))).max() < 1e-5
    assert np.abs(np.tril(orthonormal((np.eye(4) + 1)[None])[0], -1)[1, 0]) > 0


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (36, 12), (12, 36), (17, 1), (1, 17), (20, 33), (64, 64)])
def test_orthogonal_arrays_made_in_c_have_the_same_bits(shape):
    keys = [(1, 2), (2**32 - 1, 0), (77, 2**31)]
    expected = orthogonal(keys, 1234, *shape)
    assert np.isfinite(expected).all()
    for isa in supported_isas():
        assert NativeEngine(1, isa).orthogonal(keys, 1234, *shape).tobytes() == expected.tobytes(), isa


def test_an_engine_that_draws_changes_no_bit_of_a_network():
    recipe, engine = (
        made(*NETWORK, inputs=(2, 6, 6), network={"init": "orthogonal", "init_gain": 3.0}).recipe,
        NativeEngine(),
    )
    for mine, plain in zip(initial_states(recipe, range(5), engine), initial_states(recipe, range(5)), strict=True):
        assert mine.digest == plain.digest


def test_the_self_test_notices_orthogonal_arrays_that_are_off_by_one_bit():
    class Careless(NativeEngine):
        def orthogonal(self, keys, start, rows, columns) -> np.ndarray:
            right = super().orthogonal(keys, start, rows, columns).astype(np.float32)
            return np.nextafter(right, np.float32(9)).astype(np.float64)

    assert self_test(NativeEngine()) == SELF_TEST_DIGEST != self_test(Careless())


def test_normal_draws_are_nearly_normal_and_addressed_by_their_place():
    (draws,) = normals([(1, 2)], 200_000, 0)
    assert abs(draws.mean()) < 0.01 and draws.std() == pytest.approx(1, abs=0.01)
    assert np.mean(draws**4) == pytest.approx(2.85, abs=0.06)  # excess kurtosis -0.15
    assert np.array_equal(normals([(3, 4), (1, 2)], 10, 1000)[1], draws[1000:1010])


def training(**fields) -> Training:
    return Training(**{"learning_rate": 0.1, "batch": 4, "max_steps": 100} | fields)


def test_schedules_from_any_step():
    step = training(schedule="step", decay_every=10, decay_factor=0.5, warmup_steps=4)
    rates = learning_rates(step, 0, 100)
    assert np.allclose(rates[:5], [0.025, 0.05, 0.075, 0.1, 0.1])
    assert (rates[13], rates[14], rates[24]) == (0.1, 0.05, 0.025)
    cosine = training(schedule="cosine", final_rate=0.1, warmup_steps=20)
    x = np.arange(100)
    expected = 0.1 * (0.1 + 0.9 * (1 + np.cos(np.pi * (x - 20) / 80)) / 2)
    assert np.allclose(learning_rates(cosine, 0, 100)[20:], expected[20:], rtol=1e-14)
    for t in (step, cosine):
        assert np.array_equal(learning_rates(t, 37, 11), learning_rates(t, 0, 100)[37:48])


def test_the_cosine_is_exact_to_the_last_bits_and_pinned():
    x = np.linspace(0, 1, 10_001)
    assert np.abs(half_turn_cosine(x) - np.cos(np.pi * x)).max() < 5e-16
    assert half_turn_cosine(np.array([0.0, 0.25, 1 / 3, 1.0])).tobytes().hex() == COSINE_BITS


COSINE_BITS = "000000000000f03fcd3b7f669ea0e63f010000000000e03f000000000000f0bf"


def test_adamw_shrinks_by_the_scheduled_rate():
    m = made(Linear(width=3), optimizer="adamw", weight_decay=0.5, warmup_steps=4, learning_rate=0.1)
    assert step_sizes(m.recipe, 0, 5)[:, 2] == pytest.approx([0.0125, 0.025, 0.0375, 0.05, 0.05])


# ---- recipes that are refused ----


def table(layers: str | list = "", loss: str = "mse", **fields) -> dict:
    return {
        "name": "n",
        "class": "c",
        "task": {"machine": "ParityMachine", "length": 4, "sequences": 64, "held_out": 8},
        "network": {"layers": layers or [{"kind": "gru", "width": 4}, {"kind": "linear", "width": 20}]}
        | {k: v for k, v in fields.items() if k.startswith("init")},
        "training": {"learning_rate": 0.1, "batch": 4, "max_steps": 10, "loss": loss}
        | {k: v for k, v in fields.items() if not k.startswith("init")},
    }


OUT = {"kind": "linear", "width": 20}
REFUSED = [
    (
        table([{"kind": "batchnorm"}, OUT]),
        r"network.layers\[0\].kind: batchnorm is not offered: its running",
    ),
    (table([{"kind": "batchnorm2d", "momentum": 0.1}, OUT]), "batchnorm is not offered"),
    (table([{"kind": "conv2d", "channels": 2, "kernel": 3}, OUT]), r"network.layers\[0\]: conv2d reads one image"),
    (table([{"kind": "groupnorm", "groups": 3}, OUT]), "groupnorm reads an image or a vector"),
    (table([OUT, {"kind": "last"}]), "the network gives 1 time steps; the task has targets for 4"),
    (table([{"kind": "relu"}, {"kind": "linear", "width": 7}]), "the last width is 7; the task shows 20 output pins"),
    (table([{"kind": "flatten"}]), "the last width is 9"),
    (table(loss="cross_entropy"), "training.loss: cross_entropy does not fit targets that are pins; use mse, bce"),
    (table(momentum=0.9), "training.momentum: optimizer adam does not read it; only rmsprop, sgd"),
    (table(optimizer="sgd", beta1=0.5), "training.beta1: optimizer sgd does not read it"),
    (table(optimizer="sgd", nesterov=True), "training.nesterov: needs a momentum"),
    (table(schedule="step"), "training.decay_every: schedule step needs"),
    (table(decay_every=5), "training.decay_every: schedule constant does not read it"),
    (table(schedule="sine"), "training.schedule"),
    (table(warmup_steps=10), "training.warmup_steps: must be smaller than max_steps"),
    (table(resist={"begin": 10}), "training.resist.begin: must be smaller than max_steps"),
    (table(resist={"share": 0.0}), "training.resist.share: expected `float` > 0.0"),
    (table(resist={"norm": 2}), "training.resist.norm: there is no such field"),
    (table(init_gain=2.0), "network.init_gain: init pytorch does not read it"),
    (table(init="he", init_value=2.0), "network.init_value: init he does not read it"),
    (table([{"kind": "dropout", "rate": 1.0}, OUT]), r"rate: expected `float` < 1.0"),
    (table([{"kind": "lstm", "width": 4096}] * 9 + [OUT]), "parameters; the limit is"),
]


@pytest.mark.parametrize(("value", "message"), REFUSED, ids=[message[:40] for _, message in REFUSED])
def test_a_recipe_that_cannot_work_is_refused_with_the_fields_name(value, message):
    with pytest.raises(UsageError, match=message):
        parse_recipe(value, "r.toml")


def test_windows_that_do_not_fit_are_refused_with_the_layers_number():
    for layer, why in (
        (Conv2d(channels=1, kernel=7), "a kernel of 7 does not fit an image of 6 x 6"),
        (Conv2d(channels=1, kernel=2, padding=2), "padding 2 must be smaller than the kernel 2"),
        (Linear(width=3), "linear reads features, not an image"),
        (GroupNorm(groups=3), "groupnorm: 3 groups do not divide 2 channels"),
    ):
        with pytest.raises(ValueError, match=rf"network.layers\[0\]: {why}"):
            _ = made(layer, inputs=(2, 6, 6)).recipe.flows
