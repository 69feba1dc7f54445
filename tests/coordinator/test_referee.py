"""The referee's rulings: values in, actions out; every phase, every clock, no disk."""

from dataclasses import replace

import pytest

from coordinator.policy.referee import (
    HELD,
    LIVE,
    TRANSITIONS,
    BeginChecks,
    Case,
    CheckSlot,
    Court,
    Event,
    MakeDraw,
    Phase,
    ReplaySlot,
    Reseat,
    Seat,
    Settle,
    candidates,
    deserves_ban,
    next_phase,
    reveal_due,
    rule,
)
from protocol.recipes.campaign import Policy
from protocol.trust.messages import Cell
from protocol.trust.verdict import Judged

POLICY = Policy(epoch_seconds=5, opening_seconds=600, answer_seconds=300, faults_before_ban=3)
NOW = 10_000.0
COURT = Court(
    now=NOW,
    organizer="organizer",
    epoch=7,
    revealed_at=NOW - 100,
    last_seen=dict.fromkeys(("a", "b", "c", "w"), NOW - 1),
)
CASE = Case(digest=b"r", worker="w", phase=Phase.COMMITTED, since=NOW - 1, epoch=7, policy=POLICY)
VALID = Judged(cells=4, bad_cells=(), bad_networks=())
ONE = Judged(cells=4, bad_cells=(Cell(network=0, segment=1),), bad_networks=())
TWO = Judged(cells=4, bad_cells=(Cell(network=0, segment=1), Cell(network=1, segment=2)), bad_networks=())


def checking(**changes) -> Case:
    seats = {0: Seat("a", NOW - 10), 1: Seat("b", NOW - 10)}
    case = replace(CASE, phase=Phase.CHECKING, slots=2, ranked=("a", "b", "c"), seats=seats)
    return replace(case, **changes)


def test_a_result_waits_for_a_link_younger_than_its_receipt():
    assert rule(CASE, COURT) == []
    assert reveal_due([CASE], COURT)
    assert not reveal_due([CASE], replace(COURT, revealed_at=NOW - 4.9))
    assert reveal_due([CASE], replace(COURT, revealed_at=NOW + 3600))  # the clock was set back
    assert not reveal_due([replace(CASE, epoch=6)], COURT)  # its link is known: nobody waits
    assert not reveal_due([], COURT)
    assert rule(replace(CASE, epoch=6), COURT) == [MakeDraw(b"r")]


def test_a_worker_has_its_time_to_open_and_not_more():
    case = replace(CASE, phase=Phase.OPENING, missing=frozenset({"states"}))
    assert rule(case, COURT) == []
    late = replace(case, since=NOW - 601)
    assert rule(late, COURT) == [Settle(b"r", Event.OVERDUE, "not opened in 600 s: states")]
    assert rule(replace(late, missing=frozenset()), COURT) == [BeginChecks(b"r")]


def test_checkers_are_waited_for_then_replaced_in_the_draws_order_then_by_the_organizer():
    assert rule(checking(), COURT) == []
    slow = checking(seats={0: Seat("a", NOW - 301), 1: Seat("b", NOW - 10)})
    assert rule(slow, COURT) == [Reseat(b"r", 0, "a", "c")]
    gone = replace(COURT, last_seen={**COURT.last_seen, "a": NOW - 31, "c": NOW - 31})
    assert rule(checking(), gone) == [Reseat(b"r", 0, "a", "organizer")]
    assert rule(checking(), replace(COURT, banned=frozenset("ac"))) == [Reseat(b"r", 0, "a", "organizer")]
    both = replace(COURT, last_seen={"c": NOW})
    assert rule(checking(), both) == [Reseat(b"r", 0, "a", "c"), Reseat(b"r", 1, "b", "organizer")]
    crowd = frozenset({(0, "x"), (0, "y")})
    assert rule(replace(slow, silent=crowd), COURT) == [Reseat(b"r", 0, "a", "organizer")]
    again = checking(seats={0: Seat("c", NOW - 301), 1: Seat("b", NOW)}, silent=frozenset({(0, "a")}))
    assert rule(again, COURT) == [Reseat(b"r", 0, "c", "organizer")]


def test_the_organizer_checks_its_own_slots_and_an_answered_slot_is_left_alone():
    case = checking(seats={0: Seat("organizer", NOW), 1: Seat("b", NOW - 999)}, answers={1: VALID})
    assert rule(case, COURT) == [CheckSlot(b"r", 0)]


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
    (action,) = rule(checking(answers=answers, replays=replays), COURT)
    assert isinstance(action, Settle) and action.event is expected
    liars = tuple(s for s, judged in answers.items() if not judged.valid and replays[s].valid)
    assert action.liars == liars


def test_a_disagreement_is_replayed_before_anything_is_decided():
    assert rule(checking(answers={0: TWO}), COURT) == [ReplaySlot(b"r", 0)]


def test_a_banned_hosts_results_are_void_in_every_phase():
    for phase in LIVE:
        (action,) = rule(checking(phase=phase), replace(COURT, banned=frozenset("w")))
        assert isinstance(action, Settle) and next_phase(phase, action.event) is Phase.VOID


def test_candidates_are_present_fit_and_never_the_worker():
    court = replace(COURT, banned=frozenset("b"), last_seen={**COURT.last_seen, "old": NOW - 31, "d": NOW})
    assert candidates(court, "w", ["c"]) == ("a", "d")
    assert candidates(court, "w", [], limit=1) == ("a",)


def test_faults_are_counted_over_the_last_fifty_bundles():
    assert not deserves_ban([True, False, True], POLICY)
    assert deserves_ban([True, False, True, True], POLICY)
    assert not deserves_ban([False] * 50 + [True] * 3, POLICY)


def test_the_table_has_a_way_out_of_every_live_phase_and_none_out_of_an_admission():
    for phase in LIVE:
        targets = {target for (source, _), target in TRANSITIONS.items() if source is phase}
        assert {Phase.VOID, Phase.CONVICTED} <= targets
    settled = [(s, e) for s, e in TRANSITIONS if s not in LIVE]
    assert settled == [(Phase.VOID, Event.HANDED_IN_AGAIN), (Phase.VOID, Event.WITHDRAWN)]
    assert next_phase(Phase.ADMITTED, Event.HOST_BANNED) is None and Phase.VOID not in HELD
