"""What a covariance of functions says, fitted or counted: along which directions they spread, which frequencies they
have. Axes: N points, of an even grid where there are frequencies; S frequencies in periods a unit of input, M networks.

The spectrum of a covariance is the mean periodogram of functions drawn from it, under a Hann window and without their
mean: it needs no stationary kernel, and the same formula reads a fitted kernel and the networks' own moment matrix.
"""

import numpy as np

from protocol.errors import UsageError

POWER_LEAST = 0.01  # less is how a function is rounded, not a wave of its own


def off_diagonal_correlation(covariance_NN: np.ndarray) -> float:
    """Mean correlation between the values at two different points, -1 to 1; 1: every function is a constant, or one
    function times a number."""
    size_N = np.sqrt(np.clip(np.diag(covariance_NN), 1e-300, None))
    correlation_NN = covariance_NN / size_N / size_N[:, None]
    n = len(size_N)
    return float((correlation_NN.sum() - np.trace(correlation_NN)) / (n * (n - 1)))


def participation_ratio(covariance_NN: np.ndarray) -> float:
    """(tr S)^2 / tr(S^2), 1 to N: along how many directions the functions spread."""
    return float(np.trace(covariance_NN) ** 2 / max(float((covariance_NN**2).sum()), 1e-300))


def spectrum(covariance_NN: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(S,) frequencies 1, 2, ... below Nyquist's on a grid over one unit, and (S,) mean power at each."""
    n = len(covariance_NN)
    window_N = np.hanning(n + 2)[1:-1]
    windowed_NN = np.diag(window_N) @ (np.eye(n) - window_N / window_N.sum())  # takes the weighted mean off first
    waves_SN = np.exp(-2j * np.pi * np.arange(1, n // 2)[:, None] * np.arange(n) / n)
    through_SN = waves_SN @ windowed_NN
    power_S = np.einsum("sn,nm,sm->s", through_SN, covariance_NN, through_SN.conj()).real
    return np.arange(1, n // 2).astype(float), power_S


def centroid(covariance_NN: np.ndarray) -> float:
    """Mean frequency under the spectrum, periods a unit of input; NaN for functions without any power."""
    frequency_S, power_S = spectrum(covariance_NN)
    total = float(power_S.sum())
    return float(frequency_S @ power_S) / total if total > 0 else float("nan")


def strongest(target_N: np.ndarray, count: int) -> np.ndarray:
    """The frequencies with most power in the target, in rising order, whole periods on the grid: up to `count`, each
    with POWER_LEAST of the strongest one's power."""
    power = np.abs(np.fft.rfft(target_N - target_N.mean())) ** 2
    order = np.argsort(-power[1:-1], kind="stable")[:count] + 1
    return np.sort(order[power[order] >= POWER_LEAST * power[order[0]]])


def learnt(functions_MN: np.ndarray, target_N: np.ndarray, frequencies_F: np.ndarray) -> np.ndarray:
    """(M, F) how much of the target's wave of each frequency a function has: 1 all of it, 0 nothing, in its phase."""
    wanted_F = np.fft.rfft(target_N)[frequencies_F]
    found_MF = np.fft.rfft(functions_MN, axis=1)[:, frequencies_F]
    return (found_MF * wanted_F.conj()).real / np.abs(wanted_F) ** 2


def step_of_half(steps_S: np.ndarray, share_S: np.ndarray) -> float:
    """The first step at which a share reaches a half, between two snapshots by a straight line; infinity: never.

    Raises UsageError: fewer than two snapshots.
    """
    if len(steps_S) < 2:
        raise UsageError("one snapshot shows no learning; ask for more steps")
    above = np.flatnonzero(share_S >= 0.5)
    if not len(above):
        return float("inf")
    at = int(above[0])
    if at == 0:
        return float(steps_S[0])
    part = (0.5 - share_S[at - 1]) / (share_S[at] - share_S[at - 1])
    return float(steps_S[at - 1] + part * (steps_S[at] - steps_S[at - 1]))
