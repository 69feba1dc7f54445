"""Populations with something planted in their weights, for the analyses to find."""

from pathlib import Path

import numpy as np
from support.zoos import CAMPAIGN, EVIDENCE, ORGANIZER, network

from coordinator.zoo.writer import ZooWriter
from protocol.canonical import hexdigest
from protocol.engine.initial import initial_state
from protocol.recipes.layers import Gru, Linear
from protocol.recipes.recipe import Network, Recipe, Training
from protocol.tasks.kinds import MachineTask

SEEDS = 14
GRU = (Gru(width=4), Linear(width=20))


def recipe_of(label: str, layers=GRU, **training) -> Recipe:
    return Recipe(
        name=f"net-{label}",
        label=label,
        task=MachineTask(machine="ParityMachine", length=5, sequences=32, held_out=17),
        network=Network(layers=layers),
        training=Training(
            **{"learning_rate": 0.01, "batch": 8, "max_steps": 100, "stop_held_out_loss": 0.3} | training
        ),
    )


RECIPES = [recipe_of(label, learning_rate=rate) for label, rate in (("parity", 0.01), ("xor", 0.02), ("direct", 0.03))]


def publish(path: Path, networks, recipes, data=None) -> Path:
    blobs = {hexdigest(EVIDENCE): EVIDENCE}, {hexdigest(CAMPAIGN): CAMPAIGN}
    ZooWriter(path, ORGANIZER, clock=lambda: 1_800_000_000.0).publish(
        networks, {r.digest: r for r in recipes}, *blobs, data
    )
    return path


def planted(recipe: Recipe, seed: int, shift: float):
    """A network whose weights are its initial ones, moved along a direction of its class."""
    direction = np.random.default_rng(int(recipe.digest[:8], 16)).normal(size=recipe.parameter_count)
    params = initial_state(recipe, seed).params + shift * direction
    return network(recipe, seed)[0], params.astype(np.float32)
