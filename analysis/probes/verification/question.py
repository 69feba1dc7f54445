"""What is asked of a network: is every row of A f(x) + offset above 0 for all x in a box?

Axes: B questions to one network, R rows, m outputs, n inputs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from analysis.weights.forward import outputs
from protocol.recipes.recipe import Recipe

Forward = Callable[[np.ndarray], np.ndarray]  # (B, n) -> (B, m) float64, by other code than the chain's


@dataclass(frozen=True, eq=False, kw_only=True)
class Question:
    """A box and rows. A witness against it is a point of the box where some row is 0 or below."""

    low_n: np.ndarray  # float64, exactly these
    high_n: np.ndarray
    rows_Rm: np.ndarray
    offsets_R: np.ndarray

    def margin(self, outputs_m: np.ndarray) -> float:
        """The least row at these outputs; the property holds there if it is above 0."""
        return float((self.rows_Rm @ outputs_m + self.offsets_R).min())

    def contains(self, point_n: np.ndarray) -> bool:
        return bool(((point_n >= self.low_n) & (point_n <= self.high_n)).all())


class Stacked(NamedTuple):
    """Questions with equally many rows, as tensors."""

    low_Bn: torch.Tensor
    high_Bn: torch.Tensor
    rows_BRm: torch.Tensor
    offsets_BR: torch.Tensor

    def take(self, some: Sequence[int]) -> "Stacked":
        places = list(some)
        return Stacked(self.low_Bn[places], self.high_Bn[places], self.rows_BRm[places], self.offsets_BR[places])


def stacked(questions: Sequence[Question]) -> Stacked:
    parts = zip(*((q.low_n, q.high_n, q.rows_Rm, q.offsets_R) for q in questions), strict=True)
    return Stacked(*(torch.from_numpy(np.stack(part).astype(np.float64)) for part in parts))


def ball(point_n: np.ndarray, radius: float, least: float, most: float) -> tuple[np.ndarray, np.ndarray]:
    """All points within `radius` of `point` in every input that are between `least` and `most`."""
    point_n = np.asarray(point_n, np.float64)
    low, high = np.maximum(point_n - radius, least), np.minimum(point_n + radius, most)
    return np.minimum(low, point_n), np.maximum(high, point_n)


def stays_class(classes: int, label: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows e_label - e_other: the label's output is the greatest."""
    identity = np.eye(classes)
    return np.delete(identity[label] - identity, label, axis=0), np.zeros(classes - 1)


def stays_sides(above_m: np.ndarray, middle: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Every output keeps its side of the middle: above where `above`, below elsewhere."""
    sides = np.where(above_m, 1.0, -1.0)
    return np.diag(sides), -middle * sides


def stays_near(values_m: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Every output is within `tolerance` of its value."""
    identity = np.eye(len(values_m))
    return np.concatenate([-identity, identity]), np.concatenate([values_m + tolerance, tolerance - values_m])


def forward_of(recipe: Recipe, params_P: np.ndarray) -> Forward:
    """The network in NumPy, float64, by `analysis.weights.forward`."""
    shape = recipe.task_shape

    def forward(points_Bn: np.ndarray) -> np.ndarray:
        inputs = np.asarray(points_Bn, np.float64).reshape(len(points_Bn), shape.length, *shape.input)
        return outputs(recipe, params_P[None], inputs)[0].reshape(len(points_Bn), -1)

    return forward
