"""The routes: the page, its three files, news as server-sent events, and the same as JSON with its schema."""

import hashlib
import time
from collections.abc import AsyncIterator, Collection
from importlib.resources import files
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from protocol.page.feed import Feed, Full, Unavailable
from protocol.page.guard import Guard
from protocol.page.state import schema

KINDS = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
RETRY = "retry: 2000\n\n"


def make_app(feed: Feed, names: Collection[str] = ()) -> Any:
    """ASGI. `names`: hosts under which the page is asked for, beside localhost and addresses in numbers."""
    static = {name: (files("protocol.page") / "static" / name).read_bytes() for name in KINDS}
    version = hashlib.sha256(b"".join(static.values())).hexdigest()[:12]
    written = msgspec.json.encode(schema())

    async def page(request: Request) -> Response:
        frame = await feed.current()
        return HTMLResponse(frame.page(version))

    async def state(request: Request) -> Response:
        return Response((await feed.current()).json, media_type="application/json")

    async def described(request: Request) -> Response:
        return Response(written, media_type="application/schema+json")

    async def health(request: Request) -> Response:
        """Whether the state can be had: what a supervisor asks."""
        await feed.current()
        return PlainTextResponse("ok\n")

    async def asset(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in static:
            return PlainTextResponse("not found\n", 404)
        return Response(static[name], media_type=KINDS[name])

    async def events(request: Request) -> Response:
        feed.refuse_more()
        return StreamingResponse(_events(feed), media_type="text/event-stream")

    async def later(request: Request, error: Exception) -> Response:
        return PlainTextResponse(f"not now: {error}\n", 503, {"Retry-After": "3"})

    app = Starlette(
        routes=[
            Route("/", page),
            Route("/events", events),
            Route("/api/v1/state", state),
            Route("/api/v1/schema", described),
            Route("/healthz", health),
            Route("/static/{name}", asset),
        ],
        exception_handlers={Unavailable: later, Full: later},
    )
    return Guard(app, names, time.monotonic)


async def _events(feed: Feed) -> AsyncIterator[str]:
    yield RETRY
    try:
        async for name, html in feed.watch():
            if name:
                yield f"event: section\ndata: {msgspec.json.encode({'name': name, 'html': html}).decode()}\n\n"
            else:
                yield "event: beat\ndata: 0\n\n"
    except Full:
        return
