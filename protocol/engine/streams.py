"""What every backend shares, integers first: task data, batch order, dropout's draws.

Streams (see `protocol.tasks.philox`): a task's data depends on the task alone, so every seed of every recipe with this
task sees the same training set. Initial parameters and batch order depend on (recipe digest, seed), or where the recipe
has a `twin` on (twin, seed), so that other recipes share them. Its `vary` may say otherwise: a stream that is not named
there is the same for all seeds, and with "data" each seed has its own.
"""

from functools import lru_cache, partial

import msgspec
import numpy as np

from protocol.recipes.layers import Dropout
from protocol.recipes.recipe import Recipe
from protocol.tasks.data import TaskData
from protocol.tasks.datasets import NO_SHELF, Shelf
from protocol.tasks.generate import kept_data
from protocol.tasks.kinds import DatasetTask, Task
from protocol.tasks.philox import StreamKey, permutation, stream_key


def task_data(recipe: Recipe, shelf: Shelf = NO_SHELF) -> TaskData:
    """The recipe's training and held-out samples; the arrays are shared and read-only.

    Where the recipe lets the data vary, `for_seed` of what is returned gives each network's own training samples.
    Raises UsageError: a data set is not in `shelf` (DataMissing), or is not what the recipe says.
    """
    place = shelf if isinstance(recipe.task, DatasetTask) else NO_SHELF
    return _varied(recipe.task, place) if "data" in recipe.vary else kept_data(recipe.task, place, None)


@lru_cache(maxsize=8)
def _varied(task: Task, shelf: Shelf) -> TaskData:
    return msgspec.structs.replace(kept_data(task, shelf, None), for_seed=partial(kept_data, task, shelf))


def batch_order(recipe: Recipe, seed: int, step: int, steps: int) -> np.ndarray:
    """Training samples of steps `step` to `step + steps`, (steps, B) int32.

    Epochs without replacement: the batches cut up one endless row of permutations, one an epoch, so a batch may
    straddle two.
    """
    n, batch = recipe.task_shape.samples, recipe.training.batch
    epochs = epochs_of(recipe, step, steps)
    seed = recipe.stream_seed("order", seed)
    row = np.concatenate([_epoch(recipe.stream_root, seed, epoch, n) for epoch in epochs])
    return row[step * batch - epochs.start * n :][: steps * batch].reshape(steps, batch)


def batch_orders(recipe: Recipe, seeds: list[int], at: list[int], steps: int) -> np.ndarray:
    """`batch_order` of K networks, each from its own step `at[k]` on: (K, steps, B) int32."""
    return np.stack([batch_order(recipe, seed, step, steps) for seed, step in zip(seeds, at, strict=True)])


def epochs_of(recipe: Recipe, step: int, steps: int) -> range:
    """The epochs that these steps touch."""
    n, batch = recipe.task_shape.samples, recipe.training.batch
    return range(step * batch // n, -(-(step + steps) * batch // n))


@lru_cache(maxsize=512)
def _epoch(root: bytes, seed: int, epoch: int, n: int) -> np.ndarray:
    """An epoch's permutation; kept because the next segment starts in the epoch where this one ends."""
    return permutation(stream_key("order", root, seed, epoch), n)


def dropout_key(recipe: Recipe, seed: int, layer: int) -> StreamKey:
    """The stream of one dropout layer; a step's counter holds the step, so any step is drawn alone."""
    return stream_key("dropout", recipe.stream_root, recipe.stream_seed("order", seed), layer)


def dropout_draw(layer: Dropout) -> tuple[int, np.float32]:
    """(threshold, scale): a value whose 24-bit draw is below the threshold is dropped, another one is scaled."""
    return int(layer.rate * 2.0**24), np.float32(1.0 / (1.0 - layer.rate))
