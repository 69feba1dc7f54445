"""Three hosts that stand, a campaign in which they may turn into a ring of liars, and what the ledger says of it."""

import msgspec
from sqlalchemy import select
from support.room import Room
from support.scripted_host import POLICY, RECIPE, ScriptedHost

from coordinator.ledger.tables import campaigns, hosts, networks, results
from coordinator.policy.auditing import Audit
from coordinator.policy.phases import Phase
from protocol.recipes.campaign import Campaign, Population

LATER = 2  # vesting of a campaign of twenty assignments
RING = msgspec.structs.replace(POLICY, audit_share=1.0, probation_bundles=1)


def campaign_of(**policy) -> Campaign:
    rules = msgspec.structs.replace(RING, **policy)
    return Campaign(name="ring", populations=(Population(recipe=RECIPE, count=40, bundle=2),), policy=rules)


def ring_of(room: Room) -> list[ScriptedHost]:
    """Three hosts that have earned standing with one honest bundle each: assignments 0, 1 and 2."""
    ring = [ScriptedHost(name, 1) for name in ("worker", "bob", "carol")]
    for index, host in enumerate(ring):
        room.admit(host, index, *ring)
    assert room.audit() == 3 and audits(room) == {Audit.PASSED: 3}
    return ring


def audits(room: Room) -> dict[Audit, int]:
    with room.directory.stores.ledger.read() as connection:
        found = connection.execute(select(results.c.audit)).scalars().all()
    return {Audit(audit): found.count(audit) for audit in set(found) if audit}


def row_of(room: Room, digest: bytes):
    with room.directory.stores.ledger.read() as connection:
        return connection.execute(select(results).where(results.c.digest == digest)).one()


def phases(room: Room) -> dict[int, Phase]:
    """Of each assignment's last result."""
    with room.directory.stores.ledger.read() as connection:
        rows = connection.execute(select(results.c.assignment, results.c.phase).order_by(results.c.received_at))
        return {row.assignment: Phase(row.phase) for row in rows}


def check_sums(room: Room) -> None:
    """What is credited, in escrow, counted and registered is what stands."""
    with room.directory.stores.ledger.read() as connection:
        admitted = connection.execute(select(results).where(results.c.phase == Phase.ADMITTED)).all()
        for host in connection.execute(select(hosts)):
            mine = [row for row in admitted if row.worker == host.host]
            assert (host.credit, host.clean_bundles) == (sum(row.segments for row in mine), len(mine))
            assert host.escrow == sum(row.segments for row in mine if not row.vested)
        assert connection.execute(select(campaigns.c.admitted)).scalar() == len(admitted)
        registered = connection.execute(select(networks.c.seed)).scalars().all()
        assert sorted(registered) == sorted(
            seed for row in admitted for seed in room.campaign.assignment(row.assignment).seeds
        )
