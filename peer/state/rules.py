"""What to do next: one rule a function, one list in order of priority. A rule looks at facts and adds actions.

Rules never wait. What they begin (a call, a claim, a fetch) is noted as under way, and its event ends it.
"""

import enum
from collections.abc import Callable
from math import ceil, inf

from peer.state.actions import (
    Claim,
    DropTraining,
    Exit,
    FetchCampaign,
    FetchCheck,
    FetchDataset,
    OpenStates,
    PauseTrainer,
    Poll,
    RenewClaims,
    ResumeClaims,
    ResumeTrainer,
    StopTrainer,
    SubmitResult,
    Train,
)
from peer.state.facts import PeerFacts
from peer.state.held import UNFINISHED, CheckPhase, Happened, HeldAssignments, Phase
from peer.state.lending.limits import opened_bytes
from peer.state.lending.sharing import whose_turn
from protocol.trust.messages import ANSWERS_MAX, OPENED_BYTES_MAX, OPENED_MAX, CampaignState

OVER = (CampaignState.COMPLETE, CampaignState.CANCELLED)
HELD_NAMED_MAX = 64  # results in one heartbeat, the message's own limit
RENEWALS_A_LEASE = 4  # two may fail, and the lease still stands
CLAIM_AHEAD_SECONDS = 600.0  # a GPU's
AHEAD_SECONDS, AHEAD_SETTLES = 1.0, 5.0  # a processor's: five claims, each of which settles, and their calls
CLAIMS_AT_ONCE_MAX = 16
HOLDINGS_MAX = 48  # heartbeats name at most 64; about 1.5 GB of states for the smallest recipes
FREE_BYTES_MIN = 512 * 1024 * 1024  # on a fuller disk nothing is claimed


# -- shut down --------------------------------------------------------------------------------------------------------


def leave_when_done(facts: PeerFacts, now: float) -> None:
    """--until-done: every campaign is over, we hold nothing, and no check is in hand."""
    if not facts.settings.until_done or facts.held.items or facts.checks.items or not facts.campaign_states:
        return
    states = facts.campaign_states.items()
    if all(state in OVER or digest in facts.turned_down for digest, state in states):
        facts.leave(now)


def stop_trainer(facts: PeerFacts, now: float) -> None:
    leaving = facts.leaving
    if leaving is not None and not leaving.trainer_asked:
        leaving.trainer_asked = True
        facts.do(StopTrainer())


def give_back(facts: PeerFacts, now: float) -> None:
    """Free for others at once; the files stay, in case nobody takes them."""
    leaving = facts.leaving
    if leaving is None or leaving.given_back or not leaving.trainer_stopped or facts.claiming is not None:
        return
    leaving.given_back = True
    unfinished: dict[str, list[int]] = {}
    for held in facts.held.of(*UNFINISHED):
        unfinished.setdefault(held.id.campaign, []).append(held.id.index)
        facts.tell(held.id, "given back, its files kept", now)
    for campaign, indices in unfinished.items():
        facts.release(campaign, tuple(indices))


def leave_now(facts: PeerFacts, now: float) -> None:
    """When nothing is under way any more, or it takes too long: say what is kept, and end."""
    leaving = facts.leaving
    if leaving is None:
        return
    signing = facts.held.phases[Phase.SIGNING] and not leaving.calls_over
    settled = leaving.given_back and facts.call is None and not facts.releasing and not signing
    if not settled and now < leaving.by:
        return
    facts.say(f"stopped. {facts.figures.networks} networks trained, {facts.figures.checks} checks done this time")
    for held in facts.held.of(*UNFINISHED, Phase.SIGNING):
        trained = held.networks - len(held.untrained)
        facts.say(
            f"  saved: {held.name}: {trained} of {held.networks} networks trained, the others as far as they are;"
            " given back, resumed if still free"
        )
    for held in facts.held.of(Phase.TRAINED):
        facts.say(f"  saved: {held.name}: finished, kept on disk, handed in next time")
    for held in facts.held.of(Phase.COMMITTED):
        facts.say(f"  saved: {held.name}: handed in; if it is challenged meanwhile, come back to open it")
    facts.exited = True
    facts.do(Exit(leaving.error))


# -- the coordinator: one call at a time ------------------------------------------------------------------------------


def send_answers(facts: PeerFacts, now: float) -> None:
    """With a heartbeat."""
    if facts.checks.items and facts.may_call(now) and any(True for _ in facts.checks.of(CheckPhase.ANSWERED)):
        say_soon(facts, now)


def say_soon(facts: PeerFacts, now: float) -> None:
    """At once, or together with what else there will be to say until the coordinator has time for it."""
    if now >= facts.gathers_until or facts.leaving is not None:
        call_in(facts, now)
    else:
        facts.poll_at = min(facts.poll_at, facts.gathers_until)


def hand_in(facts: PeerFacts, now: float) -> None:
    held = facts.held.first(Phase.TRAINED)
    if held is not None and facts.hand_in.ready(now) and facts.may_call(now):
        assert held.result is not None
        facts.start_call(SubmitResult(held.id, held.result))


def open_states(facts: PeerFacts, now: float) -> None:
    """Small ones with a heartbeat; what is larger has a call of its own, at once."""
    if facts.openings and facts.may_call(now):
        if openings_to_enclose(facts):
            say_soon(facts, now)
        else:
            facts.start_call(next(iter(facts.openings.values())))


def openings_to_enclose(facts: PeerFacts) -> tuple[OpenStates, ...]:
    """As many of the challenges as one heartbeat may answer, in their order."""
    enclosed, room = list[OpenStates](), OPENED_BYTES_MAX
    for opening in facts.openings.values():
        size = opened_bytes(facts.campaigns[opening.assignment.campaign], opening.assignment.index, opening.request)
        if size <= room and len(enclosed) < OPENED_MAX:
            enclosed.append(opening)
            room -= size
    return tuple(enclosed)


def upload_parts(facts: PeerFacts, now: float) -> None:
    if facts.uploads and facts.may_call(now):
        facts.start_call(next(iter(facts.uploads.values())))


def learn_campaigns(facts: PeerFacts, now: float) -> None:
    if facts.unknown_campaigns and facts.may_call(now):
        for digest in facts.unknown_campaigns:
            if facts.retries.ready(digest, now):
                return facts.start_call(FetchCampaign(digest))


def fetch_checks(facts: PeerFacts, now: float) -> None:
    """When the data are here."""
    if facts.checks.items and facts.pause is None and facts.may_call(now):  # a pause leaves them to others
        for check in facts.checks.of(CheckPhase.REQUESTED):
            if facts.has_datasets(check.campaign):
                return facts.start_call(FetchCheck(check.id, check.request))


def poll(facts: PeerFacts, now: float) -> None:
    if now >= facts.poll_at and facts.may_call(now):
        call_in(facts, now)


def call_in(facts: PeerFacts, now: float) -> None:
    """Say that we are here, what we hold, and what we found in our checks."""
    facts.poll_at, facts.gathers_until = now + facts.poll_seconds, now + facts.gather_seconds
    committed = [held.result for held in facts.held.of(Phase.COMMITTED) if held.result is not None]
    answered = [(c.id, c.answer) for c in facts.checks.of(CheckPhase.ANSWERED) if c.answer is not None]
    facts.start_call(
        Poll(
            holding=tuple(committed[:HELD_NAMED_MAX]),
            device=facts.device or facts.settings.device,
            steps_per_second=facts.figures.steps_per_second,
            networks_trained=facts.figures.networks,
            checks_done=facts.figures.checks,
            answers=tuple(answered[:ANSWERS_MAX]),
            opened=openings_to_enclose(facts),
        )
    )


# -- pauses ----------------------------------------------------------------------------------------------------------


def pause_training(facts: PeerFacts, now: float) -> None:
    """The training process stands still while we may not train; everything else goes on."""
    wanted = facts.pause is not None
    if wanted == facts.trainer_paused:
        return
    facts.trainer_paused = wanted
    facts.stood_still = True
    if facts.pause is not None:
        facts.do(PauseTrainer())
        facts.say(f"paused: {facts.pause.reason}")
    else:
        facts.do(ResumeTrainer())
        facts.say("training goes on")
        facts.poll_at = min(facts.poll_at, now)


def give_back_for_a_pause(facts: PeerFacts, now: float) -> None:
    """Others need not wait for a pause that is long; the files stay, and are claimed again when it is over."""
    facts.away = facts.paused_long(now) and not facts.held.items.keys() - facts.held.phases[Phase.RESUMING].keys()
    if not facts.paused_long(now):
        return
    back: dict[str, list[int]] = {}
    for held in [*facts.held.of(Phase.WAITING, Phase.TRAINING)]:
        if held.phase is Phase.TRAINING:
            facts.do(DropTraining(held.id))
        facts.take(held, Happened.GIVEN_BACK, now)
        back.setdefault(held.id.campaign, []).append(held.id.index)
    for campaign, indices in back.items():
        facts.release(campaign, tuple(indices))
    if back:
        facts.say(f"{sum(map(len, back.values()))} claims given back for this pause; what is trained is kept")


# -- claims and work --------------------------------------------------------------------------------------------------


def renew_claims(facts: PeerFacts, now: float) -> None:
    if facts.renewing is None and facts.campaigns and now >= facts.renew_at:
        shortest = min(campaign.policy.lease_seconds for campaign in facts.campaigns.values())
        facts.renew_at = now + shortest / RENEWALS_A_LEASE
        facts.renewing = RenewClaims(tuple(facts.campaigns))
        facts.do(facts.renewing)


def fetch_datasets(facts: PeerFacts, now: float) -> None:
    if facts.fetching is None:
        for digest in facts.missing_datasets:
            if now >= facts.dataset_retries.get(digest, -inf):
                facts.fetching = digest
                facts.do(FetchDataset(digest))
                return


def start_training(facts: PeerFacts, now: float) -> None:
    """Give the training process what has its data; the rest waits for them."""
    if facts.held.phases[Phase.WAITING] and facts.pause is None:
        for held in list(facts.held.of(Phase.WAITING)):
            if held.data_set is None or held.data_set in facts.datasets:
                facts.take(held, Happened.DATA_READY, now)
                facts.do(Train(held.id))


def resume_claims(facts: PeerFacts, now: float) -> None:
    """What an earlier run left half trained is ours again if nobody took it meanwhile."""
    facts.claim_at = inf
    if facts.claiming is not None or facts.pause is not None or not facts.held.phases[Phase.RESUMING]:
        return
    if facts.releasing:
        return  # what a pause gave back may be on its way to be free
    if facts.allowance is None and not facts.backoff.delay:
        return  # the first inbox brings it; while nobody answers, what we had is presumed ours
    found: dict[str, list[int]] = {}
    for held in facts.held.of(Phase.RESUMING):
        found.setdefault(held.id.campaign, []).append(held.id.index)
    for campaign, indices in found.items():
        if facts.rested(campaign, now):
            facts.claiming = ResumeClaims(campaign, tuple(indices))
            return facts.do(facts.claiming)


def claim_work(facts: PeerFacts, now: float) -> None:
    """In the running campaign of the highest priority that has its data here and is not resting; equals in turn."""
    if facts.claiming is not None or facts.allowance is None or facts.pause is not None:
        return
    if facts.releasing and facts.held.phases[Phase.RESUMING]:
        return  # that comes first
    if facts.free_bytes <= FREE_BYTES_MIN:
        facts.figures.waits_for = f"a disk with more than {FREE_BYTES_MIN >> 20} MiB free"
        return
    wanted = claims_wanted(facts.held, facts.settings.threads, facts.width, facts.figures.steps_per_second)
    if not facts.width and facts.figures.seconds_a_network:
        settle = max((campaign.policy.settle_seconds for campaign in facts.campaigns.values()), default=0.0)
        ahead, speed = AHEAD_SECONDS + AHEAD_SETTLES * settle, facts.figures.seconds_a_network
        wanted = max(wanted, claims_ahead(facts.held, speed, ahead, facts.allowance.assignments))
    running = [digest for digest in facts.campaigns if facts.campaign_states.get(digest) == CampaignState.RUNNING]
    if not running and facts.campaign_states:
        facts.figures.waits_for = "a running campaign within the limits here"
    if not wanted or not running:
        return
    ready = [digest for digest in running if facts.has_datasets(digest)]
    if not ready:
        what = f"data set {facts.fetching[:16]}" if facts.fetching else "data sets"
        facts.figures.waits_for = f"{what} from the coordinator"
        return
    rested = [digest for digest in ready if facts.rested(digest, now)]
    if not rested:
        return
    room = min(facts.room_bytes, facts.free_bytes)
    fitting = [digest for digest in rested if facts.bundle_bytes[digest] <= room]
    if not fitting:
        facts.figures.waits_for = "room on the disk (--disk): others have to check what we handed in"
        return
    orders = facts.orders
    urgency = {d: orders[d].priority if d in orders else facts.campaigns[d].priority for d in fitting}
    best = whose_turn(fitting, urgency, facts.shares)
    below = orders[best].below if best in orders else None
    facts.claiming = Claim(best, min(wanted, room // facts.bundle_bytes[best]), below)
    facts.do(facts.claiming)


def claims_wanted(held: HeldAssignments, threads: int, width: int, steps_per_second: float) -> int:
    """How many assignments to claim now, so that nothing waits for a claim and nothing is hoarded.

    On processors a bundle in training is kept busy by as many networks as there are threads; one more waits behind it.
    A GPU takes `width` networks at once, but no more than its measured speed trains in CLAIM_AHEAD_SECONDS. Results
    that wait for their check keep their states on disk, so their number is bounded too.
    """
    training = held.count(*UNFINISHED)
    room = HOLDINGS_MAX - len(held.items)
    if room <= 0:
        return 0
    if not width:
        return int(training < 2 and sum(len(h.untrained) for h in held.of(*UNFINISHED)) < 2 * threads + 4)
    if training < 2:
        return min(room, 2 - training)  # the first ones are the measurement
    untrained = sum(len(h.untrained) for h in held.of(*UNFINISHED))
    steps = sum(len(h.untrained) * h.steps for h in held.of(*UNFINISHED))
    affordable = CLAIM_AHEAD_SECONDS * steps_per_second
    if untrained >= width or steps >= affordable:
        return 0
    share = min((width - untrained) / max(untrained, 1), (affordable - steps) / max(steps, 1))
    return max(1, min(room, CLAIMS_AT_ONCE_MAX, int(share * training)))


def claims_ahead(held: HeldAssignments, seconds_a_network: float, ahead_seconds: float, allowed: int) -> int:
    """How many assignments more, so that processors have `ahead_seconds` of work while a claim settles.

    Bundles of small networks are trained sooner than the next one is claimed. Never more than the organizer allows: a
    claim that finds no room makes its campaign rest.
    """
    unfinished = list(held.of(*UNFINISHED))
    missing = ahead_seconds - seconds_a_network * sum(len(h.untrained) for h in unfinished)
    if not unfinished or missing <= 0:
        return 0
    bundle_seconds = seconds_a_network * max(h.networks for h in unfinished)
    room = min(HOLDINGS_MAX, allowed) - len(held.items)
    return max(0, min(room, CLAIMS_AT_ONCE_MAX, ceil(missing / bundle_seconds)))


# -- the order --------------------------------------------------------------------------------------------------------


class When(enum.Enum):
    ALWAYS = enum.auto()
    WORKING = enum.auto()
    LEAVING = enum.auto()


RULES: tuple[tuple[When, Callable[[PeerFacts, float], None]], ...] = (
    # shut down
    (When.WORKING, leave_when_done),
    (When.LEAVING, stop_trainer),
    # stand still or go on
    (When.WORKING, pause_training),
    (When.WORKING, give_back_for_a_pause),
    # the coordinator, one call at a time: others wait for our answers, then for our results
    (When.ALWAYS, send_answers),
    (When.ALWAYS, hand_in),
    (When.ALWAYS, open_states),
    (When.ALWAYS, upload_parts),
    (When.WORKING, learn_campaigns),
    (When.WORKING, fetch_checks),
    (When.WORKING, poll),
    # keep what we hold
    (When.WORKING, renew_claims),
    # take up work
    (When.WORKING, fetch_datasets),
    (When.WORKING, start_training),
    (When.WORKING, resume_claims),
    (When.WORKING, claim_work),
    # and the end of it
    (When.LEAVING, give_back),
    (When.LEAVING, leave_now),
)
WORKING_RULES = tuple(rule for when, rule in RULES if when is not When.LEAVING)
LEAVING_RULES = tuple(rule for when, rule in RULES if when is not When.WORKING)
