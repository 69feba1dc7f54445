"""What the organizer says after he seeded: priorities, quotas, bans; once each, signed, told to whom it concerns."""

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from support.scripted_host import CAMPAIGN, Stage, skip_training
from support.volunteer import Volunteer, campaign_of

from coordinator.ledger.tables import moderation
from coordinator.policy.campaigns import claimable_below
from peer.session.session import KnownBans
from peer.state import actions as act
from protocol.rpc.coordinator_pb2_grpc import CoordinatorStub
from protocol.rpc.wire import refusal, to_wire
from protocol.swarm.claim_rules import View, bitmap, by_shard, only_below
from protocol.trust.envelope import envelope_from_bytes, seal, unseal
from protocol.trust.messages import CampaignAction, CampaignOrder, ControlCampaign, ModerateHost, Receipt


@pytest.fixture
def stage(tmp_path):
    stage = Stage(tmp_path)
    stage.seed()
    yield stage
    stage.close()


def refused(call) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    found = refusal(caught.value)
    assert found is not None, caught.value
    return found.reason


def say(stage: Stage, action: CampaignAction, value: int, identity=None):
    message = stage.issued(ControlCampaign(campaign=CAMPAIGN.digest, action=action, value=value))
    signed = to_wire(seal(identity or stage.core.identity, message))
    return stage.host("organizer").stub.ControlCampaign(signed).state


def moderate(stage: Stage, host: str, banned: bool, reason: str = "rude", identity=None):
    message = stage.issued(ModerateHost(host=host, banned=banned, reason=reason))
    signed = to_wire(seal(identity or stage.core.identity, message))
    stub: CoordinatorStub = stage.host("organizer").stub
    stub.ModerateHost(signed)
    return stub, signed


# -- quotas -----------------------------------------------------------------------------------------------------------
@given(st.integers(1, 400), st.data())
def test_a_quota_opens_a_window_of_so_many_that_are_not_done(assignments, data):
    done = data.draw(st.sets(st.integers(0, assignments - 1)))
    most = data.draw(st.integers(0, assignments + 5))
    below = claimable_below(by_shard(done), assignments, most)
    if not most:
        assert below == assignments
        return
    waiting = [index for index in range(assignments) if index not in done]
    assert len([index for index in waiting if index < below]) == min(most, len(waiting))
    later = done | data.draw(st.sets(st.sampled_from(waiting) if waiting else st.nothing()))
    assert claimable_below(by_shard(later), assignments, most) >= below, "it never moves back"


@given(st.integers(0, 300), st.integers(0, 4), st.integers(0, 2**64 - 1))
def test_a_claim_sees_nothing_free_behind_the_window(below, shard, done):
    seen = only_below(View(done), shard, below)
    for bit in range(64):
        free = not done >> bit & 1 and 64 * shard + bit < below
        assert (not seen.done >> bit & 1) == free
    assert seen.done == done | bitmap(bit for bit in range(64) if 64 * shard + bit >= below)


def test_priority_and_quota_reach_everybody_and_outlive_a_restart(stage):
    alice = stage.host("alice")
    assert alice.poll().orders == ()
    assert say(stage, CampaignAction.PRIORITY, 7) == "running" == say(stage, CampaignAction.MAX_LEASED, 3)
    for _ in range(2):
        assert alice.poll().orders == (CampaignOrder(campaign=CAMPAIGN.digest, priority=7, below=3),)
        told = stage.core.status().campaigns[0]
        assert (told.priority, told.max_leased) == (7, 3)
        stage.restart()
    alice.commit(1)
    assert alice.poll().orders[0].below == 4, "one of the window is here to be judged"
    assert say(stage, CampaignAction.MAX_LEASED, 0) == "running" and alice.poll().orders[0].below == 4
    assert refused(lambda: say(stage, CampaignAction.PRIORITY, 101)) == "campaign-order"
    assert refused(lambda: say(stage, CampaignAction.MAX_LEASED, -1)) == "campaign-order"
    assert refused(lambda: say(stage, CampaignAction.PRIORITY, 1, alice.identity)) == "signer"


def test_a_volunteer_follows_what_the_organizer_said_later():
    first, second = campaign_of(name="first"), campaign_of(name="second", priority=5)
    bob = Volunteer(first, second).joins()
    order = CampaignOrder(campaign=first.digest, priority=9, below=1)
    bob.inbox(orders=(order,))
    bob.claimed(0)  # what was asked for before, whichever it was
    assert [(claim.campaign, claim.below) for claim in bob.ever(act.Claim)[1:]] == [(first.digest, 1)]


# -- hosts ------------------------------------------------------------------------------------------------------------
def test_a_ban_is_told_with_its_reason_voids_what_waits_and_can_be_lifted(stage):
    alice, bob = stage.host("alice"), stage.host("bob")
    digest, bans = alice.commit(0), KnownBans()
    bans.learn(bob.poll())
    moderate(stage, alice.host, True, "fills our logs")
    assert alice.poll().banned == "by the organizer: fills our logs"
    assert bans.learn(bob.poll()) == (alice.host,)
    assert refused(lambda: alice.submit(alice.result(1))) == "banned"
    told = {host.host: host for host in stage.core.status().hosts}[alice.host]
    assert "fills our logs" in told.banned and not told.convicted
    assert stage.core.status().campaigns[0].rejected == 1
    assert refused(lambda: moderate(stage, alice.host, True)) == "banned-already"
    moderate(stage, alice.host, False, "mended")
    assert alice.poll().banned == "" and bans.learn(bob.poll()) == ()
    assert refused(lambda: moderate(stage, alice.host, False)) == "not-banned"
    again = alice.submit(alice.result(0))
    assert isinstance(again, Receipt) and again.result == digest, "what the ban voided may come again"
    with stage.core.stores.ledger.read() as connection:
        trail = connection.execute(select(moderation).order_by(moderation.c.number)).all()
    assert [(row.host, row.banned, row.reason) for row in trail] == [
        (alice.host, 1, "fills our logs"),
        (alice.host, 0, "mended"),
    ]
    for row in trail:
        unseal(envelope_from_bytes(row.envelope), ModerateHost, signer=stage.core.identity.host)


def test_what_was_admitted_stays_when_its_host_is_banned(stage):
    alice = stage.host("alice")
    digest = alice.commit(0)
    stage.clock.now += 6
    stage.settle(lambda: alice.open(digest, 0))
    stage.settle(lambda: alice.outcome(digest))
    moderate(stage, alice.host, True)
    assert stage.core.status().campaigns[0].admitted == 1 and stage.core.curate(force=True) == 2


def test_who_was_convicted_by_proof_is_not_let_in_again(stage):
    mallory = stage.host("mallory")
    mallory.poll()
    stage.clock.now += 6
    traces = mallory.traces(CAMPAIGN.assignment(0), skip_training)
    digest = mallory.commit(0, traces)
    stage.clock.now += 6
    stage.settle(lambda: mallory.open(digest, 0, skip_training))
    stage.settle(lambda: mallory.poll().banned)
    assert refused(lambda: moderate(stage, mallory.host, False)) == "convicted"


def test_a_ban_works_once_and_only_from_the_organizer(stage):
    alice, mallory = stage.host("alice"), stage.host("mallory")
    alice.poll()
    assert refused(lambda: moderate(stage, alice.host, True, identity=mallory.identity)) == "signer"
    stub, signed = moderate(stage, alice.host, True)
    moderate(stage, alice.host, False)
    assert refused(lambda: stub.ModerateHost(signed)) == "command-replayed"
    stage.restart()
    assert refused(lambda: stage.host("again").stub.ModerateHost(signed)) == "command-replayed"
    assert alice.poll().banned == ""
