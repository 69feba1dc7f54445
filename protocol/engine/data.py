"""What every backend shares, integers first: task data, batch order, initial parameters, Adam's step sizes.

Streams (see `protocol.philox`): a task's data depends on the task alone, so every seed of every recipe with this task
sees the same training set; initial parameters and batch order depend on (recipe digest, seed). A recipe's `vary` says
otherwise: a stream that is not named there is the same for all seeds, and with "data" each seed has its own.
"""

import threading
from functools import lru_cache, partial

import msgspec
import numpy as np

from protocol.datasets import NO_SHELF, Shelf
from protocol.engine import State, TaskData
from protocol.engine.sources import kept_data
from protocol.layers import Gru, Linear
from protocol.philox import permutation, stream_key, uniform
from protocol.recipe import Recipe
from protocol.tasks import COMMAND_BITS, DatasetTask, Task

POWERS_BLOCK = 1024  # steps of Adam's recurrence that are computed and kept together


def task_data(recipe: Recipe, shelf: Shelf = NO_SHELF) -> TaskData:
    """The recipe's training and held-out samples; the arrays are shared and read-only.

    Where the recipe lets the data vary, `for_seed` of what is returned gives each network's own training samples.
    Raises UsageError: a data set is not in `shelf` (DataMissing), or is not what the recipe says.
    """
    place = shelf if isinstance(recipe.task, DatasetTask) else NO_SHELF
    return _task_data(recipe.task, place, "data" in recipe.vary)


@lru_cache(maxsize=8)
def _task_data(task: Task, shelf: Shelf, varies: bool) -> TaskData:
    data = kept_data(task, shelf, None)
    return msgspec.structs.replace(data, for_seed=partial(kept_data, task, shelf)) if varies else data


def batch_order(recipe: Recipe, seed: int, step: int, steps: int) -> np.ndarray:
    """Training samples of steps `step` to `step + steps`, (steps, B) int32.

    Epochs without replacement: the batches cut up one endless row of permutations, one an epoch, so a batch may
    straddle two.
    """
    n, batch = recipe.task_shape.samples, recipe.training.batch
    first, last = step * batch, (step + steps) * batch
    epochs = range(first // n, -(-last // n))
    seed = recipe.stream_seed("order", seed)
    row = np.concatenate([_epoch(recipe.digest, seed, epoch, n) for epoch in epochs])
    return row[first - epochs.start * n :][: steps * batch].reshape(steps, batch)


@lru_cache(maxsize=512)
def _epoch(recipe_digest: str, seed: int, epoch: int, n: int) -> np.ndarray:
    """An epoch's permutation; kept because the next segment starts in the epoch where this one ends."""
    return permutation(stream_key("order", bytes.fromhex(recipe_digest), seed, epoch), n)


def initial_state(recipe: Recipe, seed: int) -> State:
    """Step 0: PyTorch's default initial distribution, uniform in ±1/sqrt(fan); moments zero.

    Parameter p takes word p of its stream. (2u - 1) is exact, so there is one rounding, that of the product.
    """
    bounds = np.concatenate(
        [
            np.full(np.prod(shape, dtype=int), bound)
            for (_, shape), bound in zip(recipe.shapes, _bounds(recipe), strict=True)
        ]
    ).astype(np.float32)
    u = uniform(
        stream_key("init", bytes.fromhex(recipe.digest), recipe.stream_seed("init", seed)), recipe.parameter_count
    )
    params = (u * np.float32(2) - np.float32(1)) * bounds
    return State(step=0, params=params, moments=np.zeros((2, recipe.parameter_count), np.float32))


def _bounds(recipe: Recipe) -> list[np.float32]:
    """One bound an array of `recipe.shapes`: 1/sqrt(hidden width) for gru, 1/sqrt(fan in) for linear."""
    bounds: list[np.float32] = []
    width = COMMAND_BITS
    for layer in recipe.network.layers:
        if isinstance(layer, Gru):
            bounds += [np.float32(1.0 / np.sqrt(np.float64(layer.width)))] * 4
        elif isinstance(layer, Linear):
            bounds += [np.float32(1.0 / np.sqrt(np.float64(width)))] * 2
        width = getattr(layer, "width", width)
    return bounds


def step_sizes(recipe: Recipe, step: int, steps: int) -> np.ndarray:
    """Adam's corrected rates for steps `step` to `step + steps`, (steps, 2) float32.

    For the s-th step (from 1): learning_rate / (1 - beta1^s) and 1 / sqrt(1 - beta2^s), in binary64 from powers by
    repeated multiplication, each rounded once to binary32.
    """
    t = recipe.training
    first_power, second_power = (_powers(beta, step, steps) for beta in (t.beta1, t.beta2))
    sizes = np.empty((steps, 2), np.float32)
    sizes[:, 0] = t.learning_rate / (1.0 - first_power)
    sizes[:, 1] = 1.0 / np.sqrt(1.0 - second_power)
    return sizes


def _powers(beta: float, step: int, steps: int) -> np.ndarray:
    """beta^(step+1) .. beta^(step+steps) by repeated multiplication from 1.0, (steps,) float64."""
    first, last = step // POWERS_BLOCK, -(-(step + steps) // POWERS_BLOCK)
    with _powers_lock:
        blocks = _powers_known.setdefault(beta, [])
        while len(blocks) < last:
            factors = np.full(POWERS_BLOCK, beta, np.float64)
            if blocks:
                factors[0] = blocks[-1][-1] * beta
            blocks.append(np.multiply.accumulate(factors))
        row = np.concatenate(blocks[first:last])
    return row[step - first * POWERS_BLOCK :][:steps]


_powers_lock = threading.Lock()
_powers_known: dict[float, list[np.ndarray]] = {}  # 8 bytes a step: 80 MB for the longest recipe, 80 KB for ours
