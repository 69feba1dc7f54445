"""The attribution probe's rows by class: where correlations lie over the networks, and how they fall layer by layer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from analysis.statistics.intervals import median_interval
from protocol.errors import UsageError

Middle = tuple[float, float, float]  # median over networks and its 95% interval
CORRELATIONS = ("signed_z", "absolute_z", "signed_all", "absolute_all")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributed:
    """One class. Correlations of a network's attributions with those of fresh draws, and of another seed."""

    name: str
    networks: int
    fresh: dict[str, Middle]  # by CORRELATIONS
    second: Middle  # signed_z of another trained network; NaN where no recipe has two seeds
    gap: Middle  # second - fresh, signed_z: what the attributions know of training
    with_input: Middle
    cascade: list[tuple[int, Middle, Middle]]  # layer replaced last, signed_z and absolute_all, from the last layer on


def by_class(rows: pa.Table) -> list[Attributed]:
    """Classes by name. Needs the catalogue's column `class`. Raises UsageError: no rows of these networks."""
    known = [row for row in rows.to_pylist() if row["class"] is not None]
    if not known:
        raise UsageError("The probe left no rows of these networks.")
    return [one_class(name, [r for r in known if r["class"] == name]) for name in sorted({r["class"] for r in known})]


def one_class(name: str, rows: list[Mapping[str, Any]]) -> Attributed:
    fresh = [row for row in rows if row["compared"] == "fresh"]
    second = {row["network"]: row["signed_z"] for row in rows if row["compared"] == "second"}
    gaps = [second[row["network"]] - row["signed_z"] for row in fresh if row["network"] in second]
    cascade = [row for row in rows if row["compared"] == "cascade"]
    layers = sorted({row["layer"] for row in cascade}, reverse=True)
    steps = [(layer, [row for row in cascade if row["layer"] == layer]) for layer in layers]
    return Attributed(
        name=name,
        networks=len(fresh),
        fresh={key: middle([row[key] for row in fresh]) for key in CORRELATIONS},
        second=middle(list(second.values())),
        gap=middle(gaps),
        with_input=middle([row["with_input"] for row in fresh]),
        cascade=[
            (layer, middle([r["signed_z"] for r in some]), middle([r["absolute_all"] for r in some]))
            for layer, some in steps
        ],
    )


def middle(values: list[float]) -> Middle:
    found = np.array(values, np.float64)
    return median_interval(found[~np.isnan(found)])
