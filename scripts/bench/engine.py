#!/usr/bin/env python3
"""CPU time of one training step of one network: the exact C engine against a plain PyTorch loop over nn.GRU.

Same network, batch and data; one network at a time; torch on one thread; both in this process, in turn, so that a busy
machine slows both. Prints the medians over rounds, and last `ratio: N`.

    python scripts/bench/engine.py [--isa v4|v3|baseline|native] [--recipe recipes/ds1-eightbit.toml] [--rounds 15]
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from protocol.engine.data import batch_order, initial_state, task_data
from protocol.engine.select import select_engine
from protocol.layers import Gru, Linear
from protocol.recipe import Recipe, load_recipe

ROOT = Path(__file__).parents[2]


class PlainNetwork(torch.nn.Module):
    """The recipe's network as anyone would write it; a stack of equal GRU layers is one nn.GRU."""

    def __init__(self, recipe: Recipe):
        super().__init__()
        layers = recipe.network.layers
        depth = sum(isinstance(layer, Gru) for layer in layers)
        width = getattr(layers[0], "width", 0)
        assert all(isinstance(layer, Gru) and layer.width == width for layer in layers[:depth])
        self.gru = torch.nn.GRU(9, width, depth, batch_first=True)
        head: list[torch.nn.Module] = []
        for layer in layers[depth:]:
            head.append(torch.nn.Linear(width, layer.width) if isinstance(layer, Linear) else torch.nn.ReLU())
            width = getattr(layer, "width", width)
        self.head = torch.nn.Sequential(*head)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(self.gru(inputs)[0])


class PlainLoop:
    def __init__(self, recipe: Recipe):
        data = task_data(recipe)
        self.order = batch_order(recipe, 0, 0, 1000)
        self.inputs = torch.tensor(data.inputs, dtype=torch.float32)
        self.targets = torch.tensor(data.targets, dtype=torch.float32)
        self.network = PlainNetwork(recipe)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=recipe.training.learning_rate)
        self.at = 0

    def run(self, steps: int) -> None:
        for _ in range(steps):
            rows = torch.from_numpy(self.order[self.at % len(self.order)])
            loss = torch.nn.functional.mse_loss(self.network(self.inputs[rows]), self.targets[rows])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.at += 1


class ExactLoop:
    def __init__(self, recipe: Recipe, isa: str):
        self.engine = select_engine("c", 1, isa)
        self.recipe, self.data = recipe, task_data(recipe)
        self.states = [initial_state(recipe, 0)]

    def run(self, steps: int) -> None:
        if self.states[0].step + steps > self.recipe.training.max_steps:
            self.states = [initial_state(self.recipe, 0)]
        self.states, _ = self.engine.train(self.recipe, self.data, [0], self.states, steps)


def seconds_per_step(loop: PlainLoop | ExactLoop, steps: int) -> float:
    start = time.process_time()
    loop.run(steps)
    return (time.process_time() - start) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--isa", default="auto")
    parser.add_argument("--recipe", type=Path, default=ROOT / "recipes" / "ds1-eightbit.toml")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    recipe = load_recipe(options.recipe)
    plain, exact = PlainLoop(recipe), ExactLoop(recipe, options.isa)
    plain.run(5), exact.run(200)  # warm up
    times = [(seconds_per_step(plain, 20), seconds_per_step(exact, 400)) for _ in range(options.rounds)]
    plain_ms, exact_ms = (1e3 * statistics.median(column) for column in zip(*times, strict=True))
    shape = f"{recipe.parameter_count:,} parameters, batch {recipe.training.batch}, length {recipe.task_shape.length}"
    print(f"{recipe.name}: {shape}; CPU time a network-step, median of {options.rounds} rounds")
    print(f"torch {torch.__version__} nn.GRU, one network at a time: {plain_ms:.3f} ms")
    print(f"{exact.engine.name} (numpy {np.__version__}): {exact_ms:.4f} ms")
    print(f"ratio: {plain_ms / exact_ms:.1f}")


if __name__ == "__main__":
    main()
