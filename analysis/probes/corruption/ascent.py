"""What a change of the weights does to the loss: one step, many steps, at random, and how far until it does harm.

Many steps: b <- P( b + eta d(w + b) ), d the worst change of size 1 at w + b, eta = eps / 5, P the projection on the
set (research/model_probes.md 2, derived there for p = 2, where d is the gradient over its length). A search only bounds
the worst case from below: what is reported is the worst point met on the way, the single step among them.
Axes: P parameters.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from analysis.probes.corruption.directions import at_random, first_order_gain, norm, projected, worst
from analysis.probes.samples import Function

STEP_SHARE = 0.2  # of eps, for each of many steps
RHO_MIN, RHO_MAX = 1e-5, 10.0  # within which the halving radius is looked for


@dataclass(frozen=True, slots=True)
class Harm:
    """A change's effect."""

    gain: float  # of the loss
    score: float  # accuracy, or 1 - MSE / variance, with the change


class Attack:
    """Changes of one network's weights, those of `mask` only, at most `k` at once."""

    def __init__(self, function: Function, weights: torch.Tensor, mask: torch.Tensor, p: float, k: int):
        self.function, self.weights, self.mask, self.p = function, weights, mask, p
        self.k = min(k, int(mask.sum()))
        self.loss, self.score = function.loss_and_score(weights)
        self.gradient = self._gradient(weights)
        self.size = norm(weights[mask], p)

    def first_order(self, eps: float) -> float:
        return first_order_gain(self.gradient, eps, self.p, self.k)

    def one_step(self, eps: float) -> Harm:
        return self.harm(worst(self.gradient, eps, self.p, self.k))

    def many_steps(self, eps: float, steps: int) -> Harm:
        """The worst of `steps` steps and of the single one."""
        found, change = self.one_step(eps), torch.zeros_like(self.weights)
        gradient, length = self.gradient, STEP_SHARE * eps
        for _ in range(steps):
            # Any place may enter the change: the k largest of the sum are kept.
            change = projected(change + worst(gradient, length, self.p, int(self.mask.sum())), eps, self.p, self.k)
            gradient, gain, score = self._gradient_and_harm(change)
            if gain > found.gain:
                found = Harm(gain, score)
        return found

    def directions(self, trials: int, rng: np.random.Generator) -> list[torch.Tensor]:
        """`trials` changes at random of size 1, with as many entries as the worst one has."""
        places = np.flatnonzero(self.mask.numpy())
        return [at_random(rng, places, len(self.weights), 1.0, self.p, self.k) for _ in range(trials)]

    def harm(self, change: torch.Tensor) -> Harm:
        """Of a change (P,)."""
        loss, score = self.function.loss_and_score(self.weights + change)
        return Harm(loss - self.loss, score)

    def _gradient(self, weights: torch.Tensor) -> torch.Tensor:
        return torch.where(self.mask, self.function.gradient(weights), 0.0)

    def _gradient_and_harm(self, change: torch.Tensor) -> tuple[torch.Tensor, float, float]:
        """Of the loss at the changed weights, in one pass."""
        at = (self.weights + change).requires_grad_(True)
        loss, score = self.function.loss_graph(at)
        gradient = torch.autograd.grad(loss, at)[0]
        return torch.where(self.mask, gradient, 0.0), float(loss.detach()) - self.loss, score


def halving_radius(
    score_at: Callable[[float], float], known: Mapping[float, float], score: float, chance: float, bisections: int
) -> float:
    """The smallest rho up to RHO_MAX at which (score - chance) is halved, by bisection of its logarithm.

    `known`: rho -> score where that is known; the search begins between the last of them that is above the half and the
    first that is not. It supposes that more change does no less harm. `inf`: not even RHO_MAX halves it.
    """
    aim = chance + (score - chance) / 2
    high = min((rho for rho, met in known.items() if met <= aim), default=RHO_MAX)
    low = max((rho for rho in known if rho < high), default=RHO_MIN)
    if high == RHO_MAX and score_at(RHO_MAX) > aim:
        return math.inf
    low, high = math.log(low), math.log(high)
    for _ in range(bisections):
        middle = (low + high) / 2
        low, high = (low, middle) if score_at(math.exp(middle)) <= aim else (middle, high)
    return math.exp(high)
