"""The organizer's own replays, in a worker thread: slots that fell to him, and disputes between checker and worker.

Slots are replayed with the fast engine; disputes with the NumPy reference, another build that anybody can read.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import select

from coordinator.checking.cases import CaseFiles
from coordinator.checking.handlers import Intake
from coordinator.ledger import results as results_ledger
from coordinator.ledger.database import LedgerUnavailable
from coordinator.ledger.tables import answers, results
from coordinator.policy.referee import Phase
from protocol.engine import Engine
from protocol.engine.select import select_engine
from protocol.errors import Refused, UsageError
from protocol.tasks.datasets import DataMissing
from protocol.trust.envelope import seal
from protocol.trust.spot_check import spot_check

RETRY_SECONDS = 5.0

log = logging.getLogger(__name__)
Job = tuple[bytes, int, bool]  # result, slot, whether it is a dispute's replay


class Checks:
    """Asking for the same check twice is harmless."""

    def __init__(self, intake: Intake, files: CaseFiles, clock: Callable[[], float], kick: Callable[[], None]):
        self.intake, self.files, self.clock, self.kick = intake, files, clock, kick
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="organizer-check")
        self._lock = threading.Lock()
        self._busy: set[Job] = set()
        self._failed_at: dict[Job, float] = {}
        self._engines: dict[bool, Engine] = {}

    def ask(self, result: bytes, slot: int, *, replay: bool) -> None:
        job = (result, slot, replay)
        with self._lock:
            if job in self._busy or self.clock() - self._failed_at.get(job, -RETRY_SECONDS) < RETRY_SECONDS:
                return
            self._busy.add(job)
        self._pool.submit(self._run, job)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, job: Job) -> None:
        try:
            self._check(*job)
        except (OSError, Refused) as error:
            self._give_back(job[0], error)
        except DataMissing as error:
            log.error("[result %s slot %d] the organizer cannot check: %s", job[0].hex()[:8], job[1], error)
            self._failed_at[job] = self.clock()
        except LedgerUnavailable:
            self._failed_at[job] = self.clock()  # it has been said; we try again
        except Exception:
            log.exception("[result %s slot %d] the organizer's check failed", job[0].hex()[:8], job[1])
            self._failed_at[job] = self.clock()
        finally:
            with self._lock:
                self._busy.discard(job)
            self.kick()

    def _check(self, digest: bytes, slot: int, replay: bool) -> None:
        if not self._wanted(digest, slot, replay):
            return
        file = self.files.get(digest)
        states, weights = self.files.check_inputs(file, slot)
        engine, shelf = self._engine(replay), self.intake.library.shelf
        answer = spot_check(engine, file.assignment, digest, slot, file.tasks[slot], states, weights, shelf)
        try:
            self.intake.enter_answer(file, answer, seal(self.intake.identity, answer), replay=replay)
        except Refused as error:  # the slot was answered, or the case settled, while we replayed
            log.debug("[result %s slot %d] our answer came too late: %s", digest.hex()[:8], slot, error)

    def _wanted(self, digest: bytes, slot: int, replay: bool) -> bool:
        """Asked for a moment ago, it may have been answered, or the case settled and its blobs removed."""
        answered = select(answers.c.slot).where(
            answers.c.result == digest, answers.c.slot == slot, answers.c.replay == int(replay)
        )
        phase = select(results.c.phase).where(results.c.digest == digest)
        with self.intake.ledger.read() as connection:
            return connection.execute(phase).scalar() == Phase.CHECKING and not connection.execute(answered).first()

    def _give_back(self, digest: bytes, error: Exception) -> None:
        """A blob that was verified when it came is gone or damaged: the disk's fault, not the worker's."""
        now = self.clock()
        if self.intake.ledger.write(lambda c: results_ledger.lose_blobs(c, digest, now)):
            log.error("[result %s] an uploaded blob is gone, asking for it again: %s", digest.hex()[:8], error)
            self.intake.blobs.remove(digest)
            self.files.forget(digest)

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
