"""What the organizer says in the DHT: the manifest of its campaigns, and which assignments are done or being judged.

Soft state: peers use it to choose work without asking; the ledger is what counts. Runs in a thread of its own.
"""

import logging
from collections import defaultdict
from typing import TYPE_CHECKING

from coordinator.ledger.commands import read_orders
from coordinator.policy.campaigns import in_order_of_urgency
from coordinator.policy.publishing import UNKNOWN, shards_to_announce
from coordinator.server.coordinator import Coordinator
from protocol.engine import ENGINE
from protocol.swarm.records import (
    DONE,
    DONE_TTL,
    SWARM_CAMPAIGNS_MAX,
    CampaignEntry,
    Done,
    SwarmManifest,
    claims_key,
)

if TYPE_CHECKING:
    from protocol.swarm.node import SwarmNode

PROTOCOL = 1
MANIFEST_SECONDS = 60.0  # with the beacon's epoch in it, it would change with every link

log = logging.getLogger(__name__)


class SwarmPublisher:
    def __init__(self, core: Coordinator, node: "SwarmNode", join_target: str):
        self.core, self.node, self.join_target = core, node, join_target
        self._entries: tuple[CampaignEntry, ...] | None = None
        self._manifest_at = 0.0
        self._version = -1  # of the ledger, when everything was said
        self._announced: dict[str, dict[int, int]] = defaultdict(dict)  # campaign -> {shard: bits}
        self._known: set[str] = set()

    def publish(self) -> None:
        """Say what has changed. Raises whatever the node raises when the DHT does not answer."""
        self.core.ordered.clear()
        now, version = self.core.clock(), self.core.stores.ledger.version
        if version == self._version and now - self._manifest_at <= MANIFEST_SECONDS:
            return
        listed = self._listed()
        entries = tuple(CampaignEntry(bytes.fromhex(digest), self._assignments(digest)) for digest in listed)
        if entries != self._entries or now - self._manifest_at > MANIFEST_SECONDS:
            manifest = SwarmManifest(
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
        states = self.core.stores.campaigns.states()
        priorities = {digest: self.core.stores.campaigns.get(digest)[0].priority for digest in states}
        with self.core.stores.ledger.read() as connection:
            priorities |= {digest: order.priority for digest, order in read_orders(connection).items()}
        return in_order_of_urgency(states, priorities)[:SWARM_CAMPAIGNS_MAX]

    def _assignments(self, digest: str) -> int:
        return self.core.stores.campaigns.get(digest)[0].assignment_count

    def _publish_done(self, digest: str) -> bool:
        """Whether the DHT now has all bits of this campaign."""
        bits = self.core.done_bits(digest)
        # After a restart the DHT may still hold bits of the last run: say at once what has become of them.
        touched = self.core.touched_bits(digest) if digest not in self._known else {}
        self._known.add(digest)
        announced = self._announced[digest]
        for shard in touched:
            announced.setdefault(shard, UNKNOWN)
        stored = True
        for shard, done in shards_to_announce(announced, bits).items():
            ok = self.node.keep(claims_key(digest, shard), DONE, Done(done=done), DONE_TTL)
            announced[shard] = done if ok else UNKNOWN
            stored &= ok
        return stored
