"""A result is handed in: accepted, known, a duplicate, an equivocation, or refused. Facts in, a decision out.

The facts are read and the decision is stored in one transaction, so two hosts can never both be accepted for one
assignment.
"""

import enum
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from coordinator.policy.actions import Action, News, NewsKind, Report, WakeReferee
from coordinator.policy.facts import HostRecord, StoredResult
from coordinator.policy.phases import HELD, LIVE, MAY_RETURN, UNDER_WAY, Event, Phase
from coordinator.policy.settle import Settlement, equivocate, settle
from protocol.recipes.campaign import Policy
from protocol.trust.messages import Admission, AdmissionOutcome, Receipt

PENDING_PER_HOST_MAX = 64  # unsettled results of one host with standing; a heartbeat cannot name more
KEPT_MAX = 2  # of one assignment; the last place is for hosts with standing: fresh keys alone cannot have them all


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveFacts:
    """A verified result, and what the ledger knows about its worker and its assignment."""

    result: StoredResult  # as it would be stored, COMMITTED if nothing is in its way
    worker: HostRecord
    others: tuple[StoredResult, ...]  # all the ledger's results for this assignment, this one too when it is known
    same_work: frozenset[bytes]  # digests among them with these very networks and commitment, under another label
    policy: Policy  # the campaign's
    epoch: int  # links of the beacon that have been shown
    standing: bool = False  # the worker's (policy.standing)
    left_open: int = 0  # results that it did not open in time, since its last admitted one
    ticketed: bool = False  # it showed a ticket that we signed
    now: float  # seconds since 1970


class Received(enum.StrEnum):
    """What a handed-in result turned out to be."""

    NEW = "new"
    KEPT = "kept"  # new too: another host's is being checked, and this one is taken up should that one fall
    AGAIN = "again"  # void before, and nothing speaks against another try
    KNOWN = "known"
    DUPLICATE = "duplicate"
    EQUIVOCATION = "equivocation"
    BANNED = "banned"
    BUSY = "busy"
    NO_TICKET = "no-ticket"


class StoredReply(enum.StrEnum):
    """The reply is in the ledger already, or is stored by this decision's settlement."""

    RECEIPT = "receipt"
    ADMISSION = "admission"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reception:
    """What to store, in the order of the fields, what to answer, and what to do then."""

    what: Received
    settlement: Settlement  # earlier results of this worker that end now; for an equivocation, this one too
    store: StoredResult | None = None  # insert it, before the settlement
    reopen: bool = False  # the stored result goes on, by Event.HANDED_IN_AGAIN
    reply: Receipt | Admission | StoredReply | None = None  # messages are to be signed; None for BANNED and BUSY
    actions: tuple[Action, ...] = ()  # the settlement's are among them

    @property
    def refusal(self) -> str:
        """Why the host is banned."""
        return self.settlement.worker.banned


def receive(facts: ReceiveFacts) -> Reception:
    """The first rule that fits decides; the order is the rule."""
    result, worker = facts.result, facts.worker
    known = next((other for other in facts.others if other.digest == result.digest), None)
    mine = [other for other in facts.others if other.worker == worker.host and other.digest != result.digest]
    held = [other for other in mine if other.phase in HELD]
    holder = next((o for o in facts.others if o.holds and o.worker != worker.host), None)
    nothing = Settlement(worker=worker)
    if worker.banned:
        return Reception(what=Received.BANNED, settlement=nothing)
    if facts.policy.tickets and not facts.ticketed and known is None:
        return Reception(what=Received.NO_TICKET, settlement=nothing)
    if known is not None and not (_may_return(known) and not held):
        settled = known.phase in (Phase.VOID, Phase.INVALID)
        reply = StoredReply.ADMISSION if settled else StoredReply.RECEIPT
        return Reception(what=Received.KNOWN, settlement=nothing, reply=reply)
    if any(other.digest in facts.same_work for other in held):
        return _duplicate(facts, "you have handed in this very work already")
    if held:
        return _equivocation(facts, held)
    if holder is not None and (known is not None or not _may_be_kept(facts, holder)):
        word = "already admitted" if holder.phase is Phase.ADMITTED else "already being checked"
        return _duplicate(facts, f"this assignment is {word}")
    if len(worker.unsettled) >= pending_max(facts):
        return Reception(what=Received.BUSY, settlement=nothing)
    return _accept(facts, known, _withdraw(facts, mine), kept=holder is not None)


def pending_max(facts: ReceiveFacts) -> int:
    """How many unsettled results the worker may have: half as many for each that it left unopened."""
    most = PENDING_PER_HOST_MAX if facts.standing else facts.policy.fresh_pending
    return max(1, most >> min(facts.left_open, 10))


@dataclass(frozen=True, slots=True, kw_only=True)
class Overtaken:
    """Results whose place another one takes."""

    kept: tuple[StoredResult, ...] = ()  # by Event.SET_ASIDE
    ended: tuple[StoredResult, ...] = ()  # by Event.OVERTAKEN: there is no room to keep them


def overtaken(result: StoredResult, rivals: Iterable[StoredResult], standing: Collection[str] = ()) -> Overtaken:
    """Whose place a result takes as soon as its trace and weights are here: of others that are not.

    `rivals` in the order in which they came; those of hosts with `standing` are kept first.
    """
    others = [rival for rival in rivals if rival.digest != result.digest]
    if result.phase not in UNDER_WAY or any(rival.holds for rival in others):
        return Overtaken()
    late = sorted((r for r in others if r.phase in UNDER_WAY), key=lambda rival: rival.worker not in standing)
    kept, ended, places = list[StoredResult](), list[StoredResult](), _kept(others)
    for rival in late:
        (kept if has_room(places + len(kept), rival.worker in standing) else ended).append(rival)
    return Overtaken(kept=tuple(kept), ended=tuple(ended))


def has_room(kept: int, standing: bool) -> bool:
    """Whether one more result for an assignment is kept, of a host with `standing` or without."""
    return kept < (KEPT_MAX if standing else KEPT_MAX - 1)


def _kept(results: Iterable[StoredResult]) -> int:
    return sum(result.phase is Phase.KEPT for result in results)


def _may_be_kept(facts: ReceiveFacts, holder: StoredResult) -> bool:
    return holder.phase is not Phase.ADMITTED and has_room(_kept(facts.others), facts.standing)


def _accept(facts: ReceiveFacts, known: StoredResult | None, withdrawn: Settlement, *, kept: bool) -> Reception:
    """`kept`: another host's result is being checked. Whoever was first may be lying, and then this work is wanted."""
    if withdrawn.ban is not None:
        return Reception(what=Received.BANNED, settlement=withdrawn, actions=withdrawn.actions)
    what, kind = (Received.KEPT, NewsKind.KEPT) if kept else (Received.NEW, NewsKind.COMMITTED)
    if known:
        what, kind = Received.AGAIN, NewsKind.HANDED_IN_AGAIN
    if known and known.drawn:
        reply = StoredReply.RECEIPT
    else:  # also of one that ended before its draw: what was to challenge it may have been shown meanwhile
        reply = Receipt(result=facts.result.digest, epoch=facts.epoch, received_at=facts.now)
    return Reception(
        what=what,
        settlement=withdrawn,
        store=None if known else replace(facts.result, phase=Phase.KEPT) if kept else facts.result,
        reopen=known is not None,
        reply=reply,
        actions=(*withdrawn.actions, _line(facts, kind), WakeReferee()),
    )


def _may_return(result: StoredResult) -> bool:
    return result.phase is Phase.VOID and result.event in MAY_RETURN


def _duplicate(facts: ReceiveFacts, reason: str) -> Reception:
    reply = Admission(result=facts.result.digest, outcome=AdmissionOutcome.DUPLICATE, reason=reason, credit=0)
    return Reception(
        what=Received.DUPLICATE,
        settlement=Settlement(worker=facts.worker),
        reply=reply,
        actions=(_line(facts, NewsKind.DUPLICATE),),
    )


def _equivocation(facts: ReceiveFacts, held: list[StoredResult]) -> Reception:
    """Two different results for one assignment: both are kept as the proof, and the host is banned."""
    reason = f"a second, different result for assignment {facts.result.assignment}"
    worker = facts.worker.with_unsettled(facts.result)
    settlement = equivocate((facts.result, *(other for other in held if other.phase in LIVE)), reason, worker)
    return Reception(
        what=Received.EQUIVOCATION,
        settlement=settlement,
        store=facts.result,
        reply=StoredReply.ADMISSION,
        actions=(*settlement.actions, _line(facts, NewsKind.EQUIVOCATION)),
    )


def _withdraw(facts: ReceiveFacts, mine: list[StoredResult]) -> Settlement:
    """The worker came back with another result rather than open the first: that one counts as a fault now."""
    settlement = Settlement(worker=facts.worker)
    for other in mine:
        if other.phase is Phase.VOID and other.event == Event.OVERDUE:
            reason = "never opened; another result was handed in instead"
            later = settle(other, Event.WITHDRAWN, reason, settlement.worker, facts.policy)
            settlement = settlement.then(later)
    return settlement


def _line(facts: ReceiveFacts, kind: NewsKind) -> Report:
    result = facts.result
    return Report(
        News(
            kind=kind,
            text=f"{result.networks} networks, {result.segments} segments",
            campaign=result.campaign,
            assignment=result.assignment,
            host=result.worker,
        )
    )
