"""The worst change of the weights to first order, and changes at random of equal size.

    S(eps, p, k) = { a : |a|_p <= eps, at most k entries of a are not zero },   g = dL/dw,   q = p / (p - 1)
    T = places of the k largest |g_i|
    worst a_i = eps sign(g_i) |g_i|^(q-1) / |g_T|_q^(q-1)  in T, else 0;   its first-order gain a.g = eps |g_T|_q

By Hoelder's inequality nothing in S gains more; p = 1 puts all of eps on the largest |g_i|, p = inf takes signs.
The form is derived (research/model_probes.md 2), not copied: the paper's own text was not read. Axes: P parameters.
"""

import math

import numpy as np
import torch


def dual(p: float) -> float:
    """q with 1/p + 1/q = 1, for p from 1 to inf."""
    return math.inf if p == 1 else 1.0 if math.isinf(p) else p / (p - 1)


def norm(values: torch.Tensor, p: float) -> float:
    return float(torch.linalg.vector_norm(values, p))


def largest(values: torch.Tensor, k: int) -> torch.Tensor:
    """(P,) bool: the places of the k largest absolute values; of equal ones, those that come first."""
    mask = torch.zeros(values.shape, dtype=torch.bool)
    mask[torch.argsort(values.abs(), descending=True, stable=True)[:k]] = True
    return mask


def worst(gradient: torch.Tensor, eps: float, p: float, k: int) -> torch.Tensor:
    """(P,) the change in S(eps, p, k) with the largest first-order gain; zero where the gradient is."""
    kept = torch.where(largest(gradient, k), gradient, 0.0)
    top = float(kept.abs().max())
    if top == 0.0:
        return torch.zeros_like(gradient)
    unit = kept / top  # so that powers neither overflow nor vanish
    q = dual(p)
    if math.isinf(q):
        return eps * torch.where(largest(gradient, 1), unit.sign(), 0.0)
    raised = unit.abs() ** (q - 1) if q > 1 else (unit != 0).double()
    size = norm(unit, q) ** (q - 1)
    return eps * unit.sign() * raised / size


def first_order_gain(gradient: torch.Tensor, eps: float, p: float, k: int) -> float:
    """eps |g_T|_q."""
    return eps * norm(gradient[largest(gradient, k)], dual(p))


def projected(change: torch.Tensor, eps: float, p: float, k: int) -> torch.Tensor:
    """(P,) in S: the k largest entries, shrunk onto the ball (clipped to it for p = inf).

    For p = 2 and inf this is the nearest point of the ball; for other p it is only inside of it.
    """
    kept = torch.where(largest(change, k), change, 0.0)
    if math.isinf(p):
        return kept.clamp(-eps, eps)
    size = norm(kept, p)
    return kept * (eps / size) if size > eps else kept


def at_random(rng: np.random.Generator, places: np.ndarray, count: int, eps: float, p: float, k: int) -> torch.Tensor:
    """(P,) of norm eps with k of `places` not zero: normal draws, signs for p = inf. `count` is P."""
    chosen = rng.permutation(places)[:k]
    drawn = rng.normal(size=len(chosen))
    values = np.sign(drawn) if math.isinf(p) else drawn
    change = torch.zeros(count, dtype=torch.float64)
    change[torch.from_numpy(chosen)] = torch.from_numpy(values)
    return change * (eps / norm(change, p))
