"""Uploaded blobs, verified before they get here, whole or absent: small ones in the ledger, where many share a commit,
larger ones as DIR/blobs/<result digest>/<part>; or all in memory.
"""

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, bindparam, delete, insert, select

from coordinator.ledger.database import Ledger
from coordinator.ledger.prepared import Prepared
from coordinator.ledger.tables import blobs
from protocol.files import write_atomic

SMALL_BYTES = 64 * 1024
MINE = blobs.c.result == bindparam("digest")
PART = MINE & (blobs.c.part == bindparam("name"))
DATA = Prepared(select(blobs.c.data).where(PART))
RESULTS = Prepared(select(blobs.c.result).distinct())
NEW, FORGET, FORGET_PART = (
    Prepared(insert(blobs).prefix_with("OR REPLACE", dialect="sqlite")),
    Prepared(delete(blobs).where(MINE)),
    Prepared(delete(blobs).where(PART)),
)


class Blobs(Protocol):
    """Parts of results by (digest, part)."""

    def put(self, result: bytes, part: str, data: bytes) -> None:
        """Durable with the next change of the ledger, at the latest; again is harmless. Raises OSError naming the
        place."""
        ...

    def put_within(self, connection: Connection, result: bytes, part: str, data: bytes) -> None:
        """The same as part of a change of the ledger, and durable with it."""
        ...

    def get(self, result: bytes, part: str) -> bytes | None: ...

    def has(self, result: bytes, part: str) -> bool: ...

    def remove(self, result: bytes, *parts: str) -> None:
        """Forget parts (all, when none is named); what is not there is no error."""
        ...

    def results(self) -> set[bytes]:
        """Digests of which there is any part."""
        ...

    def place(self, result: bytes, part: str) -> str:
        """Where a part is, for people."""
        ...


class LedgerBlobs:
    """Small ones in the ledger, the others on disk: a file costs more than all else that a small result takes."""

    def __init__(self, ledger: Ledger, disk: "DiskBlobs"):
        self._ledger, self._disk = ledger, disk

    def put(self, result: bytes, part: str, data: bytes) -> None:
        if len(data) > SMALL_BYTES:
            self._disk.put(result, part, data)
        else:
            self._ledger.submit(lambda c: _keep(c, result, part, data))

    def put_within(self, connection: Connection, result: bytes, part: str, data: bytes) -> None:
        if len(data) > SMALL_BYTES:
            self._disk.put(result, part, data)
        else:
            _keep(connection, result, part, data)

    def get(self, result: bytes, part: str) -> bytes | None:
        with self._ledger.read() as connection:
            data = DATA.scalar(connection, digest=result, name=part)
        return self._disk.get(result, part) if data is None else data

    def has(self, result: bytes, part: str) -> bool:
        return self.get(result, part) is not None

    def remove(self, result: bytes, *parts: str) -> None:
        self._ledger.post(lambda c: _forget(c, result, parts))
        self._disk.remove(result, *parts)

    def results(self) -> set[bytes]:
        with self._ledger.read() as connection:
            return {*RESULTS.scalars(connection), *self._disk.results()}

    def place(self, result: bytes, part: str) -> str:
        return self._disk.place(result, part) if self._disk.has(result, part) else f"{self._ledger.place}: {part}"


def _keep(connection: Connection, result: bytes, part: str, data: bytes) -> None:
    if connection.dialect.name != "sqlite":
        FORGET_PART.change(connection, digest=result, name=part)
    NEW.change(connection, result=result, part=part, data=data)


def _forget(connection: Connection, result: bytes, parts: Sequence[str]) -> None:
    for part in parts:
        FORGET_PART.change(connection, digest=result, name=part)
    if not parts:
        FORGET.change(connection, digest=result)


class DiskBlobs:
    def __init__(self, path: Path):
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def put(self, result: bytes, part: str, data: bytes) -> None:
        path = self.path / result.hex() / part
        try:
            write_atomic(path, data)
        except OSError as error:  # a full disk does not say which file it was
            raise OSError(error.errno, f"cannot keep an uploaded blob: {error.strerror}", str(path)) from None

    def put_within(self, connection: Connection, result: bytes, part: str, data: bytes) -> None:
        self.put(result, part, data)

    def get(self, result: bytes, part: str) -> bytes | None:
        try:
            return (self.path / result.hex() / part).read_bytes()
        except FileNotFoundError:
            return None

    def has(self, result: bytes, part: str) -> bool:
        return (self.path / result.hex() / part).is_file()

    def remove(self, result: bytes, *parts: str) -> None:
        folder = self.path / result.hex()
        if not parts:
            shutil.rmtree(folder, ignore_errors=True)
            return
        for part in parts:
            (folder / part).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            folder.rmdir()

    def results(self) -> set[bytes]:
        return {bytes.fromhex(folder.name) for folder in self.path.iterdir() if len(folder.name) == 64}

    def place(self, result: bytes, part: str) -> str:
        return str(self.path / result.hex() / part)


class MemoryBlobs:
    def __init__(self) -> None:
        self._data: dict[bytes, dict[str, bytes]] = {}

    def put(self, result: bytes, part: str, data: bytes) -> None:
        self._data.setdefault(result, {})[part] = data

    def put_within(self, connection: Connection, result: bytes, part: str, data: bytes) -> None:
        self.put(result, part, data)

    def get(self, result: bytes, part: str) -> bytes | None:
        return self._data.get(result, {}).get(part)

    def has(self, result: bytes, part: str) -> bool:
        return part in self._data.get(result, {})

    def remove(self, result: bytes, *parts: str) -> None:
        have = self._data.get(result, {})
        for part in parts or tuple(have):
            have.pop(part, None)
        if not have:
            self._data.pop(result, None)

    def results(self) -> set[bytes]:
        return set(self._data)

    def place(self, result: bytes, part: str) -> str:
        return f"memory/{result.hex()}/{part}"
