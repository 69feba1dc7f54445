"""Fit a kernel to what a population of networks computes, and choose it by networks that the fit has not seen.

M networks at N points are the rows of F. Their log likelihood under N(mean, K + noise) is

    -(M/2) [ log|K~| + tr(K~^-1 S) + N log 2 pi ],   S = (F - mean)^T (F - mean) / M,
    with gradient (M/2) tr[ (K~^-1 S K~^-1 - K~^-1) dK~ ],

so the networks enter through S alone and a step costs O(N^3), whatever M is (research notes: model_probes.md 1, ours
for want of the paper's text; Li, Grant and Griffiths 2023). Everything here is a mean over networks and points, in
nats an evaluation. Several inputs or tasks with one kernel are several `Seen`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg.lapack import dpotrf, dpotri  # pyright: ignore[reportAttributeAccessIssue]

from analysis.probes.gp.kernels import Kernel, Parameter
from protocol.errors import UsageError

CONDITION_MAX = 1e12  # beyond it, float64 leaves too few digits in the inverse
SCOUT_ITERATIONS = 12  # after which a restart shows where it goes
FINALISTS = 2
ITERATIONS = 200
BAD = 1e10  # a value for the search where there is no Cholesky factor
LOG_2PI = float(np.log(2 * np.pi))


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a population does at some points: all that a fit needs of it."""

    inputs_ND: np.ndarray  # float64
    moment_NN: np.ndarray  # S, about `mean_N`
    mean_N: np.ndarray  # the prior mean: zeros, or the population's own mean function


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A kernel with its best parameters."""

    kernel: Kernel
    values: dict[str, float]  # positive, by name; `noise` among them
    nats: float  # log likelihood an evaluation, of what it was fitted to
    condition: float  # of K + noise
    evaluations: int  # of the objective, over all restarts

    @property
    def length(self) -> float:
        """The length scale; NaN for a kernel without one, the geometric mean where each input has its own."""
        lengths = [value for name, value in self.values.items() if name.split(".")[0] == "length"]
        return float(np.exp(np.mean(np.log(lengths)))) if lengths else float("nan")

    @property
    def sound(self) -> bool:
        """Is the matrix far enough from singular for its inverse to mean something?"""
        return self.condition <= CONDITION_MAX

    def matrix(self, x_ND: np.ndarray, z_MD: np.ndarray | None = None) -> np.ndarray:
        """(N, M) covariance without noise."""
        with torch.no_grad():
            p = {name: torch.tensor(value, dtype=torch.float64) for name, value in self.values.items()}
            x = torch.from_numpy(np.ascontiguousarray(x_ND, np.float64))
            z = x if z_MD is None else torch.from_numpy(np.ascontiguousarray(z_MD, np.float64))
            return self.kernel.matrix(p, x, z).numpy()

    def noisy(self, x_ND: np.ndarray) -> np.ndarray:
        """(N, N) covariance with noise."""
        return self.matrix(x_ND) + self.values["noise"] * np.eye(len(x_ND))


def seen(inputs_ND: np.ndarray, functions_MN: np.ndarray, centred: bool) -> Seen:
    """Reduce a population to its second moment: about 0 (it then describes the functions), or about its own mean
    function (`centred`; it then describes how seeds differ)."""
    functions_MN = np.asarray(functions_MN, np.float64)
    mean_N = functions_MN.mean(0) if centred else np.zeros(functions_MN.shape[1])
    return Seen(
        inputs_ND=np.asarray(inputs_ND, np.float64), moment_NN=second_moment(functions_MN, mean_N), mean_N=mean_N
    )


def second_moment(functions_MN: np.ndarray, mean_N: np.ndarray) -> np.ndarray:
    away_MN = functions_MN - mean_N
    return away_MN.T @ away_MN / len(away_MN)


def log_likelihood(noisy_NN: np.ndarray, moment_NN: np.ndarray) -> float:
    """Nats an evaluation. Raises numpy.linalg.LinAlgError: the covariance is not positive definite."""
    inverse_NN, log_determinant = inverted(noisy_NN)
    if inverse_NN is None:
        raise np.linalg.LinAlgError("the covariance is not positive definite")
    n = len(noisy_NN)
    return -0.5 * (log_determinant + float((inverse_NN * moment_NN).sum()) + n * LOG_2PI) / n


def inverted(noisy_NN: np.ndarray) -> tuple[np.ndarray | None, float]:
    """(inverse, log determinant) by LAPACK's Cholesky factor; no inverse where there is none, or a number is not
    finite."""
    factor_NN, bad = dpotrf(noisy_NN, lower=1)
    if bad or not np.isfinite(factor_NN).all():
        return None, float("nan")
    lower_NN, bad = dpotri(factor_NN, lower=1)
    if bad:
        return None, float("nan")
    return np.tril(lower_NN) + np.tril(lower_NN, -1).T, 2 * float(np.log(np.diag(factor_NN)).sum())


class Objective:
    """Minus the nats an evaluation and its gradient, over the logarithms of the parameters."""

    def __init__(self, kernel: Kernel, populations: Sequence[Seen], parameters: Sequence[Parameter]):
        self.kernel, self.parameters = kernel, list(parameters)
        self.names = [parameter.name for parameter in parameters]
        self.populations = [(torch.from_numpy(p.inputs_ND), p.moment_NN) for p in populations]
        self.points = sum(len(p.moment_NN) for p in populations)
        self.calls = 0

    def __call__(self, logs_P: np.ndarray) -> tuple[float, np.ndarray]:
        """(value, gradient); BAD with no gradient where the matrix has no factor."""
        self.calls += 1
        logs = torch.tensor(logs_P, dtype=torch.float64, requires_grad=True)
        values = torch.exp(logs)
        p = dict(zip(self.names, values, strict=True))
        total, slope = 0.0, torch.zeros((), dtype=torch.float64)
        for x, moment_NN in self.populations:
            noisy = self.kernel.matrix(p, x, x) + p["noise"] * torch.eye(len(x), dtype=torch.float64)
            inverse_NN, log_determinant = inverted(noisy.detach().numpy())
            if inverse_NN is None:
                return BAD, np.zeros_like(logs_P)
            total += 0.5 * (log_determinant + float((inverse_NN * moment_NN).sum()) + len(x) * LOG_2PI)
            outer = torch.from_numpy(inverse_NN - inverse_NN @ moment_NN @ inverse_NN)
            slope = slope + 0.5 * (outer * noisy).sum()  # its gradient is that of the objective
        slope.backward()
        assert logs.grad is not None
        return total / self.points, logs.grad.numpy() / self.points


def fit(
    kernel: Kernel,
    populations: Sequence[Seen],
    restarts: int = 10,
    seed: int = 0,
    terms: bool = True,
    start: Mapping[str, float] | None = None,
) -> Fit:
    """The best L-BFGS search of `restarts` whose matrix is sound; the best of all when none is. Same seed, same fit.

    All restarts take SCOUT_ITERATIONS, the best few go on to the end. `terms`: with a constant and a linear term.
    `start`: begin at these values alone (of the same kernel, fitted to nearly the same functions).
    """
    everything = np.concatenate([p.inputs_ND for p in populations])
    scale = max(float(np.mean([np.trace(p.moment_NN) / len(p.moment_NN) for p in populations])), 1e-300)
    parameters = kernel.parameters(everything, scale, terms)
    objective, rng = Objective(kernel, populations, parameters), np.random.default_rng(seed)
    if start is None:
        starts = [np.array([p.draw(rng) for p in parameters]) for _ in range(restarts)]
        scouts = sorted((_search(objective, logs_P, SCOUT_ITERATIONS) for logs_P in starts), key=lambda pair: pair[0])
    else:
        scouts = [(0.0, np.log([start[p.name] for p in parameters]))]
    ends = sorted(
        (_search(objective, logs_P, ITERATIONS) for _, logs_P in scouts[:FINALISTS]), key=lambda pair: pair[0]
    )
    fits = [_made(kernel, objective, populations, logs_P, value) for value, logs_P in ends]
    return next((one for one in fits if one.sound), fits[0])


def _search(objective: Objective, start_P: np.ndarray, iterations: int) -> tuple[float, np.ndarray]:
    """(value, logarithms of the parameters) where L-BFGS ends."""
    from scipy.optimize import minimize

    low_P, high_P = (np.log(end) for end in zip(*((p.low, p.high) for p in objective.parameters), strict=True))
    end = minimize(
        objective,
        np.clip(start_P, low_P, high_P),
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(low_P, high_P, strict=True)),
        options={"maxiter": iterations},
    )
    return float(end.fun), end.x


def _made(kernel: Kernel, objective: Objective, populations: Sequence[Seen], logs_P: np.ndarray, value: float) -> Fit:
    values = dict(zip(objective.names, np.exp(logs_P).tolist(), strict=True))
    made = Fit(kernel=kernel, values=values, nats=-value, condition=0.0, evaluations=objective.calls)
    worst = max(float(np.linalg.cond(made.noisy(p.inputs_ND))) for p in populations)
    return Fit(kernel=kernel, values=values, nats=-value, condition=worst, evaluations=objective.calls)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The kernel that says most about networks which it was not fitted to."""

    fit: Fit  # to all networks
    held_out: dict[str, float]  # kernel's name -> nats an evaluation of the held-out networks; -inf: rejected


def choose(
    kernels: Sequence[Kernel],
    inputs_ND: np.ndarray,
    functions_MN: np.ndarray,
    centred: bool,
    share: float = 0.8,
    restarts: int = 10,
    seed: int = 0,
    terms: bool = True,
    each: int = 1,
) -> Chosen:
    """Fit every kernel to `share` of the networks, score it on the rest, and fit the best one to all of them.

    `each`: rows of a network, which stand together (its classes). A fit whose matrix has a condition number over 1e12
    is rejected. Raises UsageError: all are, or fewer than five networks.
    """
    m = len(functions_MN) // each
    if m < 5:
        raise UsageError(f"{m} networks; a kernel is chosen with at least 5")
    order = (np.random.default_rng(seed).permutation(m)[:, None] * each + np.arange(each)).ravel()
    most = min(m - 1, max(2, round(share * m))) * each
    known = seen(inputs_ND, functions_MN[order[:most]], centred)
    moment_NN = second_moment(np.asarray(functions_MN[order[most:]], np.float64), known.mean_N)
    held_out = {}
    for kernel in kernels:
        one = fit(kernel, [known], restarts, seed, terms)
        held_out[kernel.name] = log_likelihood(one.noisy(known.inputs_ND), moment_NN) if one.sound else -np.inf
    best = max(kernels, key=lambda kernel: held_out[kernel.name])
    if not np.isfinite(held_out[best.name]):
        raise UsageError("no kernel has a matrix that can be inverted")
    return Chosen(fit=fit(best, [seen(inputs_ND, functions_MN, centred)], restarts, seed, terms), held_out=held_out)
