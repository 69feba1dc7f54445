"""What each event means: one function an event, one table. A reaction notes facts and undoes what is over; what to do
next is for `rules`.
"""

from collections.abc import Callable
from math import inf
from typing import Any

from peer.state import actions as act
from peer.state import events as on
from peer.state.facts import PeerFacts
from peer.state.held import UNFINISHED, CheckHappened, CheckPhase, Happened, HeldCheck, ImpossibleEvent, Phase, hold
from peer.state.ids import AssignmentId
from peer.state.lending.limits import FREE_BYTES_LAST, training_work
from peer.state.lending.pausing import BUSY_CORES, LOOKS_OVER, Conditions, too_hot, why_not
from peer.state.lending.sizes import size_text

CHECKS_MAX = 64  # in hand; the coordinator names a few at a time
REFUSALS_MAX = 3  # results in a row: training the same for the same answer helps nobody
TRAINER_DEATHS_MAX = 5  # a process that dies more often has a cause that another start does not mend
DATASET_AWAY_SECONDS = 3.0
DATASET_REFUSED_SECONDS = 30.0  # what was refused may be seeded again, or was cut short on the way


# -- the program ------------------------------------------------------------------------------------------------------


def started(facts: PeerFacts, event: on.Started, now: float) -> None:
    facts.figures.began = now
    facts.unknown_campaigns = dict.fromkeys(event.campaigns)
    facts.do(act.StartTrainer())
    if event.allowance is not None:
        facts.allowance = event.allowance
        facts.do(act.UseAllowance(event.allowance))


def ticked(facts: PeerFacts, event: on.Tick, now: float) -> None:
    facts.free_bytes, facts.kept_bytes = event.free_bytes, event.kept_bytes
    look_around(facts, event.conditions, now)
    if event.free_bytes < FREE_BYTES_LAST and facts.held.count(*UNFINISHED):
        facts.leave(now, f"the disk is full but for {event.free_bytes:,} bytes; nothing is lost, make room")


def look_around(facts: PeerFacts, conditions: Conditions, now: float) -> None:
    """May we train now? The reason is kept for whoever looks; what follows from it is for the rules."""
    facts.conditions = conditions
    if conditions.others_cores is not None and conditions.others_cores >= BUSY_CORES:
        facts.busy_at = now
    terms = facts.settings.terms
    facts.hot = too_hot(terms, conditions, facts.hot)
    facts.pause = why_not(terms, conditions, now - facts.busy_at, facts.hot)
    facts.paused_at = min(facts.paused_at, now) if facts.pause is not None else inf
    used, limit = conditions.own_bytes or 0, facts.settings.memory_bytes
    facts.looks_over = facts.looks_over + 1 if used > limit else 0
    if facts.looks_over >= LOOKS_OVER:
        words = f"zooswarm has taken {size_text(used)} of memory, and the limit is {size_text(limit)} (--memory)"
        facts.leave(now, f"{words}; nothing is lost, allow more or take fewer --threads")


def stop_requested(facts: PeerFacts, event: on.StopRequested, now: float) -> None:
    facts.leave(now, asked=True)


def disk_failed(facts: PeerFacts, event: on.DiskFailed, now: float) -> None:
    if event.action == facts.call:
        facts.call = None
    facts.leave(now, f"{event.detail}; nothing is lost, make room or mend it", calls_over=True)


# -- the training process ---------------------------------------------------------------------------------------------


def trainer_ready(facts: PeerFacts, event: on.TrainerReady, now: float) -> None:
    facts.device, facts.width = event.device, event.width


def trainer_progressed(facts: PeerFacts, event: on.TrainerProgressed, now: float) -> None:
    if not facts.stood_still:
        facts.figures.stepped(event.steps, event.seconds)
    facts.stood_still = facts.trainer_paused
    facts.figures.training = (
        f"{event.label}: {event.networks} networks at step {event.at_step:,}, best held-out loss {event.best_loss:.4f}"
    )
    facts.figures.losses.append(event.best_loss)


def trainer_note(facts: PeerFacts, event: on.TrainerNote, now: float) -> None:
    facts.say(event.text)


def network_trained(facts: PeerFacts, event: on.NetworkTrained, now: float) -> None:
    facts.figures.finished(now)
    held = facts.held.items.get(event.assignment)
    if held is not None:
        held.untrained.discard(event.seed)


def assignment_trained(facts: PeerFacts, event: on.AssignmentTrained, now: float) -> None:
    held = facts.held.items.get(event.assignment)
    if held is None or held.phase is not Phase.TRAINING:
        return  # it crossed our word that we dropped this, and perhaps we have it again
    facts.take(held, Happened.ALL_TRAINED, now)
    held.untrained.clear()
    facts.do(act.SignResult(held.id, event.backend))
    if not facts.held.phases[Phase.TRAINING]:
        facts.figures.training = ""


def result_signed(facts: PeerFacts, event: on.ResultSigned, now: float) -> None:
    held = facts.held.items.get(event.assignment)
    if held is None:
        raise ImpossibleEvent(f"the result of {event.assignment} is signed, and we do not hold it")
    facts.held.sign(held, event.result)
    held.disk_bytes = held.disk_bytes if event.disk_bytes is None else event.disk_bytes
    facts.tell(held.id, Happened.SIGNED.value, now)


def check_answered(facts: PeerFacts, event: on.CheckAnswered, now: float) -> None:
    check = facts.checks.items.get(event.check)
    if check is not None and check.phase is CheckPhase.CHECKING:  # it may have been withdrawn, and named again
        facts.checks.take(check, CheckHappened.ANSWERED)
        check.answer = event.answer
        facts.retries.forget(check.id)
        facts.do(act.RemoveCheck(check.id))


def check_failed(facts: PeerFacts, event: on.CheckFailed, now: float) -> None:
    check = facts.checks.items.get(event.check)
    if check is not None and check.phase is CheckPhase.CHECKING:
        put_off_check(facts, check, f"could not check: {event.reason}", now)
        facts.do(act.RemoveCheck(check.id))


def put_off_check(facts: PeerFacts, check: HeldCheck, why: str, now: float) -> None:
    """Not in hand any more; taken up again later if an inbox still names it."""
    facts.checks.take(check, CheckHappened.PUT_OFF)
    facts.retries.put_off(check.id, now)
    facts.say_once(why)


def trainer_died(facts: PeerFacts, event: on.TrainerDied, now: float) -> None:
    if facts.leaving is not None:
        return
    facts.trainer_deaths += 1
    if facts.trainer_deaths > TRAINER_DEATHS_MAX:
        facts.leave(now, f"the training process keeps dying; see {event.log or 'its log'}")
        return
    facts.say("the training process ended unexpectedly; started it again from its last segment")
    facts.do(act.StartTrainer())
    for check in facts.checks.of(CheckPhase.CHECKING):
        facts.do(act.DoCheck(check.id))
    for held in facts.held.of(Phase.TRAINING):
        facts.tell(held.id, "given to the training process again, after the last one died", now)
        facts.do(act.Train(held.id))


def trainer_failed(facts: PeerFacts, event: on.TrainerFailed, now: float) -> None:
    facts.leave(now, event.reason)


def trainer_stopped(facts: PeerFacts, event: on.TrainerStopped, now: float) -> None:
    if facts.leaving is None:
        raise ImpossibleEvent("the training process was stopped, and nobody asked for it")
    facts.leaving.trainer_stopped = True


# -- claims -----------------------------------------------------------------------------------------------------------


def claimed(facts: PeerFacts, event: on.Claimed, now: float) -> None:
    end_claiming(facts, event)
    campaign = event.action.campaign
    if not event.indices:
        facts.rest(campaign, now)
        nothing_left = event.indices is None
        facts.figures.waits_for = (
            "checks and outcomes; every assignment has a result"
            if nothing_left
            else "a free assignment; others hold the rest"
        )
        return
    facts.rests.pop(campaign, None)
    ids = [AssignmentId(campaign, index) for index in event.indices]
    unwanted = [id.index for id in ids if facts.leaving is not None or id in facts.held.items]
    if unwanted:  # we are leaving; or our last result for it waits to hear that it is void
        facts.release(campaign, tuple(unwanted))
        facts.resting[campaign] = now + facts.settings.claim_pause_seconds
    for id in ids:
        if id.index not in unwanted:
            facts.do(act.CreateBundle(id))
            assignment = facts.campaigns[campaign].assignment(id.index)
            facts.shares.give(campaign, training_work(assignment.recipe, len(assignment.seeds)))
            facts.add(hold(assignment, Phase.WAITING), "claimed", now)


def claims_resumed(facts: PeerFacts, event: on.ClaimsResumed, now: float) -> None:
    end_claiming(facts, event)
    for index in event.action.indices:
        held = facts.held.items.get(AssignmentId(event.action.campaign, index))
        if held is None:  # a renewal that overlapped has settled it
            if index in event.won:
                facts.release(event.action.campaign, (index,))
        elif index in event.won:
            facts.say(f"{held.name}: resumed with {held.networks - len(held.untrained)} networks trained")
            facts.take(held, Happened.CLAIM_WON, now)
        else:
            facts.take(held, Happened.CLAIM_LOST, now)


def end_claiming(facts: PeerFacts, event: on.Claimed | on.ClaimsResumed) -> None:
    if event.action != facts.claiming:
        raise ImpossibleEvent(f"{event.action} is answered, under way is {facts.claiming}")
    facts.claiming = None


def claims_renewed(facts: PeerFacts, event: on.ClaimsRenewed, now: float) -> None:
    if event.action != facts.renewing:
        raise ImpossibleEvent(f"{event.action} is answered, under way is {facts.renewing}")
    facts.renewing = None
    for id in event.gone:
        held = facts.held.items.get(id)
        if held is not None:
            if held.phase in UNFINISHED:
                facts.say(f"{held.name}: another host has it now; dropped")
            facts.take(held, Happened.CLAIM_LOST, now)


def claims_released(facts: PeerFacts, event: on.ClaimsReleased, now: float) -> None:
    facts.releasing.remove(event.action)


def claims_failed(facts: PeerFacts, event: on.ClaimsFailed, now: float) -> None:
    """Bad luck: leases that nobody renews end by themselves, and we try again."""
    action = event.action
    facts.say_once(f"claims: {event.detail}; trying again, and leases end by themselves")
    if isinstance(action, act.Claim | act.ResumeClaims) and action == facts.claiming:
        facts.claiming = None
        facts.resting[action.campaign] = now + facts.settings.claim_pause_seconds
    elif isinstance(action, act.RenewClaims) and action == facts.renewing:
        facts.renewing = None
    elif isinstance(action, act.ReleaseClaims) and action in facts.releasing:
        facts.releasing.remove(action)
    else:
        raise ImpossibleEvent(f"{action} failed, and is not under way")


# -- data sets --------------------------------------------------------------------------------------------------------


def dataset_ready(facts: PeerFacts, event: on.DatasetReady, now: float) -> None:
    end_fetching(facts, event)
    facts.missing_datasets.pop(event.digest, None)
    facts.dataset_retries.pop(event.digest, None)
    facts.datasets[event.digest] = None
    if event.fetched:
        facts.say(f"data set {event.digest[:16]} is here")


def dataset_failed(facts: PeerFacts, event: on.DatasetFailed, now: float) -> None:
    end_fetching(facts, event)
    facts.dataset_retries[event.digest] = now + (DATASET_AWAY_SECONDS if event.away else DATASET_REFUSED_SECONDS)
    facts.missing_datasets.pop(event.digest, None)
    facts.missing_datasets[event.digest] = None  # to the end: the others are not held up by it
    if not event.away:
        facts.say_once(event.detail)


def end_fetching(facts: PeerFacts, event: on.DatasetReady | on.DatasetFailed) -> None:
    if event.digest != facts.fetching:
        raise ImpossibleEvent(f"data set {event.digest} came, fetched is {facts.fetching}")
    facts.fetching = None


REACTIONS: dict[type[on.Event], Callable[[PeerFacts, Any, float], None]] = {
    on.Started: started,
    on.Tick: ticked,
    on.StopRequested: stop_requested,
    on.DiskFailed: disk_failed,
    on.TrainerReady: trainer_ready,
    on.TrainerProgressed: trainer_progressed,
    on.TrainerNote: trainer_note,
    on.NetworkTrained: network_trained,
    on.AssignmentTrained: assignment_trained,
    on.ResultSigned: result_signed,
    on.CheckAnswered: check_answered,
    on.CheckFailed: check_failed,
    on.TrainerDied: trainer_died,
    on.TrainerFailed: trainer_failed,
    on.TrainerStopped: trainer_stopped,
    on.Claimed: claimed,
    on.ClaimsResumed: claims_resumed,
    on.ClaimsRenewed: claims_renewed,
    on.ClaimsReleased: claims_released,
    on.ClaimsFailed: claims_failed,
    on.DatasetReady: dataset_ready,
    on.DatasetFailed: dataset_failed,
}
