"""What should happen to each result: a table of phases and pure functions from what is known to what is to be done.

Nothing here touches a disk, a socket or a clock. `bench` gathers the cases, asks `rule`, and acts; every change of
phase goes through `next_phase`, inside the ledger's writer, so two rulings can never both settle a result.
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field

from protocol.recipes.campaign import Policy
from protocol.trust.admission import Decision, Outcome, decide
from protocol.trust.verdict import Judged

PRESENCE_SECONDS = 30.0  # a host that was silent for so long is not drawn, and loses the slots it was drawn for
LIES_MAX = 3  # false accusations after which a host is not drawn any more
FAULT_WINDOW = 50  # a host's last bundles, in which faults are counted
SILENT_PER_SLOT_MAX = 3  # then the organizer takes the slot: a crowd of silent hosts must not hold a result for ever
PENDING_PER_HOST_MAX = 64  # unsettled results of one host; a heartbeat cannot name more


class Phase(str, enum.Enum):
    COMMITTED = "committed"  # receipt given; waits for a beacon link younger than the receipt
    OPENING = "opening"  # challenged; waits for the worker's blobs
    CHECKING = "checking"  # all blobs are here; waits for the checkers
    ADMITTED = "admitted"
    VOID = "void"
    CONVICTED = "convicted"


LIVE = (Phase.COMMITTED, Phase.OPENING, Phase.CHECKING)
HELD = (*LIVE, Phase.ADMITTED)  # an assignment with such a result is not in the pool


class Event(str, enum.Enum):
    DRAWN = "drawn"
    UPLOADED = "uploaded"
    MISMATCH = "mismatch"  # an upload is not what was committed to
    OVERDUE = "overdue"  # the worker opened nothing in time
    AGREED = "agreed"
    ONE_BAD_PLACE = "one-bad-place"  # may be a hardware fault
    PROVED_WRONG = "proved-wrong"
    EQUIVOCATED = "equivocated"  # two results of one host for one assignment
    HOST_BANNED = "host-banned"
    HANDED_IN_AGAIN = "handed-in-again"  # keeps its receipt and its draw: nobody throws the dice twice
    BLOB_LOST = "blob-lost"  # our own disk's fault
    WITHDRAWN = "withdrawn"  # never opened, and then another result was handed in instead


TRANSITIONS = {
    (Phase.COMMITTED, Event.DRAWN): Phase.OPENING,
    (Phase.COMMITTED, Event.MISMATCH): Phase.VOID,
    (Phase.COMMITTED, Event.EQUIVOCATED): Phase.CONVICTED,
    (Phase.COMMITTED, Event.HOST_BANNED): Phase.VOID,
    (Phase.OPENING, Event.UPLOADED): Phase.CHECKING,
    (Phase.OPENING, Event.MISMATCH): Phase.VOID,
    (Phase.OPENING, Event.OVERDUE): Phase.VOID,
    (Phase.OPENING, Event.EQUIVOCATED): Phase.CONVICTED,
    (Phase.OPENING, Event.HOST_BANNED): Phase.VOID,
    (Phase.CHECKING, Event.AGREED): Phase.ADMITTED,
    (Phase.CHECKING, Event.ONE_BAD_PLACE): Phase.VOID,
    (Phase.CHECKING, Event.PROVED_WRONG): Phase.CONVICTED,
    (Phase.CHECKING, Event.EQUIVOCATED): Phase.CONVICTED,
    (Phase.CHECKING, Event.HOST_BANNED): Phase.VOID,
    (Phase.CHECKING, Event.BLOB_LOST): Phase.OPENING,
    (Phase.VOID, Event.HANDED_IN_AGAIN): Phase.COMMITTED,
    (Phase.VOID, Event.WITHDRAWN): Phase.VOID,
}
FAULTS = frozenset({Event.MISMATCH, Event.ONE_BAD_PLACE, Event.WITHDRAWN})
CRIMES = frozenset({Event.PROVED_WRONG, Event.EQUIVOCATED})
MAY_RETURN = frozenset({Event.MISMATCH, Event.OVERDUE})  # void, but nobody has shown the result itself to be wrong
EVENT_OF = {
    Outcome.ADMITTED: Event.AGREED,
    Outcome.VOID: Event.ONE_BAD_PLACE,
    Outcome.CONVICTED: Event.PROVED_WRONG,
}


def next_phase(phase: Phase, event: Event) -> Phase | None:
    """Where the event leads, or None: it comes too late, for somebody else was faster."""
    return TRANSITIONS.get((phase, event))


@dataclass(frozen=True, slots=True)
class Seat:
    """Who has a slot, and since when."""

    host: str
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """All that a ruling on one unsettled result depends on."""

    digest: bytes
    worker: str
    phase: Phase
    since: float  # seconds since 1970: when the phase began
    epoch: int  # of the receipt
    policy: Policy
    missing: frozenset[str] = frozenset()  # parts that still have to be uploaded
    slots: int = 0
    ranked: tuple[str, ...] = ()  # the draw's candidates in their order
    seats: dict[int, Seat] = field(default_factory=dict)
    silent: frozenset[tuple[int, str]] = frozenset()
    answers: dict[int, Judged] = field(default_factory=dict)
    replays: dict[int, Judged] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Court:
    """What all cases share at one moment."""

    now: float
    organizer: str
    epoch: int
    revealed_at: float
    last_seen: dict[str, float]
    banned: frozenset[str] = frozenset()
    presence_seconds: float = PRESENCE_SECONDS


@dataclass(frozen=True, slots=True)
class MakeDraw:
    """A newer link is known: fix the candidates."""

    result: bytes


@dataclass(frozen=True, slots=True)
class BeginChecks:
    result: bytes


@dataclass(frozen=True, slots=True)
class Reseat:
    """`silent` let the slot's time pass; `host` takes it."""

    result: bytes
    slot: int
    silent: str
    host: str


@dataclass(frozen=True, slots=True)
class CheckSlot:
    """The organizer's own slot."""

    result: bytes
    slot: int


@dataclass(frozen=True, slots=True)
class ReplaySlot:
    """A checker disagrees with the worker: find out, with another build, who is wrong."""

    result: bytes
    slot: int


@dataclass(frozen=True, slots=True)
class Settle:
    result: bytes
    event: Event
    reason: str
    liars: tuple[int, ...] = ()  # slots


Action = MakeDraw | BeginChecks | Reseat | CheckSlot | ReplaySlot | Settle


def reveal_due(cases: Iterable[Case], court: Court) -> bool:
    """Whether the beacon's next link may be shown: somebody waits for it, and the last one is old enough."""
    elapsed = court.now - court.revealed_at  # negative after the clock was set back: then we do not wait for it
    return any(
        case.phase is Phase.COMMITTED and case.epoch >= court.epoch and not 0 <= elapsed < case.policy.epoch_seconds
        for case in cases
    )


def candidates(court: Court, worker: str, unfit: Iterable[str], limit: int = 4096) -> tuple[str, ...]:
    """Hosts that could check a result now: present, not banned, not known for false accusations, not the worker."""
    out = {worker, court.organizer, *court.banned, *unfit}
    present = [h for h, seen in court.last_seen.items() if court.now - seen <= court.presence_seconds]
    return tuple(sorted(h for h in present if h not in out)[:limit])


def rule(case: Case, court: Court) -> list[Action]:
    """What is to be done about one unsettled result now. Asked again with the same facts it says the same."""
    if case.worker in court.banned:
        return [Settle(case.digest, Event.HOST_BANNED, "the host is banned")]
    if case.phase is Phase.COMMITTED:
        return [MakeDraw(case.digest)] if case.epoch < court.epoch else []
    if case.phase is Phase.OPENING:
        if not case.missing:
            return [BeginChecks(case.digest)]
        if court.now - case.since > case.policy.opening_seconds:
            parts = ", ".join(sorted(case.missing))
            return [Settle(case.digest, Event.OVERDUE, f"not opened in {case.policy.opening_seconds:g} s: {parts}")]
        return []
    return _rule_checking(case, court)


def _rule_checking(case: Case, court: Court) -> list[Action]:
    decision: Decision = decide(case.slots, case.answers, case.replays)
    if decision.outcome is not Outcome.WAITING:
        return [Settle(case.digest, EVENT_OF[decision.outcome], decision.reason, decision.liars)]
    actions: list[Action] = [ReplaySlot(case.digest, slot) for slot in decision.disputed]
    seated = {seat.host for seat in case.seats.values()}
    for slot, seat in sorted(case.seats.items()):
        if slot in case.answers:
            continue
        if seat.host == court.organizer:
            actions.append(CheckSlot(case.digest, slot))
        elif is_silent(seat, case.policy, court):
            host = next_checker(case, court, slot, seated)
            seated.add(host)
            actions.append(Reseat(case.digest, slot, seat.host, host))
    return actions


def is_silent(seat: Seat, policy: Policy, court: Court) -> bool:
    """A checker that let its time pass, left, or was banned."""
    return (
        court.now - seat.since > policy.answer_seconds
        or court.now - court.last_seen.get(seat.host, 0.0) > court.presence_seconds
        or seat.host in court.banned
    )


def next_checker(case: Case, court: Court, slot: int, seated: set[str]) -> str:
    """The next host in the draw's order that is here, holds no slot and has not been silent; else the organizer."""
    if sum(silent == slot for silent, _ in case.silent) + 1 >= SILENT_PER_SLOT_MAX:
        return court.organizer
    out = seated | {host for _, host in case.silent} | court.banned
    for host in case.ranked:
        if host not in out and court.now - court.last_seen.get(host, 0.0) <= court.presence_seconds:
            return host
    return court.organizer


def deserves_ban(faults: list[bool], policy: Policy) -> bool:
    """`faults` are the host's settled bundles, the newest first."""
    return sum(faults[:FAULT_WINDOW]) >= policy.faults_before_ban
