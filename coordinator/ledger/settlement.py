"""Changes of the ledger that settle something: admissions, voids, convictions, bans, credit, and the counts.

Functions of a connection, run inside the writer. They return news: what a person should read in the log.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, Row, and_, func, insert, select, update

from coordinator.ledger.tables import campaigns, hosts, networks, refusals, results
from coordinator.policy.referee import CRIMES, FAULT_WINDOW, FAULTS, LIVE, Event, Phase, deserves_ban, next_phase
from protocol.recipes.campaign import Assignment, Policy
from protocol.trust.envelope import Message
from protocol.trust.messages import Admission

REFUSAL_ROWS_MAX = 10_000  # fresh identities cost nothing; beyond this they share one row a reason
DETAIL_CHARS_MAX = 200
OUTCOME = {Phase.ADMITTED: "admitted", Phase.VOID: "void", Phase.CONVICTED: "convicted"}


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """One line of the log: `kind` is committed, admitted, rejected, banned, liar, complete, ..."""

    kind: str
    text: str
    campaign: str = ""
    assignment: int = -1
    host: str = ""
    result: bytes = b""
    outcome: str = ""  # of settled results: admitted, void, convicted


def settle(
    connection: Connection,
    digest: bytes,
    event: Event,
    reason: str,
    policy: Policy,
    sign: Callable[[Message], bytes],
    now: float,
    assignment: Assignment | None = None,
    assignments: int = 0,
    banning: bool = True,
) -> list[News]:
    """Bring a result to its outcome with everything that follows; no news when another event was faster.

    An admission needs the `assignment` (to register its networks) and the campaign's number of `assignments`. Without
    `banning` the caller bans, after it has settled more than one result.
    """
    row = connection.execute(select(results).where(results.c.digest == digest)).first()
    phase = next_phase(Phase(row.phase), event) if row else None
    if row is None or phase is None:
        return []
    credit = row.segments if phase is Phase.ADMITTED else 0
    admission = sign(Admission(result=digest, outcome=OUTCOME[phase], reason=reason[:300], credit=credit))
    fault = int(event in FAULTS or event in CRIMES)
    values = {"phase": phase, "event": event, "since": now, "reason": reason, "fault": fault, "admission": admission}
    if phase is Phase.VOID:
        values["parts"] = ""  # its blobs go; should it be handed in again, they are uploaded again
    connection.execute(update(results).where(results.c.digest == digest).values(values))
    kind = "admitted" if phase is Phase.ADMITTED else "rejected"
    text = f"{row.networks} networks, credit {credit}" if phase is Phase.ADMITTED else f"{OUTCOME[phase]}: {reason}"
    about = {"campaign": row.campaign, "assignment": row.assignment, "host": row.worker, "result": digest}
    news = [News(kind=kind, text=text, outcome=OUTCOME[phase], **about)]
    if phase is Phase.ADMITTED:
        assert assignment is not None
        news += _admit(connection, row, assignment, assignments)
    elif event in CRIMES and banning:
        news += ban(connection, row.worker, reason, policy, sign, now)
    elif fault and deserves_ban(recent_faults(connection, row.worker), policy):
        why = f"{policy.faults_before_ban} faults in its last {FAULT_WINDOW} bundles; the last one: {reason}"
        news += ban(connection, row.worker, why, policy, sign, now)
    return news


def _admit(connection: Connection, row: Row, assignment: Assignment, assignments: int) -> list[News]:
    earned = {"credit": hosts.c.credit + row.segments, "clean_bundles": hosts.c.clean_bundles + 1}
    connection.execute(update(hosts).where(hosts.c.host == row.worker).values(earned))
    recipe = assignment.recipe.digest
    have = select(networks.c.seed).where(networks.c.recipe == recipe, networks.c.seed.in_(assignment.seeds))
    taken = set(connection.execute(have).scalars())  # another campaign may have asked for the same networks
    fresh = [{"recipe": recipe, "seed": s, "result": row.digest} for s in assignment.seeds if s not in taken]
    if fresh:
        connection.execute(insert(networks), fresh)
    mine = campaigns.c.digest == row.campaign
    connection.execute(update(campaigns).where(mine).values(admitted=campaigns.c.admitted + 1))
    if connection.execute(select(campaigns.c.admitted).where(mine)).scalar() != assignments:
        return []
    done = and_(mine, campaigns.c.state != "complete")
    if not connection.execute(update(campaigns).where(done).values(state="complete")).rowcount:
        return []
    return [News(kind="complete", text=f"all {assignments} assignments are admitted", campaign=row.campaign)]


def recent_faults(connection: Connection, host: str) -> list[bool]:
    """Of the host's settled bundles, the newest first."""
    settled = select(results.c.fault).where(results.c.worker == host, results.c.phase.not_in(LIVE))
    rows = connection.execute(settled.order_by(results.c.since.desc()).limit(FAULT_WINDOW))
    return [bool(fault) for fault in rows.scalars()]


def ban(
    connection: Connection, host: str, why: str, policy: Policy, sign: Callable[[Message], bytes], now: float
) -> list[News]:
    """Refuse this key from now on; all it has not been admitted for is void, and its assignments are free again."""
    ensure_host(connection, host, now)
    place = and_(hosts.c.host == host, hosts.c.banned == "")
    if not connection.execute(update(hosts).where(place).values(banned=why[:DETAIL_CHARS_MAX])).rowcount:
        return []
    news = [News(kind="banned", text=why, host=host)]
    live = select(results.c.digest).where(results.c.worker == host, results.c.phase.in_(LIVE))
    for digest in list(connection.execute(live).scalars()):
        news += settle(connection, digest, Event.HOST_BANNED, "the host is banned", policy, sign, now)
    return news


def count_lie(connection: Connection, host: str) -> None:
    """A checker said INVALID where the replay says VALID."""
    connection.execute(update(hosts).where(hosts.c.host == host).values(lies=hosts.c.lies + 1))


def ensure_host(connection: Connection, host: str, now: float) -> None:
    if not connection.execute(select(hosts.c.host).where(hosts.c.host == host)).first():
        connection.execute(insert(hosts).values(host=host, first_seen=now, last_seen=now))


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
