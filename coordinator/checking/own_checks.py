"""The organizer's own replays: slots that fell to it, and disputes between checker and worker.

Slots are replayed with the fast engine; disputes with the NumPy reference, another build that anybody can read.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor

from sqlalchemy import select

from coordinator.checking.answers import Answers
from coordinator.checking.effects import Effects
from coordinator.checking.stores import Stores
from coordinator.ledger.database import LedgerUnavailable
from coordinator.ledger.results import lose_blobs
from coordinator.ledger.tables import answers, results
from coordinator.policy.actions import DeleteBlobs, WakeReferee
from coordinator.policy.phases import Phase
from protocol.engine import Engine
from protocol.engine.select import select_engine
from protocol.errors import Refused, UsageError
from protocol.tasks.datasets import DataMissing
from protocol.trust.envelope import seal
from protocol.trust.identity import Identity
from protocol.trust.spot_check import spot_check

RETRY_SECONDS = 5.0
JOBS_MAX = 8  # waiting slots; of more, the referee asks again, those of hosts with standing first

log = logging.getLogger(__name__)
Job = tuple[bytes, int, bool]  # result, slot, whether it is a dispute's replay
Engines = Callable[[bool], Engine]  # whether it is a dispute's replay -> the engine to use


class OwnChecks:
    """Asking for the same check twice is harmless. Jobs run in two executors, whose owner shuts them down."""

    def __init__(
        self,
        stores: Stores,
        effects: Effects,
        entered: Answers,
        identity: Identity,
        clock: Callable[[], float],
        executor: Executor,
        disputes: Executor,  # of its own: the reference is slow, and honest hosts' slots must not wait for it
        engines: Engines,
    ):
        self._stores, self._effects, self._entered = stores, effects, entered
        self._identity, self._clock = identity, clock
        self._executors, self._engines = {False: executor, True: disputes}, engines
        self._lock = threading.Lock()
        self._busy: set[Job] = set()
        self._failed_at: dict[Job, float] = {}

    def ask(self, result: bytes, slot: int, *, replay: bool) -> None:
        job = (result, slot, replay)
        with self._lock:
            if not replay and sum(not job[2] for job in self._busy) >= JOBS_MAX:
                return
            if job in self._busy or self._clock() - self._failed_at.get(job, -RETRY_SECONDS) < RETRY_SECONDS:
                return
            self._busy.add(job)
        self._executors[replay].submit(self._run, job)

    def _run(self, job: Job) -> None:
        try:
            self._check(*job)
        except (OSError, Refused) as error:
            self._lose(job[0], error)
        except DataMissing as error:
            log.error("[result %s slot %d] the organizer cannot check: %s", job[0].hex()[:8], job[1], error)
            self._failed_at[job] = self._clock()
        except LedgerUnavailable:
            self._failed_at[job] = self._clock()  # it has been said; we try again
        except Exception:
            log.exception("[result %s slot %d] the organizer's check failed", job[0].hex()[:8], job[1])
            self._failed_at[job] = self._clock()
        finally:
            with self._lock:
                self._busy.discard(job)
            self._effects.perform([WakeReferee()])

    def _check(self, digest: bytes, slot: int, replay: bool) -> None:
        if not self._wanted(digest, slot, replay):
            return
        cases = self._stores.cases
        case = cases.get(digest)
        states, weights = cases.check_inputs(case, slot)
        engine, shelf = self._engines(replay), self._stores.datasets.shelf
        answer = spot_check(engine, case.assignment, digest, slot, case.tasks[slot], states, weights, shelf)
        try:
            self._entered.enter(case, answer, seal(self._identity, answer), replay=replay)
        except Refused as error:  # the slot was answered, or the result settled, while we replayed
            log.debug("[result %s slot %d] our answer came too late: %s", digest.hex()[:8], slot, error)

    def _wanted(self, digest: bytes, slot: int, replay: bool) -> bool:
        """Asked for a moment ago, it may have been answered, or the result settled and its blobs removed."""
        answered = select(answers.c.slot).where(
            answers.c.result == digest, answers.c.slot == slot, answers.c.replay == int(replay)
        )
        phase = select(results.c.phase).where(results.c.digest == digest)
        with self._stores.ledger.read() as connection:
            return connection.execute(phase).scalar() == Phase.CHECKING and not connection.execute(answered).first()

    def _lose(self, digest: bytes, error: Exception) -> None:
        """A blob that was verified when it came is gone or damaged: the disk's fault, not the worker's."""
        now = self._clock()
        if self._stores.ledger.write(lambda c: lose_blobs(c, digest, now)):
            log.error("[result %s] an uploaded blob is gone, asking for it again: %s", digest.hex()[:8], error)
            self._effects.perform([DeleteBlobs(digest)])


class OrganizersEngines:
    """The fastest engine of this machine for slots, the reference for disputes; made on first use."""

    def __init__(self) -> None:
        self._engines: dict[bool, Engine] = {}
        self._making = threading.Lock()

    def __call__(self, replay: bool) -> Engine:
        with self._making:
            return self._engine(replay)

    def _engine(self, replay: bool) -> Engine:
        if replay not in self._engines:
            try:
                self._engines[replay] = select_engine("numpy" if replay else "auto")
            except UsageError as error:
                if replay:
                    raise
                log.warning("the organizer checks with the slow reference engine: %s", error)
                self._engines[replay] = select_engine("numpy")
        return self._engines[replay]
