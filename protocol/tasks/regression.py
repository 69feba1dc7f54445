"""Small functions for regression, with exact values: + - * / of binary64 in the written order, one rounding to float32.

Inputs are uniform in [0, 1) with 24 bits a coordinate. No sine, no logarithm: libraries disagree about their last bit;
where a known benchmark has one (Friedman's), a rational function stands in for it, and then the function is ours.
"""

from collections.abc import Callable

import msgspec
import numpy as np


class Function(msgspec.Struct, frozen=True):
    """Coordinates (D arrays of N float64 values in [0, 1)) -> values (N,) float64."""

    dimensions: int
    values: Callable[..., np.ndarray]
    meaning: str


def _sine(x: np.ndarray) -> np.ndarray:
    """Bhaskara's sin(pi x) on [0, 1], to 0.002."""
    hill = x * (1.0 - x)
    return 16.0 * hill / (5.0 - 4.0 * hill)


def _wave(x: np.ndarray) -> np.ndarray:
    """One period of that sine: a positive and a negative half."""
    double = 2.0 * x
    return np.where(double < 1.0, _sine(np.minimum(double, 1.0)), -_sine(np.maximum(double - 1.0, 0.0)))


def _waves(x: np.ndarray) -> np.ndarray:
    turns = [_wave(k * x - np.floor(k * x)) for k in (1.0, 3.0, 6.0)]
    return turns[0] + turns[1] + turns[2]


def _cubic(x: np.ndarray) -> np.ndarray:
    z = 2.0 * x - 1.0
    return 4.0 * z * z * z - 3.0 * z


def _runge(x: np.ndarray) -> np.ndarray:
    z = 2.0 * x - 1.0
    return 1.0 / (1.0 + 25.0 * z * z)


def _rosenbrock(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    a, b = 4.0 * x - 2.0, 4.0 * y - 1.0
    valley, slope = b - a * a, 1.0 - a
    return (100.0 * valley * valley + slope * slope) / 1024.0


def _friedman(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray, e: np.ndarray, *_: np.ndarray) -> np.ndarray:
    middle = c - 0.5
    return (10.0 * _sine(a * b) + 20.0 * middle * middle + 10.0 * d + 5.0 * e) / 32.0


def _yacht(length: np.ndarray, beam: np.ndarray, speed: np.ndarray) -> np.ndarray:
    fast = speed * speed * speed
    return fast * fast * (0.5 + 0.5 * beam) / (0.25 + length)


FUNCTIONS: dict[str, Function] = {
    "line": Function(1, lambda x: 2.0 * x - 1.0, "2x - 1"),
    "wave": Function(1, _wave, "one period of a sine, by Bhaskara's rational approximation"),
    "waves": Function(1, _waves, "three such sines of 1, 3 and 6 periods, added"),
    "cubic": Function(1, _cubic, "Chebyshev's cubic 4z^3 - 3z, z = 2x - 1"),
    "runge": Function(1, _runge, "Runge's 1 / (1 + 25 z^2), z = 2x - 1"),
    "triangle": Function(1, lambda x: 1.0 - np.abs(2.0 * x - 1.0), "1 - |2x - 1|"),
    "step": Function(1, lambda x: np.where(x < 0.5, 0.0, 1.0), "0 below a half, 1 from there"),
    "saddle": Function(2, lambda x, y: (2.0 * x - 1.0) * (2.0 * y - 1.0), "product of two signed coordinates"),
    "rosenbrock": Function(2, _rosenbrock, "Rosenbrock's valley over [-2, 2] x [-1, 3], divided by 1024"),
    "friedman": Function(10, _friedman, "Friedman's first, five relevant coordinates of ten, divided by 32"),
    "yacht": Function(3, _yacht, "a hull's resistance: the sixth power of speed, more beam, less length"),
}

DIMENSIONS = {name: function.dimensions for name, function in FUNCTIONS.items()}


def function_values(name: str, inputs: np.ndarray) -> np.ndarray:
    """Inputs (N, D) float32 -> (N, 1) float32."""
    columns = inputs.astype(np.float64).T
    return FUNCTIONS[name].values(*columns).astype(np.float32)[:, None]
