"""The coordinator's state as one dictionary, for people, pages and scripts. Everything comes from the ledger."""

import math
from collections import Counter, defaultdict
from typing import Any

import msgspec
from sqlalchemy import Connection, func, select

from coordinator.checking.cases import CampaignBook
from coordinator.ledger.database import Ledger, get_meta
from coordinator.ledger.heartbeats import Presence
from coordinator.ledger.tables import campaigns, hosts, refusals, results
from coordinator.policy.phases import LIVE, Phase

HOSTS_MAX = 1000  # in one status; those seen last
REFUSALS_MAX = 1000
ETA_WINDOW_SECONDS = 600.0  # the speed of the last ten minutes says when a campaign is done


def status(ledger: Ledger, book: CampaignBook, presence: Presence, organizer: str, now: float) -> dict[str, Any]:
    """Counts are of assignments unless the name says networks; times are seconds since 1970."""
    with ledger.read() as connection:
        listed = [_campaign(connection, book, row, now) for row in _campaign_rows(connection)]
        networks: Counter[str] = Counter()
        for campaign in listed:
            networks.update(campaign["networks_by_class"])
        return {
            "organizer": organizer,
            "time": now,
            "beacon_epoch": int(get_meta(connection, "epoch", "0")),
            "campaigns": listed,
            "networks": sum(networks.values()),
            "networks_by_class": dict(sorted(networks.items())),
            "hosts": _hosts(connection, presence, now),
            "refusals": _refusals(connection),
        }


def _campaign_rows(connection: Connection):
    columns = (campaigns.c.digest, campaigns.c.state, campaigns.c.seeded_at)
    return connection.execute(select(*columns).order_by(campaigns.c.seeded_at)).all()


def _campaign(connection: Connection, book: CampaignBook, row: Any, now: float) -> dict[str, Any]:
    campaign, _ = book.get(row.digest)
    grouped = connection.execute(
        select(results.c.phase, func.count(), func.sum(results.c.networks))
        .where(results.c.campaign == row.digest)
        .group_by(results.c.phase)
    ).all()
    count = {phase: number for phase, number, _ in grouped}
    networks = {phase: int(number) for phase, _, number in grouped}
    admitted, live = count.get(Phase.ADMITTED, 0), sum(count.get(phase, 0) for phase in LIVE)
    total = len(campaign.assignments)
    published = _published(connection, row.digest)
    whole = row.state != "complete" or published == campaign.network_count
    return {
        "digest": row.digest,
        "name": campaign.name,
        "state": row.state if whole else "publishing",  # complete: all admitted, and all of it in the zoo
        "seeded_at": row.seeded_at,
        "assignments": total,
        "pending": total - admitted - live,
        "committed": count.get(Phase.COMMITTED, 0) + count.get(Phase.OPENING, 0),
        "checking": count.get(Phase.CHECKING, 0),
        "admitted": admitted,
        "rejected": count.get(Phase.VOID, 0) + count.get(Phase.INVALID, 0),
        "networks": campaign.network_count,
        "networks_admitted": networks.get(Phase.ADMITTED, 0),
        "networks_published": published,
        "networks_by_class": _by_class(connection, book, row.digest),
        "eta_seconds": _eta(connection, row.digest, total - admitted, now) if row.state == "running" else None,
    }


def _published(connection: Connection, digest: str) -> int:
    durable = select(func.sum(results.c.networks)).where(results.c.campaign == digest, results.c.published == 1)
    return int(connection.execute(durable).scalar() or 0)


def _by_class(connection: Connection, book: CampaignBook, digest: str) -> dict[str, int]:
    """Admitted networks of a campaign by their recipe's class, from ranges of assignments: constant in their number."""
    campaign, _ = book.get(digest)
    counts: Counter[str] = Counter()
    first = 0
    for population in campaign.populations:
        end = first + -(-population.count // population.bundle)
        admitted = select(func.sum(results.c.networks)).where(
            results.c.campaign == digest,
            results.c.phase == Phase.ADMITTED,
            results.c.assignment >= first,
            results.c.assignment < end,
        )
        counts[population.recipe.label] += int(connection.execute(admitted).scalar() or 0)
        first = end
    return dict(sorted(counts.items()))


def _eta(connection: Connection, digest: str, left: int, now: float) -> float | None:
    """Seconds until all assignments are admitted at the recent pace; None while there is none."""
    recent = select(func.count(), func.min(results.c.received_at)).where(
        results.c.campaign == digest, results.c.phase == Phase.ADMITTED, results.c.since > now - ETA_WINDOW_SECONDS
    )
    number, first = connection.execute(recent).one()
    if number < 2:
        return None
    return round(left * max(1.0, now - max(first, now - ETA_WINDOW_SECONDS)) / number, 1)


def _hosts(connection: Connection, presence: Presence, now: float) -> list[dict[str, Any]]:
    seen = presence.last_seen()
    faults: dict[str, int] = defaultdict(int)
    faulty = select(results.c.worker, func.sum(results.c.fault)).where(results.c.fault > 0).group_by(results.c.worker)
    for worker, number in connection.execute(faulty):
        faults[worker] = int(number)
    listed = []
    for row in connection.execute(select(hosts).order_by(hosts.c.last_seen.desc()).limit(HOSTS_MAX)):
        last_seen = max(row.last_seen, seen.get(row.host, 0.0))
        listed.append(
            {
                "host": row.host,
                "name": row.name,
                "device": row.device,
                "version": row.version,
                "steps_per_second": row.steps_per_second if math.isfinite(row.steps_per_second) else 0.0,
                "networks_trained": row.networks_trained,
                "checks_done": row.checks_done,
                "credit": row.credit,
                "clean_bundles": row.clean_bundles,
                "faults": faults[row.host],
                "false_accusations": row.false_accusations,
                "banned": row.banned,
                "first_seen": row.first_seen,
                "last_seen": last_seen,
                "seconds_ago": round(max(0.0, now - last_seen), 1),
            }
        )
    return listed


def _refusals(connection: Connection) -> list[dict[str, Any]]:
    rows = connection.execute(select(refusals).order_by(refusals.c.last_at.desc()).limit(REFUSALS_MAX))
    return [
        {"reason": r.reason, "host": r.host, "count": r.count, "detail": r.detail, "last_at": r.last_at} for r in rows
    ]


def to_json(value: dict[str, Any]) -> bytes:
    return msgspec.json.encode(value)
