"""The bench compares like with like: every rival computes the exact engine's losses; and its own arithmetic."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.engines.engine_recipes import Made, made

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "bench"))

import bounds
import gpu
from engine import DifferentLosses, check_losses, checked_loops, medians, ratio_lines, row
from networks import NETWORKS, bytes_moved, check_comparable, operations, recipe_of, shipped
from rivals.in_torch import NO_REPDL, GraphLoop, PlainLoop, VmapLoop
from rivals.peak import compiled_peak

from protocol.engine.cuda.driver import CAPABILITY_MAJOR, CLOCK_KHZ, MULTIPROCESSORS, NoCard
from protocol.engine.native.build import supported_isas
from protocol.errors import UsageError
from protocol.recipes.layers import (
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    Gru,
    Last,
    Linear,
    Lstm,
    MaxPool2d,
    Relu,
    Rnn,
    Tanh,
)

if importlib.util.find_spec("jax"):
    import rivals.in_jax  # noqa: F401 - the bench imports it when it needs it
sys.path.pop(0)  # a file in there is called like our package `coordinator`, which other tests want

TINY = {
    "gru": made(
        Gru(width=6), Gru(width=6), Linear(width=2), length=5, target="pins", width=2, loss="bce", clip_norm=0.1
    ),
    "lstm": made(
        *(Lstm(width=5), Lstm(width=5), Last(), Linear(width=4)),
        length=6,
        target="classes",
        width=4,
        target_length=1,
        loss="cross_entropy",
    ),
    "rnn": made(Rnn(width=7), Linear(width=3), length=4, beta2=0.99),
    "conv": made(
        *(Conv2d(channels=3, kernel=3, padding=1), Relu(), MaxPool2d(kernel=2), Conv2d(channels=4, kernel=2, stride=2)),
        *(Tanh(), AvgPool2d(kernel=2), Flatten(), Linear(width=4)),
        inputs=(2, 9, 8),
        as_bytes=True,
        target="classes",
        width=4,
        loss="cross_entropy",
    ),
    "mlp": made(Linear(width=9), Relu(), Linear(width=3)),
}


@pytest.mark.parametrize("kind", TINY)
def test_plain_and_vmapped_pytorch_compute_the_engines_losses(kind):
    loops, refused = checked_loops(TINY[kind].recipe, TINY[kind].data, "auto", 3, {"all", "jax", "repdl"})
    assert list(loops) == ["one", "vmap", "exact"] and not refused
    assert [loop.run(2).shape for loop in loops.values()] == [(1, 2), (3, 2), (1, 2)]


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
@pytest.mark.parametrize("kind", TINY)
def test_jax_computes_the_engines_losses(kind):
    loops, refused = checked_loops(TINY[kind].recipe, TINY[kind].data, "auto", 3, {"all", "one", "vmap", "repdl"})
    assert list(loops) == ["jax", "exact"] and not refused


@pytest.mark.parametrize("kind", TINY)
def test_what_a_cuda_graph_would_capture_computes_vmaps_losses(kind):
    """The step alone, on the processor: only a card can capture it."""
    recipe, data = TINY[kind].recipe, TINY[kind].data
    expected, found = (loop(recipe, data, [0, 1, 2]).run(12) for loop in (VmapLoop, GraphLoop))
    assert found.shape == (3, 12) and np.allclose(found, expected, rtol=1e-4)


def test_all_cores_compute_the_engines_losses():
    loops, _ = checked_loops(TINY["mlp"].recipe, TINY["mlp"].data, "auto", 1, {"one", "vmap", "jax", "repdl"})
    assert list(loops) == ["all", "exact"]


def test_another_network_is_noticed():
    mlp = TINY["mlp"]
    loop = PlainLoop(mlp.recipe, mlp.data)
    loop.optimizer.param_groups[0]["lr"] *= 2
    exact_KN = PlainLoop(mlp.recipe, mlp.data).run(4)
    with pytest.raises(DifferentLosses, match="plain computes other losses"):
        check_losses("plain", loop.run(4), exact_KN)


def test_a_row_says_what_was_not_measured():
    small = TINY["mlp"]
    loops, _ = checked_loops(small.recipe, small.data, "auto", 2, {"all", "vmap", "jax", "repdl"})
    found = medians({"exact": loops["exact"]}, 1) | {"one": 1.0}
    cells = [cell.strip() for cell in row("mlp", small.recipe, small.data, "auto", 1e9, found).strip("|").split("|")]
    assert cells[:7] == ["mlp", f"{small.recipe.parameter_count}", "-", "1000.000", "-", "-", "-"]
    assert [cell == "-" for cell in cells[8:13]] == [True, False, True, True, True]
    assert ratio_lines("mlp", {"exact": 0.5, "one": 1.0}) == ["ratio: mlp, PyTorch, one thread 2.00"]


@pytest.mark.skipif(importlib.util.find_spec("repdl") is not None, reason="RepDL is installed")
def test_repdl_is_left_out_with_the_reason():
    loops, refused = checked_loops(TINY["mlp"].recipe, TINY["mlp"].data, "auto", 1, {"all", "one", "vmap", "jax"})
    assert list(loops) == ["exact"] and refused == {"repdl": NO_REPDL}


@pytest.mark.skipif(importlib.util.find_spec("repdl") is None, reason="RepDL is not installed")
def test_repdl_computes_the_engines_losses():
    loops, refused = checked_loops(TINY["conv"].recipe, TINY["conv"].data, "auto", 1, {"all", "one", "vmap", "jax"})
    assert list(loops) == ["repdl", "exact"] and not refused


def test_what_the_loops_do_not_know_is_refused():
    check_comparable(TINY["gru"].recipe)
    for other in (made(Dropout(rate=0.1), Linear(width=3)), made(Linear(width=3), optimizer="sgd")):
        with pytest.raises(UsageError, match="do not know"):
            check_comparable(other.recipe)


def test_every_network_is_measured_at_the_batch_asked_for():
    counts = {}
    for name in NETWORKS:
        recipe, data = recipe_of(name, 48)
        check_comparable(recipe)
        counts[name] = recipe.parameter_count
        assert recipe.training.batch == 48 and len(data.inputs) == recipe.task_shape.samples
    assert counts["DS1 eightbit"] == 4_364 and counts["DS4 LeNet 28x28"] == 61_562


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(UsageError, match=r"training\.batch"):
        shipped(Path(__file__).parents[2] / "recipes" / "ds1-eightbit.toml", 1025)


def test_vector_width_is_the_engines_own():
    widths = {isa: compiled_peak(isa).lanes() for isa in supported_isas()}
    assert all(widths.get(isa, lanes) == lanes for isa, lanes in (("v4", 16), ("v3", 8)))
    assert widths["native"] >= max(lanes for isa, lanes in widths.items() if isa != "native")


def test_a_step_is_counted_in_operations_and_bytes():
    small: Made = made(Linear(width=7), Linear(width=3), inputs=(5,), batch=2)
    assert operations(small.recipe) == 2 * 2 * (3 * 7 * 5 + 3 * 3 * 7 - 7 * 5)  # no gradient of the data
    parameters, kept, sample = 7 * 5 + 7 + 3 * 7 + 3, 2 * 7 + 2 * 3, 5
    assert bytes_moved(small.recipe) == 4 * (8 * parameters + 2 * (2 * kept + sample))


def test_a_cards_peaks_come_from_its_driver():
    attributes = {CAPABILITY_MAJOR: 9, MULTIPROCESSORS: 132, CLOCK_KHZ: 1_980_000}
    attributes |= {gpu.MEMORY_CLOCK_KHZ: 2_619_000, gpu.MEMORY_BUS_BITS: 5120}
    card: Any = SimpleNamespace(name="sm_90", attribute=attributes.__getitem__)
    assert gpu.peak_flops(card) == pytest.approx(66.9e12, rel=1e-3)  # the data sheet of an H100 SXM: 67 TFLOP/s
    assert gpu.bandwidth(card) == pytest.approx(3.35e12, rel=1e-2)  # and 3.35 TB/s
    recipe = TINY["mlp"].recipe
    shares = gpu.shares_of(1e6, recipe, operations(recipe) * 2e6, bytes_moved(recipe) * 4e6)
    assert shares == (0.5, 0.25)
    assert np.isnan(gpu.shares_of(1e6, recipe, 1.0, 0.0)[1])


def test_without_a_card_the_gpu_bench_says_so(monkeypatch, capsys):
    def no_card(device, memory):
        raise NoCard("no NVIDIA driver")

    monkeypatch.setattr(gpu, "open_cards", no_card)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit) as stopped:
        gpu.main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "bench/gpu: nothing measured: no NVIDIA driver\n"


CODE = """
work:
\tvmovaps (%rdi), %ymm2
.L2:
\tvmovaps (%rsi,%rax), %ymm1
.L3:
\tvfmadd231ps (%rdi), %ymm1, %ymm0
\tvmovaps %ymm0, -32(%rbp)
\taddq $32, %rax
\tjne .L3
\tdecl %ecx
\tjne .L2
"""


def test_the_innermost_loop_is_found_with_what_it_loads():
    (loop,) = bounds.innermost(CODE.splitlines())
    assert (loop.function, len(loop.body), loop.sums, loop.loads, loop.spilled) == ("work", 4, 1, 2, 1)


def test_vectors_over_inputs_that_are_not_full_are_counted():
    narrow, full = made(Linear(width=16), inputs=(20,)).recipe, made(Linear(width=16), inputs=(32,)).recipe
    assert bounds.unfilled(narrow, 16) == (40 + 32) / 60 and bounds.unfilled(full, 16) == 1


@pytest.mark.skipif(bounds.mca() is None, reason="llvm-mca is not installed")
def test_a_sum_that_waits_for_itself_is_far_from_the_peak():
    alone = bounds.Loop("alone", ["vfmadd231ps %ymm1, %ymm2, %ymm0"])
    apart = bounds.Loop("apart", [f"vfmadd231ps %ymm14, %ymm15, %ymm{k}" for k in range(12)])
    assert bounds.share_of("v3", "haswell", alone) < 0.15 < 0.9 < bounds.share_of("v3", "haswell", apart)
