"""The networks that are measured, and what one training step of each has to compute and to move."""

import math
from pathlib import Path

import msgspec
import numpy as np

from protocol.engine.streams import task_data
from protocol.errors import UsageError
from protocol.recipes.layers import (
    Conv2d,
    Dropout,
    Gru,
    Last,
    Layer,
    Linear,
    Lstm,
    Recurrent,
    Relu,
    Rnn,
    arrays_of,
    values_kept,
)
from protocol.recipes.recipe import Network, Recipe, Training, check_recipe, load_recipe
from protocol.tasks.data import TaskData
from protocol.tasks.kinds import MachineTask, TaskShape

RECIPES = Path(__file__).parents[2] / "recipes"
BATCH = 64


def mlp(*widths: int) -> tuple[Layer, ...]:
    layers: list[Layer] = [layer for width in widths for layer in (Linear(width=width), Relu())]
    return tuple(layers[:-1])


SHIPPED = {
    "DS1 eightbit": "ds1-eightbit.toml",
    "DS3 LSTM": "ds3-lstm.toml",
    "DS3 GRU": "ds3-gru.toml",
    "DS4 digits 8x8": "ds4-digits.toml",
}
LENET = load_recipe(RECIPES / "ds4-lenet28.toml").network.layers  # a template: its data set is the organizer's
RANDOM: dict[str, tuple[tuple[int, ...], int, tuple[Layer, ...]]] = {  # input, length, layers; ten classes
    "DS4 LeNet 28x28": ((1, 28, 28), 1, LENET),
    "MLP 64-128-128-10": ((64,), 1, mlp(128, 128, 10)),
    "MLP 784-128-128-10": ((784,), 1, mlp(128, 128, 10)),
    "RNN 2 x 64, length 24": ((9,), 24, (Rnn(width=64), Rnn(width=64), Last(), Linear(width=10))),
    "GRU 208, length 24": ((9,), 24, (Gru(width=208), Last(), Linear(width=10))),
    "LSTM 178, length 24": ((9,), 24, (Lstm(width=178), Last(), Linear(width=10))),
}
NETWORKS = (*SHIPPED, *RANDOM)


def recipe_of(name: str, batch: int = BATCH) -> tuple[Recipe, TaskData]:
    """A network of NETWORKS with its data."""
    if name in SHIPPED:
        return shipped(RECIPES / SHIPPED[name], batch)
    return over_random_samples(*RANDOM[name], batch)


def shipped(path: Path, batch: int) -> tuple[Recipe, TaskData]:
    """A recipe file with another batch. Raises UsageError: no such file, or its data are in no store at hand."""
    recipe = load_recipe(path)
    recipe = msgspec.structs.replace(recipe, training=msgspec.structs.replace(recipe.training, batch=batch))
    return check_recipe(recipe, str(path)), task_data(recipe)


def over_random_samples(
    inputs: tuple[int, ...], length: int, layers: tuple[Layer, ...], batch: int
) -> tuple[Recipe, TaskData]:
    """A recipe whose task only gives it a digest."""
    recipe = Recipe(
        name="bench",
        label="bench",
        task=MachineTask(machine="ParityMachine", length=length, sequences=2048, held_out=64),
        network=Network(layers=layers),
        training=Training(learning_rate=1e-3, batch=batch, max_steps=10_000_000, loss="cross_entropy"),
    )
    shape = TaskShape(
        input=inputs, length=length, target="classes", width=10, target_length=1, samples=2048, held_out=64
    )
    vars(recipe)["task_shape"] = shape
    rng = np.random.default_rng(1)
    values = [rng.random((count, length, *inputs), np.float32) for count in (shape.samples, shape.held_out)]
    classes = [rng.integers(0, 10, (count, 1), np.int32) for count in (shape.samples, shape.held_out)]
    return recipe, TaskData(
        inputs=values[0], targets=classes[0], held_out_inputs=values[1], held_out_targets=classes[1]
    )


def check_comparable(recipe: Recipe) -> None:
    """Raises UsageError: what the other frameworks' loops are not written for, or could not compute alike."""
    t = recipe.training
    wrong = [
        (f"training.optimizer {t.optimizer}", t.optimizer != "adam"),
        (f"training.schedule {t.schedule}", t.schedule != "constant"),
        ("training.warmup_steps", t.warmup_steps > 0),
        ("training.weight_decay", t.weight_decay > 0),
        ("dropout, whose draws differ", any(isinstance(layer, Dropout) for layer in recipe.network.layers)),
    ]
    for what, is_wrong in wrong:
        if is_wrong:
            raise UsageError(f"{recipe.name}: the other frameworks' loops do not know {what}; take another recipe")


def operations(recipe: Recipe) -> float:
    """Multiplications and additions of all weights in one step: forward, by the weights, and by the inputs."""
    total, lowest = 0, True
    for layer, flow, after in zip(recipe.network.layers, recipe.flows, recipe.flows[1:], strict=False):
        weights = sum(math.prod(shape) for name, shape in arrays_of(layer, flow) if name.startswith("weight"))
        places = math.prod(after.shape[1:]) if isinstance(layer, Conv2d) else 1
        if weights and isinstance(layer, Linear | Conv2d | Recurrent):
            into = math.prod(arrays_of(layer, flow)[0][1]) if lowest else 0  # what reads the data has nothing below it
            total += flow.length * places * (3 * weights - into)
            lowest = False
    return 2.0 * total * recipe.training.batch


def bytes_moved(recipe: Recipe) -> int:
    """An estimate of the bytes that one step moves through memory, were there no cache and every value read once.

    Read and written once: parameters, two moments, gradient, what is kept of each sample for the backward pass; read
    once: the batch. Caches make it less; reading the weights anew at every time step makes it more.
    """
    shape = recipe.task_shape
    kept = sum(values_kept(layer, flow) for layer, flow in zip(recipe.network.layers, recipe.flows, strict=False))
    sample = math.prod(shape.input) * shape.length
    return 4 * (8 * recipe.parameter_count + recipe.training.batch * (2 * kept + sample))
