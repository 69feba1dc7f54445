"""Changes of the ledger on a result's way, each a function of a connection that runs inside the writer.

Handing in, the draw, checkers and answers are here; uploads are in `places`, outcomes in `settlement`. `hand_in` reads
the facts, asks `policy.receive`, and stores what it says.
"""

from typing import NamedTuple

from sqlalchemy import Connection, and_, bindparam, delete, insert, select, update

from coordinator.ledger.database import get_meta, set_meta
from coordinator.ledger.facts import (
    read_host,
    read_left_open,
    read_rivals,
    read_same_work,
    read_standing,
)
from coordinator.ledger.prepared import Prepared
from coordinator.ledger.settlement import Sign, ensure_host, store_settlement
from coordinator.ledger.tables import answers, campaigns, checkers, results
from coordinator.policy.actions import Action
from coordinator.policy.campaigns import control
from coordinator.policy.facts import StoredResult
from coordinator.policy.phases import HELD, Event, Phase, next_phase
from coordinator.policy.receive import Received, ReceiveFacts, Reception, StoredReply, receive
from coordinator.policy.referee import NOBODY
from coordinator.policy.standing import bar_of, stands
from protocol.errors import Refused
from protocol.recipes.campaign import Campaign
from protocol.trust.envelope import Envelope
from protocol.trust.messages import CampaignAction, CampaignState, Receipt, Result

# A change of a row names it as `key`; its other parameters are columns.
CHANGE = Prepared(update(results).where(results.c.digest == bindparam("key")))
STATE = Prepared(
    select(results.c.phase, results.c.parts, results.c.draw.is_not(None).label("drawn")).where(
        results.c.digest == bindparam("key")
    )
)
RECEIPT = Prepared(select(results.c.receipt).where(results.c.digest == bindparam("key")))
ADMISSION = Prepared(select(results.c.admission).where(results.c.digest == bindparam("key")))
NEW_RESULT, NEW_CHECKER, NEW_ANSWER = Prepared(insert(results)), Prepared(insert(checkers)), Prepared(insert(answers))
HOLDER = select(checkers.c.host).where(
    checkers.c.result == bindparam("result"), checkers.c.slot == bindparam("slot"), checkers.c.silent == 0
)
GIVEN = select(answers.c.envelope).where(
    answers.c.result == bindparam("result"),
    answers.c.slot == bindparam("slot"),
    answers.c.replay == bindparam("replay"),
)
SEATED, ANSWER = Prepared(HOLDER), Prepared(GIVEN)
HEARD = Prepared(select(HOLDER.scalar_subquery().label("host"), GIVEN.scalar_subquery().label("envelope")))  # one row


class Reply(NamedTuple):
    what: Received
    envelope: bytes  # a Receipt or an Admission; empty for a host that is banned, or has too much going on
    refusal: str  # why the host is banned, or ""
    actions: tuple[Action, ...]
    is_receipt: bool


# -- campaigns ------------------------------------------------------------------------------------------------------


def add_campaign(connection: Connection, digest: str, exact: bytes, manifest: bytes, now: float) -> bool:
    """True when it is new; seeding twice is harmless."""
    if connection.execute(select(campaigns.c.digest).where(campaigns.c.digest == digest)).first():
        return False
    connection.execute(
        insert(campaigns).values(
            digest=digest, exact=exact, manifest=manifest, state=CampaignState.RUNNING, seeded_at=now
        )
    )
    return True


def control_campaign(connection: Connection, digest: str, action: CampaignAction) -> CampaignState:
    """The new state. Raises Refused."""
    state = connection.execute(select(campaigns.c.state).where(campaigns.c.digest == digest)).scalar()
    if state is None:
        raise Refused("unknown-campaign", digest)
    after = control(CampaignState(state), action)
    connection.execute(update(campaigns).where(campaigns.c.digest == digest).values(state=after))
    return after


# -- handing in -----------------------------------------------------------------------------------------------------


def hand_in(
    connection: Connection,
    envelope: Envelope,
    result: Result,
    segments: int,
    campaign: Campaign,
    sign: Sign,
    now: float,
    *,
    ticketed: bool = False,
) -> Reply:
    """Receive a verified result: decide, store, and say what to answer and to do."""
    facts = _receive_facts(connection, envelope, result, segments, campaign, now, ticketed)
    reception = receive(facts)
    reply = reception.reply
    receipt = sign(reply) if isinstance(reply, Receipt) else b""  # a new one, signed once; none for an equivocation
    if reception.store is not None:
        _insert_result(connection, envelope, reception.store, receipt, facts)
    store_settlement(connection, reception.settlement, sign, now)
    if reception.reopen:
        again: dict[str, object] = {"phase": Phase.COMMITTED, "event": Event.HANDED_IN_AGAIN, "since": now}
        again |= {"fault": 0, "reason": "", "admission": None}
        if receipt:
            again |= {"receipt": receipt, "epoch": facts.epoch}
        CHANGE.change(connection, key=envelope.digest, **again)
    return Reply(
        what=reception.what,
        envelope=receipt or _reply(connection, reception, envelope.digest, sign),
        refusal=reception.refusal,
        actions=reception.actions,
        is_receipt=isinstance(reply, Receipt) or reply is StoredReply.RECEIPT,
    )


def _receive_facts(
    connection: Connection,
    envelope: Envelope,
    result: Result,
    segments: int,
    campaign: Campaign,
    now: float,
    ticketed: bool,
) -> ReceiveFacts:
    rivals = read_rivals(connection, result.campaign, result.assignment)
    held = [r for r in rivals if r.worker == envelope.signer and r.digest != envelope.digest and r.phase in HELD]
    return ReceiveFacts(
        result=StoredResult(
            digest=envelope.digest,
            campaign=result.campaign,
            assignment=result.assignment,
            worker=envelope.signer,
            phase=Phase.COMMITTED,
            networks=len(result.networks),
            segments=segments,
        ),
        worker=read_host(connection, envelope.signer),
        others=rivals,
        same_work=read_same_work(connection, held, result),
        policy=campaign.policy,
        epoch=int(get_meta(connection, "epoch", "0")),
        now=now,
        standing=stands(read_standing(connection, envelope.signer), bar_of(campaign)),
        left_open=read_left_open(connection, envelope.signer),
        ticketed=ticketed,
    )


def _insert_result(
    connection: Connection, envelope: Envelope, result: StoredResult, receipt: bytes, facts: ReceiveFacts
) -> None:
    ensure_host(connection, result.worker, facts.now)
    row = {
        "digest": result.digest,
        "campaign": result.campaign,
        "assignment": result.assignment,
        "worker": result.worker,
        "envelope": envelope.to_bytes(),
        "receipt": receipt,
        "epoch": facts.epoch,
        "received_at": facts.now,
        "networks": result.networks,
        "segments": result.segments,
        "phase": result.phase,
        "since": facts.now,
    }
    NEW_RESULT.change(connection, **row)


def _reply(connection: Connection, reception: Reception, digest: bytes, sign: Sign) -> bytes:
    """The bytes to answer with, unless that is a new receipt."""
    reply = reception.reply
    if reply is None:
        return b""
    if isinstance(reply, StoredReply):
        stored = ADMISSION if reply is StoredReply.ADMISSION else RECEIPT
        return stored.scalar(connection, key=digest)
    return sign(reply)


# -- the draw, checkers, answers ---------------------------------------------------------------------------


def reveal(connection: Connection, now: float) -> int:
    """The next epoch; its link may be shown once this is durable."""
    epoch = int(get_meta(connection, "epoch", "0")) + 1
    set_meta(connection, "epoch", str(epoch))
    set_meta(connection, "revealed_at", repr(now))
    return epoch


def move(connection: Connection, digest: bytes, event: Event, now: float, **values: object) -> bool:
    """One transition that settles nothing; False when it comes too late."""
    row = STATE.first(connection, key=digest)
    phase = next_phase(Phase(row.phase), event) if row else None
    if phase is None:
        return False
    CHANGE.change(connection, key=digest, phase=phase, event=event, since=now, **values)
    return True


def add_draw(connection: Connection, digest: bytes, draw: bytes, ranked: bytes, now: float) -> bool:
    """The first draw stays for ever, with its hosts, also for a result that was void in between."""
    row = STATE.first(connection, key=digest)
    fresh = row is None or not row.drawn
    return move(connection, digest, Event.DRAWN, now, **({"draw": draw, "ranked": ranked} if fresh else {}))


def begin_checks(connection: Connection, digest: bytes, assigned: tuple[str, ...], now: float) -> bool:
    """Slot i is `assigned[i]`'s, or waits. False when it comes too late."""
    if not move(connection, digest, Event.UPLOADED, now):
        return False
    seats = [(slot, host) for slot, host in enumerate(assigned) if host != NOBODY]
    rows = [{"result": digest, "slot": slot, "host": host, "since": now} for slot, host in seats]
    NEW_CHECKER.insert_all(connection, rows)
    return True


def give_slot(connection: Connection, digest: bytes, slot: int, host: str, now: float) -> bool:
    """Of a slot that waited. False when it is not there to be given any more."""
    row = STATE.first(connection, key=digest)
    if row is None or row.phase != Phase.CHECKING or SEATED.first(connection, result=digest, slot=slot):
        return False
    NEW_CHECKER.change(connection, result=digest, slot=slot, host=host, since=now)
    return True


def reassign(connection: Connection, digest: bytes, slot: int, silent: str, host: str, now: float) -> bool:
    """Give a slot to another host, or leave it open, unless its answer came meanwhile."""
    if ANSWER.first(connection, result=digest, slot=slot, replay=0):
        return False
    place = and_(checkers.c.result == digest, checkers.c.slot == slot, checkers.c.silent == 0)
    gone = connection.execute(update(checkers).where(place, checkers.c.host == silent).values(silent=1))
    if not gone.rowcount:
        return False
    if host != NOBODY:
        NEW_CHECKER.change(connection, result=digest, slot=slot, host=host, since=now)
    return True


def refuse_stranger(connection: Connection, digest: bytes, slot: int, host: str) -> None:
    """Raises Refused for a host that does not have the slot."""
    if SEATED.scalar(connection, result=digest, slot=slot) != host:
        raise Refused("not-seated", f"slot {slot} is not this host's")


def add_answer(
    connection: Connection,
    digest: bytes,
    slot: int,
    replay: bool,
    host: str,
    envelope: bytes,
    verdict: bytes,
    now: float,
) -> bool:
    """Store a judged answer; False when it is stored already. Raises Refused: another host's slot, or a second word."""
    entry = {"result": digest, "slot": slot, "replay": int(replay)}
    heard = HEARD.first(connection, **entry)
    if heard.envelope is not None:
        if heard.envelope != envelope:
            raise Refused("answer-twice", f"slot {slot} has been answered")
        return False
    if not replay and heard.host != host:
        raise Refused("not-seated", f"slot {slot} is not this host's")
    more = {"host": host, "envelope": envelope, "verdict": verdict, "answered_at": now}
    NEW_ANSWER.change(connection, **entry, **more)
    return True


def lose_blobs(connection: Connection, digest: bytes, now: float) -> bool:
    """Our disk lost what a worker uploaded: ask for it again, and have it checked anew by the same draw."""
    if not move(connection, digest, Event.BLOB_LOST, now, parts=""):
        return False
    connection.execute(delete(answers).where(answers.c.result == digest))
    connection.execute(delete(checkers).where(checkers.c.result == digest))
    return True
