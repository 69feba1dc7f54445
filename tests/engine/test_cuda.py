"""The CUDA engine without a card: its kernels run on emulated threads, and NVRTC accepts them for real ones."""

import ctypes
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.engines.emulated_gpu import EmulatedCard
from support.engines.engine_recipes import Made, made
from support.engines.engine_strategies import ANY, OPTIMIZERS, SCHEDULES, images, sequences

from protocol.engine.cuda.card_queue import CardError
from protocol.engine.cuda.driver import NoCard
from protocol.engine.cuda.engine import CudaEngine, CudaOrElse
from protocol.engine.cuda.nvrtc import find_compiler, headers, kernels, libraries
from protocol.engine.initial import initial_state
from protocol.engine.reference.engine import NumpyEngine
from protocol.engine.select import SELF_TEST_DIGEST, select_engine, self_test
from protocol.engine.streams import batch_orders
from protocol.errors import UsageError
from protocol.recipes.layers import (
    Dropout,
    Gru,
    Linear,
    Relu,
)

THREADS = st.sampled_from([16, 32, 48])


def story(engine, m: Made, steps: int = 3, seeds: tuple[int, ...] = (5, 6)) -> tuple:
    states = [initial_state(m.recipe, seed) for seed in seeds]
    states, losses = engine.train(m.recipe, m.data, list(seeds), states, steps)
    found = engine.evaluate(m.recipe, m.data, [state.params for state in states])
    correct = None if found.correct is None else found.correct.tolist()
    return [state.to_bytes() for state in states], losses.tobytes(), found.loss.tobytes(), correct


def same(m: Made, threads: int = 16, steps: int = 2) -> None:
    expected = story(NumpyEngine(), m, steps)
    assert np.isfinite(np.frombuffer(expected[1], np.float32)).all()
    assert story(CudaEngine([EmulatedCard(threads)]), m, steps) == expected


@pytest.mark.parametrize("threads", [16, 32, 64])
def test_the_emulated_card_passes_the_self_test(threads):
    assert self_test(CudaEngine([EmulatedCard(threads)])) == SELF_TEST_DIGEST


@settings(max_examples=40, **ANY)
@given(sequences(), THREADS)
def test_sequences(m, threads):
    same(m, threads)


@settings(max_examples=40, **ANY)
@given(images(), THREADS)
def test_images(m, threads):
    same(m, threads)


@pytest.mark.parametrize("training", [*OPTIMIZERS, *SCHEDULES], ids=str)
def test_optimizers(training):
    same(made(Linear(width=7), Relu(), Linear(width=3), batch=20, **training), steps=6)


# ---- the work around the kernels


def a_recipe(**more) -> Made:
    return made(Gru(width=5), Dropout(rate=0.2), Linear(width=3), length=4, batch=20, **more)


def test_turns_cards_and_blocks_change_no_bit():
    m, seeds = a_recipe(), tuple(range(11))
    expected = story(NumpyEngine(), m, 3, seeds)
    small = EmulatedCard(blocks=1)
    assert story(CudaEngine([small]), m, 3, seeds) == expected  # three turns
    assert story(CudaEngine([EmulatedCard(blocks=3), EmulatedCard(16, blocks=1)]), m, 3, seeds) == expected
    assert story(CudaEngine([EmulatedCard(blocks=40)]), m, 3, seeds) == expected


def test_long_work_is_cut_into_short_launches(monkeypatch):
    m, card = a_recipe(), EmulatedCard()
    expected = story(NumpyEngine(), m, 5)
    monkeypatch.setattr("protocol.engine.cuda.card_queue.LAUNCH_SECONDS", 1e-9)
    assert story(CudaEngine([card]), m, 5) == expected
    assert card.launches >= 5


def test_networks_stand_at_different_steps():
    m, engines = a_recipe(), (NumpyEngine(), CudaEngine([EmulatedCard()]))
    found = []
    for engine in engines:
        states = [initial_state(m.recipe, seed) for seed in (0, 1)]
        states[:1] = engine.train(m.recipe, m.data, [0], states[:1], 2)[0]
        states, losses = engine.train(m.recipe, m.data, [0, 1], states, 3)
        found.append(([state.to_bytes() for state in states], losses.tobytes()))
    assert found[0] == found[1]


def test_memory_is_given_back():
    m, card = a_recipe(), EmulatedCard()
    engine = CudaEngine([card])
    story(engine, m)
    held = card.in_use
    for _ in range(3):
        story(engine, m)
    assert card.in_use == held


def test_a_card_that_fails_is_given_up_with_one_line():
    m, said = a_recipe(), []
    engine = CudaOrElse(CudaEngine([EmulatedCard(memory_bytes=10_000)]), NumpyEngine, said.append)
    assert story(engine, m) == story(NumpyEngine(), m)
    assert len(said) == 1 and "does not fit" in said[0] and engine.name == "numpy"


def test_few_networks_go_to_the_processor():
    m, card, said = a_recipe(), EmulatedCard(), []
    engine = CudaOrElse(CudaEngine([card]), NumpyEngine, said.append, few=3)
    assert story(engine, m) == story(NumpyEngine(), m) and card.launches == 0
    seeds = (1, 2, 3)
    assert story(engine, m, 3, seeds) == story(NumpyEngine(), m, 3, seeds) and card.launches > 0
    assert said == [] and engine.name.startswith("cuda")


def test_the_processor_draws_a_cards_batches():
    """C's orders are Python's, from any step, epochs begun before or not; and a card given them trains the same."""
    m, native = a_recipe(), select_engine("c", 2)
    seeds, at = [3, 4, 3, 2**40], [0, 7, 1, 3]
    for steps in (1, 4, 9):
        drawn = native.batch_orders(m.recipe, seeds, at, steps)
        assert np.array_equal(drawn, batch_orders(m.recipe, seeds, at, steps))
        at = [step + steps for step in at]
    assert story(CudaEngine([EmulatedCard()], native.batch_orders), m) == story(NumpyEngine(), m)


def test_released_memory_is_taken_again():
    m, card = a_recipe(), EmulatedCard()
    engine = CudaEngine([card])
    expected = story(engine, m)
    engine.release()
    assert card.in_use == 0 and story(engine, m) == expected


# ---- choosing


def test_without_a_card_the_processor_trains_and_one_line_says_why(monkeypatch):
    said: list[str] = []
    no_driver(monkeypatch)
    assert select_engine("auto", device="auto", say=said.append).name.startswith("c-")
    assert said == []  # nobody asked for a card
    assert select_engine("auto", device="cuda", say=said.append).name.startswith("c-")
    assert select_engine("cuda", say=said.append).name.startswith("c-")
    assert said == ["no GPU is used: no NVIDIA driver; training on the processor"] * 2


def no_driver(monkeypatch) -> None:
    def refuse(device: str, memory: float):
        raise NoCard("no NVIDIA driver")

    monkeypatch.setattr("protocol.engine.cuda.driver.open_cards", refuse)


@pytest.mark.parametrize("right", [True, False])
def test_a_card_trains_only_if_it_passes_the_self_test(monkeypatch, right):
    card, said = EmulatedCard(), []
    monkeypatch.setattr("protocol.engine.cuda.driver.open_cards", lambda device, memory: [card])
    if not right:
        launch = card.launch

        def one_bit_off(kernel, job, blocks):
            launch(kernel, job, blocks)
            if kernel == "exact_train":
                ctypes.c_uint32.from_address(job.params).value ^= 1

        card.launch = one_bit_off
    engine = select_engine(device="all", say=said.append)
    assert engine.name.startswith("cuda-emulated" if right else "c-")
    assert bool(said) is not right and all("self-test" in line for line in said)


def test_devices_that_do_not_exist_are_refused():
    with pytest.raises(UsageError, match="--device gpu"):
        select_engine(device="gpu")


# ---- the compiler


@pytest.fixture(scope="module")
def compiler():
    if not libraries():
        pytest.skip("no NVRTC: pip install nvidia-cuda-nvrtc")
    return find_compiler()


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["sm_75", "sm_80", "sm_90", "sm_100"])
def test_nvrtc_compiles_the_kernels_and_fuses_what_is_written(compiler, architecture):
    used, text = arithmetic_of(compiler, architecture)
    assert {"fma.rn.f32", "mul.rn.f32", "add.rn.f32", "div.rn.f32", "sqrt.rn.f32"} <= used
    assert not any(name.startswith("mad") or ".ftz" in name or ".approx" in name for name in used)
    for kernel in ("exact_train", "exact_measure", "exact_scratch"):
        assert f".entry {kernel}" in text


@pytest.mark.slow
def test_nvrtc_fuses_nothing_by_itself(compiler, monkeypatch):
    apart = [(name, text.replace(b"__fmaf_rn(a, b, c)", b"a * b + c")) for name, text in headers()]
    monkeypatch.setattr("protocol.engine.cuda.nvrtc.headers", lambda: apart)
    used, _ = arithmetic_of(compiler, "sm_90")
    assert "mul.rn.f32" in used and not any(name.startswith(("fma", "mad")) for name in used)


def arithmetic_of(compiler, architecture: str) -> tuple[set[str], str]:
    """The f32 instructions of the kernels' PTX, each of which rounds to nearest where it rounds; and the PTX."""
    text = compiler.compile(architecture, portable=True).decode()
    used = {
        name
        for name in re.findall(r"^\s*(?:@\S+\s+)?([a-z]\w*(?:\.\w+)+)", text, re.MULTILINE)
        if name.endswith(".f32")
    }
    arithmetic = re.compile(r"(fma|mad|mul|add|sub|div|rcp|sqrt|rsqrt|ex2|lg2|sin|cos|tanh)\.")
    assert all(name.split(".")[1] == "rn" for name in used if arithmetic.match(name)), used
    return used, text


def test_machine_code_is_kept(compiler, monkeypatch, tmp_path):
    monkeypatch.setattr("protocol.engine.cuda.nvrtc.cache_folder", lambda: tmp_path)
    built: list[str] = []
    monkeypatch.setattr(type(compiler), "compile", lambda self, target, portable=False: built.append(target) or b"code")
    assert [kernels(80), kernels(80), kernels(999)] == [b"code"] * 3
    assert built == ["sm_80", f"compute_{compiler.architectures()[-1]}"]
    with pytest.raises(CardError, match="older"):
        kernels(20)
