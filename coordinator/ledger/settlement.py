"""Storing what was settled: outcomes, bans, credit, false accusations; and the counts of refusals.

Functions of a connection, run inside the writer. Nothing is decided here: `settle_result` reads the facts, asks
`policy.settle`, and stores what it says.
"""

from collections.abc import Callable

from sqlalchemy import Connection, and_, bindparam, func, insert, select, update

from coordinator.ledger.facts import read_accusers, read_bundle, read_host, read_result
from coordinator.ledger.tables import campaigns, hosts, networks, refusals, results
from coordinator.policy.actions import Action
from coordinator.policy.phases import Event, Phase
from coordinator.policy.settle import Admit, Outcome, Settlement, settle
from protocol.errors import Refused
from protocol.recipes.campaign import Assignment, Campaign
from protocol.trust.envelope import Message
from protocol.trust.messages import CampaignState

Sign = Callable[[Message], bytes]  # a message -> our signed envelope's bytes
REFUSAL_ROWS_MAX = 10_000  # fresh identities cost nothing; beyond this they share one row a reason
DETAIL_CHARS_MAX = 200
BANNED = select(hosts.c.banned).where(hosts.c.host == bindparam("host"))


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
) -> tuple[Action, ...]:
    """Bring a result to its outcome; what is to be done then, nothing when another event was faster.

    An admission needs the `assignment`, to register its networks. `false_accusers` are slots.
    """
    result = read_result(connection, digest)
    if result is None:
        return ()
    bundle = None
    if assignment is not None:
        bundle = read_bundle(connection, result.campaign, assignment, campaign.assignment_count)
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
        connection.execute(update(hosts).where(hosts.c.host == settlement.ban.host).values(banned=banned))
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
    }
    if outcome.phase is Phase.VOID:
        values |= {"parts": "", "uploaded": 0}  # its blobs go; should it be handed in again, they are uploaded again
    connection.execute(update(results).where(results.c.digest == outcome.result.digest).values(values))


def _store_admit(connection: Connection, admit: Admit, digest: bytes) -> None:
    earned = {"credit": hosts.c.credit + admit.credit, "clean_bundles": hosts.c.clean_bundles + 1}
    connection.execute(update(hosts).where(hosts.c.host == admit.host).values(earned))
    if admit.seeds:
        rows = [{"recipe": admit.recipe, "seed": seed, "result": digest} for seed in admit.seeds]
        connection.execute(insert(networks), rows)
    changes: dict = {"admitted": campaigns.c.admitted + 1}
    if admit.completes:
        changes["state"] = CampaignState.COMPLETE
    connection.execute(update(campaigns).where(campaigns.c.digest == admit.campaign).values(changes))


def ensure_host(connection: Connection, host: str, now: float) -> None:
    if not connection.execute(select(hosts.c.host).where(hosts.c.host == host)).first():
        connection.execute(insert(hosts).values(host=host, first_seen=now, last_seen=now))


def refuse_banned(connection: Connection, host: str) -> None:
    """Raises Refused for a banned host."""
    why = connection.execute(BANNED, {"host": host}).scalar()
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
