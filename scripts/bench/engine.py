#!/usr/bin/env python3
"""CPU time of one training step of one network: the exact C engine against PyTorch and JAX, for several networks.

Six ways to train the same networks from the same parameters with the same batches: a plain PyTorch loop on all cores
(as people run it), the same on one thread, torch.func.vmap over K networks, JAX's vmap and scan over K networks, RepDL
(exact as well) and the exact engine, on one thread each. All in one process for each network, in turn, so that a busy
machine slows all; CPU time of all its threads, medians over rounds. First it is checked that all compute the same
losses (1e-3); if not, the bench exits with an error. JAX and RepDL are measured only where they are installed; nothing
else needs them. Where the engine is below 65 % of the fused peak, a line says what bounds it (bounds.py). Last comes a
line `ratio: NETWORK, RIVAL x` for each, for programs to read.

Threads of OpenMP that wait are put to sleep unless OMP_WAIT_POLICY says otherwise: where other programs want the cores
too, PyTorch's default, to wait busily, costs many times the work itself. Where PyTorch is alone with the engine
(--without vmap,jax) it is slower than behind the others, whose large arrays teach the C library's allocator to keep
memory that it otherwise gives back and gets again, zeroed, at each step. That is how a plain loop meets it.

    python scripts/bench/engine.py [--isa v4|v3|baseline|native] [--batch 64] [--networks 8] [--rounds 9] [--only lenet]
        [--recipe file.toml] [--without vmap,jax]
"""

import argparse
import ctypes
import datetime
import functools
import importlib.util
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # which OpenMP reads when torch is imported

import numpy as np
import torch
from bounds import bound
from networks import BATCH, NETWORKS, check_comparable, operations, recipe_of, shipped
from rivals.in_torch import NO_REPDL, PlainLoop, RepDlLoop, VmapLoop
from rivals.peak import peak_flops

from protocol.engine import Engine
from protocol.engine.initial import initial_state
from protocol.engine.native.structs import program_of
from protocol.engine.select import select_engine, usable_cores
from protocol.errors import UsageError
from protocol.recipes.recipe import Recipe
from protocol.tasks.data import TaskData

NO_JAX = "jax is not installed: pip install jax"
GUARD_STEPS = 4  # the fourth loss is that of a network trained for three steps
GUARD_RELATIVE = 1e-3
ROUND_SECONDS = 0.15  # of each alternative in each round
SHARE_MIN = 0.65  # of the fused peak; below it the bench says what bounds a network
SETTLE_SECONDS = 0.02  # threads of a library wait busily for a while, which the next one must not pay


class Loop(Protocol):
    networks: int  # K

    def run(self, steps: int) -> np.ndarray:
        """Trains; returns the training losses (K, N)."""
        ...


@functools.cache
def c_engine(isa: str) -> Engine:
    return select_engine("c", 1, isa)


class ExactLoop:
    def __init__(self, recipe: Recipe, data: TaskData, isa: str, seeds: list[int]):
        self.engine = c_engine(isa)
        self.recipe, self.data, self.seeds, self.networks = recipe, data, seeds, len(seeds)
        self.states = [initial_state(recipe, seed) for seed in seeds]

    def run(self, steps: int) -> np.ndarray:
        if self.states[0].step + steps > self.recipe.training.max_steps:
            self.states = [initial_state(self.recipe, seed) for seed in self.seeds]
        self.states, losses = self.engine.train(self.recipe, self.data, self.seeds, self.states, steps)
        return losses


class DifferentLosses(Exception):
    """A rival that does not train the network that the exact engine trains."""


def rivals(recipe: Recipe, data: TaskData, count: int, without: set[str]) -> dict[str, Callable[[], Loop]]:
    seeds = list(range(count))
    found: dict[str, Callable[[], Loop]] = {
        "all": lambda: PlainLoop(recipe, data, usable_cores()),
        "one": lambda: PlainLoop(recipe, data, 1),
        "vmap": lambda: VmapLoop(recipe, data, seeds),
        "jax": lambda: jax_loop(recipe, data, seeds),
        "repdl": lambda: RepDlLoop(recipe, data),
    }
    return {name: make for name, make in found.items() if name not in without}


def jax_loop(recipe: Recipe, data: TaskData, seeds: list[int]) -> Loop:
    if importlib.util.find_spec("jax") is None:
        raise NotImplementedError(NO_JAX)
    from rivals.in_jax import JaxLoop

    return JaxLoop(recipe, data, seeds)


def check_losses(name: str, losses_KN: np.ndarray, exact_KN: np.ndarray) -> None:
    """Raises DifferentLosses."""
    off = float(np.max(np.abs(losses_KN - exact_KN) / np.abs(exact_KN)))
    if not off <= GUARD_RELATIVE:
        raise DifferentLosses(
            f"{name} computes other losses than the exact engine (relative difference {off:.1e} within "
            f"{exact_KN.shape[1]} steps): it does not train the same network"
        )


def checked_loops(
    recipe: Recipe, data: TaskData, isa: str, count: int, without: set[str]
) -> tuple[dict[str, Loop], dict[str, str]]:
    """The loops that can be measured, and why the others cannot. Raises UsageError, DifferentLosses."""
    check_comparable(recipe)
    exact_KN = ExactLoop(recipe, data, isa, list(range(count))).run(GUARD_STEPS)
    loops: dict[str, Loop] = {}
    refused: dict[str, str] = {}
    for name, make in rivals(recipe, data, count, without).items():
        try:
            loop = make()
            losses_KN = loop.run(GUARD_STEPS)
        except (RuntimeError, NotImplementedError) as error:
            refused[name] = str(error).splitlines()[0]
            continue
        check_losses(name, losses_KN, exact_KN[: loop.networks])
        loops[name] = loop
    return loops | {"exact": ExactLoop(recipe, data, isa, [0])}, refused


def seconds_per_step(loop: Loop, steps: int) -> float:
    """CPU seconds of a network-step."""
    time.sleep(SETTLE_SECONDS)
    start = time.process_time()
    loop.run(steps)
    return (time.process_time() - start) / (steps * loop.networks)


def medians(loops: dict[str, Loop], rounds: int) -> dict[str, float]:
    """Median CPU seconds of a network-step, in interleaved rounds."""
    steps = {}
    for name, loop in loops.items():
        loop.run(GUARD_STEPS)
        once = seconds_per_step(loop, GUARD_STEPS) * loop.networks
        steps[name] = max(2, int(ROUND_SECONDS / once))
        loop.run(steps[name])  # JAX compiles for this number of steps
    times: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, loop in loops.items():
            times[name].append(seconds_per_step(loop, steps[name]))
    return {name: statistics.median(column) for name, column in times.items()}


def scratch_bytes(recipe: Recipe, data: TaskData, isa: str) -> int:
    """Working space of a thread, whatever the number of networks."""
    program = program_of(recipe, data.inputs.dtype, recipe.training.batch)
    return 4 * c_engine(isa)._c.exact_scratch_floats(ctypes.byref(program))  # type: ignore[attr-defined]


def machine() -> str:
    """The processor's name where Linux tells it, cores, load and date."""
    model = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        model = next(
            (line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line), model
        )
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{datetime.date.today()}, {model}, {usable_cores()} cores{load}"


RIVALS = {"all": "PyTorch, all cores", "one": "PyTorch, one thread", "vmap": "vmap", "jax": "JAX", "repdl": "RepDL"}
HEAD = ("network", "parameters", *RIVALS.values(), "exact engine")
RATIOS = ("all / exact", "one / exact", "vmap / exact", "JAX / exact", "RepDL / exact")


def row(name: str, recipe: Recipe, data: TaskData, isa: str, peak: float, found: dict[str, float]) -> str:
    """A line of the table; `found` are the medians, and what was not measured is missing there."""
    exact = found["exact"]
    times = [f"{1e3 * found[rival]:.3f}" if rival in found else "-" for rival in RIVALS]
    ratios = [f"{found[rival] / exact:.1f}" if rival in found else "-" for rival in RIVALS]
    share = f"{operations(recipe) / exact / peak:.0%}"
    state, scratch = 12 * recipe.parameter_count / 1e6, scratch_bytes(recipe, data, isa) / 1e6
    cells = [name, f"{recipe.parameter_count:,}", *times, f"{1e3 * exact:.3f}", *ratios, share]
    return f"| {' | '.join([*cells, f'{state:.2f}', f'{scratch:.1f}'])} |"


def ratio_lines(name: str, found: dict[str, float]) -> list[str]:
    """How many times the engine's CPU time each rival takes."""
    return [f"ratio: {name}, {RIVALS[rival]} {found[rival] / found['exact']:.2f}" for rival in RIVALS if rival in found]


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--isa", default="auto")
    parser.add_argument("--recipe", type=Path, help="measure this recipe file instead")
    parser.add_argument("--only", default="", help="networks whose name contains this")
    parser.add_argument("--batch", type=int, default=BATCH, help="in place of a recipe's own")
    parser.add_argument("--networks", type=int, default=8, help="K of vmap and of JAX")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--without", default="", help=f"rivals to leave out: {', '.join(RIVALS)}")
    options = parser.parse_args()
    if not 1 <= options.batch <= 1024 or options.networks < 1 or options.rounds < 1:
        parser.error("--batch: 1 to 1024; --networks and --rounds: at least 1")
    options.without = set(filter(None, options.without.split(",")))
    if unknown := options.without - set(RIVALS):
        parser.error(f"--without {','.join(sorted(unknown))}: there are {', '.join(RIVALS)}")
    return options


def main() -> None:
    options = parsed()
    try:
        measure(options)
    except (UsageError, DifferentLosses) as error:
        sys.exit(f"bench/engine: {error}")


def measure(options: argparse.Namespace) -> None:
    isa = c_engine(options.isa).name.removeprefix("c-")
    peak, apart = peak_flops(isa), peak_flops(isa, fused=False)
    print(f"{machine()}; c-{isa}, torch {torch.__version__}, numpy {np.__version__}")
    print(f"batch {options.batch}, K = {options.networks}, CPU ms of a network-step, MB")
    print(f"a core's peak: {peak / 1e9:.0f} GFLOP/s fused, {apart / 1e9:.0f} unfused\n")
    head = (*HEAD, *RATIOS, "of peak", "state", "scratch")
    print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}", flush=True)
    names = [str(options.recipe)] if options.recipe else [n for n in NETWORKS if options.only.lower() in n.lower()]
    notes: dict[str, str] = {}
    ratios: list[str] = []
    # A process for each network: what the allocator learnt from the one before would change PyTorch's time.
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for line, more, refused in pool.imap(partial(measure_one, options, isa, peak), names):
            notes |= refused
            ratios += more
            print(line, flush=True)
    print("".join(f"\n- {note}" for note in notes), end="\n" if notes else "")
    print("\n".join(["", *ratios]))


def measure_one(options: argparse.Namespace, isa: str, peak: float, name: str) -> tuple[str, list[str], dict[str, str]]:
    """A network's line of the table, its ratios, and what was refused, with the reason."""
    recipe, data = shipped(options.recipe, options.batch) if options.recipe else recipe_of(name, options.batch)
    name = recipe.name if options.recipe else name
    try:
        loops, refused = checked_loops(recipe, data, isa, options.networks, options.without)
    except DifferentLosses as error:
        raise DifferentLosses(f"{name}: {error}") from None
    once = (NO_JAX, NO_REPDL)
    told = {why if why in once else f"{RIVALS[rival]}, {name}: {why}": rival for rival, why in refused.items()}
    found = medians(loops, options.rounds)
    share = operations(recipe) / found["exact"] / peak
    if share < SHARE_MIN:
        told[bound(name, recipe, isa, found["exact"], share)] = name
    return row(name, recipe, data, isa, peak, found), ratio_lines(name, found), told


if __name__ == "__main__":
    main()
