"""The corruption probe's rows by class: medians with their intervals. Axes: C networks of a class."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from analysis.statistics.intervals import median_interval, median_of
from protocol.errors import UsageError

ALL = "all"  # layers together; of `probe`, but a page is drawn without torch
Middle = tuple[float, float, float]  # median and its 95% interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrupted:
    """One class at one radius. Gains are of the held-out loss."""

    name: str
    networks: int
    rho: float
    score: Middle  # without a change
    halving: Middle  # inf where no change up to ten times the weights halves it
    one_step: Middle
    multi_step: Middle
    random_max: Middle
    linear: Middle  # share of the one-step gain that the gradient alone foretells
    initial: Middle  # multi-step gain of the same networks before training


def by_class(rows: pa.Table, rho: float | None = None) -> list[Corrupted]:
    """Classes by name, at one radius (default: the middle one of the rows). Needs the catalogue's column `class`.

    Raises UsageError: no rows of these networks, or no such radius.
    """
    together = [row for row in rows.to_pylist() if row["layer"] == ALL and row["class"] is not None]
    radii = sorted({row["rho"] for row in together})
    if not radii:
        raise UsageError("The probe left no rows of these networks.")
    chosen = radii[len(radii) // 2] if rho is None else rho
    if chosen not in radii:
        raise UsageError(f"no rows with rho = {chosen}; radii: {radii}")
    at = [row for row in together if row["rho"] == chosen]
    return [one_class(name, at, chosen) for name in sorted({row["class"] for row in at})]


def one_class(name: str, rows: list[Mapping[str, Any]], rho: float) -> Corrupted:
    """Rows of one radius."""
    mine = [row for row in rows if row["class"] == name]
    trained, initial = ([row for row in mine if row["weights"] == weights] for weights in ("trained", "initial"))
    linear = [row["first_order"] / row["one_step"] for row in trained if row["one_step"] > 0]
    return Corrupted(
        name=name,
        networks=len(trained),
        rho=rho,
        linear=median_interval(np.array(linear)),
        initial=median_of(initial, "multi_step"),
        **{key: median_of(trained, key) for key in ("score", "halving", "one_step", "multi_step", "random_max")},
    )
