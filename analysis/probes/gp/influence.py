"""Leave-one-out of a Gaussian process without any refit, and how much each training point moves predictions.

With Q = (K + noise I)^-1 and a = Qy (Rasmussen and Williams 2006, 5.4.2): without point i the process predicts
y_i - a_i / Q_ii at i, with variance 1 / Q_ii (noise included), and its prediction at x* falls by (k*^T Q)_i a_i / Q_ii.
Axes: N training points, M other points, R points that are removed.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve, eigh
from scipy.optimize import minimize_scalar

RATIO_RANGE = (1e-8, 1e4)  # noise over output scale, of a kernel with mean variance 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A Gaussian process that has seen targets about 0."""

    inverse_NN: np.ndarray  # Q
    weights_N: np.ndarray  # a
    targets_N: np.ndarray

    @property
    def left_out_mean_N(self) -> np.ndarray:
        """What is predicted for each point by a process that has not seen it."""
        return self.targets_N - self.weights_N / np.diag(self.inverse_NN)

    @property
    def left_out_variance_N(self) -> np.ndarray:
        """Of that prediction, noise included."""
        return 1 / np.diag(self.inverse_NN)

    @property
    def left_out_nats(self) -> float:
        """Mean log density of each target under the process that has not seen it."""
        away_N, variance_N = self.targets_N - self.left_out_mean_N, self.left_out_variance_N
        return float(-0.5 * (np.log(2 * np.pi * variance_N) + away_N**2 / variance_N).mean())

    @property
    def left_out_error(self) -> float:
        """Mean squared error of those predictions."""
        return float(((self.targets_N - self.left_out_mean_N) ** 2).mean())


def process(covariance_NN: np.ndarray, noise: float, targets_N: np.ndarray) -> Process:
    """Raises LinAlgError: covariance plus noise is not positive definite."""
    factor = cho_factor(covariance_NN + noise * np.eye(len(targets_N)), lower=True)
    inverse_NN = cho_solve(factor, np.eye(len(targets_N)))
    return Process(inverse_NN=inverse_NN, weights_N=cho_solve(factor, targets_N), targets_N=targets_N)


def moved(seen: Process, cross_MN: np.ndarray) -> np.ndarray:
    """(M, N) by how much the prediction at each point falls when one training point goes; `cross_MN` = k(x*, x)."""
    return cross_MN @ seen.inverse_NN * (seen.weights_N / np.diag(seen.inverse_NN))


def moved_by_set(seen: Process, cross_MN: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(M,) the same when all of `points` (R,) go together: (k*^T Q)_R (Q_RR)^-1 a_R."""
    block_RR = seen.inverse_NN[np.ix_(points, points)]
    return (cross_MN @ seen.inverse_NN[:, points]) @ np.linalg.solve(block_RR, seen.weights_N[points])


def influence(seen: Process, cross_MN: np.ndarray) -> np.ndarray:
    """(N,) mean squared move of the predictions, in squared units of the target."""
    return (moved(seen, cross_MN) ** 2).mean(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescaled:
    """A kernel's shape with the output scale and noise under which some targets are likeliest."""

    scale: float  # the kernel is multiplied by this
    noise: float
    nats: float  # log marginal likelihood of all targets


def rescale(covariance_NN: np.ndarray, targets_N: np.ndarray) -> Rescaled:
    """max over c, s of log N(y | 0, c K + s I). Given s / c, the best c has a closed form; the ratio is searched."""
    mean = float(np.trace(covariance_NN)) / len(covariance_NN)
    value_N, vector_NN = eigh(covariance_NN / mean)
    square_N, n = (vector_NN.T @ targets_N) ** 2, len(targets_N)

    def minus_nats(log_ratio: float) -> float:
        total_N = np.clip(value_N, 0, None) + np.exp(log_ratio)
        scale = max(float((square_N / total_N).mean()), 1e-300)
        return 0.5 * (n * np.log(2 * np.pi * scale) + float(np.log(total_N).sum()) + n)

    low, high = np.log(RATIO_RANGE)
    coarse = np.linspace(low, high, 57)
    at = int(np.argmin([minus_nats(ratio) for ratio in coarse]))
    around = (coarse[max(at - 1, 0)], coarse[min(at + 1, len(coarse) - 1)])
    best = minimize_scalar(minus_nats, bounds=around, method="bounded", options={"xatol": 1e-6})
    ratio = float(np.exp(best.x))
    scale = float((square_N / (np.clip(value_N, 0, None) + ratio)).mean())
    return Rescaled(scale=scale / mean, noise=scale * ratio, nats=-float(best.fun))
