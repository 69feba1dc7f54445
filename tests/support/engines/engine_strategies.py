"""Random networks and data for property tests of an engine, and the training rules that each must get right."""

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, assume
from hypothesis import strategies as st
from support.engines.engine_recipes import Made, made

from protocol.recipes.layers import (
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
from protocol.recipes.recipe import Resistance

ANY: dict[str, Any] = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}
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

SEQUENCE_LAYERS = st.lists(
    st.one_of(
        st.builds(Gru, width=st.integers(1, 9)),
        st.builds(Lstm, width=st.integers(1, 9)),
        st.builds(Rnn, width=st.integers(1, 9)),
        st.builds(Linear, width=st.integers(1, 21)),
        ELEMENTWISE,
    ),
    max_size=4,
)
IMAGE_LAYERS = st.lists(
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
)

OPTIMIZERS = [
    {},
    {"weight_decay": 0.01, "clip_norm": 0.05},
    {"optimizer": "adamw", "weight_decay": 0.1},
    {"optimizer": "sgd"},
    {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.01},
    {"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "clip_norm": 0.1},
    {"optimizer": "rmsprop", "alpha": 0.9},
    {"optimizer": "rmsprop", "momentum": 0.5, "weight_decay": 0.01},
    {"resist": Resistance(share=0.75, radius=0.05)},
    {"optimizer": "sgd", "momentum": 0.9, "resist": Resistance(share=1.0, radius=0.1, begin=2)},
]
SCHEDULES = [
    {"warmup_steps": 3},
    {"schedule": "step", "decay_every": 2, "decay_factor": 0.5},
    {"schedule": "cosine", "final_rate": 0.1, "warmup_steps": 2, "max_steps": 8},
]


@st.composite
def sequences(draw: Callable) -> Made:
    """Up to four layers over vectors or sequences, any loss."""
    length, width, last = draw(st.integers(1, 5)), draw(st.integers(1, 19)), draw(st.booleans())
    loss, target = draw(LOSSES)
    return made(
        *draw(SEQUENCE_LAYERS),
        *([Last()] if last else []),
        Linear(width=width),
        inputs=(draw(st.integers(1, 18)),),
        length=length,
        target=target,
        width=width,
        target_length=1 if last else length,
        batch=draw(BATCHES),
        samples=81,
        as_bytes=draw(st.booleans()),
        loss=loss,
    )


@st.composite
def images(draw: Callable) -> Made:
    """Up to four layers over images, and a classifier's end."""
    image = draw(st.tuples(st.integers(1, 3), st.integers(2, 9), st.integers(2, 9)))
    layers, flow = draw(IMAGE_LAYERS), Flow(image, 1)
    for layer in layers:
        try:
            flow = flow_after(layer, flow)
        except ValueError:
            assume(False)
    return made(
        *layers,
        draw(st.sampled_from([Flatten(), GlobalAvgPool()])),
        Linear(width=4),
        inputs=image,
        target="classes",
        width=4,
        batch=draw(BATCHES),
        samples=81,
        as_bytes=draw(st.booleans()),
        loss="cross_entropy",
    )
