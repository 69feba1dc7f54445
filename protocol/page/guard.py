"""Which requests are answered: GET, by a name that is ours, from our own pages, not too many.

The page is on loopback, where any site that somebody visits can send requests to: a name that is not ours means that
somebody's DNS was bent to reach us (rebinding), and a page of another site has no business here.
"""

import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import Any

REQUESTS_A_SECOND, BURST = 20.0, 80.0  # of one address: a page is five
ADDRESSES_MAX = 1024
PATH_MAX = 512  # characters, with the query
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


def refusal(method: str, headers: Mapping[str, str], length: int, names: Collection[str]) -> tuple[int, str] | None:
    """(status, reason), or None: the request is answered. `names`: hosts that are ours beside addresses as numbers;
    `length`: of path and query."""
    if method not in ("GET", "HEAD"):
        return 405, "only GET"
    if not is_ours(headers.get("host", ""), names):
        return 421, "not the name of this page; use the address that the program printed"
    if headers.get("sec-fetch-site") in ("cross-site", "same-site") and headers.get("sec-fetch-mode") != "navigate":
        return 403, "not from another page"
    if length > PATH_MAX:
        return 414, "too long"
    return None


def is_ours(host: str, names: Collection[str]) -> bool:
    """Whether a Host header is one of our names or an address in numbers: those cannot be bent."""
    name, colon, port = host.rpartition(":")
    if not colon or not port.isdecimal():
        name = host
    name = name.lower()
    if name in names:
        return True
    try:
        ipaddress.ip_address(name[1:-1] if name.startswith("[") and name.endswith("]") else name)
    except ValueError:
        return False
    return True


class Rate:
    """A bucket an address that fills by itself."""

    def __init__(self, clock: Callable[[], float]):
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # (requests left, when)

    def take(self, address: str) -> bool:
        now = self._clock()
        left, at = self._buckets.pop(address, (BURST, now))
        left = min(BURST, left + REQUESTS_A_SECOND * (now - at))
        self._buckets[address] = (max(0.0, left - 1), now)
        if len(self._buckets) > ADDRESSES_MAX:
            self._buckets.popitem(last=False)
        return left >= 1


class Guard:
    """ASGI: in front of the routes."""

    def __init__(self, app: Any, names: Collection[str], clock: Callable[[], float]):
        self._app, self._names, self._rate = app, frozenset(names) | {"localhost"}, Rate(clock)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        length = len(scope.get("raw_path") or scope["path"]) + len(scope["query_string"])
        refused = refusal(scope["method"], headers, length, self._names)
        if refused is None and not self._rate.take(scope["client"][0] if scope["client"] else ""):
            refused = 429, "too many requests"

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    *((name.lower().encode(), value.encode()) for name, value in HEADERS.items()),
                ]
            await send(message)

        if refused is None:
            await self._app(scope, receive, guarded)  # what it raises is logged by the server, and answered with 500
            return
        status, why = refused
        body = f"{why}\n".encode()
        plain = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
        plain += [(b"allow", b"GET, HEAD")] if status == 405 else []
        plain += [(b"retry-after", b"2")] if status == 429 else []
        await guarded({"type": "http.response.start", "status": status, "headers": plain})
        await guarded({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
