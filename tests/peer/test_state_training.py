"""A volunteer's work, told as values: claims, training, handing in, outcomes. No process, no socket, no clock."""

import re
from pathlib import Path

import pytest
from support.volunteer import (
    ALLOWANCE,
    CAMPAIGN,
    PLENTY,
    RECIPE,
    Volunteer,
    admission_of,
    campaign_of,
    id_of,
    opening_of,
    result_of,
)

from peer.progress import at_work
from peer.state import ImpossibleEvent, Phase
from peer.state import actions as act
from peer.state import events as on
from peer.state.held import TRANSITIONS, Happened, HeldAssignments, hold
from peer.state.rules import HOLDINGS_MAX, RULES, claims_ahead, claims_wanted
from protocol.trust.messages import BlobPart, Cell, OpeningRequest


@pytest.fixture
def alice() -> Volunteer:
    return Volunteer().joins()


def test_the_first_thing_is_a_trainer_the_second_the_campaigns(alice):
    assert isinstance(alice.done[0], act.StartTrainer)
    assert alice.ever(act.FetchCampaign) == [act.FetchCampaign(CAMPAIGN.digest)]
    assert alice.ever(act.FollowCampaign) == [act.FollowCampaign(CAMPAIGN.digest)]
    assert alice.ever(act.UseAllowance) == [act.UseAllowance(ALLOWANCE)]


def test_nothing_is_claimed_before_the_disk_was_looked_at():
    bob = Volunteer()
    bob.hears(on.Started((CAMPAIGN.digest,)))
    bob.ends(on.CampaignFetched, CAMPAIGN, ())
    assert not bob.ever(act.Claim)
    bob.hears(on.Tick(PLENTY))
    assert not bob.ever(act.Claim), "nor without an allowance"
    bob.hears(on.Tick(1000))
    bob.inbox()
    assert not bob.ever(act.Claim) and "MiB free" in bob.state.figures.waits_for, (
        "a full disk takes no work, and says so"
    )
    bob.hears(on.Tick(PLENTY))
    assert bob.ever(act.Claim) == [act.Claim(CAMPAIGN.digest, 1)]


def test_one_assignment_from_the_claim_to_its_credit(alice):
    alice.claimed(3)
    assert alice.last[:2] == [act.CreateBundle(id_of(3)), act.Train(id_of(3))]
    alice.claimed(5)
    alice.trains(3)
    assert alice.wanted(act.SubmitResult) == [act.SubmitResult(id_of(3), result_of(3))]
    alice.hands_in(3)
    parts = [call.part for call in alice.ever(act.UploadPart)]
    assert parts == ["trace", "weights"]
    assert alice.state.call is None, "nobody is asked to open it in this moment"
    alice.waits(1.0)
    assert alice.wanted(act.Poll)[0].holding == (result_of(3),)
    alice.inbox(outcomes=(admission_of(3),), credit=6)
    assert alice.wanted(act.RemoveBundle) == [act.RemoveBundle(id_of(3))]
    assert alice.wanted(act.ReleaseClaims) == [act.ReleaseClaims(CAMPAIGN.digest, (3,))]
    assert (alice.state.figures.admitted, alice.state.figures.credit) == (1, 6)
    assert alice.phase(3) is None and alice.phase(5) is Phase.TRAINING
    told = [entry.text for entry in alice.state.story(id_of(3))]
    assert told == [
        "claimed",
        "given to the training process",
        "all networks trained",
        "signed",
        "handed in",
        "admitted",
        "settled",
    ]


def test_two_in_hand_and_no_more(alice):
    alice.claimed(0)
    assert alice.wanted(act.Claim), "one trains, so one more is claimed ahead"
    alice.claimed(1)
    assert not alice.wanted(act.Claim)
    alice.trains(0)
    assert alice.ever(act.Claim)[-1] == act.Claim(CAMPAIGN.digest, 1), "its place is free"


def test_a_claim_that_found_nothing_is_tried_again_after_a_pause(alice):
    alice.claimed()
    assert not alice.wanted(act.Claim) and "others hold the rest" in alice.state.figures.waits_for
    assert not [a for a in alice.waits(1.9) if isinstance(a, act.Claim)]
    assert [a for a in alice.waits(0.2) if isinstance(a, act.Claim)]


def test_in_a_crowd_a_host_that_finds_nothing_looks_ever_more_rarely(alice):
    """Whoever has found something begins again."""
    assert [rest_of(alice) for _ in range(3)] == [2.0, 2.0, 2.0], "a few hosts look as often as before"
    alice.inbox(ask_again_seconds=3.0)
    assert [rest_of(alice) for _ in range(4)] == [4.0, 8.0, 16.0, 18.0], "at most in proportion to the crowd's square"
    alice.inbox(ask_again_seconds=100.0)
    assert [rest_of(alice) for _ in range(4)] == [36.0, 72.0, 120.0, 120.0]
    alice.waits(120.0)
    alice.claimed(0)
    alice.trains(0)
    assert rest_of(alice) == 2.0


def rest_of(volunteer: Volunteer) -> float:
    """How long it rests after a claim that found nothing. In seconds."""
    while not isinstance(volunteer.state.claiming, act.Claim):
        volunteer.waits(1.0)
    volunteer.claimed()
    return volunteer.state.claim_at - volunteer.now


def test_when_everything_is_done_that_is_said(alice):
    assert isinstance(alice.state.claiming, act.Claim)
    alice.hears(on.Claimed(alice.state.claiming, None))
    assert "every assignment has a result" in alice.state.figures.waits_for


def test_the_campaign_of_higher_priority_comes_first():
    low, high = campaign_of(name="low"), campaign_of(name="high", priority=5)
    bob = Volunteer(low, high).joins()
    bob.claimed(0)
    bob.claimed(1)
    assert {claim.campaign for claim in bob.ever(act.Claim)[1:]} == {high.digest}


def test_when_one_campaign_has_nothing_free_another_is_asked():
    low, high = campaign_of(name="low"), campaign_of(name="high", priority=5)
    bob = Volunteer(low, high).joins()
    while isinstance(bob.state.claiming, act.Claim) and bob.state.claiming.campaign == low.digest:
        bob.claimed()
    bob.claimed()
    bob.waits(2.1)
    asked = [claim.campaign for claim in bob.ever(act.Claim)]
    assert {low.digest, high.digest} == set(asked)


def test_a_paused_campaign_gives_no_work(alice):
    alice.claimed()
    alice.inbox(campaigns=((CAMPAIGN.digest, "paused"),))
    assert not [a for a in alice.waits(10) if isinstance(a, act.Claim)]


def test_a_claim_lost_while_training_is_dropped_everywhere(alice):
    alice.claimed(0)
    alice.waits(20.0)
    alice.renewed(id_of(0))
    assert [type(a) for a in alice.last][:2] == [act.Say, act.DropTraining]
    assert alice.wanted(act.RemoveBundle) and alice.wanted(act.ReleaseClaims)
    assert alice.phase(0) is None
    assert alice.state.story(id_of(0))[-1].text == "another host has the claim"


def test_what_is_finished_is_handed_in_whoever_has_the_claim(alice):
    alice.claimed(0)
    alice.trains(0)
    alice.waits(20.0)
    alice.renewed(id_of(0))
    assert alice.phase(0) is Phase.TRAINED
    alice.hands_in(0)
    alice.hears(on.Tick(PLENTY))
    assert alice.phase(0) is Phase.COMMITTED


def test_a_late_word_about_something_dropped_changes_nothing(alice):
    alice.claimed(0)
    alice.waits(20.0)
    alice.renewed(id_of(0))
    before = alice.state.held.items.copy()
    alice.hears(on.NetworkTrained(id_of(0), 0))
    alice.hears(on.AssignmentTrained(id_of(0), "c"))
    assert alice.state.held.items == before and not alice.wanted(act.SignResult)


def test_claims_are_renewed_four_times_a_lease(alice):
    alice.claimed(0)
    alice.claimed(1)
    before = len(alice.ever(act.RenewClaims))
    for _ in range(4):
        alice.waits(20.0)
        alice.renewed()
    assert len(alice.ever(act.RenewClaims)) == before + 4


def test_renewals_never_overlap(alice):
    alice.waits(20.0)
    assert alice.state.renewing is not None
    assert not [a for a in alice.waits(300.0) if isinstance(a, act.RenewClaims)]


def test_a_claim_that_failed_is_bad_luck_and_tried_again(alice):
    assert alice.state.claiming is not None
    alice.hears(on.ClaimsFailed(alice.state.claiming, "no route"))
    assert any("no route" in text for text in alice.said)
    assert [a for a in alice.waits(2.1) if isinstance(a, act.Claim)]


def test_work_goes_on_while_the_coordinator_is_away(alice):
    alice.claimed(0)
    alice.waits(1.0)
    alice.ends(on.CallAway, "no answer")
    assert any("away" in text for text in alice.said)
    alice.trains(0)
    assert alice.phase(0) is Phase.TRAINED and alice.state.call is None, "it is spooled, not sent into the void"
    assert alice.wanted(act.Claim) or alice.state.claiming, "and new work is claimed meanwhile"


def test_waits_longer_each_time_for_a_coordinator_that_is_away(alice):
    waits, before = [], alice.now
    for _ in range(6):
        while alice.state.call is None:
            alice.waits(max(0.0, alice.state.next_wakeup() - alice.now))
        waits.append(round(alice.now - before, 3))
        before = alice.now
        alice.ends(on.CallAway, "no answer")
    assert waits[1:] == [1, 2, 4, 8, 10]
    assert sum("away" in text for text in alice.said) == 1, "said once, not every ten seconds"


def test_the_spool_is_handed_in_when_the_coordinator_is_back(alice):
    alice.claimed(0)
    alice.waits(1.0)
    alice.ends(on.CallAway, "no answer")
    alice.trains(0)
    alice.waits(1.0)
    assert alice.state.call == act.SubmitResult(id_of(0), result_of(0))
    alice.hands_in(0)
    assert alice.phase(0) is Phase.COMMITTED


def test_an_answer_lost_on_the_way_is_asked_for_again(alice):
    alice.claimed(0)
    alice.trains(0)
    alice.ends(on.CallAway, "deadline exceeded")  # it may have been stored
    alice.waits(1.0)
    alice.hands_in(0)
    assert alice.phase(0) is Phase.COMMITTED


def test_a_result_that_is_put_off_does_not_hold_up_those_before_it(alice):
    """The organizer takes few results of a new host at a time. Who waits at that door opens what it has committed."""
    alice.claimed(0)
    alice.trains(0)
    alice.hands_in(0)
    alice.inbox()
    alice.claimed(1)
    alice.trains(1)
    assert alice.state.call == act.SubmitResult(id_of(1), result_of(1))
    alice.ends(on.CallPutOff, "resource exhausted")
    assert not any("away" in line for line in alice.said)
    alice.waits(1.0)
    assert alice.state.call == act.SubmitResult(id_of(1), result_of(1)), "tried again by itself"
    alice.ends(on.CallPutOff, "resource exhausted")
    alice.inbox(openings=(opening_of(0),))
    assert opened(alice) == [opening_of(0)], "asked for meanwhile, and done"
    alice.inbox(outcomes=(admission_of(0),))
    assert alice.wanted(act.SubmitResult) == [act.SubmitResult(id_of(1), result_of(1))], "at once when there is room"


def test_other_calls_that_are_put_off_wait_like_those_to_nobody(alice):
    alice.waits(1.0)
    alice.ends(on.CallPutOff, "resource exhausted")
    assert "away" in alice.said[-1] and alice.state.backoff.delay


def test_a_duplicate_is_dropped(alice):
    alice.claimed(0)
    alice.trains(0)
    alice.ends(on.ResultDuplicate)
    assert alice.phase(0) is None and alice.wanted(act.RemoveBundle)


def test_three_refusals_in_a_row_end_the_program(alice):
    for index in range(3):
        alice.claimed(index)
        alice.trains(index)
        assert alice.state.leaving is None
        alice.ends(on.CallRefused, "signature", "signature: not yours")
    assert alice.state.leaving is not None and "3 results in a row" in alice.state.leaving.error


def test_a_refusal_between_two_that_are_accepted_is_one_lost_result(alice):
    for index, kind in enumerate((on.CallRefused, on.ResultAccepted, on.CallRefused)):
        alice.claimed(index)
        alice.trains(index)
        if kind is on.CallRefused:
            alice.ends(kind, "signature", "signature: not yours")
        else:
            alice.hands_in(index)
            alice.inbox()
    assert alice.state.refusals == 1 and alice.state.leaving is None


def test_a_result_that_the_ledger_lost_is_handed_in_again(alice):
    alice.claimed(0)
    alice.trains(0)
    alice.hands_in(0)
    alice.inbox(unknown=(result_of(0),))
    assert alice.wanted(act.ForgetReceipt) == [act.ForgetReceipt(id_of(0))]
    assert alice.wanted(act.SubmitResult) == [act.SubmitResult(id_of(0), result_of(0))]
    alice.hands_in(0)
    assert [part.part for part in alice.ever(act.UploadPart)] == ["trace", "weights"] * 2


def test_parts_that_are_missing_are_uploaded_once_a_naming(alice):
    alice.claimed(0)
    alice.trains(0)
    alice.hands_in(0)
    alice.inbox(missing=((result_of(0), BlobPart.TRACE),))
    assert alice.state.call == act.UploadPart(id_of(0), result_of(0), BlobPart.TRACE)
    alice.ends(on.PartUploaded)
    assert alice.state.call is None and not alice.state.uploads


def test_a_part_that_is_refused_is_tried_again_later_and_not_every_second(alice):
    alice.claimed(0)
    alice.trains(0)
    alice.hands_in(0)
    missing = ((result_of(0), "weights"),)
    alice.inbox(missing=missing)
    before = len(alice.ever(act.UploadPart))
    alice.ends(on.CallRefused, "blob-size", "blob-size: 3 bytes")
    for _ in range(4):  # seconds
        alice.inbox(missing=missing)
    assert len(alice.ever(act.UploadPart)) == before
    alice.inbox(missing=missing)
    assert len(alice.ever(act.UploadPart)) == before + 1
    assert sum("blob-size" in text for text in alice.said) == 1


def test_a_challenge_is_opened(alice):
    alice.claimed(0)
    alice.trains(0)
    alice.hands_in(0)
    alice.inbox(openings=(opening_of(0),))
    assert opened(alice) == [opening_of(0)], "at once, with a heartbeat"
    alice.inbox()
    assert not alice.state.openings and alice.state.call is None


def test_a_challenge_that_names_more_than_goes_along_has_a_call_of_its_own(alice):
    alice.claimed(0)
    alice.trains(0)
    alice.hands_in(0)
    cells = tuple(Cell(network=0, segment=1 + i) for i in range(100_000))
    large = OpeningRequest(result=result_of(0), cells=cells)
    alice.inbox(openings=(large,))
    assert alice.state.call == act.OpenStates(id_of(0), large)
    alice.ends(on.CallAway, "no answer")
    alice.waits(1.0)
    alice.ends(on.StatesOpened)
    assert not alice.state.openings


def test_openings_are_sent_again_when_nobody_heard_them(alice):
    alice.claimed(0)
    alice.trains(0)
    alice.hands_in(0)
    alice.inbox(openings=(opening_of(0),))
    alice.ends(on.CallAway, "no answer")
    assert alice.state.openings
    alice.waits(1.0)
    assert opened(alice) == [opening_of(0)]


def opened(alice) -> list[OpeningRequest]:
    """What goes along with the heartbeat that is under way."""
    assert isinstance(alice.state.call, act.Poll)
    return [opening.request for opening in alice.state.call.opened]


def test_a_challenge_to_a_damaged_bundle_is_said_and_the_rest_goes_on(alice):
    alice.claimed(0)
    alice.trains(0)
    alice.hands_in(0)
    alice.inbox(openings=(opening_of(0),))
    alice.inbox(openings=(opening_of(0),), refused_states=("states-damaged: boundary 1",))
    assert any("opening refused" in text for text in alice.said)
    alice.inbox(openings=(opening_of(0),))
    assert alice.state.call is None


def test_a_challenge_to_something_that_is_gone_is_ignored(alice):
    alice.claimed(0)
    alice.inbox(openings=(opening_of(7),), missing=((result_of(7), "trace"),), unknown=(result_of(7),))
    assert alice.state.call is None


def test_a_void_result_is_dropped_and_the_reason_told(alice):
    alice.claimed(0)
    alice.trains(0)
    alice.hands_in(0)
    alice.inbox(outcomes=(admission_of(0, "void", "nobody opened it"),))
    assert alice.phase(0) is None
    assert any("void: nobody opened it" in text for text in alice.said)
    assert "void nobody opened it" in [entry.text for entry in alice.state.story(id_of(0))]


def test_an_outcome_that_comes_unasked_is_taken_too(alice):
    alice.claimed(0)
    alice.waits(1.0)
    alice.trains(0)  # while a poll is under way
    assert isinstance(alice.state.call, act.Poll)
    alice.inbox(outcomes=(admission_of(0),))
    assert alice.phase(0) is None


def test_an_assignment_claimed_again_before_its_outcome_is_given_back(alice):
    """The organizer reopened it; our own result still waits to hear that it is void."""
    alice.claimed(0)
    alice.trains(0)
    alice.hands_in(0)
    alice.claimed(0)
    assert alice.wanted(act.ReleaseClaims) == [act.ReleaseClaims(CAMPAIGN.digest, (0,))]
    assert alice.phase(0) is Phase.COMMITTED


def test_a_trainer_that_dies_is_started_again_and_told_everything(alice):
    alice.claimed(0)
    alice.claimed(1)
    alice.hears(on.TrainerDied(-9))
    assert [a for a in alice.last if isinstance(a, act.TrainerAction)] == [
        act.StartTrainer(),
        act.Train(id_of(0)),
        act.Train(id_of(1)),
    ]


def test_a_trainer_that_keeps_dying_ends_the_program(alice):
    for _ in range(5):
        alice.hears(on.TrainerDied(-11, "worker.log"))
        assert alice.state.leaving is None
    alice.hears(on.TrainerDied(-11, "worker.log"))
    assert alice.state.leaving is not None and "worker.log" in alice.state.leaving.error


def test_progress_is_measured_and_shown(alice):
    alice.claimed(0)
    alice.hears(on.TrainerProgressed("xor", 2, steps=4000, seconds=2.0, at_step=20, best_loss=0.25))
    assert alice.state.figures.steps_per_second == 2000
    assert "xor: 2 networks at step 20" in alice.state.figures.training
    alice.trains(0)
    assert alice.state.figures.networks == 2 and not alice.state.figures.training
    alice.hears(on.TrainerNote("compiled"))
    assert alice.said[-1] == "compiled"


def test_word_of_a_last_segment_that_comes_after_the_end_is_not_shown_as_work(alice):
    """It stood under "now" until the next training began: for ten minutes, where the campaigns were over."""
    alice.claimed(0)
    last = on.TrainerProgressed("xor", 1, steps=4000, seconds=2.0, at_step=60, best_loss=0.25)
    alice.hears(last)
    assert at_work(alice.state).startswith("xor: 1 networks at step 60")
    alice.trains(0)
    alice.hears(last)
    assert at_work(alice.state).startswith("waiting for ")


def test_a_gpu_says_what_it_is_and_more_is_claimed():
    bob = Volunteer().joins()
    bob.hears(on.TrainerReady(device="H100", width=4096))
    bob.claimed(0)
    bob.claimed(1)
    assert not bob.wanted(act.Claim), "the first two are the measurement"
    bob.hears(on.TrainerProgressed("xor", 4, steps=1_000_000, seconds=1.0, at_step=20, best_loss=0.25))
    assert bob.wanted(act.Claim)[0].batch == 16
    bob.inbox()
    assert [a.device for a in bob.waits(30.0) if isinstance(a, act.Poll)][-1] == "H100"


# -- tables and numbers ------------------------------------------------------------------------------------------------


def held(index: int, phase: Phase = Phase.TRAINING, networks: int = 2, steps: int = 60):
    item = hold(CAMPAIGN.assignment(0), phase)
    item.id, item.steps, item.untrained = id_of(index), steps, set(range(networks))
    item.result = result_of(index) if phase is Phase.COMMITTED else None
    return item


def test_claims_ahead_but_hoards_nothing():
    holdings = HeldAssignments()

    def wanted() -> int:
        return claims_wanted(holdings, threads=1, width=0, steps_per_second=0.0)

    assert wanted()
    holdings.add(held(0))
    assert wanted()
    holdings.add(held(1))
    assert not wanted()
    holdings = HeldAssignments()
    for i in range(HOLDINGS_MAX):
        holdings.add(held(i, Phase.COMMITTED))
    assert not wanted()


def test_small_bundles_are_claimed_before_the_last_one_is_trained():
    def wanted(bundles: int, seconds: float, allowed: int = 8, committed: int = 0) -> int:
        holdings = HeldAssignments()
        for index in range(bundles):
            holdings.add(held(index, networks=2))
        for index in range(bundles, bundles + committed):
            holdings.add(held(index, Phase.COMMITTED))
        return claims_ahead(holdings, seconds, 3.5, allowed)

    assert wanted(0, 0.1) == 0, "the first claim is under way"
    assert wanted(2, 0.1) == 6 and wanted(2, 0.1, allowed=64) == 16  # 0.4 s of work: up to 3.5 s, and what is allowed
    assert wanted(2, 0.5) == 2 and wanted(2, 0.9) == wanted(2, 60.0) == 0
    assert wanted(2, 0.1, committed=5) == 1 and wanted(2, 0.1, committed=9) == 0


def test_a_volunteer_that_trains_faster_than_it_claims_asks_for_several(alice):
    alice.claimed(0)
    alice.hears(on.TrainerProgressed("xor", 2, steps=4000, seconds=0.2, at_step=20, best_loss=0.25))
    alice.trains(0)
    alice.claimed(1)
    assert alice.wanted(act.Claim)[-1].batch > 1


def test_a_gpu_claims_what_its_measured_speed_trains():
    def wanted(bundles: int, width: int, speed: float) -> int:
        holdings = HeldAssignments()
        for index in range(bundles):
            holdings.add(held(index, networks=32, steps=1000))
        return claims_wanted(holdings, 2, width, speed)

    assert [wanted(k, 0, 1e4) for k in (0, 1, 2)] == [1, 0, 0]  # processors, two threads
    assert [wanted(k, 4096, 0.0) for k in (0, 1, 2)] == [2, 1, 0]  # nothing measured yet
    assert wanted(2, 4096, 1e6) == 16 and wanted(40, 4096, 1e6) == 8  # fast: many at once, up to what a host may hold
    assert wanted(2, 4096, 200.0) == 1 and wanted(4, 4096, 200.0) == 0  # slow: ten minutes ahead and no more
    assert wanted(2, 64, 1e6) == 0


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("happened", list(Happened))
def test_an_assignment_moves_along_the_table_and_nowhere_else(phase, happened):
    holdings, item = HeldAssignments(), held(0, phase)
    holdings.add(item)
    if (phase, happened) not in TRANSITIONS:
        with pytest.raises(ImpossibleEvent, match=happened.name):
            holdings.take(item, happened)
        return
    following = TRANSITIONS[phase, happened]
    assert holdings.take(item, happened) == (following is None)
    assert list(holdings.items) == ([] if following is None else [id_of(0)])
    assert all((id_of(0) in holdings.phases[p]) == (p is following) for p in Phase)


@pytest.mark.parametrize(
    "event",
    [
        on.PartUploaded(act.UploadPart(id_of(0), result_of(0), BlobPart.TRACE)),  # another call is in flight
        on.Claimed(act.Claim(CAMPAIGN.digest, 99), (1,)),  # another claim is
        on.ClaimsRenewed(act.RenewClaims(("x",)), ()),
        on.ClaimsFailed(act.ReleaseClaims(CAMPAIGN.digest, (1,)), "?"),
        on.DatasetReady("d" * 64),
        on.ResultSigned(id_of(7), result_of(7)),
        on.TrainerStopped(),
    ],
    ids=lambda event: type(event).__name__,
)
def test_what_cannot_happen_is_our_mistake_and_says_so(alice, event):
    with pytest.raises(ImpossibleEvent):
        alice.hears(event)


def test_signing_twice_is_our_mistake(alice):
    alice.claimed(0)
    alice.trains(0)
    with pytest.raises(ImpossibleEvent):
        alice.hears(on.ResultSigned(id_of(0), result_of(0)))


def test_a_tick_that_comes_early_changes_nothing(alice):
    alice.claimed(0)
    alice.claimed(1)
    for _ in range(100):
        assert alice.state.next_wakeup() > alice.now
        assert alice.hears(on.Tick(PLENTY)) == []


def test_the_docs_list_the_rules_in_their_order():
    page = Path(__file__).parents[2] / "docs" / "volunteer.md"
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|", page.read_text(), re.MULTILINE)
    assert rows == [(rule.__name__, when.name.lower()) for when, rule in RULES]


def test_what_others_wait_for_comes_before_our_own_work():
    names = [rule.__name__ for _, rule in RULES]
    order = ["leave_when_done", "send_answers", "hand_in", "open_states", "poll", "renew_claims", "claim_work"]
    assert [name for name in names if name in order] == order


def test_stories_are_kept_of_the_last_thousand():
    assert RECIPE.data_set is None
    bob = Volunteer().joins()
    for index in range(1200):
        bob.state.tell(id_of(index), "told", bob.now)
    assert len(bob.state.stories) == 1000 and bob.state.story(id_of(0)) == ()
    for _ in range(200):
        bob.state.tell(id_of(1199), "again", bob.now)
    assert len(bob.state.story(id_of(1199))) == 100
