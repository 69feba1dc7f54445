#!/usr/bin/env python3
"""CPU time of one training step of one network: the exact C engine against a plain PyTorch loop, for several networks.

Same network, batch, loss and data; one network at a time; torch on one thread; both in this process, in turn, so that a
busy machine slows both. Prints a table of medians over rounds: ratio of CPU times, milliseconds, share of this core's
measured multiply-and-add peak, memory. `--recipe` measures one recipe file instead.

    python scripts/bench/engine.py [--isa v4|v3|baseline|native] [--rounds 9] [--only lenet] [--recipe file.toml]
"""

import argparse
import ctypes
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from analysis.modules import LastStep, torch_layer
from protocol.engine import TaskData
from protocol.engine.build import ISA_FLAGS, STRICT, find_compiler
from protocol.engine.data import batch_order, initial_state, task_data
from protocol.engine.programs import program_of
from protocol.engine.select import select_engine
from protocol.layers import (
    Conv2d,
    Flatten,
    Gru,
    Last,
    Layer,
    Linear,
    Lstm,
    MaxPool2d,
    Recurrent,
    Relu,
    Rnn,
    arrays_of,
    size,
)
from protocol.recipe import Network, Recipe, Training, load_recipe
from protocol.tasks import MachineTask, TaskShape

ROOT = Path(__file__).parents[2]


def mlp(*widths: int) -> tuple[Layer, ...]:
    layers: list[Layer] = [layer for width in widths for layer in (Linear(width=width), Relu())]
    return tuple(layers[:-1])


LENET = (
    *(Conv2d(channels=6, kernel=5, padding=2), Relu(), MaxPool2d(kernel=2)),
    *(Conv2d(channels=16, kernel=5), Relu(), MaxPool2d(kernel=2), Flatten(), *mlp(120, 84, 10)),
)
NETWORKS: dict[str, tuple[tuple[int, ...], int, tuple[Layer, ...]]] = {  # input, length, layers; ten classes
    "MLP 64-128-128-10": ((64,), 1, mlp(128, 128, 10)),
    "MLP 784-128-128-10": ((784,), 1, mlp(128, 128, 10)),
    "LeNet 28x28": ((1, 28, 28), 1, LENET),
    "GRU 4 x 74, length 24": ((9,), 24, (*(Gru(width=74),) * 4, Last(), Linear(width=10))),
    "GRU 208, length 24": ((9,), 24, (Gru(width=208), Last(), Linear(width=10))),
    "LSTM 2 x 104, length 24": ((9,), 24, (Lstm(width=104), Lstm(width=104), Last(), Linear(width=10))),
    "LSTM 178, length 24": ((9,), 24, (Lstm(width=178), Last(), Linear(width=10))),
    "RNN 2 x 64, length 24": ((9,), 24, (Rnn(width=64), Rnn(width=64), Last(), Linear(width=10))),
}


def recipe_of(name: str) -> tuple[Recipe, TaskData]:
    """A recipe over random samples; its task only gives it a digest."""
    inputs, length, layers = NETWORKS[name]
    recipe = Recipe(
        name="bench",
        label="bench",
        task=MachineTask(machine="ParityMachine", length=length, sequences=2048, held_out=64),
        network=Network(layers=layers),
        training=Training(learning_rate=1e-3, batch=64, max_steps=10_000_000, loss="cross_entropy"),
    )
    shape = TaskShape(
        input=inputs, length=length, target="classes", width=10, target_length=1, samples=2048, held_out=64
    )
    recipe.__dict__["task_shape"] = shape
    rng = np.random.default_rng(1)
    values = [rng.random((count, length, *inputs), np.float32) for count in (shape.samples, shape.held_out)]
    classes = [rng.integers(0, 10, (count, 1), np.int32) for count in (shape.samples, shape.held_out)]
    return recipe, TaskData(
        inputs=values[0], targets=classes[0], held_out_inputs=values[1], held_out_targets=classes[1]
    )


def plain_network(recipe: Recipe) -> nn.Sequential:
    """The network as anyone would write it; a stack of equal recurrent layers is one module."""
    layers, modules = recipe.network.layers, []
    i = 0
    while i < len(layers):
        layer, depth = layers[i], 1
        while isinstance(layer, Recurrent) and layers[i + depth : i + depth + 1] == (layer,):
            depth += 1
        module = torch_layer(layer, recipe.flows[i])
        if isinstance(module, nn.RNNBase):
            module = type(module)(module.input_size, module.hidden_size, depth, batch_first=True)
        modules.append(module)
        i += depth
    return nn.Sequential(*modules)


class PlainLoop:
    def __init__(self, recipe: Recipe, data: TaskData):
        self.order = batch_order(recipe, 0, 0, 1000)
        self.inputs = torch.tensor(data.inputs, dtype=torch.float32)
        self.inputs = self.inputs[:, 0] if recipe.task_shape.length == 1 else self.inputs
        self.is_class = recipe.training.loss == "cross_entropy"
        self.targets = torch.tensor(data.targets).long()[:, 0] if self.is_class else torch.tensor(data.targets).float()
        self.network = plain_network(recipe)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=recipe.training.learning_rate)
        self.at = 0

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        for layer in self.network:
            if isinstance(layer, LastStep):
                values = values[:, -1]
            else:
                values = layer(values)[0] if isinstance(layer, nn.RNNBase) else layer(values)
        return values

    def run(self, steps: int) -> None:
        loss_of = nn.functional.cross_entropy if self.is_class else nn.functional.mse_loss
        for _ in range(steps):
            rows = torch.from_numpy(self.order[self.at % len(self.order)])
            loss = loss_of(self.forward(self.inputs[rows]), self.targets[rows])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.at += 1


class ExactLoop:
    def __init__(self, recipe: Recipe, data: TaskData, isa: str):
        self.engine = select_engine("c", 1, isa)
        self.recipe, self.data = recipe, data
        self.states = [initial_state(recipe, 0)]

    def run(self, steps: int) -> None:
        if self.states[0].step + steps > self.recipe.training.max_steps:
            self.states = [initial_state(self.recipe, 0)]
        self.states, _ = self.engine.train(self.recipe, self.data, [0], self.states, steps)


def seconds_per_step(loop: PlainLoop | ExactLoop, steps: int) -> float:
    start = time.process_time()
    loop.run(steps)
    return (time.process_time() - start) / steps


def operations(recipe: Recipe) -> float:
    """Multiplications and additions of all weights in one step: forward, by the weights, and by the inputs."""
    total, lowest = 0, True
    for layer, flow, after in zip(recipe.network.layers, recipe.flows, recipe.flows[1:], strict=False):
        weights = sum(size(shape) for name, shape in arrays_of(layer, flow) if name.startswith("weight"))
        places = size(after.shape[1:]) if isinstance(layer, Conv2d) else 1
        if weights and isinstance(layer, Linear | Conv2d | Recurrent):
            into = size(arrays_of(layer, flow)[0][1]) if lowest else 0  # what reads the data has nothing below it
            total += flow.length * places * (3 * weights - into)
            lowest = False
    return 2.0 * total * recipe.training.batch


PEAK = """
#include "lanes.h"
#define COUNT 12
float peak(long rounds, float start) {
  vec sum[COUNT], factor = start - (vec){0}, more = start - (vec){0};
  UNROLL for (int k = 0; k < COUNT; k++) sum[k] = (vec){0} + (float)k;
  for (long r = 0; r < rounds; r++)
    UNROLL for (int k = 0; k < COUNT; k++) sum[k] = sum[k] * factor + more;
  float total = 0;
  for (int k = 0; k < COUNT; k++) for (int l = 0; l < VW; l++) total += sum[k][l];
  return total;
}
"""


def peak_flops(isa: str) -> float:
    """Multiplications and additions a second of one core that does nothing else, in registers, unfused."""
    source = ROOT / "protocol" / "engine"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "peak.c"
        path.write_text(PEAK)
        flags = ["-O3", *STRICT, *ISA_FLAGS[isa], "-I", str(source), "-shared", "-fPIC", "-Wno-unused-function"]
        library = Path(folder) / "peak.so"
        subprocess.run([*find_compiler(), *flags, "-o", str(library), str(path)], check=True)
        c = ctypes.CDLL(str(library))
    c.peak.restype = ctypes.c_float
    width = {"v4": 16, "v3": 8}.get(isa, 4)
    best = 0.0
    for _ in range(40):  # the best of two seconds: a busy neighbour slows most of them
        start = time.process_time()
        c.peak(ctypes.c_long(4_000_000), ctypes.c_float(1e-3))
        best = max(best, 2 * 12 * width * 4_000_000 / (time.process_time() - start))
    return best


def measure(recipe: Recipe, data: TaskData, isa: str, rounds: int) -> tuple[float, float]:
    """Median CPU seconds of a step: (plain, exact)."""
    plain, exact = PlainLoop(recipe, data), ExactLoop(recipe, data, isa)
    plain.run(3), exact.run(3)  # warm up
    steps = [max(3, int(0.15 / seconds_per_step(loop, 5))) for loop in (plain, exact)]
    times = [(seconds_per_step(plain, steps[0]), seconds_per_step(exact, steps[1])) for _ in range(rounds)]
    plain_seconds, exact_seconds = (statistics.median(column) for column in zip(*times, strict=True))
    return plain_seconds, exact_seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--isa", default="auto")
    parser.add_argument("--recipe", type=Path)
    parser.add_argument("--only", default="", help="networks whose name contains this")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = {name: recipe_of(name) for name in NETWORKS if options.only.lower() in name.lower()}
    path = options.recipe or ROOT / "recipes" / "ds1-eightbit.toml"
    if options.recipe or not options.only:
        recipe = load_recipe(path)
        first = {f"{recipe.name}, length {recipe.task_shape.length}": (recipe, task_data(recipe))}
        found = first if options.recipe else first | found
    engine = select_engine("c", 1, options.isa)
    isa = engine.name.removeprefix("c-")
    peak = peak_flops(isa)
    print(f"{engine.name}, torch {torch.__version__}, numpy {np.__version__}; unfused peak {peak / 1e9:.0f} GFLOP/s\n")
    print("| network | parameters | batch | plain PyTorch | exact engine | ratio | of peak | state | scratch |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, (recipe, data) in found.items():
        plain, exact = measure(recipe, data, isa, options.rounds)
        program = program_of(recipe, data.inputs.dtype, recipe.training.batch)
        scratch = 4 * engine._c.exact_scratch_floats(ctypes.byref(program))  # type: ignore[attr-defined]
        print(
            f"| {name} | {recipe.parameter_count:,} | {recipe.training.batch} | {1e3 * plain:.3f} ms | "
            f"{1e3 * exact:.3f} ms | {plain / exact:.1f} | {operations(recipe) / exact / peak:.0%} | "
            f"{12 * recipe.parameter_count / 1e6:.2f} MB | {scratch / 1e6:.1f} MB |",
            flush=True,
        )


if __name__ == "__main__":
    main()
