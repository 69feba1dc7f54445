"""What the swarm's DHT holds, as each side of a split network sees it, and a host's node in it.

A record lives until its end, stands under its owner and kind, and only a later end replaces it: as in the real one.
While the network is split every side has a copy of its own; when it heals, the later end of each record stays.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

from protocol.swarm.claimer import Put
from protocol.swarm.records import CLAIM, Claim
from protocol.trust.allowance import FRESH_ASSIGNMENTS, Allowance
from simulation.environment.kernel import Crashed, Kernel, Later
from simulation.environment.network import Network

Owner = tuple[str, str]  # host, kind
READ_SECONDS = 10.0  # a read that nobody answers


@dataclass
class Entries:
    """What stands under one key. Readers share one answer until it changes; nobody may change it."""

    held: dict[Owner, tuple[Any, float]] = field(default_factory=dict)  # value, end
    _answer: dict[Owner, Any] | None = None
    _until: float = 0.0  # when the first record of the answer ends

    def copy(self) -> "Entries":
        return Entries(dict(self.held))

    def store(self, owner: Owner, value: Any, end: float) -> None:
        """Only a later end replaces a record."""
        if end > self.held.get(owner, (None, 0.0))[1]:
            self.held[owner] = value, end
            self._answer = None

    def read(self, now: float) -> dict[Owner, Any]:
        """What stands now; what has ended is forgotten."""
        if self._answer is None or now >= self._until:
            self.held = {owner: record for owner, record in self.held.items() if record[1] > now}
            self._answer = {owner: value for owner, (value, _) in self.held.items()}
            self._until = min((end for _, end in self.held.values()), default=inf)
        return self._answer


@dataclass
class Dht:
    """Records by key and owner, one copy a side."""

    kernel: Kernel
    network: Network
    rng: random.Random
    failure: float = 0.0  # share of calls that fail
    counts: Counter[str] = field(default_factory=Counter)
    _copies: dict[int, dict[str, Entries]] = field(default_factory=lambda: {0: {}})

    def copy_of(self, host: str) -> dict[str, Entries]:
        """The records that this host can reach. A side's copy begins as what all knew before the split."""
        side = self.network.side(host)
        if side not in self._copies:
            self._copies[side] = {key: entries.copy() for key, entries in self._copies[0].items()}
        return self._copies[side]

    def split(self, sides: int) -> None:
        """Call when the network is split: each side goes on from the records of this moment."""
        for side in range(1, sides):
            self._copies[side] = {key: entries.copy() for key, entries in self._copies[0].items()}

    def heal(self) -> None:
        """Call when the network heals."""
        merged = self._copies.pop(0)
        for side in sorted(self._copies):
            for key, entries in self._copies[side].items():
                mine = merged.setdefault(key, Entries())
                for owner, (value, end) in entries.held.items():
                    mine.store(owner, value, end)
        self._copies = {0: merged}

    def store(self, host: str, key: str, kind: str, value: Any, end: float) -> None:
        """As all honest nodes do: a claim without an allowance, or beyond it, is refused. Allowances are not signed."""
        if isinstance(value, Claim):
            allowed = 0 if value.allowance is None else value.allowance.assignments
            if value.claimed.bit_count() > allowed:
                self.counts["refused claims"] += 1
                return
        mine = self.copy_of(host)
        if key not in mine:
            mine[key] = Entries()
        mine[key].store((host, kind), value, end)

    def read(self, host: str, key: str) -> dict[Owner, Any]:
        """What stands under a key now."""
        entries = self.copy_of(host).get(key)
        return entries.read(self.kernel.now) if entries is not None else {}

    def records(self) -> list[tuple[str, str, str, Any]]:
        """All that stands on side 0 now, for checkers: (key, host, kind, value)."""
        now = self.kernel.now
        return [
            (key, host, kind, value)
            for key, entries in self._copies[0].items()
            for (host, kind), (value, end) in entries.held.items()
            if end > now
        ]


class Node:
    """A host's node: the interface that `protocol.swarm.claimer` wants, over the simulated DHT.

    `skew` is how far this host's clock is from the others' after correction, seconds; `rate` how fast it runs.
    """

    def __init__(self, dht: Dht, host: str, skew: float = 0.0, rate: float = 1.0):
        self.dht, self.host, self.skew, self.rate = dht, host, skew, rate
        self.dead = False
        self._sequence = 0.0

    def monotonic(self) -> float:
        return self.dht.kernel.now * self.rate

    def connected(self) -> bool:
        return not self.dead

    async def sleep(self, seconds: float) -> None:
        self._live()
        await self.dht.kernel.sleep(seconds / self.rate)
        self._live()

    async def put_many(self, puts: Sequence[Put]) -> list[bool]:
        self._live()
        now = self.dht.kernel.now + self.skew
        self._sequence += 1e-6  # as in real nodes: a later put ends later
        ends = [now + seconds + self._sequence for _, _, _, seconds in puts]
        await self._travel()
        failed = self.dht.rng.random() < self.dht.failure
        if failed:
            self.dht.counts["failed stores"] += 1
        if not failed or self.dht.rng.random() < 0.5:  # half of the failed ones did arrive, as in life
            for (key, kind, value, _), end in zip(puts, ends, strict=True):
                self.dht.store(self.host, key, kind, value, end)
        await self._travel()
        return [not failed] * len(puts)

    async def read(self, keys: Sequence[str]) -> dict[str, dict[Owner, Any]]:
        """Raises TimeoutError when the swarm does not answer."""
        self._live()
        await self._travel()
        if self.dht.rng.random() < self.dht.failure:
            self.dht.counts["failed reads"] += 1
            await self.sleep(READ_SECONDS)
            raise TimeoutError
        found = {key: self.dht.read(self.host, key) for key in keys}
        await self._travel()
        return found

    async def _travel(self) -> None:
        await self._wait(self.dht.network.delay(self.host))

    def _wait(self, seconds: float) -> Later:
        return self.dht.kernel.sleep(seconds)

    def _live(self) -> None:
        if self.dead:
            raise Crashed


class EclipsedNode(Node):
    """A node whose neighbours are all an attacker's: what it stores is lost, and it reads what they let it read.

    They cannot sign for others, so they can withhold, and claim everything in a name of their own.
    """

    async def put_many(self, puts: Sequence[Put]) -> list[bool]:
        self._live()
        await self._travel()
        await self._travel()
        return [True] * len(puts)

    async def read(self, keys: Sequence[str]) -> dict[str, dict[Owner, Any]]:
        self._live()
        await self._travel()
        await self._travel()
        bits = (1 << FRESH_ASSIGNMENTS) - 1
        claimed = Claim(bits, bits, Allowance(FRESH_ASSIGNMENTS, 1800, 1 << 39, bytes(64)))
        return {key: {("attacker", CLAIM): claimed} if self.dht.rng.random() < 0.5 else {} for key in keys}
