"""What the organizer owes: audits, judgements of checkers, and what follows for escrow. Functions of a connection.

A restart forgets nothing of it: what is owed stands in `results.audit`, and doing it twice is harmless.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from sqlalchemy import Connection, bindparam, func, insert, select, update

from coordinator.ledger.doubles import IS_DOUBLE
from coordinator.ledger.facts import read_host, read_result
from coordinator.ledger.prepared import Prepared
from coordinator.ledger.results import add_answer
from coordinator.ledger.settlement import Sign, count_refusal, store_settlement, vest_if_complete
from coordinator.ledger.tables import answers, proofs, results
from coordinator.policy.actions import Action, DeleteBlobs, News, NewsKind, Report
from coordinator.policy.auditing import ORDER, OWED, Audit, OwedAudit
from coordinator.policy.convict import SaidAnswer, Vouched
from coordinator.policy.phases import JUDGED, Phase
from coordinator.policy.settle import convict
from protocol.trust.challenge import SlotTask
from protocol.trust.messages import BlobPart
from protocol.trust.verdict import Verdict

WORKER = -1  # a proof's slot, when it is against the worker
LOOK_MAX = 64  # owed audits read at a time, of each kind
OWED_NOW = (
    select(results.c.digest, results.c.audit, results.c.since)
    .where(results.c.audit == bindparam("audit"))
    .order_by(results.c.since)
    .limit(LOOK_MAX)
)
AUDITED = select(results.c.campaign).where(results.c.audit.in_(OWED)).distinct()
COUNTS = select(results.c.audit, func.count()).where(results.c.audit != Audit.NONE).group_by(results.c.audit)
JUDGE_AGAIN = Prepared(
    update(results)
    .where(results.c.digest == bindparam("result"), results.c.audit == Audit.JUDGED)
    .values(audit=Audit.JUDGING)
)
ANSWERS = select(answers.c.slot, answers.c.replay, answers.c.host, answers.c.verdict).where(
    answers.c.result == bindparam("result")
)


def read_owed(connection: Connection) -> list[OwedAudit]:
    """The oldest of each kind."""
    return [
        OwedAudit(result=row.digest, audit=Audit(row.audit), since=row.since)
        for audit in ORDER
        for row in connection.execute(OWED_NOW, {"audit": audit})
    ]


def read_audited(connection: Connection) -> frozenset[str]:
    """Campaigns to which an audit is owed."""
    return frozenset(connection.execute(AUDITED).scalars())


def count_audits(connection: Connection) -> dict[Audit, int]:
    """Results by what is owed to them, or was done."""
    found = {Audit(audit): number for audit, number in connection.execute(COUNTS)}
    return {audit: found.get(audit, 0) for audit in Audit if audit is not Audit.NONE}


def read_answers(
    connection: Connection, result: bytes, tasks: Sequence[SlotTask], organizer: str
) -> tuple[list[SaidAnswer], dict[int, Verdict]]:
    """(What others than the organizer answered, the organizer's own verdicts by slot: his slots, and his replays)."""
    said: list[SaidAnswer] = []
    own: dict[int, Verdict] = {}
    for row in connection.execute(ANSWERS, {"result": result}):
        verdict = msgspec.msgpack.decode(row.verdict, type=Verdict)
        if row.replay or row.host == organizer:
            own[row.slot] = verdict
        else:
            said.append(SaidAnswer(host=row.host, slot=row.slot, task=tasks[row.slot], verdict=verdict))
    return sorted(said, key=lambda one: one.slot), own


def pass_audit(connection: Connection, result: bytes) -> tuple[Action, ...]:
    """The networks that were trained again are the worker's. Its blobs are not needed any more."""
    row = connection.execute(
        select(results.c.audit, results.c.campaign, results.c.published, IS_DOUBLE.label("double")).where(
            results.c.digest == result
        )
    ).one()
    if row.audit not in (Audit.DUE, Audit.SUSPECT):
        return ()  # it was settled anew meanwhile
    connection.execute(update(results).where(results.c.digest == result).values(audit=Audit.PASSED))
    vest_if_complete(connection, row.campaign)
    return (DeleteBlobs(result, () if row.published and not row.double else (BlobPart.STATES,)),)


def store_proof(connection: Connection, host: str, result: bytes, slot: int, place: str, truth: bytes, now: float):
    """Why a host is convicted; the first proof of a place stays."""
    known = (proofs.c.host == host) & (proofs.c.result == result) & (proofs.c.slot == slot)
    if not connection.execute(select(proofs.c.host).where(known)).first():
        entry = {"host": host, "result": result, "slot": slot, "place": place, "truth": truth, "found_at": now}
        connection.execute(insert(proofs), [entry])


def read_judged(connection: Connection, result: bytes) -> bool:
    """Whether it was shown to be wrong: who agreed with it is judged, or was."""
    event = connection.execute(select(results.c.event).where(results.c.digest == result)).scalar()
    return event in JUDGED


def hear(
    connection: Connection, result: bytes, slot: int, host: str, envelope: bytes, verdict: bytes, now: float
) -> bool:
    """Store a checker's answer as `add_answer` does. If its result was judged already, it is judged again."""
    fresh = add_answer(connection, result, slot, False, host, envelope, verdict, now)
    if fresh:
        JUDGE_AGAIN.change(connection, result=result)
    return fresh


def convict_vouchers(
    connection: Connection,
    result: bytes,
    vouched: Iterable[Vouched],
    truths: Mapping[int, bytes],
    sign: Sign,
    now: float,
    *,
    judged: bool,
) -> tuple[Action, ...]:
    """Everybody who vouched for this fake falls, with a proof for each slot; then it is `judged`, or will be again."""
    actions: list[Action] = []
    for one in vouched:
        reason = one.reason(result)
        store_proof(connection, one.host, result, one.slot, str(one.places), truths.get(one.slot, b""), now)
        settlement = convict(read_host(connection, one.host), reason)
        store_settlement(connection, settlement, sign, now)
        if settlement.convicted:
            actions.append(Report(News(kind=NewsKind.VOUCHED, text=reason, host=one.host)))
            count_refusal(connection, "vouched", one.host, reason, now)
        actions += settlement.actions
    return (*actions, *_judged(connection, result)) if judged else tuple(actions)


def _judged(connection: Connection, result: bytes) -> tuple[Action, ...]:
    stored = read_result(connection, result)
    assert stored is not None
    connection.execute(update(results).where(results.c.digest == result).values(audit=Audit.JUDGED))
    vest_if_complete(connection, stored.campaign)
    return (DeleteBlobs(result),) if stored.phase is Phase.VOID else ()  # of one that was convicted they are the proof
