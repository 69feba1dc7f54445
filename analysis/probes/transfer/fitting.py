"""One budget for every method: Adam, the same batches, and the step that did best on samples kept aside."""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from analysis.probes.samples import Samples, loss
from protocol.recipes.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    steps: int
    batch: int
    learning_rate: float
    look_every: int  # steps between two looks at the samples kept aside
    gate_rate: float = 1.0  # learning rate of what joins two networks, as a multiple


@dataclass(frozen=True, slots=True)
class Fitted:
    module: nn.Module  # as it was at `step`
    step: int  # that did best on the samples kept aside, 0: as it began
    loss: float  # there


def fit(module: nn.Module, recipe: Recipe, train: Samples, aside: Samples, budget: Budget, rng: np.random.Generator):
    """Train what is not frozen. Two modules with an `rng` of one seed see the same batches. Returns Fitted."""
    optimizer = torch.optim.Adam(groups(module, budget))
    best = Fitted(module, 0, _loss(module, recipe, aside))
    kept = copy.deepcopy(module.state_dict())
    for step in range(1, budget.steps + 1):
        rows = torch.from_numpy(rng.integers(len(train), size=min(budget.batch, len(train))))
        optimizer.zero_grad()
        loss(recipe, module(train.inputs[rows]), train.targets[rows]).backward()
        optimizer.step()
        if step % budget.look_every == 0 or step == budget.steps:
            now = _loss(module, recipe, aside)
            if now < best.loss:
                best, kept = Fitted(module, step, now), copy.deepcopy(module.state_dict())
    module.load_state_dict(kept)
    return best


def groups(module: nn.Module, budget: Budget) -> list[dict]:
    """What Adam trains: layers, and joins at their own rate."""
    joins, layers = [], []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            (joins if name.startswith("joins.") else layers).append(parameter)
    rates = ((layers, budget.learning_rate), (joins, budget.learning_rate * budget.gate_rate))
    return [{"params": some, "lr": rate} for some, rate in rates if some]


def _loss(module: nn.Module, recipe: Recipe, samples: Samples) -> float:
    with torch.no_grad():
        return float(loss(recipe, module(samples.inputs), samples.targets))
