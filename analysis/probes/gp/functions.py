"""Populations as functions: what networks compute at some points. Axes: M networks, N points, D inputs, J outputs.

Inputs of one number are probed on a regular grid over [0, 1), where `protocol.tasks.regression` draws them; all others
at the first held-out samples. A surrogate sees the inputs at mean 0 and deviation 1, coordinate by coordinate, so a
length scale is in deviations.
"""

from dataclasses import dataclass

import numpy as np

from analysis.weights.forward import outputs
from protocol.recipes.recipe import Recipe
from protocol.tasks.data import TaskData
from protocol.tasks.kinds import FunctionTask

NETWORKS_AT_ONCE = 64  # of a forward pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """Where functions are looked at."""

    raw: np.ndarray  # as the engine takes them, (N, T, I) or (N, 1, C, Y, X)
    scaled_ND: np.ndarray  # float64, mean 0 and deviation 1
    regular: bool  # an even grid over [0, 1)


def points_of(recipe: Recipe, data: TaskData, count: int) -> Points:
    """Up to `count` points for this recipe's networks."""
    shape = recipe.task_shape
    if isinstance(recipe.task, FunctionTask) and shape.input == (1,):
        raw = grid(count).astype(np.float32)[:, None, None]
        return Points(raw=raw, scaled_ND=scaled(raw), regular=True)
    raw = np.asarray(data.held_out_inputs[:count])
    return Points(raw=raw, scaled_ND=scaled(raw), regular=False)


def grid(count: int) -> np.ndarray:
    """(N,) the middles of N equal parts of [0, 1)."""
    return (np.arange(count) + 0.5) / count


def scaled(raw: np.ndarray, like: np.ndarray | None = None) -> np.ndarray:
    """(N, D) float64: coordinates at mean 0 and deviation 1 of `like` (default: of themselves); constant ones go."""
    flat, base = (np.asarray(part, np.float64).reshape(len(part), -1) for part in (raw, raw if like is None else like))
    varies_D = base.std(0) > 0
    return (flat[:, varies_D] - base[:, varies_D].mean(0)) / base[:, varies_D].std(0)


def functions(recipe: Recipe, weights_KP: np.ndarray, raw: np.ndarray) -> np.ndarray:
    """(M, N) outputs at the last time step, a row for each network and output; of classes, logits about their mean."""
    rows = []
    for begin in range(0, len(weights_KP), NETWORKS_AT_ONCE):
        last_KNJ = outputs(recipe, weights_KP[begin : begin + NETWORKS_AT_ONCE], raw)[:, :, -1]
        if recipe.task_shape.target == "classes":
            last_KNJ = last_KNJ - last_KNJ.mean(2, keepdims=True)
        rows.append(np.swapaxes(last_KNJ, 1, 2).reshape(-1, len(raw)))
    return np.concatenate(rows)


def hidden_layers(recipe: Recipe) -> int:
    """Layers of weights before the last one."""
    return len({span.layer for span in recipe.spans if len(span.shape) > 1}) - 1


def widest(recipe: Recipe) -> int:
    """Features of the widest layer of weights before the last; 0 without any."""
    layers = sorted({span.layer for span in recipe.spans if len(span.shape) > 1})[:-1]
    return max((recipe.flows[layer + 1].shape[0] for layer in layers), default=0)
