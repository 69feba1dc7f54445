"""Where probes leave their rows, beside the zoo's own files: `ZOO/probes/NAME.parquet`, whole or absent.

These files are the analyst's own: no manifest names them, `pull` does not copy them, and removing them is harmless.
"""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from protocol.canonical import hexdigest
from protocol.errors import DamageError, FileError, UsageError

FOLDER = "probes"
NAME = re.compile(r"[a-z][a-z0-9_]*\Z")  # also a name in SQL
KEY = b"zooswarm.probe"  # of the table's metadata


class Origin(NamedTuple):
    """How a table of rows was made."""

    probe: str
    version: int
    settings: dict[str, Any]
    skipped: dict[str, int]  # reason -> how many units gave no rows
    where: str | None = None  # which networks were asked about


def probe_path(zoo: Path, name: str) -> Path:
    """Raises UsageError: not a probe's name."""
    if not NAME.match(name):
        raise UsageError(f"{name!r}: a probe's name has small letters, digits and _ only")
    return zoo / FOLDER / f"{name}.parquet"


def probe_names(zoo: Path) -> list[str]:
    """Of the probes that left rows here."""
    return sorted(path.stem for path in (zoo / FOLDER).glob("*.parquet") if NAME.match(path.stem) and path.is_file())


def read_probe(zoo: Path, name: str) -> pa.Table:
    """The rows, with their origin in the metadata. Raises UsageError: there are none, or the file is damaged."""
    path = probe_path(zoo, name)
    if not path.exists():
        there = ", ".join(probe_names(zoo)) or "none"
        raise FileError(f"{path}: no rows of this probe yet (there: {there}); zooswarm probe {zoo} --probe {name}")
    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError):
        raise DamageError(f"{path}: damaged; remove it and run the probe again (what it computed is kept)") from None


def probe_digest(zoo: Path, name: str) -> str:
    """SHA-256 of the file; empty where there is none."""
    path = probe_path(zoo, name)
    return hexdigest(path.read_bytes()) if path.exists() else ""


def with_origin(table: pa.Table, origin: Origin) -> pa.Table:
    return table.replace_schema_metadata({KEY: json.dumps(origin._asdict(), sort_keys=True).encode()})


def origin_of(table: pa.Table) -> Origin | None:
    """None: no probe made this table, or it lacks what we read; fields that another version adds are left out."""
    try:
        told = json.loads((table.schema.metadata or {}).get(KEY, b""))
        return Origin(**{name: told[name] for name in Origin._fields if name in told})
    except (ValueError, TypeError):  # nothing there, no JSON, no object, or a field is missing
        return None
