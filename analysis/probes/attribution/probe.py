"""Rows of the attribution probe: a trained network against fresh draws, another seed, and itself with new layers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import torch

from analysis.probes.attribution.agreement import Agreement, agreement, mean, spread
from analysis.probes.attribution.gradients import Answer, Attributions, integrated_gradients
from analysis.probes.attribution.randomize import layers_with_weights, replaced
from analysis.probes.contract import Inputs, Probe, ProbeSettings, Row, Unit, digests_of, unit_from
from analysis.probes.samples import Samples, held_out, training
from analysis.statistics.ranks import spearman_rows
from analysis.weights.modules import network_module
from protocol.errors import UsageError
from protocol.recipes.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributionSettings(ProbeSettings):
    probe: ClassVar[str] = "attribution"

    inputs: int = 100  # the first held-out ones
    fresh: int = 5  # draws of a network that knows nothing
    steps: int = 50  # at first; doubled until attributions are complete
    baseline: str = "zero"  # or mean: of the training inputs
    of: str = "probability"  # or logit
    layers: bool = True  # also with layers replaced, one after the other and each alone


class Attribution(Probe[AttributionSettings]):
    name, version, title = "attribution", 1, "Do attributions see what a network learnt?"
    settings = AttributionSettings
    columns: ClassVar[Mapping[str, str]] = {
        "compared": "with fresh (draws), second (another seed), cascade (last layers new), independent (one new)",
        "layer": "number of the layer replaced last, or alone; -1: none, or all at once",
        "signed_z": "Spearman's correlation with signs, on pixels that differ from the baseline; mean over inputs",
        "absolute_z": "the same of absolute values",
        "signed_all": "with signs, over all pixels",
        "absolute_all": "absolute, over all pixels",
        "slope_z": "of attribution over (x - x'), with signs, on pixels that differ from the baseline",
        "spread": "standard deviation of signed_z over inputs and draws",
        "with_input": "Spearman's correlation of |attribution| and |x - x'| over all pixels: the trained network alone",
        "defined": "share of the inputs and draws with a correlation signed_z",
        "steps": "most steps that an input took",
        "incomplete": "share of attributions whose sum is more than 1 % off",
    }

    def units(self, table: pa.Table, recipes: Mapping[str, Recipe], settings: AttributionSettings) -> list[Unit]:
        if settings.of not in ("probability", "logit") or settings.baseline not in ("zero", "mean"):
            raise UsageError("attribution: `of` is probability or logit, `baseline` zero or mean")
        digests, second = digests_of(table), second_seeds(table)
        rows = zip(table["id"].to_pylist(), table["recipe"].to_pylist(), strict=True)
        fit = [name for name, digest in rows if recipes[digest].training.loss == "cross_entropy"]
        if not fit:
            raise UsageError("No network here chooses between classes, so there is no answer to attribute.")
        return [unit_from(digests, [name, *second.get(name, ())]) for name in fit]

    def rows(self, inputs: Inputs, settings: AttributionSettings) -> list[Row]:
        recipe = inputs.recipes[0]
        asked = Asked(recipe, inputs, settings)
        trained = asked.attributions(inputs.weights[0])
        told = {"network": inputs.networks[0], "with_input": asked.with_input(trained)}
        fresh = [inputs.initial(0, another) for another in range(1, settings.fresh + 1)]
        found = [told | asked.row("fresh", -1, trained, [asked.attributions(weights) for weights in fresh])]
        if len(inputs.networks) > 1:
            found.append(told | asked.row("second", -1, trained, [asked.attributions(inputs.weights[1])]))
        layers = layers_with_weights(recipe) if settings.layers else []
        for i, layer in enumerate(layers):
            for name, chosen in (("cascade", layers[: i + 1]), ("independent", [layer])):
                if name == "independent" and i == 0:  # the last layer: the cascade begins with it alone
                    found.append(found[-1] | {"compared": name})
                    continue
                weights = replaced(recipe, inputs.weights[0], fresh[0], chosen)
                found.append(told | asked.row(name, layer, trained, [asked.attributions(weights)]))
        return found


class Asked:
    """The inputs of one unit, the classes that its trained network gives them, and what other networks say of these."""

    def __init__(self, recipe: Recipe, inputs: Inputs, settings: AttributionSettings):
        data = inputs.data()
        self.recipe, self.settings = recipe, settings
        self.samples: Samples = held_out(recipe, data, settings.inputs)
        first = self.samples.inputs[:1]
        mean_of = training(recipe, data).inputs.mean(0, keepdim=True) if settings.baseline == "mean" else None
        self.baseline = torch.zeros_like(first) if mean_of is None else mean_of
        self.moved_BF = (self.samples.inputs - self.baseline).flatten(1).numpy()
        with torch.no_grad():
            self.classes_B = self._answer(inputs.weights[0])(self.samples.inputs).argmax(-1)

    def attributions(self, weights_P: np.ndarray) -> Attributions:
        """Of the trained network's classes, by a network with these weights."""
        answer = self._answer(weights_P)
        return integrated_gradients(answer, self.samples.inputs, self.baseline, self.classes_B, self.settings.steps)

    def row(self, compared: str, layer: int, trained: Attributions, others: list[Attributions]) -> Row:
        """Means over inputs and networks."""
        pairs = [agreement(trained.values_BF.numpy(), other.values_BF.numpy(), self.moved_BF) for other in others]
        joined = Agreement(*(np.concatenate(side) for side in zip(*pairs, strict=True)))
        every = [trained, *others]
        return {
            "compared": compared,
            "layer": layer,
            **{name: mean(values) for name, values in joined._asdict().items()},
            "spread": spread(joined.signed_z),
            "defined": float((~np.isnan(joined.signed_z)).mean()),
            "steps": max(int(one.steps_B.max()) for one in every),
            "incomplete": float(torch.cat([one.error_B for one in every]).gt(0.01).double().mean()),
        }

    def with_input(self, trained: Attributions) -> float:
        return mean(spearman_rows(trained.values_BF.abs().numpy(), np.abs(self.moved_BF)))

    def _answer(self, weights_P: np.ndarray) -> Answer:
        network = network_module(self.recipe, weights_P).double()
        return Answer(network.requires_grad_(False), self.settings.of)


def second_seeds(table: pa.Table) -> dict[str, tuple[str, ...]]:
    """Network -> the network of the same recipe with the next seed, the last one's being the first; none alone."""
    recipes: dict[str, list[tuple[int, str]]] = {}
    for name, recipe, seed in zip(*(table[column].to_pylist() for column in ("id", "recipe", "seed")), strict=True):
        recipes.setdefault(recipe, []).append((seed, name))
    found = {}
    for members in recipes.values():
        names = [name for _, name in sorted(members)]
        if len(names) > 1:
            found |= {name: (names[(i + 1) % len(names)],) for i, name in enumerate(names)}
    return found
