"""Rows of ranking: scores that a surrogate gives an architecture for a data set, beside the test error it then has.

Axes: N training samples, J targets of each, M networks, P parameters.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import torch

from analysis.probes.contract import Inputs, Probe, ProbeSettings, Row, Unit, digests_of, unit_from
from analysis.probes.gp.families import architecture
from analysis.probes.gp.functions import functions, hidden_layers, scaled
from analysis.probes.gp.influence import process, rescale
from analysis.probes.gp.kernels import arc_cosine, kernel_named
from analysis.probes.gp.surrogate import choose
from analysis.weights.forward import losses, outputs
from protocol.canonical import canonical_json, hexdigest
from protocol.engine.initial import initial_states
from protocol.errors import UsageError
from protocol.recipes.recipe import Recipe
from protocol.tasks.data import TaskData

ARC_BIAS = 0.1  # variance of the biases of the infinitely wide baseline; that of its weights is 2 / fan in


@dataclass(frozen=True, slots=True, kw_only=True)
class GpRankingSettings(ProbeSettings):
    probe: ClassVar[str] = "gp_ranking"
    limits: ClassVar[Mapping[str, tuple[float, float]]] = {"samples": (2, math.inf), "architectures": (2, math.inf)}
    architectures: int = 4  # that a data set needs, to be ranked on
    networks: int = 32  # untrained ones, that a kernel is learnt from
    others: int = 8  # networks trained on other tasks that the other kernel needs
    samples: int = 64  # training samples that are looked at
    restarts: int = 10
    kernels: tuple[str, ...] = ("rbf", "matern-3/2", "matern-5/2", "rational-quadratic")


class GpRanking(Probe[GpRankingSettings]):
    """Which architecture suits a data set? A row a data set, architecture and population that the kernel is of."""

    name = "gp_ranking"
    version = 2
    title = "Architectures for a data set"
    settings = GpRankingSettings
    columns: ClassVar[Mapping[str, str]] = {
        "task": "name of the data set: of the function, or the recipe's class",
        "contest": "digest of task and training, which all architectures share",
        "architecture": "kinds of units and widths",
        "population": "networks the kernel is of: initial; or other: trained on other tasks of such inputs",
        "networks": "functions that the kernel is of",
        "kernel": "chosen on held-out networks",
        "evidence": "log marginal likelihood of the training targets, nats a target",
        "left_out_error": "mean squared error of leave-one-out predictions",
        "left_out_nats": "log density of targets that are left out, mean",
        "arc_evidence": "the first score, of an infinitely wide ReLU network of that depth (baseline)",
        "arc_left_out_nats": "the third score, of that network",
        "parameters": "of a network (baseline)",
        "training_loss": "of the trained networks, their median (baseline)",
        "error": "held-out loss of the trained networks, their median: what is to be predicted",
        "trained": "trained networks behind the two medians",
    }

    def units(self, table: pa.Table, recipes: Mapping[str, Recipe], settings: GpRankingSettings) -> list[Unit]:
        members: dict[str, list[str]] = {}
        for name, digest in zip(table["id"].to_pylist(), table["recipe"].to_pylist(), strict=True):
            members.setdefault(digest, []).append(name)
        known = [recipes[digest] for digest in members if "data" not in recipes[digest].vary]
        tasks, digests = ranked_tasks(known, settings.architectures), digests_of(table)
        found = []
        for recipe in known:
            if contest(recipe) in tasks:
                others = [name for other in known if is_other(other, recipe) for name in members[other.digest]]
                found.append(unit_from(digests, [*members[recipe.digest], *others]))
        if not found:
            raise UsageError(f"no data set here was learnt by {settings.architectures} architectures")
        return found

    def rows(self, inputs: Inputs, settings: GpRankingSettings) -> list[Row]:
        own = [i for i, recipe in enumerate(inputs.recipes) if recipe == inputs.recipes[0]]
        return of_recipe(inputs, own, settings)


def kind_of_inputs(recipe: Recipe) -> str:
    """Recipes with the same inputs and outputs: networks of one can be asked about the data of another."""
    shape = recipe.task_shape
    return f"{shape.input} x {shape.length} -> {shape.target} {shape.width} x {shape.target_length}"


def is_other(other: Recipe, recipe: Recipe) -> bool:
    """The same architecture and initial law, another task of such inputs and outputs."""
    same = other.network == recipe.network and kind_of_inputs(other) == kind_of_inputs(recipe)
    return same and other.task != recipe.task


def contest(recipe: Recipe) -> str:
    """What all architectures share that are compared: task and training."""
    return hexdigest(canonical_json([recipe.task, recipe.training]))


def ranked_tasks(recipes: list[Recipe], least: int) -> set[str]:
    """Contests of at least so many architectures."""
    found: dict[str, set[str]] = {}
    for recipe in recipes:
        found.setdefault(contest(recipe), set()).add(architecture(recipe))
    return {task for task, names in found.items() if len(names) >= least}


def of_recipe(inputs: Inputs, members: list[int], settings: GpRankingSettings) -> list[Row]:
    """An architecture on one data set, whose trained networks are `members`."""
    recipe, data = inputs.recipes[members[0]], inputs.data(members[0])
    raw, target_NJ = data.inputs[: settings.samples], targets_of(recipe, data)[: settings.samples]
    trained = np.stack([inputs.weights[i] for i in members])
    about: Row = {
        "network": recipe.name,
        "task": getattr(recipe.task, "function", recipe.label),
        "contest": contest(recipe),
        "architecture": architecture(recipe),
        "parameters": recipe.parameter_count,
        "error": _median_loss(recipe, trained, data.held_out_inputs, data.held_out_targets),
        "training_loss": _median_loss(recipe, trained, data.inputs, data.targets),
        "trained": len(members),
        **{f"arc_{name}": value for name, value in scores(arc_kernel(recipe, raw), target_NJ).items()},
    }
    about.pop("arc_left_out_error")
    kernels = [kernel_named(name) for name in settings.kernels]
    rows = []
    for population, weights_MP in populations(inputs, members[0], settings).items():
        functions_MN = functions(recipe, weights_MP, raw)
        each, x_ND = len(functions_MN) // len(weights_MP), scaled(raw)
        chosen = choose(kernels, x_ND, functions_MN, centred=False, restarts=settings.restarts, each=each)
        said: Row = {"population": population, "networks": len(functions_MN), "kernel": chosen.fit.kernel.name}
        rows.append(about | said | scores(chosen.fit.matrix(x_ND), target_NJ))
    return rows


def populations(inputs: Inputs, member: int, settings: GpRankingSettings) -> dict[str, np.ndarray]:
    """Untrained networks of this architecture, and those that other tasks have trained."""
    recipe = inputs.recipes[member]
    initial = np.stack([state.params for state in initial_states(recipe, range(settings.networks))])
    others = [inputs.weights[i] for i, other in enumerate(inputs.recipes) if is_other(other, recipe)]
    return {"initial": initial} | ({"other": np.stack(others)} if len(others) >= settings.others else {})


def targets_of(recipe: Recipe, data: TaskData) -> np.ndarray:
    """(N, J) targets of the last time step about their means; classes as 0 and 1."""
    last = np.asarray(data.targets[:, -1])
    if recipe.task_shape.target == "classes":
        last = np.eye(recipe.task_shape.width)[last.astype(int)]
    last = last.astype(np.float64)
    return last - last.mean(0)


def scores(kernel_NN: np.ndarray, target_NJ: np.ndarray) -> dict[str, float]:
    """Evidence and leave-one-out scores, after output scale and noise are fitted to the targets; means over J."""
    found = []
    for target_N in target_NJ.T:
        best = rescale(kernel_NN, target_N)
        one = process(best.scale * kernel_NN, best.noise, target_N)
        found.append((best.nats / len(target_N), one.left_out_error, one.left_out_nats))
    evidence, error, nats = np.mean(found, axis=0)
    return {"evidence": float(evidence), "left_out_error": float(error), "left_out_nats": float(nats)}


def arc_kernel(recipe: Recipe, raw: np.ndarray) -> np.ndarray:
    """(N, N) covariance of an infinitely wide ReLU network with as many hidden layers, of the inputs as they are."""
    flat = torch.from_numpy(np.asarray(raw, np.float64).reshape(len(raw), -1) * recipe.task_shape.scale)
    each = [(torch.tensor(2.0).double(), torch.tensor(ARC_BIAS).double())] * (hidden_layers(recipe) + 1)
    return arc_cosine(flat, flat, each).numpy()


def _median_loss(recipe: Recipe, weights_MP: np.ndarray, inputs: np.ndarray, targets: np.ndarray) -> float:
    return float(np.median(losses(recipe, outputs(recipe, weights_MP, inputs), targets)))
