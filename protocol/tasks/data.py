"""A task's samples as arrays."""

from collections.abc import Callable

import msgspec
import numpy as np


class TaskData(msgspec.Struct, frozen=True, kw_only=True):
    """A task's data: what `protocol.tasks.kinds.task_shape` says. N training and M held-out samples of T time steps.

    Inputs are uint8 (times `TaskShape.scale`) or float32. Targets are uint8 pins or float32 values (N, T', width), or
    uint8 or int32 class numbers (N, T'), with T' = `TaskShape.target_length`. Arrays are C-contiguous.
    """

    inputs: np.ndarray  # (N, T, features) or (N, 1, channels, height, width)
    targets: np.ndarray
    held_out_inputs: np.ndarray  # (M, ...)
    held_out_targets: np.ndarray
    for_seed: Callable[[int], "TaskData"] | None = None  # when the data vary: a network's own; the held-out ones do not
