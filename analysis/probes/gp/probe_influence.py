"""Rows of influence: what a surrogate says each training point does, beside networks trained without it.

Axes: N training points, X probe points, M networks (seeds), P parameters.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from analysis.probes.contract import Inputs, Probe, ProbeSettings, Row, Unit
from analysis.probes.gp.families import architecture, families, initial_weights
from analysis.probes.gp.functions import functions, points_of, scaled
from analysis.probes.gp.influence import Process, influence, moved_by_set, process, rescale
from analysis.probes.gp.kernels import kernel_named
from analysis.probes.gp.retraining import retrain
from analysis.probes.gp.surrogate import choose
from protocol.errors import UsageError
from protocol.recipes.recipe import Recipe
from protocol.tasks.data import TaskData
from protocol.tasks.kinds import FunctionTask


@dataclass(frozen=True, slots=True, kw_only=True)
class GpInfluenceSettings(ProbeSettings):
    probe: ClassVar[str] = "gp_influence"
    limits: ClassVar[Mapping[str, tuple[float, float]]] = {"points": (2, math.inf)}
    networks: int = 12  # trained again without each point
    untrained: int = 64  # that the other kernel is learnt from
    points: int = 64  # at which predictions are compared
    samples: int = 50  # a recipe with more training samples is left out: each is a training of all networks
    removed: int = 5  # together, the most influential ones
    random: int = 20  # sets of as many random points
    restarts: int = 10
    kernels: tuple[str, ...] = ("rbf", "matern-3/2", "matern-5/2", "rational-quadratic")


class GpInfluence(Probe[GpInfluenceSettings]):
    """Which training points move the networks? A row a point, then a row for each set that is left out."""

    name = "gp_influence"
    version = 2
    title = "Influential training points"
    settings = GpInfluenceSettings
    columns: ClassVar[Mapping[str, str]] = {
        "architecture": "kinds of units and widths",
        "what": "point; or a set left out: top_initial, top_trained (by influence), random",
        "point": "number of the training sample; -1 for a set",
        "removed": "points left out",
        "target": "of the point",
        "residual": "target minus the networks' mean output",
        "distance": "to the nearest other training point, in deviations of the inputs",
        "influence_initial": "mean squared move of predictions, by a kernel learnt from untrained networks",
        "influence_trained": "the same by a kernel learnt from the trained networks",
        "moved": "the truth: mean squared move of the networks' mean output when trained without",
        "moved_first": "the same, of the first half of the seeds alone",
        "moved_second": "of the second half alone",
        "kernel_initial": "chosen on held-out untrained networks",
        "kernel_trained": "chosen on held-out trained networks",
        "noise_initial": "variance of the noise under the first kernel",
        "noise_trained": "under the second",
        "networks": "trained again for each row",
    }

    def units(self, table: pa.Table, recipes: Mapping[str, Recipe], settings: GpInfluenceSettings) -> list[Unit]:
        def small(recipe: Recipe) -> bool:
            is_function = isinstance(recipe.task, FunctionTask) and "data" not in recipe.vary
            ends = not recipe.training.stop_held_out_loss
            return is_function and ends and bool(recipe.twin) and recipe.task_shape.samples <= settings.samples

        what = f"a function of up to {settings.samples} samples, with a twin and without a stop rule"
        return families(table, recipes, small, 8, settings.networks, what)

    def rows(self, inputs: Inputs, settings: GpInfluenceSettings) -> list[Row]:
        from protocol.engine.select import select_engine

        recipe, data = inputs.recipes[0], inputs.data()
        engine, seeds = select_engine("auto", threads=1), list(inputs.seeds)
        if not np.array_equal(retrain(engine, recipe, data, seeds), np.stack(inputs.weights)):
            raise UsageError(f"{recipe.name}: trained again, its networks are others; audit this zoo")
        points = points_of(recipe, data, settings.points)
        before_MX = functions(recipe, np.stack(inputs.weights), points.raw)

        def truth(removed: Sequence[int]) -> Row:
            after_MX = functions(recipe, retrain(engine, recipe, data, seeds, removed), points.raw)
            return moves(before_MX, after_MX) | {"networks": len(seeds), "removed": len(removed)}

        judged = {
            "initial": surrogate_of(recipe, data, initial_weights(inputs, settings.untrained), points.raw, settings),
            "trained": surrogate_of(recipe, data, np.stack(inputs.weights), points.raw, settings),
        }
        about: Row = {"network": recipe.name, "architecture": architecture(recipe)}
        for name, one in judged.items():
            about |= {f"kernel_{name}": one.kernel, f"noise_{name}": one.noise}
        rows = [about | point | truth([i]) for i, point in enumerate(points_alone(inputs, judged))]
        for what, removed in sets_of(inputs, judged, settings):
            said = {f"influence_{name}": one.of_set(removed) for name, one in judged.items()}
            rows.append(about | {"what": what, "point": -1} | said | truth(removed))
        return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """A surrogate that has seen the training targets."""

    kernel: str
    noise: float
    process: Process
    cross_XN: np.ndarray

    @property
    def influence_N(self) -> np.ndarray:
        return influence(self.process, self.cross_XN)

    def of_set(self, removed: Sequence[int]) -> float:
        """Mean squared move of predictions when all of these go."""
        return float((moved_by_set(self.process, self.cross_XN, np.asarray(removed)) ** 2).mean())


def surrogate_of(
    recipe: Recipe, data: TaskData, weights_MP: np.ndarray, raw: np.ndarray, settings: GpInfluenceSettings
) -> Judge:
    """Learn a kernel from these networks at the training points; scale and noise are those of the targets."""
    x_ND, z_XD = scaled(data.inputs), scaled(raw, data.inputs)
    kernels = [kernel_named(name) for name in settings.kernels]
    found = choose(kernels, x_ND, functions(recipe, weights_MP, data.inputs), centred=False, restarts=settings.restarts)
    target_N = data.targets[:, 0, 0].astype(np.float64)
    kernel_NN, target_N = found.fit.matrix(x_ND), target_N - target_N.mean()
    best = rescale(kernel_NN, target_N)
    return Judge(
        kernel=found.fit.kernel.name,
        noise=best.noise,
        process=process(best.scale * kernel_NN, best.noise, target_N),
        cross_XN=best.scale * found.fit.matrix(z_XD, x_ND),
    )


def points_alone(inputs: Inputs, judged: Mapping[str, Judge]) -> list[Row]:
    """What is known of each training point before any network is trained without it."""
    recipe, data = inputs.recipes[0], inputs.data()
    target_N = data.targets[:, 0, 0].astype(np.float64)
    residual_N = target_N - functions(recipe, np.stack(inputs.weights), data.inputs).mean(0)
    x_ND = scaled(data.inputs)
    distance_NN = np.sqrt(((x_ND[:, None] - x_ND[None]) ** 2).sum(2))
    np.fill_diagonal(distance_NN, np.inf)
    influence_of = {f"influence_{name}": one.influence_N for name, one in judged.items()}
    return [
        {
            "what": "point",
            "point": i,
            "target": float(target_N[i]),
            "residual": float(residual_N[i]),
            "distance": float(distance_NN[i].min()),
            **{name: float(values_N[i]) for name, values_N in influence_of.items()},
        }
        for i in range(len(target_N))
    ]


def sets_of(inputs: Inputs, judged: Mapping[str, Judge], settings: GpInfluenceSettings) -> list[tuple[str, list[int]]]:
    """The most influential points by each surrogate, and random sets of as many."""
    rng, n = inputs.rng("sets"), len(inputs.data().inputs)
    found = [
        (f"top_{name}", np.argsort(-one.influence_N, kind="stable")[: settings.removed].tolist())
        for name, one in judged.items()
    ]
    return found + [("random", rng.choice(n, settings.removed, replace=False).tolist()) for _ in range(settings.random)]


def moves(before_MX: np.ndarray, after_MX: np.ndarray) -> Row:
    """Mean squared move of the mean output over seeds; over either half of them, how far that can be trusted."""
    half = len(before_MX) // 2
    parts = {"moved": slice(None), "moved_first": slice(0, half), "moved_second": slice(half, None)}
    return {name: float(((after_MX[at].mean(0) - before_MX[at].mean(0)) ** 2).mean()) for name, at in parts.items()}
