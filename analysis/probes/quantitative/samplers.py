"""Uniform draws from balls around an input. Axes: N draws, D coordinates."""

import numpy as np


def box(rng: np.random.Generator, centre: np.ndarray, radius: float, count: int) -> np.ndarray:
    """(N, *centre.shape) float32, uniform in the L-infinity ball."""
    moved = rng.random((count, *centre.shape), np.float32)
    moved *= np.float32(2 * radius)
    moved -= np.float32(radius)
    return moved + centre.astype(np.float32)


def ball(
    rng: np.random.Generator, centre: np.ndarray, radius: float, count: int, published: bool = False
) -> np.ndarray:
    """(N, *centre.shape) float32, uniform in the L2 ball: a Gaussian's direction, at the radius u^(1/D) for one u.

    `published`: the defect of PROVERO's code, a radius for every coordinate, which is not uniform in the ball.
    """
    moved = rng.standard_normal((count, centre.size), np.float32)
    share = rng.random((count, centre.size if published else 1)) ** (1 / centre.size)
    moved *= (radius * share / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)
    return moved.reshape(count, *centre.shape) + centre.astype(np.float32)


BALLS = {"linf": box, "l2": ball}
