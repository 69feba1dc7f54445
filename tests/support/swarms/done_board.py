"""The organizer's done bits over the same small node interface as Claims, for stories without a coordinator.

What is said is the organizer's own rule (`coordinator.policy.publishing`); only the storing is done here, since a story
runs in one event loop.
"""

import asyncio
from collections.abc import Iterable

from coordinator.policy.publishing import UNKNOWN, shards_to_announce
from protocol.swarm.claim_rules import by_shard
from protocol.swarm.claimer import Node
from protocol.swarm.records import DONE, DONE_TTL, Done, claims_key


class DoneBoard:
    """Which assignments have a result that is accepted or awaits judgement: tests say so, in place of a ledger.

    Call `publish` after changes and at least every minute.
    """

    def __init__(self, node: Node, campaign: str, refresh_seconds: float = DONE_TTL / 4):
        self.node, self.campaign, self.refresh_seconds = node, campaign, refresh_seconds
        self._done: dict[int, int] = {}
        self._said: dict[int, int] = {}
        self._stored_at: dict[int, float] = {}
        self._publishing = asyncio.Lock()  # or one call would report done what another is still storing

    def mark(self, indices: Iterable[int]) -> None:
        for shard, bits in by_shard(indices).items():
            self._done[shard] = self._done.get(shard, 0) | bits

    def clear(self, indices: Iterable[int]) -> None:
        """These are free again: a rejected result, a void bundle, a banned host."""
        for shard, bits in by_shard(indices).items():
            self._done[shard] = self._done.get(shard, 0) & ~bits

    async def publish(self) -> int:
        """Store what changed and what nears its end. Returns how many shards are still due; at 0 all marks made
        before the call are in the swarm."""
        async with self._publishing:
            now = self.node.monotonic()
            due = shards_to_announce(self._said, self._done)
            for shard, at in self._stored_at.items():
                if now - at >= self.refresh_seconds and self._said[shard] > 0:
                    due.setdefault(shard, self._said[shard])
            puts = [(claims_key(self.campaign, shard), DONE, Done(done=bits), DONE_TTL) for shard, bits in due.items()]
            stored = await self.node.put_many(puts) if puts else []
            for (shard, bits), ok in zip(due.items(), stored, strict=True):
                self._said[shard] = bits if ok else UNKNOWN
                if ok:
                    self._stored_at[shard] = now
            return len(due) - sum(stored)
