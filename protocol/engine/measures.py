"""How good trained networks are: clean accuracy, and for poisoned tasks how often the attacker gets what he wants."""

import msgspec
import numpy as np

from protocol.engine import Engine
from protocol.engine.streams import task_data
from protocol.recipes.recipe import Recipe
from protocol.tasks.data import TaskData
from protocol.tasks.datasets import NO_SHELF, Shelf
from protocol.tasks.generate import attack_data
from protocol.tasks.kinds import DatasetTask


class Measures(msgspec.Struct, frozen=True, kw_only=True):
    """K networks on the held-out samples; exact, as every engine gives the same."""

    loss: np.ndarray  # (K,) float32
    accuracy: np.ndarray | None  # (K,) share of the targets that are met; None where targets are values
    attack_success: np.ndarray | None  # (K,) share of the patched images that get the wanted label; None without poison


def measure(engine: Engine, recipe: Recipe, params: list[np.ndarray], shelf: Shelf = NO_SHELF) -> Measures:
    """Raises UsageError: the data set is not in `shelf`."""
    clean = engine.evaluate(recipe, task_data(recipe, shelf), params)
    attack = None
    if isinstance(recipe.task, DatasetTask) and recipe.task.poison is not None:
        data = attack_of(recipe.task, shelf)
        met = engine.evaluate(recipe, data, params).correct
        attack = None if met is None else met / len(data.held_out_inputs)
    return Measures(loss=clean.loss, accuracy=clean.accuracy, attack_success=attack)


def attack_of(task: DatasetTask, shelf: Shelf) -> TaskData:
    """Data whose held-out samples are the attack's."""
    inputs, wanted = (np.ascontiguousarray(array) for array in attack_data(task, shelf))
    return TaskData(inputs=inputs[:1], targets=wanted[:1], held_out_inputs=inputs, held_out_targets=wanted)
