"""Uploaded blobs on disk: DIR/blobs/<result digest>/<part>, whole or absent, verified before they get here."""

import contextlib
import shutil
from pathlib import Path

from protocol.canonical import write_atomic

PARTS = ("trace", "weights", "states")


class Blobs:
    def __init__(self, path: Path):
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def put(self, result: bytes, part: str, data: bytes) -> None:
        """Durable when it returns; again is harmless. Raises OSError naming the path."""
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
        """Forget parts (all, when none is named); what is not there is no error."""
        folder = self.path / result.hex()
        if not parts:
            shutil.rmtree(folder, ignore_errors=True)
            return
        for part in parts:
            (folder / part).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            folder.rmdir()
