"""Recipes over made-up arrays, so that the engine is tested without any data set: a task shape and random samples."""

from dataclasses import dataclass

import numpy as np

from protocol.recipes.layers import Layer
from protocol.recipes.recipe import Network, Recipe, Training
from protocol.tasks.data import TaskData
from protocol.tasks.kinds import MachineTask, TaskShape
from protocol.tasks.philox import random_words, stream_key


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
    vars(recipe)["task_shape"] = shape  # what the cached property would have found
    return Made(recipe, made_data(shape))


def made_data(shape: TaskShape, seed: int = 3) -> TaskData:
    """Random samples from our own streams, so that golden digests do not depend on a library's generator."""

    def draw(name: str, size: tuple[int, ...]) -> np.ndarray:
        return random_words(stream_key("made", name, seed), int(np.prod(size))).reshape(size)

    def arrays(part: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        raw = draw(part, (count, shape.length, *shape.input))
        inputs = (raw & 255).astype(np.uint8) if shape.scale != 1.0 else signed(raw)
        raw = draw(part + " targets", (count, shape.target_length, shape.width))
        if shape.target == "classes":
            return inputs, (raw[..., 0] % shape.width).astype(np.int32)
        return inputs, (raw & 1).astype(np.uint8) if shape.target == "pins" else signed(raw)

    inputs, targets = arrays("training", shape.samples)
    held_out_inputs, held_out_targets = arrays("held-out", shape.held_out)
    return TaskData(inputs=inputs, targets=targets, held_out_inputs=held_out_inputs, held_out_targets=held_out_targets)


def signed(raw: np.ndarray) -> np.ndarray:
    """Words -> float32 in [-2, 2), exactly."""
    return (raw >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-22) - np.float32(2)
