"""The CUDA engine without a card: its kernels run on emulated threads, and NVRTC accepts them for real ones."""

import numpy as np
import pytest
from emulated_gpu import EmulatedCard
from engine_recipes import Made, made
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from protocol.engine.cuda import CudaEngine
from protocol.engine.data import initial_state
from protocol.engine.reference import NumpyEngine
from protocol.engine.select import SELF_TEST_DIGEST, self_test
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
THREADS = st.sampled_from([1, 7, 8, 32])


def story(engine, m: Made, steps: int = 3, seeds: tuple[int, ...] = (5, 6)) -> tuple:
    states = [initial_state(m.recipe, seed) for seed in seeds]
    states, losses = engine.train(m.recipe, m.data, list(seeds), states, steps)
    found = engine.evaluate(m.recipe, m.data, [state.params for state in states])
    correct = None if found.correct is None else found.correct.tolist()
    return [state.to_bytes() for state in states], losses.tobytes(), found.loss.tobytes(), correct


def same(m: Made, threads: int = 8, steps: int = 2) -> None:
    expected = story(NumpyEngine(), m, steps)
    assert np.isfinite(np.frombuffer(expected[1], np.float32)).all()
    assert story(CudaEngine([EmulatedCard(threads)]), m, steps) == expected


@pytest.mark.parametrize("threads", [1, 8, 32])
def test_the_emulated_card_passes_the_self_test(threads):
    assert self_test(CudaEngine([EmulatedCard(threads)])) == SELF_TEST_DIGEST


BATCHES = st.sampled_from([1, 15, 16, 17, 33, 81])
ELEMENTWISE = st.one_of(
    st.just(Relu()),
    st.builds(LeakyRelu, slope=st.sampled_from([0.01, 0.2])),
    st.just(Tanh()),
    st.just(Sigmoid()),
    st.builds(Dropout, rate=st.sampled_from([0.0, 0.1, 0.5])),
    st.just(LayerNorm()),
)
LOSSES = st.sampled_from([("mse", "values"), ("mse", "pins"), ("bce", "pins"), ("cross_entropy", "classes")])


@settings(max_examples=25, **ANY)
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
    threads=THREADS,
)
def test_sequences(layers, features, length, last, width, batch, loss, as_bytes, threads):
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
    same(m, threads)


@settings(max_examples=25, **ANY)
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
    threads=THREADS,
)
def test_images(layers, image, end, batch, as_bytes, threads):
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
    same(m, threads)


@pytest.mark.parametrize(
    "training",
    [
        {},
        {"weight_decay": 0.01, "clip_norm": 0.05},
        {"optimizer": "adamw", "weight_decay": 0.1},
        {"optimizer": "sgd"},
        {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.01},
        {"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "clip_norm": 0.1},
        {"optimizer": "rmsprop", "alpha": 0.9},
        {"optimizer": "rmsprop", "momentum": 0.5, "weight_decay": 0.01},
        {"schedule": "cosine", "final_rate": 0.1, "warmup_steps": 2, "max_steps": 8},
    ],
    ids=str,
)
def test_optimizers(training):
    same(made(Linear(width=7), Relu(), Linear(width=3), batch=20, **training), steps=6)
