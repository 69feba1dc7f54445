"""The organizer's directory: everything durable, opened once and locked; or the same in memory, for simulations."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from coordinator.checking.beacon import CHAIN_LENGTH, Beacon
from coordinator.checking.blobs import DiskBlobs, MemoryBlobs
from coordinator.checking.stores import Stores, stores_of
from coordinator.datasets.store import DatasetServer
from coordinator.ledger.database import Ledger
from protocol.errors import UsageError
from protocol.files import lock_directory
from protocol.trust.identity import Identity


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
    """Make DIR or go on with it. Raises UsageError: taken by another coordinator, damaged, not writable."""
    lock = lock_directory(path, "another coordinator runs on this directory; stop it first")
    try:
        identity = Identity.load_or_create(path / "identity")
        beacon = Beacon.load_or_create(path / "beacon", chain_length)
        blobs = DiskBlobs(path / "blobs")
        datasets = DatasetServer(path / "data", identity.host)
        ledger = Ledger(ledger_url or path / "ledger.sqlite")
    except OSError as error:
        lock.release()
        raise UsageError(f"{error.filename or path}: cannot use it: {error.strerror or error}") from None
    except UsageError:
        lock.release()
        raise
    stores = stores_of(ledger, blobs, datasets)
    return Directory(path=path, identity=identity, beacon=beacon, stores=stores, let_go=lock.release)


def memory_directory(path: Path, identity: Identity, beacon: Beacon) -> Directory:
    """Nothing is written below `path` until a data set is given or networks are published."""
    stores = stores_of(Ledger.in_memory(), MemoryBlobs(), DatasetServer(path / "data", identity.host))
    return Directory(path=path, identity=identity, beacon=beacon, stores=stores, let_go=lambda: None)
