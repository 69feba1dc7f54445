"""What probes leave: a small file for each unit that is done, and one table a probe beside the zoo.

The small files lie in the user's cache directory (`ZOOSWARM_HOME` moves it) under probe, version, settings and the
unit's key, so nothing goes stale, a run that was stopped goes on, and deleting all of it is harmless.
"""

import contextlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from analysis.catalogue.probe_tables import Origin, origin_of, probe_path, with_origin
from analysis.probes.contract import Probe, ProbeSettings, Row
from analysis.probes.work import Done
from protocol.errors import DiskError
from protocol.files import cache_directory, whole_or_absent, write_atomic


class UnitFiles:
    """Finished units of one probe and settings. A folder that cannot be written is no error: nothing is kept."""

    def __init__(self, folder: Path, probe: Probe[Any], settings: ProbeSettings):
        self.folder = folder / f"{probe.name}-{probe.version}-{settings.digest[:16]}"

    def get(self, key: str) -> Done | None:
        with contextlib.suppress(OSError, ValueError, TypeError):
            return Done(**json.loads(self._path(key).read_bytes()))
        return None

    def put(self, done: Done) -> None:
        with contextlib.suppress(OSError):
            write_atomic(self._path(done.key), json.dumps(asdict(done)).encode())

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def default_folder() -> Path:
    return cache_directory() / "probes"


def table_of(probe: Probe[Any], settings: ProbeSettings, units: Iterable[Done], where: str | None = None) -> pa.Table:
    """Rows in the units' order: network, the probe's columns, `unit` (key, 16 digits), `seconds` (of its unit)."""
    rows: list[Row] = []
    skipped: dict[str, int] = {}
    for done in units:
        if done.skipped:
            skipped[done.skipped] = skipped.get(done.skipped, 0) + 1
        rows += [row | {"unit": done.key[:16], "seconds": done.seconds} for row in done.rows]
    names = ["network", *probe.columns, "unit", "seconds"]
    table = pa.table({name: column([row.get(name) for row in rows]) for name in names})
    told = Origin(probe=probe.name, version=probe.version, settings=asdict(settings), skipped=skipped, where=where)
    return with_origin(table, told)


def column(values: list[Any]) -> pa.Array:
    """Of one type; whole numbers among others become float64, and a value that a row does not have is null."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        values = [None if value is None else float(value) for value in values]
    arrow = {bool: pa.bool_(), int: pa.int64(), str: pa.string()}
    return pa.array(values, arrow[kinds.pop()] if len(kinds) == 1 and kinds <= arrow.keys() else pa.float64())


def save(zoo: Path, table: pa.Table) -> Path:
    """Write a probe's table into the zoo's directory, in place of the one that was there. Raises UsageError."""
    origin = origin_of(table)
    assert origin is not None, "a table without origin was made by no probe"
    path = probe_path(zoo, origin.probe)
    try:
        with whole_or_absent(path) as partial:
            pq.write_table(table, partial, compression="zstd")
    except OSError as error:
        raise DiskError(f"{path}: cannot write the rows: {error.strerror or error}") from None
    return path
