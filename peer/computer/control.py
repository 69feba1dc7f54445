"""What another terminal asks of a volunteer, and what the volunteer says of itself: three small files in its directory.

`wish` holds a pause or the wish to leave; it is read every second, and a pause outlives a restart. `status.json` is
written every few seconds. Both are for this user alone.
"""

import contextlib
import os
import time
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import msgspec

from protocol.canonical import NOT_DECODABLE
from protocol.errors import UsageError
from protocol.files import PRIVATE, read_limited, write_atomic

WISH, STATUS = "wish.json", "status.json"
WISH_BYTES_MAX, STATUS_BYTES_MAX = 1024, 64 * 1024
STATUS_SECONDS = 2.0  # between two writings of the status ...
SILENT_SECONDS = 10.0  # ... and older than this it is of a volunteer that is gone


class Wish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    paused_until: float = 0.0  # seconds since 1970; -1: until `resume`
    leave: bool = False


def read_wish(home: Path) -> Wish:
    """What is wished now; nothing, when there is no wish or it cannot be read."""
    try:
        data = read_limited(home / WISH, WISH_BYTES_MAX, "wish")
        return msgspec.json.decode(data, type=Wish)
    except (UsageError, *NOT_DECODABLE):
        return Wish()


def write_wish(home: Path, wish: Wish) -> None:
    if wish == Wish():
        (home / WISH).unlink(missing_ok=True)
    else:
        write_atomic(home / WISH, msgspec.json.encode(wish), PRIVATE)


def paused_seconds(wish: Wish, now: float) -> float:
    """How much of the pause is left at `now`, seconds since 1970; inf: until `resume`."""
    return inf if wish.paused_until < 0 else max(0.0, wish.paused_until - now)


class Control:
    """The volunteer's side: the wish as it is now, and the status where others find it."""

    def __init__(self, home: Path, clock: Callable[[], float] = time.time):
        self._home, self._clock = home, clock
        self._wish, self._stamp, self._next = Wish(), -1, 0.0

    def begin(self) -> "Control":
        """To leave was wished of the last one that ran here."""
        wish = read_wish(self._home)
        if wish.leave:
            write_wish(self._home, Wish(paused_until=wish.paused_until))
        return self

    def _read(self) -> Wish:
        try:
            stamp = (self._home / WISH).stat().st_mtime_ns
        except OSError:
            self._wish, self._stamp = Wish(), -1
            return self._wish
        if stamp != self._stamp:
            self._wish, self._stamp = read_wish(self._home), stamp
        return self._wish

    def paused_seconds(self) -> float:
        return paused_seconds(self._read(), self._clock())

    def leaves(self) -> bool:
        return self._read().leave

    def tell(self, status: dict[str, Any]) -> None:
        """Not made durable, and lost on a full disk: the next one comes in a moment."""
        now = self._clock()
        if now < self._next:
            return
        self._next = now + STATUS_SECONDS
        partial = self._home / f".{STATUS}.partial"
        with contextlib.suppress(OSError):
            handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE)
            with os.fdopen(handle, "wb") as file:
                file.write(msgspec.json.encode({"at": now, "pid": os.getpid()} | status))
            partial.replace(self._home / STATUS)

    def end(self) -> None:
        with contextlib.suppress(OSError):
            (self._home / STATUS).unlink(missing_ok=True)


def read_status(home: Path, now: float) -> dict[str, Any] | None:
    """What the volunteer of this directory said last; None when none runs there."""
    try:
        found = msgspec.json.decode(read_limited(home / STATUS, STATUS_BYTES_MAX, "status"), type=dict[str, Any])
        return found if now - float(found["at"]) < SILENT_SECONDS else None
    except (UsageError, KeyError, TypeError, ValueError, *NOT_DECODABLE):
        return None
