"""What the organizer says in the DHT: the manifest of its campaigns, and which assignments are done or being judged.

Soft state: peers use it to choose work without asking; the ledger is what counts. Runs in a thread of its own.
"""

import logging
from typing import TYPE_CHECKING

from coordinator.server.coordinator import Coordinator
from protocol.engine import ENGINE
from protocol.swarm.records import (
    CAMPAIGNS_MAX,
    DONE,
    DONE_TTL,
    SHARD_SIZE,
    CampaignEntry,
    Done,
    Manifest,
    claims_key,
    shard_count,
)

if TYPE_CHECKING:
    from protocol.swarm.node import SwarmNode

PROTOCOL = 1
MANIFEST_SECONDS = 60.0  # with the beacon's epoch in it, it would change with every link

log = logging.getLogger(__name__)


class Gossip:
    def __init__(self, core: Coordinator, node: "SwarmNode", join_target: str):
        self.core, self.node, self.join_target = core, node, join_target
        self._entries: tuple[CampaignEntry, ...] | None = None
        self._manifest_at = 0.0
        self._version = -1  # of the ledger, when everything was said
        self._said: dict[tuple[str, int], int] = {}  # (campaign, shard) -> bits; -1: something, in an earlier run
        self._known: set[str] = set()

    def publish(self) -> None:
        """Say what has changed. Raises whatever the node raises when the DHT does not answer."""
        now, version = self.core.clock(), self.core.ledger.version
        if version == self._version and now - self._manifest_at <= MANIFEST_SECONDS:
            return
        listed = self._listed()
        entries = tuple(
            CampaignEntry(bytes.fromhex(digest), len(self.core.book.get(digest)[0].assignments)) for digest in listed
        )
        if entries != self._entries or now - self._manifest_at > MANIFEST_SECONDS:
            manifest = Manifest(
                campaigns=entries,
                beacon_epoch=self.core.epoch(),
                coordinator=self.join_target,
                protocol=PROTOCOL,
                engine=ENGINE,
            )
            if self.node.publish_manifest(manifest):
                self._entries, self._manifest_at = entries, now
        stored = [self._publish_done(digest) for digest in listed]
        if all(stored) and entries == self._entries:
            self._version = version  # all of it was stored: nothing to say until something changes

    def _listed(self) -> list[str]:
        """The campaigns that fit one manifest: those with work to do first, by priority, then by age."""
        states = self.core.book.states()
        rank = {"running": 0, "paused": 1, "complete": 2, "cancelled": 3}

        def order(digest: str) -> tuple[int, int]:
            return rank[states[digest]], -self.core.book.get(digest)[0].priority

        return sorted(states, key=order)[:CAMPAIGNS_MAX]

    def _publish_done(self, digest: str) -> bool:
        """Whether the DHT now has all bits of this campaign."""
        bits, mask = self.core.done_bits(digest), (1 << SHARD_SIZE) - 1
        # After a restart the DHT may still hold bits of the last run: say at once what has become of them.
        touched = self.core.touched_bits(digest) if digest not in self._known else 0
        self._known.add(digest)
        stored = True
        for shard in range(shard_count(len(self.core.book.get(digest)[0].assignments))):
            done = bits >> shard * SHARD_SIZE & mask
            if touched >> shard * SHARD_SIZE & mask:
                self._said.setdefault((digest, shard), -1)
            if done == self._said.get((digest, shard), 0):
                continue
            if self.node.keep(claims_key(digest, shard), DONE, Done(done=done), DONE_TTL):
                self._said[digest, shard] = done
            else:
                stored = False
        return stored
