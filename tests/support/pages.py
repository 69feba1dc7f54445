"""States for tests of the status page, and a server to ask."""

import http.client
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from protocol.page.server import PageServer
from protocol.page.state import Network, Panel, State, ZooMap
from protocol.page.told import state_of

ALICE, MALLORY, ORGANIZER = "12D3KooW" + "A" * 44, "12D3KooW" + "M" * 44, "12D3KooW" + "O" * 44


def a_status(**changed: Any) -> dict[str, Any]:
    """What `zooswarm status --json` might print, cut to what the page needs."""
    campaign = {
        "digest": "ab" * 32,
        "name": "demo",
        "state": "running",
        "assignments": 60,
        "pending": 20,
        "committed": 3,
        "checking": 5,
        "admitted": 32,
        "rejected": 2,
        "networks": 240,
        "networks_admitted": 128,
        "networks_published": 120,
        "networks_by_class": {"parity": 64, "xor": 64},
        "eta_seconds": 44.0,
    }
    rejected = {
        "host": MALLORY,
        "name": "mallory",
        "campaign": "demo",
        "assignment": 7,
        "outcome": "convicted",
        "reason": "replay disagrees in 5 segments",
        "at": 1_700_000_000.0,
    }
    return {
        "organizer": ORGANIZER,
        "time": 1_700_000_000.0,
        "campaigns": [campaign],
        "networks": 128,
        "networks_by_class": {"parity": 64, "xor": 64},
        "hosts_known": 2,
        "hosts_present": 1,
        "hosts_banned": 1,
        "hosts": [
            {"host": ALICE, "name": "alice @owls", "credit": 800, "present": True, "seconds_ago": 2.0},
            {"host": MALLORY, "name": "mallory", "banned": "wrong work", "seconds_ago": 400.0},
        ],
        "leaders": [{"host": ALICE, "name": "alice @owls", "credit": 800, "clean_bundles": 10}],
        "teams": [{"name": "owls", "hosts": 1, "credit": 800}],
        "rejections": [rejected],
        "refusals": [{"reason": "signature", "host": "", "count": 3, "detail": "it does not hold", "last_at": 1.7e9}],
    } | changed


def a_state(status: dict[str, Any] | None = None, **ours: Any) -> State:
    told = {"source": "coordinator", "title": "zooswarm", "version": "0.2", "organizer": ORGANIZER, "time": 1.7e9}
    return state_of(status or a_status(), **{**told, "recent": [a_network()], "zoo_map": a_map(40)} | ours)


def a_network(seed: int = 3) -> Network:
    losses: list[float | None] = [math.exp(-step / (4 + seed)) for step in range(30)]
    return Network(
        id=f"{'ab' * 8}-{seed}",
        label="parity",
        seed=seed,
        steps=1500,
        loss=math.exp(-29 / (4 + seed)),
        host=ALICE,
        at=1.7e9,
        training=losses,
        held_out=[1.2 * loss if loss else None for loss in losses],
    )


def a_map(points: int, classes: int = 2) -> ZooMap:
    places = [(0.5 + 0.4 * math.sin(i), 0.5 + 0.4 * math.cos(i), i % classes) for i in range(points)]
    names = [f"class {i}" for i in range(classes)]
    panel = Panel(title="gru", networks=points, explained=0.5, classes=names, points=places)
    return ZooMap(manifest=3, networks=points, method="by hand", panels=[panel])


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Guest:
    """Asks a page on loopback."""

    def __init__(self, source: Callable[[], State], path: Path):
        self.server = PageServer(source, "127.0.0.1", [0], path / "page.log")
        self.port = int(self.server.url.rstrip("/").rpartition(":")[2])

    def ask(self, target: str = "/", method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, target, body=body, headers=named)
            reply = connection.getresponse()
            return Answer(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())
        finally:
            connection.close()

    def events(self, sections: int) -> list[tuple[str, str]]:
        """(event, data) of the first so many, of one connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", "/events")
            reply, found, name = connection.getresponse(), [], ""
            assert reply.status == 200, reply.read()
            while len(found) < sections:
                line = reply.readline().decode().rstrip("\n")
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    found.append((name, line.removeprefix("data: ")))
            return found
        finally:
            connection.close()
