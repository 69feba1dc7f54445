"""Which assignments are admitted, or here to be judged: as bitmaps, read whole once and then only where they change."""

from collections.abc import Iterable

from sqlalchemy import Connection, bindparam, select

from coordinator.ledger.facts import HOLDS
from coordinator.ledger.tables import results
from coordinator.policy.phases import LIVE, Phase
from protocol.swarm.records import SHARD_SIZE

MARGIN_SECONDS = 60.0  # a change says when it was decided; it is committed a little later
WHOLE_SECONDS = 600.0  # then all is read again, whatever the clock did meanwhile
CHUNK = 500  # assignments in one statement

WHOLE = select(results.c.assignment).where(results.c.campaign == bindparam("campaign"), HOLDS)
CHANGED = select(results.c.assignment).where(
    results.c.campaign == bindparam("campaign"), results.c.phase.in_(list(Phase)), results.c.since >= bindparam("after")
)
MOVING = select(results.c.assignment).where(results.c.campaign == bindparam("campaign"), results.c.phase.in_(LIVE))
HELD_OF = WHOLE.where(results.c.assignment.in_(bindparam("assignments", expanding=True)))


class DoneBits:
    """One campaign's. With 100,000 admitted results a look costs what has changed, not all of them."""

    def __init__(self, campaign: str, margin_seconds: float = MARGIN_SECONDS):
        self.campaign, self.margin_seconds = campaign, margin_seconds
        self._bits: dict[int, int] = {}  # by shard
        self._moving: set[int] = set()  # with a result under way: uploads change it and say no time
        self._looked_at, self._read_at = 0.0, None

    def look(self, connection: Connection, now: float) -> dict[int, int]:
        """{shard: bits}, without shards of none."""
        mine = {"campaign": self.campaign}
        if self._read_at is None or now < self._looked_at or now - self._read_at >= WHOLE_SECONDS:
            self._bits, self._read_at = {}, now
            self._set(connection.execute(WHOLE, mine).scalars())
        else:
            after = {"after": self._looked_at - self.margin_seconds}
            changed = self._moving.union(connection.execute(CHANGED, mine | after).scalars())
            listed = sorted(changed)
            for begin in range(0, len(listed), CHUNK):
                chunk = listed[begin : begin + CHUNK]
                for index in chunk:
                    shard, bit = divmod(index, SHARD_SIZE)
                    self._bits[shard] = self._bits.get(shard, 0) & ~(1 << bit)
                self._set(connection.execute(HELD_OF, mine | {"assignments": chunk}).scalars())
        self._moving = set(connection.execute(MOVING, mine).scalars())
        self._looked_at = now
        return {shard: bits for shard, bits in self._bits.items() if bits}

    def _set(self, indices: Iterable[int]) -> None:
        for index in indices:
            shard, bit = divmod(index, SHARD_SIZE)
            self._bits[shard] = self._bits.get(shard, 0) | 1 << bit
