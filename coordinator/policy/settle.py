"""How a result ends, with everything that follows: admissions, credit and its escrow, bans, what falls with a liar.

`settle` is a function from facts to a `Settlement`; the ledger stores it whole, in the transaction that read the
facts, and what lies outside the ledger is in its `actions`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from coordinator.policy.actions import Action, DeleteBlobs, News, NewsKind, Report, WakeReferee
from coordinator.policy.auditing import OWED, Audit
from coordinator.policy.facts import FAULT_WINDOW, HostRecord, StoredResult
from coordinator.policy.phases import FAULTS, JUDGED, PROVEN_FRAUD, Event, Phase, next_phase
from protocol.errors import Refused
from protocol.recipes.campaign import Policy
from protocol.trust.messages import Admission, AdmissionOutcome, BlobPart, CampaignState

REASON_CHARS_MAX = 300  # what an Admission may carry


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What an admission needs to know beside the result: its networks and its campaign."""

    recipe: str  # digest
    seeds: tuple[int, ...]
    registered: frozenset[int]  # seeds of this recipe that another campaign has brought in already
    admitted: int  # the campaign's admitted assignments before this one
    assignments: int  # of the whole campaign
    audit: Audit  # what the organizer will owe it: what chance says, or that one of its checkers has lied elsewhere
    campaign_state: CampaignState


@dataclass(frozen=True, slots=True)
class FalseAccusation:
    """A checker said INVALID where the replay says VALID."""

    host: str
    slot: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One result's end."""

    result: StoredResult  # as it was before
    event: Event
    phase: Phase  # as it is from now on
    reason: str
    fault: bool
    credit: int  # network-segments
    audit: Audit  # what the organizer owes it from now on

    @property
    def retracts(self) -> bool:
        """Its credit, its networks and its place in the campaign are taken back."""
        return self.phase is Phase.RETRACTED

    @property
    def admission(self) -> Admission:
        """What the organizer signs and the worker is told."""
        reason = self.reason[:REASON_CHARS_MAX]
        if self.event is Event.OVERTAKEN:
            return Admission(result=self.result.digest, outcome=AdmissionOutcome.DUPLICATE, reason=reason, credit=0)
        return Admission(
            result=self.result.digest, outcome=AdmissionOutcome(self.phase), reason=reason, credit=self.credit
        )


@dataclass(frozen=True, slots=True)
class Ban:
    """Refuse this key from now on."""

    host: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Admit:
    """An admission's entries: the worker's credit, what of it leaves escrow, new networks, the campaign's count."""

    host: str
    credit: int  # network-segments
    shows_work: bool  # then it is one more clean bundle, and one more admission
    campaign: str
    recipe: str
    seeds: tuple[int, ...]  # not registered before
    vests_at: int  # this bundle's credit leaves escrow with the host's admission of this number
    vested: tuple[bytes, ...]  # bundles of the host, perhaps this one, whose credit leaves escrow now
    released: int  # their network-segments
    completes: bool  # the campaign has no other assignment left


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What is to be stored, in this order, and then done. Empty when another event was faster."""

    worker: HostRecord  # as it is afterwards
    outcomes: tuple[Outcome, ...] = ()
    ban: Ban | None = None
    convicted: str = ""  # a host shown to have lied: all admitted bundles that its word stands behind are suspect
    admit: Admit | None = None
    false_accusations: tuple[FalseAccusation, ...] = ()
    actions: tuple[Action, ...] = ()

    def then(self, later: "Settlement") -> "Settlement":
        """Both together; `later` was decided on this one's `worker`."""
        assert self.ban is None or later.ban is None, "a host is banned once"
        return Settlement(
            worker=later.worker,
            outcomes=self.outcomes + later.outcomes,
            ban=self.ban or later.ban,
            convicted=self.convicted or later.convicted,
            admit=self.admit or later.admit,
            false_accusations=self.false_accusations + later.false_accusations,
            actions=self.actions + later.actions,
        )


def settle(
    result: StoredResult,
    event: Event,
    reason: str,
    worker: HostRecord,
    policy: Policy,
    *,
    bundle: Bundle | None = None,
    accusers: Iterable[FalseAccusation] = (),
) -> Settlement:
    """Bring a result to its outcome. An admission needs its `bundle`."""
    settlement = _outcome(result, event, reason, worker, audit=bundle.audit if bundle else Audit.NONE)
    if not settlement.outcomes:
        return settlement
    (outcome,) = settlement.outcomes
    if outcome.phase is Phase.ADMITTED:
        assert bundle is not None, "an admission registers networks"
        settlement = settlement.then(_admit(outcome, settlement.worker, bundle, vesting(policy, bundle.assignments)))
    elif event in PROVEN_FRAUD:
        settlement = settlement.then(convict(settlement.worker, reason))
    elif outcome.fault and deserves_ban(settlement.worker, policy):
        why = f"{policy.faults_before_ban} faults in its last {FAULT_WINDOW} bundles; the last one: {reason}"
        settlement = settlement.then(ban(settlement.worker, why))
        settlement = settlement.then(_retract_escrow(settlement.worker, "was banned for faults", why))
    return settlement.then(_blame(result, tuple(accusers), settlement.worker))


def equivocate(results: Iterable[StoredResult], reason: str, worker: HostRecord) -> Settlement:
    """Two different results of one host for one assignment: those that are not settled are invalid, the host convicted.

    An admitted one stays when its credit has vested: it was checked, and anybody else would have trained the same.
    """
    settlement = Settlement(worker=worker)
    for result in results:
        settlement = settlement.then(_outcome(result, Event.EQUIVOCATED, reason, settlement.worker))
    return settlement.then(convict(settlement.worker, reason))


def convict(worker: HostRecord, why: str) -> Settlement:
    """A host is shown to have lied: banned, its bundles in escrow are retracted, all it stands behind is suspect.

    Convicted twice: empty.
    """
    if worker.convicted:
        return Settlement(worker=worker)
    settlement = ban(worker, why)
    settlement = settlement.then(_retract_escrow(settlement.worker, "was convicted", why))
    known = replace(settlement.worker, convicted=True)
    return settlement.then(Settlement(worker=known, convicted=worker.host))


def ban(worker: HostRecord, why: str) -> Settlement:
    """All that the host has not been admitted for is void, and its assignments are free again. Banned twice: empty."""
    if worker.banned:
        return Settlement(worker=worker)
    news = News(kind=NewsKind.BANNED, text=why, host=worker.host)
    settlement = Settlement(
        worker=replace(worker, banned=why), ban=Ban(worker.host, why), actions=(Report(news), WakeReferee())
    )
    for result in worker.unsettled:
        settlement = settlement.then(_outcome(result, Event.HOST_BANNED, "the host is banned", settlement.worker))
    return settlement


def moderate(worker: HostRecord, banned: bool, reason: str) -> Settlement:
    """The organizer's own word: what was admitted stays, escrow too, for nothing was proved. Raises Refused: there is
    nothing to change, or proof stands against it."""
    if banned:
        if worker.banned:
            raise Refused("banned-already", worker.banned)
        return ban(worker, f"by the organizer: {reason}")
    if worker.convicted:
        raise Refused("convicted", f"it was shown to have lied, for everybody to check: {worker.banned}")
    if not worker.banned:
        raise Refused("not-banned", "this host is not banned")
    news = News(kind=NewsKind.UNBANNED, text=reason, host=worker.host)
    return Settlement(worker=replace(worker, banned=""), actions=(Report(news), WakeReferee()))


def _retract_escrow(worker: HostRecord, what: str, why: str) -> Settlement:
    """What a host has in escrow falls with it. So many faults need not be lies, but nothing of it was proved yet."""
    settlement = Settlement(worker=worker)
    for result in worker.unvested:
        reason = f"its host {what} while this was in escrow: {why}"
        settlement = settlement.then(_outcome(result, Event.VOIDED_UNVESTED, reason, settlement.worker))
    return settlement


def deserves_ban(worker: HostRecord, policy: Policy) -> bool:
    return sum(fault for _, fault in worker.settled[:FAULT_WINDOW]) >= policy.faults_before_ban


def vesting(policy: Policy, assignments: int) -> int:
    """How many later bundles of its host a bundle's credit waits for: a tenth of the campaign at most."""
    return min(policy.vesting_bundles, assignments // 10)


def _outcome(
    result: StoredResult, event: Event, reason: str, worker: HostRecord, *, audit: Audit = Audit.NONE
) -> Settlement:
    """One result's end and its blobs, without what follows for the host."""
    phase = next_phase(result.phase, event)
    if phase is None:
        return Settlement(worker=worker)
    fault = event in FAULTS or event in PROVEN_FRAUD
    credit = result.segments if phase is Phase.ADMITTED else 0
    owed = Audit.JUDGING if event in JUDGED else audit if phase is Phase.ADMITTED else Audit.NONE
    outcome = Outcome(result=result, event=event, phase=phase, reason=reason, fault=fault, credit=credit, audit=owed)
    return Settlement(
        worker=worker.with_outcome(result.digest, phase, fault), outcomes=(outcome,), actions=_follows(outcome)
    )


def _follows(outcome: Outcome) -> tuple[Action, ...]:
    """Blobs of a void result go, those of a false one are kept as the proof, and while an audit may need them."""
    result = outcome.result
    actions: list[Action] = []
    if outcome.audit in OWED:
        pass
    elif outcome.phase is Phase.VOID or outcome.event is Event.VOIDED_UNVESTED:
        actions.append(DeleteBlobs(result.digest))
    elif outcome.phase is Phase.ADMITTED:
        actions.append(DeleteBlobs(result.digest, (BlobPart.STATES,)))
    admitted = outcome.phase is Phase.ADMITTED
    news = News(
        kind=NewsKind.ADMITTED if admitted else NewsKind.RETRACTED if outcome.retracts else NewsKind.REJECTED,
        text=f"{result.networks} networks, credit {outcome.credit}" if admitted else _rejection(outcome),
        campaign=result.campaign,
        assignment=result.assignment,
        host=result.worker,
    )
    return (*actions, Report(news), WakeReferee())


def _rejection(outcome: Outcome) -> str:
    return outcome.reason if outcome.retracts else f"{outcome.phase}: {outcome.reason}"


def _admit(outcome: Outcome, worker: HostRecord, bundle: Bundle, later: int) -> Settlement:
    """Credit waits in escrow for `later` more admissions of the host. One that was never admitted is not a fault."""
    number = worker.admissions + outcome.result.shows_work
    result = replace(outcome.result, phase=Phase.ADMITTED, vests_at=number + later)
    held = (*worker.unvested, result)
    vested = tuple(one for one in held if one.vests_at <= number)
    unvested = tuple(one for one in held if one.vests_at > number)
    worker = replace(worker, admissions=number, unvested=unvested)
    completes = bundle.admitted + 1 == bundle.assignments and bundle.campaign_state != CampaignState.COMPLETE
    admit = Admit(
        host=result.worker,
        credit=outcome.credit,
        shows_work=result.shows_work,
        campaign=result.campaign,
        recipe=bundle.recipe,
        seeds=tuple(seed for seed in bundle.seeds if seed not in bundle.registered),
        vests_at=result.vests_at,
        vested=tuple(one.digest for one in vested),
        released=sum(one.segments for one in vested),
        completes=completes,
    )
    text = f"all {bundle.assignments} assignments are admitted"
    news = News(kind=NewsKind.COMPLETE, text=text, campaign=result.campaign)
    return Settlement(worker=worker, admit=admit, actions=(Report(news),) if completes else ())


def _blame(result: StoredResult, accusations: tuple[FalseAccusation, ...], worker: HostRecord) -> Settlement:
    lines = tuple(
        Report(
            News(
                kind=NewsKind.FALSE_ACCUSATION,
                text=f"accused falsely in slot {accusation.slot}: the replay agrees with the worker",
                campaign=result.campaign,
                assignment=result.assignment,
                host=accusation.host,
            )
        )
        for accusation in accusations
    )
    return Settlement(worker=worker, false_accusations=accusations, actions=lines)
