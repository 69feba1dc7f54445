"""Choose a backend, and let no machine train that does not compute what all others compute."""

import os
import re
import struct
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from protocol.canonical import sha256
from protocol.engine import Engine
from protocol.engine.initial import initial_states
from protocol.engine.streams import batch_orders, task_data
from protocol.errors import UsageError, shown
from protocol.recipes.layers import Dropout, Gru, LayerNorm, LeakyRelu, Linear, Lstm, Relu, Rnn
from protocol.recipes.recipe import Network, Recipe, Resistance, Training
from protocol.tasks.kinds import MachineTask

if TYPE_CHECKING:
    from protocol.engine.cuda.card_queue import Card

# Small, and it meets every branch: a padded lane block, odd and large widths, a batch that straddles epochs.
SELF_TEST = Recipe(
    name="self-test",
    label="self-test",
    task=MachineTask(machine="SimpleXORMachine", length=5, sequences=29, held_out=19),
    network=Network(layers=(Gru(width=13), Gru(width=5), Linear(width=66), Relu(), Linear(width=20))),
    training=Training(learning_rate=0.03, batch=18, max_steps=100, segment_steps=4),
)
SELF_TEST_MORE = Recipe(
    name="self-test-more",
    label="self-test",
    task=MachineTask(machine="SimpleXORMachine", length=3, sequences=29, held_out=19),
    network=Network(
        layers=(
            Lstm(width=5),
            LayerNorm(),
            Rnn(width=6),
            Dropout(rate=0.2),
            Linear(width=7),
            LeakyRelu(),
            Linear(width=20),
        ),
        init="orthogonal",
    ),
    training=Training(
        loss="bce",
        optimizer="rmsprop",
        learning_rate=0.03,
        momentum=0.5,
        clip_norm=0.1,
        resist=Resistance(radius=0.05, begin=2),
        schedule="cosine",
        batch=18,
        max_steps=100,
        segment_steps=4,
    ),
)
SELF_TEST_STEPS = 8
SELF_TEST_DIGEST = "6dae09ca76d916f79a35388573843c96091fc9d6cfe41fef28b5d40111417464"


NO_FUSING = (
    "this processor, or the C compiler, has no fused multiply-add: the same bits take about a hundred times as long"
)
FEW_A_THREAD = 4  # networks at once, for each thread, that the processor trains faster than a card does
DEVICE = re.compile(r"auto|cpu|all|cuda(:\d+)?")


def tell(text: str) -> None:
    print(f"zooswarm: {shown(text)}", file=sys.stderr, flush=True)


def select_engine(
    backend: str = "auto",
    threads: int = 1,
    isa: str = "auto",
    device: str = "cpu",
    gpu_memory: float = 0.8,
    say: Callable[[str], None] = tell,
) -> Engine:
    """The engine to train with, after its self-test.

    `backend` is auto, c, numpy or cuda; auto is cuda where `device` allows it and a card works, else c. `threads`
    networks train at once (c only). `isa` is auto, baseline, v3, v4 or native (c only). `device` is cpu, cuda or all
    (every card), cuda:N, or auto (every card, if there is one). A card that does not work is named to `say` with the
    reason, and the C engine takes its place. Raises UsageError: unknown backend or device, no compiler, or a machine
    whose arithmetic is not exact.
    """
    if threads < 1:
        raise UsageError(f"--threads {threads}: at least 1")
    if not DEVICE.fullmatch(device):
        raise UsageError(f"--device {device}: there are auto, cpu, cuda, cuda:N and all")
    if backend == "cuda" and device in ("cpu", "auto"):
        device = "all"
    if backend in ("auto", "cuda") and device != "cpu":
        return cuda_or(lambda: select_engine("c", threads, isa), device, gpu_memory, say, FEW_A_THREAD * threads)
    if backend in ("auto", "c"):
        from protocol.engine.native.engine import NativeEngine

        engine: Engine = (native := NativeEngine(threads, isa))
        if not native.fuses:
            say(NO_FUSING)
    elif backend == "numpy":
        from protocol.engine.reference.engine import NumpyEngine

        engine = NumpyEngine()
    else:
        raise UsageError(f"--backend {backend}: there are auto, c, cuda and numpy")
    found = self_test(engine)
    if found != SELF_TEST_DIGEST:
        raise UsageError(
            f"the {engine.name} engine fails its self-test on this computer (got {found[:16]}, "
            f"not {SELF_TEST_DIGEST[:16]}), so its results would be refused; try another compiler (CC=clang) "
            "or --backend numpy, and report this"
        )
    return engine


def cuda_or(
    otherwise: Callable[[], Engine], device: str, memory: float, say: Callable[[str], None], few: int
) -> Engine:
    """The cards' engine, each card after the self-test, for calls of `few` networks and more; or `otherwise`, with one
    line that says why."""
    from protocol.engine.cuda.card_queue import CardError
    from protocol.engine.cuda.driver import NoCard, open_cards
    from protocol.engine.cuda.engine import CudaEngine

    try:
        cards = open_cards(device, memory)
        for card in cards:
            found = self_test(engine := CudaEngine([card]))
            engine.release()
            if found != SELF_TEST_DIGEST:
                raise CardError(f"{card.name} fails the self-test (got {found[:16]}); report this")
        return beside_the_processor(list(cards), otherwise, say, few)
    except CardError as error:
        if device != "auto" or not isinstance(error, NoCard):
            say(f"no GPU is used: {error}; training on the processor")
        return otherwise()


def beside_the_processor(
    cards: "list[Card]", otherwise: Callable[[], Engine], say: Callable[[str], None], few: int
) -> Engine:
    """The cards, and the processor's engine, which draws their batches and trains few networks; without a compiler the
    cards do without it, more slowly."""
    from protocol.engine.cuda.engine import CudaEngine, CudaOrElse

    try:
        processor = otherwise()
    except UsageError as error:
        say(f"the processor does not help the GPU: {error}")
        return CudaOrElse(CudaEngine(cards), otherwise, say)
    draw = getattr(processor, "batch_orders", batch_orders)
    return CudaOrElse(CudaEngine(cards, draw), lambda: processor, say, few)


def networks_in_flight(engine: Engine, otherwise: int) -> int:
    """How many networks keep `engine` busy, where it knows."""
    return getattr(engine, "width", 0) or otherwise


def self_test(engine: Engine) -> str:
    """A digest of all that `engine` computes for two small recipes, two networks each, resumed half-way; 64 digits."""
    parts = [part for recipe in (SELF_TEST, SELF_TEST_MORE) for part in _computed(engine, recipe)]
    return sha256(*(struct.pack("<Q", len(part)) + part for part in parts)).hex()


def _computed(engine: Engine, recipe: Recipe) -> list[bytes]:
    data, seeds = task_data(recipe), [0, 2**40 + 1]
    states = initial_states(recipe, seeds, engine)
    parts = [data.inputs.tobytes(), data.targets.tobytes()]
    for steps in (SELF_TEST_STEPS // 2, SELF_TEST_STEPS - SELF_TEST_STEPS // 2):
        states, losses = engine.train(recipe, data, seeds, states, steps)
        parts.append(losses.astype("<f4").tobytes())
    parts += [state.to_bytes() for state in states]
    found = engine.evaluate(recipe, data, [state.params for state in states])
    return [*parts, np.asarray(found.loss, "<f4").tobytes(), np.asarray(found.correct, "<i8").tobytes()]


def usable_cores() -> int:
    """Of this machine, those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
