"""A result is handed in: facts in, a decision out. No ledger, no key, no clock."""

from dataclasses import replace

import pytest

from coordinator.policy.actions import DeleteBlobs, NewsKind, Report, WakeReferee
from coordinator.policy.facts import HostRecord, StoredResult
from coordinator.policy.phases import LIVE, UNDER_WAY, Event, Phase
from coordinator.policy.receive import (
    PENDING_PER_HOST_MAX,
    Overtaken,
    Received,
    ReceiveFacts,
    StoredReply,
    overtaken,
    receive,
)
from coordinator.policy.settle import settle
from protocol.recipes.campaign import Policy
from protocol.trust.messages import Admission, AdmissionOutcome, Receipt

NOW = 1_800_000_000.0
POLICY = Policy(faults_before_ban=2)
NEW = StoredResult(
    digest=b"n" * 32, campaign="c", assignment=3, worker="alice", phase=Phase.COMMITTED, networks=2, segments=12
)
ALICE = HostRecord(host="alice")
FACTS = ReceiveFacts(
    result=NEW,
    worker=ALICE,
    others=(),
    same_work=frozenset(),
    policy=POLICY,
    epoch=7,
    now=NOW,
)
OLD = replace(NEW, digest=b"o" * 32)  # alice's other result for the same assignment
BOBS = replace(NEW, digest=b"b" * 32, worker="bob")


def kinds(decision) -> list[NewsKind]:
    return [action.news.kind for action in decision.actions if isinstance(action, Report)]


def facts(*others: StoredResult, worker: HostRecord = ALICE, **changes) -> ReceiveFacts:
    return replace(FACTS, others=others, worker=worker, **changes)


def test_a_new_result_is_stored_and_gets_a_receipt_of_this_epoch():
    decision = receive(FACTS)
    assert decision.what is Received.NEW and decision.store == NEW and not decision.reopen
    assert decision.reply == Receipt(result=NEW.digest, epoch=7, received_at=NOW)
    assert not decision.settlement.outcomes and WakeReferee() in decision.actions
    assert kinds(decision) == [NewsKind.COMMITTED]


def test_a_banned_host_is_refused_before_anything_else():
    decision = receive(facts(NEW, worker=replace(ALICE, banned="two results")))
    assert decision.what is Received.BANNED and decision.refusal == "two results"
    assert decision.store is None and decision.reply is None and decision.actions == ()


@pytest.mark.parametrize("phase", [*LIVE, Phase.ADMITTED])
def test_a_known_result_that_goes_on_gets_its_receipt_again(phase):
    decision = receive(facts(replace(NEW, phase=phase)))
    assert (decision.what, decision.reply) == (Received.KNOWN, StoredReply.RECEIPT)
    assert decision.store is None and not decision.reopen and decision.actions == ()


@pytest.mark.parametrize("event", [Event.ONE_BAD_PLACE, Event.WITHDRAWN])
def test_a_known_result_that_was_shown_to_be_wrong_gets_its_admission_again(event):
    decision = receive(facts(replace(NEW, phase=Phase.VOID, event=event)))
    assert (decision.what, decision.reply) == (Received.KNOWN, StoredReply.ADMISSION)
    convicted = receive(facts(replace(NEW, phase=Phase.INVALID, event=Event.PROVED_WRONG)))
    assert (convicted.what, convicted.reply) == (Received.KNOWN, StoredReply.ADMISSION)


@pytest.mark.parametrize("event", [Event.MISMATCH, Event.OVERDUE, Event.HOST_BANNED])
def test_a_void_result_against_which_nothing_speaks_may_come_again_under_its_old_receipt(event):
    decision = receive(facts(replace(NEW, phase=Phase.VOID, event=event, drawn=True)))
    assert (decision.what, decision.reply) == (Received.AGAIN, StoredReply.RECEIPT)
    assert decision.reopen and decision.store is None and kinds(decision) == [NewsKind.HANDED_IN_AGAIN]


def test_a_void_result_does_not_come_again_while_another_of_the_same_host_is_held():
    decision = receive(facts(replace(NEW, phase=Phase.VOID, event=Event.OVERDUE), OLD))
    assert (decision.what, decision.reply) == (Received.KNOWN, StoredReply.ADMISSION)


def test_a_result_that_ended_before_its_draw_gets_a_receipt_of_this_epoch():
    """The link that was to challenge it has been shown to others: it could choose to return only when that suits it."""
    decision = receive(facts(replace(NEW, phase=Phase.VOID, event=Event.MISMATCH)))
    assert decision.what is Received.AGAIN and decision.reopen
    assert decision.reply == Receipt(result=NEW.digest, epoch=7, received_at=NOW)


@pytest.mark.parametrize("phase", [Phase.COMMITTED, Phase.OPENING])
def test_a_commitment_alone_takes_no_assignment(phase):
    assert receive(facts(replace(BOBS, phase=phase))).what is Received.NEW
    assert receive(facts(replace(BOBS, phase=phase, uploaded=True))).what is Received.KEPT


def test_who_is_uploaded_first_takes_the_place_of_those_who_are_not_and_they_are_kept():
    mine = replace(NEW, phase=Phase.OPENING, uploaded=True)
    late, void = replace(BOBS, phase=Phase.OPENING), replace(OLD, phase=Phase.VOID)
    assert overtaken(mine, (mine, late, void)) == Overtaken(kept=(late,))
    first = replace(BOBS, digest=b"1" * 32, phase=Phase.CHECKING)
    assert overtaken(mine, (mine, late, first)) == Overtaken()
    assert overtaken(replace(mine, phase=Phase.KEPT), (mine, late)) == Overtaken(), "it waits itself"


def test_few_are_kept_and_fresh_keys_cannot_have_all_the_places():
    mine = replace(NEW, phase=Phase.OPENING, uploaded=True)
    eve, mallory, bob, carol = (
        replace(BOBS, digest=name.encode() * 8, worker=name) for name in ("eve", "mallory", "bob", "carol")
    )
    assert overtaken(mine, (mine, eve, mallory)) == Overtaken(kept=(eve,), ended=(mallory,))
    late = overtaken(mine, (mine, eve, mallory, bob, carol), {"bob", "carol"})
    assert late == Overtaken(kept=(bob, carol), ended=(eve, mallory))
    kept = replace(eve, phase=Phase.KEPT)
    assert overtaken(mine, (mine, kept, mallory, bob), {"bob"}) == Overtaken(kept=(bob,), ended=(mallory,))


def test_an_overtaken_result_for_which_there_is_no_room_ends_without_a_fault():
    late = replace(BOBS, phase=Phase.OPENING)
    settlement = settle(late, Event.OVERTAKEN, "late", HostRecord(host="bob"), POLICY)
    (outcome,) = settlement.outcomes
    assert outcome.phase is Phase.VOID and not outcome.fault and settlement.ban is None
    assert outcome.admission.outcome is AdmissionOutcome.DUPLICATE


def test_a_stranger_may_have_few_results_under_way_and_fewer_when_it_leaves_them_unopened():
    def pending(number: int) -> HostRecord:
        results = (replace(NEW, digest=bytes([i]) * 32, assignment=i) for i in range(number))
        return replace(ALICE, unsettled=tuple(results))

    assert receive(facts(worker=pending(3))).what is Received.NEW
    assert receive(facts(worker=pending(4))).what is Received.BUSY
    assert receive(facts(worker=pending(4), standing=True)).what is Received.NEW
    assert receive(facts(worker=pending(1), left_open=1)).what is Received.NEW
    assert receive(facts(worker=pending(2), left_open=1)).what is Received.BUSY
    assert receive(facts(worker=pending(0), left_open=99)).what is Received.NEW  # a way back stays open


def test_tickets_are_asked_for_only_where_the_campaign_says_so_and_only_of_new_results():
    policy = Policy(tickets=True)
    assert receive(facts(ticketed=False)).what is Received.NEW
    assert receive(facts(policy=policy)).what is Received.NO_TICKET
    assert receive(facts(policy=policy, ticketed=True)).what is Received.NEW
    assert receive(facts(NEW, policy=policy)).what is Received.KNOWN


@pytest.mark.parametrize("phase", UNDER_WAY)
def test_a_result_behind_one_that_is_being_checked_is_kept_for_the_case_that_it_falls(phase):
    holder = replace(BOBS, phase=phase, uploaded=True)
    decision = receive(facts(holder))
    assert decision.what is Received.KEPT and decision.store == replace(NEW, phase=Phase.KEPT)
    assert decision.reply == Receipt(result=NEW.digest, epoch=7, received_at=NOW)
    assert not decision.settlement.outcomes and kinds(decision) == [NewsKind.KEPT]
    assert not replace(NEW, phase=Phase.KEPT, uploaded=True).holds
    many = tuple(replace(NEW, digest=bytes([i]) * 32, assignment=100 + i) for i in range(4))
    assert receive(facts(holder, worker=replace(ALICE, unsettled=many))).what is Received.BUSY, "of one key few"


@pytest.mark.parametrize(("phase", "kept"), [(Phase.ADMITTED, 0), *((phase, 1) for phase in UNDER_WAY)])
def test_an_assignment_that_is_admitted_or_has_others_waiting_is_a_duplicate(phase, kept):
    waiting = (replace(NEW, digest=bytes([i]) * 32, worker="eve", phase=Phase.KEPT) for i in range(kept))
    others = (replace(BOBS, phase=phase, uploaded=True), *waiting)
    assert receive(facts(*others, standing=True)).what is (Received.KEPT if kept else Received.DUPLICATE)
    decision = receive(facts(*others))
    assert decision.what is Received.DUPLICATE and decision.store is None
    word = "already admitted" if phase is Phase.ADMITTED else "already being checked"
    expected = Admission(
        result=NEW.digest, outcome=AdmissionOutcome.DUPLICATE, reason=f"this assignment is {word}", credit=0
    )
    assert decision.reply == expected and kinds(decision) == [NewsKind.DUPLICATE]


def test_an_assignment_whose_result_of_another_host_ended_is_free():
    for phase in (Phase.VOID, Phase.INVALID):
        assert receive(facts(replace(BOBS, phase=phase))).what is Received.NEW


def test_the_same_work_under_another_label_is_a_duplicate_and_no_crime():
    decision = receive(facts(OLD, same_work=frozenset({OLD.digest})))
    assert decision.what is Received.DUPLICATE and not decision.settlement.ban


def test_two_different_results_for_one_assignment_are_both_invalid_and_the_host_is_banned():
    elsewhere = replace(NEW, digest=b"e" * 32, assignment=9)
    worker = replace(ALICE, unsettled=(OLD, elsewhere))
    decision = receive(facts(OLD, worker=worker))
    assert (decision.what, decision.store, decision.reply) == (Received.EQUIVOCATION, NEW, StoredReply.ADMISSION)
    ended = {outcome.result.digest: (outcome.phase, outcome.fault) for outcome in decision.settlement.outcomes}
    assert ended == {
        NEW.digest: (Phase.INVALID, True),
        OLD.digest: (Phase.INVALID, True),
        elsewhere.digest: (Phase.VOID, False),
    }
    ban = decision.settlement.ban
    assert ban is not None and ban.host == "alice" and "second, different result for assignment 3" in ban.why
    assert DeleteBlobs(elsewhere.digest) in decision.actions  # void: nobody needs them
    assert not {DeleteBlobs(NEW.digest), DeleteBlobs(OLD.digest)} & set(decision.actions)  # kept: the proof
    assert kinds(decision)[-1] is NewsKind.EQUIVOCATION


def test_an_admitted_result_stays_when_its_host_equivocates_later():
    decision = receive(facts(replace(OLD, phase=Phase.ADMITTED)))
    assert decision.what is Received.EQUIVOCATION and decision.settlement.ban is not None
    assert [outcome.result.digest for outcome in decision.settlement.outcomes] == [NEW.digest]


def test_another_result_instead_of_one_that_was_never_opened_makes_the_first_a_fault():
    overdue = replace(OLD, phase=Phase.VOID, event=Event.OVERDUE)
    decision = receive(facts(overdue, worker=replace(ALICE, settled=((OLD.digest, False),))))
    assert decision.what is Received.NEW and decision.store == NEW
    (outcome,) = decision.settlement.outcomes
    assert (outcome.result, outcome.event, outcome.fault) == (overdue, Event.WITHDRAWN, True)
    assert decision.settlement.worker.settled == ((OLD.digest, True),)


def test_a_withdrawal_that_is_a_fault_too_many_bans_and_the_ban_is_stored():
    overdue = replace(OLD, phase=Phase.VOID, event=Event.OVERDUE)
    waiting = replace(NEW, digest=b"w" * 32, assignment=9)
    worker = replace(ALICE, settled=((b"x" * 32, True), (OLD.digest, False)), unsettled=(waiting,))
    decision = receive(facts(overdue, worker=worker))
    assert decision.what is Received.BANNED and decision.store is None and "2 faults" in decision.refusal
    assert decision.settlement.ban is not None
    assert [o.result.digest for o in decision.settlement.outcomes] == [OLD.digest, waiting.digest]


def test_a_host_with_too_many_unsettled_results_is_told_later_and_nothing_changes():
    many = tuple(replace(NEW, digest=i.to_bytes(32, "big"), assignment=100 + i) for i in range(PENDING_PER_HOST_MAX))
    overdue = replace(OLD, phase=Phase.VOID, event=Event.OVERDUE)
    decision = receive(facts(overdue, standing=True, worker=replace(ALICE, unsettled=many)))
    assert decision.what is Received.BUSY and decision.reply is None
    assert not decision.settlement.outcomes and decision.actions == () and decision.store is None
    assert receive(facts(standing=True, worker=replace(ALICE, unsettled=many[1:]))).what is Received.NEW


def test_asked_again_with_the_same_facts_it_decides_the_same():
    for case in (FACTS, facts(OLD), facts(BOBS), facts(replace(NEW, phase=Phase.VOID, event=Event.OVERDUE))):
        assert receive(case) == receive(case)
