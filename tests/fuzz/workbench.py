"""A folder in memory where inputs become files."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

MEMORY = Path("/dev/shm")


@cache
def folder() -> Path:
    path = Path(tempfile.mkdtemp(prefix="zooswarm-fuzz-", dir=MEMORY if MEMORY.is_dir() else None))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def at(name: str, data: bytes) -> Path:
    """A file of this name with these bytes; what was there is replaced."""
    path = folder() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
