"""The information probe's rows by class and kind: medians over networks with their intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from analysis.statistics.intervals import median_of
from protocol.errors import UsageError

Middle = tuple[float, float, float]  # median over networks and its 95% interval
ORDER = ("own", "curve", "transfer", "forgetting", "mixed", "initial")
FIELDS = (
    "reference_bits",
    "bits",
    "control_bits",
    "net_bits",
    "softened_bits",
    "softened_control_bits",
    "static_bits",
    "static_control_bits",
    "area_bits",
    "area_control_bits",
    "before_bits",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """One kind of row of one class."""

    name: str  # of the class
    kind: str
    examples: int
    networks: int
    uniform: float  # bits of the targets when nothing is known, mean
    bits: Mapping[str, Middle]  # by a column's name, see FIELDS

    @property
    def title(self) -> str:
        """For the page."""
        told = {
            "own": "as trained",
            "curve": f"saw {self.examples:,} samples only",
            "transfer": "layers on another task",
            "forgetting": "after another task",
            "mixed": "null: mixed labels",
            "initial": "null: untrained",
        }
        return told[self.kind]


def by_class(rows: pa.Table) -> list[Known]:
    """By class, kind and samples seen. Needs the catalogue's `class`. Raises UsageError: no rows of these networks."""
    groups: dict[tuple[str, int, int], list[dict[str, Any]]] = {}
    for row in rows.to_pylist():
        if row["class"] is not None:
            examples = row["examples"] if row["kind"] == "curve" else 0  # else it may differ from network to network
            groups.setdefault((row["class"], ORDER.index(row["kind"]), examples), []).append(row)
    if not groups:
        raise UsageError("The probe left no rows of these networks.")
    return [one_group(name, ORDER[at], groups[name, at, seen]) for name, at, seen in sorted(groups)]


def one_group(name: str, kind: str, rows: Sequence[Mapping[str, Any]]) -> Known:
    return Known(
        name=name,
        kind=kind,
        examples=round(float(np.median([row["examples"] for row in rows]))),
        networks=len({row["network"] for row in rows}),
        uniform=float(np.mean([row["uniform_bits"] for row in rows])),
        bits={field: median_of(rows, field) for field in FIELDS},
    )
