"""Zoos for `zoo.py` beside this file, written by the project's own writer: real shards, real manifests.

`large` holds random weights, as many as one likes in a minute; `trained` is trained here, by the C engine.
"""

from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.zoo.writer import ZooWriter
from protocol.canonical import hexdigest
from protocol.engine.select import select_engine
from protocol.engine.training import Boundary, train_networks
from protocol.recipes.campaign import Campaign
from protocol.recipes.recipe import Recipe
from protocol.trust.identity import Identity
from protocol.zoo.store import NetworkRow

BUNDLE = 16
SEEDS_AT_ONCE = 2000  # of each recipe, in one publish: two full shards
SEGMENTS_MAX = 60
WIDTH = 32  # networks trained together
HOSTS = [Identity(Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32)) for i in range(1, 41)]


def large(path: Path, campaign: Campaign, networks: int) -> None:
    """`networks` of the campaign's recipes with normal weights, published a few thousand at a time."""
    writer, rng, recipes = ZooWriter(path, HOSTS[0]), np.random.default_rng(0), campaign.recipes
    per_recipe = networks // len(recipes)
    for first in range(0, per_recipe, SEEDS_AT_ONCE):
        seeds = range(first, min(first + SEEDS_AT_ONCE, per_recipe))
        published, evidence = [], {}
        for recipe in recipes.values():
            weights_NP = rng.standard_normal((len(seeds), recipe.parameter_count), np.float32)
            for seed, params in zip(seeds, weights_NP, strict=True):
                losses = rng.random(int(rng.integers(2, SEGMENTS_MAX)), np.float32).tolist()
                row, proof = row_of(campaign, recipe, seed, losses, losses, 50 * len(losses))
                evidence[row.evidence] = proof
                published.append((row, params))
        writer.publish(published, recipes, evidence, {campaign.digest: campaign.exact})


def trained(path: Path, campaign: Campaign, threads: int) -> None:
    """Every network of the campaign, trained."""
    engine, published, evidence = select_engine("auto", threads=threads), [], {}
    for population in campaign.populations:
        recipe = population.recipe
        seeds = range(population.first_seed, population.first_seed + population.count)
        losses: dict[int, list[tuple[float, float]]] = {seed: [] for seed in seeds}
        last: dict[int, Boundary] = {}
        for seed, boundary in train_networks(engine, recipe, seeds, WIDTH):
            if boundary.step:
                losses[seed].append((boundary.loss, boundary.held_out_loss))
            last[seed] = boundary
        for seed, boundary in last.items():
            training, held_out = (list(values) for values in zip(*losses[seed], strict=True))
            row, proof = row_of(campaign, recipe, seed, training, held_out, boundary.step)
            evidence[row.evidence] = proof
            published.append((row, boundary.state.params))
    ZooWriter(path, HOSTS[0]).publish(published, campaign.recipes, evidence, {campaign.digest: campaign.exact})


def row_of(
    campaign: Campaign, recipe: Recipe, seed: int, training: list[float], held_out: list[float], steps: int
) -> tuple[NetworkRow, bytes]:
    """A row as the curator would write it, and what stands for its bundle's evidence, which nobody signed."""
    bundle = seed // BUNDLE
    proof = f"{recipe.digest} {bundle}".encode()
    host, *checkers = (HOSTS[(bundle + i) % len(HOSTS)].host for i in range(3))
    return NetworkRow(
        recipe=recipe.digest,
        seed=seed,
        campaign=campaign.digest,
        assignment=f"{campaign.digest[:16]}/{bundle}",
        steps=steps,
        held_out_loss=held_out[-1],
        training_losses=tuple(training),
        held_out_losses=tuple(held_out),
        host=host,
        checkers=tuple(checkers),
        checks_valid=2,
        cells_checked=8,
        credit=float(len(training)),
        state_digest=hexdigest(f"{recipe.digest} {seed}".encode()),
        evidence=hexdigest(proof),
        admitted_at=1.8e9 + seed,
    ), proof
