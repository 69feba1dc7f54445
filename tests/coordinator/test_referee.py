"""The referee's rulings: values in, actions out; every phase, every clock, no disk."""

from dataclasses import replace

import msgspec
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
    TakeUp,
    in_order,
    reveal_due,
    rule,
)
from protocol.recipes.campaign import Policy
from protocol.trust.messages import Cell, Seat
from protocol.trust.roster import RosterPath
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


def seats(*hosts: str, tags: str = "") -> tuple[Seat, ...]:
    """In the draw's order; a digit of `tags` is the host's network, a space none."""
    path = RosterPath(index=0, siblings=())
    return tuple(
        Seat(attempt=i, host=host, weight=1, tag=(tags[i : i + 1].strip() * 8).encode(), path=path)
        for i, host in enumerate(hosts)
    )


def checking(**changes) -> CaseState:
    checkers = {0: Checker("a", NOW - 10), 1: Checker("b", NOW - 10)}
    case = replace(CASE, phase=Phase.CHECKING, slots=2, ranked=seats("a", "b", "c"), standing=True, checkers=checkers)
    return replace(case, **changes)


def test_a_result_waits_for_a_link_younger_than_its_receipt():
    assert rule(CASE, SITUATION) == []
    assert reveal_due([CASE], SITUATION)
    assert not reveal_due([CASE], replace(SITUATION, revealed_at=NOW - 4.9))
    assert reveal_due([CASE], replace(SITUATION, revealed_at=NOW + 3600))  # the clock was set back
    assert not reveal_due([replace(CASE, epoch=6)], SITUATION)  # its link is known: nobody waits
    assert not reveal_due([], SITUATION)
    assert rule(replace(CASE, epoch=6), SITUATION) == [MakeDraw(b"r", False)]
    assert rule(replace(CASE, epoch=6, standing=True), SITUATION) == [MakeDraw(b"r", True)]


def test_results_of_hosts_with_standing_come_first():
    cases = [replace(CASE, digest=digest, standing=digest in (b"2", b"4")) for digest in (b"1", b"2", b"3", b"4")]
    assert [case.digest for case in in_order(cases)] == [b"2", b"4", b"1", b"3"]


def test_a_worker_has_its_time_to_open_and_not_more():
    case = replace(CASE, phase=Phase.OPENING, missing=frozenset({"states"}))
    assert rule(case, SITUATION) == []
    late = replace(case, since=NOW - 601)
    assert rule(late, SITUATION) == [Settle(b"r", Event.OVERDUE, "not opened in 600 s: states")]
    assert rule(replace(late, missing=frozenset()), SITUATION) == [BeginChecks(b"r", ())]  # no slots: nothing to seat


def test_a_kept_result_waits_for_the_one_before_it_and_is_taken_up_when_that_falls():
    case = replace(CASE, phase=Phase.KEPT, missing=frozenset({"states"}))
    for holder in (Phase.COMMITTED, Phase.OPENING, Phase.CHECKING):
        assert rule(replace(case, holder=holder, since=NOW - 9999), SITUATION) == []
    assert rule(replace(case, holder=None), SITUATION) == [TakeUp(b"r")]
    reason = "another host's result for this assignment is admitted"
    assert rule(replace(case, holder=Phase.ADMITTED), SITUATION) == [Settle(b"r", Event.OVERTAKEN, reason)]
    lazy = replace(case, holder=Phase.CHECKING, missing=frozenset({"states", "trace"}))
    assert rule(lazy, SITUATION) == []
    assert rule(replace(lazy, since=NOW - 601), SITUATION) == [
        Settle(b"r", Event.OVERDUE, "not opened in 600 s: trace")
    ], "a place that nobody fills is another's"


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


def test_a_fake_costs_the_organizer_a_few_slots():
    """He checks some slots at a time, and no more of a result that is in dispute."""
    case = checking(slots=5, checkers=dict.fromkeys(range(5), Checker("organizer", NOW)))
    assert rule(case, SITUATION) == [CheckSlot(b"r", 0), CheckSlot(b"r", 1)]
    assert rule(replace(case, answers={0: VALID}), SITUATION) == [CheckSlot(b"r", 1), CheckSlot(b"r", 2)]
    assert rule(replace(case, answers={0: TWO}), SITUATION) == [ReplaySlot(b"r", 0)]
    wrong = replace(case, answers={0: TWO}, replays={0: VALID})
    assert rule(wrong, SITUATION) == [CheckSlot(b"r", 1), CheckSlot(b"r", 2)]


def test_a_disagreement_is_replayed_before_anything_is_decided():
    assert rule(checking(answers={0: TWO}), SITUATION) == [ReplaySlot(b"r", 0)]


def test_a_banned_hosts_results_are_void_in_every_phase():
    for phase in LIVE:
        (action,) = rule(checking(phase=phase), replace(SITUATION, banned=frozenset("w")))
        assert isinstance(action, Settle) and next_phase(phase, action.event) is Phase.VOID


def opened(**changes) -> CaseState:
    return checking(phase=Phase.OPENING, checkers={}, slots=3, **changes)


def first(case: CaseState, situation: Situation = SITUATION) -> tuple[str, ...]:
    (ruling,) = rule(case, situation)
    assert isinstance(ruling, BeginChecks)
    return ruling.checkers


def test_the_first_present_hosts_of_the_draw_are_seated_and_the_organizer_where_they_run_out():
    assert first(opened()) == ("a", "b", "c")
    assert first(opened(), replace(SITUATION, banned=frozenset("b"))) == ("a", "c", "organizer")
    assert first(opened(), replace(SITUATION, false_accusers=frozenset("ac"))) == ("b", "organizer", "organizer")
    assert first(opened(ranked=())) == ("organizer",) * 3
    assert first(opened(ranked=seats("old", "w", "b"))) == ("b", "organizer", "organizer")


def test_the_first_slot_of_a_worker_without_standing_is_the_organizers():
    assert first(opened(standing=False)) == ("organizer", "a", "b")
    silent = checking(standing=False, checkers={0: Checker("organizer", NOW), 1: Checker("a", NOW - 301)})
    assert rule(silent, SITUATION) == [Reassign(b"r", 1, "a", "b"), CheckSlot(b"r", 0)]


def test_one_checker_a_network_prefix():
    assert first(opened(ranked=seats("a", "b", "c", tags="112"))) == ("a", "c", "organizer")
    assert first(opened(ranked=seats("a", "b", "c", tags="  1"))) == ("a", "b", "c")
    checkers = {0: Checker("a", NOW), 1: Checker("x", NOW - 301)}
    case = checking(ranked=seats("a", "x", "b", "c", tags="1213"), checkers=checkers)
    assert rule(case, SITUATION) == [Reassign(b"r", 1, "x", "c")]


def test_hosts_that_the_campaign_names_take_the_organizers_slots_while_they_are_here():
    policy = msgspec.structs.replace(POLICY, named_checkers=("n", "w", "away"))
    here = replace(SITUATION, last_seen={**SITUATION.last_seen, "n": NOW})
    assert first(opened(policy=policy, standing=False), here) == ("n", "a", "b")
    assert first(opened(policy=policy, ranked=seats("a")), here) == ("a", "n", "organizer")
    assert first(opened(policy=policy, standing=False), replace(here, banned=frozenset("n")))[0] == "organizer"
    silent = checking(policy=policy, standing=False, checkers={0: Checker("n", NOW - 301), 1: Checker("a", NOW)})
    assert rule(silent, here) == [Reassign(b"r", 0, "n", "organizer")]


def test_the_table_has_a_way_out_of_every_live_phase_and_two_out_of_an_admission():
    for phase in LIVE:
        targets = {target for (source, _), target in TRANSITIONS.items() if source is phase}
        assert {Phase.VOID, Phase.INVALID} <= targets
    settled = [(s, e) for s, e in TRANSITIONS if s not in LIVE]
    assert settled == [
        (Phase.ADMITTED, Event.AUDIT_FAILED),
        (Phase.ADMITTED, Event.VOIDED_UNVESTED),
        (Phase.VOID, Event.HANDED_IN_AGAIN),
        (Phase.VOID, Event.WITHDRAWN),
        (Phase.VOID, Event.PROVED_WRONG),
    ]
    assert next_phase(Phase.ADMITTED, Event.HOST_BANNED) is None and not {Phase.VOID, Phase.RETRACTED} & {*HELD}
