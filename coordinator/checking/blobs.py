"""Uploaded blobs, verified before they get here: DIR/blobs/<result digest>/<part>, whole or absent; or in memory."""

import contextlib
import shutil
from pathlib import Path
from typing import Protocol

from protocol.files import write_atomic


class Blobs(Protocol):
    """Parts of results by (digest, part)."""

    def put(self, result: bytes, part: str, data: bytes) -> None:
        """Durable when it returns; again is harmless. Raises OSError naming the place."""
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
