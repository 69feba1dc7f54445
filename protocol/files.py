"""Files that are whole or absent, locks between processes, and where this user's files are.

A file under its own name is always whole: it is written beside its place (`.NAME.*.partial`), made durable, and then
renamed. What a kill leaves is such a partial file, which nobody reads and anybody may remove.
"""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from protocol.errors import BusyError, DiskError, FileError

if TYPE_CHECKING:  # 40 ms with asyncio behind it, and most processes lock nothing
    from filelock import FileLock

HOME_VARIABLE = "ZOOSWARM_HOME"  # moves everything that is not given a directory by hand
PRIVATE = 0o600  # keys and secrets


def write_atomic(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write `path` whole or not at all, durable when this returns; repeating it is harmless. Raises OSError.

    In as few steps as can be: the zoo's writer does this for every small file, several a result.
    """
    partial = path.with_name(f".{path.name}.{os.urandom(6).hex()}.partial")
    try:
        file = partial.open("xb", buffering=0)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = partial.open("xb", buffering=0)
    try:
        with file:
            partial.chmod(mode)  # whatever the umask says
            left = memoryview(data)
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError) and error.filename is None:  # a write does not say where
            error.filename = str(path)
        raise


@contextlib.contextmanager
def whole_or_absent(path: Path, mode: int = 0o644) -> Iterator[Path]:
    """An empty file beside `path`, to be filled by anybody in any way; it becomes `path` when the block ends.

    When the block raises, the file is removed and `path` stays as it was. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        move_into_place(partial, path, mode)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def move_into_place(partial: Path, path: Path, mode: int = 0o644) -> None:
    """A finished file in the same folder becomes `path`, its bytes durable before its name. Raises OSError."""
    sync(partial)
    partial.chmod(mode)
    partial.replace(path)


def create_once(path: Path, data: bytes, mode: int = 0o644) -> bool:
    """Write `path` whole and durable unless it exists; False when it does. One of many writers wins. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        sync(partial)
        partial.chmod(mode)
        path.hardlink_to(partial)
    except FileExistsError:
        return False
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        partial.unlink()
    sync_folder(path.parent)
    return True


def make_once(path: Path, make: Callable[[Path], None], seconds: float) -> None:
    """Let `make` fill `path` (it gets the file to fill), in one process at a time; nothing is done when it is there.

    `seconds`: how long another process may take for it. Raises OSError, TimeoutError, and what `make` raises.
    """
    if path.exists():
        return
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=seconds):
            if not path.exists():  # the process that we waited for may have failed
                with whole_or_absent(path) as partial:
                    make(partial)
    except Timeout:
        raise TimeoutError(f"another process has been making {path} for {seconds:.0f} s") from None


def read_limited(path: Path, limit: int, what: str) -> bytes:
    """The file's bytes, or a UsageError that names the file when it is missing or longer than `limit` bytes."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise FileError(f"{path}: cannot read the {what}: {error.strerror or error}") from None
    if len(data) > limit:
        raise FileError(f"{path}: a {what} has at most {limit:,} bytes; this file has more")
    return data


def lock_directory(path: Path, in_use: str, mend: str = "choose another", name: str = "lock") -> "FileLock":
    """Make a directory and keep every other process out until `release()` of what this returns, or until we end.

    `in_use` says what to do when another has it, `mend` when it cannot be used at all. Raises UsageError.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path / name, timeout=0, thread_local=False, mode=0o644)
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(13, os.strerror(13))
        lock.acquire()
    except Timeout:
        raise BusyError(f"{path}: {in_use}") from None
    except OSError as error:
        raise DiskError(f"{path}: cannot use this directory: {error.strerror or error}; {mend}") from None
    return lock


def sync(path: Path) -> None:
    """Return when the file's bytes are on the disk. Raises OSError: they may not be."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """A rename is durable once its folder is."""
    with contextlib.suppress(OSError):  # some file systems cannot, and then there is nothing to do
        sync(folder)


def home_directory() -> Path:
    """Where this user's things are that must not be lost: keys, swarms, data sets. `ZOOSWARM_HOME` moves it."""
    from platformdirs import user_data_path

    return Path(os.environ.get(HOME_VARIABLE) or user_data_path("zooswarm", appauthor=False))


def cache_directory() -> Path:
    """Where what can be made again is kept; removing all of it is harmless. `ZOOSWARM_HOME` moves it too."""
    from platformdirs import user_cache_path

    home = os.environ.get(HOME_VARIABLE)
    return Path(home) / "cache" if home else user_cache_path("zooswarm", appauthor=False)
