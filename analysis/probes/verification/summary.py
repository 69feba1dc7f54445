"""The verification probe's rows by class: medians over networks with their intervals."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from analysis.statistics.intervals import median_of
from protocol.errors import UsageError

Middle = tuple[float, float, float]  # median and its 95% interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """One class at one eps. Radii and eps are shares of the inputs' range."""

    name: str
    networks: int
    eps: float
    accuracy: Middle
    verified_accuracy: Middle  # right, and provably so in the whole box
    attack_accuracy: Middle  # right, and nothing found against it
    unknown: Middle
    unstable: Middle  # NaN where no unit bends
    radius: Middle
    attack_radius: Middle
    initial_radius: Middle  # of the same networks before training
    initial_attack_radius: Middle
    seconds: Middle  # a network with its twin


def by_class(rows: pa.Table, eps: float | None = None) -> list[Verified]:
    """Classes by name, at one eps (default: the middle one of the rows). Needs the catalogue's column `class`.

    Raises UsageError: no rows of these networks, or no such eps.
    """
    every = [row for row in rows.to_pylist() if row["class"] is not None]
    known = sorted({row["eps"] for row in every})
    if not known:
        raise UsageError("The probe left no rows of these networks.")
    chosen = known[len(known) // 2] if eps is None else eps
    if chosen not in known:
        raise UsageError(f"no rows with eps = {chosen}; there are {known}")
    at = [row for row in every if row["eps"] == chosen]
    return [one_class(name, at, chosen) for name in sorted({row["class"] for row in at})]


def one_class(name: str, rows: list[Mapping[str, Any]], eps: float) -> Verified:
    """Rows of one eps."""
    mine = [row for row in rows if row["class"] == name]
    trained, initial = ([row for row in mine if row["weights"] == weights] for weights in ("trained", "initial"))
    same = (
        "accuracy",
        "verified_accuracy",
        "attack_accuracy",
        "unknown",
        "unstable",
        "radius",
        "attack_radius",
        "seconds",
    )
    return Verified(
        name=name,
        networks=len(trained),
        eps=eps,
        initial_radius=median_of(initial, "radius"),
        initial_attack_radius=median_of(initial, "attack_radius"),
        **{key: median_of(trained, key) for key in same},
    )
