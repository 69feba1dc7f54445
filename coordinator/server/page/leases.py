"""How many assignments are leased to volunteers: the DHT knows, the ledger does not."""

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from protocol.swarm.claim_rules import view_of
from protocol.swarm.records import SHARD_SIZE, claims_key, shard_count

SHARDS_READ_MAX = 32  # of a campaign: 2,048 assignments, the first that are not done; volunteers hold no more at once
READ_SECONDS = 5.0

log = logging.getLogger(__name__)
Entries = Mapping[tuple[str, str], Any]


class Node(Protocol):
    def read(self, keys: Sequence[str], /) -> dict[str, dict[tuple[str, str], Any]]: ...


class Leases:
    """Asks at most every READ_SECONDS, and remembers; None where nothing was heard."""

    def __init__(self, node: Node | None, organizer: str, clock: Callable[[], float] = time.monotonic):
        self._node, self._organizer, self._clock = node, organizer, clock
        self._counts: dict[str, int] = {}
        self._asked: dict[str, float] = {}

    def count(self, digest: str, assignments: int, done: Mapping[int, int], banned: Collection[str] = ()) -> int | None:
        """Of a campaign; `done`: {shard: bits} of what is admitted or being judged. Claims of `banned` do not count."""
        now = self._clock()
        if self._node is not None and now - self._asked.get(digest, -READ_SECONDS) >= READ_SECONDS:
            self._asked[digest] = now
            shards = open_shards(assignments, done)
            try:
                found = self._node.read([claims_key(digest, shard) for shard in shards]) if shards else {}
            except Exception as error:  # whatever the swarm has: the page goes on without
                log.info("the swarm's leases: %r", error)
            else:
                pairs = ((found.get(claims_key(digest, shard), {}), done.get(shard, 0)) for shard in shards)
                self._counts[digest] = sum(leased(entries, bits, self._organizer, banned) for entries, bits in pairs)
        return self._counts.get(digest)


def open_shards(assignments: int, done: Mapping[int, int]) -> list[int]:
    """The first shards in which something is left to do."""
    found = []
    for shard in range(shard_count(assignments)):
        size = min(SHARD_SIZE, assignments - shard * SHARD_SIZE)
        if done.get(shard, 0).bit_count() < size:
            found.append(shard)
            if len(found) >= SHARDS_READ_MAX:
                break
    return found


def leased(entries: Entries, done: int, organizer: str, banned: Collection[str] = ()) -> int:
    """Assignments of one shard that somebody claims and that are not done."""
    return (view_of(entries, organizer, organizer, banned).taken & ~done).bit_count()
