"""Run a probe over a zoo: all units that are not kept yet, in processes of this computer or on a Dask cluster.

    table = probe(open_zoo("zoo/"), "class = 'digits'", CorruptionSettings(radii=(0.01, 0.1)))

A script that asks for more than one process needs the usual guard, `if __name__ == "__main__":`, because each child
imports it. The rows do not depend on how many processes there are, nor on where they run.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import pyarrow as pa

from analysis.probes.contract import ProbeSettings, Unit
from analysis.probes.registry import probe_named
from analysis.probes.store import UnitFiles, default_folder, save, table_of
from analysis.probes.work import Done, Job, begin_worker, compute
from analysis.zoo import Zoo
from protocol.errors import AwayError, LibraryError, UsageError

Hear = Callable[[int, int], None]  # units that are done, in all
PLACE = ("id", "recipe", "seed", "shard", "row")


def probe(
    zoo: Zoo,
    where: str | None,
    settings: ProbeSettings,
    *,
    processes: int | None = None,
    dask: str | None = None,
    kept: Path | None = None,
    hear: Hear = lambda done, total: None,
) -> pa.Table:
    """Rows of every unit of these networks, and the same in `ZOO/probes/NAME.parquet`, in place of what was there.

    Where no unit gives a row, nothing is written: what an earlier run left stays.

    `processes`: None, one a core; 1, this process. `dask`: a scheduler's address; its workers see the zoo's directory.
    `kept`: where finished units are kept; None, the user's cache directory. Raises UsageError: no such network, nothing
    here for this probe, a damaged zoo, no such scheduler. KeyboardInterrupt leaves every finished unit kept.
    """
    chosen = probe_named(type(settings).probe)
    networks = zoo.table(where)
    if not networks.num_rows:
        raise UsageError(f"where {where!r}: no network is so; the zoo has {len(zoo):,}" if where else "an empty zoo")
    units = chosen.units(networks, zoo.recipes, settings)
    files = UnitFiles(kept or default_folder(), chosen, settings)
    done = {unit.key: found for unit in units if (found := files.get(unit.key))}
    hear(len(done), len(units))
    todo = jobs(zoo, networks, settings, [unit for unit in units if unit.key not in done])
    for one in on_dask(todo, dask) if dask else here(todo, processes or os.cpu_count() or 1):
        if not one.skipped:  # why may be gone the next time
            files.put(one)
        done[one.key] = one
        hear(len(done), len(units))
    table = table_of(chosen, settings, (done[unit.key] for unit in units), where)
    if table.num_rows:
        save(zoo.store.path, table)
    return table


def jobs(zoo: Zoo, networks: pa.Table, settings: ProbeSettings, units: list[Unit]) -> list[Job]:
    """Units with the places of their networks."""
    columns = [networks[name].to_pylist() for name in PLACE]
    places = {name: place for name, *place in zip(*columns, strict=True)}
    found = []
    for unit in units:
        recipes, seeds, shards, rows = zip(*(places[name] for name in unit.networks), strict=True)
        place = str(zoo.store.path.resolve())
        found.append(
            Job(zoo=place, settings=settings, unit=unit, recipes=recipes, seeds=seeds, shards=shards, rows=rows)
        )
    return found


def here(todo: list[Job], processes: int) -> Iterator[Done]:
    """As they are done. Children are ended when the caller stops listening."""
    processes = min(processes, len(todo))
    if processes <= 1:
        yield from map(compute, todo)
        return
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), begin_worker)
    finished = False
    try:
        for future in as_completed([pool.submit(compute, job) for job in todo]):
            yield future.result()
        finished = True
    finally:
        if not finished:
            for child in set(multiprocessing.active_children()) - before:
                child.terminate()  # a unit may last minutes
        pool.shutdown(cancel_futures=True)


def on_dask(todo: list[Job], address: str) -> Iterator[Done]:
    """As they are done. Raises UsageError: Dask is not installed, or there is no scheduler."""
    client = client_of(address)
    with client:
        from dask.distributed import as_completed as finished  # pyright: ignore[reportMissingImports]

        futures = client.map(compute, todo, pure=False)
        for _, one in finished(futures, with_results=True):
            yield one


def client_of(address: str) -> Any:
    """Raises UsageError."""
    try:
        from dask.distributed import Client  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise LibraryError("--dask needs Dask: pip install 'zooswarm[dask]'") from None
    try:
        return Client(address, timeout="10s")
    except (OSError, ValueError, TimeoutError) as error:
        raise AwayError(f"--dask {address}: no scheduler answers there: {str(error).splitlines()[0]}") from None
