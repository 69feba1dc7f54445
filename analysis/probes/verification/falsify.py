"""Look for a point of the box that breaks the property: projected gradient descent with restarts (Madry et al. 2018).

Axes: B boxes, K restarts, R rows, n inputs, m outputs.
"""

from typing import NamedTuple

import numpy as np
import torch

from analysis.probes.verification.network.chain import Chain
from analysis.probes.verification.question import Stacked

REACH = 2.5  # all steps together, in half widths of the box


class Attack(NamedTuple):
    """The worst point found in each box."""

    points_Bn: np.ndarray
    margins_B: np.ndarray  # as the chain computes them; another forward pass decides


def attack(chain: Chain, asked: Stacked, rng: np.random.Generator, *, steps: int, restarts: int) -> Attack:
    """Steps along the gradient's sign of the least row, shorter each time; from the middle, then from random points."""
    low, high = asked.low_Bn[:, None], asked.high_Bn[:, None]
    shares = torch.from_numpy(rng.random((len(low), restarts, low.shape[2])))
    shares[:, 0] = 0.5
    points = _inside(low + shares * (high - low), low, high)
    best, margins = points[:, 0], torch.full((len(low),), torch.inf, dtype=torch.float64)
    for step in range(steps + 1):
        points = points.detach().requires_grad_(step < steps)
        found = _margins(chain, asked, points)
        worst = found.detach().min(1)
        better = worst.values < margins
        margins = torch.where(better, worst.values, margins)
        chosen = points.detach()[torch.arange(len(points)), worst.indices]
        best = torch.where(better[:, None], chosen, best)
        if step == steps:
            break
        (gradient,) = torch.autograd.grad(found.sum(), points)
        length = REACH / steps * 2 * (1 - step / steps) * (high - low) / 2
        points = _inside(points.detach() - length * gradient.sign(), low, high)
    return Attack(best.numpy(), margins.numpy())


def _inside(points: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    return torch.maximum(torch.minimum(points, high), low)


def _margins(chain: Chain, asked: Stacked, points_BKn: torch.Tensor) -> torch.Tensor:
    """(B, K)."""
    values = chain(points_BKn.flatten(0, 1)).reshape(*points_BKn.shape[:2], -1)
    return (values @ asked.rows_BRm.transpose(1, 2) + asked.offsets_BR[:, None]).amin(-1)
