"""Escrow, conviction, vouchers and audits: what falls with a key, and what never does."""

import random
from dataclasses import replace

import msgspec
import pytest

from coordinator.policy.actions import DeleteBlobs, NewsKind, Report
from coordinator.policy.auditing import Audit, OwedAudit, chance_wants, draw_networks, next_audits
from coordinator.policy.campaigns import without_one
from coordinator.policy.convict import Places, SaidAnswer, disagreeing, false_places, to_train, vouchers
from coordinator.policy.facts import HostRecord, StoredResult
from coordinator.policy.phases import Event, Phase
from coordinator.policy.settle import Bundle, convict, equivocate, settle, vesting
from protocol.recipes.campaign import Policy
from protocol.trust.challenge import SlotTask
from protocol.trust.commitment import Leaf, Trace
from protocol.trust.messages import AdmissionOutcome, CampaignState, Cell
from protocol.trust.verdict import Verdict

POLICY = Policy(vesting_bundles=2)
SEGMENTS = 10


def result_of(number: int, worker: str = "alice", **fields) -> StoredResult:
    values = {"phase": Phase.CHECKING, "networks": 2, "segments": SEGMENTS, "campaign": "c", "assignment": number}
    return StoredResult(digest=bytes([number]) * 32, worker=worker, **(values | fields))


def bundle_of(audit: Audit = Audit.NONE) -> Bundle:
    return Bundle(
        recipe="recipe",
        seeds=(0, 1),
        registered=frozenset(),
        admitted=0,
        assignments=100,
        campaign_state=CampaignState.RUNNING,
        audit=audit,
    )


def admitted(count: int, host: HostRecord | None = None) -> HostRecord:
    """A host with so many bundles admitted, one after another."""
    record = host or HostRecord(host="alice")
    for number in range(count):
        record = settle(result_of(number), Event.AGREED, "", record, POLICY, bundle=bundle_of()).worker
    return record


# -- escrow ----------------------------------------------------------------------------------------------------------


def test_credit_leaves_escrow_after_so_many_later_bundles():
    assert [admitted(count).escrow for count in range(5)] == [0, SEGMENTS, 2 * SEGMENTS, 2 * SEGMENTS, 2 * SEGMENTS]
    third = settle(result_of(7), Event.AGREED, "", admitted(2), POLICY, bundle=bundle_of())
    assert third.admit is not None and third.admit.vested == (result_of(0).digest,)
    assert (third.admit.released, third.admit.vests_at, third.worker.admissions) == (SEGMENTS, 5, 3)


def test_a_fault_between_delays_and_takes_nothing():
    record = admitted(2)
    faulty = settle(result_of(9), Event.ONE_BAD_PLACE, "one bad place", record, POLICY).worker
    assert (faulty.escrow, faulty.admissions) == (record.escrow, 2) and not faulty.convicted


@pytest.mark.parametrize(("bundles", "assignments", "later"), [(50, 1000, 50), (50, 96, 9), (50, 9, 0), (0, 1000, 0)])
def test_a_short_campaign_does_not_hold_credit_longer_than_it_lasts(bundles, assignments, later):
    assert vesting(Policy(vesting_bundles=bundles), assignments) == later


def test_without_vesting_credit_is_never_in_escrow():
    settlement = settle(
        result_of(0), Event.AGREED, "", HostRecord(host="alice"), Policy(vesting_bundles=0), bundle=bundle_of()
    )
    assert settlement.worker.escrow == 0 and settlement.admit is not None
    assert settlement.admit.vested == (result_of(0).digest,)


# -- conviction ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", [Event.PROVED_WRONG, Event.EQUIVOCATED])
def test_with_a_liar_falls_what_is_unsettled_and_what_is_in_escrow_but_not_what_has_vested(event):
    record, lie = admitted(4), result_of(8)
    waiting = result_of(9, phase=Phase.OPENING)
    record = replace(record, unsettled=(lie, waiting))
    settlement = settle(lie, event, "proved", record, POLICY)
    ends = {outcome.result.digest: (outcome.event, outcome.phase) for outcome in settlement.outcomes}
    assert ends == {
        lie.digest: (event, Phase.INVALID),
        waiting.digest: (Event.HOST_BANNED, Phase.VOID),
        result_of(2).digest: (Event.VOIDED_UNVESTED, Phase.RETRACTED),
        result_of(3).digest: (Event.VOIDED_UNVESTED, Phase.RETRACTED),
    }
    assert settlement.convicted == "alice" and settlement.ban is not None and settlement.worker.escrow == 0
    retracted = [outcome for outcome in settlement.outcomes if outcome.retracts]
    assert all((o.credit, o.fault, o.admission.outcome) == (0, False, AdmissionOutcome.RETRACTED) for o in retracted)
    assert DeleteBlobs(result_of(3).digest) in settlement.actions


def test_an_audit_that_fails_retracts_its_bundle_and_convicts_its_worker():
    record = admitted(4)
    old = result_of(0, phase=Phase.ADMITTED)  # vested
    settlement = settle(old, Event.AUDIT_FAILED, "trained again", record, POLICY)
    assert [outcome.phase for outcome in settlement.outcomes] == [Phase.RETRACTED] * 3
    first = settlement.outcomes[0]
    assert (first.result, first.audit, first.fault) == (old, Audit.JUDGING, True)
    assert DeleteBlobs(old.digest) not in settlement.actions, "its blobs are the proof"
    kinds = [action.news.kind for action in settlement.actions if isinstance(action, Report)]
    assert kinds == [NewsKind.RETRACTED, NewsKind.BANNED, NewsKind.RETRACTED, NewsKind.RETRACTED]


def test_an_audit_that_fails_while_the_credit_is_in_escrow_retracts_it_once():
    record = admitted(3)
    settlement = settle(record.unvested[0], Event.AUDIT_FAILED, "trained again", record, POLICY)
    assert [outcome.result.digest for outcome in settlement.outcomes] == [one.digest for one in record.unvested]


def test_a_host_is_convicted_once():
    first = convict(admitted(3), "why")
    assert first.convicted and len(first.outcomes) == 2
    again = convict(first.worker, "again")
    assert again.outcomes == () and not again.convicted and again.ban is None


def test_a_host_that_was_banned_for_its_faults_can_still_be_convicted():
    banned = replace(admitted(3), banned="3 faults")
    settlement = convict(banned, "why")
    assert settlement.ban is None and settlement.convicted == "alice" and len(settlement.outcomes) == 2


def test_faults_alone_ban_and_retract_what_is_in_escrow_but_convict_nobody():
    """Who invents one segment in fifty shows one bad place at a time: never convicted, so its escrow has to fall."""
    record = replace(admitted(3), settled=((b"x" * 32, True), (b"y" * 32, True)))
    settlement = settle(result_of(9), Event.ONE_BAD_PLACE, "bad memory", record, POLICY)
    assert settlement.ban is not None and not settlement.convicted and settlement.worker.unvested == ()
    fallen = [(o.result.digest, o.event, o.phase) for o in settlement.outcomes[1:]]
    assert fallen == [(one.digest, Event.VOIDED_UNVESTED, Phase.RETRACTED) for one in record.unvested]
    assert "banned for faults" in settlement.outcomes[1].reason


def test_a_second_different_result_convicts_like_a_fake():
    record = admitted(2)
    settlement = equivocate((result_of(9),), "two results", record)
    assert settlement.convicted == "alice" and settlement.worker.unvested == ()


def test_a_single_bad_place_that_was_two_convicts_after_all():
    void = result_of(9, phase=Phase.VOID)
    settlement = settle(void, Event.PROVED_WRONG, "another place", admitted(0), POLICY)
    assert settlement.outcomes[0].phase is Phase.INVALID and settlement.convicted


def test_a_complete_campaign_runs_again_and_others_stay_as_they_are():
    assert without_one(CampaignState.COMPLETE) is CampaignState.RUNNING
    for state in (CampaignState.RUNNING, CampaignState.PAUSED, CampaignState.CANCELLED):
        assert without_one(state) is state


@pytest.mark.parametrize("seed", range(20))
def test_credit_is_the_sum_of_what_stands_whatever_happens(seed):
    """A random life: credited is what was admitted and not retracted; a convicted host has nothing in escrow."""
    rng = random.Random(seed)
    record, stands = HostRecord(host="alice"), {}
    for number in range(60):
        event = rng.choices([Event.AGREED, Event.ONE_BAD_PLACE, Event.PROVED_WRONG], [40, 2, 1])[0]
        if record.banned:
            break
        settlement = settle(result_of(number), event, "why", record, POLICY, bundle=bundle_of())
        if stands and rng.random() < 0.02:
            settlement = settle(
                rng.choice(list(stands.values())), Event.AUDIT_FAILED, "why", record, POLICY, bundle=bundle_of()
            )
        for outcome in settlement.outcomes:
            if outcome.phase is Phase.ADMITTED:
                stands[outcome.result.digest] = replace(outcome.result, phase=Phase.ADMITTED)
            elif outcome.retracts:
                del stands[outcome.result.digest]
        record = settlement.worker
        assert {one.digest for one in record.unvested} <= stands.keys()
        assert record.convicted == bool(settlement.convicted) and not (record.convicted and record.unvested)
        assert len(record.unvested) <= POLICY.vesting_bundles


# -- vouchers --------------------------------------------------------------------------------------------------------


def leaf(step: int, value: int, loss: float = 0.5) -> Leaf:
    return Leaf(
        step=step, params_digest=bytes([value]) * 32, moments_digest=bytes([value]) * 32, loss=loss, held_out_loss=loss
    )


def path(*values: int) -> Trace:
    return tuple(leaf(step, value) for step, value in enumerate(values))


TRUTH = path(0, 1, 2, 3)


def cells(*pairs: tuple[int, int]) -> tuple[Cell, ...]:
    return tuple(Cell(network=network, segment=segment) for network, segment in pairs)


def said(host: str, slot: int, task: SlotTask, *bad: Cell, bad_networks: tuple[int, ...] = ()) -> SaidAnswer:
    verdict = Verdict(cells=len(task.cells), bad_cells=bad, bad_networks=bad_networks)
    return SaidAnswer(host=host, slot=slot, task=task, verdict=verdict)


TASK = SlotTask(cells=cells((0, 1), (1, 2)), networks=(0,))


def test_who_agreed_where_the_leaf_is_false_has_vouched_for_it():
    false = Places(cells=frozenset(cells((0, 1))))
    found = vouchers([said("liar", 0, TASK), said("honest", 1, TASK, *cells((0, 1)))], false, "organizer")
    assert [(one.host, one.slot, one.places) for one in found] == [("liar", 0, false)]
    assert "slot 0, network 0 segment 1" in found[0].reason(b"r" * 32)


def test_who_agreed_only_in_true_places_is_never_touched():
    elsewhere = SlotTask(cells=cells((1, 2)), networks=(1,))
    false = Places(cells=frozenset(cells((0, 1))), networks=frozenset({0}))
    assert vouchers([said("honest", 0, elsewhere)], false, "organizer") == ()
    assert vouchers([said("honest", 0, TASK)], Places(), "organizer") == ()


def test_who_said_that_a_network_is_bad_has_not_vouched_for_its_loss():
    false = Places(networks=frozenset({0}))
    assert vouchers([said("honest", 0, TASK, bad_networks=(0,))], false, "organizer") == ()
    (one,) = vouchers([said("liar", 0, TASK)], false, "organizer")
    assert one.places == false


def test_the_organizer_does_not_convict_himself():
    assert vouchers([said("organizer", 0, TASK)], Places(cells=frozenset(cells((0, 1)))), "organizer") == ()


def test_the_first_cell_that_leaves_the_true_path_is_false_and_the_next_may_be_honest():
    """What was invented at boundary 2 leads somewhere: who replayed from there told the truth."""
    assert false_places(4, path(0, 1, 9, 8), TRUTH) == Places(cells=frozenset(cells((4, 1))))
    assert false_places(4, TRUTH, TRUTH) == Places()
    back = false_places(4, path(0, 9, 2, 9), TRUTH)
    assert back == Places(cells=frozenset(cells((4, 0), (4, 2))))


def test_a_first_segment_is_judged_from_the_seed_whatever_its_worker_said_of_state_0():
    moments = msgspec.structs.replace(TRUTH[0], moments_digest=b"m" * 32)
    assert false_places(0, (moments, *TRUTH[1:]), TRUTH) == Places(), "a checker is not asked about these moments"
    assert false_places(0, (moments, leaf(1, 9), *TRUTH[2:]), TRUTH).cells == set(cells((0, 0)))
    assert false_places(0, (leaf(0, 9), *TRUTH[1:]), TRUTH).networks == {0}


def test_a_false_loss_of_true_weights_is_a_false_place():
    end = msgspec.structs.replace(TRUTH[-1], held_out_loss=0.25)
    found = false_places(0, (*TRUTH[:-1], end), TRUTH)
    assert found == Places(cells=frozenset(cells((0, 2))), networks=frozenset({0}))


def test_a_path_that_goes_on_past_the_true_end_is_false_where_it_did_not_stop():
    early = (*TRUTH[:2], leaf(2, 2, loss=0.01))
    longer = path(0, 1, 2, 7, 8)
    assert false_places(0, longer, early).cells == set(cells((0, 1)))


def test_places_say_what_they_are():
    many = Places(cells=frozenset(cells((0, 1), (0, 2), (3, 1))), networks=frozenset({2}))
    assert str(many) == "network 0 segment 1, network 0 segment 2, network 3 segment 1 and 1 more" and len(many) == 4
    verdict = Verdict(cells=2, bad_cells=cells((0, 1)), bad_networks=(2,))
    assert disagreeing(verdict) | Places(cells=frozenset(cells((0, 2), (3, 1)))) == many


# -- audits ----------------------------------------------------------------------------------------------------------


def test_chance_wants_the_share_that_the_policy_states():
    digests = [number.to_bytes(32, "big") for number in range(20_000)]
    wanted = [digest for digest in digests if chance_wants(b"secret", digest, 0.05)]
    assert 850 < len(wanted) < 1150  # 1,000 expected, a standard deviation is 31
    assert wanted == [digest for digest in digests if chance_wants(b"secret", digest, 0.05)], "the coin is tossed once"
    assert not any(chance_wants(b"secret", digest, 0.0) for digest in digests)
    assert all(chance_wants(b"secret", digest, 1.0) for digest in digests)
    other = [digest for digest in digests if chance_wants(b"another", digest, 0.05)]
    assert len(set(wanted) & set(other)) < 120  # 50 expected


def test_networks_are_drawn_among_those_asked_for_and_others_for_suspicion():
    digests = [number.to_bytes(32, "big") for number in range(64)]
    due = [draw_networks(b"secret", digest, Audit.DUE, range(16), 1) for digest in digests]
    suspect = [draw_networks(b"secret", digest, Audit.SUSPECT, range(16), 1) for digest in digests]
    assert len(set(due)) > 8 and sum(one == other for one, other in zip(due, suspect, strict=True)) < 16
    assert draw_networks(b"secret", digests[0], Audit.SUSPECT, (3, 5), 4) == (3, 5)
    assert draw_networks(b"secret", digests[0], Audit.SUSPECT, (), 4) == ()


def test_who_lied_comes_first_then_where_they_may_have_lied_then_chance():
    owed = [
        OwedAudit(result=name, audit=audit, since=since)
        for name, audit, since in [
            (b"a", Audit.DUE, 1.0),
            (b"b", Audit.SUSPECT, 3.0),
            (b"c", Audit.SUSPECT, 2.0),
            (b"d", Audit.JUDGING, 9.0),
        ]
    ]
    assert [one.result for one in next_audits(owed, (), 9)] == [b"d", b"c", b"b", b"a"]
    assert [one.result for one in next_audits(owed, {b"d"}, 1)] == [b"c"]
    assert next_audits(owed, (), 0) == () and next_audits(owed, (), -1) == ()


def test_networks_of_which_a_liar_replayed_a_segment_are_trained_again():
    answers = [said("liar", 0, TASK), said("bob", 1, SlotTask(cells=cells((5, 0)), networks=(1,)))]
    assert to_train(answers, {"liar"}) == (0, 1) and to_train(answers, {"nobody"}) == ()
    assert to_train(answers, {"liar", "bob"}) == (0, 1, 5)


def test_blobs_stay_while_an_audit_may_need_them():
    settlement = settle(result_of(0), Event.AGREED, "", HostRecord(host="alice"), POLICY, bundle=bundle_of(Audit.DUE))
    assert settlement.outcomes[0].audit is Audit.DUE
    assert not any(isinstance(action, DeleteBlobs) for action in settlement.actions)
