"""What the coordinator's replies mean: one function a reply, and one for each call that it can refuse."""

from collections.abc import Callable
from math import inf
from typing import Any

from peer.state import actions as act
from peer.state import events as on
from peer.state.facts import PeerFacts
from peer.state.held import CheckHappened, CheckPhase, Happened, HeldAssignment, HeldCheck, ImpossibleEvent, Phase, hold
from peer.state.ids import CheckId
from peer.state.lending.limits import needs_of, summary, turned_down
from peer.state.reactions import CHECKS_MAX, REFUSALS_MAX, put_off_check
from protocol.trust.messages import Admission, AdmissionOutcome, BlobPart, CampaignState

UPLOADED = (BlobPart.TRACE, BlobPart.WEIGHTS)  # of every result; states are opened when a challenge asks for them
ASK_SECONDS_MIN, ASK_SECONDS_MAX = 0.2, 120.0  # whatever the coordinator says
GATHER_SECONDS_MAX = 2.0  # likewise: others wait for our answers
CHALLENGE_SECONDS = 1.0  # after a result is taken: nobody is asked to open it in the same moment
CHECKS_NAMED = 4  # a coordinator names no fewer, the oldest first, while it waits for that many
CHECKS_FULL = 8  # it names no more: others may wait


def call_ended(facts: PeerFacts, event: on.CallEnded, now: float) -> None:
    if event.call != facts.call:
        raise ImpossibleEvent(f"{type(event.call).__name__} is answered, in flight is {type(facts.call).__name__}")
    facts.call = None
    if isinstance(event, on.CallAway):
        return call_away(facts, event, now)
    if isinstance(event, on.CallPutOff):
        return call_put_off(facts, event, now)
    if isinstance(event, on.CallRefused):
        return call_refused(facts, event, now)
    facts.backoff = facts.backoff.worked()
    REPLIES[type(event)](facts, event, now)


def call_away(facts: PeerFacts, event: on.CallAway, now: float) -> None:
    """What was asked stays to be asked; the rules do so when the coordinator is back."""
    if facts.leaving is not None:
        facts.leaving.calls_over = True
    if not facts.backoff.delay:
        facts.say(f"the coordinator is away ({event.detail}); work goes on, results are kept on disk")
    back_off(facts, now)


def call_put_off(facts: PeerFacts, event: on.CallPutOff, now: float) -> None:
    """A result that is not taken now waits for those before it: whatever else is to be said goes on meanwhile."""
    if isinstance(event.call, act.SubmitResult):
        facts.backoff = facts.backoff.worked()  # it did answer
        facts.hand_in = facts.hand_in.failed(now)
    else:
        call_away(facts, on.CallAway(event.call, event.detail), now)


def back_off(facts: PeerFacts, now: float) -> None:
    facts.backoff = facts.backoff.failed(now)
    facts.poll_at = min(facts.poll_at, facts.backoff.until)


def call_refused(facts: PeerFacts, event: on.CallRefused, now: float) -> None:
    if event.reason == "banned":
        return banned(facts, event.detail, now)
    if not isinstance(event.call, act.Poll):
        facts.backoff = facts.backoff.worked()  # it did answer
    REFUSALS[type(event.call)](facts, event, now)


def banned(facts: PeerFacts, why: str, now: float) -> None:
    facts.leave(now, f"this host is banned from the swarm: {why}", calls_over=True)


# -- the inbox --------------------------------------------------------------------------------------------------------


def inbox_received(facts: PeerFacts, event: on.InboxReceived, now: float) -> None:
    if event.banned:
        return banned(facts, event.banned, now)
    answers_taken(facts, event)
    openings_taken(facts, event, now)
    facts.figures.credit, facts.figures.clean_bundles = event.credit, event.clean_bundles
    ask_as_told(facts, event.ask_again_seconds)
    gather_as_told(facts, event)
    facts.figures.escrow = event.escrow
    if event.banned_hosts != facts.banned_hosts:
        facts.banned_hosts = event.banned_hosts
        facts.do(act.IgnoreHosts(event.banned_hosts))
    if event.allowance is not None and event.allowance != facts.allowance:
        facts.allowance = event.allowance
        facts.do(act.UseAllowance(event.allowance))
    facts.campaign_states = dict(event.campaigns)
    facts.orders = {order.campaign: order for order in event.orders}
    running = [digest for digest, state in event.campaigns if state == CampaignState.RUNNING]
    known = facts.campaigns.keys() | facts.turned_down.keys()
    facts.unknown_campaigns = dict.fromkeys(digest for digest in running if digest not in known)
    for admission in event.outcomes:
        facts.hand_in = facts.hand_in.worked()  # there is room for another
        outcome(facts, admission, now)
    for result in event.unknown:
        held = facts.held.results.get(result)
        if held is not None and held.phase is Phase.COMMITTED:
            facts.do(act.ForgetReceipt(held.id))
            forget_requests(facts, result)
            facts.take(held, Happened.UNKNOWN, now)
    asked_for(facts, event, now)


def answers_taken(facts: PeerFacts, event: on.InboxReceived) -> None:
    assert isinstance(event.call, act.Poll)
    for (check, _), refused in zip(event.call.answers, event.refused, strict=True):
        if refused:
            facts.say(f"check not needed any more: {refused}")  # too late, or somebody else has the slot
        else:
            facts.figures.checks += 1
        facts.checks.take(facts.checks.items[check], CheckHappened.OVER)


def openings_taken(facts: PeerFacts, event: on.InboxReceived, now: float) -> None:
    assert isinstance(event.call, act.Poll)
    for opened, refused in zip(event.call.opened, event.refused_states, strict=True):
        opening_over(facts, opened.request.result, refused, now)


def ask_as_told(facts: PeerFacts, seconds: float | None) -> None:
    """The next heartbeat so long after this one was sent, and all that follow; NaN is the shortest time."""
    if seconds is not None:
        before = facts.poll_seconds
        facts.asked_seconds = min(ASK_SECONDS_MAX, max(ASK_SECONDS_MIN, seconds))
        facts.poll_at += facts.poll_seconds - before


def gather_as_told(facts: PeerFacts, event: on.InboxReceived) -> None:
    """After this heartbeat and all that follow; not when there may be more checks than it could name."""
    before, facts.gather_seconds = facts.gather_seconds, min(GATHER_SECONDS_MAX, max(0.0, event.gather_seconds))
    full = len(event.checks) >= CHECKS_FULL
    facts.gathers_until = -inf if full else facts.gathers_until + facts.gather_seconds - before


def asked_for(facts: PeerFacts, event: on.InboxReceived, now: float) -> None:
    """Uploads, openings and checks that the coordinator waits for. It names them again until it has them."""
    for result, part in event.missing:
        held = facts.held.results.get(result)
        if held is not None and part in UPLOADED and facts.retries.ready((result, part), now):
            facts.uploads[result, part] = act.UploadPart(held.id, result, BlobPart(part))
    for request in event.openings:
        held = facts.held.results.get(request.result)
        if held is not None and facts.retries.ready((request.result, BlobPart.STATES), now):
            facts.openings[request.result] = act.OpenStates(held.id, request)
    named = {requested.check for requested in event.checks}
    if len(event.checks) < CHECKS_NAMED:
        withdraw_checks(facts, named)
    for requested in event.checks[:CHECKS_MAX]:
        if requested.campaign not in facts.campaigns:
            continue  # it is being fetched, and the next inbox names this check again; or nobody knows it
        if requested.check not in facts.checks.items and facts.retries.ready(requested.check, now):
            facts.checks.items[requested.check] = HeldCheck(requested.check, requested.campaign, requested.request)
    opened = [(request.result, BlobPart.STATES) for request in event.openings]
    facts.retries.keep_only([*named, *event.missing, *opened, *facts.unknown_campaigns])


def withdraw_checks(facts: PeerFacts, named: set[CheckId]) -> None:
    """We were too slow, or the result is settled: nobody waits for what a list with room does not name."""
    for check in [c for c in facts.checks.items.values() if c.phase is not CheckPhase.ANSWERED and c.id not in named]:
        if check.phase is CheckPhase.CHECKING:
            facts.do(act.RemoveCheck(check.id))  # the training process passes over a check without a file
        facts.checks.take(check, CheckHappened.WITHDRAWN)


def outcome(facts: PeerFacts, admission: Admission, now: float) -> None:
    held = facts.held.results.get(admission.result)
    if held is None:
        return
    if admission.outcome == AdmissionOutcome.ADMITTED:
        facts.figures.admitted += 1
        facts.say(f"{held.name}: admitted, credit {admission.credit:,}")
    else:
        facts.say(f"{held.name}: {admission.outcome}: {admission.reason}")
    facts.tell(held.id, f"{admission.outcome} {admission.reason}".strip(), now)
    facts.take(held, Happened.OUTCOME, now)


def forget_requests(facts: PeerFacts, result: bytes) -> None:
    facts.openings.pop(result, None)
    for key in [key for key in facts.uploads if key[0] == result]:
        del facts.uploads[key]


# -- the other calls --------------------------------------------------------------------------------------------------


def submitted(facts: PeerFacts, event: on.CallEnded) -> HeldAssignment:
    assert isinstance(event.call, act.SubmitResult)
    held = facts.held.results.get(event.call.result)
    if held is None:
        raise ImpossibleEvent(f"the result of {event.call.assignment} was handed in, and we do not hold it")
    return held


def result_accepted(facts: PeerFacts, event: on.ResultAccepted, now: float) -> None:
    held = submitted(facts, event)
    facts.refusals = 0
    facts.hand_in = facts.hand_in.worked()
    facts.take(held, Happened.RECEIPT, now)
    assert held.result is not None
    for part in (part for part in UPLOADED if part not in event.uploaded):
        facts.uploads[held.result, part] = act.UploadPart(held.id, held.result, part)
    facts.poll_at = min(facts.poll_at, now + CHALLENGE_SECONDS)


def result_duplicate(facts: PeerFacts, event: on.ResultDuplicate, now: float) -> None:
    held = submitted(facts, event)
    facts.refusals = 0
    facts.say(f"{held.name}: another host handed this in first; dropped")
    facts.take(held, Happened.DUPLICATE, now)


def result_refused(facts: PeerFacts, event: on.CallRefused, now: float) -> None:
    held = submitted(facts, event)
    facts.say(f"{held.name}: refused: {event.detail}")
    facts.take(held, Happened.REFUSED, now)
    facts.refusals += 1
    if facts.refusals >= REFUSALS_MAX:
        error = f"the coordinator refused {facts.refusals} results in a row: {event.detail}"
        facts.leave(now, error, calls_over=True)


def part_uploaded(facts: PeerFacts, event: on.CallEnded, now: float) -> None:
    assert isinstance(event.call, act.UploadPart)
    facts.uploads.pop((event.call.result, event.call.part), None)


def part_refused(facts: PeerFacts, event: on.CallRefused, now: float) -> None:
    assert isinstance(event.call, act.UploadPart)
    part_uploaded(facts, event, now)
    facts.retries.put_off((event.call.result, event.call.part), now)
    facts.say_once(f"{named(facts, event.call.result)}: {event.call.part} refused: {event.detail}")


def states_opened(facts: PeerFacts, event: on.CallEnded, now: float) -> None:
    assert isinstance(event.call, act.OpenStates)
    opening_over(facts, event.call.request.result, "", now)


def opening_refused(facts: PeerFacts, event: on.CallRefused, now: float) -> None:
    assert isinstance(event.call, act.OpenStates)
    opening_over(facts, event.call.request.result, event.detail, now)


def opening_over(facts: PeerFacts, result: bytes, refused: str, now: float) -> None:
    """The states are there; or they were `refused`, and are tried again later if they are still asked for."""
    facts.openings.pop(result, None)
    if refused:
        facts.retries.put_off((result, BlobPart.STATES), now)
        facts.say_once(f"{named(facts, result)}: opening refused: {refused}")


def named(facts: PeerFacts, result: bytes) -> str:
    held = facts.held.results.get(result)
    return held.name if held is not None else f"result {result.hex()[:16]}"


def campaign_fetched(facts: PeerFacts, event: on.CampaignFetched, now: float) -> None:
    campaign = event.campaign
    facts.unknown_campaigns.pop(campaign.digest, None)
    facts.retries.forget(campaign.digest)
    needs, limits = needs_of(campaign), facts.settings
    if why := turned_down(needs, limits.memory_bytes, limits.disk_bytes, limits.bandwidth):
        facts.turned_down[campaign.digest] = None
        left = f"; {len(event.restored)} of its bundles stay on the disk as they are" if event.restored else ""
        return facts.say(f"campaign {campaign.name}: not taken: {why}{left}")
    facts.campaigns[campaign.digest] = campaign
    facts.bundle_bytes[campaign.digest] = needs.disk
    facts.campaign_states.setdefault(campaign.digest, CampaignState.RUNNING)
    facts.missing_datasets.update(dict.fromkeys(d for d in campaign.data_sets if d not in facts.datasets))
    facts.do(act.FollowCampaign(campaign.digest))
    facts.say(summary(campaign))
    for bundle in event.restored:
        phase = Phase.RESUMING
        if bundle.result is not None:
            phase = Phase.COMMITTED if bundle.receipt else Phase.TRAINED
        held = hold(campaign.assignment(bundle.index), phase)
        held.untrained, held.result = set(bundle.untrained), bundle.result
        held.disk_bytes = held.disk_bytes if bundle.disk_bytes is None else bundle.disk_bytes
        facts.add(held, f"found on disk, {phase.value}", now)


def campaign_refused(facts: PeerFacts, event: on.CallRefused, now: float) -> None:
    assert isinstance(event.call, act.FetchCampaign)
    facts.retries.put_off(event.call.campaign, now)
    facts.say_once(f"campaign {event.call.campaign[:16]} refused: {event.detail}")


def check_fetched(facts: PeerFacts, event: on.CheckFetched, now: float) -> None:
    assert isinstance(event.call, act.FetchCheck)
    facts.checks.take(facts.checks.items[event.call.check], CheckHappened.FETCHED)
    if facts.leaving is None:
        facts.do(act.DoCheck(event.call.check))


def check_refused(facts: PeerFacts, event: on.CallRefused, now: float) -> None:
    assert isinstance(event.call, act.FetchCheck)
    put_off_check(facts, facts.checks.items[event.call.check], f"check refused: {event.detail}", now)


def poll_refused(facts: PeerFacts, event: on.CallRefused, now: float) -> None:
    facts.say_once(f"refused: {event.detail}")
    back_off(facts, now)


REPLIES: dict[type[on.CallEnded], Callable[[PeerFacts, Any, float], None]] = {
    on.InboxReceived: inbox_received,
    on.ResultAccepted: result_accepted,
    on.ResultDuplicate: result_duplicate,
    on.PartUploaded: part_uploaded,
    on.StatesOpened: states_opened,
    on.CampaignFetched: campaign_fetched,
    on.CheckFetched: check_fetched,
}
REFUSALS: dict[type[act.CoordinatorCall], Callable[[PeerFacts, on.CallRefused, float], None]] = {
    act.Poll: poll_refused,
    act.SubmitResult: result_refused,
    act.UploadPart: part_refused,
    act.OpenStates: opening_refused,
    act.FetchCampaign: campaign_refused,
    act.FetchCheck: check_refused,
}
