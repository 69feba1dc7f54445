"""The ledger: what the coordinator knows and must not forget. SQLite by default, any SQLAlchemy URL if need be.

One writes at a time. Callers hand in functions; whoever waits for one and finds nobody writing runs all that have
gathered in one transaction, commits once, and only then are all of them answered (several writers stall SQLite for
seconds, and a thread for it alone costs two changes of threads for each). Where one of them raises, all are undone and
made again, each in a savepoint of its own. A thread writes what nobody waits for. Readers use connections of their own,
one a thread at most, and see the last commit. With `inline` there is no such thread: for programs that have one, and in
memory for those that want no file.
"""

import contextlib
import logging
import threading
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, Engine, bindparam, create_engine, event, insert, select, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from coordinator.ledger.damage import DAMAGE_MEND, explained, is_damage, refuse_damage
from coordinator.ledger.prepared import Change, Outcome, Prepared, apart, end, say, together
from coordinator.ledger.tables import LEDGER_VERSION, meta, metadata
from protocol.errors import DamageError, DiskError, Refused, UsageError, VersionError

T = TypeVar("T")

BATCH_MAX = 256  # changes in a transaction: a commit of these takes milliseconds
READERS_KEPT = 64  # open connections of readers that are kept for the next; as many more as there are threads
QUEUE_MAX = 10_000  # waiting changes; beyond, those that nobody waits for are dropped
LINGER_SECONDS = 0.25  # so long they wait for somebody else's commit
META = Prepared(select(meta.c.value).where(meta.c.key == bindparam("key")))
META_CHANGE, META_NEW = Prepared(update(meta).where(meta.c.key == bindparam("name"))), Prepared(insert(meta))

log = logging.getLogger(__name__)


class LedgerUnavailable(Exception):
    """The disk refuses (full, read-only, gone). Nothing was changed; the same call may succeed later."""


class LedgerDamaged(LedgerUnavailable):
    """What is read is not what was written. It will not get better by itself."""


class Pending(Future[T]):
    """A change that was handed in. Asking for its result makes it, if nobody has."""

    def __init__(self, ledger: "Ledger"):
        super().__init__()
        self._ledger = ledger

    def result(self, timeout: float | None = None) -> T:
        self._ledger.see_to(self)
        return super().result(timeout)


Gathered = tuple[Change[Any], Pending[Any] | None]  # None: nobody waits for it
_thread = threading.local()  # `.unhurried`


def unhurried() -> None:
    """From now on this thread, of low priority, writes for nobody: others would wait for it."""
    _thread.unhurried = True


class Ledger:
    """Open with a path (SQLite) or an SQLAlchemy URL. Raises UsageError when it cannot be opened."""

    def __init__(self, where: Path | str, *, inline: bool = False):
        self.url = str(where) if "://" in str(where) else f"sqlite:///{where}"
        self.place = make_url(self.url).render_as_string(hide_password=True).removeprefix("sqlite:///")
        self.version = 0  # counts commits, so that others know when to look again
        self._gathered: deque[Gathered] = deque()  # changes that nobody has made yet
        self._turn = threading.Lock()  # held by the one that writes
        self._woken, self._closing = threading.Event(), threading.Event()  # for the thread
        self._closed = self._shut = False
        self._held: Connection | None = None  # the writer's own
        self._kept: list[Connection] = []  # the readers'
        self._writer = self._engine("BEGIN IMMEDIATE")
        self._readers = self._engine("BEGIN")
        self._reading = threading.local()  # `.connection`: the one that this thread reads with
        try:
            self._begin()
        except UsageError:
            self._readers.dispose()
            self._writer.dispose()
            raise
        self._thread = None if inline else threading.Thread(target=self._write_forever, name="ledger", daemon=True)
        if self._thread is not None:
            self._thread.start()

    def _begin(self) -> None:
        """Look at what is there, make what is missing. Raises UsageError."""
        try:
            refuse_damage(self._readers, self.place)
            metadata.create_all(self._writer)
            with self._writer.begin() as connection:
                found = get_meta(connection, "version", "")
                if not found:
                    set_meta(connection, "version", LEDGER_VERSION)
        except DBAPIError as error:
            kind = DamageError if is_damage(error) else DiskError
            raise kind(f"{self.place}: cannot open the ledger: {explained(error)}") from None
        except UnicodeDecodeError:  # names of tables that are rubbish
            raise DamageError(f"{self.place}: the ledger is damaged; {DAMAGE_MEND}") from None
        if found not in ("", LEDGER_VERSION):
            raise VersionError(
                f"{self.place}: a ledger of version {found}, and this program's is {LEDGER_VERSION}: "
                "go on with the version that began it, or start a new directory"
            )

    @classmethod
    def in_memory(cls) -> "Ledger":
        """An inline ledger of its own, gone with its last connection."""
        name = uuid.uuid4().hex
        return cls(f"sqlite:///file:{name}?mode=memory&cache=shared&uri=true", inline=True)

    def write(self, change: Change[T]) -> T:
        """Run `change` in the writer; durable when this returns. Raises what it raises, or LedgerUnavailable.

        It may be run twice: of the first time nothing stays in the ledger, and outside it a change does nothing.
        """
        return self.submit(change).result()

    def submit(self, change: Change[T]) -> "Pending[T]":
        """Like `write`, done at the latest when its `result` is asked for: who has many changes submits them all, and
        they share a commit."""
        if self._closed:
            raise LedgerUnavailable(f"{self.place}: the ledger is closed")
        pending = Pending[T](self)
        self._gathered.append((change, pending))
        return pending

    def post(self, change: Change[Any]) -> None:
        """Like `write` for what may be lost in a crash (counters): not waited for, dropped when the queue is full."""
        if self._closed or len(self._gathered) >= QUEUE_MAX:
            return
        self._gathered.append((change, None))
        if self._thread is None:
            self.write_gathered()
        else:
            self._woken.set()

    def see_to(self, pending: "Pending[Any]") -> None:
        """Have this change made, by whoever writes or by this thread."""
        if getattr(_thread, "unhurried", False) and self._thread is not None:
            return self._woken.set()
        while not pending.done():
            self.write_gathered(pending)

    def write_gathered(self, pending: "Pending[Any] | None" = None) -> None:
        """Commit what has gathered, unless this one was done while we waited for our turn."""
        with self._turn:
            if pending is not None and pending.done():
                return
            work = []
            while self._gathered and len(work) < BATCH_MAX:
                work.append(self._gathered.popleft())
            if work and self._shut:
                closed = LedgerUnavailable(f"{self.place}: the ledger is closed")
                _answer(work, [(None, closed)] * len(work))
            elif work:
                self._commit(work)

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees the last commit, and one moment only.

        A thread that reads already gets the connection that it has: if it took a second one, some threads that hold
        their first could wait for each other's.
        """
        held: Connection | None = getattr(self._reading, "connection", None)
        if held is not None:
            yield held
            return
        try:
            connection = self._reader()
            self._reading.connection = connection
            try:
                say(connection, "BEGIN")
                yield connection
            finally:
                self._reading.connection = None
                end(connection, "ROLLBACK")
        except DBAPIError as error:
            self._reading.kept = None  # another one next time: this one may be what is broken
            kind = LedgerDamaged if is_damage(error) else LedgerUnavailable
            raise kind(f"{self.place}: {explained(error)}") from error

    def _reader(self) -> Connection:
        """This thread's connection, open until the ledger is closed: taking one from the pool costs as much as to read
        a row with it."""
        kept: Connection | None = getattr(self._reading, "kept", None)
        if kept is None:
            kept = self._reading.kept = self._readers.connect()
            self._kept.append(kept)
        return kept

    @contextlib.contextmanager
    def decoding(self, what: str) -> Iterator[None]:
        """Around making values of what a row says: we wrote it whole, so bytes that mean nothing are damage."""
        try:
            yield
        except (Refused, UsageError, ValueError, LookupError, TypeError, msgspec.MsgspecError) as error:
            raise LedgerDamaged(f"{self.place}: {what} is damaged ({error}); {DAMAGE_MEND}") from None

    def close(self) -> None:
        """Write what has gathered, then stop. Calling it again is harmless."""
        if not self._closed:
            self._closed = True
            if self._thread is not None:
                self._closing.set()
                self._woken.set()
                self._thread.join()
            while self._gathered:
                self.write_gathered()
            with self._turn:
                self._shut = True
                for connection in filter(None, (self._held, *self._kept)):
                    with contextlib.suppress(DBAPIError):  # made by another thread, of a ledger in memory
                        connection.close()
            self._readers.dispose()
            self._writer.dispose()

    def _engine(self, begin: str) -> Engine:
        # A pool without a limit: nobody waits for a connection, and a thread takes one at most. A ledger in memory
        # lives as long as one of its connections.
        engine = create_engine(self.url, poolclass=QueuePool, pool_size=READERS_KEPT, max_overflow=-1)
        if engine.dialect.name == "sqlite":

            @event.listens_for(engine, "connect")
            def _connect(connection: Any, _record: Any) -> None:
                connection.isolation_level = None  # we say BEGIN ourselves; the driver would say it too late
                for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000", "foreign_keys=ON"):
                    connection.execute(f"PRAGMA {pragma}")

            @event.listens_for(engine, "begin")
            def _begin(connection: Connection) -> None:
                driver: Any = connection.connection.driver_connection
                if not driver.in_transaction:  # as it is in `read`, before SQLAlchemy hears of it
                    connection.exec_driver_sql(begin)

        return engine

    def _write_forever(self) -> None:
        while not self._closed:
            self._woken.wait()
            self._closing.wait(LINGER_SECONDS)
            self._woken.clear()
            while self._gathered:
                self.write_gathered()

    def _commit(self, work: "list[Gathered]") -> None:
        changes = [change for change, _ in work]
        try:
            with self._writing() as connection:
                outcomes = together(connection, changes)
            if not outcomes:
                with self._writing() as connection:
                    outcomes = [apart(connection, change) for change in changes]
        except DBAPIError as error:  # the disk, or the database server: none of the batch happened
            away = LedgerUnavailable(f"{self.place}: cannot write the ledger: {explained(error)}")
            log.error("%s", away)
            outcomes = [(None, away)] * len(work)
        else:
            self.version += 1
        _answer(work, outcomes)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Connection]:
        """A transaction of the writer; with SQLite begun and ended in words, and the connection is kept."""
        if self._thread is None or self._writer.dialect.name != "sqlite":
            with self._writer.begin() as connection:
                yield connection
            return
        if self._held is None:
            self._held = self._writer.connect()
        try:
            say(self._held, "BEGIN IMMEDIATE")
            yield self._held
            end(self._held, "COMMIT")
        except BaseException:
            connection, self._held = self._held, None  # another one next time: this one may be what is broken
            with contextlib.suppress(DBAPIError):
                connection.close()
            raise


def _answer(work: Sequence[Gathered], outcomes: Sequence[Outcome]) -> None:
    for (_, pending), (value, raised) in zip(work, outcomes, strict=True):
        if pending is None:
            if raised is not None:
                log.warning("a change of the ledger was dropped: %r", raised)
        elif raised is not None:
            pending.set_exception(raised)
        else:
            pending.set_result(value)


def get_meta(connection: Connection, key: str, default: str) -> str:
    found = META.scalar(connection, key=key)
    return default if found is None else found


def set_meta(connection: Connection, key: str, value: str) -> None:
    if not META_CHANGE.change(connection, name=key, value=value):
        META_NEW.change(connection, key=key, value=value)
