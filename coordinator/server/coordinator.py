"""One organizer's coordinator on one directory: every part wired to every other, without sockets.

`tick` and `curate` are called by `main`'s threads, or by a test. With a directory in memory, an inline executor and a
clock of one's own, all of it is one thread's deterministic work: that is what simulations drive.
"""

import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TypeVar

import msgspec
from sqlalchemy import Select, select

from coordinator.checking.answers import Answers
from coordinator.checking.audits import Audits, low_priority
from coordinator.checking.effects import Effects
from coordinator.checking.own_checks import Engines, OrganizersEngines, OwnChecks
from coordinator.checking.referee_loop import RefereeLoop
from coordinator.ledger.database import LedgerUnavailable, get_meta
from coordinator.ledger.done import DoneBits
from coordinator.ledger.heartbeats import Heartbeats
from coordinator.ledger.tables import results
from coordinator.policy.actions import News
from coordinator.policy.auditing import audits_at_once
from coordinator.policy.campaigns import is_over
from coordinator.policy.presence import PRESENCE_SECONDS
from coordinator.server.commands import Commands
from coordinator.server.directory import Directory
from coordinator.server.handlers import Handlers
from coordinator.server.inbox import SHARED_SECONDS, Inboxes
from coordinator.server.status import Status, status
from coordinator.server.zoo_files import ZooFiles
from coordinator.zoo.curator import Curator
from coordinator.zoo.press import Printer
from protocol.engine.select import usable_cores
from protocol.errors import UsageError
from protocol.swarm.claim_rules import by_shard
from protocol.trust.envelope import PROVED, Envelope, Message, seal

STATUS_SECONDS = 0.5
T = TypeVar("T")


class Coordinator:
    """Goes on where the directory's last coordinator stopped. Closing it closes the directory."""

    def __init__(
        self,
        directory: Directory,
        *,
        clock: Callable[[], float] = time.time,
        on_news: Callable[[News], None] | None = None,
        presence_seconds: float = PRESENCE_SECONDS,
        shared_seconds: float = SHARED_SECONDS,
        status_seconds: float = STATUS_SECONDS,
        executor: Executor | None = None,
        engines: Engines | None = None,
        printer: Printer | None = None,
    ):
        self.directory, self.clock = directory, clock
        self.path, self.identity, self.stores = directory.path, directory.identity, directory.stores
        self.version = installed_version("zooswarm")
        self.woken = threading.Event()  # the referee has a reason to look
        self.ordered = threading.Event()  # the organizer gave a command: the swarm is to hear of it at once
        self.effects = Effects(self.stores, self.woken.set, on_news)
        self.presence = Heartbeats(self.stores.ledger, clock(), self.identity.secret("network prefixes"))
        examining = threading.Lock()
        answers = Answers(self.stores, self.effects, examining, clock)
        self.handlers = Handlers(
            self.stores,
            self.identity.host,
            self._sign,
            self.effects,
            answers,
            examining,
            clock,
        )
        self.commands = Commands(self.stores, directory.beacon, self.identity.host, self._sign, self.effects, clock)
        self.inboxes = Inboxes(self.stores, self.presence, self.identity, clock, shared_seconds)
        self._executor = executor or ThreadPoolExecutor(1, thread_name_prefix="organizer-check")
        self._disputes = executor or ThreadPoolExecutor(
            1, thread_name_prefix="organizer-dispute", initializer=low_priority
        )
        auditors = 1 if executor else audits_at_once(usable_cores())
        self._auditor = executor or ThreadPoolExecutor(
            auditors, thread_name_prefix="organizer-audit", initializer=low_priority
        )
        secret = self.identity.secret("audit")
        self.audits = Audits(
            self.stores,
            self.effects,
            secret,
            self.identity.host,
            self._sign,
            self.path / "zoo",
            clock,
            self._auditor,
            engines or OrganizersEngines(),
            auditors,
        )
        self.referee_loop = RefereeLoop(
            self.stores,
            directory.beacon,
            self.identity.host,
            self._sign,
            self.presence,
            self.effects,
            OwnChecks(
                self.stores,
                self.effects,
                answers,
                self.identity,
                clock,
                self._executor,
                self._disputes,
                engines or OrganizersEngines(),
            ),
            self.woken,
            clock,
            presence_seconds,
            secret,
        )
        self.curator = Curator(self.path / "zoo", self.identity, self.stores, self.effects, clock, printer)
        self.zoo_files = ZooFiles(self.path / "zoo")
        self._status, self._status_at, self._status_seconds = b"", 0.0, status_seconds
        self._status_lock = threading.Lock()
        self._done, self._done_lock = dict[str, DoneBits](), threading.Lock()
        try:
            self.curator.reconcile()
        except LedgerUnavailable as error:
            self.close()
            raise UsageError(str(error)) from None

    def _sign(self, message: Message) -> bytes:
        envelope = seal(self.identity, message)
        PROVED.add((envelope.proof,))  # the press meets it again
        return envelope.to_bytes()

    def tick(self) -> None:
        """Look at the unsettled results and act. Raises LedgerUnavailable, OSError."""
        self.referee_loop.tick()

    def audit(self) -> int:
        """Begin the audits that are due; how many. Raises LedgerUnavailable."""
        return self.audits.tick()

    def curate(self, *, force: bool = False) -> int:
        """Publish what is admitted; the number of networks. Raises LedgerUnavailable, OSError."""
        return self.curator.publish(force=force)

    def status(self) -> Status:
        now = status(self.stores.ledger, self.stores.campaigns, self.presence, self.identity.host, self.clock())
        return msgspec.structs.replace(now, free_bytes=free_bytes(self.path))

    def status_json(self) -> bytes:
        """For everybody who watches, half a second old at most: it costs a third of a second at 100,000 assignments."""
        with self._status_lock:
            now = self.clock()
            if not self._status or not 0 <= now - self._status_at < self._status_seconds:
                self._status, self._status_at = msgspec.json.encode(self.status()), now
            return self._status

    def obey(self, carry_out: Callable[[Envelope], T], envelope: Envelope) -> T:
        """A command of the organizer: who looks after it was carried out sees what it did."""
        done = carry_out(envelope)
        with self._status_lock:
            self._status = b""
        self.ordered.set()
        return done

    def epoch(self) -> int:
        """How many links of the beacon have been shown."""
        with self.stores.ledger.read() as connection:
            return int(get_meta(connection, "epoch", "0"))

    def done_bits(self, digest: str) -> dict[int, int]:
        """{shard: bits}; bit i: its assignment i has a result that is admitted, or here to be judged."""
        with self._done_lock, self.stores.ledger.read() as connection:
            return self._done.setdefault(digest, DoneBits(digest)).look(connection, self.clock())

    def touched_bits(self, digest: str) -> dict[int, int]:
        """{shard: bits}; bit i: somebody has handed in its assignment i at some time: an old bit may still be about."""
        return self._bits(select(results.c.assignment).where(results.c.campaign == digest).distinct())

    def _bits(self, indices: Select) -> dict[int, int]:
        with self.stores.ledger.read() as connection:
            return by_shard(connection.execute(indices).scalars())

    def all_complete(self) -> bool:
        """Whether there are campaigns and none has anything left to do, to publish or to audit."""
        return is_over(self.stores.campaigns.states()) and not self.curator.waiting() and not self.audits.owed()

    def close(self) -> None:
        """Write what has gathered and let go of the directory."""
        self.stop()
        self.presence.flush(self.clock(), force=True)
        self.directory.close()

    def stop(self) -> None:
        """End the organizer's own checks and audits; the directory stays open for the next coordinator."""
        self.curator.printer.close()
        self.audits.stop()
        for executor in (self._executor, self._disputes, self._auditor):
            executor.shutdown(wait=True, cancel_futures=True)


def free_bytes(path: Path) -> int:
    """On the disk of this directory; -1 where there is none, as in simulations."""
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return -1
