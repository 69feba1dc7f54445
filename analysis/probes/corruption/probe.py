"""Rows of the corruption probe: a trained network and the same before training, all layers together and each alone."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import pyarrow as pa
import torch

from analysis.probes.contract import Inputs, Probe, ProbeSettings, Row, Unit, units_of_networks
from analysis.probes.corruption.ascent import Attack, halving_radius
from analysis.probes.corruption.summary import ALL
from analysis.probes.samples import Function, chance, held_out
from protocol.recipes.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class CorruptionSettings(ProbeSettings):
    probe: ClassVar[str] = "corruption"
    limits: ClassVar[Mapping[str, tuple[float, float]]] = {
        "p": (1, math.inf),
        "trials": (0, math.inf),
        "bisections": (0, math.inf),
        "share": (0, 1),
    }
    may_be_empty: ClassVar[frozenset[str]] = frozenset({"layer_radii"})

    p: float = 2.0  # which norm, from 1 to inf
    share: float = 1.0  # of the weights that may change at once
    radii: tuple[float, ...] = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)  # rho = |a| / |w|
    layer_radii: tuple[float, ...] = (1e-1,)  # of one layer's own |w|; none: layers are not asked
    steps: int = 20
    trials: int = 100  # at random
    bisections: int = 6  # between two of `radii` a factor of 3.3 apart: then at most 2 % too large
    samples: int = 200  # of the held-out ones at most


class Corruption(Probe[CorruptionSettings]):
    name, version, title = "corruption", 2, "How small a change of the weights does harm?"
    settings = CorruptionSettings
    columns: ClassVar[Mapping[str, str]] = {
        "weights": "trained, or initial: the same network before training",
        "layer": "whose weights change: all, or the layer's number",
        "rho": "size of the change over that of the weights which may change, both in norm p",
        "eps": "size of the change",
        "k": "how many weights may change at once",
        "loss": "held-out loss without a change",
        "score": "held-out accuracy without a change; of values 1 - MSE / variance",
        "chance": "score of the best answer that does not look at the input",
        "first_order": "eps |g_T|_q: gain of the loss if it were linear",
        "one_step": "gain of the loss by the worst first-order change",
        "one_step_score": "score with it",
        "multi_step": "largest gain met in many steps",
        "multi_step_score": "score there",
        "random_mean": "mean gain of changes at random with the same norm and k",
        "random_max": "the largest of them",
        "random_score": "the lowest score with one of them; the three of trained weights and all layers only",
        "halving": "smallest rho at which many steps halve score - chance; inf: none up to 10; NaN: it knows nothing",
    }

    def units(self, table: pa.Table, recipes: Mapping[str, Recipe], settings: CorruptionSettings) -> list[Unit]:
        return units_of_networks(table)

    def rows(self, inputs: Inputs, settings: CorruptionSettings) -> list[Row]:
        recipe = inputs.recipes[0]
        samples = held_out(recipe, inputs.data(), settings.samples)
        function, guess = Function(recipe, samples), chance(recipe, samples.targets)
        found: list[Row] = []
        for name, flat in (("trained", inputs.weights[0]), ("initial", inputs.initial())):
            weights, trained = torch.from_numpy(flat.astype(np.float64)), name == "trained"
            for layer, mask in masks(recipe, bool(settings.layer_radii) and trained):
                attack = Attack(function, weights, mask, settings.p, max(1, round(settings.share * int(mask.sum()))))
                radii = settings.radii if layer == ALL else settings.layer_radii
                rows = [harm(attack, rho, settings) for rho in radii]
                if trained and layer == ALL:
                    rows = compared(attack, rows, settings, guess, inputs.rng("random"))
                told = {"network": inputs.networks[0], "weights": name, "layer": layer, "chance": guess}
                found += [told | row for row in rows]
        return found


def masks(recipe: Recipe, layers: bool) -> list[tuple[str, torch.Tensor]]:
    """(layer's name, (P,) bool): all together, then each layer that has weights."""
    found = [(ALL, torch.ones(recipe.parameter_count, dtype=torch.bool))]
    for number in sorted({span.layer for span in recipe.spans}) if layers else []:
        mask = torch.zeros(recipe.parameter_count, dtype=torch.bool)
        for span in recipe.spans:
            if span.layer == number:
                mask[span.begin : span.end] = True
        found.append((str(number), mask))
    return found


def harm(attack: Attack, rho: float, settings: CorruptionSettings) -> Row:
    """What the worst change does at one radius."""
    eps = rho * attack.size
    one, many = attack.one_step(eps), attack.many_steps(eps, settings.steps)
    return {
        "rho": rho,
        "eps": eps,
        "k": attack.k,
        "loss": attack.loss,
        "score": attack.score,
        "first_order": attack.first_order(eps),
        "one_step": one.gain,
        "one_step_score": one.score,
        "multi_step": many.gain,
        "multi_step_score": many.score,
    }


def compared(
    attack: Attack, rows: list[Row], settings: CorruptionSettings, guess: float, rng: np.random.Generator
) -> list[Row]:
    """The rows with what changes at random do, and the halving radius."""
    known = {float(row["rho"]): float(row["multi_step_score"]) for row in rows}
    halving, score_at = math.nan, partial(score_after, attack, settings.steps)
    if attack.score - guess > knows_nothing(attack, guess):
        halving = halving_radius(score_at, known, attack.score, guess, settings.bisections)
    directions = attack.directions(settings.trials, rng)
    found = []
    for row in rows:
        tried = [attack.harm(float(row["eps"]) * direction) for direction in directions]
        told: Row = {"halving": halving}
        if tried:
            gains = [one.gain for one in tried]
            told |= {"random_mean": float(np.mean(gains)), "random_max": max(gains)}
            told |= {"random_score": min(one.score for one in tried)}
        found.append(row | told)
    return found


def knows_nothing(attack: Attack, guess: float) -> float:
    """How far above chance a score may lie by luck: three standard errors of a share; of values a tenth of variance."""
    if attack.function.recipe.task_shape.target == "values":
        return 0.1
    return 3 * math.sqrt(guess * (1 - guess) / len(attack.function.samples))


def score_after(attack: Attack, steps: int, rho: float) -> float:
    return attack.many_steps(rho * attack.size, steps).score
