"""Storing what was settled: outcomes, bans, credit and its escrow, retractions; and the counts of refusals.

Functions of a connection, run inside the writer. Nothing is decided here: `settle_result` reads the facts, asks
`policy.settle`, and stores what it says.
"""

from collections.abc import Callable

from sqlalchemy import Connection, and_, bindparam, delete, func, insert, select, update

from coordinator.ledger.facts import read_accusers, read_bundle, read_host, read_result
from coordinator.ledger.prepared import Prepared
from coordinator.ledger.tables import answers, campaigns, hosts, networks, refusals, results
from coordinator.policy.actions import Action
from coordinator.policy.auditing import OWED, Audit
from coordinator.policy.campaigns import without_one
from coordinator.policy.facts import StoredResult
from coordinator.policy.phases import Event, Phase
from coordinator.policy.settle import Admit, Outcome, Settlement, settle
from protocol.errors import Refused
from protocol.recipes.campaign import Assignment, Campaign
from protocol.trust.envelope import Message
from protocol.trust.messages import CampaignState

Sign = Callable[[Message], bytes]  # a message -> our signed envelope's bytes
REFUSAL_ROWS_MAX = 10_000  # fresh identities cost nothing; beyond this they share one row a reason
DETAIL_CHARS_MAX = 200
# A change of a row names it as `key`; its other parameters are columns, or what is added to them.
HOST = hosts.c.host == bindparam("key")
KNOWN, NEW_HOST = Prepared(select(hosts.c.host).where(HOST)), Prepared(insert(hosts))
BANNED = Prepared(select(hosts.c.banned).where(HOST))
CHANGE_HOST = Prepared(update(hosts).where(HOST))
EARN = Prepared(
    update(hosts)
    .where(HOST)
    .values(
        credit=hosts.c.credit + bindparam("earned"),
        clean_bundles=hosts.c.clean_bundles + bindparam("clean"),
        admissions=hosts.c.admissions + bindparam("counted"),
        escrow=hosts.c.escrow + bindparam("held"),
    )
)
CHANGE = Prepared(update(results).where(results.c.digest == bindparam("key")))
NEW_NETWORK = Prepared(insert(networks))
ONE_MORE = Prepared(
    update(campaigns).where(campaigns.c.digest == bindparam("key")).values(admitted=campaigns.c.admitted + 1)
)
STATE_NOW = Prepared(update(campaigns).where(campaigns.c.digest == bindparam("key")))
VOUCHED_BY = select(answers.c.result).where(answers.c.host == bindparam("liar"), answers.c.replay == 0)


def settle_result(
    connection: Connection,
    digest: bytes,
    event: Event,
    reason: str,
    campaign: Campaign,
    sign: Sign,
    now: float,
    assignment: Assignment | None = None,
    false_accusers: tuple[int, ...] = (),
    audit: bool = False,
) -> tuple[Action, ...]:
    """Bring a result to its outcome; what is to be done then, nothing when another event was faster.

    An admission needs the `assignment`, to register its networks. `false_accusers` are slots. `audit`: chance wants
    one of its networks trained again.
    """
    result = read_result(connection, digest)
    if result is None:
        return ()
    bundle = None
    if assignment is not None:
        bundle = read_bundle(connection, result, assignment, campaign.assignment_count, audit=audit)
    accusers = read_accusers(connection, digest, false_accusers) if false_accusers else ()
    worker = read_host(connection, result.worker)
    settlement = settle(result, event, reason, worker, campaign.policy, bundle=bundle, accusers=accusers)
    store_settlement(connection, settlement, sign, now)
    return settlement.actions


def store_settlement(connection: Connection, settlement: Settlement, sign: Sign, now: float) -> None:
    for outcome in settlement.outcomes:
        _store_outcome(connection, outcome, sign, now)
    if settlement.ban is not None:
        ensure_host(connection, settlement.ban.host, now)
        banned = settlement.ban.why[:DETAIL_CHARS_MAX]
        CHANGE_HOST.change(connection, key=settlement.ban.host, banned=banned)
    if settlement.convicted:
        _suspect(connection, settlement.convicted)
    if settlement.admit is not None:
        _store_admit(connection, settlement.admit, settlement.outcomes[0].result.digest)
    for accusation in settlement.false_accusations:
        ensure_host(connection, accusation.host, now)
        again = {"false_accusations": hosts.c.false_accusations + 1}
        connection.execute(update(hosts).where(hosts.c.host == accusation.host).values(again))
        count_refusal(connection, "false-accusation", accusation.host, f"slot {accusation.slot}", now)


def _store_outcome(connection: Connection, outcome: Outcome, sign: Sign, now: float) -> None:
    values = {
        "phase": outcome.phase,
        "event": outcome.event,
        "since": now,
        "reason": outcome.reason,
        "fault": int(outcome.fault),
        "admission": sign(outcome.admission),
        "audit": outcome.audit,
    }
    if outcome.phase is Phase.VOID:
        values |= {"parts": "", "uploaded": 0}  # its blobs go; should it be handed in again, they are uploaded again
    CHANGE.change(connection, key=outcome.result.digest, **values)
    if outcome.retracts:
        _take_back(connection, outcome.result)


def _take_back(connection: Connection, result: StoredResult) -> None:
    """What the admission gave: credit, networks, a place in the campaign. The curator takes it out of the zoo."""
    vested = connection.execute(select(results.c.vested).where(results.c.digest == result.digest)).scalar()
    lost = {
        "credit": hosts.c.credit - result.segments,
        "clean_bundles": hosts.c.clean_bundles - int(result.shows_work),
        "escrow": hosts.c.escrow - (0 if vested else result.segments),
    }
    connection.execute(update(hosts).where(hosts.c.host == result.worker).values(lost))
    connection.execute(delete(networks).where(networks.c.result == result.digest))
    mine = campaigns.c.digest == result.campaign
    state = without_one(CampaignState(connection.execute(select(campaigns.c.state).where(mine)).scalar_one()))
    connection.execute(update(campaigns).where(mine).values(admitted=campaigns.c.admitted - 1, state=state))


def _suspect(connection: Connection, liar: str) -> None:
    """All admitted bundles that its word stands behind, its own and those it vouched for, are to be audited."""
    connection.execute(update(hosts).where(hosts.c.host == liar).values(convicted=1))
    for behind in (results.c.worker == liar, results.c.digest.in_(VOUCHED_BY)):
        admitted = update(results).where(behind, results.c.phase == Phase.ADMITTED)
        connection.execute(admitted.values(audit=Audit.SUSPECT), {"liar": liar})


def vest_if_complete(connection: Connection, campaign: str) -> None:
    """Of a complete campaign to which no audit is owed all credit leaves escrow: no later bundle will come."""
    state = select(campaigns.c.state).where(campaigns.c.digest == campaign)
    owed = select(results.c.digest).where(results.c.audit.in_(OWED), results.c.campaign == campaign).limit(1)
    if connection.execute(state).scalar() != CampaignState.COMPLETE or connection.execute(owed).first():
        return
    held = and_(results.c.campaign == campaign, results.c.phase == Phase.ADMITTED, results.c.vested == 0)
    sums = select(results.c.worker, func.sum(results.c.segments)).where(held).group_by(results.c.worker)
    for host, segments in connection.execute(sums).all():
        connection.execute(update(hosts).where(hosts.c.host == host).values(escrow=hosts.c.escrow - segments))
    connection.execute(update(results).where(held).values(vested=1))


def _store_admit(connection: Connection, admit: Admit, digest: bytes) -> None:
    held, counted = admit.credit - admit.released, int(admit.shows_work)
    EARN.change(connection, key=admit.host, earned=admit.credit, clean=counted, counted=counted, held=held)
    CHANGE.change(connection, key=digest, vests_at=admit.vests_at)
    for vested in admit.vested:
        CHANGE.change(connection, key=vested, vested=1)
    NEW_NETWORK.insert_all(
        connection, [{"recipe": admit.recipe, "seed": seed, "result": digest} for seed in admit.seeds]
    )
    ONE_MORE.change(connection, key=admit.campaign)
    if admit.completes:
        STATE_NOW.change(connection, key=admit.campaign, state=CampaignState.COMPLETE)
        vest_if_complete(connection, admit.campaign)


def ensure_host(connection: Connection, host: str, now: float) -> None:
    if KNOWN.first(connection, key=host) is None:
        NEW_HOST.change(connection, host=host, first_seen=now, last_seen=now)


def refuse_banned(connection: Connection, host: str) -> None:
    """Raises Refused for a banned host."""
    why = BANNED.scalar(connection, key=host)
    if why:
        raise Refused("banned", why)


def count_refusal(connection: Connection, reason: str, host: str, detail: str, now: float) -> None:
    """`host` is who signed, or "" where no signature was verified: nobody is blamed for another's bytes."""
    reason, detail = reason[:64], detail[:DETAIL_CHARS_MAX]
    for name in (host, "others"):
        place = and_(refusals.c.reason == reason, refusals.c.host == name)
        again = update(refusals).where(place).values(count=refusals.c.count + 1, detail=detail, last_at=now)
        if connection.execute(again).rowcount:
            return
        rows = connection.execute(select(func.count()).select_from(refusals)).scalar() or 0
        if name == "others" or rows < REFUSAL_ROWS_MAX:
            connection.execute(insert(refusals).values(reason=reason, host=name, count=1, detail=detail, last_at=now))
            return
