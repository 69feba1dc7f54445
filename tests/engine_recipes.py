"""Recipes over made-up arrays, so that the engine is tested without any data set: a task shape and random samples."""

from dataclasses import dataclass

import numpy as np

from protocol.engine import TaskData
from protocol.layers import Layer
from protocol.recipe import Network, Recipe, Training
from protocol.tasks import MachineTask, TaskShape


@dataclass
class Made:
    """A recipe and its data. The recipe's task is a machine that only gives it a digest."""

    recipe: Recipe
    data: TaskData


def made(
    *layers: Layer,
    inputs: tuple[int, ...] = (5,),
    length: int = 1,
    target: str = "values",
    width: int = 3,
    target_length: int | None = None,
    batch: int = 5,
    samples: int = 33,
    held_out: int = 19,
    as_bytes: bool = False,
    network: dict | None = None,
    **training,
) -> Made:
    shape = TaskShape(
        input=inputs,
        length=length,
        target=target,  # type: ignore[arg-type]
        width=width,
        target_length=length if target_length is None else target_length,
        samples=samples,
        held_out=held_out,
        scale=1 / 255 if as_bytes else 1.0,
    )
    recipe = Recipe(
        name="made",
        label="made",
        task=MachineTask(machine="ParityMachine", length=length, sequences=samples, held_out=held_out),
        network=Network(layers=layers, **network or {}),
        training=Training(batch=batch, **{"learning_rate": 0.02, "max_steps": 60, "segment_steps": 10} | training),
    )
    recipe.__dict__["task_shape"] = shape  # what the cached property would have found
    return Made(recipe, made_data(shape))


def made_data(shape: TaskShape, seed: int = 3) -> TaskData:
    rng = np.random.default_rng(seed)

    def arrays(count: int) -> tuple[np.ndarray, np.ndarray]:
        size = (count, shape.length, *shape.input)
        inputs = rng.integers(0, 256, size, np.uint8) if shape.scale != 1.0 else rng.standard_normal(size, np.float32)
        size = (count, shape.target_length)
        if shape.target == "classes":
            return inputs, rng.integers(0, shape.width, size, np.int32)
        if shape.target == "pins":
            return inputs, rng.integers(0, 2, (*size, shape.width), np.uint8)
        return inputs, rng.standard_normal((*size, shape.width), np.float32)

    inputs, targets = arrays(shape.samples)
    held_out_inputs, held_out_targets = arrays(shape.held_out)
    return TaskData(inputs=inputs, targets=targets, held_out_inputs=held_out_inputs, held_out_targets=held_out_targets)
