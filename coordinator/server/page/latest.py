"""The networks that were published last, with their losses: from the zoo's newest catalogue files."""

import math
from pathlib import Path
from typing import Any

from protocol.page.state import CURVE_POINTS_MAX, NETWORKS_MAX, Network
from protocol.zoo.catalogue import read_part
from protocol.zoo.manifests import ZooManifest, latest_manifest, manifest_numbers
from protocol.zoo.store import part_path

ROWS_READ_MAX = 20_000  # a part of more rows is old, nearly always: the newest networks are in small ones
COLUMNS = ["id", "class", "seed", "steps", "held_out_loss", "host", "admitted_at", "training_losses", "held_out_losses"]


class Latest:
    """Looks when there is a new manifest."""

    def __init__(self, zoo: Path):
        self._zoo = zoo
        self._number, self._networks = -1, list[Network]()

    def networks(self) -> list[Network]:
        """The last first. Raises UsageError: a damaged catalogue."""
        number = max(manifest_numbers(self._zoo), default=0)
        if number != self._number:
            manifest = latest_manifest(self._zoo)
            self._networks = newest(self._zoo, manifest) if manifest else []
            self._number = number
        return self._networks

    @property
    def manifest(self) -> int:
        """The number of the one that was looked at."""
        return max(0, self._number)


def newest(zoo: Path, manifest: ZooManifest) -> list[Network]:
    """Of the catalogue's last files, as many rows as needed. Raises UsageError."""
    rows: list[dict[str, Any]] = []
    for part in reversed(manifest.catalogue):
        if part.rows > ROWS_READ_MAX or len(rows) >= NETWORKS_MAX:
            break
        table = read_part(part_path(zoo, part.digest), COLUMNS)
        rows += table.sort_by([("admitted_at", "descending")]).slice(0, NETWORKS_MAX).to_pylist()
    rows.sort(key=lambda row: (row["admitted_at"], row["id"]), reverse=True)
    return [
        Network(
            id=row["id"],
            label=row["class"],
            seed=row["seed"],
            steps=row["steps"],
            loss=finite(row["held_out_loss"]),
            host=row["host"],
            at=row["admitted_at"].timestamp(),
            training=thinned(row["training_losses"] or []),
            held_out=thinned(row["held_out_losses"] or []),
        )
        for row in rows[:NETWORKS_MAX]
    ]


def thinned(losses: list[float | None]) -> list[float | None]:
    """At most CURVE_POINTS_MAX of them, evenly, the first and the last among them."""
    if len(losses) > CURVE_POINTS_MAX:
        last = len(losses) - 1
        losses = [losses[round(i * last / (CURVE_POINTS_MAX - 1))] for i in range(CURVE_POINTS_MAX)]
    return [finite(loss) for loss in losses]


def finite(value: float | None) -> float | None:
    """Four digits are enough for a curve."""
    return float(f"{value:.4g}") if value is not None and math.isfinite(value) else None
