"""Who is given a check, and when: one host has so many in hand, and the others wait in order."""

from collections import Counter
from dataclasses import replace

from coordinator.policy.phases import Event, Phase
from coordinator.policy.referee import (
    NOBODY,
    SILENT_PER_SLOT_MAX,
    BeginChecks,
    CaseState,
    Checker,
    GiveSlot,
    Reassign,
    Settle,
    Situation,
    rule,
    rule_all,
    unanswered,
)
from protocol.recipes.campaign import Policy
from protocol.trust.messages import Seat
from protocol.trust.roster import RosterPath
from protocol.trust.verdict import Verdict

NOW = 10_000.0
POLICY = Policy(answer_seconds=300, checks_at_once=2)
LONG = SILENT_PER_SLOT_MAX * 300 + 1
VALID = Verdict(cells=4, bad_cells=(), bad_networks=())
HOSTS = ("a", "b", "c", "w")
SITUATION = Situation(
    now=NOW, organizer="organizer", epoch=7, revealed_at=NOW - 100, last_seen=dict.fromkeys(HOSTS, NOW - 1)
)


def seats(*hosts: str) -> tuple[Seat, ...]:
    """In the draw's order."""
    path = RosterPath(index=0, siblings=())
    return tuple(Seat(attempt=i, host=host, weight=1, tag=b"", path=path) for i, host in enumerate(hosts))


def opened(digest: bytes = b"r", **changes) -> CaseState:
    """All blobs are here; two slots, for a and b if both have room."""
    case = CaseState(
        digest=digest,
        worker="w",
        phase=Phase.OPENING,
        since=NOW - 1,
        epoch=6,
        policy=POLICY,
        standing=True,
        slots=2,
        ranked=seats("a", "b", "c"),
    )
    return replace(case, **changes)


def waiting(since: float = NOW - 10, **changes) -> CaseState:
    """Slot 0 is open, slot 1 is b's."""
    return opened(phase=Phase.CHECKING, since=since, checkers={1: Checker("b", NOW - 10)}, **changes)


def with_in_hand(**checks: int) -> Situation:
    return replace(SITUATION, unanswered=checks)


def test_a_host_that_has_enough_in_hand_is_waited_for_and_the_other_slots_go_on():
    assert rule(opened(), SITUATION) == [BeginChecks(b"r", ("a", "b"))]
    assert rule(opened(), with_in_hand(a=1, b=1)) == [BeginChecks(b"r", ("a", "b"))]
    assert rule(opened(), with_in_hand(a=2)) == [BeginChecks(b"r", (NOBODY, "b"))], "c is not drawn before a"
    assert rule(opened(), with_in_hand(a=2, b=2)) == [BeginChecks(b"r", (NOBODY, NOBODY))]


def test_it_has_the_slot_when_it_has_room_again():
    assert rule(waiting(), with_in_hand(a=2)) == []
    assert rule(waiting(), with_in_hand(a=1)) == [GiveSlot(b"r", 0, "a")]
    gone = replace(SITUATION, unanswered={"a": 2}, last_seen={"b": NOW, "c": NOW})
    assert rule(waiting(), gone) == [GiveSlot(b"r", 0, "c")], "nobody waits for a host that left"


def test_what_waited_as_long_as_for_an_answer_goes_to_the_next_that_has_room():
    late = waiting(NOW - 301)
    assert rule(late, with_in_hand(a=2)) == [GiveSlot(b"r", 0, "c")]
    assert rule(late, with_in_hand(a=2, c=2)) == []
    assert rule(late, with_in_hand(a=1)) == [GiveSlot(b"r", 0, "a")], "the draw's order still counts"


def test_much_later_the_organizer_takes_it_when_he_has_room():
    late = waiting(NOW - LONG)
    assert rule(late, with_in_hand(a=2, c=2)) == [GiveSlot(b"r", 0, "organizer")]
    assert rule(late, with_in_hand(a=2, c=2, organizer=2)) == []
    assert rule(late, with_in_hand(a=2)) == [GiveSlot(b"r", 0, "c")]


def test_rooms_are_given_in_order_those_with_standing_first():
    """a has room for one more: the two that came first have to wait for a host with standing."""
    cases = [opened(b"1", standing=False, worker="x"), opened(b"2", worker="y"), opened(b"3")]
    found = [ruling for _, ruling in rule_all(cases, with_in_hand(a=1, b=9, c=9))]
    assert found == [
        BeginChecks(b"2", ("a", NOBODY)),
        BeginChecks(b"3", (NOBODY, NOBODY)),
        BeginChecks(b"1", ("organizer", NOBODY)),
    ]


def test_a_silent_hosts_slot_waits_too():
    checkers = {0: Checker("a", NOW - 301), 1: Checker("b", NOW - 10)}
    case = opened(phase=Phase.CHECKING, since=NOW - 301, checkers=checkers)
    assert rule(case, with_in_hand(a=2, c=1)) == [Reassign(b"r", 0, "a", "c")]
    assert rule(case, with_in_hand(a=2, c=2)) == [Reassign(b"r", 0, "a", NOBODY)]


def test_the_organizers_own_slots_and_those_after_three_silent_hosts_never_wait():
    stranger = opened(standing=False, worker="x")
    assert rule(stranger, with_in_hand(organizer=99)) == [BeginChecks(b"r", ("organizer", "a"))]
    silent = frozenset({(0, "a"), (0, "c")})
    assert rule(waiting(silent=silent), with_in_hand(organizer=99)) == [GiveSlot(b"r", 0, "organizer")]


def test_of_named_hosts_one_with_room_takes_the_organizers_slot():
    policy = replace_policy(named_checkers=("N" * 52, "M" * 52))
    here = SITUATION.last_seen | dict.fromkeys(policy.named_checkers, NOW)
    case = opened(standing=False, worker="x", policy=policy, ranked=())
    full = Counter({policy.named_checkers[0]: 2})
    (begun,) = rule(case, replace(SITUATION, last_seen=here, unanswered=full))
    assert isinstance(begun, BeginChecks) and begun.checkers == (policy.named_checkers[1], NOBODY)


def replace_policy(**changes) -> Policy:
    return Policy(answer_seconds=300, checks_at_once=2, **changes)


def test_what_is_in_hand_is_what_is_given_and_not_answered():
    checkers = {0: Checker("a", NOW), 1: Checker("b", NOW)}
    case = opened(phase=Phase.CHECKING, checkers=checkers, answers={1: VALID})
    assert unanswered([case, opened(), waiting()]) == {"a": 1, "b": 1}
    assert unanswered([replace(case, phase=Phase.OPENING)]) == {}


def test_an_open_slot_does_not_end_a_result():
    assert rule(waiting(answers={1: VALID}), with_in_hand(a=2)) == []
    (settled,) = rule(waiting(answers={0: VALID, 1: VALID}), SITUATION)
    assert isinstance(settled, Settle) and settled.event is Event.AGREED
