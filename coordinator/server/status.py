"""The coordinator's state as one value, for people, pages and scripts. Everything comes from the ledger.

Its JSON is what `zooswarm status --json` prints. Times are seconds since 1970 unless the name says otherwise.
"""

import math
from collections import Counter, defaultdict

import msgspec
from sqlalchemy import Connection, Row, func, select

from coordinator.checking.cases import CampaignBook
from coordinator.ledger.audits import WORKER, count_audits
from coordinator.ledger.commands import Order, read_orders
from coordinator.ledger.database import Ledger, get_meta
from coordinator.ledger.heartbeats import Heartbeats, Present
from coordinator.ledger.tables import campaigns, hosts, proofs, refusals, results
from coordinator.policy.auditing import Audit
from coordinator.policy.phases import UNDER_WAY, Phase
from coordinator.policy.presence import PRESENCE_SECONDS
from coordinator.server.rankings import LeaderStatus, RejectionStatus, TeamStatus, leaders, rejections, teams
from protocol.trust.messages import CampaignState

HOSTS_MAX = 100  # in one status; those seen last, hosts that earned something first
REFUSALS_MAX = 100
ETA_WINDOW_SECONDS = 600.0  # the speed of the last ten minutes says when a campaign is done


class CampaignStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Counts are of assignments unless the name says networks."""

    digest: str
    name: str
    state: str  # running, paused, cancelled, publishing (all is admitted, not all in the zoo yet), complete
    seeded_at: float
    priority: int = 0
    max_leased: int = 0  # assignments under way at once; 0: no limit
    assignments: int
    pending: int
    committed: int  # handed in, waiting for a challenge or for what it asks for
    checking: int
    kept: int = 0  # behind another host's that is being checked: taken up should that fall
    admitted: int
    rejected: int  # results, not assignments: each of those may have several
    retracted: int  # results that were admitted, and are no more
    networks: int
    networks_admitted: int
    networks_published: int  # durable in the zoo
    networks_by_class: dict[str, int]  # admitted ones
    progress_at: float = 0.0  # when something of it was last admitted, or it was seeded
    eta_seconds: float | None  # None while there is no pace to go by, and when it is not running


class HostStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Name, device, version and counts are what the host says about itself; the rest is ours."""

    host: str
    name: str
    device: str
    version: str
    steps_per_second: float
    networks_trained: int
    checks_done: int
    credit: int  # network-segments
    escrow: int  # of these, what a conviction would take back
    clean_bundles: int
    faults: int
    false_accusations: int
    banned: str  # why, or ""
    convicted: bool  # shown to have lied, as worker or as checker
    first_seen: float
    last_seen: float
    seconds_ago: float  # since it was last seen
    present: bool = False


class RefusalStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Refusals of one reason and host, "" where no signature held."""

    reason: str
    host: str
    count: int
    detail: str  # of the last one
    last_at: float


class AuditStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The organizer's own audit of admitted bundles. Counts are of results, but for the vouchers."""

    due: int  # chance wants a network of theirs trained again
    suspect: int  # a liar's work, or vouched for by one
    judging: int  # false, and their checkers are not judged yet
    passed: int
    judged: int  # false
    vouchers: int  # hosts that vouched for a fake


class Status(msgspec.Struct, frozen=True, kw_only=True):
    organizer: str
    time: float
    beacon_epoch: int  # links that have been shown
    campaigns: list[CampaignStatus]  # in the order of seeding
    networks: int  # admitted, of all campaigns
    networks_by_class: dict[str, int]
    hosts_known: int  # that earned something
    hosts_present: int  # these and others
    hosts_banned: int
    hosts: list[HostStatus]  # HOSTS_MAX at most; those that earned something first, then those seen last
    refusals: list[RefusalStatus]  # the last ones first, REFUSALS_MAX at most
    audits: AuditStatus
    free_bytes: int = -1  # on the host's disk; -1: not known
    leaders: list[LeaderStatus] = []
    teams: list[TeamStatus] = []
    rejections: list[RejectionStatus] = []  # the last ones first


def status(ledger: Ledger, book: CampaignBook, presence: Heartbeats, organizer: str, now: float) -> Status:
    """Costs a third of a second at 100,000 assignments."""
    with ledger.read() as connection:
        orders = read_orders(connection)
        listed = [_campaign(connection, book, row, orders.get(row.digest), now) for row in _campaign_rows(connection)]
        networks: Counter[str] = Counter()
        for campaign in listed:
            networks.update(campaign.networks_by_class)
        return Status(
            organizer=organizer,
            time=now,
            beacon_epoch=int(get_meta(connection, "epoch", "0")),
            campaigns=listed,
            networks=sum(networks.values()),
            networks_by_class=dict(sorted(networks.items())),
            hosts_known=connection.execute(select(func.count()).select_from(hosts)).scalar_one(),
            hosts_present=presence.count_present(now, PRESENCE_SECONDS),
            hosts_banned=connection.execute(select(func.count()).where(hosts.c.banned > "")).scalar_one(),
            hosts=_hosts(connection, presence, now),
            refusals=_refusals(connection),
            audits=_audits(connection),
            leaders=leaders(connection),
            teams=teams(connection),
            rejections=rejections(connection, book, presence.name),
        )


def _campaign_rows(connection: Connection):
    columns = (campaigns.c.digest, campaigns.c.state, campaigns.c.seeded_at)
    return connection.execute(select(*columns).order_by(campaigns.c.seeded_at)).all()


def _campaign(connection: Connection, book: CampaignBook, row: Row, order: Order | None, now: float) -> CampaignStatus:
    campaign, _ = book.get(row.digest)
    grouped = connection.execute(
        select(results.c.phase, func.count(), func.sum(results.c.networks))
        .where(results.c.campaign == row.digest)
        .group_by(results.c.phase)
    ).all()
    count = {phase: number for phase, number, _ in grouped}
    networks = {phase: int(number) for phase, _, number in grouped}
    admitted, live = count.get(Phase.ADMITTED, 0), sum(count.get(phase, 0) for phase in UNDER_WAY)
    total = campaign.assignment_count
    published = _published(connection, row.digest)
    whole = row.state != CampaignState.COMPLETE or published == campaign.network_count
    return CampaignStatus(
        digest=row.digest,
        name=campaign.name,
        state=row.state if whole else "publishing",  # complete: all admitted, and all of it in the zoo
        seeded_at=row.seeded_at,
        priority=order.priority if order else campaign.priority,
        max_leased=order.max_leased if order else 0,
        assignments=total,
        pending=total - admitted - live,
        committed=count.get(Phase.COMMITTED, 0) + count.get(Phase.OPENING, 0),
        checking=count.get(Phase.CHECKING, 0),
        kept=count.get(Phase.KEPT, 0),
        admitted=admitted,
        rejected=count.get(Phase.VOID, 0) + count.get(Phase.INVALID, 0),
        retracted=count.get(Phase.RETRACTED, 0),
        networks=campaign.network_count,
        networks_admitted=networks.get(Phase.ADMITTED, 0),
        networks_published=published,
        networks_by_class=_by_class(connection, book, row.digest),
        progress_at=max(row.seeded_at, _progress(connection, row.digest)),
        eta_seconds=_eta(connection, row.digest, total - admitted, now) if row.state == CampaignState.RUNNING else None,
    )


def _published(connection: Connection, digest: str) -> int:
    durable = select(func.sum(results.c.networks)).where(
        results.c.campaign == digest, results.c.phase == Phase.ADMITTED, results.c.published == 1
    )
    return int(connection.execute(durable).scalar() or 0)


def _progress(connection: Connection, digest: str) -> float:
    mine = (results.c.campaign == digest, results.c.phase == Phase.ADMITTED)
    return float(connection.execute(select(func.max(results.c.since)).where(*mine)).scalar() or 0.0)


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


def _hosts(connection: Connection, presence: Heartbeats, now: float) -> list[HostStatus]:
    """Those of the ledger, then those that are only heard: so no crowd of new keys hides who has done something."""
    seen, here = presence.last_seen(), presence.counted_from(PRESENCE_SECONDS)
    faults: dict[str, int] = defaultdict(int)
    faulty = select(results.c.worker, func.sum(results.c.fault)).where(results.c.fault > 0).group_by(results.c.worker)
    for worker, number in connection.execute(faulty):
        faults[worker] = int(number)
    listed = []
    for row in connection.execute(select(hosts).order_by(hosts.c.last_seen.desc()).limit(HOSTS_MAX)):
        last_seen = max(row.last_seen, seen.get(row.host, 0.0))
        listed.append(
            HostStatus(
                host=row.host,
                name=row.name,
                device=row.device,
                version=row.version,
                steps_per_second=row.steps_per_second if math.isfinite(row.steps_per_second) else 0.0,
                networks_trained=row.networks_trained,
                checks_done=row.checks_done,
                credit=row.credit,
                escrow=row.escrow,
                clean_bundles=row.clean_bundles,
                faults=faults[row.host],
                false_accusations=row.false_accusations,
                banned=row.banned,
                convicted=bool(row.convicted),
                first_seen=row.first_seen,
                last_seen=last_seen,
                seconds_ago=round(max(0.0, now - last_seen), 1),
                present=now - here.get(row.host, -math.inf) <= PRESENCE_SECONDS,
            )
        )
    known, room = {one.host for one in listed}, HOSTS_MAX - len(listed)
    fresh = [(host, heard) for host, heard in presence.fresh().items() if host not in known]
    for host, heard in fresh[::-1][:room]:
        listed.append(_fresh(host, heard, now, now - here.get(host, -math.inf) <= PRESENCE_SECONDS))
    return listed


def _fresh(host: str, heard: Present, now: float, present: bool) -> HostStatus:
    """A host that has earned nothing yet."""
    beat = heard.beat
    return HostStatus(
        host=host,
        name=beat.name if beat else "",
        device=beat.device if beat else "",
        version=beat.version if beat else "",
        steps_per_second=beat.steps_per_second if beat else 0.0,
        networks_trained=beat.networks_trained if beat else 0,
        checks_done=beat.checks_done if beat else 0,
        credit=0,
        escrow=0,
        clean_bundles=0,
        faults=0,
        false_accusations=0,
        banned="",
        convicted=False,
        first_seen=heard.first_seen,
        last_seen=heard.last_seen,
        seconds_ago=round(max(0.0, now - heard.last_seen), 1),
        present=present,
    )


def _audits(connection: Connection) -> AuditStatus:
    count = count_audits(connection)
    liars = select(func.count(proofs.c.host.distinct())).where(proofs.c.slot != WORKER)
    return AuditStatus(
        due=count[Audit.DUE],
        suspect=count[Audit.SUSPECT],
        judging=count[Audit.JUDGING],
        passed=count[Audit.PASSED],
        judged=count[Audit.JUDGED],
        vouchers=int(connection.execute(liars).scalar() or 0),
    )


def _refusals(connection: Connection) -> list[RefusalStatus]:
    rows = connection.execute(select(refusals).order_by(refusals.c.last_at.desc()).limit(REFUSALS_MAX))
    return [
        RefusalStatus(reason=r.reason, host=r.host, count=r._mapping["count"], detail=r.detail, last_at=r.last_at)
        for r in rows
    ]
