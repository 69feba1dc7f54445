"""The organizer trains networks of admitted bundles again, from recipe and seed, and judges who vouched for a fake.

Some at a time, in threads of low priority. What is owed stands in the ledger (`policy.auditing`), so a restart forgets
nothing; whatever is found is confirmed by the NumPy reference before anybody falls for it.
"""

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path

import msgspec
from sqlalchemy import select

from coordinator.checking.cases import ResultCase
from coordinator.checking.effects import Effects
from coordinator.checking.own_checks import Engines
from coordinator.checking.retraining import NotExact, Retrained, Stopped, confirm, first_difference, retrain
from coordinator.checking.stores import Stores
from coordinator.ledger.audits import (
    WORKER,
    convict_vouchers,
    pass_audit,
    read_answers,
    read_owed,
    store_proof,
)
from coordinator.ledger.database import LedgerUnavailable, unhurried
from coordinator.ledger.facts import read_convicted
from coordinator.ledger.settlement import Sign, settle_result
from coordinator.ledger.tables import results
from coordinator.policy.auditing import (
    SUSPECT_NETWORKS_MAX,
    Audit,
    OwedAudit,
    draw_networks,
    next_audits,
)
from coordinator.policy.convict import Places, SaidAnswer, Vouched, disagreeing, false_places, to_train, vouchers
from coordinator.policy.phases import Event, Phase
from protocol.errors import Refused, UsageError
from protocol.tasks.datasets import DataMissing
from protocol.trust.commitment import Trace, trace_root
from protocol.trust.evidence import evidence_from_bytes
from protocol.trust.messages import Answer
from protocol.trust.spot_check import spot_check
from protocol.trust.verdict import judge, open_traces
from protocol.zoo.store import open_store

RETRY_SECONDS = 60.0
NICE = 10  # others of this machine come first

log = logging.getLogger(__name__)


class Audits:
    """`tick` is called by one thread; jobs run in `executor`, whose owner shuts it down after `stop`."""

    def __init__(
        self,
        stores: Stores,
        effects: Effects,
        secret: bytes,
        organizer: str,
        sign: Sign,
        zoo: Path,
        clock: Callable[[], float],
        executor: Executor,
        engines: Engines,
        at_once: int = 1,
    ):
        self._stores, self._effects, self._secret, self._zoo = stores, effects, secret, zoo
        self._organizer, self._sign, self._clock = organizer, sign, clock
        self._executor, self._engines, self._at_once = executor, engines, at_once
        self._lock, self._stopping = threading.Lock(), threading.Event()
        self.woken = threading.Event()  # a job has ended: the next may begin
        self._seen = -1  # the ledger's version at which none was owed
        self._busy: set[bytes] = set()
        self._failed_at: dict[bytes, float] = {}

    def tick(self) -> int:
        """Begin what is due; how many. Raises LedgerUnavailable."""
        now, version = self._clock(), self._stores.ledger.version  # before we look
        self.woken.clear()
        if version == self._seen:
            return 0
        with self._stores.ledger.read() as connection:
            owed = read_owed(connection)
        if not owed:
            self._seen = version
        with self._lock:
            failed = {result for result, at in self._failed_at.items() if 0 <= now - at < RETRY_SECONDS}
            begun = next_audits(owed, self._busy | failed, self._at_once - len(self._busy))
            self._busy |= {one.result for one in begun}
        for one in begun:
            self._executor.submit(self._run, one)
        return len(begun)

    def owed(self) -> bool:
        """Whether anything is left to audit or to judge."""
        with self._stores.ledger.read() as connection:
            return bool(read_owed(connection))

    def stop(self) -> None:
        """End what is being trained after its segment."""
        self._stopping.set()

    def _run(self, one: OwedAudit) -> None:
        try:
            case = self._stores.cases.get(one.result)
            if one.audit is Audit.JUDGING:
                self._judge(case)
            else:
                self._audit(case, one.audit)
        except Stopped:
            pass
        except LedgerUnavailable:
            self._failed(one)  # it has been said; we try again
        except (DataMissing, NotExact, OSError, Refused) as error:
            log.error("[result %s] cannot be audited now: %s", one.result.hex()[:8], error)
            self._failed(one)
        except Exception:
            log.exception("[result %s] the audit failed; this is a bug, please report it", one.result.hex()[:8])
            self._failed(one)
        finally:
            with self._lock:
                self._busy.discard(one.result)
            self.woken.set()

    def _failed(self, one: OwedAudit) -> None:
        with self._lock:
            self._failed_at[one.result] = self._clock()

    # -- training again ------------------------------------------------------------------------------------------

    def _audit(self, case: ResultCase, audit: Audit) -> None:
        for network in self._networks(case, audit):
            truth = self._train(case, network)
            if trace_root(case.context, truth.seed, truth.trace) != case.result.networks[network].trace_root:
                self._fail(case, network, truth)
                return
        self._effects.perform(self._stores.ledger.write(lambda c: pass_audit(c, case.digest)))

    def _networks(self, case: ResultCase, audit: Audit) -> tuple[int, ...]:
        """One by chance, some of a suspect; of a bundle that liars vouched for, of those they replayed a segment of."""
        everything = range(len(case.assignment.seeds))
        if audit is Audit.DUE:
            return draw_networks(self._secret, case.digest, audit, everything, 1)
        with self._stores.ledger.read() as connection:
            said, _ = read_answers(connection, case.digest, case.tasks, self._organizer)
            theirs = to_train(said, read_convicted(connection, case.digest))
        return draw_networks(self._secret, case.digest, audit, theirs or everything, SUSPECT_NETWORKS_MAX)

    def _train(self, case: ResultCase, network: int) -> Retrained:
        seed, recipe = case.assignment.seeds[network], case.assignment.recipe
        return retrain(self._engines(False), recipe, seed, self._stores.datasets.shelf, self._stopping)

    def _fail(self, case: ResultCase, network: int, truth: Retrained) -> None:
        """The bundle is false. Confirmed by another build, it is retracted, and its worker convicted."""
        place, recipe, shelf = f"network {network}", case.assignment.recipe, self._stores.datasets.shelf
        traces = self._traces(case)
        if traces is not None:
            boundary = first_difference(traces[network], truth.trace)
            confirm(self._engines(True), recipe, truth, boundary, shelf)
            place += f" boundary {boundary}"
        elif (again := retrain(self._engines(True), recipe, truth.seed, shelf, self._stopping)).trace != truth.trace:
            raise NotExact(f"seed {again.seed}: two builds give other bits; is this machine sound?")
        reason = f"the organizer trained seed {truth.seed} again: not what was handed in ({place})"
        proof = b"".join(leaf.to_bytes() for leaf in truth.trace)
        now = self._clock()

        def change(connection):
            store_proof(connection, case.worker, case.digest, WORKER, place, proof, now)
            return settle_result(connection, case.digest, Event.AUDIT_FAILED, reason, case.campaign, self._sign, now)

        self._effects.perform(self._stores.ledger.write(change))

    def _traces(self, case: ResultCase) -> list[Trace] | None:
        """The committed leaves: of the upload, or of the evidence in the zoo; None when both are gone."""
        with contextlib.suppress(OSError):
            return self._stores.cases.traces(case)
        with self._stores.ledger.read() as connection:
            digest = connection.execute(select(results.c.evidence).where(results.c.digest == case.digest)).scalar()
        try:
            evidence = evidence_from_bytes(open_store(self._zoo).evidence(digest or "none"))
            return open_traces(evidence.traces, case.result, case.assignment, case.worker)
        except (OSError, UsageError, Refused) as error:
            log.error(
                "[result %s] its leaves are gone, who vouched for it stays unknown: %s", case.digest.hex()[:8], error
            )
            return None

    # -- judging checkers ----------------------------------------------------------------------------------------

    def _judge(self, case: ResultCase) -> None:
        """Find the truth of every place that a checker agreed with; convict those who vouched for a false one."""
        with self._stores.ledger.read() as connection:
            said, own = read_answers(connection, case.digest, case.tasks, self._organizer)
        false, vouched = Places(), ()
        truths: dict[int, bytes] = {}
        for verdict in own.values():
            false |= disagreeing(verdict)
        traces = self._traces(case) if said else None
        if traces is not None:
            found, truths = self._replayed(case, said, traces) or self._trained(case, said, traces)
            false |= found
            vouched = vouchers(said, false, self._organizer)
        self._store_judgement(case, false, vouched, truths, len(said))

    def _replayed(
        self, case: ResultCase, said: list[SaidAnswer], traces: list[Trace]
    ) -> tuple[Places, dict[int, bytes]] | None:
        """By replaying the slots from the states that the worker opened; None when these are gone."""
        false, truths = Places(), {}
        for one in said:
            try:
                states, weights = self._stores.cases.check_inputs(case, one.slot)
            except (OSError, Refused):
                return None
            answer = self._reference(case, one.slot, states, weights)
            truths[one.slot] = msgspec.msgpack.encode(answer)
            false |= disagreeing(judge(answer, one.task, traces))
        return false, truths

    def _reference(self, case: ResultCase, slot: int, states, weights) -> Answer:
        engine, shelf = self._engines(True), self._stores.datasets.shelf
        return spot_check(engine, case.assignment, case.digest, slot, case.tasks[slot], states, weights, shelf)

    def _trained(
        self, case: ResultCase, said: list[SaidAnswer], traces: list[Trace]
    ) -> tuple[Places, dict[int, bytes]]:
        """By training: of each false path the cell at which it leaves the true one, confirmed by another build."""
        false, recipe = Places(), case.assignment.recipe
        leaves: dict[int, bytes] = {}
        for network in to_train(said, {one.host for one in said}):
            truth = self._train(case, network)
            found = false_places(network, traces[network], truth.trace)
            last = [len(truth.trace) - 1] * len(found.networks)
            for boundary in (*(cell.segment + 1 for cell in found.cells), *last):
                confirm(self._engines(True), recipe, truth, boundary, self._stores.datasets.shelf)
            false |= found
            leaves[network] = b"".join(leaf.to_bytes() for leaf in truth.trace)
        return false, {
            one.slot: msgspec.msgpack.encode({n: leaves[n] for n in to_train([one], [one.host])}) for one in said
        }

    def _store_judgement(
        self, case: ResultCase, false: Places, vouched: tuple[Vouched, ...], truths: dict[int, bytes], heard: int
    ) -> None:
        now, sign = self._clock(), self._sign

        def change(connection):
            actions = ()
            phase = connection.execute(select(results.c.phase).where(results.c.digest == case.digest)).scalar()
            if phase == Phase.VOID and len(false) >= 2:  # one bad place was thought a fault of its hardware
                reason = f"false in {len(false)} places: {false}"
                actions = settle_result(connection, case.digest, Event.PROVED_WRONG, reason, case.campaign, sign, now)
            said, _ = read_answers(connection, case.digest, case.tasks, self._organizer)
            judged = len(said) == heard  # or another answer has come while we looked at these
            fallen = convict_vouchers(connection, case.digest, vouched, truths, sign, now, judged=judged)
            return *actions, *fallen

        self._effects.perform(self._stores.ledger.write(change))


def low_priority() -> None:
    """For the calling thread, where the system can."""
    unhurried()
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
