"""The epochs' orders of networks in training: C draws them, and the last one is kept, since the next segment begins in
it."""

from dataclasses import dataclass

import numpy as np

from protocol.engine.streams import epochs_of
from protocol.recipes.recipe import Recipe
from protocol.tasks.philox import stream_keys

KEPT_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Epochs:
    """What C needs to draw one network's batches, and what it leaves behind."""

    keys: bytes  # 8 for every epoch that the steps touch
    order: np.ndarray  # (samples,) int32: of the first of them if `ready`; after the call, of the last
    place: int  # of `order` in memory
    ready: bool
    last: int  # the number of the last


class KeptOrders:
    """From one segment of a network to its next. Taking is atomic, so no two calls write into one array."""

    def __init__(self) -> None:
        self._kept: dict[tuple[bytes, int, int], Epochs] = {}

    def take(self, recipe: Recipe, seed: int, step: int, steps: int) -> Epochs:
        epochs, seed = epochs_of(recipe, step, steps), recipe.stream_seed("order", seed)
        count = recipe.task_shape.samples
        before = self._kept.pop((recipe.stream_root, seed, count), None)
        keys = stream_keys("order", recipe.stream_root, seed, numbers=epochs)
        if before is None:
            order = np.empty(count, np.int32)
            return Epochs(keys, order, order.ctypes.data, False, epochs[-1])
        return Epochs(keys, before.order, before.place, before.last == epochs.start, epochs[-1])

    def keep(self, recipe: Recipe, seed: int, drawn: Epochs) -> None:
        """After the call. The oldest go when there are too many."""
        count = recipe.task_shape.samples
        self._kept[recipe.stream_root, recipe.stream_seed("order", seed), count] = drawn
        while len(self._kept) > max(1, KEPT_BYTES // (4 * count)):
            self._kept.pop(next(iter(self._kept)), None)
