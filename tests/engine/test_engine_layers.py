"""Every layer, loss, optimizer, initialization and schedule: C equals NumPy bit for bit, NumPy agrees with PyTorch."""

from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from support.engines.engine_recipes import Made, made
from support.engines.engine_strategies import ANY, OPTIMIZERS, SCHEDULES, images, sequences

from analysis.weights.modules import network_module
from protocol.canonical import sha256
from protocol.engine import State
from protocol.engine.initial import initial_state
from protocol.engine.native.build import supported_isas
from protocol.engine.native.engine import NativeEngine
from protocol.engine.reference.engine import NumpyEngine, loss_and_gradient
from protocol.engine.streams import batch_order
from protocol.recipes.layers import (
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool,
    GroupNorm,
    Gru,
    Last,
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
from protocol.recipes.recipe import Resistance


@pytest.fixture(scope="module")
def engine() -> NativeEngine:
    return NativeEngine()


def story(engine, m: Made, steps: int = 3, seed: int = 5) -> tuple:
    states, losses = engine.train(m.recipe, m.data, [seed], [initial_state(m.recipe, seed)], steps)
    found = engine.evaluate(m.recipe, m.data, [states[0].params])
    correct = None if found.correct is None else found.correct.tolist()
    return states[0].params.tobytes(), states[0].moments.tobytes(), losses.tobytes(), found.loss.tobytes(), correct


def same(engine, m: Made, steps: int = 3) -> None:
    expected = story(NumpyEngine(), m, steps)
    assert np.isfinite(np.frombuffer(expected[0], np.float32)).all()
    assert story(engine, m, steps) == expected


@settings(max_examples=40, **ANY)
@given(sequences())
def test_sequences(engine, m):
    same(engine, m)


@settings(max_examples=40, **ANY)
@given(images())
def test_images(engine, m):
    same(engine, m, 2)


INITS = [
    {},
    {"init": "xavier"},
    {"init": "he", "init_draw": "normal"},
    {"init": "orthogonal", "init_gain": 1.5},
    {"init": "constant", "init_value": 0.1},
]


@pytest.mark.parametrize("training", [*OPTIMIZERS, *SCHEDULES], ids=str)
def test_optimizers_and_schedules(engine, training):
    same(engine, made(Linear(width=7), Relu(), Linear(width=3), batch=20, **training), 6)


FADING = (
    {},
    {"optimizer": "adamw", "weight_decay": 0.1, "beta1": 0.0},
    {"beta1": 0.5, "epsilon": 1e-30},
    {"optimizer": "sgd", "momentum": 0.9},
    {"optimizer": "sgd", "momentum": 0.9, "nesterov": True},
)


@pytest.mark.parametrize("training", FADING, ids=str)
def test_moments_of_dead_units_fade_bit_by_bit(training):
    """Subnormal moments under gradients that are zero, of weights that are zero, tiny and ordinary."""
    m = made(Linear(width=40), Relu(), Linear(width=3), **training)
    begin, rng = initial_state(m.recipe, 5), np.random.default_rng(1)
    params, moments = begin.params.copy(), begin.moments.copy()
    first, count = moments[0], 5 * 40
    params[:count] = rng.choice([0, 1e-45, 1e-30, -1e-25, 1e-20, -0.1, 0.5], count)
    params[count : count + 40] = -90  # biases: units that never answer
    bits = rng.choice([0, 1, 2, 5, 0x7FFFFF, 0x800000, 0x900000], first.size)
    bits = np.where(rng.random(first.size) < 0.5, bits, rng.integers(0, 0x1000000, first.size))
    first[:] = (bits | rng.integers(0, 2, first.size) << 31).astype(np.uint32).view(np.float32)
    after = []
    for engine in (NumpyEngine(), *(NativeEngine(1, isa) for isa in supported_isas())):
        state = State(step=0, params=params.copy(), moments=moments.copy())
        after.append(engine.train(m.recipe, m.data, [5], [state], 4)[0][0].digest)
    assert len(set(after)) == 1


# ---- PyTorch in binary64 is the oracle ----

IMAGE, SEQUENCE = {"inputs": (2, 9, 8)}, {"inputs": (5,), "length": 6}
CLASSES = {"target": "classes", "width": 4, "loss": "cross_entropy"}
NETWORKS = {
    "lstm": ((Lstm(width=7), Lstm(width=5), Linear(width=3)), SEQUENCE),
    "rnn": ((Rnn(width=7), Linear(width=3)), SEQUENCE),
    "classifier": ((Gru(width=7), LayerNorm(), Last(), Linear(width=4)), SEQUENCE | CLASSES | {"target_length": 1}),
    "tagger": ((Lstm(width=7), Linear(width=4)), SEQUENCE | CLASSES),
    "bce": ((Linear(width=9), Tanh(), Linear(width=6), Sigmoid(), Linear(width=3)), {"target": "pins", "loss": "bce"}),
    "mlp": ((Linear(width=20), LeakyRelu(), LayerNorm(), Linear(width=4)), CLASSES),
    "features": ((Linear(width=12), GroupNorm(groups=2), Linear(width=3)), {}),
    "convolution": (
        (
            *(Conv2d(channels=5, kernel=3, padding=1), GroupNorm(groups=5), Relu(), MaxPool2d(kernel=2)),
            *(Conv2d(channels=4, kernel=3, stride=2, padding=2), Tanh(), AvgPool2d(kernel=2, stride=1)),
            *(Flatten(), Linear(width=4)),
        ),
        IMAGE | CLASSES,
    ),
    "globalpool": ((Conv2d(channels=4, kernel=2), LayerNorm(), GlobalAvgPool()), IMAGE | CLASSES),
    "overlap": ((MaxPool2d(kernel=3, stride=2), Conv2d(channels=3, kernel=2), Flatten(), Linear(width=3)), IMAGE),
}


def torch_loss(m: Made, module: torch.nn.Module, inputs: np.ndarray, targets: np.ndarray) -> torch.Tensor:
    outputs = module(torch.tensor(inputs, dtype=torch.float64))
    if m.recipe.training.loss == "cross_entropy":
        return torch.nn.functional.cross_entropy(outputs.flatten(0, 1), torch.tensor(targets).long().flatten())
    loss = torch.nn.functional.mse_loss
    if m.recipe.training.loss == "bce":
        loss = torch.nn.functional.binary_cross_entropy_with_logits
    return loss(outputs, torch.tensor(targets, dtype=torch.float64).reshape(outputs.shape))


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_and_losses_agree_with_autograd(engine, name):
    layers, task = NETWORKS[name]
    m = made(*layers, batch=20, **task)
    params = initial_state(m.recipe, 3).params
    rows = batch_order(m.recipe, 3, 0, 1)[0]
    module = network_module(m.recipe, params).double()
    expected = torch_loss(m, module, m.data.inputs[rows], m.data.targets[rows])
    expected.backward()
    oracle = np.concatenate([p.grad.numpy().reshape(-1) for p in module.parameters()])  # type: ignore[union-attr]
    for loss, gradient in (
        loss_and_gradient(m.recipe, params, m.data, rows),
        engine.loss_and_gradient(m.recipe, params, m.data, rows),
    ):
        assert abs(float(loss) - expected.item()) < 1e-5 * expected.item()
        assert np.linalg.norm(gradient - oracle) < 1e-5 * np.linalg.norm(oracle)
    assert [n for n, _ in module.named_parameters()] == [n for n, _ in m.recipe.shapes]
    held_out = torch_loss(m, module, m.data.held_out_inputs, m.data.held_out_targets).item()
    assert engine.held_out_loss(m.recipe, m.data, [params])[0] == pytest.approx(held_out, rel=1e-5)


def test_held_out_accuracy_is_an_exact_count(engine):
    for layers, task in (NETWORKS["classifier"], NETWORKS["bce"]):
        m = made(*layers, **task)
        params = initial_state(m.recipe, 3).params
        outputs = network_module(m.recipe, params).double()(torch.tensor(m.data.held_out_inputs).double())
        if m.recipe.training.loss == "bce":
            met = (outputs > 0).numpy() == (m.data.held_out_targets > 0)
        else:
            met = outputs.argmax(-1).numpy() == m.data.held_out_targets
        found = engine.evaluate(m.recipe, m.data, [params, params])
        assert found.correct.tolist() == [met.sum()] * 2
        assert found.accuracy.tolist() == [met.mean()] * 2
    m = made(Linear(width=3))
    assert engine.evaluate(m.recipe, m.data, [initial_state(m.recipe, 0).params]).accuracy is None


TORCH_OPTIMIZERS = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.02),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.02),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.8, nesterov=True, weight_decay=0.02),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.8, weight_decay=0.02),
}


@pytest.mark.parametrize("name", TORCH_OPTIMIZERS)
def test_optimizers_agree_with_torch(engine, name):
    extra: dict[str, Any] = {"momentum": 0.8} if name in ("sgd", "rmsprop") else {}
    extra |= {"nesterov": True} if name == "sgd" else {}
    m = made(
        Linear(width=6),
        Tanh(),
        Linear(width=3),
        optimizer=name,
        learning_rate=0.01,
        weight_decay=0.02,
        clip_norm=0.5,
        **extra,
    )
    start = initial_state(m.recipe, 1)
    module = network_module(m.recipe, start.params).double()
    optimizer = TORCH_OPTIMIZERS[name](module.parameters())
    for rows in batch_order(m.recipe, 1, 0, 12):
        optimizer.zero_grad()
        torch_loss(m, module, m.data.inputs[rows], m.data.targets[rows]).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 0.5)
        optimizer.step()
    oracle = np.concatenate([p.detach().numpy().reshape(-1) for p in module.parameters()])
    states, _ = engine.train(m.recipe, m.data, [1], [start], 12)
    assert np.linalg.norm(states[0].params - oracle) < 2e-5 * np.linalg.norm(oracle)


def test_resistant_training_agrees_with_torch(engine):
    """g becomes (1 - share) g(w) + share g(w + a), |a| = radius |w| along g, from step `begin` on."""
    resist = Resistance(share=0.3, radius=0.2, begin=3)
    m = made(Linear(width=6), Tanh(), Linear(width=3), optimizer="sgd", learning_rate=0.05, resist=resist)
    start = initial_state(m.recipe, 1)
    module = network_module(m.recipe, start.params).double()

    def gradient(rows: np.ndarray) -> torch.Tensor:
        loss = torch_loss(m, module, m.data.inputs[rows], m.data.targets[rows])
        return torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(module.parameters()))])

    w = torch.nn.utils.parameters_to_vector(module.parameters()).detach()
    for step, rows in enumerate(batch_order(m.recipe, 1, 0, 8)):
        torch.nn.utils.vector_to_parameters(w, module.parameters())
        g = gradient(rows)
        if step >= resist.begin:
            moved = w + resist.radius * w.norm() * g / g.norm()
            torch.nn.utils.vector_to_parameters(moved, module.parameters())
            g = (1 - resist.share) * g + resist.share * gradient(rows)
        w = w - 0.05 * g
    states, _ = engine.train(m.recipe, m.data, [1], [start], 8)
    assert np.linalg.norm(states[0].params - w.numpy()) < 2e-5 * np.linalg.norm(w.numpy())


def test_a_gradient_of_zero_resists_without_harm(engine):
    m, count = made(Linear(width=3), resist=Resistance(share=1.0, radius=1.0)), 18
    zeros = State(step=0, params=np.zeros(count, np.float32), moments=np.zeros((2, count), np.float32))
    data = msgspec.structs.replace(m.data, targets=np.zeros_like(m.data.targets))
    states, losses = engine.train(m.recipe, data, [0], [zeros], 2)
    assert not losses.any() and not states[0].params.any()


# ---- independence ----

MIXED = made(
    *(Conv2d(channels=5, kernel=3, padding=1), Relu(), MaxPool2d(kernel=2), Flatten(), Dropout(rate=0.2)),
    *(Linear(width=33), LayerNorm(), Linear(width=4)),
    batch=50,
    samples=80,
    optimizer="sgd",
    momentum=0.9,
    clip_norm=1.0,
    **IMAGE,
    **CLASSES,
)
LONG = made(
    *(Lstm(width=13), Dropout(rate=0.3), Rnn(width=18), Last(), Linear(width=4)),
    inputs=(3,),
    length=9,
    batch=50,
    samples=80,
    target_length=1,
    **CLASSES,
)


@pytest.mark.parametrize("m", [MIXED, LONG], ids=["images", "sequences"])
def test_every_build_thread_and_company_gives_the_same_bits(m):
    expected = story(NumpyEngine(), m, 4)
    for isa, optimize in [*((isa, "-O3") for isa in supported_isas()), ("native", "-O0")]:
        assert story(NativeEngine(1, isa, optimize), m, 4) == expected
    seeds = [4, 5, 6, 7, 8]
    states, losses = NativeEngine(2).train(m.recipe, m.data, seeds, [initial_state(m.recipe, s) for s in seeds], 4)
    assert (states[1].params.tobytes(), losses[1].tobytes()) == (expected[0], expected[2])


@pytest.mark.parametrize("m", [MIXED, LONG], ids=["images", "sequences"])
def test_any_cut_gives_the_same_bits_dropout_included(engine, m):
    first, _ = engine.train(m.recipe, m.data, [5], [initial_state(m.recipe, 5)], 3)
    rest, _ = engine.train(m.recipe, m.data, [5], first, 4)
    assert rest[0].params.tobytes() == story(engine, m, 7)[0]


@pytest.mark.parametrize("lanes", [16, 32, 64])
def test_the_samples_that_go_together_change_no_bit(engine, monkeypatch, lanes):
    monkeypatch.setattr("protocol.engine.native.structs._lanes", lambda recipe, samples: lanes)
    for m in (MIXED, LONG):
        assert story(engine, m, 2) == story(NumpyEngine(), m, 2)


def test_dropout_drops_its_share_and_another_one_at_each_step(engine):
    m = made(Dropout(rate=0.25), Linear(width=3), inputs=(400,), batch=30)
    params = initial_state(m.recipe, 0).params
    rows = np.arange(30)
    (_, first), (_, second) = (engine.loss_and_gradient(m.recipe, params, m.data, rows, 1, s) for s in (0, 1))
    assert not np.array_equal(first, second)
    one = np.array([1], np.int32)
    gradient = engine.loss_and_gradient(m.recipe, params, m.data, one, 1, 0)[1][:400]
    assert 0.15 < (gradient == 0).mean() < 0.35  # a dropped input moves no weight


# ---- golden digests: if one changes, published networks have lost their recipes ----

GOLDEN = {
    "lstm": "3d359f54ce288c30e39e1b72ecd926bd",
    "rnn": "59709449280fd74769fa3c5648f5bc53",
    "classifier": "a8b92892e44b507b3665da0788978d7a",
    "tagger": "2343a5ca0e8f327c9f0f27cd86f53809",
    "bce": "fd26e0892249bf1a7202001ca0fcf97c",
    "mlp": "f26e424e78a1d0b3dc264cfc9d1e9f12",
    "features": "91bf2248723bb7a0e431c8bdb5dbd702",
    "convolution": "9ec0313840d18d604437a33ae9fdfc1a",
    "globalpool": "d76882aa7cb673d89aa98139e1e308e7",
    "overlap": "c31331eefb9a1e00b4cd0d208524b6d2",
}


def golden(name: str) -> str:
    layers, task = NETWORKS[name]
    m = made(*layers, batch=20, **task)
    states, losses = NativeEngine().train(m.recipe, m.data, [7], [initial_state(m.recipe, 7)], 40)
    return sha256(states[0].to_bytes(), losses.tobytes()).hex()[:32]


@pytest.mark.parametrize("name", NETWORKS)
def test_golden_families(name):
    assert golden(name) == GOLDEN[name]


@pytest.mark.parametrize("training", [*OPTIMIZERS, *SCHEDULES], ids=str)
def test_golden_optimizers(engine, training):
    m = made(Linear(width=7), Relu(), Dropout(rate=0.2), Linear(width=3), **training)
    digest = sha256(story(engine, m, 6)[0]).hex()[:16]
    assert digest == GOLDEN_OPTIMIZERS[str(training)]


GOLDEN_OPTIMIZERS = {
    "{}": "6da3f5c7a71419d6",
    "{'weight_decay': 0.01, 'clip_norm': 0.05}": "aee384c50ca6f48b",
    "{'optimizer': 'adamw', 'weight_decay': 0.1}": "384fa615c273d236",
    "{'optimizer': 'sgd'}": "a6f7398ae4fdb710",
    "{'optimizer': 'sgd', 'momentum': 0.9, 'weight_decay': 0.01}": "5e732dcff2209a1f",
    "{'optimizer': 'sgd', 'momentum': 0.9, 'nesterov': True, 'clip_norm': 0.1}": "b355412e561ecd44",
    "{'optimizer': 'rmsprop', 'alpha': 0.9}": "95f506998a5561f7",
    "{'optimizer': 'rmsprop', 'momentum': 0.5, 'weight_decay': 0.01}": "fb10c78be484300c",
    "{'resist': Resistance(share=0.75, radius=0.05, begin=0)}": "d362dd82f0c63a5c",
    "{'optimizer': 'sgd', 'momentum': 0.9, 'resist': Resistance(share=1.0, radius=0.1, begin=2)}": "59a17357853a948d",
    "{'warmup_steps': 3}": "9f32be107e1aacc0",
    "{'schedule': 'step', 'decay_every': 2, 'decay_factor': 0.5}": "8513c354acde9c5d",
    "{'schedule': 'cosine', 'final_rate': 0.1, 'warmup_steps': 2, 'max_steps': 8}": "ad1f653cbe0cd969",
}


@pytest.mark.parametrize("network", INITS, ids=str)
def test_golden_initializations(network):
    m = made(Lstm(width=5), Linear(width=9), LayerNorm(), Linear(width=3), network=network)
    assert sha256(initial_state(m.recipe, 3).params.tobytes()).hex()[:16] == GOLDEN_INITS[str(network)]


GOLDEN_INITS = {
    "{}": "d5116d1614d32ba4",
    "{'init': 'xavier'}": "dc612baf506ab4de",
    "{'init': 'he', 'init_draw': 'normal'}": "e062e120033d4b9d",
    "{'init': 'orthogonal', 'init_gain': 1.5}": "0379c53c73370a98",
    "{'init': 'constant', 'init_value': 0.1}": "743a0670531edb42",
}
