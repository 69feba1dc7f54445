#!/usr/bin/env python3
"""Network-steps a second on a GPU: the CUDA engine at K networks at once, against five others.

The others: plain PyTorch, one network at a time on the card (recurrent layers by cuDNN), torch.func.vmap over K
networks on the card, the same captured as a CUDA graph, JAX's vmap over K networks and scan over time and steps (where
jax with CUDA is installed), and the C engine on all cores of this computer. Prints one table, with the card's memory at
its peak, the share of its float32 peak (fused, as the data sheet counts) and of its memory's bandwidth: the driver's
memory clock, twice a cycle, times bus width, against an estimate of the bytes moved (`networks.bytes_moved`: as if
there were no cache). Needs a card, and a torch with CUDA for its columns; says so and exits 2 without a card.

    python scripts/bench/gpu.py [--device cuda:0] [--only lstm] [--seconds 2] [--at-once 64 1024]
"""

import argparse
import importlib.util
import os
import sys
import time
import warnings
from collections.abc import Callable

import torch
from networks import bytes_moved, operations, recipe_of  # beside this file
from rivals.in_torch import GraphLoop, PlainLoop, VmapLoop

from protocol.engine import Engine
from protocol.engine.cuda.card_queue import CardError
from protocol.engine.cuda.driver import CAPABILITY_MAJOR, CLOCK_KHZ, MULTIPROCESSORS, NvidiaCard, open_cards
from protocol.engine.cuda.engine import CudaEngine
from protocol.engine.initial import initial_state
from protocol.engine.select import select_engine, usable_cores
from protocol.recipes.recipe import Recipe
from protocol.tasks.data import TaskData

NETWORKS = ("DS1 eightbit", "DS3 LSTM", "DS3 GRU", "DS4 LeNet 28x28", "MLP 784-128-128-10")
AT_ONCE = (1, 16, 64, 256, 1024, 4096)
CORES = {"sm_75": 64, "sm_80": 64}  # float32 units of a multiprocessor; 128 in all others
MEMORY_CLOCK_KHZ, MEMORY_BUS_BITS = 36, 37  # numbers of device attributes
TRANSFERS_A_CYCLE = 2  # of GDDR and HBM, as the driver counts the memory clock
STEPS_AT_LEAST = 64  # of a measurement: about a segment's
VMAP_SEEDS = 16  # distinct starts and orders among vmap's K networks: more would only take longer to prepare
HEAD = ("network", "K", "cuda engine", "of float32 peak", "of bandwidth (estimate)", "card memory")
OTHERS = ("PyTorch, one by one", "vmap", "CUDA graph", "JAX", "C, all cores")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--only", default="", help="networks whose name contains this")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement, at least")
    parser.add_argument("--at-once", type=int, nargs="*", default=AT_ONCE, help="networks")
    options = parser.parse_args()
    warnings.filterwarnings(
        "ignore", message="There is a performance drop"
    )  # of vmap over recurrent cells: that is measured
    try:
        (card,) = open_cards(options.device, 0.9)[:1]
    except CardError as error:
        print(f"bench/gpu: nothing measured: {error}", file=sys.stderr)
        sys.exit(2)
    peaks = f"float32 peak {peak_flops(card) / 1e12:.1f} TFLOP/s, memory {bandwidth(card) / 1e9:.0f} GB/s"
    print(f"{card.model} ({card.name}), {card.blocks} blocks at once, {peaks}")
    print("network-steps a second of wall time\n")
    print(f"| {' | '.join([*HEAD, *OTHERS])} |\n|{' --- |' * len([*HEAD, *OTHERS])}")
    for name in NETWORKS:
        if options.only.lower() in name.lower():
            measure(name, card, options)


def measure(name: str, card: NvidiaCard, options: argparse.Namespace) -> None:
    """The lines of one network, printed as they are found."""
    recipe, data = recipe_of(name)
    engine = CudaEngine([card])
    one = shown(lambda: plain_rate(recipe, data, options.device, options.seconds))
    cores = usable_cores()
    processor = engine_rate(select_engine("c", cores), recipe, data, 4 * cores, options.seconds)
    for count in options.at_once:
        card.peak_bytes = 0
        rate = engine_rate(engine, recipe, data, count, options.seconds)
        many = [
            shown(lambda k=count, rival=rival: rival(recipe, data, k, options.device, options.seconds))
            for rival in (vmap_rate, graph_rate, jax_rate)
        ]
        shares = [f"{share:.1%}" for share in shares_of(rate, recipe, peak_flops(card), bandwidth(card))]
        cells = [name, f"{count}", f"{rate:,.0f}", *shares, f"{card.peak_bytes / 1e9:.2f} GB", one, *many]
        print(f"| {' | '.join([*cells, f'{processor:,.0f}'])} |", flush=True)
        engine.release()


def peak_flops(card: NvidiaCard) -> float:
    units = CORES.get(card.name, 128) * card.attribute(MULTIPROCESSORS)
    assert card.attribute(CAPABILITY_MAJOR) >= 7
    return 2.0 * units * 1e3 * card.attribute(CLOCK_KHZ)


def bandwidth(card: NvidiaCard) -> float:
    """Bytes a second of the card's memory at best; 0 where the driver does not tell."""
    return TRANSFERS_A_CYCLE * 1e3 * card.attribute(MEMORY_CLOCK_KHZ) * card.attribute(MEMORY_BUS_BITS) / 8


def shares_of(rate: float, recipe: Recipe, flops: float, bytes_a_second: float) -> tuple[float, float]:
    """What `rate` network-steps a second use of the peak and, estimated, of the bandwidth (NaN: unknown)."""
    moved = rate * bytes_moved(recipe)
    return rate * operations(recipe) / flops, moved / bytes_a_second if bytes_a_second else float("nan")


def engine_rate(engine: Engine, recipe: Recipe, data: TaskData, count: int, seconds: float) -> float:
    """Network-steps a second of wall time, batches prepared included."""
    seeds = list(range(count))
    fresh = [initial_state(recipe, seed) for seed in seeds]

    def run(steps: int) -> int:
        engine.train(recipe, data, seeds, fresh, steps)
        return count * steps

    return rate_of(run, seconds)


def rate_of(run: Callable[[int], int], seconds: float) -> float:
    """`run(steps)` with more and more steps, until it takes long enough: a call has a price whatever its steps."""
    run(2)  # warm up
    steps = STEPS_AT_LEAST
    while True:
        began = time.perf_counter()
        done = run(steps)
        took = time.perf_counter() - began
        if took >= seconds or steps >= 1000:
            return done / took
        steps = min(1000, max(2 * steps, int(1.2 * steps * seconds / took)))


def loop_rate(loop: PlainLoop | VmapLoop, seconds: float) -> float:
    return rate_of(lambda steps: loop.run(steps).size, seconds)  # the losses' way home waits for the card


def plain_rate(recipe: Recipe, data: TaskData, device: str, seconds: float) -> float:
    need_torch_cuda()
    return loop_rate(PlainLoop(recipe, data, device=device), seconds)


def vmap_rate(recipe: Recipe, data: TaskData, count: int, device: str, seconds: float) -> float:
    need_torch_cuda()
    return loop_rate(VmapLoop(recipe, data, [k % VMAP_SEEDS for k in range(count)], device), seconds)


def graph_rate(recipe: Recipe, data: TaskData, count: int, device: str, seconds: float) -> float:
    need_torch_cuda()
    return loop_rate(GraphLoop(recipe, data, [k % VMAP_SEEDS for k in range(count)], device), seconds)


def jax_rate(recipe: Recipe, data: TaskData, count: int, device: str, seconds: float) -> float:
    """On JAX's first card. A call takes always as many steps, for a new number of them is compiled anew."""
    if importlib.util.find_spec("jax") is None:
        raise RuntimeError("jax is not installed")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # or it takes three quarters of the card at once
    from rivals import in_jax

    in_jax.jax.config.update("jax_platforms", "cuda")
    try:
        in_jax.jax.devices()
    except (RuntimeError, AssertionError):  # which of them depends on what else is missing
        raise RuntimeError("no CUDA in this jax") from None
    loop = in_jax.JaxLoop(recipe, data, [k % VMAP_SEEDS for k in range(count)])
    return rate_of(
        lambda steps: sum(loop.run(STEPS_AT_LEAST).size for _ in range(-(-steps // STEPS_AT_LEAST))), seconds
    )


def need_torch_cuda() -> None:
    if not torch.cuda.is_available():
        raise RuntimeError("no CUDA in this torch")


def shown(measure: Callable[[], float]) -> str:
    """A rate, or why there is none: out of memory, or what torch cannot do."""
    try:
        return f"{measure():,.0f}"
    except (RuntimeError, NotImplementedError, torch.OutOfMemoryError) as error:
        return str(error).splitlines()[0][:40]


if __name__ == "__main__":
    main()
