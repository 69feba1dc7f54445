"""A swarm in memory under a clock that jumps: the same interface that real nodes have, with faults as options."""

import asyncio
import random
import selectors
from dataclasses import dataclass, field
from typing import Any

from support.swarms.done_board import DoneBoard

from protocol.swarm.claimer import Claims
from protocol.trust.allowance import Allowance

CAMPAIGN = "ab" * 32
ENOUGH = Allowance(64, 4 * 3600, 1 << 39, bytes(64))  # nobody checks it here


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock moves only when everybody waits: a simulated hour takes as long as its events."""

    def __init__(self):
        self.now = 0.0
        super().__init__(JumpingSelector(self))

    def time(self):
        return self.now


class JumpingSelector(selectors.SelectSelector):
    def __init__(self, loop):
        super().__init__()
        self.loop = loop

    def select(self, timeout=None):
        if timeout is None:
            raise RuntimeError("everybody waits, and for nothing")
        self.loop.now += max(0.0, timeout)
        return super().select(0)


def run_virtual(story):
    """Run a coroutine to its end under the jumping clock."""
    loop = JumpingLoop()
    try:
        return loop.run_until_complete(story)
    finally:
        loop.close()


@dataclass
class FakeNode:
    """One host's node. Each call takes a random time around `latency`, and may fail."""

    swarm: "FakeSwarm"
    host: str
    latency: float
    up: bool = True
    keys_read: int = 0

    async def put_many(self, puts):
        self.swarm.sequence += 1e-6  # as in real nodes: a later put ends later, and only a later end replaces
        ends = [self.monotonic() + ttl + self.swarm.sequence for _, _, _, ttl in puts]
        await self._travel()
        failed = self.swarm.rng.random() < self.swarm.failure
        if failed and self.swarm.rng.random() < 0.5:
            return [False] * len(puts)
        for (key, kind, value, _), end in zip(puts, ends, strict=True):
            entries = self.swarm.records.setdefault(key, {})
            if end > entries.get((self.host, kind), (None, 0.0))[1]:
                entries[self.host, kind] = (value, end)
        await self._travel()
        return [not failed] * len(puts)  # half of the failed ones did arrive, as in life

    async def read(self, keys):
        self.keys_read += len(keys)
        await self._travel()
        if self.swarm.rng.random() < self.swarm.failure:
            raise TimeoutError
        now = self.monotonic()
        found = {
            key: {who: value for who, (value, end) in self.swarm.records.get(key, {}).items() if end > now}
            for key in keys
        }
        await self._travel()
        return found

    async def sleep(self, seconds):
        await asyncio.sleep(seconds)

    def monotonic(self):
        return asyncio.get_running_loop().time()

    def connected(self):
        return self.up

    async def _travel(self):
        await asyncio.sleep(self.latency * self.swarm.rng.uniform(0.5, 1.5) / 2)


@dataclass
class FakeSwarm:
    """The hosts and what the DHT would hold."""

    seed: int = 0
    latency: float = 0.05  # mean seconds of a call
    failure: float = 0.0  # share of calls that fail
    settle: float = 0.5
    lease: float = 30.0
    records: dict[str, dict[tuple[str, str], tuple[Any, float]]] = field(default_factory=dict)

    def __post_init__(self):
        self.sequence = 0.0
        self.rng = random.Random(self.seed)
        self.organizer = FakeNode(self, "organizer", self.latency)

    def board(self, assignments):
        return DoneBoard(self.organizer, CAMPAIGN)

    def host(self, name, assignments, latency=None):
        node = FakeNode(self, name, self.latency if latency is None else latency)
        return Claims(node, CAMPAIGN, assignments, "organizer", settle=self.settle, lease=self.lease, allowance=ENOUGH)

    async def on(self, claims, work):
        """Run a coroutine of a host or board where its node lives."""
        return await work

    async def crash(self, claims):
        claims.node.up = False

    def clock(self):
        return asyncio.get_running_loop().time()
