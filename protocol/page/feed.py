"""One computation for all who watch: the state is asked for at most every so often, and only while somebody asks.

It runs in one thread of its own, so that it holds up neither the page's loop nor anybody else's calls.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import msgspec

from protocol.errors import shown
from protocol.page.render import page, sections
from protocol.page.state import State

REFRESH_SECONDS = 2.0
REST = 10.0  # times what it took: watching may take a tenth of a processor, no more
WATCHERS_MAX = 64
BEAT_SECONDS = 5.0
TROUBLE_MAX = 200

log = logging.getLogger(__name__)


class Unavailable(Exception):
    """There is nothing to show, not even something old."""


class Full(Exception):
    """So many watch already."""


@dataclass(frozen=True)
class Frame:
    """The state at one moment, rendered once for everybody."""

    state: State

    @cached_property
    def json(self) -> bytes:
        return msgspec.json.encode(self.state)

    @cached_property
    def sections(self) -> dict[str, str]:
        return sections(self.state)

    @cached_property
    def digests(self) -> dict[str, bytes]:
        return {name: hashlib.sha256(html.encode()).digest() for name, html in self.sections.items()}

    def page(self, asset_version: str) -> str:
        return page(self.state, asset_version)


class Feed:
    """`source` may take long and may raise: then the last state is shown, with the reason."""

    def __init__(
        self,
        source: Callable[[], State],
        refresh_seconds: float = REFRESH_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._source, self._refresh, self._clock = source, refresh_seconds, clock
        self._frame: Frame | None = None
        self._due = float("-inf")
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="page-state")
        self.watchers, self.closed = 0, False

    async def current(self) -> Frame:
        """Raises Unavailable."""
        async with self._turn:
            frame, began = self._frame, self._clock()
            if frame is None or began >= self._due:
                frame = await asyncio.get_running_loop().run_in_executor(self._thread, self._make)
                self._frame, now = frame, self._clock()
                self._due = now + max(self._refresh, REST * (now - began))
            return frame

    def _make(self) -> Frame:
        try:
            frame = Frame(self._source())
        except Exception as error:
            log.warning("the page's state: %s: %s", type(error).__name__, error)
            if self._frame is None:
                raise Unavailable(shown(error, TROUBLE_MAX)) from None
            trouble = f"This is what was known before: {shown(error, TROUBLE_MAX)}"
            frame = Frame(msgspec.structs.replace(self._frame.state, trouble=trouble))
        _ = frame.digests  # here, not in the loop
        return frame

    async def watch(self) -> AsyncIterator[tuple[str, str]]:
        """(section, HTML) of those that changed since the last, and ("", "") now and then. Raises Full."""
        self.refuse_more()
        self.watchers += 1
        try:
            seen: dict[str, bytes] = {}
            told_at = self._clock()
            while not self.closed:
                try:
                    frame = await self.current()
                except Unavailable:
                    frame = None
                for name, digest in frame.digests.items() if frame else ():
                    if seen.get(name) != digest:
                        seen[name], told_at = digest, self._clock()
                        yield name, frame.sections[name] if frame else ""
                if self._clock() - told_at >= BEAT_SECONDS:
                    told_at = self._clock()
                    yield "", ""
                await asyncio.sleep(self._refresh)
        finally:
            self.watchers -= 1

    def refuse_more(self) -> None:
        """Raises Full when nobody else may watch."""
        if self.watchers >= WATCHERS_MAX:
            raise Full(f"{WATCHERS_MAX} watch already")

    def close(self) -> None:
        self.closed = True
        self._thread.shutdown(wait=False, cancel_futures=True)
