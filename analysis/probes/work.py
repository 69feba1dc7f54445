"""One unit of a probe, computed in whichever process has it: this one, a child, or a worker of a Dask cluster."""

import signal
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from analysis.probes.contract import Inputs, Probe, ProbeSettings, Row, Unit, plain
from analysis.probes.registry import probe_named
from protocol.errors import UsageError
from protocol.zoo.store import Store, open_store


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A unit, and where its networks are. It can be pickled."""

    zoo: str  # a directory that every worker must see
    settings: ProbeSettings
    unit: Unit
    recipes: tuple[str, ...]  # digests, one a network
    seeds: tuple[int, ...]
    shards: tuple[str, ...]
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What became of a unit: rows, or why there are none."""

    key: str
    rows: list[Row]
    seconds: float  # wall time
    skipped: str = ""


def compute(job: Job) -> Done:
    """Raises LookupError, TypeError: the probe's own mistake. What a unit cannot give is told in `Done.skipped`."""
    began, chosen = time.perf_counter(), probe_named(type(job.settings).probe)
    one_thread()
    try:
        rows = [checked(chosen, row) for row in chosen.rows(inputs_of(job), job.settings)]
    except UsageError as error:
        return Done(key=job.unit.key, rows=[], seconds=time.perf_counter() - began, skipped=str(error))
    return Done(key=job.unit.key, rows=rows, seconds=time.perf_counter() - began)


def inputs_of(job: Job) -> Inputs:
    """Raises UsageError: a file of the zoo is damaged or gone."""
    store = opened(job.zoo)
    weights = tuple(store.gather([shard], np.array([row]))[0] for shard, row in zip(job.shards, job.rows, strict=True))
    recipes = tuple(store.recipes[digest] for digest in job.recipes)
    return Inputs(unit=job.unit, recipes=recipes, seeds=job.seeds, weights=weights, shelf=store.shelf)


@lru_cache(maxsize=2)
def opened(path: str) -> Store:
    return open_store(path)


def checked(probe: Probe[Any], row: Row) -> Row:
    """The row with plain values. Raises LookupError: a column that the probe does not declare, or no network."""
    unknown = row.keys() - probe.columns.keys() - {"network"}
    if unknown or "network" not in row:
        raise LookupError(f"probe {probe.name}: a row has {sorted(unknown) or 'no network'}; see its `columns`")
    return {name: plain(value) for name, value in row.items()}


def begin_worker() -> None:
    """In a child process: Ctrl-C is the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def one_thread() -> None:
    """Units run side by side, and a sum on one thread has one order."""
    import torch

    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)
