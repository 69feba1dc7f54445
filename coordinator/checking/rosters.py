"""The rosters of draws: who is present and stands, read from the ledger at most once an epoch for all campaigns that
believe the same.
"""

import msgspec
from sqlalchemy import Connection, or_, select

from coordinator.ledger.heartbeats import Heartbeats
from coordinator.ledger.tables import hosts
from coordinator.policy.standing import Bar, Standing, rank, roster_of, slots_of
from protocol.recipes.campaign import Policy
from protocol.trust.challenge import challenge
from protocol.trust.messages import Draw
from protocol.trust.roster import Roster

ROSTER_SECONDS = 5.0  # draws of one epoch share a roster for so long
ROSTERS_MAX = 16  # campaigns that differ in whom they believe
KNOWN = select(hosts.c.host, hosts.c.banned, hosts.c.clean_bundles, hosts.c.credit, hosts.c.false_accusations).where(
    or_(hosts.c.banned != "", hosts.c.clean_bundles > 0, hosts.c.false_accusations > 0)
)


class Rosters:
    """Used by the referee's thread alone."""

    def __init__(self, presence: Heartbeats, presence_seconds: float):
        self._presence, self._presence_seconds = presence, presence_seconds
        self._rosters: dict[Bar, tuple[int, float, Roster]] = {}  # by whom a campaign believes: epoch, when, roster

    def get(self, connection: Connection, bar: Bar, epoch: int, now: float) -> Roster:
        """The present hosts with standing; the same for all draws of an epoch that are made within seconds."""
        at, made_at, roster = self._rosters.get(bar, (-1, 0.0, None))
        if roster is None or at != epoch or not 0 <= now - made_at < ROSTER_SECONDS:
            tags = self._presence.tags(now, self._presence_seconds)
            roster = roster_of(read_standings(connection), bar, tags)
            if len(self._rosters) >= ROSTERS_MAX:
                self._rosters.clear()
            self._rosters[bar] = epoch, now, roster
        return roster

    def draw(
        self, roster: Roster, result: bytes, worker: str, link: bytes, policy: Policy, standing: bool
    ) -> tuple[Draw, bytes]:
        """The draw of a result, and the hosts that may check it, in their order, as bytes for the ledger.

        Of a worker that was not heard since we started we do not know the network: then nobody else is seated.
        """
        tag = self._presence.tag(worker)
        if tag is None:
            roster, tag = Roster(()), b""
        draw = Draw(
            result=result,
            link=link,
            roster_root=roster.root,
            roster_total=roster.total,
            roster_count=roster.count,
            standing=standing,
            worker_tag=tag,
        )
        ranked = rank(challenge(link, result), roster, worker, tag, slots_of(policy, standing))
        return draw, msgspec.msgpack.encode(ranked)


def read_standings(connection: Connection) -> dict[str, Standing]:
    """Hosts of which something is known, by name."""
    return {
        row.host: Standing(
            host=row.host,
            banned=bool(row.banned),
            clean_bundles=row.clean_bundles,
            credit=row.credit,
            false_accusations=row.false_accusations,
        )
        for row in connection.execute(KNOWN)
    }
