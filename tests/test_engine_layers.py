"""Every layer, loss, optimizer, initialization and schedule: C equals NumPy bit for bit, NumPy agrees with PyTorch."""

import numpy as np
import pytest
from engine_recipes import Made, made
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from protocol.engine.data import initial_state
from protocol.engine.native import NativeEngine
from protocol.engine.reference import NumpyEngine
from protocol.layers import (
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    Flow,
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
    flow_after,
)

ANY = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}


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


BATCHES = st.sampled_from([1, 2, 15, 16, 17, 33, 64, 81])
ELEMENTWISE = st.one_of(
    st.just(Relu()),
    st.builds(LeakyRelu, slope=st.sampled_from([0.01, 0.2])),
    st.just(Tanh()),
    st.just(Sigmoid()),
    st.builds(Dropout, rate=st.sampled_from([0.0, 0.1, 0.5])),
    st.just(LayerNorm()),
)
LOSSES = st.sampled_from([("mse", "values"), ("mse", "pins"), ("bce", "pins"), ("cross_entropy", "classes")])


@settings(max_examples=40, **ANY)
@given(
    layers=st.lists(
        st.one_of(
            st.builds(Gru, width=st.integers(1, 9)),
            st.builds(Lstm, width=st.integers(1, 9)),
            st.builds(Rnn, width=st.integers(1, 9)),
            st.builds(Linear, width=st.integers(1, 21)),
            ELEMENTWISE,
        ),
        max_size=4,
    ),
    features=st.integers(1, 18),
    length=st.integers(1, 5),
    last=st.booleans(),
    width=st.integers(1, 19),
    batch=BATCHES,
    loss=LOSSES,
    as_bytes=st.booleans(),
)
def test_sequences(engine, layers, features, length, last, width, batch, loss, as_bytes):
    ends = [Last(), Linear(width=width)] if last else [Linear(width=width)]
    m = made(
        *layers,
        *ends,
        inputs=(features,),
        length=length,
        target=loss[1],
        width=width,
        target_length=1 if last else length,
        batch=batch,
        samples=81,
        as_bytes=as_bytes,
        loss=loss[0],
    )
    same(engine, m)


@settings(max_examples=40, **ANY)
@given(
    layers=st.lists(
        st.one_of(
            st.builds(
                Conv2d,
                channels=st.integers(1, 7),
                kernel=st.integers(1, 4),
                stride=st.integers(1, 3),
                padding=st.integers(0, 2),
            ),
            st.builds(MaxPool2d, kernel=st.integers(1, 3), stride=st.integers(0, 3)),
            st.builds(AvgPool2d, kernel=st.integers(1, 3), stride=st.integers(0, 3)),
            st.builds(GroupNorm, groups=st.integers(1, 4)),
            ELEMENTWISE,
        ),
        min_size=1,
        max_size=4,
    ),
    image=st.tuples(st.integers(1, 3), st.integers(2, 9), st.integers(2, 9)),
    end=st.sampled_from([Flatten(), GlobalAvgPool()]),
    batch=BATCHES,
    as_bytes=st.booleans(),
)
def test_images(engine, layers, image, end, batch, as_bytes):
    flow = Flow(image, 1)
    for layer in layers:
        try:
            flow = flow_after(layer, flow)
        except ValueError:
            assume(False)
    m = made(
        *layers,
        end,
        Linear(width=4),
        inputs=image,
        target="classes",
        width=4,
        batch=batch,
        samples=81,
        as_bytes=as_bytes,
        loss="cross_entropy",
    )
    same(engine, m, 2)


OPTIMIZERS = [
    {},
    {"weight_decay": 0.01, "clip_norm": 0.05},
    {"optimizer": "adamw", "weight_decay": 0.1},
    {"optimizer": "sgd"},
    {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.01},
    {"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "clip_norm": 0.1},
    {"optimizer": "rmsprop", "alpha": 0.9},
    {"optimizer": "rmsprop", "momentum": 0.5, "weight_decay": 0.01},
]
SCHEDULES = [
    {"warmup_steps": 3},
    {"schedule": "step", "decay_every": 2, "decay_factor": 0.5},
    {"schedule": "cosine", "final_rate": 0.1, "warmup_steps": 2, "max_steps": 8},
]


@pytest.mark.parametrize("training", [*OPTIMIZERS, *SCHEDULES], ids=str)
def test_optimizers_and_schedules(engine, training):
    same(engine, made(Linear(width=7), Relu(), Linear(width=3), batch=20, **training), 6)
