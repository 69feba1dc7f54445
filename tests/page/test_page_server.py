"""The page's server on loopback: which requests it answers, and that watching costs one computation."""

import asyncio
import json
import socket
import threading
import time

import msgspec
import pytest
from support.pages import ORGANIZER, Guest, a_state, a_status

from protocol.errors import UsageError
from protocol.page import feed as feeds
from protocol.page.feed import Feed, Full, Unavailable
from protocol.page.guard import BURST, REQUESTS_A_SECOND, Rate, is_ours, refusal
from protocol.page.server import PageServer, split_place


@pytest.fixture
def guest(tmp_path):
    guest = Guest(a_state, tmp_path)
    yield guest
    guest.server.close()


def test_page_state_schema_and_health(guest):
    page = guest.ask()
    assert page.status == 200 and b"mallory" in page.body and page.headers["content-type"].startswith("text/html")
    state = guest.ask("/api/v1/state")
    assert json.loads(state.body)["organizer"] == ORGANIZER and state.headers["content-type"] == "application/json"
    schema = json.loads(guest.ask("/api/v1/schema").body)
    assert set(json.loads(state.body)) == set(schema["$defs"]["State"]["properties"])
    assert guest.ask("/healthz").body == b"ok\n"
    assert {guest.ask(f"/static/{name}").status for name in ("page.css", "page.js", "icon.svg")} == {200}
    for answer in (page, state, guest.ask("/nothing"), guest.ask(method="POST")):
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff" and "set-cookie" not in answer.headers
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_nothing_can_be_changed(guest, method):
    assert guest.ask(method=method, body=b"x").status == 405


def test_head_is_answered_without_a_body(guest):
    assert guest.ask(method="HEAD")[::2] == (200, b"")


@pytest.mark.parametrize(
    "target", ["/static/../server.py", "/static/page.html", "/static/%2e%2e/app.py", "/api", "//x"]
)
def test_no_other_file_is_served(guest, target):
    assert guest.ask(target).status in (404, 405)


def test_a_bent_name_is_turned_away(guest):
    assert guest.ask(Host="evil.example").status == 421
    assert guest.ask(Host=f"localhost:{guest.port}").status == 200
    assert guest.ask(Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors").status == 403
    assert guest.ask("/?" + "x" * 600).status == 414


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("127.0.0.1:7780", True),
        ("127.0.0.1", True),
        ("[::1]:7780", True),
        ("LOCALHOST:1", True),
        ("zoo.example:80", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example:7780", False),
        ("localhost.evil.example", False),
        ("", False),
        (":7780", False),
        ("[::1", False),
    ],
)
def test_which_names_are_ours(host, ours):
    assert is_ours(host, {"localhost", "zoo.example"}) is ours


def test_a_link_from_another_page_may_lead_here():
    linked = {"host": "127.0.0.1", "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert refusal("GET", linked, 1, ()) is None


def test_an_address_gets_so_many_answers_and_no_more():
    now = 0.0
    rate = Rate(lambda: now)
    assert sum(rate.take("a") for _ in range(1000)) == BURST and rate.take("b")
    now = 1.0
    assert sum(rate.take("a") for _ in range(1000)) == REQUESTS_A_SECOND


def test_a_flood_of_requests_is_told_to_wait(guest):
    statuses = [guest.ask("/healthz").status for _ in range(int(BURST) + 40)]
    assert 429 in statuses and statuses[0] == 200


def test_news_come_section_by_section(guest):
    found = guest.events(9)
    assert {event for event, _ in found} == {"section"}
    sections = {json.loads(data)["name"]: json.loads(data)["html"] for _, data in found}
    assert "128" in sections["totals"] and "mallory" in sections["checks"]


def test_watchers_that_left_are_counted_no_more(guest, monkeypatch):
    monkeypatch.setattr(feeds, "WATCHERS_MAX", 3)
    for _ in range(9):
        assert guest.events(1)[0][0] == "section"


def test_nobody_computes_before_somebody_looks_and_closing_is_quick(tmp_path):
    asked = []
    guest = Guest(lambda: asked.append(1) or a_state(), tmp_path)
    assert not asked
    began = time.monotonic()
    guest.server.close()
    assert not asked and time.monotonic() - began < 2
    with pytest.raises(OSError):
        guest.ask()


def test_it_closes_while_somebody_watches(tmp_path):
    guest = Guest(a_state, tmp_path)
    watcher = socket.create_connection(("127.0.0.1", guest.port))
    watcher.sendall(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert watcher.recv(100).startswith(b"HTTP/1.1 200")
    began = time.monotonic()
    guest.server.close()
    assert time.monotonic() - began < 3
    watcher.close()


def test_a_port_that_is_taken(tmp_path):
    guest = Guest(a_state, tmp_path)
    with pytest.raises(UsageError, match="in use"):
        PageServer(a_state, "127.0.0.1", [guest.port], tmp_path / "log")
    other = PageServer(a_state, "127.0.0.1", [guest.port, 0], tmp_path / "log")
    assert other.port not in (0, guest.port) and str(other.port) in other.url
    other.close()
    guest.server.close()


def test_places():
    assert split_place("127.0.0.1:7780") == ("127.0.0.1", 7780) and split_place("0") == ("127.0.0.1", 0)
    assert split_place("[::1]:80") == ("::1", 80) and split_place("none") is None
    for text in ("", "x", "a:b", "1:70000", ":80"):
        with pytest.raises(UsageError, match="--page"):
            split_place(text)


# -- the feed --------------------------------------------------------------------------------------------------------


def test_watchers_share_one_computation():
    asked = []

    async def story():
        feed = Feed(lambda: asked.append(threading.current_thread().name) or a_state(), 60.0)
        frames = await asyncio.gather(*(feed.current() for _ in range(50)))
        feed.close()
        return frames

    frames = asyncio.run(story())
    assert len(asked) == 1 and asked[0].startswith("page-state") and len({id(frame) for frame in frames}) == 1


def test_what_was_known_is_shown_while_the_source_is_in_trouble():
    troubles = [None, OSError("the disk \x1b[2J is full"), None]

    def source():
        trouble = troubles.pop(0)
        if trouble:
            raise trouble
        return a_state()

    async def story():
        feed = Feed(source, 0.0, lambda: 0.0)
        found = [(await feed.current()).state.trouble for _ in range(3)]
        feed.close()
        return found

    fine, bad, mended = asyncio.run(story())
    assert fine == mended == "" and "is full" in bad and bad.isprintable()


def test_nothing_is_shown_before_there_is_something(tmp_path):
    def source():
        raise OSError("no ledger")

    async def story():
        feed = Feed(source, 0.0, lambda: 0.0)
        with pytest.raises(Unavailable, match="no ledger"):
            await feed.current()
        feed.close()

    asyncio.run(story())
    guest = Guest(source, tmp_path)
    assert guest.ask().status == guest.ask("/healthz").status == 503
    guest.server.close()


def test_only_sections_that_changed_are_sent_again():
    states = [a_state(), a_state(), a_state(a_status(networks=129))]

    async def story():
        feed = Feed(lambda: states.pop(0) if len(states) > 1 else states[0], 0.0, lambda: 0.0)
        told = []
        async for name, _ in feed.watch():
            told.append(name)
            if len(told) == 10:
                break
        feed.close()
        return told

    told = asyncio.run(story())
    assert len(set(told[:9])) == 9 and told[9] == "totals"


def test_so_many_may_watch_and_no_more(monkeypatch):
    monkeypatch.setattr(feeds, "WATCHERS_MAX", 3)

    async def story():
        feed = Feed(a_state, 0.0)
        watching = [feed.watch() for _ in range(3)]
        for one in watching:
            await anext(one)
        with pytest.raises(Full):
            await anext(feed.watch())
        await watching[0].aclose()
        await anext(feed.watch())
        feed.close()

    asyncio.run(story())


def test_a_slow_source_is_asked_more_rarely():
    now, asked = [0.0], []

    def source():
        asked.append(now[0])
        now[0] += 3.0
        return msgspec.structs.replace(a_state(), time=now[0])

    async def story():
        feed = Feed(source, 2.0, lambda: now[0])
        for _ in range(100):
            await feed.current()
            now[0] += 1.0
        feed.close()

    asyncio.run(story())
    assert len(asked) == 4, "three seconds of work, then thirty of rest"
