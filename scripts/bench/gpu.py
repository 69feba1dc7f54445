#!/usr/bin/env python3
"""Network-steps a second on a GPU: the CUDA engine at K networks at once, against three others.

The others: nn.GRU and its like (cuDNN) one network at a time on the card, torch.func.vmap over networks on the card,
and the C engine on all cores of this computer. Prints one table, with the card's memory at its peak and the share of
its float32 peak (fused, as the data sheet counts). Needs a card, and a torch with CUDA for its two columns; says so
and exits 2 without a card.

    python scripts/bench/gpu.py [--device cuda:0] [--only lstm] [--seconds 2] [--largest 16384]
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from engine import PlainLoop, operations, recipe_of  # beside this file
from torch import nn

from peer.train import usable_cores
from protocol.engine import Engine, TaskData
from protocol.engine.card import CAPABILITY_MAJOR, CLOCK_KHZ, MULTIPROCESSORS, NvidiaCard, open_cards
from protocol.engine.cuda import CardError, CudaEngine
from protocol.engine.data import initial_state, task_data
from protocol.engine.select import select_engine
from protocol.recipe import Recipe, load_recipe

ROOT = Path(__file__).parents[2]
NETWORKS = ("LSTM 2 x 104, length 24", "LeNet 28x28", "MLP 784-128-128-10")
AT_ONCE = (1, 16, 64, 256, 1024, 4096, 16384)
CORES = {"sm_75": 64, "sm_80": 64}  # float32 units of a multiprocessor; 128 in all others


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--only", default="", help="networks whose name contains this")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement, at least")
    parser.add_argument("--largest", type=int, default=AT_ONCE[-1])
    options = parser.parse_args()
    try:
        (card,) = open_cards(options.device, 0.9)[:1]
    except CardError as error:
        print(f"bench/gpu: nothing measured: {error}", file=sys.stderr)
        sys.exit(2)
    peak = peak_flops(card)
    print(f"{card.model} ({card.name}), {card.blocks} blocks at once, float32 peak {peak / 1e12:.1f} TFLOP/s\n")
    print("| network | K | cuda engine | of peak | card memory | cuDNN, one by one | vmap | C, all cores |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    ds1 = load_recipe(ROOT / "recipes" / "ds1-eightbit.toml")
    found = {ds1.name: (ds1, task_data(ds1))} | {name: recipe_of(name) for name in NETWORKS}
    for name, (recipe, data) in found.items():
        if options.only.lower() not in name.lower():
            continue
        one = shown(lambda r=recipe, d=data: plain_rate(r, d, options.device, options.seconds))
        cores = engine_rate(select_engine("c", usable_cores()), recipe, data, 4 * usable_cores(), options.seconds)
        for count in (k for k in AT_ONCE if k <= options.largest):
            card.peak_bytes = 0
            rate = engine_rate(CudaEngine([card]), recipe, data, count, options.seconds)
            many = shown(lambda r=recipe, d=data, k=count: vmap_rate(r, d, k, options.device, options.seconds))
            share = rate * operations(recipe) / peak
            memory = f"{card.peak_bytes / 1e9:.2f} GB"
            print(
                f"| {name} | {count} | {rate:,.0f} | {share:.1%} | {memory} | {one} | {many} | {cores:,.0f} |",
                flush=True,
            )


def peak_flops(card: NvidiaCard) -> float:
    units = CORES.get(card.name, 128) * card.attribute(MULTIPROCESSORS)
    assert card.attribute(CAPABILITY_MAJOR) >= 7
    return 2.0 * units * 1e3 * card.attribute(CLOCK_KHZ)


def engine_rate(engine: Engine, recipe: Recipe, data: TaskData, count: int, seconds: float) -> float:
    """Network-steps a second of wall time, batches prepared included."""
    seeds = list(range(count))
    fresh = [initial_state(recipe, seed) for seed in seeds]

    def run(steps: int) -> int:
        engine.train(recipe, data, seeds, fresh, steps)
        return count * steps

    return rate_of(run, seconds)


def rate_of(run: Callable[[int], int], seconds: float) -> float:
    """`run(steps)` with more and more steps, until it takes long enough."""
    steps = 2
    run(steps)  # warm up
    while True:
        began = time.perf_counter()
        done = run(steps)
        took = time.perf_counter() - began
        if took >= seconds or steps >= 1000:
            return done / took
        steps = min(1000, max(2 * steps, int(1.2 * steps * seconds / took)))


def plain_rate(recipe: Recipe, data: TaskData, device: str, seconds: float) -> float:
    need_torch_cuda()
    loop = PlainLoop(recipe, data)
    loop.inputs, loop.targets = loop.inputs.to(device), loop.targets.to(device)
    loop.network.to(device)
    loop.optimizer = torch.optim.Adam(loop.network.parameters(), lr=recipe.training.learning_rate)

    def run(steps: int) -> int:
        loop.run(steps)
        torch.cuda.synchronize()
        return steps

    return rate_of(run, seconds)


def vmap_rate(recipe: Recipe, data: TaskData, count: int, device: str, seconds: float) -> float:
    """Gradients of `count` networks by vmap over stacked parameters, each with batches of its own; stacked Adam."""
    need_torch_cuda()
    loop = PlainLoop(recipe, data)
    inputs, targets, network = loop.inputs.to(device), loop.targets.to(device), loop.network.to(device)
    stacked = {
        name: value.detach().expand(count, *value.shape).clone().requires_grad_()
        for name, value in network.named_parameters()
    }
    optimizer = torch.optim.Adam(stacked.values(), lr=recipe.training.learning_rate)
    loss_of = nn.functional.cross_entropy if loop.is_class else nn.functional.mse_loss

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return loop.forward(values)

    whole = Whole()

    def loss(params: dict[str, torch.Tensor], values: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        named = {f"network.{name}": value for name, value in params.items()}
        return loss_of(torch.func.functional_call(whole, named, (values,)), wanted)

    gradient = torch.func.vmap(torch.func.grad(loss), randomness="different")

    def run(steps: int) -> int:
        for _ in range(steps):
            rows = torch.randint(len(inputs), (count, recipe.training.batch), device=device)
            found = gradient({name: value.detach() for name, value in stacked.items()}, inputs[rows], targets[rows])
            for name, value in stacked.items():
                value.grad = found[name]
            optimizer.step()
        torch.cuda.synchronize()
        return count * steps

    with torch.backends.cudnn.flags(enabled=False):  # vmap does not reach into cuDNN's recurrent layers
        return rate_of(run, seconds)


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
