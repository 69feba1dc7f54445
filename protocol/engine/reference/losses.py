"""Losses and counts of the NumPy reference. Outputs are (T, width, C, L); targets likewise, class numbers (T, C, L)."""

import numpy as np

from protocol.engine.reference.arithmetic import LANES, F, exp, fma, log, over_lanes, sigmoid


def loss_and_delta(loss: str, outputs: np.ndarray, targets: np.ndarray, samples: int) -> tuple[np.float32, np.ndarray]:
    """(loss, its derivative by the outputs). A lane adds over time (outer), width (inner); padding counts nothing."""
    length, width, blocks, _ = outputs.shape
    real = np.arange(blocks * LANES).reshape(blocks, LANES) < samples
    count = F(samples * length * (1 if loss == "cross_entropy" else width))
    if loss == "mse":
        error = np.where(real, outputs - targets, F(0))
        terms, delta, scale = error, error, F(2) / count
    elif loss == "bce":
        size = np.where(outputs > 0, outputs, F(0) - outputs)
        terms = fma(-outputs, targets, np.where(outputs > 0, outputs, F(0))) + log(exp(F(0) - size) + F(1))
        delta, scale = sigmoid(outputs) - targets, F(1) / count
    else:
        terms, delta = _cross_entropy(outputs, targets)
        scale = F(1) / count
    factors = terms if loss == "mse" else np.ones_like(terms)
    terms, delta = np.where(real, terms, F(0)), np.where(real, delta, F(0))
    total = np.zeros((blocks, LANES), F)
    for t in range(length):
        for j in range(terms.shape[1]):
            total = fma(terms[t, j], factors[t, j], total)
    return over_lanes(total) / count, delta * scale


def _cross_entropy(outputs: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    top = outputs[:, 0]
    for j in range(1, outputs.shape[1]):
        top = np.where(outputs[:, j] > top, outputs[:, j], top)
    powers = exp(outputs - top[:, None])
    total = np.zeros_like(top)
    for j in range(outputs.shape[1]):
        total = total + powers[:, j]
    right = np.arange(outputs.shape[1])[:, None, None] == classes[:, None]
    chosen = np.take_along_axis(outputs, classes[:, None], axis=1)
    share = powers / total[:, None]
    return log(total)[:, None] + (top[:, None] - chosen), np.where(right, share - F(1), share)


def count_correct(loss: str, outputs: np.ndarray, targets: np.ndarray, samples: int) -> int:
    """Targets met: the first largest output is the class; or each pin's output is on its side of the middle."""
    real = np.arange(outputs.shape[2] * LANES).reshape(outputs.shape[2:]) < samples
    if loss == "cross_entropy":
        return int(((outputs.argmax(axis=1) == targets) & real).sum())
    middle = F(0) if loss == "bce" else F(0.5)
    return int((((outputs > middle) == (targets > F(0.5))) & real).sum())
