"""Rows of spectral bias: a family's surrogate at steps of its training, trained again bit for bit.

Axes: M networks, N points of an even grid, S snapshots, F frequencies of the target.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from analysis.methods.trajectories import replay
from analysis.probes.contract import Inputs, Probe, ProbeSettings, Row, Unit
from analysis.probes.gp.families import architecture, families, initial_weights
from analysis.probes.gp.functions import Points, functions, grid, points_of
from analysis.probes.gp.kernels import kernel_named
from analysis.probes.gp.measures import centroid, learnt, strongest
from analysis.probes.gp.surrogate import choose, fit, seen
from analysis.statistics.intervals import jackknife
from protocol.errors import UsageError
from protocol.recipes.recipe import Recipe
from protocol.tasks.kinds import FunctionTask
from protocol.tasks.regression import function_values

FREQUENCIES = 3  # of the target, its strongest
BLOCKS = 8  # of the jackknife: a fit for each


@dataclass(frozen=True, slots=True, kw_only=True)
class GpSpectrumSettings(ProbeSettings):
    probe: ClassVar[str] = "gp_spectrum"
    limits: ClassVar[Mapping[str, tuple[float, float]]] = {
        "networks": (2, math.inf),
        "points": (2, math.inf),
        "snapshots": (2, math.inf),
    }
    networks: int = 16  # of a family
    points: int = 40
    snapshots: int = 7
    restarts: int = 10
    reference: str = "matern-5/2"  # whose length scale is compared over steps
    kernels: tuple[str, ...] = (
        "rbf",
        "matern-1/2",
        "matern-3/2",
        "matern-5/2",
        "rational-quadratic",
        "spectral-mixture-2",
    )


class GpSpectrum(Probe[GpSpectrumSettings]):
    """Low frequencies first? A family of one number -> rows a step, as `functions` and as `seeds` differ."""

    name = "gp_spectrum"
    version = 2
    title = "Spectral bias, read from a surrogate"
    settings = GpSpectrumSettings
    columns: ClassVar[Mapping[str, str]] = {
        "architecture": "kinds of units and widths",
        "step": "training steps",
        "population": "trained, or control: untrained networks of other seeds at every step",
        "view": "functions: second moment about 0; seeds: about the family's mean function",
        "networks": "of the family",
        "length": "length scale of the reference kernel, in deviations of the input",
        "length_low": "95%, jackknife over networks",
        "length_high": "95%, jackknife over networks",
        "centroid": "mean frequency of the networks' own moment matrix, periods a unit of input",
        "centroid_low": "95%, jackknife over networks",
        "centroid_high": "95%, jackknife over networks",
        "centroid_kernel": "mean frequency of the fitted reference kernel",
        "kernel": "that says most about networks it was not fitted to",
        "kernel_length": "its length scale; NaN where it has none",
        "held_out_nats": "log density of those networks, nats an evaluation",
        "reference_nats": "the reference kernel's",
        "condition": "of the reference kernel's matrix with noise",
        "error": "mean squared difference from the target on the grid",
        **{
            f"frequency_{i}": "of the target's strongest waves, periods a unit; null: it has fewer"
            for i in range(1, FREQUENCIES + 1)
        },
        **{f"learnt_{i}": "share of that wave which the networks have, mean" for i in range(1, FREQUENCIES + 1)},
    }

    def units(self, table: pa.Table, recipes: Mapping[str, Recipe], settings: GpSpectrumSettings) -> list[Unit]:
        return families(table, recipes, _is_curve, 8, settings.networks, "a function of one number")

    def rows(self, inputs: Inputs, settings: GpSpectrumSettings) -> list[Row]:
        recipe = inputs.recipes[0]
        points = points_of(recipe, inputs.data(), settings.points)
        steps = snapshot_steps(recipe, settings.snapshots)
        path = replay(recipe, inputs.seeds, steps, shelf=inputs.shelf)
        if not np.array_equal(path.weights_NSP[:, -1], np.stack(inputs.weights)):
            raise UsageError(f"{recipe.name}: trained again, its networks are others; audit this zoo")
        rows = []
        for s, step in enumerate(steps):
            fresh = initial_weights(inputs, len(inputs.seeds), first=(s + 1) * len(inputs.seeds))
            for population, weights_MP in (("trained", path.weights_NSP[:, s]), ("control", fresh)):
                functions_MN = functions(recipe, weights_MP, points.raw)
                for view in ("functions", "seeds"):
                    about: Row = {"network": recipe.name, "architecture": architecture(recipe), "step": step}
                    about |= {"population": population, "view": view}
                    rows.append(about | described(recipe, points, functions_MN, view == "seeds", settings, population))
        return rows


def _is_curve(recipe: Recipe) -> bool:
    return isinstance(recipe.task, FunctionTask) and recipe.task_shape.input == (1,) and "data" not in recipe.vary


def snapshot_steps(recipe: Recipe, count: int) -> list[int]:
    """Step 0, the last one, and ends of segments between them, denser at the start."""
    t = recipe.training
    segments = np.geomspace(1, recipe.segments_max, max(count - 1, 2)).round().astype(int)
    return [0, *(min(int(s) * t.segment_steps, t.max_steps) for s in np.unique(segments))]


def described(
    recipe: Recipe,
    points: Points,
    functions_MN: np.ndarray,
    centred: bool,
    settings: GpSpectrumSettings,
    population: str,
) -> Row:
    """One population at one step; the control has neither intervals nor a choice of kernels."""
    reference, x_ND, m = kernel_named(settings.reference), points.scaled_ND, len(functions_MN)
    now = seen(x_ND, functions_MN, centred)
    found = fit(reference, [now], settings.restarts)
    row: Row = {
        "networks": m,
        "length": found.length,
        "centroid": centroid(now.moment_NN),
        "centroid_kernel": centroid(found.matrix(x_ND)),
        "condition": found.condition,
    }
    if population == "trained":
        group_M = np.arange(m) * min(BLOCKS, m) // m

        def log_length(some: np.ndarray) -> float:
            part = seen(x_ND, functions_MN[some], centred)
            return float(np.log(fit(reference, [part], start=found.values).length))

        low, high = jackknife(log_length, group_M)
        row |= {"length_low": float(np.exp(low)), "length_high": float(np.exp(high))}
        low, high = jackknife(lambda some: centroid(seen(x_ND, functions_MN[some], centred).moment_NN), group_M, 0.0)
        row |= {"centroid_low": low, "centroid_high": high}
        kernels = [kernel_named(name) for name in dict.fromkeys((*settings.kernels, settings.reference))]
        chosen = choose(kernels, x_ND, functions_MN, centred, restarts=settings.restarts)
        row |= {
            "kernel": chosen.fit.kernel.name,
            "kernel_length": chosen.fit.length,
            "held_out_nats": chosen.held_out[chosen.fit.kernel.name],
            "reference_nats": chosen.held_out[reference.name],
        }
    return row | _against_target(recipe, functions_MN)


def _against_target(recipe: Recipe, functions_MN: np.ndarray) -> Row:
    assert isinstance(recipe.task, FunctionTask)
    target_N = function_values(recipe.task.function, grid(functions_MN.shape[1]).astype(np.float32)[:, None])[:, 0]
    target_N = target_N.astype(np.float64)
    row: Row = {"error": float(((functions_MN - target_N) ** 2).mean())}
    frequencies_F = strongest(target_N, FREQUENCIES)
    share_F = learnt(functions_MN, target_N, frequencies_F).mean(0)
    for i, (frequency, share) in enumerate(zip(frequencies_F, share_F, strict=True), start=1):
        row |= {f"frequency_{i}": float(frequency), f"learnt_{i}": float(share)}
    return row
