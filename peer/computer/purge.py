"""No trace left: what `zooswarm leave --purge` takes away, and only that."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from peer.computer.control import STATUS, WISH, Wish, read_wish, write_wish
from peer.computer.settings import SETTINGS
from protocol.errors import BusyError
from protocol.files import cache_directory, lock_directory

LEAVE_SECONDS = 45.0  # the volunteer's own limit is 30
FOLDERS = ("bundles", "campaigns", "data", "checks")
FILES = ("identity", "known.json", "allowance", SETTINGS, WISH, STATUS, "lock", "page.json", "zooswarm.log")
LOGS = ("worker.log*", "swarm.log*", "*.log", "*.log.*", ".*.partial", ".*.lock")


def ask_to_leave(home: Path, sleep: Callable[[float], None] = time.sleep) -> bool:
    """Whether a volunteer ran here; when this returns, none does. Raises BusyError when it does not end."""
    if _is_free(home):
        return False
    write_wish(home, Wish(paused_until=read_wish(home).paused_until, leave=True))
    deadline = time.monotonic() + LEAVE_SECONDS
    while not _is_free(home):
        if time.monotonic() > deadline:
            raise BusyError(f"{home}: the volunteer there does not end; stop it by hand, then again")
        sleep(0.2)
    write_wish(home, Wish(paused_until=read_wish(home).paused_until))
    return True


def _is_free(home: Path) -> bool:
    try:
        lock_directory(home, "in use").release()
    except BusyError:
        return False
    return True


def what_goes(home: Path, cache: Path | None = None) -> tuple[list[Path], list[Path]]:
    """(What is ours, what in `home` is not and stays). The cache goes whole: everything in it can be made again."""
    ours = [home / name for name in (*FOLDERS, *FILES)]
    ours += [path for pattern in LOGS for path in home.glob(pattern)]
    ours = sorted({path for path in ours if path.exists() or path.is_symlink()})
    others = [path for path in sorted(home.iterdir()) if path not in ours]
    cache = cache or cache_directory()
    return ours + ([cache] if cache.is_dir() else []), others


def purge(paths: list[Path], home: Path) -> None:
    """Raises OSError. What a link points to stays."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if not any(home.iterdir()):
        home.rmdir()
