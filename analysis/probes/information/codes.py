"""What targets cost under a network's outputs, in bits. Axes: K networks, S samples, T time steps, J outputs.

Classes cost -log2 of the softmax. Pins cost -log2 of a Bernoulli probability: of the logit where the loss is `bce`;
where it is `mse`, of sigmoid((2 f - 1) / (2 s^2)), which is what two Gaussians of variance s^2 around 0 and 1 give.
Values cost -log2 of the Gaussian density N(y; f, s^2): bits up to a constant that is the same for all networks. The
variance s^2 is a running one: mean square of the residuals of all samples before, one sample of `Prior.variance` with
them, so the code may be read in one pass.
"""

import math
from dataclasses import dataclass

import numpy as np

from protocol.recipes.recipe import Recipe
from protocol.tasks.data import TaskData

HOTTEST = 32.0  # largest temperature
VARIANCE_MIN = 1e-12
HEATS = 64  # temperatures tried


@dataclass(frozen=True, slots=True)
class Running:
    """Sums of squared residuals (K,), each the mean over a sample's targets, and of how many samples."""

    total_K: np.ndarray
    samples: int

    @classmethod
    def begin(cls, recipe: Recipe, data: TaskData, networks: int) -> "Running":
        """One sample's worth of what outputs at the middle would miss by."""
        kind = recipe.task_shape.target
        square = float((np.asarray(data.targets, np.float64) ** 2).mean()) if kind == "values" else 0.25
        return cls(np.full(networks, square), 1)


def block_bits(
    recipe: Recipe, outputs_KSTJ: np.ndarray, targets: np.ndarray, running: Running
) -> tuple[np.ndarray, Running]:
    """(K, S) bits of each sample, and the running sums after them."""
    if recipe.task_shape.target == "classes":
        return _class_bits(outputs_KSTJ, targets), running
    truth = np.asarray(targets, np.float64)[None]
    if recipe.training.loss == "bce":
        return _pin_bits(outputs_KSTJ, truth), running
    square_KS = ((outputs_KSTJ - truth) ** 2).mean((2, 3))
    before_KS = running.total_K[:, None] + np.cumsum(square_KS, 1) - square_KS
    variance = np.maximum(before_KS / (running.samples + np.arange(square_KS.shape[1])), VARIANCE_MIN)[..., None, None]
    after = Running(running.total_K + square_KS.sum(1), running.samples + square_KS.shape[1])
    if recipe.task_shape.target == "pins":
        return _pin_bits((2 * outputs_KSTJ - 1) / (2 * variance), truth), after
    density = 0.5 * (np.log(2 * np.pi * variance) + (outputs_KSTJ - truth) ** 2 / variance)
    return density.sum((2, 3)) / math.log(2), after


def heats(recipe: Recipe, outputs_KSTJ: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(K,) the temperature in [1, 32], that logits are divided by, under which a block costs least; from a fine grid.

    Never below 1: a block of which all is right would ask for 0, and the next mistake would cost everything. 1 for
    `mse`, where the running variance does this work.
    """
    networks, grid = len(outputs_KSTJ), np.geomspace(1, HOTTEST, HEATS)
    if recipe.training.loss == "mse":
        return np.ones(networks)
    none = Running(np.zeros(networks), 1)
    costs = [block_bits(recipe, outputs_KSTJ / heat, targets, none)[0].sum(1) for heat in grid]
    return grid[np.argmin(np.stack(costs), axis=0)]


def uniform_bits(recipe: Recipe) -> float:
    """What one sample costs when nothing is known; NaN for values, which have no such code."""
    shape = recipe.task_shape
    if shape.target == "values":
        return float("nan")
    return shape.target_length * (math.log2(shape.width) if shape.target == "classes" else shape.width)


def _class_bits(logits_KSTJ: np.ndarray, classes: np.ndarray) -> np.ndarray:
    top = logits_KSTJ.max(3, keepdims=True)
    total = np.log(np.exp(logits_KSTJ - top).sum(3)) + top[..., 0]
    index = np.broadcast_to(np.asarray(classes, np.int64)[None, ..., None], (*logits_KSTJ.shape[:3], 1))
    return (total - np.take_along_axis(logits_KSTJ, index, 3)[..., 0]).sum(2) / math.log(2)


def _pin_bits(logits_KSTJ: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return (np.logaddexp(0, logits_KSTJ) - logits_KSTJ * truth).sum((2, 3)) / math.log(2)
