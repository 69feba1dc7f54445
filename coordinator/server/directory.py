"""The organizer's directory: everything durable, opened once and locked; or the same in memory, for simulations."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from coordinator.checking.beacon import CHAIN_LENGTH, Beacon
from coordinator.checking.blobs import DiskBlobs, LedgerBlobs, MemoryBlobs
from coordinator.checking.stores import Stores, stores_of
from coordinator.datasets.store import DatasetServer
from coordinator.ledger.database import Ledger, LedgerUnavailable, get_meta, set_meta
from coordinator.ledger.facts import unfinished
from protocol.errors import DiskError, FileError, UsageError, WrongKeyError
from protocol.files import lock_directory
from protocol.trust.identity import Identity

ORGANIZER, ANCHOR = "organizer", "beacon_anchor"  # the ledger's own words of whose it is
MEND = "put it back from a copy, or start a new directory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """What outlives a coordinator that is killed."""

    path: Path  # in memory: where data sets and the zoo would be
    identity: Identity
    beacon: Beacon
    stores: Stores
    let_go: Callable[[], None]  # of the lock

    def close(self) -> None:
        """Write what has gathered and let go of the directory. Calling it again is harmless."""
        self.stores.ledger.close()
        self.let_go()


def open_directory(path: Path, *, ledger_url: str | None = None, chain_length: int = CHAIN_LENGTH) -> Directory:
    """Make DIR or go on with it. Raises UsageError: taken by another coordinator, damaged, not writable, or another's.

    The ledger comes first: it knows whose it is, so that no key and no beacon is made anew beside it.
    """
    lock = lock_directory(path, "another coordinator runs on this directory; stop it first")
    with contextlib.ExitStack() as undo:
        undo.callback(lock.release)
        try:
            ledger = Ledger(ledger_url or path / "ledger.sqlite")
            undo.callback(ledger.close)
            identity, beacon = open_secrets(path, ledger, chain_length)
            blobs = LedgerBlobs(ledger, DiskBlobs(path / "blobs"))
            stores = stores_of(ledger, blobs, DatasetServer(path / "data", identity.host))
            refuse_damage(stores)
        except OSError as error:
            raise DiskError(f"{error.filename or path}: cannot use it: {error.strerror or error}") from None
        except LedgerUnavailable as error:
            raise UsageError(str(error)) from None
        undo.pop_all()
    return Directory(path=path, identity=identity, beacon=beacon, stores=stores, let_go=lock.release)


def open_secrets(path: Path, ledger: Ledger, chain_length: int) -> tuple[Identity, Beacon]:
    """The key and the beacon that this ledger was begun with; a new ledger takes those that are there, or new ones.

    Raises UsageError: gone, damaged, or another's. Nothing of what volunteers hold could be admitted with those.
    """
    with ledger.read() as connection:
        organizer, anchor = get_meta(connection, ORGANIZER, ""), get_meta(connection, ANCHOR, "")
    for name, begun in (("identity", organizer), ("beacon", anchor)):
        if begun and not (path / name).exists():
            raise FileError(f"{path / name}: gone, and the ledger beside it was begun with it; {MEND}")
    identity = Identity.load_or_create(path / "identity")
    beacon = Beacon.load_or_create(path / "beacon", chain_length)
    if organizer not in ("", identity.host):
        raise WrongKeyError(f"{path / 'identity'}: {identity.host}, but the ledger is {organizer}'s; {MEND}")
    if anchor not in ("", beacon.anchor.hex()):
        raise WrongKeyError(f"{path / 'beacon'}: not the one that this ledger was begun with; {MEND}")
    if not organizer or not anchor:
        ledger.write(lambda connection: set_meta(connection, ORGANIZER, identity.host))
        ledger.write(lambda connection: set_meta(connection, ANCHOR, beacon.anchor.hex()))
    return identity, beacon


def refuse_damage(stores: Stores) -> None:
    """Read what is still to be worked on: every campaign, every result without its end or not in the zoo yet.

    SQLite knows its pages, not what a row means. Raises LedgerDamaged.
    """
    with stores.ledger.decoding("the index of campaigns or results"):  # what is listed must be found
        for digest in stores.campaigns.states():
            stores.campaigns.get(digest)
        for result in unfinished(stores.ledger):
            stores.cases.get(result)


def memory_directory(path: Path, identity: Identity, beacon: Beacon) -> Directory:
    """Nothing is written below `path` until a data set is given or networks are published."""
    stores = stores_of(Ledger.in_memory(), MemoryBlobs(), DatasetServer(path / "data", identity.host))
    return Directory(path=path, identity=identity, beacon=beacon, stores=stores, let_go=lambda: None)
