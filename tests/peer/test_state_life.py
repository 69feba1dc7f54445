"""A volunteer's life, told as values: joining, data sets, restarts, bans, full disks, and leaving."""

import pytest
from support.volunteer import (
    ALLOWANCE,
    CAMPAIGN,
    DATA,
    IMAGES,
    OTHER,
    PLENTY,
    Volunteer,
    admission_of,
    answer_of,
    campaign_of,
    check_of,
    id_of,
    result_of,
)

from peer.state import ImpossibleEvent, Phase
from peer.state import actions as act
from peer.state import events as on

PICTURES = campaign_of(IMAGES, name="pictures")


@pytest.fixture
def alice() -> Volunteer:
    return Volunteer().joins()


def left(volunteer: Volunteer) -> str:
    """How it ended; fails when it has not."""
    exits = volunteer.ever(act.Exit)
    assert exits and volunteer.state.exited and volunteer.done[-1] is exits[-1]
    return exits[-1].error


# -- campaigns ---------------------------------------------------------------------------------------------------------


def test_a_campaign_that_starts_later_is_fetched_and_worked_on(alice):
    new = campaign_of(name="new", priority=9)
    alice.inbox(campaigns=((CAMPAIGN.digest, "running"), (new.digest, "running")))
    assert alice.state.call == act.FetchCampaign(new.digest)
    alice.ends(on.CampaignFetched, new, ())
    assert alice.wanted(act.FollowCampaign) == [act.FollowCampaign(new.digest)]
    alice.claimed(0)
    assert alice.wanted(act.Claim)[0].campaign == new.digest


def test_a_campaign_that_is_refused_is_asked_for_again_and_said_once(alice):
    states = ((CAMPAIGN.digest, "running"), ("f" * 64, "running"))
    alice.inbox(campaigns=states)
    tries = 0
    for _ in range(30):
        if isinstance(alice.state.call, act.FetchCampaign):
            tries += 1
            alice.ends(on.CallRefused, "manifest", "manifest: for another campaign")
        elif isinstance(alice.state.call, act.Poll):
            alice.inbox(campaigns=states)
        else:
            alice.waits(1.0)
    assert 2 <= tries <= 5 and sum("manifest" in text for text in alice.said) == 1


def test_what_the_last_join_taught_is_enough_while_the_coordinator_is_away():
    bob = Volunteer()
    bob.hears(on.Started((CAMPAIGN.digest,), ALLOWANCE))
    bob.hears(on.Tick(PLENTY))
    bob.ends(on.CampaignFetched, CAMPAIGN, ())  # from the disk
    bob.ends(on.CallAway, "no answer")  # the poll
    bob.claimed(0)
    assert bob.phase(0) is Phase.TRAINING


def test_a_campaign_that_is_neither_here_nor_there_is_asked_for_when_the_coordinator_is_back():
    bob = Volunteer()
    bob.hears(on.Started((CAMPAIGN.digest,)))
    bob.ends(on.CallAway, "no answer")
    bob.waits(1.0)
    assert bob.state.call == act.FetchCampaign(CAMPAIGN.digest)


def test_half_trained_work_waits_for_an_allowance_while_the_coordinator_may_still_answer():
    bob = Volunteer()
    bob.hears(on.Started((CAMPAIGN.digest,)))
    bob.hears(on.Tick(PLENTY))
    bob.ends(on.CampaignFetched, CAMPAIGN, (HALF,))
    assert not bob.ever(act.ResumeClaims)
    bob.inbox()
    assert bob.wanted(act.ResumeClaims) == [act.ResumeClaims(CAMPAIGN.digest, (0,))]
    carol = Volunteer()
    carol.hears(on.Started((CAMPAIGN.digest,)))
    carol.hears(on.Tick(PLENTY))
    carol.ends(on.CampaignFetched, CAMPAIGN, (HALF,))
    carol.ends(on.CallAway, "no answer")
    assert carol.wanted(act.ResumeClaims), "presumed its own"


def test_claims_of_banned_hosts_do_not_count(alice):
    alice.inbox(banned_hosts=(OTHER,))
    assert alice.wanted(act.IgnoreHosts) == [act.IgnoreHosts((OTHER,))]
    alice.inbox(banned_hosts=(OTHER,))
    assert not alice.wanted(act.IgnoreHosts), "told once"
    alice.inbox()
    assert alice.wanted(act.IgnoreHosts) == [act.IgnoreHosts(())]


def test_the_coordinator_says_when_to_ask_next():
    alice = Volunteer().joins()
    alice.claimed()
    alice.inbox(ask_again_seconds=40.0)
    assert not polls(alice.waits(38.9)) and len(polls(alice.waits(1.2))) == 1
    alice.inbox(ask_again_seconds=1.0)
    assert not polls(alice.last) and len(polls(alice.waits(1.0))) == 1, "sooner, when it says so"


@pytest.mark.parametrize(("said", "kept"), [(1e9, 120.0), (0.0, 0.2), (-5.0, 0.2), (float("nan"), 0.2)])
def test_what_the_coordinator_says_is_obeyed_within_bounds(said, kept):
    alice = Volunteer().joins()
    alice.inbox(ask_again_seconds=said)
    assert alice.state.poll_seconds == kept


def test_a_result_is_handed_in_at_once_however_rarely_we_ask(alice):
    alice.claimed(0)
    alice.inbox(ask_again_seconds=60.0)
    alice.trains(0)
    assert isinstance(alice.state.call, act.SubmitResult)
    alice.ends(on.ResultAccepted)
    while alice.state.call is not None:
        alice.ends(on.PartUploaded)
    assert len(polls(alice.waits(1.0))) == 1, "soon after it, too"
    alice.inbox(ask_again_seconds=1.0)
    assert len(polls(alice.waits(1.0))) == 1


def polls(actions: list[act.Action]) -> list[act.Poll]:
    return [action for action in actions if isinstance(action, act.Poll)]


def test_a_refused_poll_is_said_once_and_backs_off(alice):
    for _ in range(3):
        while alice.state.call is None:
            alice.waits(alice.state.next_wakeup() - alice.now)
        alice.ends(on.CallRefused, "inbox", "inbox: an answer to another heartbeat")
    assert sum("another heartbeat" in text for text in alice.said) == 1
    assert alice.state.backoff.delay == 4.0


# -- data sets ---------------------------------------------------------------------------------------------------------


def test_data_are_fetched_before_anything_is_claimed():
    bob = Volunteer(PICTURES).joins()
    assert bob.ever(act.FetchDataset) == [act.FetchDataset(DATA)] and not bob.ever(act.Claim)
    assert "data set dddd" in bob.state.figures.waits_for
    bob.hears(on.DatasetReady(DATA))
    assert bob.wanted(act.Claim) and any("is here" in text for text in bob.said)
    bob.claimed(0)
    assert bob.wanted(act.Train)


def test_data_that_were_here_already_are_not_announced():
    bob = Volunteer(PICTURES).joins()
    bob.hears(on.DatasetReady(DATA, fetched=False))
    assert bob.wanted(act.Claim) and not any("is here" in text for text in bob.said)


@pytest.mark.parametrize(("away", "seconds"), [(True, 3.0), (False, 30.0)])
def test_a_data_set_that_cannot_be_had_is_tried_again(away, seconds):
    bob = Volunteer(PICTURES).joins()
    bob.hears(on.DatasetFailed(DATA, away=away, detail="data set dddd refused: data-size"))
    assert not [a for a in bob.waits(seconds - 0.1) if isinstance(a, act.FetchDataset)]
    assert [a for a in bob.waits(0.2) if isinstance(a, act.FetchDataset)]
    assert any("data-size" in text for text in bob.said) != away


def test_another_campaign_is_worked_on_while_data_are_on_their_way():
    bob = Volunteer(PICTURES, CAMPAIGN).joins()
    assert bob.ever(act.Claim) == [act.Claim(CAMPAIGN.digest, 1)]


def test_a_bundle_found_on_disk_waits_for_its_data():
    found = on.RestoredBundle(index=0, untrained=(1,), result=None, receipt=False)
    bob = Volunteer(PICTURES).joins(pictures=(found,))
    assert isinstance(bob.state.claiming, act.ResumeClaims)
    bob.hears(on.ClaimsResumed(bob.state.claiming, (0,)))
    assert bob.phase(0, PICTURES) is Phase.WAITING
    bob.hears(on.DatasetReady(DATA))
    assert bob.phase(0, PICTURES) is Phase.TRAINING


# -- after a restart ---------------------------------------------------------------------------------------------------

HALF = on.RestoredBundle(index=0, untrained=(1,), result=None, receipt=False)
SPOOLED = on.RestoredBundle(index=1, untrained=(), result=result_of(1), receipt=False)
COMMITTED = on.RestoredBundle(index=2, untrained=(), result=result_of(2), receipt=True)


def test_everything_on_disk_is_taken_up_where_it_was():
    bob = Volunteer()
    bob.hears(on.Started((CAMPAIGN.digest,), ALLOWANCE))
    bob.hears(on.Tick(PLENTY))
    bob.ends(on.CampaignFetched, CAMPAIGN, (HALF, SPOOLED, COMMITTED))
    assert [bob.phase(i) for i in range(3)] == [Phase.RESUMING, Phase.TRAINED, Phase.COMMITTED]
    assert bob.wanted(act.ResumeClaims) == [act.ResumeClaims(CAMPAIGN.digest, (0,))]
    assert bob.wanted(act.SubmitResult) == [act.SubmitResult(id_of(1), result_of(1))]
    bob.hands_in(1)
    assert bob.wanted(act.Poll)[0].holding == (result_of(2), result_of(1))
    assert [entry.text for entry in bob.state.story(id_of(2))] == ["found on disk, committed"]


def test_half_trained_work_goes_on_when_nobody_took_it():
    bob = Volunteer().joins(test=(HALF,))
    assert isinstance(bob.state.claiming, act.ResumeClaims)
    bob.hears(on.ClaimsResumed(bob.state.claiming, (0,)))
    assert bob.wanted(act.Train) == [act.Train(id_of(0))]
    assert any("resumed with 1 networks trained" in text for text in bob.said)


def test_half_trained_work_that_another_host_took_is_removed():
    bob = Volunteer().joins(test=(HALF,))
    assert isinstance(bob.state.claiming, act.ResumeClaims)
    bob.hears(on.ClaimsResumed(bob.state.claiming, ()))
    assert bob.wanted(act.RemoveBundle) == [act.RemoveBundle(id_of(0))]
    assert not bob.wanted(act.ReleaseClaims), "there is nothing to give back"


def test_resuming_that_failed_is_tried_again():
    bob = Volunteer().joins(test=(HALF,))
    assert bob.state.claiming is not None
    bob.hears(on.ClaimsFailed(bob.state.claiming, "no route"))
    assert bob.phase(0) is Phase.RESUMING
    bob.waits(2.0)
    assert isinstance(bob.state.claiming, act.ResumeClaims)


def test_a_renewal_may_settle_what_is_being_resumed():
    bob = Volunteer().joins(test=(HALF,))
    resuming = bob.state.claiming
    assert isinstance(resuming, act.ResumeClaims)
    bob.waits(20.0)
    bob.renewed(id_of(0))
    assert bob.phase(0) is None
    bob.hears(on.ClaimsResumed(resuming, (0,)))
    assert bob.phase(0) is None, "another host has it"


# -- leaving -----------------------------------------------------------------------------------------------------------


def test_ctrl_c_stops_hands_in_gives_back_and_says_what_is_saved(alice):
    alice.claimed(0)
    alice.claimed(1)
    alice.hears(on.StopRequested())
    assert alice.last == [act.StopTrainer()]
    alice.hears(on.NetworkTrained(id_of(0), 0))
    alice.hears(on.NetworkTrained(id_of(0), 1))
    alice.hears(on.AssignmentTrained(id_of(0), "c"))  # the last segment finished it
    alice.hears(on.ResultSigned(id_of(0), result_of(0)))
    alice.hears(on.TrainerStopped())
    assert alice.wanted(act.ReleaseClaims) == [act.ReleaseClaims(CAMPAIGN.digest, (1,))]
    assert alice.state.call == act.SubmitResult(id_of(0), result_of(0))
    alice.ends(on.ResultAccepted)
    alice.ends(on.PartUploaded)
    alice.ends(on.PartUploaded)
    assert not alice.state.exited
    alice.hears(on.ClaimsReleased(alice.state.releasing[0]))
    assert left(alice) == ""
    assert any("handed in; if it is challenged" in text for text in alice.said)
    assert any("0 of 2 networks trained" in text for text in alice.said)
    assert not alice.ever(act.RemoveBundle), "the work stays on disk"


def test_a_result_that_is_being_signed_is_handed_in_before_leaving(alice):
    alice.claimed(0)
    alice.claimed()
    alice.hears(on.AssignmentTrained(id_of(0), "c"))
    alice.hears(on.StopRequested())
    alice.hears(on.TrainerStopped())
    assert not alice.state.exited, "signing takes a while"
    alice.hears(on.ResultSigned(id_of(0), result_of(0)))
    alice.hands_in(0)
    assert left(alice) == ""


def test_a_second_ctrl_c_is_no_second_leaving(alice):
    alice.claimed()
    alice.hears(on.StopRequested())
    alice.hears(on.StopRequested())
    assert len(alice.ever(act.StopTrainer)) == 1
    alice.hears(on.TrainerStopped())
    assert left(alice) == ""
    with pytest.raises(ImpossibleEvent, match="after Exit"):
        alice.hears(on.Tick(PLENTY))


def test_leaving_takes_no_new_work(alice):
    claiming = alice.state.claiming
    assert isinstance(claiming, act.Claim)
    alice.hears(on.StopRequested())
    alice.hears(on.TrainerStopped())
    assert not alice.state.exited, "a claim is on its way, and it would be held for a whole lease"
    alice.hears(on.Claimed(claiming, (4,)))
    assert alice.wanted(act.ReleaseClaims) == [act.ReleaseClaims(CAMPAIGN.digest, (4,))]
    alice.hears(on.ClaimsReleased(alice.state.releasing[0]))
    assert left(alice) == "" and not alice.ever(act.Train)


def test_leaving_does_not_wait_for_a_coordinator_that_is_away(alice):
    alice.claimed(0)
    alice.claimed()
    alice.waits(1.0)
    alice.ends(on.CallAway, "no answer")
    alice.trains(0)
    alice.hears(on.StopRequested())
    alice.hears(on.TrainerStopped())
    assert left(alice) == ""
    assert any("finished, kept on disk" in text for text in alice.said)


def test_leaving_ends_whatever_hangs(alice):
    alice.claimed(0)
    alice.hears(on.StopRequested())
    alice.waits(1.1)
    assert not alice.state.exited
    alice.waits(0.2)
    assert left(alice) == ""


def test_an_answer_in_hand_is_sent_before_leaving(alice):
    check = check_of(0)
    alice.claimed()
    alice.checks(check)
    alice.hears(on.StopRequested())
    alice.hears(on.CheckAnswered(check.check, answer_of(check.check)))
    alice.hears(on.TrainerStopped())
    assert isinstance(alice.state.call, act.Poll) and alice.state.call.answers
    alice.inbox()
    assert left(alice) == ""


def test_claims_that_cannot_be_given_back_end_by_themselves(alice):
    alice.claimed(0)
    alice.claimed()
    alice.hears(on.StopRequested())
    alice.hears(on.TrainerStopped())
    alice.hears(on.ClaimsFailed(alice.state.releasing[0], "the node is closed"))
    assert left(alice) == ""


def test_until_done_leaves_when_all_is_done():
    bob = Volunteer(until_done=True).joins()
    bob.claimed(0)
    bob.claimed()
    bob.trains(0)
    bob.hands_in(0)
    bob.inbox(campaigns=((CAMPAIGN.digest, "complete"),))
    assert bob.state.leaving is None, "one of ours waits for its outcome"
    bob.inbox(campaigns=((CAMPAIGN.digest, "complete"),), outcomes=(admission_of(0),))
    assert bob.wanted(act.StopTrainer)
    for released in list(bob.state.releasing):
        bob.hears(on.ClaimsReleased(released))
    bob.hears(on.TrainerStopped())
    assert left(bob) == ""


def test_until_done_does_not_leave_a_swarm_that_has_no_campaign_yet():
    bob = Volunteer(until_done=True)
    bob.hears(on.Started(()))
    bob.inbox(campaigns=())
    assert not bob.waits(0.5) and bob.state.leaving is None


def test_without_until_done_it_stays(alice):
    alice.claimed()
    alice.inbox(campaigns=((CAMPAIGN.digest, "complete"),))
    alice.waits(0.5)
    assert alice.state.leaving is None


@pytest.mark.parametrize("how", ["inbox", "refused"])
def test_a_banned_host_is_told_why_and_leaves(alice, how):
    alice.claimed()
    if how == "inbox":
        alice.inbox(banned="three faults")
    else:
        alice.waits(1.0)
        alice.ends(on.CallRefused, "banned", "banned: three faults")
    assert alice.last == [act.StopTrainer()]
    alice.hears(on.TrainerStopped())
    assert "banned from the swarm" in left(alice) and "three faults" in left(alice)


def test_a_banned_host_hands_nothing_in(alice):
    alice.claimed(0)
    alice.claimed()
    alice.waits(1.0)
    alice.trains(0)
    alice.ends(on.InboxReceived, banned="three faults")
    alice.hears(on.TrainerStopped())
    assert "three faults" in left(alice) and not alice.ever(act.SubmitResult)


def test_a_full_disk_ends_the_program_and_loses_nothing(alice):
    alice.claimed(0)
    alice.claimed()
    alice.hears(on.DiskFailed(act.CreateBundle(id_of(0)), "/home/bundles: No space left on device"))
    alice.hears(on.TrainerStopped())
    alice.hears(on.ClaimsReleased(alice.state.releasing[0]))
    assert "No space left" in left(alice) and "nothing is lost" in left(alice)


def test_a_disk_that_fails_under_a_call_ends_that_call(alice):
    alice.claimed(0)
    alice.claimed()
    alice.trains(0)
    call = alice.state.call
    assert isinstance(call, act.SubmitResult)
    alice.hears(on.DiskFailed(call, "/home/receipt: Read-only file system"))
    alice.hears(on.TrainerStopped())
    assert "Read-only" in left(alice)


def test_a_trainer_that_cannot_go_on_ends_the_program_with_its_reason(alice):
    alice.claimed()
    alice.hears(on.TrainerFailed("no C compiler; install gcc"))
    alice.hears(on.TrainerStopped())
    assert left(alice) == "no C compiler; install gcc"


def test_the_first_reason_to_leave_counts(alice):
    alice.claimed()
    alice.hears(on.TrainerFailed("no C compiler"))
    alice.hears(on.TrainerDied(3))
    alice.hears(on.StopRequested())
    assert not alice.wanted(act.StartTrainer)
    alice.hears(on.TrainerStopped())
    assert left(alice) == "no C compiler"
