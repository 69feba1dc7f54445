"""A volunteer as checker, told as values: what is fetched, tried again, answered, given up."""

from itertools import pairwise

import pytest
from support.volunteer import CAMPAIGN, DATA, IMAGES, Volunteer, answer_of, campaign_of, check_of, id_of

from peer.state import ImpossibleEvent
from peer.state import actions as act
from peer.state import events as on
from peer.state.held import CHECK_TRANSITIONS, CheckHappened, CheckPhase, Checks, HeldCheck

CHECK = check_of(0)
COMPLETE = ((CAMPAIGN.digest, "complete"),)


@pytest.fixture
def alice() -> Volunteer:
    """She has claimed nothing."""
    alice = Volunteer(until_done=True).joins()
    alice.claimed()
    return alice


def test_one_check_from_the_inbox_to_its_answer(alice):
    alice.checks(CHECK)
    assert alice.wanted(act.DoCheck) == [act.DoCheck(CHECK.check)]
    alice.waits(1.0)
    alice.inbox(checks=(CHECK,))
    assert alice.state.call is None, "named again, and in hand already"
    alice.hears(on.CheckAnswered(CHECK.check, answer_of(CHECK.check)))
    assert alice.wanted(act.RemoveCheck) == [act.RemoveCheck(CHECK.check)]
    [call] = alice.wanted(act.Poll)
    assert call.answers == ((CHECK.check, answer_of(CHECK.check)),), "at once, with a heartbeat"
    alice.inbox(checks=(check_of(1),))
    assert alice.state.figures.checks == 1 and list(alice.state.checks.items) == [check_of(1).check]


def test_in_a_crowd_answers_come_together(alice):
    """Forty busy hosts that said each thing at once had 2.4 heartbeats a result."""
    alice.inbox(checks=(CHECK, check_of(1)), gather_seconds=0.8)
    for _ in range(2):
        alice.ends(on.CheckFetched)
    alice.hears(on.CheckAnswered(CHECK.check, answer_of(CHECK.check)))
    assert alice.state.call is None
    alice.hears(on.CheckAnswered(check_of(1).check, answer_of(check_of(1).check)))
    assert not alice.waits(0.7)
    [call] = [action for action in alice.waits(0.2) if isinstance(action, act.Poll)]
    assert [check for check, _ in call.answers] == [CHECK.check, check_of(1).check], "0.8 s after the heartbeat before"


def test_answers_do_not_wait_where_more_checks_may_follow_nor_for_ever(alice):
    alice.inbox(checks=[check_of(i) for i in range(8)], gather_seconds=1e9)
    assert alice.state.gather_seconds == 2.0
    for _ in range(8):
        alice.ends(on.CheckFetched)
    alice.hears(on.CheckAnswered(CHECK.check, answer_of(CHECK.check)))
    assert isinstance(alice.state.call, act.Poll), "a full list may have left some out"
    alice.inbox(gather_seconds=float("nan"))
    assert alice.state.gather_seconds == 0.0


def test_a_check_whose_fetch_found_nobody_is_fetched_again(alice):
    """The key stayed noted as being checked, and the check was never done by this host."""
    alice.inbox(checks=(CHECK,))
    alice.ends(on.CallAway, "no answer")
    alice.waits(1.0)
    assert alice.state.call == act.FetchCheck(CHECK.check, CHECK.request)
    alice.ends(on.CheckFetched)
    assert alice.wanted(act.DoCheck)


def test_a_check_that_was_refused_is_tried_again_while_it_is_asked_for(alice):
    alice.inbox(checks=(CHECK,))
    alice.ends(on.CallRefused, "no-blob", "no-blob: not here yet")
    assert any("check refused" in text for text in alice.said)
    for _ in range(4):
        alice.inbox(checks=(CHECK,))
        assert alice.state.call is None, "not every second"
    alice.inbox(checks=(CHECK,))
    assert alice.state.call == act.FetchCheck(CHECK.check, CHECK.request)


def test_a_check_that_keeps_failing_is_said_once_and_tried_ever_more_seldom(alice):
    tries = []
    for second in range(120):
        alice.inbox(checks=(CHECK,))
        if isinstance(alice.state.call, act.FetchCheck):
            tries.append(second)
            alice.ends(on.CallRefused, "no-blob", "no-blob: not here")
    assert sum("check refused" in text for text in alice.said) == 1
    assert [later - sooner for sooner, later in pairwise(tries)] == [5, 10, 20, 40]


@pytest.mark.parametrize("how", ["refused", "unchecked"])
def test_until_done_leaves_though_a_check_could_not_be_done(alice, how):
    """The key stayed noted as being checked, and `join --until-done` never left."""
    alice.inbox(checks=(CHECK,))
    if how == "refused":
        alice.ends(on.CallRefused, "check-request", "check-request: the work is our own")
    else:
        alice.ends(on.CheckFetched)
        alice.hears(on.CheckFailed(CHECK.check, "states-size: 3 bytes"))
        assert alice.wanted(act.RemoveCheck)
    alice.inbox(checks=(CHECK,), campaigns=COMPLETE)
    assert alice.state.leaving is not None


def test_until_done_waits_for_a_check_in_hand(alice):
    alice.checks(CHECK)
    alice.inbox(checks=(CHECK,), campaigns=COMPLETE)
    assert alice.state.leaving is None
    alice.hears(on.CheckAnswered(CHECK.check, answer_of(CHECK.check)))
    alice.inbox(refused=("slot: somebody else has it",), campaigns=COMPLETE)
    assert alice.state.leaving is not None


def test_a_check_that_the_trainer_could_not_do_is_fetched_anew(alice):
    alice.checks(CHECK)
    alice.hears(on.CheckFailed(CHECK.check, "the data set is damaged"))
    for _ in range(5):
        assert alice.state.call is None
        alice.inbox(checks=(CHECK,))
    assert isinstance(alice.state.call, act.FetchCheck)


def test_a_check_that_is_no_longer_asked_for_is_not_fetched():
    campaign = campaign_of(IMAGES, name="images")
    bob = Volunteer(campaign).joins()
    bob.inbox(checks=(check_of(0, campaign), check_of(1, campaign)))  # both wait for the data set
    bob.inbox(checks=(check_of(1, campaign),))
    bob.hears(on.DatasetReady(DATA))
    bob.ends(on.CheckFetched)
    assert [call.check for call in bob.ever(act.FetchCheck)] == [check_of(1).check]


def test_a_check_that_another_host_has_now_is_given_up(alice):
    """It went on for nobody, and `--until-done` waited for it."""
    alice.checks(CHECK)
    alice.inbox(checks=(CHECK,))
    assert not alice.wanted(act.RemoveCheck)
    alice.inbox(checks=())
    assert alice.wanted(act.RemoveCheck) == [act.RemoveCheck(CHECK.check)] and not alice.state.checks.items
    alice.hears(on.CheckAnswered(CHECK.check, answer_of(CHECK.check)))
    assert alice.state.call is None, "the training process was in the middle of it"


def test_a_full_list_of_checks_says_nothing_about_the_others(alice):
    alice.checks(CHECK)
    alice.inbox(checks=tuple(check_of(n) for n in range(1, 5)))
    assert CHECK.check in alice.state.checks.items


def test_a_check_that_is_withdrawn_and_named_again_is_answered_once(alice):
    alice.checks(CHECK)
    alice.inbox(checks=())
    alice.checks(CHECK)
    for _ in range(2):  # the training process was told twice
        alice.hears(on.CheckAnswered(CHECK.check, answer_of(CHECK.check)))
    alice.inbox()
    assert alice.state.figures.checks == 1


def test_an_answer_waits_for_a_coordinator_that_is_away(alice):
    alice.checks(CHECK)
    alice.inbox(checks=(CHECK,))
    alice.waits(1.0)
    alice.ends(on.CallAway, "no answer")
    alice.hears(on.CheckAnswered(CHECK.check, answer_of(CHECK.check)))
    assert alice.state.call is None
    alice.waits(1.0)
    assert alice.state.call.answers
    alice.inbox()
    assert alice.state.figures.checks == 1


def test_an_answer_that_is_too_late_is_dropped(alice):
    alice.checks(CHECK)
    alice.hears(on.CheckAnswered(CHECK.check, answer_of(CHECK.check)))
    alice.inbox(refused=("slot: somebody else has it",))
    assert not alice.state.checks.items and alice.state.figures.checks == 0
    assert any("not needed any more" in text for text in alice.said)


def test_answers_go_before_results():
    bob = Volunteer().joins()
    bob.claimed(0)
    bob.checks(CHECK)
    bob.waits(1.0)
    bob.hears(on.CheckAnswered(CHECK.check, answer_of(CHECK.check)))  # while a poll is under way
    bob.trains(0)
    bob.inbox(checks=(CHECK,))
    assert isinstance(bob.state.call, act.Poll) and bob.state.call.answers, "others wait for it"
    bob.inbox()
    assert isinstance(bob.state.call, act.SubmitResult)


def test_checks_in_hand_are_told_to_the_next_trainer(alice):
    alice.checks(CHECK)
    alice.hears(on.TrainerDied(-9))
    assert alice.wanted(act.DoCheck) == [act.DoCheck(CHECK.check)]


def test_a_check_waits_until_its_data_are_here():
    campaign = campaign_of(IMAGES, name="images")
    bob = Volunteer(campaign).joins()
    requested = check_of(0, campaign)
    bob.inbox(checks=(requested,))
    assert bob.state.call is None and list(bob.state.checks.items) == [requested.check]
    bob.hears(on.DatasetReady(DATA))
    assert bob.state.call == act.FetchCheck(requested.check, requested.request)


def test_a_check_of_a_campaign_that_nobody_told_us_about_is_left_alone(alice):
    alice.inbox(checks=(check_of(0, campaign_of(name="unheard of")),))
    assert alice.state.call is None and not alice.state.checks.items


def test_a_check_of_a_new_campaign_comes_after_the_campaign(alice):
    new = campaign_of(name="new")
    states = ((CAMPAIGN.digest, "running"), (new.digest, "running"))
    requested = check_of(0, new)
    alice.inbox(checks=(requested,), campaigns=states)
    assert alice.state.call == act.FetchCampaign(new.digest)
    alice.ends(on.CampaignFetched, new, ())
    alice.inbox(checks=(requested,), campaigns=states)
    assert alice.state.call == act.FetchCheck(requested.check, requested.request)


def test_a_late_answer_of_the_trainer_is_harmless(alice):
    assert not alice.hears(on.CheckAnswered(CHECK.check, answer_of(CHECK.check)))
    assert not alice.hears(on.CheckFailed(CHECK.check, "gone"))


def test_no_more_checks_are_taken_in_hand_than_fit(alice):
    alice.inbox(checks=tuple(check_of(n) for n in range(50)) * 2)
    assert len(alice.state.checks.items) <= 64


@pytest.mark.parametrize("phase", list(CheckPhase))
@pytest.mark.parametrize("happened", list(CheckHappened))
def test_a_check_moves_along_the_table_and_nowhere_else(phase, happened):
    check = HeldCheck(CHECK.check, CAMPAIGN.digest, CHECK.request, phase)
    checks = Checks({check.id: check})
    if (phase, happened) not in CHECK_TRANSITIONS:
        with pytest.raises(ImpossibleEvent, match=happened.name):
            checks.take(check, happened)
        return
    checks.take(check, happened)
    following = CHECK_TRANSITIONS[phase, happened]
    assert [c.phase for c in checks.items.values()] == ([following] if following else [])


def test_checks_do_not_stop_the_claims():
    bob = Volunteer().joins()
    bob.checks(CHECK)
    bob.claimed(0)
    assert bob.wanted(act.Train) == [act.Train(id_of(0))]
