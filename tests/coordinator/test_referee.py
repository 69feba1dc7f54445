"""The referee's rulings: values in, actions out; every phase, every clock, no disk."""

from dataclasses import replace

import pytest

from coordinator.policy.phases import HELD, LIVE, TRANSITIONS, Event, Phase, next_phase
from coordinator.policy.referee import (
    BeginChecks,
    CaseState,
    Checker,
    CheckSlot,
    MakeDraw,
    Reassign,
    ReplaySlot,
    Settle,
    Situation,
    candidates,
    reveal_due,
    rule,
)
from protocol.recipes.campaign import Policy
from protocol.trust.messages import Cell
from protocol.trust.verdict import Verdict

POLICY = Policy(epoch_seconds=5, opening_seconds=600, answer_seconds=300, faults_before_ban=3)
NOW = 10_000.0
SITUATION = Situation(
    now=NOW,
    organizer="organizer",
    epoch=7,
    revealed_at=NOW - 100,
    last_seen=dict.fromkeys(("a", "b", "c", "w"), NOW - 1),
)
CASE = CaseState(digest=b"r", worker="w", phase=Phase.COMMITTED, since=NOW - 1, epoch=7, policy=POLICY)
VALID = Verdict(cells=4, bad_cells=(), bad_networks=())
ONE = Verdict(cells=4, bad_cells=(Cell(network=0, segment=1),), bad_networks=())
TWO = Verdict(cells=4, bad_cells=(Cell(network=0, segment=1), Cell(network=1, segment=2)), bad_networks=())


def checking(**changes) -> CaseState:
    checkers = {0: Checker("a", NOW - 10), 1: Checker("b", NOW - 10)}
    case = replace(CASE, phase=Phase.CHECKING, slots=2, ranked=("a", "b", "c"), checkers=checkers)
    return replace(case, **changes)


def test_a_result_waits_for_a_link_younger_than_its_receipt():
    assert rule(CASE, SITUATION) == []
    assert reveal_due([CASE], SITUATION)
    assert not reveal_due([CASE], replace(SITUATION, revealed_at=NOW - 4.9))
    assert reveal_due([CASE], replace(SITUATION, revealed_at=NOW + 3600))  # the clock was set back
    assert not reveal_due([replace(CASE, epoch=6)], SITUATION)  # its link is known: nobody waits
    assert not reveal_due([], SITUATION)
    assert rule(replace(CASE, epoch=6), SITUATION) == [MakeDraw(b"r", ("a", "b", "c"), True)]


def test_a_worker_has_its_time_to_open_and_not_more():
    case = replace(CASE, phase=Phase.OPENING, missing=frozenset({"states"}))
    assert rule(case, SITUATION) == []
    late = replace(case, since=NOW - 601)
    assert rule(late, SITUATION) == [Settle(b"r", Event.OVERDUE, "not opened in 600 s: states")]
    assert rule(replace(late, missing=frozenset()), SITUATION) == [BeginChecks(b"r", ())]


def test_checkers_are_waited_for_then_replaced_in_the_draws_order_then_by_the_organizer():
    assert rule(checking(), SITUATION) == []
    slow = checking(checkers={0: Checker("a", NOW - 301), 1: Checker("b", NOW - 10)})
    assert rule(slow, SITUATION) == [Reassign(b"r", 0, "a", "c")]
    gone = replace(SITUATION, last_seen={**SITUATION.last_seen, "a": NOW - 31, "c": NOW - 31})
    assert rule(checking(), gone) == [Reassign(b"r", 0, "a", "organizer")]
    assert rule(checking(), replace(SITUATION, banned=frozenset("ac"))) == [Reassign(b"r", 0, "a", "organizer")]
    both = replace(SITUATION, last_seen={"c": NOW})
    assert rule(checking(), both) == [Reassign(b"r", 0, "a", "c"), Reassign(b"r", 1, "b", "organizer")]
    crowd = frozenset({(0, "x"), (0, "y")})
    assert rule(replace(slow, silent=crowd), SITUATION) == [Reassign(b"r", 0, "a", "organizer")]
    again = checking(checkers={0: Checker("c", NOW - 301), 1: Checker("b", NOW)}, silent=frozenset({(0, "a")}))
    assert rule(again, SITUATION) == [Reassign(b"r", 0, "c", "organizer")]


def test_the_organizer_checks_its_own_slots_and_an_answered_slot_is_left_alone():
    case = checking(checkers={0: Checker("organizer", NOW), 1: Checker("b", NOW - 999)}, answers={1: VALID})
    assert rule(case, SITUATION) == [CheckSlot(b"r", 0)]


@pytest.mark.parametrize(
    ("answers", "replays", "expected"),
    [
        ({0: VALID, 1: VALID}, {}, Event.AGREED),
        ({0: VALID, 1: TWO}, {1: VALID}, Event.AGREED),
        ({0: TWO}, {0: TWO}, Event.PROVED_WRONG),
        ({0: ONE}, {0: ONE}, Event.ONE_BAD_PLACE),
        ({0: ONE, 1: TWO}, {0: VALID, 1: TWO}, Event.PROVED_WRONG),
    ],
)
def test_answers_lead_to_outcomes(answers, replays, expected):
    (action,) = rule(checking(answers=answers, replays=replays), SITUATION)
    assert isinstance(action, Settle) and action.event is expected
    false_accusers = tuple(s for s, judged in answers.items() if not judged.valid and replays[s].valid)
    assert action.false_accusers == false_accusers


def test_a_disagreement_is_replayed_before_anything_is_decided():
    assert rule(checking(answers={0: TWO}), SITUATION) == [ReplaySlot(b"r", 0)]


def test_a_banned_hosts_results_are_void_in_every_phase():
    for phase in LIVE:
        (action,) = rule(checking(phase=phase), replace(SITUATION, banned=frozenset("w")))
        assert isinstance(action, Settle) and next_phase(phase, action.event) is Phase.VOID


def test_candidates_are_present_fit_and_never_the_worker():
    last_seen = {**SITUATION.last_seen, "old": NOW - 31, "d": NOW}
    situation = replace(SITUATION, banned=frozenset("b"), last_seen=last_seen, false_accusers=frozenset("c"))
    assert candidates(situation, "w") == ("a", "d")
    assert candidates(situation, "w", limit=1) == ("a",)


def test_the_table_has_a_way_out_of_every_live_phase_and_none_out_of_an_admission():
    for phase in LIVE:
        targets = {target for (source, _), target in TRANSITIONS.items() if source is phase}
        assert {Phase.VOID, Phase.INVALID} <= targets
    settled = [(s, e) for s, e in TRANSITIONS if s not in LIVE]
    assert settled == [(Phase.VOID, Event.HANDED_IN_AGAIN), (Phase.VOID, Event.WITHDRAWN)]
    assert next_phase(Phase.ADMITTED, Event.HOST_BANNED) is None and Phase.VOID not in HELD
