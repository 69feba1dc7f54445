"""The truth that influence is judged by: train again without some training points, with the exact engine.

A network without points starts from the very weights of the published one (the recipe must name a `twin`, whose name
keys the initial weights) and takes as many steps. With a full batch nothing else differs; with smaller batches the
order of the samples does too, since another number of samples has other permutations.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from protocol.engine import Engine
from protocol.engine.training import advance, start
from protocol.errors import UsageError
from protocol.recipes.recipe import Recipe
from protocol.tasks.data import TaskData
from protocol.tasks.kinds import FunctionTask


def without(recipe: Recipe, data: TaskData, points: Sequence[int]) -> tuple[Recipe, TaskData]:
    """The recipe and the data of networks that never see `points` (indices of training samples).

    The recipe is for this computation alone: no swarm publishes it. Raises UsageError: no twin, other data a seed, or
    not a function's samples.
    """
    if not isinstance(recipe.task, FunctionTask) or data.for_seed is not None or recipe.task.drop:
        raise UsageError(f"{recipe.name}: points are left out of the fixed samples of a function, all of them kept")
    if not recipe.twin:
        raise UsageError(f"{recipe.name}: without a `twin`, another recipe has other initial weights")
    kept = np.setdiff1d(np.arange(len(data.inputs)), np.asarray(points, int))
    if recipe.training.stop_held_out_loss:
        raise UsageError(f"{recipe.name}: has a stop rule, so that networks differ in their steps as well")
    task = msgspec.structs.replace(recipe.task, samples=len(kept))
    training = msgspec.structs.replace(recipe.training, batch=min(recipe.training.batch, len(kept)))
    fewer = msgspec.structs.replace(
        data, inputs=np.ascontiguousarray(data.inputs[kept]), targets=np.ascontiguousarray(data.targets[kept])
    )
    return msgspec.structs.replace(recipe, task=task, training=training), fewer


def retrain(
    engine: Engine, recipe: Recipe, data: TaskData, seeds: Sequence[int], points: Sequence[int] = ()
) -> np.ndarray:
    """(M, P) float32 final weights of `seeds` without `points`; without none, those of the published networks."""
    if len(points):
        recipe, data = without(recipe, data, points)
    found = dict(zip(seeds, start(engine, recipe, data, list(seeds)), strict=True))
    while running := [seed for seed, one in found.items() if not one.final]:
        states = [found[seed].state for seed in running]
        found.update(zip(running, advance(engine, recipe, data, running, states), strict=True))
    return np.stack([one.state.params for one in found.values()])
