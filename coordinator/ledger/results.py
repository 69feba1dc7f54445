"""Changes of the ledger, each a function of a connection that runs inside the writer: whole or absent.

Handing in a result, the draw, uploads, seats and answers are here; outcomes, bans and counts are in `outcomes`.
"""

import enum
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection, Row, and_, delete, func, insert, select, update

from coordinator.ledger import settlement
from coordinator.ledger.database import get_meta, set_meta
from coordinator.ledger.tables import answers, campaigns, hosts, results, seats
from coordinator.policy.referee import HELD, LIVE, MAY_RETURN, PENDING_PER_HOST_MAX, Event, Phase, next_phase
from protocol.errors import Refused
from protocol.recipes.campaign import Policy
from protocol.trust.envelope import Envelope, Message
from protocol.trust.messages import Admission, Receipt, Result

Sign = Callable[[Message], bytes]  # a message -> our signed envelope's bytes


class Busy(Exception):
    """Nothing is wrong with what was asked; it is too much at once. To be tried again later."""


class HandedIn(enum.Enum):
    NEW = "committed"
    AGAIN = "handed in again"
    KNOWN = "known"
    DUPLICATE = "duplicate"
    EQUIVOCATION = "equivocation"


class Reply(NamedTuple):
    envelope: bytes  # a Receipt or an Admission
    what: HandedIn
    news: list[settlement.News]


def add_campaign(connection: Connection, digest: str, exact: bytes, manifest: bytes, now: float) -> bool:
    """True when it is new; seeding twice is harmless."""
    if connection.execute(select(campaigns.c.digest).where(campaigns.c.digest == digest)).first():
        return False
    connection.execute(
        insert(campaigns).values(digest=digest, exact=exact, manifest=manifest, state="running", seeded_at=now)
    )
    return True


CONTROLS = {  # (state, action) -> state; what is absent is refused
    ("running", "pause"): "paused",
    ("paused", "pause"): "paused",
    ("paused", "resume"): "running",
    ("running", "resume"): "running",
    ("running", "cancel"): "cancelled",
    ("paused", "cancel"): "cancelled",
    ("cancelled", "cancel"): "cancelled",
    ("cancelled", "resume"): "running",
}


def control_campaign(connection: Connection, digest: str, action: str) -> str:
    """The new state. Raises Refused."""
    state = connection.execute(select(campaigns.c.state).where(campaigns.c.digest == digest)).scalar()
    if state is None:
        raise Refused("unknown-campaign", digest)
    if (state, action) not in CONTROLS:
        raise Refused("campaign-state", f"cannot {action} a campaign that is {state}")
    connection.execute(update(campaigns).where(campaigns.c.digest == digest).values(state=CONTROLS[(state, action)]))
    return CONTROLS[(state, action)]


def hand_in(
    connection: Connection, envelope: Envelope, result: Result, segments: int, policy: Policy, sign: Sign, now: float
) -> Reply:
    """Receive a verified result. Raises Refused for a banned host, Busy for one with too many unsettled results."""
    worker, digest = envelope.signer, envelope.digest
    refuse_banned(connection, worker)
    same = and_(results.c.campaign == result.campaign, results.c.assignment == result.assignment)
    rows = list(connection.execute(select(results).where(same)))
    known = next((row for row in rows if row.digest == digest), None)
    holder = next((row for row in rows if row.phase in HELD and row.worker != worker), None)
    mine = [row for row in rows if row.worker == worker and row.digest != digest]
    held = [row for row in mine if row.phase in HELD]
    if known is not None and not _may_return(known, held):
        settled = known.phase in (Phase.VOID, Phase.CONVICTED)
        return Reply(known.admission if settled else known.receipt, HandedIn.KNOWN, [])
    if any(_same_work(row, result) for row in held):
        reason = "you have handed in this very work already"
        admission = Admission(result=digest, outcome="duplicate", reason=reason, credit=0)
        return Reply(sign(admission), HandedIn.DUPLICATE, [])
    if held:
        return _equivocation(connection, envelope, result, held, segments, policy, sign, now)
    if holder is not None:
        word = "already admitted" if holder.phase == Phase.ADMITTED else "already being checked"
        admission = Admission(result=digest, outcome="duplicate", reason=f"this assignment is {word}", credit=0)
        return Reply(sign(admission), HandedIn.DUPLICATE, [])
    news = _withdraw(connection, mine, policy, sign, now)
    refuse_banned(connection, worker)
    live = select(func.count()).where(results.c.worker == worker, results.c.phase.in_(LIVE))
    if (connection.execute(live).scalar() or 0) >= PENDING_PER_HOST_MAX:
        raise Busy(f"{PENDING_PER_HOST_MAX} results of this host wait for an outcome")
    if known is not None:
        phase = next_phase(Phase(known.phase), Event.HANDED_IN_AGAIN)
        change = update(results).where(results.c.digest == digest)
        connection.execute(
            change.values(phase=phase, since=now, event=Event.HANDED_IN_AGAIN, fault=0, reason="", admission=None)
        )
        return Reply(known.receipt, HandedIn.AGAIN, news)
    receipt = sign(Receipt(result=digest, epoch=int(get_meta(connection, "epoch", "0")), received_at=now))
    _insert_result(connection, envelope, result, segments, receipt, now)
    return Reply(receipt, HandedIn.NEW, news)


def _may_return(row: Row, held: list[Row]) -> bool:
    return row.phase == Phase.VOID and row.event in MAY_RETURN and not held


def _same_work(row: Row, result: Result) -> bool:
    """The same networks and commitment under another label: a host that trained again after it changed its backend."""
    first = msgspec.msgpack.decode(msgspec.msgpack.decode(row.envelope, type=Envelope).payload, type=Result)
    return (first.commitment, first.networks) == (result.commitment, result.networks)


def _insert_result(
    connection: Connection, envelope: Envelope, result: Result, segments: int, receipt: bytes, now: float
) -> None:
    settlement.ensure_host(connection, envelope.signer, now)
    connection.execute(
        insert(results).values(
            digest=envelope.digest,
            campaign=result.campaign,
            assignment=result.assignment,
            worker=envelope.signer,
            envelope=envelope.to_bytes(),
            receipt=receipt,
            epoch=int(get_meta(connection, "epoch", "0")),
            received_at=now,
            networks=len(result.networks),
            segments=segments,
            phase=Phase.COMMITTED,
            since=now,
        )
    )


def _equivocation(
    connection: Connection,
    envelope: Envelope,
    result: Result,
    held: list[Row],
    segments: int,
    policy: Policy,
    sign: Sign,
    now: float,
) -> Reply:
    """Two different results for one assignment: both are kept as the proof, and the host is banned.

    An admitted first one stays: it was checked, and its networks are what anybody else would have trained.
    """
    _insert_result(connection, envelope, result, segments, b"", now)
    reason = f"a second, different result for assignment {result.assignment}"
    news: list[settlement.News] = []
    for digest in (envelope.digest, *(row.digest for row in held if row.phase in LIVE)):
        news += settlement.settle(connection, digest, Event.EQUIVOCATED, reason, policy, sign, now, banning=False)
    news += settlement.ban(connection, envelope.signer, reason, policy, sign, now)
    admission = connection.execute(select(results.c.admission).where(results.c.digest == envelope.digest)).scalar()
    assert admission is not None
    return Reply(admission, HandedIn.EQUIVOCATION, news)


def _withdraw(connection: Connection, mine: list[Row], policy: Policy, sign: Sign, now: float) -> list[settlement.News]:
    """The worker came back with another result rather than open the first: that one counts as a fault now."""
    news: list[settlement.News] = []
    for row in mine:
        if row.phase == Phase.VOID and row.event == Event.OVERDUE:
            reason = "never opened; another result was handed in instead"
            news += settlement.settle(connection, row.digest, Event.WITHDRAWN, reason, policy, sign, now)
    return news


def refuse_banned(connection: Connection, host: str) -> None:
    """Raises Refused for a banned host."""
    why = connection.execute(select(hosts.c.banned).where(hosts.c.host == host)).scalar()
    if why:
        raise Refused("banned", why)


def reveal(connection: Connection, now: float) -> int:
    """The next epoch; its link may be shown once this is durable."""
    epoch = int(get_meta(connection, "epoch", "0")) + 1
    set_meta(connection, "epoch", str(epoch))
    set_meta(connection, "revealed_at", repr(now))
    return epoch


def move(connection: Connection, digest: bytes, event: Event, now: float, **values: object) -> bool:
    """One transition that settles nothing; False when it comes too late."""
    row = connection.execute(select(results.c.phase).where(results.c.digest == digest)).first()
    phase = next_phase(Phase(row.phase), event) if row else None
    if phase is None:
        return False
    change = update(results).where(results.c.digest == digest)
    connection.execute(change.values(phase=phase, event=event, since=now, **values))
    return True


def add_draw(connection: Connection, digest: bytes, draw: bytes, now: float) -> bool:
    """The first draw stays for ever, also for a result that was void in between."""
    first = connection.execute(select(results.c.draw).where(results.c.digest == digest)).scalar()
    return move(connection, digest, Event.DRAWN, now, draw=first or draw)


def add_part(connection: Connection, digest: bytes, part: str) -> None:
    """A verified blob is on disk. No change to a result that was settled meanwhile."""
    row = connection.execute(select(results.c.parts, results.c.phase).where(results.c.digest == digest)).first()
    if row is None or row.phase not in LIVE:
        return
    parts = ",".join(sorted({*filter(None, row.parts.split(",")), part}))
    connection.execute(update(results).where(results.c.digest == digest).values(parts=parts))


def begin_checks(connection: Connection, digest: bytes, seated: list[str], now: float) -> bool:
    if not move(connection, digest, Event.UPLOADED, now):
        return False
    rows = [{"result": digest, "slot": slot, "host": host, "since": now} for slot, host in enumerate(seated)]
    connection.execute(insert(seats), rows)
    return True


def reseat(connection: Connection, digest: bytes, slot: int, silent: str, host: str, now: float) -> bool:
    """Give a slot to another host, unless its answer came meanwhile."""
    if connection.execute(select(answers.c.slot).where(_answer(digest, slot, 0))).first():
        return False
    place = and_(seats.c.result == digest, seats.c.slot == slot, seats.c.silent == 0)
    gone = connection.execute(update(seats).where(place, seats.c.host == silent).values(silent=1))
    if not gone.rowcount:
        return False
    connection.execute(insert(seats).values(result=digest, slot=slot, host=host, since=now))
    return True


def add_answer(
    connection: Connection,
    digest: bytes,
    slot: int,
    replay: bool,
    host: str,
    envelope: bytes,
    judged: bytes,
    now: float,
) -> bool:
    """Store a judged answer; False when it is stored already. Raises Refused: another host's slot, or a second word."""
    have = connection.execute(select(answers.c.envelope).where(_answer(digest, slot, replay))).scalar()
    if have is not None:
        if have != envelope:
            raise Refused("answer-twice", f"slot {slot} has been answered")
        return False
    if not replay:
        place = and_(seats.c.result == digest, seats.c.slot == slot, seats.c.silent == 0)
        if connection.execute(select(seats.c.host).where(place)).scalar() != host:
            raise Refused("not-seated", f"slot {slot} is not this host's")
    connection.execute(
        insert(answers).values(
            result=digest, slot=slot, replay=int(replay), host=host, envelope=envelope, judged=judged, answered_at=now
        )
    )
    return True


def _answer(digest: bytes, slot: int, replay: bool | int):
    return and_(answers.c.result == digest, answers.c.slot == slot, answers.c.replay == int(replay))


def lose_blobs(connection: Connection, digest: bytes, now: float) -> bool:
    """Our disk lost what a worker uploaded: ask for it again, and have it checked anew by the same draw."""
    if not move(connection, digest, Event.BLOB_LOST, now, parts=""):
        return False
    connection.execute(delete(answers).where(answers.c.result == digest))
    connection.execute(delete(seats).where(seats.c.result == digest))
    return True


def add_heartbeats(connection: Connection, beats: Iterable[dict]) -> None:
    """What hosts say about themselves, gathered over some seconds; only `last_seen` is ours."""
    for beat in beats:
        settlement.ensure_host(connection, beat["host"], beat["last_seen"])
        connection.execute(update(hosts).where(hosts.c.host == beat["host"]).values(beat))
