"""Networks as the curator would publish them, without training any."""

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.zoo.writer import ZooWriter
from protocol.canonical import canonical_json, hexdigest
from protocol.recipes.layers import Gru, Linear
from protocol.recipes.recipe import Network, Recipe, Training
from protocol.tasks.kinds import MachineTask
from protocol.trust.identity import Identity
from protocol.zoo.store import NetworkRow

CAMPAIGN = canonical_json({"name": "first-zoo", "licence": "CC-BY-4.0", "citation": "Doe 2026"})
EVIDENCE = b"signed by somebody"
ORGANIZER = Identity(Ed25519PrivateKey.from_private_bytes(bytes(32)))  # one key, so that zoos are equal


def recipe_of(label: str) -> Recipe:
    return Recipe(
        name=f"gru-{label}",
        label=label,
        task=MachineTask(machine=label, length=4, sequences=8, held_out=4),
        network=Network(layers=(Gru(width=3), Linear(width=20))),
        training=Training(learning_rate=0.01, batch=4, max_steps=100),
    )


PARITY, ADDER = recipe_of("parity"), recipe_of("adder")


def network(recipe: Recipe, seed: int) -> tuple[NetworkRow, np.ndarray]:
    """A row as the curator would write it, and weights that depend on recipe and seed."""
    rng = np.random.default_rng([int(recipe.digest[:8], 16), seed])
    return NetworkRow(
        recipe=recipe.digest,
        seed=seed,
        campaign=hexdigest(CAMPAIGN),
        assignment="a1",
        steps=100,
        held_out_loss=0.25,
        training_losses=(0.5, 0.3),
        held_out_losses=(0.4, 0.25),
        host="alice",
        checkers=("bob", "carol"),
        checks_valid=2,
        cells_checked=8,
        credit=2.0,
        state_digest="5" * 64,
        evidence=hexdigest(EVIDENCE),
        admitted_at=1_700_000_000.0,
    ), rng.normal(size=recipe.parameter_count).astype(np.float32)


def publish(writer: ZooWriter, *networks) -> int:
    recipes = {recipe.digest: recipe for recipe in (PARITY, ADDER)}
    return writer.publish(networks, recipes, {hexdigest(EVIDENCE): EVIDENCE}, {hexdigest(CAMPAIGN): CAMPAIGN})
