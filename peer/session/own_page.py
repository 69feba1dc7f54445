"""The volunteer's own status page, on loopback: what this computer does, and what it hears of the swarm.

The coordinator is asked only while somebody looks, and seldom.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec

from peer.session.client import Away
from protocol.canonical import NOT_DECODABLE
from protocol.errors import Refused, UsageError
from protocol.page.server import PageServer, missing_libraries
from protocol.page.state import State
from protocol.page.told import state_of

LOOPBACK, PORT = "127.0.0.1", 7781  # or another port, when this one is taken and nobody asked for it
HEARD_SECONDS = 10.0  # between two questions to the coordinator
ELSEWHERE = "The coordinator's own page shows them."


class Coordinator(Protocol):
    @property
    def organizer(self) -> str | None: ...

    def status(self) -> bytes: ...


class OwnPage:
    """Called by the page, in its thread; `tell` by the loop."""

    def __init__(self, coordinator: Coordinator, version: str, clock: Callable[[], float] = time.time):
        self._coordinator, self._version, self._clock = coordinator, version, clock
        self._own: dict[str, Any] = {}
        self._heard: Any = {}
        self._heard_at: float | None = None
        self._asked_at, self._trouble = float("-inf"), ""

    def tell(self, summary: dict[str, Any]) -> None:
        """What the volunteer says of itself: `name` and `rows`, (label, value) pairs."""
        self._own = summary

    def __call__(self) -> State:
        now, own = self._clock(), self._own
        if abs(now - self._asked_at) >= HEARD_SECONDS:
            self._asked_at = now
            self._ask(now)
        try:
            return self._state(self._heard, own, now)
        except Refused as error:  # another version's, or nobody's
            self._heard, self._heard_at, self._trouble = {}, None, f"The coordinator's status cannot be read: {error}"
            return self._state({}, own, now)

    def _ask(self, now: float) -> None:
        try:
            self._heard = msgspec.json.decode(self._coordinator.status())
            self._heard_at, self._trouble = now, ""
        except (Away, Refused, UsageError) as error:
            self._trouble = f"The coordinator does not tell ({error}); what it told last is shown"
        except NOT_DECODABLE as error:
            self._trouble = f"The coordinator's status cannot be read: {error}"

    def _state(self, heard: Any, own: dict[str, Any], now: float) -> State:
        return state_of(
            heard,
            source="peer",
            title=f"{own.get('name', 'A volunteer')} in the swarm",
            version=self._version,
            organizer=self._coordinator.organizer or "",
            time=now,
            join="",
            heard_at=self._heard_at,
            trouble=self._trouble,
            recent_note=ELSEWHERE,
            map_note=ELSEWHERE,
            own=[[label, value] for label, value in own.get("rows", ())],
        )


def open_own_page(page: OwnPage, wanted: str | None, folder: Path, say: Callable[[str], None]) -> PageServer | None:
    """Serve it on loopback; None when there is none, and then it was said why. `wanted`: a port, "none", or nothing.

    Raises UsageError: a port that was asked for is taken.
    """
    port = page_port(wanted)
    if port is None:
        return None
    if lacking := missing_libraries():
        say(lacking)
        return None
    server = PageServer(page, LOOPBACK, [port] if wanted else [port, 0], folder / "page.log")
    say(f"your status page: {server.url}")
    return server


def page_port(wanted: str | None) -> int | None:
    """None for "none". Raises UsageError."""
    if wanted == "none":
        return None
    if wanted and not (wanted.isascii() and wanted.isdecimal() and int(wanted) < 65536):
        raise UsageError(f"--page {wanted}: expected a port on this computer, e.g. {PORT}, or none")
    return int(wanted) if wanted else PORT
