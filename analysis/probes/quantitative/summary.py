"""The quantitative probe's rows by class and property: a network counts once, by the mean over its inputs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from analysis.statistics.intervals import median_interval
from protocol.errors import UsageError

Middle = tuple[float, float, float]  # median over networks and its 95% interval
TWINS = ("trained", "initial", "mixed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failing:
    """One property of one class."""

    name: str  # of the class
    property: str  # with norm and radius, e.g. `l2 1.5`: another label in that ball
    networks: int
    p: Mapping[str, Middle]  # by twin: share of failures
    yes: Mapping[str, float]  # by twin: share of the questions that were answered yes
    no: Mapping[str, float]
    hardness: Mapping[str, Middle]  # by twin: radius; NaN where it was not asked
    samples: float  # mean draws of an answer, of the trained networks


def by_class(rows: pa.Table) -> list[Failing]:
    """By class, then property. Needs the catalogue's column `class`. Raises UsageError: no rows of these networks."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows.to_pylist():
        if row["class"] is not None:
            groups.setdefault((row["class"], called(row)), []).append(row)
    if not groups:
        raise UsageError("The probe left no rows of these networks.")
    return [one_group(*key, groups[key]) for key in sorted(groups)]


def called(row: Mapping[str, Any]) -> str:
    """A property's name, with what tells it from others."""
    radius = f"{row['radius']:g}"
    if row["property"] == "robust":
        return f"{row['norm']} {radius}"
    told = {"trojan": "trigger", "elsewhere": "trigger, moved", "pin": "pin", "sequence": "whole sequence"}
    noise = f", noise {radius}" if row["radius"] and row["property"] in ("pin", "sequence") else ""
    return told[row["property"]] + noise


def one_group(name: str, called_so: str, rows: Sequence[Mapping[str, Any]]) -> Failing:
    of_twin = {twin: [row for row in rows if row["weights"] == twin] for twin in TWINS}
    of_twin = {twin: some for twin, some in of_twin.items() if some}

    def share(some: Sequence[Mapping[str, Any]], answer: str) -> float:
        return float(np.mean([row["answer"] == answer for row in some]))

    return Failing(
        name=name,
        property=called_so,
        networks=len({row["network"] for row in of_twin.get("trained", [])}),
        p={twin: over_networks(some, lambda row: row["p"]) for twin, some in of_twin.items()},
        yes={twin: share(some, "yes") for twin, some in of_twin.items()},
        no={twin: share(some, "no") for twin, some in of_twin.items()},
        hardness={twin: over_networks(some, lambda row: row["hardness_low"]) for twin, some in of_twin.items()},
        samples=float(np.mean([row["samples"] for row in of_twin.get("trained", [])] or [np.nan])),
    )


def over_networks(rows: Sequence[Mapping[str, Any]], value: Callable[[Mapping[str, Any]], float]) -> Middle:
    """Median over networks of each one's mean."""
    of: dict[str, list[float]] = {}
    for row in rows:
        of.setdefault(row["network"], []).append(value(row))
    means = np.array([np.mean(values) for values in of.values()])
    return median_interval(means[~np.isnan(means)])
