"""From an admitted bundle's evidence and weights to the zoo: proved as any stranger would, then written.

`Press` does it in the caller's process; `ProcessPress` has one in a process of its own, so that hashing and writing
take no time from those who answer calls. Bytes go in, and what became of each bundle comes out.
"""

import errno
import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np

from coordinator.zoo.writer import ZooWriter
from protocol.canonical import hexdigest
from protocol.errors import Refused, UsageError
from protocol.recipes.campaign import Campaign, campaign_from_bytes
from protocol.recipes.recipe import Recipe
from protocol.trust.challenge import BeaconChains, SlotTask
from protocol.trust.envelope import PROVED
from protocol.trust.evidence import evidence_from_bytes, verify_evidence
from protocol.trust.identity import Identity
from protocol.trust.spot_check import open_weights
from protocol.trust.verdict import segments_of
from protocol.zoo.store import NetworkRow

NICE = 10  # who answers calls comes first: what is printed can wait for seconds, and comes many bundles at a time
CAMPAIGNS_KEPT = 64  # parsed ones; as many as a directory may have

Rows = list[tuple[NetworkRow, np.ndarray]]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One admitted bundle."""

    result: bytes
    campaign: str
    evidence: bytes
    weights: bytes
    admitted_at: float
    proved: tuple[bytes, ...] = ()  # proofs of signatures in the evidence that our own host verified, or made


class Printed(msgspec.Struct, frozen=True, kw_only=True):
    networks: int = 0
    done: dict[bytes, str] = {}  # result -> digest of its evidence
    unusable: dict[bytes, str] = {}  # result -> why


class Printer(Protocol):
    def publish(self, jobs: Sequence[Job], campaigns: Mapping[str, bytes], data: Mapping[str, Path]) -> Printed:
        """Publish bundles; those that do not prove themselves are named. Raises OSError: nothing was published."""
        ...

    def close(self) -> None: ...


class Press:
    """In the caller's process."""

    def __init__(self, writer: ZooWriter):
        self.writer = writer
        self._chains = BeaconChains()
        self._campaigns: dict[str, Campaign] = {}

    def publish(self, jobs: Sequence[Job], campaigns: Mapping[str, bytes], data: Mapping[str, Path]) -> Printed:
        rows: Rows = []
        recipes: dict[str, Recipe] = {}
        evidence: dict[str, bytes] = {}
        done: dict[bytes, str] = {}
        unusable: dict[bytes, str] = {}
        for job in jobs:
            try:
                bundle, recipe = self.rows(job, campaigns[job.campaign])
            except Refused as error:
                unusable[job.result] = str(error)
                continue
            rows += bundle
            recipes[recipe.digest] = recipe
            done[job.result] = hexdigest(job.evidence)
            evidence[done[job.result]] = job.evidence
        if done:
            self._write(rows, recipes, evidence, campaigns, data)
        return Printed(networks=len(rows), done=done, unusable=unusable)

    def close(self) -> None:
        pass

    def _write(
        self,
        rows: Rows,
        recipes: dict[str, Recipe],
        evidence: dict[str, bytes],
        campaigns: Mapping[str, bytes],
        data: Mapping[str, Path],
    ) -> None:
        named = {row.campaign for row, _ in rows}
        exact = {digest: campaigns[digest] for digest in named}
        wanted = {recipe.data_set for recipe in recipes.values()}
        try:
            self.writer.publish(rows, recipes, evidence, exact, {d: path for d, path in data.items() if d in wanted})
        except UsageError as error:
            raise OSError(errno.EIO, str(error)) from None
        except OSError as error:  # a full disk does not say which case it was
            place = str(error.filename or self.writer.path)
            raise OSError(error.errno, f"cannot write the zoo: {error.strerror or error}", place) from None

    def rows(self, job: Job, exact: bytes) -> tuple[Rows, Recipe]:
        """A bundle's rows, verified as any stranger would first. Raises Refused."""
        campaign = self._campaign(job.campaign, exact)
        PROVED.add(job.proved)  # they hold for these very bytes alone: what the ledger's disk has changed is verified
        evidence = evidence_from_bytes(job.evidence)
        verified = verify_evidence(evidence, campaign, self._chains, self.writer.identity.host)
        result = verified.result
        assignment = campaign.assignment(result.assignment)
        segments = segments_of(assignment.recipe, result)
        weights = open_weights(assignment.recipe, job.weights, len(segments))
        rows: Rows = []
        looked = slots_that_looked(verified.tasks, len(segments))
        for i, (network, trace) in enumerate(zip(result.networks, verified.traces, strict=True)):
            if hexdigest(np.asarray(weights[i], "<f4").tobytes()) != network.weights_digest.hex():
                raise Refused("weights-digest", f"seed {network.seed}: not the weights that were committed to")
            row = NetworkRow(
                recipe=assignment.recipe.digest,
                seed=network.seed,
                campaign=campaign.digest,
                assignment=f"{campaign.digest[:16]}/{assignment.index}",
                steps=network.steps,
                held_out_loss=network.held_out_loss,
                training_losses=tuple(leaf.loss for leaf in trace[1:]),
                held_out_losses=tuple(leaf.held_out_loss for leaf in trace[1:]),
                host=verified.worker,
                checkers=verified.checkers[network.seed],
                checks_valid=looked[i],
                cells_checked=verified.cells[network.seed],
                credit=float(segments[i]),
                state_digest=trace[-1].state_digest.hex(),
                evidence=hexdigest(job.evidence),
                admitted_at=job.admitted_at,
            )
            rows.append((row, weights[i]))
        return rows, assignment.recipe

    def _campaign(self, digest: str, exact: bytes) -> Campaign:
        """Parsed once."""
        if digest not in self._campaigns:
            if len(self._campaigns) >= CAMPAIGNS_KEPT:
                self._campaigns.clear()
            self._campaigns[digest] = campaign_from_bytes(exact)
        return self._campaigns[digest]


def slots_that_looked(tasks: Sequence[SlotTask], networks: int) -> list[int]:
    """How many slots looked at each network: all of them agreed in the end, or it were not admitted."""
    counts = [0] * networks
    for task in tasks:
        for network in {*task.networks, *(cell.network for cell in task.cells)}:
            counts[network] += 1
    return counts


# -- a process of its own ---------------------------------------------------------------------------------------------


class ProcessPress:
    """A press in another process, started when it is first needed and again when it was killed."""

    def __init__(self, zoo: Path, identity: Path):
        self._begin = zoo, identity
        self._pool: ProcessPoolExecutor | None = None

    def publish(self, jobs: Sequence[Job], campaigns: Mapping[str, bytes], data: Mapping[str, Path]) -> Printed:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")  # we have threads, so no fork
            self._pool = ProcessPoolExecutor(1, context, initializer=begin, initargs=self._begin)
        try:
            return self._pool.submit(publish, list(jobs), dict(campaigns), dict(data)).result()
        except BrokenProcessPool:
            self.close()
            raise OSError(errno.ECHILD, "the process that writes the zoo was killed; it is started again") from None

    def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)


_press: Press | None = None  # of this process


def begin(zoo: Path, identity: Path) -> None:
    """In the new process. It reads the key itself; Ctrl-C is for its parent, and it ends when that does."""
    global _press
    if hasattr(os, "nice"):
        os.nice(NICE)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), name="parent", daemon=True).start()
    _press = Press(ZooWriter(zoo, Identity.load_or_create(identity)))


def publish(jobs: list[Job], campaigns: dict[str, bytes], data: dict[str, Path]) -> Printed:
    assert _press is not None
    return _press.publish(jobs, campaigns, data)
