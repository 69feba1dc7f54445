"""Covariance functions with positive parameters, as torch functions of their logarithms, in float64.

Formulas: Rasmussen and Williams 2006 (RBF, Matern, rational quadratic, linear), Wilson and Adams 2013 (spectral
mixture), Cho and Saul 2009 (arc-cosine). Every kernel is a sum: its own part, a constant, a linear term (a stationary
kernel cannot grow away from 0, as a ReLU network does) and noise. Axes: N, M points of D inputs each, Q components.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from protocol.errors import UsageError

Draw = np.random.Generator
NOISE_LEAST = 1e-6  # of the mean variance: what keeps a Cholesky factor of smooth functions finite
VARIANCE_RANGE = (1e-6, 1e4)  # of the mean variance
LENGTH_RANGE = (1e-2, 1e2)  # of the inputs' spread
MIXTURE_INPUTS_MAX = 3  # in more inputs a spectral mixture has more means than a population has functions


class Parameter(NamedTuple):
    """One positive parameter: where a restart may begin and where the search may go."""

    name: str
    low: float
    high: float
    start_low: float
    start_high: float

    def draw(self, rng: Draw) -> float:
        """A start, as a logarithm."""
        return float(rng.uniform(math.log(self.start_low), math.log(self.start_high)))


class Kernel(ABC):
    """A covariance function; `parameters` depends on the inputs' number and scale alone."""

    name: str

    @abstractmethod
    def own(self, x_ND: np.ndarray, scale: float) -> list[Parameter]:
        """The parameters of its own part, for functions of variance `scale` about 0."""

    @abstractmethod
    def part(self, p: dict[str, torch.Tensor], x_ND: torch.Tensor, z_MD: torch.Tensor) -> torch.Tensor:
        """(N, M) its own part."""

    def parameters(self, x_ND: np.ndarray, scale: float, terms: bool = True) -> list[Parameter]:
        """All parameters, noise last."""
        low, high = VARIANCE_RANGE
        size = max(float((x_ND**2).mean()), 1e-12)
        extra = [
            Parameter("constant", low * scale, high * scale, 1e-3 * scale, scale),
            Parameter("linear", low * scale / size, high * scale / size, 1e-3 * scale / size, scale / size),
        ]
        noise = Parameter("noise", NOISE_LEAST * scale, scale, NOISE_LEAST * scale, 1e-3 * scale)
        return [*self.own(x_ND, scale), *(extra if terms else []), noise]

    def matrix(self, p: dict[str, torch.Tensor], x_ND: torch.Tensor, z_MD: torch.Tensor) -> torch.Tensor:
        """(N, M) without noise."""
        found = self.part(p, x_ND, z_MD)
        if "constant" in p:
            found = found + p["constant"] + p["linear"] * (x_ND @ z_MD.T) / x_ND.shape[1]
        return found


@dataclass(frozen=True)
class Stationary(Kernel):
    """A function of the scaled distance r = |x - x'| / length; with `ard` each input has a length of its own."""

    form: str  # of STATIONARY
    ard: bool = False

    @property
    def name(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return f"{self.form}-ard" if self.ard else self.form

    def own(self, x_ND: np.ndarray, scale: float) -> list[Parameter]:
        (low, high), (shortest, longest) = VARIANCE_RANGE, LENGTH_RANGE
        spread = max(float(x_ND.std()), 1e-12) * math.sqrt(x_ND.shape[1])
        names = [f"length.{i}" for i in range(x_ND.shape[1])] if self.ard else ["length"]
        found = [Parameter("variance", low * scale, high * scale, 0.1 * scale, 2 * scale)]
        found += [Parameter(name, shortest * spread, longest * spread, 0.1 * spread, 3 * spread) for name in names]
        return found + ([Parameter("alpha", 0.05, 100.0, 0.3, 10.0)] if self.form == "rational-quadratic" else [])

    def part(self, p: dict[str, torch.Tensor], x_ND: torch.Tensor, z_MD: torch.Tensor) -> torch.Tensor:
        length = torch.stack([p[f"length.{i}"] for i in range(x_ND.shape[1])]) if self.ard else p["length"]
        return p["variance"] * self.shape(squared(x_ND / length, z_MD / length), p.get("alpha"))

    def shape(self, square: torch.Tensor, alpha: torch.Tensor | None = None) -> torch.Tensor:
        """Correlation at squared scaled distance."""
        if self.form == "rbf":
            return torch.exp(-0.5 * square)
        if alpha is not None:
            return torch.exp(-alpha * torch.log1p(square / (2 * alpha)))
        r = torch.sqrt(square + 1e-24)  # differentiable at 0
        if self.form == "matern-1/2":
            return torch.exp(-r)
        if self.form == "matern-3/2":
            return (1 + math.sqrt(3) * r) * torch.exp(-math.sqrt(3) * r)
        return (1 + math.sqrt(5) * r + 5 / 3 * square) * torch.exp(-math.sqrt(5) * r)


@dataclass(frozen=True)
class SpectralMixture(Kernel):
    """sum_q w_q exp(-2 pi^2 sum_d t_d^2 v_qd) cos(2 pi sum_d t_d m_qd) at lag t, for up to three inputs."""

    components: int = 2

    @property
    def name(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return f"spectral-mixture-{self.components}"

    def own(self, x_ND: np.ndarray, scale: float) -> list[Parameter]:
        if x_ND.shape[1] > MIXTURE_INPUTS_MAX:
            raise UsageError(f"spectral mixture: {x_ND.shape[1]} inputs; at most {MIXTURE_INPUTS_MAX}")
        low, high = VARIANCE_RANGE
        found = []
        for q in range(self.components):
            found.append(Parameter(f"weight.{q}", low * scale, high * scale, 0.1 * scale, 2 * scale))
            for d in range(x_ND.shape[1]):
                highest = nyquist(x_ND[:, d])
                found += [
                    Parameter(f"mean.{q}.{d}", 1e-4 * highest, highest, 1e-2 * highest, highest),
                    Parameter(f"width.{q}.{d}", 1e-6 * highest**2, highest**2, 1e-4 * highest**2, 0.1 * highest**2),
                ]
        return found

    def part(self, p: dict[str, torch.Tensor], x_ND: torch.Tensor, z_MD: torch.Tensor) -> torch.Tensor:
        lag_NMD = x_ND[:, None] - z_MD[None]
        found = torch.zeros(len(x_ND), len(z_MD), dtype=torch.float64)
        for q in range(self.components):
            mean = torch.stack([p[f"mean.{q}.{d}"] for d in range(x_ND.shape[1])])
            width = torch.stack([p[f"width.{q}.{d}"] for d in range(x_ND.shape[1])])
            fade = torch.exp(-2 * math.pi**2 * (lag_NMD**2 @ width))
            found = found + p[f"weight.{q}"] * fade * torch.cos(2 * math.pi * (lag_NMD @ mean))
        return found


@dataclass(frozen=True)
class ArcCosine(Kernel):
    """The infinitely wide ReLU network with `depth` hidden layers: a limit, not learned from behaviour."""

    depth: int = 1

    @property
    def name(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return f"arc-cosine-{self.depth}"

    def own(self, x_ND: np.ndarray, scale: float) -> list[Parameter]:
        return [
            Parameter("variance", 1e-6 * scale, 1e4 * scale, 0.1 * scale, 2 * scale),
            Parameter("bias", 1e-3, 10.0, 0.03, 1.0),  # variance of a bias; that of weights is 2 / inputs
        ]

    def part(self, p: dict[str, torch.Tensor], x_ND: torch.Tensor, z_MD: torch.Tensor) -> torch.Tensor:
        each = [(torch.tensor(2.0, dtype=torch.float64), p["bias"])] * (self.depth + 1)
        return p["variance"] * arc_cosine(x_ND, z_MD, each)


def arc_cosine(x_ND: torch.Tensor, z_MD: torch.Tensor, variances: list[tuple]) -> torch.Tensor:
    """(N, M) covariance of an infinitely wide ReLU network's outputs.

    `variances`: (weight variance times fan in, bias variance) of every linear layer, the first to the last. K0 = b +
    w x.x'/D; then K = b + w/(2 pi) sqrt(K_xx K_x'x') (sin t + (pi - t) cos t), cos t = the normalised K.
    """
    (weight, bias), *rest = variances
    inputs = x_ND.shape[1]
    cross, of_x, of_z = (
        bias + weight * product / inputs for product in (x_ND @ z_MD.T, (x_ND**2).sum(1), (z_MD**2).sum(1))
    )
    for weight, bias in rest:
        size = torch.sqrt(of_x[:, None] * of_z[None])
        cosine = torch.clamp(cross / size, -1 + 1e-12, 1 - 1e-12)
        angle = torch.arccos(cosine)
        cross = bias + weight / (2 * math.pi) * size * (torch.sin(angle) + (math.pi - angle) * cosine)
        of_x, of_z = bias + weight / 2 * of_x, bias + weight / 2 * of_z
    return cross


def squared(x_ND: torch.Tensor, z_MD: torch.Tensor) -> torch.Tensor:
    """(N, M) squared distances, never below 0."""
    return ((x_ND[:, None] - z_MD[None]) ** 2).sum(2)


def nyquist(x_N: np.ndarray) -> float:
    """Half the number of points a unit of input: no higher frequency can be seen."""
    span = float(x_N.max() - x_N.min())
    return (len(np.unique(x_N)) - 1) / (2 * span) if span else 1.0


STATIONARY = ("rbf", "matern-1/2", "matern-3/2", "matern-5/2", "rational-quadratic")


def kernel_named(name: str) -> Kernel:
    """`rbf`, `matern-1/2`, `matern-3/2`, `matern-5/2`, `rational-quadratic` (with `-ard`: a length scale an input),
    `spectral-mixture-2`, `arc-cosine-3`. Raises UsageError for any other name."""
    form, (stem, _, number) = name.removesuffix("-ard"), name.rpartition("-")
    if form in STATIONARY:
        return Stationary(form, ard=form != name)
    if stem in ("spectral-mixture", "arc-cosine") and number.isdecimal() and int(number):
        return SpectralMixture(int(number)) if stem == "spectral-mixture" else ArcCosine(int(number))
    raise UsageError(
        f"no kernel is called {name!r}; kernels: {', '.join(STATIONARY)}, spectral-mixture-2, arc-cosine-3"
    )
