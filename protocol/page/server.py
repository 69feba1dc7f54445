"""The page's thread: it holds a listening socket, and loads and starts the web server when somebody connects.

So a page that nobody looks at costs a thread that sleeps. The server has its own event loop there.
"""

import asyncio
import importlib.util
import logging
import os
import select
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from protocol.errors import BusyError, LogFile, UsageError
from protocol.page.state import State

LIBRARIES = ("starlette", "uvicorn", "jinja2")
CONNECTIONS_MAX = 128
BACKLOG = 64
CLOSE_SECONDS = 3.0
HEADER_BYTES_MAX = 16 * 1024

log = logging.getLogger(__name__)


def missing_libraries() -> str:
    """Why there can be no page, in one line with the mend; "" when there can."""
    lacking = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    return f"no page: {', '.join(lacking)} not installed; pip install 'zooswarm[page]' brings it" if lacking else ""


def split_place(text: str, default_host: str = "127.0.0.1") -> tuple[str, int] | None:
    """`HOST:PORT` or `PORT` -> (host, port); None for "none". Raises UsageError."""
    if text == "none":
        return None
    name, colon, port = text.rpartition(":")
    name = name.strip("[]") if colon else default_host
    if not name or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"--page {text}: expected HOST:PORT, PORT or none, e.g. 127.0.0.1:7780")
    return name, int(port)


def refuse_taken_page(text: str) -> None:
    """Raises UsageError when a page that somebody asks for could not be there."""
    place = split_place(text)
    if place and not missing_libraries():
        _listening(place[0], [place[1]]).close()


class PageServer:
    """Start, then close. `url` is where it is, `port` of it the part that is to be kept."""

    def __init__(self, source: Callable[[], State], host: str, ports: Sequence[int], log_path: Path):
        """`source` is called in a thread of the page's own. `ports`: the first that can be had; 0 is any.

        Raises UsageError: none can.
        """
        self._source, self._names = source, {host.lower()}
        self._socket = _listening(host, ports)
        self._woken, self._wake = os.pipe()
        _log_to(log_path)
        self._server: Any = None
        self._closing = False
        shown = f"[{host}]" if ":" in host else {"0.0.0.0": "127.0.0.1"}.get(host, host)
        self.port = int(self._socket.getsockname()[1])
        self.url = f"http://{shown}:{self.port}/"
        self._thread = threading.Thread(target=self._run, name="page", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        select.select([self._socket, self._woken], [], [])  # the first guest is served once everything is loaded
        if self._closing:
            return
        try:
            asyncio.run(self._serve())
        except Exception:
            log.exception("the page's server ended; this is a bug, please report it")

    async def _serve(self) -> None:
        import uvicorn

        from protocol.page.app import make_app
        from protocol.page.feed import Feed

        feed = Feed(self._source)
        config = uvicorn.Config(
            make_app(feed, self._names),
            loop="none",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS_MAX,
            h11_max_incomplete_event_size=HEADER_BYTES_MAX,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        if self._closing:
            return
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            feed.close()

    def close(self) -> None:
        """Again is harmless."""
        if self._closing:
            return
        self._closing = True
        if self._server is not None:
            self._server.should_exit = self._server.force_exit = True
        os.write(self._wake, b"x")
        self._thread.join(CLOSE_SECONDS)
        self._socket.close()
        if not self._thread.is_alive():
            os.close(self._woken)
            os.close(self._wake)


def _listening(host: str, ports: Sequence[int]) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0]
    except OSError:
        raise UsageError(f"--page {host}:{ports[0]}: no such address") from None
    why: object = ""
    for wanted in ports:
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address[0], wanted))
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            why = error.strerror or error
            continue
        return listener
    raise BusyError(f"--page {host}:{ports[0]}: {why}; choose another, or --page none")


def _log_to(path: Path) -> None:
    """Its troubles are no business of the terminal."""
    for name in ("protocol.page", "uvicorn"):
        logger = logging.getLogger(name)
        logger.propagate = False
        if not any(isinstance(handler, LogFile) for handler in logger.handlers):
            logger.addHandler(LogFile(path, 1 << 20, backups=1))
