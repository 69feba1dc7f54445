"""The sums and functions that `exact-2` is made of, in NumPy: float32 ufuncs and `fma`, in the written order.

Axes: C lane blocks of 16 samples (the batch, zero-padded), L = 16 lanes, T time steps, I inputs and J outputs of a
layer. NumPy works on all blocks and lanes at once, which shares no sum among them.
"""

from typing import Any

import numpy as np

F = np.float32
LANES = 16
TREE_INPUTS = 64

TANH_CLAMP = F(7.90531110763549805)
TANH_P = tuple(
    F(c)
    for c in (
        -2.76076847742355e-16,
        2.00018790482477e-13,
        -8.60467152213735e-11,
        5.12229709037114e-08,
        1.48572235717979e-05,
        6.37261928875436e-04,
        4.89352455891786e-03,
    )
)
TANH_Q = tuple(F(c) for c in (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03))
HALVES, HALF = 0x1FFFFFFF, 0x10000000  # the bits of a binary64 that a binary32 has no room for, and their middle
SMALLEST_NORMAL = 2.0**-126
EXP_LOW, EXP_HIGH = F(-87), F(88)
LOG2_E, ROUND, LN2_HIGH, LN2_LOW = F(1.44269504088896341), F(12582912), F(0.693359375), F(-2.12194440e-4)
EXP_P = tuple(
    F(c) for c in (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
)
SQRT_HALF = F(0.707106781186547524)
LOG_P = tuple(
    F(c)
    for c in (
        7.0376836292e-2,
        -1.1514610310e-1,
        1.1676998740e-1,
        -1.2420140846e-1,
        1.4249322787e-1,
        -1.6668057665e-1,
        2.0000714765e-1,
        -2.4999993993e-1,
        3.3333331174e-1,
    )
)


def fma(a: Any, b: Any, c: Any) -> Any:
    """a * b + c in binary32 with one rounding, for arrays that fit each other.

    The product is exact in binary64. The sum is not; rounding it again, to binary32, is right unless it landed halfway
    between two binary32 numbers, or where those are subnormal and further apart. There it is rounded to odd first.
    """
    product = np.asarray(a, np.float64) * np.asarray(b, np.float64)
    total = np.asarray(product + np.asarray(c, np.float64))
    halfway = (total.view(np.int64) & HALVES) == HALF
    if (halfway | ((np.abs(total) < SMALLEST_NORMAL) & (total != 0))).any():
        total = rounded_to_odd(product, np.asarray(c, np.float64), total)
    with np.errstate(over="ignore"):
        return total.astype(F)


def rounded_to_odd(a: np.ndarray, b: np.ndarray, total: np.ndarray) -> np.ndarray:
    """a + b in binary64, whose nearest number is `total`: where it is not exact, the neighbour with an odd last bit."""
    with np.errstate(invalid="ignore"):
        part = total - a
        error = (a - (total - part)) + (b - part)  # exactly what `total` lacks
    bits = total.view(np.int64)
    towards = np.where((error > 0) == (total > 0), bits + 1, bits - 1)
    even = (bits & 1) == 0
    return np.where((error != 0) & np.isfinite(total) & even, towards, bits).view(np.float64)


def over_lanes(values: np.ndarray) -> Any:
    """(..., C, L) -> (...): within each block the tree l + (l+8), l + (l+4), l + (l+2), l + (l+1); blocks rising."""
    half = LANES // 2
    while half:
        values = values[..., :half] + values[..., half:]
        half //= 2
    total = np.zeros(values.shape[:-2], F)
    for block in range(values.shape[-2]):
        total = total + values[..., block, 0]
    return total


def chain(start: np.ndarray | np.float32, weights: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """start + weights @ inputs, inputs rising: any shape that fits, (J, I), (..., I, C, L) -> (..., J, C, L)."""
    total = np.asarray(start)
    for i in range(weights.shape[1]):
        total = fma(weights[:, i, None, None], inputs[..., i, None, :, :], total)
    return total


def outer(delta: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """A weight's gradient over time: (T, J, C, L), (T, I, C, L) -> (J, I).

    Up to 64 inputs, a lane adds over time rising, then `over_lanes`. Of more, each block is one chain over time rising
    and, inside it, lanes rising; blocks are added in order.
    """
    if inputs.shape[1] > TREE_INPUTS:
        return over_steps(delta, inputs)
    total = np.zeros((delta.shape[1], inputs.shape[1], *delta.shape[2:]), F)
    for t in range(len(delta)):
        total = fma(delta[t][:, None], inputs[t][None], total)
    return over_lanes(total)


def over_steps(delta: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    total = np.zeros((delta.shape[1], inputs.shape[1]), F)
    for block in range(delta.shape[2]):
        part = np.zeros_like(total)
        for t in range(len(delta)):
            for lane in range(LANES):
                part = fma(delta[t, :, block, lane, None], inputs[t, None, :, block, lane], part)
        total = total + part
    return total


def over_samples(delta: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """A weight's gradient at a single time step: (J, C, L), (I, C, L) -> (J, I), one chain over samples rising."""
    total = np.zeros((len(delta), len(inputs)), F)
    for block in range(delta.shape[1]):
        for lane in range(LANES):
            total = fma(delta[:, block, lane, None], inputs[None, :, block, lane], total)
    return total


def over_time(delta: np.ndarray) -> np.ndarray:
    """A bias's gradient: (T, J, C, L) -> (J,), in the order of `outer`."""
    total = np.zeros(delta.shape[1:], F)
    for t in range(len(delta)):
        total = total + delta[t]
    return over_lanes(total)


def column(bias: np.ndarray) -> np.ndarray:
    return bias[:, None, None]


def tanh(x: np.ndarray) -> np.ndarray:
    """Clamped odd 13 / even 6 rational approximation; absolute error below 4e-7."""
    x = np.where(x < TANH_CLAMP, x, TANH_CLAMP)
    x = np.where(x > -TANH_CLAMP, x, -TANH_CLAMP)
    square = x * x
    p, q = TANH_P[0], TANH_Q[0]
    for coefficient in TANH_P[1:]:
        p = fma(p, square, coefficient)
    for coefficient in TANH_Q[1:]:
        q = fma(q, square, coefficient)
    return (p * x) / q


def sigmoid(x: np.ndarray) -> np.ndarray:
    return fma(tanh(x * F(0.5)), F(0.5), F(0.5))


def slope_of_tanh(y: np.ndarray) -> Any:
    """The derivative by x where y = tanh(x): 1 - y * y."""
    return fma(-y, y, F(1))


def slope_of_sigmoid(y: np.ndarray) -> Any:
    """The derivative by x where y = sigmoid(x): y - y * y."""
    return fma(-y, y, y)


def exp(x: np.ndarray) -> np.ndarray:
    """e^x for x in [-87, 88], clamped to it: 2^n * e^r, Cody and Waite's reduction and a polynomial of degree 7."""
    x = np.where(x < EXP_HIGH, x, EXP_HIGH)
    x = np.where(x > EXP_LOW, x, EXP_LOW)
    n = fma(x, LOG2_E, ROUND) - ROUND  # rounds to an integer, ties to even
    r = fma(-n, LN2_LOW, fma(-n, LN2_HIGH, x))
    p = EXP_P[0]
    for coefficient in EXP_P[1:]:
        p = fma(p, r, coefficient)
    y = fma(p, r * r, r) + F(1)
    return y * ((n.astype(np.int32) + 127) << 23).view(F)


def log(x: np.ndarray) -> np.ndarray:
    """The natural logarithm of normal x > 0: x = m * 2^e with m in [sqrt(1/2), sqrt(2)), and a polynomial in m - 1."""
    bits = np.ascontiguousarray(x).view(np.int32)
    m = ((bits & 0x007FFFFF) | 0x3F000000).view(F)
    e = ((bits >> 23) - 126).astype(F)
    low = m < SQRT_HALF
    e = np.where(low, e - F(1), e)
    m = np.where(low, (m + m) - F(1), m - F(1))
    z = m * m
    p = LOG_P[0]
    for coefficient in LOG_P[1:]:
        p = fma(p, m, coefficient)
    y = fma(e, LN2_LOW, (p * m) * z)
    y = fma(-z, F(0.5), y)
    return fma(e, LN2_HIGH, m + y)
