"""What should happen to each unsettled result: pure functions from what is known to what is to be done.

`checking.referee_loop` gathers the cases, asks `rule`, and acts; every change of phase goes through
`phases.next_phase`, inside the ledger's writer, so two rulings can never both settle a result.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from coordinator.policy.phases import Event, Phase
from coordinator.policy.presence import PRESENCE_SECONDS, is_present
from coordinator.policy.standing import named_order
from protocol.recipes.campaign import Policy
from protocol.trust.admission import Decision, Outcome, decide
from protocol.trust.messages import BlobPart, Seat
from protocol.trust.verdict import Verdict

OWN_SLOTS_AT_ONCE = 2  # of one result: a fake shows in the first slots, and costs the organizer no more than these
NOBODY = ""  # has a slot that waits until a host that may check has room
SILENT_PER_SLOT_MAX = 3  # then the organizer takes the slot: a crowd of silent hosts must not hold a result for ever
EVENT_OF = {
    Outcome.ADMITTED: Event.AGREED,
    Outcome.VOID: Event.ONE_BAD_PLACE,
    Outcome.INVALID: Event.PROVED_WRONG,
}


@dataclass(frozen=True, slots=True)
class Checker:
    """Who has a slot, and since when (seconds since 1970)."""

    host: str
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseState:
    """All that a ruling on one unsettled result depends on."""

    digest: bytes
    worker: str
    phase: Phase
    since: float  # seconds since 1970: when the phase began
    epoch: int  # of the receipt
    policy: Policy
    standing: bool = False  # the worker's: as it is before the draw, as the draw says after it
    missing: frozenset[str] = frozenset()  # parts that still have to be uploaded
    holder: Phase | None = None  # of a kept result: the phase of the other one that has its assignment
    slots: int = 0
    ranked: tuple[Seat, ...] = ()  # the draw's hosts in their order
    checkers: dict[int, Checker] = field(default_factory=dict)  # by slot
    silent: frozenset[tuple[int, str]] = frozenset()  # (slot, host) that let its time pass
    answers: dict[int, Verdict] = field(default_factory=dict)  # by slot
    replays: dict[int, Verdict] = field(default_factory=dict)  # the organizer's, of disputed slots


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What all cases share at one moment. Times are seconds since 1970."""

    now: float
    organizer: str
    epoch: int  # links of the beacon that have been shown
    revealed_at: float
    last_seen: dict[str, float]
    banned: frozenset[str] = frozenset()
    false_accusers: frozenset[str] = frozenset()  # hosts with FALSE_ACCUSATIONS_MAX or more
    presence_seconds: float = PRESENCE_SECONDS
    unanswered: Mapping[str, int] = field(default_factory=dict)  # by host: slots that it has in hand

    def has_room(self, host: str, policy: Policy) -> bool:
        """For one more check."""
        return self.unanswered.get(host, 0) < policy.checks_at_once

    def may_check(self, host: str) -> bool:
        """Present, not banned, and not known for false accusations."""
        return (
            host not in self.banned
            and host not in self.false_accusers
            and is_present(host, self.last_seen, self.now, self.presence_seconds)
        )


@dataclass(frozen=True, slots=True)
class MakeDraw:
    """A newer link is known: fix the roster, and whether the worker stands."""

    result: bytes
    standing: bool


@dataclass(frozen=True, slots=True)
class TakeUp:
    """The result that this one was kept behind fell."""

    result: bytes


@dataclass(frozen=True, slots=True)
class BeginChecks:
    """All blobs are here: slot i goes to `checkers[i]`, or waits."""

    result: bytes
    checkers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GiveSlot:
    """A slot that waited: `host` has room now."""

    result: bytes
    slot: int
    host: str


@dataclass(frozen=True, slots=True)
class Reassign:
    """`silent` let the slot's time pass; `host` takes it, or it waits."""

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
    false_accusers: tuple[int, ...] = ()  # slots


Ruling = MakeDraw | TakeUp | BeginChecks | GiveSlot | Reassign | CheckSlot | ReplaySlot | Settle


def reveal_due(cases: Iterable[CaseState], situation: Situation) -> bool:
    """Whether the beacon's next link may be shown: somebody waits for it, and the last one is old enough."""
    elapsed = situation.now - situation.revealed_at  # negative after the clock was set back: then we do not wait for it
    return any(
        case.phase is Phase.COMMITTED and case.epoch >= situation.epoch and not 0 <= elapsed < case.policy.epoch_seconds
        for case in cases
    )


def in_order(cases: Iterable[CaseState]) -> list[CaseState]:
    """Those of hosts with standing first, then as they came: a crowd of strangers waits for itself."""
    return sorted(cases, key=lambda case: not case.standing)


def unanswered(cases: Iterable[CaseState]) -> Counter[str]:
    """By host: slots that it has and has not answered."""
    return Counter(
        checker.host
        for case in cases
        if case.phase is Phase.CHECKING
        for slot, checker in case.checkers.items()
        if slot not in case.answers
    )


def rule_all(cases: Iterable[CaseState], situation: Situation) -> list[tuple[CaseState, Ruling]]:
    """What is to be done about all of them: who is given a check has less room for those that come after."""
    taken = Counter(situation.unanswered)
    situation, found = replace(situation, unanswered=taken), list[tuple[CaseState, Ruling]]()
    for case in in_order(cases):
        rulings = rule(case, situation)
        taken.update(host for ruling in rulings for host in _given_to(ruling))
        found += ((case, ruling) for ruling in rulings)
    return found


def _given_to(ruling: Ruling) -> tuple[str, ...]:
    if isinstance(ruling, BeginChecks):
        return ruling.checkers
    return (ruling.host,) if isinstance(ruling, GiveSlot | Reassign) else ()


def rule(case: CaseState, situation: Situation) -> list[Ruling]:
    """What is to be done about one unsettled result now. Asked again with the same facts it says the same."""
    if case.worker in situation.banned:
        return [Settle(case.digest, Event.HOST_BANNED, "the host is banned")]
    if case.phase is Phase.COMMITTED:
        return _rule_committed(case, situation)
    if case.phase is Phase.KEPT:
        return _rule_kept(case, situation)
    if case.phase is Phase.OPENING:
        if not case.missing:
            return [BeginChecks(case.digest, first_checkers(case, situation))]
        return _overdue(case, situation, case.missing)
    return _rule_checking(case, situation)


def _overdue(case: CaseState, situation: Situation, missing: Collection[str]) -> list[Ruling]:
    if not missing or situation.now - case.since <= case.policy.opening_seconds:
        return []
    parts = ", ".join(sorted(missing))
    return [Settle(case.digest, Event.OVERDUE, f"not opened in {case.policy.opening_seconds:g} s: {parts}")]


def _rule_kept(case: CaseState, situation: Situation) -> list[Ruling]:
    """Its states are asked for when it is taken up, the rest at once: so its place is never empty then."""
    if case.holder is None:
        return [TakeUp(case.digest)]
    if case.holder is Phase.ADMITTED:
        return [Settle(case.digest, Event.OVERTAKEN, "another host's result for this assignment is admitted")]
    return _overdue(case, situation, case.missing - {BlobPart.STATES})


def _rule_committed(case: CaseState, situation: Situation) -> list[Ruling]:
    if case.epoch >= situation.epoch:
        return []  # the challenge comes from a link that nobody had seen when the receipt was given
    return [MakeDraw(case.digest, case.standing)]


def _rule_checking(case: CaseState, situation: Situation) -> list[Ruling]:
    decision: Decision = decide(case.slots, case.answers, case.replays)
    if decision.outcome is not Outcome.WAITING:
        return [Settle(case.digest, EVENT_OF[decision.outcome], decision.reason, decision.false_accusers)]
    rulings: list[Ruling] = [ReplaySlot(case.digest, slot) for slot in decision.disputed]
    busy, own = {checker.host for checker in case.checkers.values()}, list[Ruling]()
    for slot in range(case.slots):
        if slot in case.answers:
            continue
        checker = case.checkers.get(slot)
        if checker is None:
            if (host := seat(case, situation, slot, busy)) != NOBODY:
                rulings.append(GiveSlot(case.digest, slot, host))
        elif checker.host == situation.organizer:
            own.append(CheckSlot(case.digest, slot))
        elif is_silent(checker, case.policy, situation):
            rulings.append(Reassign(case.digest, slot, checker.host, seat(case, situation, slot, busy)))
    return rulings if decision.disputed else rulings + own[:OWN_SLOTS_AT_ONCE]


def first_checkers(case: CaseState, situation: Situation) -> tuple[str, ...]:
    """One host a slot in the draw's order, without those who left or were banned while the worker opened."""
    busy = set[str]()
    return tuple(seat(case, situation, slot, busy) for slot in range(case.slots))


def seat(case: CaseState, situation: Situation, slot: int, busy: set[str]) -> str:
    """Who gets the slot now, NOBODY while its host has no room. `busy` has who holds or awaits another, and grows."""
    host = next_checker(case, situation, slot, busy)
    busy.add(host)
    return host if host == situation.organizer or situation.has_room(host, case.policy) else NOBODY


def is_silent(checker: Checker, policy: Policy, situation: Situation) -> bool:
    """A checker that let its time pass, left, or was banned."""
    return situation.now - checker.since > policy.answer_seconds or not situation.may_check(checker.host)


def next_checker(case: CaseState, situation: Situation, slot: int, busy: set[str]) -> str:
    """The next host in the draw's order that is here, holds no slot and has not been silent.

    Never two of one network's prefix. Where they run out, and in the first slot of a host without standing, the
    organizer checks, or one whom the campaign names; and the evidence shows it.

    A host without room is waited for, as long as for an answer: passed over at once, honest hosts that compute would
    lose their slots to liars that do not. After that it is the next one with room; much later the organizer too.
    """
    if sum(silent == slot for silent, _ in case.silent) + 1 >= SILENT_PER_SLOT_MAX:
        return situation.organizer
    hosts = _drawn(case, situation, slot, busy) or _named(case, situation, busy)
    if not hosts:
        return situation.organizer
    waited = situation.now - case.since if case.phase is Phase.CHECKING else 0.0
    if waited <= case.policy.answer_seconds:
        return hosts[0]
    if waited > SILENT_PER_SLOT_MAX * case.policy.answer_seconds:
        hosts.append(situation.organizer)
    return next((host for host in hosts if situation.has_room(host, case.policy)), hosts[0])


def _drawn(case: CaseState, situation: Situation, slot: int, busy: set[str]) -> list[str]:
    """Hosts of the draw that may have the slot, in its order; none for the first of a host without standing."""
    if not case.standing and slot == 0:
        return []
    out = busy | {host for _, host in case.silent} | {case.worker}
    tags = {seat.tag for seat in case.ranked if seat.host in busy and seat.tag}
    fit = (seat.host for seat in case.ranked if seat.host not in out and seat.tag not in tags)
    return [host for host in fit if situation.may_check(host)]


def _named(case: CaseState, situation: Situation, busy: set[str]) -> list[str]:
    """Hosts that the campaign names, those with room first: any of them may have it."""
    out = busy | {host for _, host in case.silent} | {case.worker}
    named = [h for h in named_order(case.policy, case.digest) if h not in out and situation.may_check(h)]
    return sorted(named, key=lambda host: not situation.has_room(host, case.policy))
