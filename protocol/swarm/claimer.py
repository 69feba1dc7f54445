"""Claiming work through the DHT: looks, waits and stores around the decisions of `claim_rules`.

`Claims` is a host's side; the organizer's is `coordinator.server.swarm_publisher`. It uses the small `Node` interface,
so the same tests run over an in-memory swarm with a fake clock and over real nodes.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from protocol.swarm import claim_rules as rules
from protocol.swarm.claim_rules import SETTLE_SAMPLES, Held, View
from protocol.swarm.records import CLAIM, Claim, claims_key, shard_size
from protocol.trust.allowance import Allowance

SHARDS_PER_CLAIM = 64  # looked at in one claim(), at most: a hunt through 100,000 assignments takes several calls
FINISHED_PER_CLAIM = 16  # of these: shards that were done when we last looked, in case the organizer reopened some
READ_SIZES = (1, 7, 24, 32)  # the first shard is nearly always enough; then ever larger reads
CONTESTS_PER_CLAIM = 3  # lost races before claim() gives up for now
STORES_PER_PUBLISH = 256

Put = tuple[str, str, Any, float]  # key, kind, value, ttl in seconds


class Node(Protocol):
    """What claiming needs of a swarm node. `put_many` tells which puts were stored; `read` raises TimeoutError."""

    host: str

    async def put_many(self, puts: Sequence[Put]) -> list[bool]: ...
    async def read(self, keys: Sequence[str]) -> dict[str, dict[tuple[str, str], Any]]: ...
    async def sleep(self, seconds: float) -> None: ...
    def monotonic(self) -> float: ...
    def connected(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Renewal:
    """What became of our claims: `done` are covered by the organizer's word, `lost` now belong to another host."""

    done: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()


class Claims:
    """A host's claims in one campaign. Run every coroutine on the node's loop; they may overlap.

    A claim is held (renew it at least every third of a lease) until the organizer's done bit covers it; `renew`
    then lets it go by itself. Leases that nobody renews end, and the assignments are free again.
    """

    def __init__(
        self,
        node: Node,
        campaign: str,
        assignments: int,
        organizer: str,
        *,
        settle: float = 1.0,  # seconds, the campaign's floor
        lease: float = 90.0,  # seconds
        patience: float = 3600.0,  # seconds that another host's claim may stand without a result
        banned: Collection[str] = (),
        allowance: Allowance | None = None,
    ):
        self.node, self.campaign, self.assignments, self.organizer = node, campaign, assignments, organizer
        self.settle, self.lease, self.patience, self.banned = settle, lease, patience, banned
        self.allowance = allowance  # the organizer's; may be replaced at any time, without one nothing is claimed
        self.held: dict[int, Held] = {}  # by shard
        self._order = rules.shards_in_order(campaign, node.host, assignments)
        self._cursor = self._finished_cursor = 0  # where the next walks begin
        self._finished: set[int] = set()  # shards that the organizer called done when we last looked
        self._seen: dict[int, dict[str, rules.Watched]] = {}  # by shard: claims of others, since when
        self._samples: deque[float] = deque(maxlen=SETTLE_SAMPLES)  # seconds from looking to being visible

    async def claim(self, batch: int, below: int | None = None) -> list[int] | None:
        """Up to `batch` assignments (of one shard) that are now ours; [] when nothing is free at the moment or the
        swarm is out of reach, so ask again in a while; None when the organizer calls everything done. Only those before
        `below`, if it is said."""
        batch = min(batch, rules.room(self.held.values(), self.allowance))
        if not self.node.connected() or not batch:
            return []
        try:
            for _ in range(CONTESTS_PER_CLAIM):
                found = await self._find(batch, self.assignments if below is None else below)
                if found is None:
                    return None if len(self._finished) == len(self._order) else []
                won = await self._contest(*found)
                if won:
                    return won
        except TimeoutError:
            pass
        return []

    async def resume(self, indices: Iterable[int]) -> list[int]:
        """Take up again the assignments we worked on before a restart; those that nobody else took meanwhile.

        When the swarm is out of reach they are presumed ours: the next renewals that succeed publish them, or find
        out that they are lost.
        """
        ours = []
        for shard, bits in rules.by_shard(indices).items():
            try:
                if not self.node.connected() or self.allowance is None:
                    raise TimeoutError
                seen = self.node.monotonic()
                view = (await self._look([shard]))[shard]
                picked = bits & ~(view.done | view.taken)
                ours += await self._contest(shard, picked, seen) if picked else []
            except TimeoutError:
                held = self.held.setdefault(shard, Held())
                held.claimed |= bits
                held.confirmed |= bits
                ours += rules.indices_of(shard, bits)
        return ours

    async def renew(self) -> Renewal:
        """Extend the leases of all we hold, let go of what is done, and find out what we lost. Never raises for
        want of a network: an unrenewed lease ends by itself and is contested at the next renewal."""
        shards = [shard for shard, held in self.held.items() if held.claimed or held.published]
        if not shards or not self.node.connected():
            return Renewal()
        try:
            views = await self._look(shards)
        except TimeoutError:
            views = {}
        done, lost = [], []
        for shard, view in views.items():
            held = self.held[shard]
            finished = held.confirmed & view.done
            done += rules.indices_of(shard, finished)
            held.drop(finished)
            if rules.lapsed(held, self.node.monotonic(), self.lease):
                gone = held.confirmed & view.taken  # others took over rightfully while our lease had ended
            else:
                gone = rules.lost(view, held.confirmed, self.campaign, self.node.host, shard)
            lost += rules.indices_of(shard, gone)
            held.drop(gone)
        await self._store(shards)
        return Renewal(tuple(done), tuple(lost))

    async def release(self, indices: Iterable[int]) -> None:
        """Give assignments up before they are done: they are free for others at once."""
        bits_by_shard = rules.by_shard(indices)
        shards = [shard for shard in bits_by_shard if shard in self.held]
        for shard in shards:
            self.held[shard].drop(bits_by_shard[shard])
        await self._store(shards)

    async def confirm_still_mine(self, index: int) -> bool:
        """A look before or during the work: False when the assignment is done or another host has precedence.
        When the swarm does not answer the claim is presumed ours."""
        shard, bit = divmod(index, rules.SHARD_SIZE)
        if shard not in self.held or not self.held[shard].confirmed >> bit & 1:
            return False
        try:
            view = (await self._look([shard]))[shard]
        except TimeoutError:
            return True
        return not (view.done >> bit & 1 or rules.lost(view, 1 << bit, self.campaign, self.node.host, shard))

    def mine(self) -> list[int]:
        """The assignments we hold, confirmed."""
        return sorted(i for shard, held in self.held.items() for i in rules.indices_of(shard, held.confirmed))

    async def _find(self, batch: int, below: int) -> tuple[int, int, float] | None:
        """The next shard with something free: (shard, picked bits, when we looked). None after a bounded walk."""
        for shards in self._walk(below):
            seen = self.node.monotonic()
            views = await self._look(shards)
            for shard in shards:
                size = shard_size(self.assignments, shard)
                if views[shard].done == rules.full(size):
                    self._finished.add(shard)
                    continue
                self._finished.discard(shard)
                held = self.held.get(shard) or Held()
                open_to_us = rules.only_below(views[shard], shard, below)
                picked = rules.pick(open_to_us, held, self.campaign, self.node.host, shard, size, batch)
                if picked:
                    self._cursor = self._order.index(shard)  # there may be more where this came from
                    return shard, picked, seen
        return None

    def _walk(self, below: int) -> Iterator[list[int]]:
        """Shards to look at, in growing groups: unfinished ones from where we stopped, then some finished ones."""
        around = [s for s in self._order[self._cursor :] + self._order[: self._cursor] if s * rules.SHARD_SIZE < below]
        finished = sorted(shard for shard in self._finished if shard * rules.SHARD_SIZE < below)
        start = self._finished_cursor % len(finished) if finished else 0
        again = (finished[start:] + finished[:start])[:FINISHED_PER_CLAIM]
        shards = [shard for shard in around if shard not in self._finished][: SHARDS_PER_CLAIM - len(again)]
        if shards:
            self._cursor = (self._order.index(shards[-1]) + 1) % len(self._order)
        self._finished_cursor += len(again)
        shards += again
        sizes = iter(READ_SIZES)
        while shards:
            size = next(sizes, READ_SIZES[-1])
            yield shards[:size]
            shards = shards[size:]

    async def _contest(self, shard: int, picked: int, seen: float) -> list[int]:
        """Claim, settle, look again, decide, confirm. Returns what we won; everything else is withdrawn. Raises
        TimeoutError, with everything withdrawn, when the swarm does not answer."""
        held = self.held.setdefault(shard, Held())
        held.claimed |= picked
        threshold = rules.settle_seconds(self.settle, self._samples)
        won = 0
        try:
            stored = await self._store([shard])
            took = self.node.monotonic() - seen
            self._samples.append(took)
            if not stored:
                raise TimeoutError
            await self.node.sleep(rules.settle_seconds(self.settle, self._samples))
            view = (await self._look([shard]))[shard]
            if not rules.lapsed(held, self.node.monotonic(), self.lease):
                late = rules.is_late(took, threshold)
                won = rules.settled_bits(view, picked, self.campaign, self.node.host, shard, late)
        finally:
            held.confirmed |= won
            held.drop(picked & ~won)
            confirmed = await self._store([shard])
        if not confirmed:
            held.drop(won)  # nobody can see that we hold it
            raise TimeoutError
        return rules.indices_of(shard, won)

    async def _look(self, shards: Sequence[int]) -> dict[int, View]:
        """Fresh views of these shards. Raises TimeoutError when the swarm does not answer."""
        keys = {shard: claims_key(self.campaign, shard) for shard in shards}
        found = await self.node.read(list(keys.values()))
        entries = {shard: found.get(key, {}) for shard, key in keys.items()}
        full = {shard: rules.view_of(e, self.node.host, self.organizer, self.banned) for shard, e in entries.items()}
        greedy = rules.overclaimers(full.values())
        now, views = self.node.monotonic(), {}
        for shard in shards:
            view = rules.without(full[shard], greedy)
            self._seen[shard] = rules.remember(self._seen.get(shard, {}), view, now)
            views[shard] = rules.without_overdue(view, self._seen[shard], now, self.patience)
        return views

    async def _store(self, shards: Sequence[int]) -> bool:
        """Publish our bits of these shards under the lease. True when every record reached the swarm."""
        now = self.node.monotonic()  # before the put: our lease may end a little early, never late
        held = [(shard, self.held[shard]) for shard in shards]
        records = [(shard, Claim(h.claimed, h.confirmed, self.allowance)) for shard, h in held]
        puts = [(claims_key(self.campaign, shard), CLAIM, claim, self.lease) for shard, claim in records]
        stored = await self.node.put_many(puts) if puts else []
        for (shard, claim), ok in zip(records, stored, strict=True):
            if ok:
                self.held[shard].stored_at = now
                self.held[shard].published = claim.claimed
        return all(stored)
