"""How a result ends, and what follows: facts in, a settlement out."""

from dataclasses import replace

import pytest

from coordinator.policy.actions import DeleteBlobs, NewsKind, Report
from coordinator.policy.auditing import Audit
from coordinator.policy.facts import FAULT_WINDOW, HostRecord, StoredResult
from coordinator.policy.phases import FAULTS, LIVE, PROVEN_FRAUD, TRANSITIONS, Event, Phase
from coordinator.policy.settle import Bundle, FalseAccusation, ban, deserves_ban, settle
from protocol.recipes.campaign import Policy
from protocol.trust.messages import Admission, AdmissionOutcome, BlobPart, CampaignState

POLICY = Policy(faults_before_ban=3)
RESULT = StoredResult(
    digest=b"r" * 32, campaign="c", assignment=3, worker="alice", phase=Phase.CHECKING, networks=2, segments=12
)
ALICE = HostRecord(host="alice", unsettled=(RESULT,))
BUNDLE = Bundle(
    recipe="recipe",
    seeds=(6, 7),
    registered=frozenset(),
    admitted=0,
    assignments=4,
    campaign_state=CampaignState.RUNNING,
    audit=Audit.NONE,
)


def kinds(settlement) -> list[NewsKind]:
    return [action.news.kind for action in settlement.actions if isinstance(action, Report)]


def test_an_admission_earns_credit_registers_networks_and_lets_the_states_go():
    settlement = settle(RESULT, Event.AGREED, "2 checkers agree", ALICE, POLICY, bundle=BUNDLE)
    (outcome,) = settlement.outcomes
    assert (outcome.phase, outcome.credit, outcome.fault) == (Phase.ADMITTED, 12, False)
    assert outcome.admission == Admission(
        result=RESULT.digest, outcome=AdmissionOutcome.ADMITTED, reason="2 checkers agree", credit=12
    )
    admit = settlement.admit
    assert admit is not None and (admit.host, admit.credit, admit.seeds) == ("alice", 12, (6, 7))
    assert not admit.completes and settlement.ban is None and settlement.worker.unsettled == ()
    assert settlement.actions[0] == DeleteBlobs(RESULT.digest, (BlobPart.STATES,))
    assert kinds(settlement) == [NewsKind.ADMITTED]


@pytest.mark.parametrize(("segments", "counts"), [(0, False), (1, False), (2, True)])
def test_a_bundle_that_needed_no_training_is_admitted_and_counts_for_nothing(segments, counts):
    """Its networks met their stop rule before the first step: a key that waited for such would stand for nothing."""
    idle = replace(RESULT, segments=segments)
    settlement = settle(idle, Event.AGREED, "", replace(ALICE, unsettled=(idle,)), POLICY, bundle=BUNDLE)
    assert settlement.admit is not None and settlement.admit.shows_work is counts
    assert settlement.admit.seeds == (6, 7) and settlement.worker.admissions == counts


def test_networks_that_another_campaign_brought_in_are_not_registered_twice():
    shared = replace(BUNDLE, registered=frozenset({6}))
    settlement = settle(RESULT, Event.AGREED, "", ALICE, POLICY, bundle=shared)
    assert settlement.admit is not None and settlement.admit.seeds == (7,)


def test_the_last_admission_completes_the_campaign_once():
    last = replace(BUNDLE, admitted=3)
    settlement = settle(RESULT, Event.AGREED, "", ALICE, POLICY, bundle=last)
    assert settlement.admit is not None and settlement.admit.completes
    assert kinds(settlement) == [NewsKind.ADMITTED, NewsKind.COMPLETE]
    again = settle(RESULT, Event.AGREED, "", ALICE, POLICY, bundle=replace(last, campaign_state=CampaignState.COMPLETE))
    assert again.admit is not None and not again.admit.completes and kinds(again) == [NewsKind.ADMITTED]


@pytest.mark.parametrize("event", [Event.MISMATCH, Event.ONE_BAD_PLACE, Event.OVERDUE, Event.HOST_BANNED])
def test_a_void_result_earns_nothing_and_its_blobs_go_unless_its_checkers_are_to_be_judged(event):
    phase = next(phase for phase in LIVE if (phase, event) in TRANSITIONS)
    settlement = settle(replace(RESULT, phase=phase), event, "why", ALICE, POLICY)
    (outcome,) = settlement.outcomes
    assert (outcome.phase, outcome.credit, outcome.fault) == (Phase.VOID, 0, event in FAULTS)
    judged = event is Event.ONE_BAD_PLACE
    assert outcome.audit is (Audit.JUDGING if judged else Audit.NONE)
    assert (DeleteBlobs(RESULT.digest) in settlement.actions) == (not judged)
    assert kinds(settlement) == [NewsKind.REJECTED]
    assert settlement.admit is None and settlement.ban is None


@pytest.mark.parametrize("event", sorted(PROVEN_FRAUD - {Event.AUDIT_FAILED}))
def test_proven_fraud_bans_at_once_and_keeps_the_blobs_as_the_proof(event):
    waiting = replace(RESULT, digest=b"w" * 32, phase=Phase.COMMITTED)
    worker = replace(ALICE, unsettled=(RESULT, waiting))
    settlement = settle(RESULT, event, "replay disagrees", worker, POLICY)
    assert [(o.result.digest, o.phase) for o in settlement.outcomes] == [
        (RESULT.digest, Phase.INVALID),
        (waiting.digest, Phase.VOID),
    ]
    assert settlement.outcomes[0].admission.outcome == "convicted"  # the word on the wire
    assert settlement.ban is not None and settlement.ban.why == "replay disagrees"
    assert settlement.worker.banned and settlement.worker.unsettled == ()
    assert DeleteBlobs(RESULT.digest) not in settlement.actions and DeleteBlobs(waiting.digest) in settlement.actions


def test_faults_ban_when_they_are_too_many_among_the_last_fifty():
    def settled(*faults: bool) -> HostRecord:
        pairs = tuple((i.to_bytes(32, "big"), fault) for i, fault in enumerate(faults))
        return replace(ALICE, settled=pairs)

    assert not deserves_ban(settled(True, False, True), POLICY)
    assert deserves_ban(settled(True, False, True, True), POLICY)
    assert not deserves_ban(settled(*[False] * FAULT_WINDOW, True, True, True), POLICY)
    second = settle(RESULT, Event.ONE_BAD_PLACE, "bad", settled(True, False), POLICY)
    assert second.ban is None
    third = settle(RESULT, Event.ONE_BAD_PLACE, "bad", settled(True, False, True), POLICY)
    assert third.ban is not None and third.ban.why.startswith("3 faults in its last 50 bundles")
    old = settle(RESULT, Event.ONE_BAD_PLACE, "bad", settled(*[False] * (FAULT_WINDOW - 1), True, True), POLICY)
    assert old.ban is None  # the window moved on by this very bundle
    clean = settle(RESULT, Event.OVERDUE, "", settled(True, True, True), POLICY)
    assert clean.ban is None  # not a fault, so no reason to count


def test_when_another_event_was_faster_nothing_happens():
    for phase, event in [
        (Phase.ADMITTED, Event.HOST_BANNED),
        (Phase.VOID, Event.AGREED),
        (Phase.INVALID, Event.AGREED),
    ]:
        accusers = (FalseAccusation("bob", 0),)
        settlement = settle(replace(RESULT, phase=phase), event, "", ALICE, POLICY, bundle=BUNDLE, accusers=accusers)
        assert settlement.outcomes == () and settlement.actions == () and settlement.false_accusations == ()
        assert settlement.worker == ALICE and settlement.admit is None


def test_false_accusers_are_counted_with_the_outcome_and_named():
    accusers = (FalseAccusation("bob", 1),)
    settlement = settle(RESULT, Event.AGREED, "", ALICE, POLICY, bundle=BUNDLE, accusers=accusers)
    assert settlement.false_accusations == accusers
    (line,) = [a.news for a in settlement.actions if isinstance(a, Report) and a.news.host == "bob"]
    assert line.kind is NewsKind.FALSE_ACCUSATION and "slot 1" in line.text


def test_a_host_is_banned_once():
    first = ban(ALICE, "why")
    assert first.ban is not None and len(first.outcomes) == 1
    assert ban(first.worker, "again").ban is None and ban(first.worker, "again").outcomes == ()


def test_a_long_reason_fits_its_admission():
    settlement = settle(RESULT, Event.ONE_BAD_PLACE, "x" * 1000, ALICE, POLICY)
    assert len(settlement.outcomes[0].admission.reason) == 300
