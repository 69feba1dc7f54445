"""One organizer's coordinator on one directory: every part wired to every other, without sockets.

`Coordinator(DIR)` opens or continues; `tick` and `curate` are called by `host`'s threads, or by a test.
"""

import fcntl
import logging
import threading
import time
from collections.abc import Callable
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from sqlalchemy import Select, select

from coordinator.checking.beacon import CHAIN_LENGTH, Beacon
from coordinator.checking.blobs import Blobs
from coordinator.checking.cases import CampaignBook, CaseFiles
from coordinator.checking.handlers import Intake
from coordinator.checking.referee_loop import Bench
from coordinator.datasets.store import Library
from coordinator.ledger.database import Ledger, get_meta
from coordinator.ledger.heartbeats import Presence
from coordinator.ledger.settlement import News
from coordinator.ledger.tables import results
from coordinator.policy.referee import HELD, PRESENCE_SECONDS
from coordinator.server.inbox import Inboxes
from coordinator.server.status import status, to_json
from coordinator.server.zoo_files import Gallery
from coordinator.zoo.curator import Curator
from protocol.errors import UsageError
from protocol.trust.identity import Identity

STATUS_SECONDS = 0.5

log = logging.getLogger(__name__)


class Coordinator:
    """Raises UsageError when the directory cannot be used: taken by another coordinator, damaged, not writable."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.time,
        on_news: Callable[[News], None] | None = None,
        ledger_url: str | None = None,
        presence_seconds: float = PRESENCE_SECONDS,
        chain_length: int = CHAIN_LENGTH,
    ):
        self.path, self.clock, self._on_news = path, clock, on_news
        self.version = installed_version("zooswarm")
        self.bootstrap: Callable[[], list[str]] = lambda: []
        self._lock = lock_directory(path)
        try:
            self.identity = Identity.load_or_create(path / "identity")
            self.beacon = Beacon.load_or_create(path / "beacon", chain_length)
            self.blobs = Blobs(path / "blobs")
            self.library = Library(path / "data", self.identity.host)
        except OSError as error:
            self._lock.close()
            raise UsageError(f"{error.filename or path}: cannot use it: {error.strerror or error}") from None
        self.ledger = Ledger(ledger_url or path / "ledger.sqlite")
        self.book = CampaignBook(self.ledger)
        self.files = CaseFiles(self.ledger, self.book, self.blobs)
        self.presence = Presence(self.ledger, clock())
        self.intake = Intake(
            self.identity, self.ledger, self.blobs, self.beacon, self.book, self.files, clock, self.report, self.library
        )
        self.inboxes = Inboxes(self.identity, self.ledger, self.book, self.files, self.presence, clock)
        self.bench = Bench(self.intake, self.presence, clock, presence_seconds)
        self.curator = Curator(
            path / "zoo", self.identity.host, self.ledger, self.book, self.files, self.blobs, clock, self.library.shelf
        )
        self.gallery = Gallery(path / "zoo")
        self._status, self._status_at, self._status_lock = b"", -STATUS_SECONDS, threading.Lock()
        self.curator.reconcile()

    def tick(self) -> None:
        """Look at the unsettled results and act. Raises LedgerUnavailable, OSError."""
        self.bench.tick()

    def curate(self, *, force: bool = False) -> int:
        """Publish what is admitted; the number of networks. Raises LedgerUnavailable, OSError."""
        return self.curator.publish(force=force)

    def report(self, news: News) -> None:
        """Something happened that is worth a line; blobs that nobody needs any more go."""
        if news.outcome == "void":
            self.blobs.remove(news.result)
            self.files.forget(news.result)
        elif news.outcome == "admitted":
            self.blobs.remove(news.result, "states")
        self.bench.kicked.set()
        if self._on_news is not None:
            self._on_news(news)

    def status(self) -> dict[str, Any]:
        return status(self.ledger, self.book, self.presence, self.identity.host, self.clock())

    def status_json(self) -> bytes:
        """For everybody who watches, half a second old at most: it costs a third of a second at 100,000 assignments."""
        with self._status_lock:
            if time.monotonic() - self._status_at >= STATUS_SECONDS:
                self._status, self._status_at = to_json(self.status()), time.monotonic()
            return self._status

    def epoch(self) -> int:
        """How many links of the beacon have been shown."""
        with self.ledger.read() as connection:
            return int(get_meta(connection, "epoch", "0"))

    def done_bits(self, digest: str) -> int:
        """Bit i: assignment i has a result that is admitted or being judged; a cleared bit is in the pool."""
        held = select(results.c.assignment).where(results.c.campaign == digest, results.c.phase.in_(HELD))
        return self._bits(digest, held)

    def touched_bits(self, digest: str) -> int:
        """Bit i: somebody has handed in assignment i at some time, so that an old bit of it may still be about."""
        return self._bits(digest, select(results.c.assignment).where(results.c.campaign == digest).distinct())

    def _bits(self, digest: str, indices: Select) -> int:
        campaign, _ = self.book.get(digest)
        bits = bytearray(-(-len(campaign.assignments) // 8))
        with self.ledger.read() as connection:
            for index in connection.execute(indices).scalars():
                bits[index // 8] |= 1 << index % 8
        return int.from_bytes(bits, "little")

    def all_complete(self) -> bool:
        """Whether there are campaigns and none has anything left to do or to publish."""
        states = self.book.states()
        if not states or any(state not in ("complete", "cancelled") for state in states.values()):
            return False
        return not self.curator.waiting()

    def close(self) -> None:
        """Write what has gathered and let go of the directory."""
        self.bench.close()
        self.presence.flush(self.clock(), force=True)
        self.ledger.close()
        self._lock.close()


def lock_directory(path: Path):
    """Make and lock DIR, for as long as the returned file is open. Raises UsageError when somebody else has it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / "lock").open("a+")
    except OSError as error:
        raise UsageError(f"{path}: cannot use this directory: {error.strerror}; choose another") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise UsageError(f"{path}: another coordinator runs on this directory; stop it first") from None
    return lock
