"""Rows of depth: how alike a family's untrained networks are at different points. Axes: M networks, N points."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from analysis.probes.contract import Inputs, Probe, ProbeSettings, Row, Unit
from analysis.probes.gp.families import architecture, families, initial_weights
from analysis.probes.gp.functions import functions, hidden_layers, points_of, widest
from analysis.probes.gp.kernels import kernel_named
from analysis.probes.gp.measures import off_diagonal_correlation, participation_ratio
from analysis.probes.gp.surrogate import fit, seen
from analysis.statistics.intervals import jackknife
from protocol.canonical import canonical_json, hexdigest
from protocol.recipes.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class GpDepthSettings(ProbeSettings):
    probe: ClassVar[str] = "gp_depth"
    limits: ClassVar[Mapping[str, tuple[float, float]]] = {"networks": (2, math.inf), "points": (2, math.inf)}
    networks: int = 128  # untrained ones; a fit costs the same for any number
    trained: int = 8  # networks that a family needs for a row of its trained ones
    points: int = 48
    restarts: int = 10
    kernel: str = "matern-5/2"


class GpDepth(Probe[GpDepthSettings]):
    """Does depth make untrained networks constant? Any recipe; a row for each population of it."""

    name = "gp_depth"
    version = 2
    title = "Depth, before and after training"
    settings = GpDepthSettings
    columns: ClassVar[Mapping[str, str]] = {
        "population": "initial; again: a second draw of as many, which shares no network; trained",
        "architecture": "kinds of units and widths",
        "task": "name of the data set: of the function, or the recipe's class",
        "task_digest": "of the task's parameters",
        "steps": "that the trained networks took at most",
        "init": "how weights are drawn at first",
        "layers": "of weights, the last one too",
        "width": "of the widest layer before the last; 0: there is none",
        "networks": "functions in the moment matrix: networks, times classes",
        "points": "of input",
        "correlation": "mean correlation of outputs at two different points, second moment about 0",
        "correlation_low": "95%, jackknife over networks",
        "correlation_high": "95%, jackknife over networks",
        "participation": "(tr S)^2 / tr S^2: directions along which functions spread, 1 to the number of points",
        "participation_low": "95%, jackknife over networks",
        "participation_high": "95%, jackknife over networks",
        "correlation_kernel": "mean correlation under the fitted kernel",
        "length": "its length scale, in deviations of the inputs",
        "stationary": "share of its variance that is neither constant nor linear, 0 to 1",
        "condition": "of its matrix with noise",
    }

    def units(self, table: pa.Table, recipes: Mapping[str, Recipe], settings: GpDepthSettings) -> list[Unit]:
        return families(table, recipes, lambda _: True, 1, settings.networks, "there")

    def rows(self, inputs: Inputs, settings: GpDepthSettings) -> list[Row]:
        recipe = inputs.recipes[0]
        points = points_of(recipe, inputs.data(), settings.points)
        populations = {
            "initial": initial_weights(inputs, settings.networks),
            "again": initial_weights(inputs, settings.networks, first=max(settings.networks, len(inputs.seeds))),
        }
        if len(inputs.seeds) >= settings.trained:
            populations["trained"] = np.stack(inputs.weights)
        about: Row = {
            "network": recipe.name,
            "architecture": architecture(recipe),
            "task": getattr(recipe.task, "function", recipe.label),
            "task_digest": hexdigest(canonical_json(recipe.task)),
            "steps": recipe.training.max_steps,
            "init": recipe.network.init,
            "layers": hidden_layers(recipe) + 1,
            "width": widest(recipe),
            "points": len(points.raw),
        }
        return [
            about
            | {"population": name}
            | measured(functions(recipe, weights_MP, points.raw), len(weights_MP), points.scaled_ND, settings)
            for name, weights_MP in populations.items()
        ]


def measured(functions_MN: np.ndarray, networks: int, x_ND: np.ndarray, settings: GpDepthSettings) -> Row:
    """One population's row; functions stand network by network."""
    now, m = seen(x_ND, functions_MN, centred=False), len(functions_MN)
    group_M = np.arange(m) * networks // m
    found = fit(kernel_named(settings.kernel), [now], settings.restarts)
    kernel_NN = found.matrix(x_ND)

    def interval(measure, least: float, most: float) -> tuple[float, float]:
        return jackknife(lambda some: measure(seen(x_ND, functions_MN[some], False).moment_NN), group_M, least, most)

    low, high = interval(off_diagonal_correlation, -1.0, 1.0)
    fewest, most = interval(participation_ratio, 1.0, len(x_ND))
    return {
        "networks": m,
        "correlation": off_diagonal_correlation(now.moment_NN),
        "correlation_low": low,
        "correlation_high": high,
        "participation": participation_ratio(now.moment_NN),
        "participation_low": fewest,
        "participation_high": most,
        "correlation_kernel": off_diagonal_correlation(kernel_NN),
        "length": found.length,
        "stationary": found.values["variance"] * len(x_ND) / float(np.trace(kernel_NN)),
        "condition": found.condition,
    }
