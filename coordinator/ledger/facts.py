"""What the policy's decisions depend on, read inside the transaction that stores them."""

from collections.abc import Iterable

import msgspec
from sqlalchemy import ColumnElement, Connection, FromClause, Row, and_, bindparam, or_, select

from coordinator.ledger.database import Ledger
from coordinator.ledger.prepared import Prepared
from coordinator.ledger.tables import answers, campaigns, hosts, networks, results
from coordinator.policy.auditing import Audit
from coordinator.policy.facts import FAULT_WINDOW, HostRecord, StoredResult
from coordinator.policy.phases import LIVE, UNDER_WAY, Event, Phase
from coordinator.policy.settle import Bundle, FalseAccusation
from coordinator.policy.standing import Standing
from protocol.recipes.campaign import Assignment
from protocol.trust.envelope import Envelope
from protocol.trust.messages import CampaignState, Result

COLUMNS = (
    results.c.digest,
    results.c.campaign,
    results.c.assignment,
    results.c.worker,
    results.c.phase,
    results.c.networks,
    results.c.segments,
    results.c.event,
    results.c.uploaded,
    results.c.draw.is_not(None).label("drawn"),
    results.c.vests_at,
)


def holds(table: FromClause) -> ColumnElement[bool]:
    """`StoredResult.holds`, of `results` or an alias of it."""
    phase, uploaded = table.c.phase, table.c.uploaded == 1
    return or_(phase.in_((Phase.CHECKING, Phase.ADMITTED)), and_(phase.in_(UNDER_WAY), uploaded))


HOLDS = holds(results)
RESULT = Prepared(select(*COLUMNS).where(results.c.digest == bindparam("digest")))
RIVALS = Prepared(
    select(*COLUMNS)
    .where(results.c.campaign == bindparam("campaign"), results.c.assignment == bindparam("assignment"))
    .order_by(results.c.received_at)
)
RECORD = Prepared(
    select(hosts.c.banned, hosts.c.convicted, hosts.c.admissions).where(hosts.c.host == bindparam("host"))
)
STANDING = Prepared(
    select(hosts.c.banned, hosts.c.clean_bundles, hosts.c.credit, hosts.c.false_accusations).where(
        hosts.c.host == bindparam("host")
    )
)
ENDED = Prepared(
    select(results.c.phase, results.c.event)
    .where(results.c.worker == bindparam("host"), results.c.phase.not_in(LIVE))
    .order_by(results.c.since.desc())
    .limit(10)
)
UNSETTLED = Prepared(select(*COLUMNS).where(results.c.worker == bindparam("host"), results.c.phase.in_(LIVE)))
UNVESTED = Prepared(
    select(*COLUMNS)
    .where(results.c.worker == bindparam("host"), results.c.vested == 0, results.c.phase == Phase.ADMITTED)
    .order_by(results.c.vests_at)
)
CONVICTED = Prepared(
    select(answers.c.host)
    .join(hosts, hosts.c.host == answers.c.host)
    .where(answers.c.result == bindparam("result"), answers.c.replay == 0, hosts.c.convicted == 1)
    .distinct()
)
PROGRESS = Prepared(select(campaigns.c.admitted, campaigns.c.state).where(campaigns.c.digest == bindparam("campaign")))
REGISTERED = Prepared(
    select(networks.c.seed).where(
        networks.c.recipe == bindparam("recipe"),
        networks.c.seed >= bindparam("first"),
        networks.c.seed <= bindparam("last"),
    )
)
SETTLED = Prepared(
    select(results.c.digest, results.c.fault)
    .where(results.c.worker == bindparam("host"), results.c.phase.not_in(LIVE))
    .order_by(results.c.since.desc())
    .limit(FAULT_WINDOW)
)


def stored_result(row: Row) -> StoredResult:
    """A row with COLUMNS, as a value."""
    return StoredResult(
        digest=row.digest,
        campaign=row.campaign,
        assignment=row.assignment,
        worker=row.worker,
        phase=Phase(row.phase),
        networks=row.networks,
        segments=row.segments,
        event=row.event,
        uploaded=bool(row.uploaded),
        drawn=bool(row.drawn),
        vests_at=row.vests_at,
    )


def read_result(connection: Connection, digest: bytes) -> StoredResult | None:
    row = RESULT.first(connection, digest=digest)
    return stored_result(row) if row else None


def read_rivals(connection: Connection, campaign: str, assignment: int) -> tuple[StoredResult, ...]:
    """All results that were handed in for one assignment, as they came."""
    rows = RIVALS.all(connection, campaign=campaign, assignment=assignment)
    return tuple(stored_result(row) for row in rows)


def read_same_work(connection: Connection, rivals: Iterable[StoredResult], result: Result) -> frozenset[bytes]:
    """Digests of those with the same networks and commitment, say of a host that trained again on another backend."""
    same = set()
    for rival in rivals:
        data = connection.execute(select(results.c.envelope).where(results.c.digest == rival.digest)).scalar_one()
        first = msgspec.msgpack.decode(msgspec.msgpack.decode(data, type=Envelope).payload, type=Result)
        if (first.commitment, first.networks) == (result.commitment, result.networks):
            same.add(rival.digest)
    return frozenset(same)


def unfinished(ledger: Ledger) -> list[bytes]:
    """Digests of the results that wait for something: an outcome, or their place in the zoo. Raises LedgerDamaged."""
    waiting = select(results.c.digest).where(
        or_(results.c.phase.in_(LIVE), and_(results.c.phase == Phase.ADMITTED, results.c.published == 0))
    )
    with ledger.read() as connection:
        with ledger.decoding("a result's phase"):
            for phase in connection.execute(select(results.c.phase).distinct()).scalars():
                Phase(phase)
        return list(connection.execute(waiting).scalars())


def read_standing(connection: Connection, host: str) -> Standing:
    row = STANDING.first(connection, host=host)
    if row is None:
        return Standing(host=host)
    banned, clean_bundles, credit, accusations = row
    return Standing(
        host=host,
        banned=bool(banned),
        clean_bundles=clean_bundles,
        credit=credit,
        false_accusations=accusations,
    )


def read_left_open(connection: Connection, host: str) -> int:
    """Results that this host did not open in time, since its last admitted one."""
    late = 0
    for row in ENDED.all(connection, host=host):
        if row.phase == Phase.ADMITTED:
            break
        late += row.event == Event.OVERDUE
    return late


def read_host(connection: Connection, host: str) -> HostRecord:
    known = RECORD.first(connection, host=host)
    return HostRecord(
        host=host,
        banned=known.banned if known else "",
        convicted=bool(known and known.convicted),
        admissions=known.admissions if known else 0,
        settled=tuple((row.digest, bool(row.fault)) for row in SETTLED.all(connection, host=host)),
        unsettled=tuple(stored_result(row) for row in UNSETTLED.all(connection, host=host)),
        unvested=tuple(stored_result(row) for row in UNVESTED.all(connection, host=host)),
    )


def read_bundle(
    connection: Connection, result: StoredResult, assignment: Assignment, assignments: int, *, audit: bool
) -> Bundle:
    """What its admission changes; `assignments` are the whole campaign's. `audit`: chance wants one."""
    recipe, seeds = assignment.recipe.digest, frozenset(assignment.seeds)
    row = PROGRESS.first(connection, campaign=result.campaign)
    return Bundle(
        recipe=recipe,
        seeds=tuple(assignment.seeds),
        registered=frozenset(REGISTERED.scalars(connection, recipe=recipe, first=min(seeds), last=max(seeds))) & seeds,
        admitted=row.admitted,
        assignments=assignments,
        campaign_state=CampaignState(row.state),
        audit=Audit.SUSPECT if read_convicted(connection, result.digest) else Audit.DUE if audit else Audit.NONE,
    )


def read_convicted(connection: Connection, result: bytes) -> frozenset[str]:
    """Checkers of a result that were shown to have lied."""
    return frozenset(CONVICTED.scalars(connection, result=result))


def read_accusers(connection: Connection, digest: bytes, slots: Iterable[int]) -> tuple[FalseAccusation, ...]:
    """Who answered these slots."""
    said = select(answers.c.slot, answers.c.host).where(answers.c.result == digest, answers.c.replay == 0)
    hosts_of = {row.slot: row.host for row in connection.execute(said)}
    return tuple(FalseAccusation(hosts_of.get(slot, ""), slot) for slot in slots)
