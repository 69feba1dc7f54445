"""The organizer's done bits over the same small node interface as Claims, for stories without a coordinator."""

import asyncio
from collections.abc import Callable, Iterable

from protocol.swarm import claim_rules as rules
from protocol.swarm.claimer import Node
from protocol.swarm.records import DONE, DONE_TTL, Done, claims_key, shard_count

STORES_PER_PUBLISH = 256


class DoneBoard:
    """The organizer's side: which assignments have a result that is accepted or awaits judgement.

    Only the ledger knows; this publishes it. Call `publish` after changes and at least every minute.
    """

    def __init__(self, node: Node, campaign: str, assignments: int, refresh_seconds: float = DONE_TTL / 4):
        self.node, self.campaign, self.refresh_seconds = node, campaign, refresh_seconds
        self._done = [0] * shard_count(assignments)
        self._stored_at: dict[int, float] = {}
        self._dirty: set[int] = set()
        self._publishing = asyncio.Lock()  # or one call would report done what another is still storing

    def mark(self, indices: Iterable[int]) -> None:
        self._change(indices, lambda old, bits: old | bits)

    def clear(self, indices: Iterable[int]) -> None:
        """These are free again: a rejected result, a void bundle, a banned host."""
        self._change(indices, lambda old, bits: old & ~bits)

    async def publish(self) -> int:
        """Store what changed and what nears its end, a bounded number of shards. Returns how many are still due;
        at 0 all marks made before the call are in the swarm."""
        async with self._publishing:
            now = self.node.monotonic()
            old = [s for s, at in self._stored_at.items() if now - at >= self.refresh_seconds and self._done[s]]
            due = list(dict.fromkeys([*sorted(self._dirty), *old]))
            batch = due[:STORES_PER_PUBLISH]
            self._dirty.difference_update(batch)  # before the await: a change meanwhile makes it dirty again
            puts = [(claims_key(self.campaign, s), DONE, Done(done=self._done[s]), DONE_TTL) for s in batch]
            try:
                stored = await self.node.put_many(puts) if puts else []
            except BaseException:
                self._dirty.update(batch)
                raise
            for shard, ok in zip(batch, stored, strict=True):
                if ok:
                    self._stored_at[shard] = now
                else:
                    self._dirty.add(shard)
            return len(due) - sum(stored)

    def _change(self, indices: Iterable[int], how: Callable[[int, int], int]) -> None:
        for shard, bits in rules.by_shard(indices).items():
            new = how(self._done[shard], bits)
            if new != self._done[shard]:
                self._done[shard] = new
                self._dirty.add(shard)
