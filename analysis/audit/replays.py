"""Train networks of a zoo again, and choose which: only this proves that a network is what its recipe gives.

Two of three are drawn evenly, every network alike: what they show holds for the whole zoo, whenever one stops, as long
as one does not stop because of what was found. The third is drawn for whom others have checked least: a host of which
nothing was trained again yet, the fewest checked segments a network first. It can only find more.
"""

import random
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from protocol.engine import Engine
from protocol.errors import UsageError
from protocol.zoo.store import Store

EVENLY = 2  # draws for the whole zoo, between two for one host


class Replays(msgspec.Struct, kw_only=True):
    """Networks trained again, each counted once."""

    agreed: int = 0
    differed: int = 0
    drawn: int = 0  # evenly drawn ones, for the share of the whole zoo
    drawn_differed: int = 0
    by_host: dict[str, tuple[int, int]] = {}  # host -> agreed, differed
    seconds: float = 0.0
    stopped: bool = False  # by Ctrl-C
    problems: list[str] = []


class Drawing:
    """Which network comes next. Rows have `id` and `host`; `cells` is checked segments a network, of each host."""

    def __init__(self, rows: list[dict[str, Any]], cells: Mapping[str, float], rng: random.Random | None = None):
        rng = rng or random.SystemRandom()
        self._evenly = deque(rng.sample(rows, len(rows)))
        own: dict[str, list[dict[str, Any]]] = {}
        for row in rng.sample(rows, len(rows)):
            own.setdefault(row["host"], []).append(row)
        self._hosts = deque(own[host] for host in sorted(own, key=lambda host: (cells.get(host, 0.0), rng.random())))
        self._turn = 0
        self._seen: set[str] = set()  # hosts of which something was drawn

    def next(self) -> tuple[dict[str, Any], bool] | None:
        """A network, and whether it was drawn evenly; None when all were. The same network may come both ways."""
        self._turn += 1
        row = self._of_a_host() if self._turn % (EVENLY + 1) == 0 else None
        evenly = row is None
        if evenly and self._evenly:
            row = self._evenly.popleft()
        if row is not None:
            self._seen.add(row["host"])
        return None if row is None else (row, evenly)

    def _of_a_host(self) -> dict[str, Any] | None:
        while self._hosts:
            rows = self._hosts.popleft()
            if rows[0]["host"] not in self._seen:
                return rows[0]
        return None


def replay_networks(
    store: Store,
    drawing: Drawing,
    found: Replays,
    *,
    networks: int | None,
    seconds: float,
    threads: int = 1,
    hear: Callable[[Replays], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Train drawn networks again, `networks` of them or as many as begin within `seconds`, and tell `found`.

    Whatever was begun is finished, so that slow networks are judged like quick ones. Ctrl-C ends it.
    """
    from protocol.engine.select import select_engine

    engine, began = select_engine("auto", threads=threads), clock()
    agrees: dict[str, bool] = {}  # network -> whether it agreed
    try:
        while (networks is None and clock() - began < seconds) or (networks is not None and len(agrees) < networks):
            batch = []
            while len(batch) < threads and len(agrees) + len(batch) < (networks or 1 << 60):
                if (drawn := drawing.next()) is None:
                    break
                batch.append(drawn)
            if not batch:
                break
            fresh = {row["id"]: row for row, _ in batch if row["id"] not in agrees}
            for name, problem in trained_again(engine, store, list(fresh.values()), threads).items():
                agrees[name] = problem is None
                found.problems += [problem] if problem else []
                _count(found, fresh[name]["host"], agrees[name])
            for row, evenly in batch:
                found.drawn += evenly
                found.drawn_differed += evenly and not agrees[row["id"]]
            found.seconds = clock() - began
            hear(found)
    except KeyboardInterrupt:
        found.stopped = True


def trained_again(engine: Engine, store: Store, rows: list[dict[str, Any]], width: int = 1) -> dict[str, str | None]:
    """Network -> None when it has the catalogue's weights, else what is wrong, in one line."""
    from protocol.engine.training import train_networks

    problems: dict[str, str | None] = {}
    for digest in dict.fromkeys(row["recipe"] for row in rows):
        members = {row["seed"]: row for row in rows if row["recipe"] == digest}
        last = {}
        try:
            for seed, boundary in train_networks(engine, store.recipe(digest), list(members), width, shelf=store.shelf):
                last[seed] = boundary.state.params_digest.hex()
        except UsageError as error:
            names = [row["id"] for row in members.values()]
            problems |= {name: f"network {name}: cannot be trained again: {error}" for name in names}
            continue
        for seed, row in members.items():
            wrong = f"network {row['id']} of {row['host']}: trained again, it has other weights"
            problems[row["id"]] = None if last.get(seed) == row["weights_digest"] else wrong
    return problems


def _count(found: Replays, host: str, agreed: bool) -> None:
    before = found.by_host.get(host, (0, 0))
    found.by_host[host] = (before[0] + agreed, before[1] + (not agreed))
    found.agreed += agreed
    found.differed += not agreed
