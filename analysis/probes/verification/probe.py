"""Rows of the verification probe: a trained network and the same before training, at several radii."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pyarrow as pa

from analysis.probes.contract import Inputs, Probe, ProbeSettings, Row, Unit, units_of_networks
from analysis.probes.samples import held_out, middle
from analysis.probes.verification.network.build import chain_of
from analysis.probes.verification.question import forward_of
from analysis.probes.verification.radius import Asked, Radii, at_radius, own_answer, radii
from analysis.probes.verification.verify import Effort, Status
from protocol.errors import UsageError
from protocol.recipes.recipe import Recipe

PIXEL = 1 / 255


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationSettings(ProbeSettings):
    probe: ClassVar[str] = "verification"
    limits: ClassVar[Mapping[str, tuple[float, float]]] = {
        "bisections": (0, math.inf),
        "alpha_steps": (0, math.inf),
        "parts": (0, math.inf),
        "long_blocks": (0, math.inf),
    }

    eps: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0)  # in 255ths of the inputs' range
    samples: int = 12  # the first held-out ones
    cap: float = 64.0  # radii are certified up to this, attacked up to twice this, in 255ths of the range
    bisections: int = 8
    tolerance: float = 0.1  # values: an answer stays within this many deviations of the held-out targets
    attack_steps: int = 20
    restarts: int = 3
    alpha_steps: int = 10  # for what CROWN leaves at each eps; the radii are CROWN's
    parts: int = 64  # of branch and bound, a row that is left then
    blocks_max: int = 300  # a longer chain is skipped: a recurrent layer has up to 5 blocks a time step
    long_blocks: int = 100  # a longer one is asked around fewer samples, by CROWN alone, at the radii `eps` alone
    long_samples: int = 2
    initial: bool = True  # also the same network before training


@dataclass(frozen=True, eq=False, kw_only=True)
class Around:
    """Samples of a network's task, and how its inputs range."""

    points_Sn: np.ndarray
    targets_S: np.ndarray  # (S, ...) as in TaskData
    least: float
    most: float
    deviation: float  # of all held-out targets

    def first(self, count: int) -> "Around":
        return replace(self, points_Sn=self.points_Sn[:count], targets_S=self.targets_S[:count])


class Verification(Probe[VerificationSettings]):
    name, version, title = "verification", 3, "How far may inputs move before the answer can change?"
    settings = VerificationSettings
    columns: ClassVar[Mapping[str, str]] = {
        "weights": "trained, or initial: the same network before training",
        "eps": "radius in every input, as a share of the inputs' range; the rows of a network differ in it",
        "samples": "held-out samples around which was asked",
        "accuracy": "share of them that the network answers rightly (values: within the tolerance)",
        "verified": "share whose answer provably stays",
        "falsified": "share with a witness that changes it",
        "unknown": "share with neither, within the budget",
        "verified_accuracy": "share answered rightly whose answer provably stays",
        "attack_accuracy": "share answered rightly for which the attack found nothing",
        "unstable": "share of the units that bend whose side is not known there; null: no unit bends",
        "gap": "mean of the attack's least margin minus CROWN's bound on it, in the outputs' unit",
        "radius": "mean certified radius, as a share of the range; the same in all rows of a network",
        "radius_median": "median of it",
        "attack_radius": "mean distance of the nearest point found that changes the answer; 2 caps where none was",
        "attack_found": "share of the samples for which one was found",
    }

    def units(self, table: pa.Table, recipes: Mapping[str, Recipe], settings: VerificationSettings) -> list[Unit]:
        return units_of_networks(table)

    def rows(self, inputs: Inputs, settings: VerificationSettings) -> list[Row]:
        recipe = inputs.recipes[0]
        around = samples_around(recipe, inputs, settings.samples)
        found = []
        kinds = (("trained", inputs.weights[0]), ("initial", inputs.initial()))
        for weights, flat in kinds if settings.initial else kinds[:1]:
            told = {"network": inputs.networks[0], "weights": weights}
            measured = radius_rows(recipe, flat, around, settings, inputs.rng(weights))
            found += [told | row for row in measured]
        return found


def samples_around(recipe: Recipe, inputs: Inputs, count: int) -> Around:
    """The first held-out samples, and the range of all of them."""
    every = held_out(recipe, inputs.data())
    points, targets = every.inputs.numpy(), every.targets.numpy()
    least, most = float(points.min()), float(points.max())
    if least == most:
        raise UsageError("all inputs are the same number: there is no range to measure a radius in")
    flat = points[:count].reshape(min(count, len(points)), -1)
    return Around(
        points_Sn=flat,
        targets_S=targets[:count],
        least=least,
        most=most,
        deviation=float(np.std(targets.astype(float))),
    )


def radius_rows(
    recipe: Recipe, params_P: np.ndarray, around: Around, settings: VerificationSettings, rng: np.random.Generator
) -> list[Row]:
    """A row an eps. Raises UsageError: a layer without bounds, or too long a chain."""
    chain, forward = chain_of(recipe, params_P), forward_of(recipe, params_P)
    if len(chain.blocks) > settings.blocks_max:
        raise UsageError(f"a chain of {len(chain.blocks)} blocks; blocks_max is {settings.blocks_max}")
    long = len(chain.blocks) > settings.long_blocks
    around = around.first(settings.long_samples) if long else around
    kind, tolerance = recipe.task_shape.target, settings.tolerance * around.deviation
    outputs_Sm = forward(around.points_Sn)
    asked = Asked(
        chain=chain,
        forward=forward,
        points_Sn=around.points_Sn,
        rows=tuple(own_answer(kind, outputs_m, tolerance, middle(recipe)) for outputs_m in outputs_Sm),
        least=around.least,
        most=around.most,
    )
    lines = Effort(attack_steps=settings.attack_steps, restarts=settings.restarts, alpha_steps=0)
    among = [eps * PIXEL for eps in settings.eps] if long else ()
    known = radii(asked, lines, cap=settings.cap * PIXEL, steps=settings.bisections, rng=rng, among=among)
    effort = Effort(
        attack_steps=settings.attack_steps,
        restarts=settings.restarts,
        alpha_steps=settings.alpha_steps,
        parts=settings.parts,
        seconds=float("inf"),  # a clock would make rows depend on the machine
    )
    right_S = answered_rightly(recipe, outputs_Sm, around.targets_S, tolerance)
    told = in_all(known, right_S, settings)
    return [told | at_eps(asked, known, effort, eps * PIXEL, right_S, rng, not long) for eps in settings.eps]


def in_all(known: Radii, right_S: np.ndarray, settings: VerificationSettings) -> Row:
    """What does not depend on the radius that is asked for."""
    seen_S = np.isfinite(known.attack_S)
    return {
        "samples": len(right_S),
        "accuracy": float(right_S.mean()),
        "radius": float(known.certified_S.mean()),
        "radius_median": float(np.median(known.certified_S)),
        "attack_radius": float(np.where(seen_S, known.attack_S, 2 * settings.cap * PIXEL).mean()),
        "attack_found": float(seen_S.mean()),
    }


def at_eps(
    asked: Asked, known: Radii, effort: Effort, eps: float, right_S: np.ndarray, rng: np.random.Generator, further: bool
) -> Row:
    found = at_radius(asked, known, effort, eps, rng, further)
    shares = {status: np.array([one is status for one in found.statuses]) for status in Status}
    row: Row = {
        "eps": eps,
        "verified": float(shares[Status.VERIFIED].mean()),
        "falsified": float(shares[Status.FALSIFIED].mean()),
        "unknown": float((shares[Status.UNKNOWN] | shares[Status.TIMEOUT]).mean()),
        "verified_accuracy": float((right_S & shares[Status.VERIFIED]).mean()),
        "attack_accuracy": float((right_S & ~shares[Status.FALSIFIED]).mean()),
        "gap": found.gap,
    }
    return row if found.unstable is None else row | {"unstable": found.unstable}


def answered_rightly(recipe: Recipe, outputs_Sm: np.ndarray, targets: np.ndarray, tolerance: float) -> np.ndarray:
    """(S,) bool: every target of a sample is met."""
    flat = targets.reshape(len(targets), -1)
    if recipe.task_shape.target == "classes":
        return outputs_Sm.argmax(1) == flat[:, 0]
    if recipe.task_shape.target == "pins":
        return np.all((outputs_Sm > middle(recipe)) == (flat > 0.5), axis=1)
    return np.all(np.abs(outputs_Sm - flat) <= tolerance, axis=1)
