"""The exact engine `exact-2`: a network is a pure function of its recipe and seed, bit for bit.

What every backend shares: `streams` (task data, batch order), `initial` (parameters), `schedule` (step sizes). The
backends: `reference` (NumPy; it *is* the specification, with docs/exact_arithmetic.md), `native` (C) and `cuda`, whose
source is in `kernels`. On top: `training` (segments, stop rule, refill), `needs` (how much memory), `measures`,
`select` (which backend runs).
Axes in names: K networks, N steps, P parameters.
"""

from typing import Protocol

import msgspec
import numpy as np

from protocol.canonical import sha256
from protocol.errors import Refused
from protocol.recipes.recipe import ENGINE as ENGINE
from protocol.recipes.recipe import Recipe
from protocol.tasks.data import TaskData


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters and optimizer moments after `step` steps. Arrays are C-contiguous little-endian float32."""

    step: int
    params: np.ndarray  # (P,)
    moments: np.ndarray  # (2, P): first moment or momentum, second moment

    def to_bytes(self) -> bytes:
        """Fixed layout: step as u64 little-endian, params, moments. Its length depends on the recipe alone."""
        return b"".join(self.pieces())

    def pieces(self) -> tuple[bytes, memoryview, memoryview]:
        """What `to_bytes` joins, where it lies: a network's state is hashed and written at every boundary."""
        return self.step.to_bytes(8, "little"), raw(self.params), raw(self.moments)

    @property
    def params_digest(self) -> bytes:
        """SHA-256 of the parameters' bytes: what a published network's file must hash to."""
        return sha256(raw(self.params))

    @property
    def moments_digest(self) -> bytes:
        return sha256(raw(self.moments))

    @property
    def digest(self) -> bytes:
        return state_digest(self.step, self.params_digest, self.moments_digest)


def raw(array: np.ndarray) -> memoryview:
    """The bytes of a float32 array as they are kept and hashed: little-endian, in order, without a copy."""
    return np.ascontiguousarray(array, "<f4").reshape(-1).view(np.uint8).data


def state_digest(step: int, params_digest: bytes, moments_digest: bytes) -> bytes:
    """Built over the parameters' own digest, so that published weights open a committed state without its moments."""
    return sha256(b"zooswarm/state/1\0", step.to_bytes(8, "little"), params_digest, moments_digest)


def digest_of_bytes(data: bytes) -> bytes:
    """The digest of the state whose bytes these are, whatever its values."""
    moments, view = 8 + (len(data) - 8) // 3, memoryview(data)
    return state_digest(int.from_bytes(data[:8], "little"), sha256(view[8:moments]), sha256(view[moments:]))


def state_bytes_length(recipe: Recipe) -> int:
    return 8 + 12 * recipe.parameter_count


def state_from_bytes(recipe: Recipe, data: bytes) -> State:
    """Bytes of another host or of our own disk -> State. Raises Refused: wrong length, step, or unbounded values."""
    return states_from_bytes(recipe, data, 1)[0]


def states_from_bytes(recipe: Recipe, data: bytes, count: int) -> list[State]:
    """So many states, one after another, looked at together. Raises Refused as `state_from_bytes`."""
    length = state_bytes_length(recipe)
    if len(data) != length * count:
        raise Refused("state-size", f"{len(data)} bytes; {count} of this recipe's states have {length * count}")
    laid_out = np.dtype([("step", "<u8"), ("values", "<f4", (3, recipe.parameter_count))])
    states = np.frombuffer(data, laid_out)
    values = states["values"].copy()  # (count, 3, P)
    if count and states["step"].max() > recipe.training.max_steps:
        raise Refused("state-step", f"step {states['step'].max()} is past max_steps")
    check_values(values[:, 0], "state")
    if not np.isfinite(values[:, 1:]).all() or (values[:, 2] < 0).any():
        raise Refused("state-values", "moments are not finite, or a second moment is negative")
    return [
        State(step=step, params=state[0], moments=state[1:])
        for step, state in zip(states["step"].tolist(), values, strict=True)
    ]


def params_from_bytes(recipe: Recipe, data: bytes) -> np.ndarray:
    """A weights blob -> (P,) float32. Raises Refused: wrong length, or values that are not finite and bounded."""
    if len(data) != 4 * recipe.parameter_count:
        raise Refused("weights-size", f"{len(data)} bytes; this recipe's weights have {4 * recipe.parameter_count}")
    params = np.frombuffer(data, "<f4").copy()
    check_values(params, "weights")
    return params


def check_values(params: np.ndarray, what: str) -> None:
    if not np.isfinite(params).all():
        raise Refused(f"{what}-values", "NaN or infinite parameters")
    if np.abs(params).max(initial=0) > 1e3:
        raise Refused(f"{what}-values", "a parameter is larger than 1000")


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """How K networks do on the held-out samples."""

    loss: np.ndarray  # (K,) float32: what `held_out_loss` gives
    correct: np.ndarray | None  # (K,) int64 targets met, exact; None where targets are values
    targets: int  # of how many

    @property
    def accuracy(self) -> np.ndarray | None:
        """(K,) float64."""
        return None if self.correct is None else self.correct / self.targets

    @classmethod
    def of(cls, recipe: Recipe, loss: np.ndarray, correct: np.ndarray) -> "Evaluation":
        shape = recipe.task_shape
        targets = shape.held_out * shape.target_length * (shape.width if shape.target == "pins" else 1)
        return cls(loss=loss, correct=None if shape.target == "values" else correct, targets=targets)


class Engine(Protocol):
    """One backend. All backends give the same bits; `name` says which one ran, e.g. `c-v4` or `numpy`."""

    name: str

    def train(
        self, recipe: Recipe, data: TaskData, seeds: list[int], states: list[State], steps: int
    ) -> tuple[list[State], np.ndarray]:
        """Train K networks by `steps` steps each from their own states (which may stand at different steps).

        Returns the K new states and the training losses (K, steps) float32. K and threads never change a bit.
        """
        ...

    def held_out_loss(self, recipe: Recipe, data: TaskData, params: list[np.ndarray]) -> np.ndarray:
        """Mean loss on the held-out samples, (K,) float32."""
        ...

    def evaluate(self, recipe: Recipe, data: TaskData, params: list[np.ndarray]) -> Evaluation:
        """The held-out loss, and for pins and classes how many targets are met."""
        ...
