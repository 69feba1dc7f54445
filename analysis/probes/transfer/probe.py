"""Rows of the transfer probe: how well each method does on the target task, and how far its gates are open."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import torch

from analysis.probes.contract import Inputs, Probe, ProbeSettings, Row, Unit
from analysis.probes.samples import Samples, chance, loss, samples, score
from analysis.probes.transfer.fitting import Budget, Fitted, fit
from analysis.probes.transfer.gates import Joined
from analysis.probes.transfer.methods import methods
from analysis.probes.transfer.pairs import Most, transfer_units
from analysis.probes.transfer.summary import FINE_TUNE, PTU
from analysis.weights.chains import chains
from analysis.weights.features import gram, upper
from protocol.errors import UsageError
from protocol.recipes.recipe import Recipe

CONTROL = (FINE_TUNE, PTU)  # again, from a source that was never trained


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSettings(ProbeSettings):
    probe: ClassVar[str] = "transfer"

    seeds: int = 5  # sources for each pair of tasks, each with a target beginning and samples of its own
    pairs: int = 12  # pairs of tasks for each shape of networks
    deep_pairs: int = 4  # for a shape with several recurrent layers: original and modified first
    samples: int = 60  # of the target's training data
    aside: int = 30  # more of them, to choose the step by
    tested: int = 500  # held-out samples at most
    steps: int = 200
    batch: int = 16
    learning_rate: float = 0.003
    gate_rate: float = 10.0  # times that, for what joins source and target: it begins nearly closed
    look_every: int = 10


class Transfer(Probe[TransferSettings]):
    name, version, title = "transfer", 1, "What does a network give to another task?"
    settings = TransferSettings
    columns: ClassVar[Mapping[str, str]] = {
        "target": "the network whose task is learnt; `network` is the source",
        "source_recipe": "the source's recipe, by name",
        "target_recipe": "the target's",
        "source": "trained, or untrained: the control",
        "method": "scratch, fine-tune, freeze-k (the first k blocks), average, cross-stitch, ptu, ptu from scratch",
        "samples": "of the target's task that were learnt from",
        "score": "held-out accuracy; of values 1 - MSE / variance",
        "loss": "held-out loss",
        "chance": "score of the best answer that does not look at the input",
        "step": "that did best on the samples kept aside",
        "gates": "of ptu: mean z of each block, from the input on; 1 takes the source's signal as it is",
        "gates_r": "of ptu: mean r of each block; how much of the source's signal joins the target's",
        "distance": "angle between the chain features of the two trained networks, radians",
    }

    def units(self, table: pa.Table, recipes: Mapping[str, Recipe], settings: TransferSettings) -> list[Unit]:
        found = transfer_units(table, recipes, settings.seeds, Most(settings.pairs, settings.deep_pairs))
        if not found:
            raise UsageError(
                f"no two recipes here have one shape, different tasks and {settings.seeds} networks each; "
                "recipes/probes-campaign.toml has"
            )
        return found

    def rows(self, inputs: Inputs, settings: TransferSettings) -> list[Row]:
        recipe, data = inputs.recipes[1], inputs.data(1)
        train, aside = drawn(recipe, inputs, settings)
        test = samples(recipe, data.held_out_inputs[: settings.tested], data.held_out_targets[: settings.tested])
        budget = Budget(
            steps=settings.steps,
            batch=settings.batch,
            learning_rate=settings.learning_rate,
            look_every=settings.look_every,
            gate_rate=settings.gate_rate,
        )
        told = {
            "network": inputs.networks[0],
            "target": inputs.networks[1],
            "source_recipe": inputs.recipes[0].name,
            "target_recipe": recipe.name,
            "samples": len(train),
            "chance": chance(recipe, test.targets),
            "distance": angle(inputs),
        }
        found: list[Row] = []
        begin = inputs.initial(1, another=1)  # not where the zoo's own target began: that may be the source's twin
        for state, flat in (("trained", inputs.weights[0]), ("untrained", inputs.initial(0))):
            for method in methods(recipe, flat, begin, test.inputs[:1], () if state == "trained" else CONTROL):
                fitted = fit(method.make(), recipe, train, aside, budget, inputs.rng("batches"))
                found.append(told | {"source": state, "method": method.name} | row_of(recipe, fitted, test))
        return found


def drawn(recipe: Recipe, inputs: Inputs, settings: TransferSettings) -> tuple[Samples, Samples]:
    """Samples of the target's training data to learn from, and others to choose the step by."""
    data = inputs.data(1)
    order = inputs.rng("samples").permutation(len(data.inputs))
    cut = min(settings.samples, len(order) * 2 // 3)
    first, second = np.sort(order[:cut]), np.sort(order[cut : cut + settings.aside])
    return tuple(samples(recipe, data.inputs[rows], data.targets[rows]) for rows in (first, second))  # pyright: ignore


def row_of(recipe: Recipe, fitted: Fitted, test: Samples) -> Row:
    with torch.no_grad():
        outputs = fitted.module(test.inputs)
    found: Row = {
        "score": score(recipe, outputs, test.targets),
        "loss": float(loss(recipe, outputs, test.targets)),
        "step": fitted.step,
        "gates": "",
        "gates_r": "",
    }
    if isinstance(fitted.module, Joined) and hasattr(next(iter(fitted.module.joins), None), "a_z"):
        opening = fitted.module.opening(test.inputs)
        found["gates"] = " ".join(f"{z:.4f}" for _, z in opening)
        found["gates_r"] = " ".join(f"{r:.4f}" for r, _ in opening)
    return found


def angle(inputs: Inputs) -> float:
    """Between the Gram matrices of both networks' chains (canonical: blind to how hidden units are numbered)."""
    vectors = []
    for recipe, weights in zip(inputs.recipes, inputs.weights, strict=True):
        parts = chains(recipe, np.asarray(weights, np.float64)[None])
        vectors.append(np.concatenate([upper(gram(part)).ravel() for part in parts]))
    a, b = vectors
    return float(np.arccos(np.clip(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)), -1, 1)))
