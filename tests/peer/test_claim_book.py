"""A volunteer's claims over the swarm in memory: every action ends in the event it names."""

import asyncio
from concurrent.futures import Future
from typing import Any

import pytest
from support.swarms.fake_swarm import ENOUGH, FakeSwarm, run_virtual
from support.volunteer import campaign_of

from peer.session.claim_book import SwarmClaimBook
from peer.state import AssignmentId
from peer.state import actions as act
from peer.state import events as on
from peer.storage.home import Home
from peer.storage.workspace import Workspace
from protocol.engine import ENGINE
from protocol.trust.allowance import Allowance
from protocol.trust.messages import CampaignManifest

CAMPAIGN = campaign_of(assignments=6)
MANIFEST = CampaignManifest(campaign=CAMPAIGN.digest, beacon_anchor=bytes(32), engine=ENGINE, issued_at=0.0)


class LoopNode:
    """A node of the swarm in memory, used as the daemon uses a real one."""

    def __init__(self, swarm: FakeSwarm, host: str):
        self.host, self.allowed = host, {}
        self.dht: Any = swarm.host(host, 1).node

    def submit(self, work) -> Future:
        future: Future = Future()
        task = asyncio.get_running_loop().create_task(work)

        def ended(task) -> None:
            if task.exception():
                future.set_exception(task.exception())
            else:
                future.set_result(task.result())

        task.add_done_callback(ended)
        return future

    def allow_campaign(self, digest: str, assignments: int) -> None:
        self.allowed[digest] = assignments


class Book:
    """One host's claim book; `ends` performs an action and waits for its event."""

    def __init__(self, swarm: FakeSwarm, path, host: str):
        self.events: asyncio.Queue[on.Event] = asyncio.Queue()
        self.node, workspace = LoopNode(swarm, host), Workspace(Home(path / host))
        workspace.follow(CAMPAIGN, MANIFEST)
        self.book = SwarmClaimBook(self.node, "organizer", workspace, self.events.put_nowait)
        self.book.perform(act.UseAllowance(ENOUGH))
        self.book.perform(act.FollowCampaign(CAMPAIGN.digest))

    async def ends(self, action: act.SwarmAction) -> Any:
        self.book.perform(action)
        return await self.events.get()


@pytest.fixture
def on_swarm(tmp_path):
    """Run a story of two hosts under the jumping clock."""

    def run(story) -> None:
        async def told() -> None:
            swarm = FakeSwarm(seed=5)
            await story(*(Book(swarm, tmp_path, host) for host in ("alice", "bob")))

        run_virtual(told())

    return run


def test_two_hosts_never_hold_the_same(on_swarm):
    async def story(alice: Book, bob: Book) -> None:
        claim = act.Claim(CAMPAIGN.digest, 3)
        ours = await alice.ends(claim)
        theirs = await bob.ends(claim)
        assert isinstance(ours, on.Claimed) and ours.action is claim and len(ours.indices or ()) == 3
        assert not set(ours.indices or ()) & set(theirs.indices) and len(theirs.indices) == 3
        assert (await alice.ends(claim)).indices == (), "nothing is free"
        renew = act.RenewClaims((CAMPAIGN.digest,))
        assert await alice.ends(renew) == on.ClaimsRenewed(renew, ())
        release = act.ReleaseClaims(CAMPAIGN.digest, theirs.indices)
        assert await bob.ends(release) == on.ClaimsReleased(release)
        assert set((await alice.ends(claim)).indices) == set(theirs.indices)
        resume = act.ResumeClaims(CAMPAIGN.digest, theirs.indices)
        assert (await bob.ends(resume)).won == (), "somebody else has them now"

    on_swarm(story)


def test_what_another_host_took_while_we_slept_is_gone_at_the_next_renewal(on_swarm):
    async def story(alice: Book, bob: Book) -> None:
        mine = (await alice.ends(act.Claim(CAMPAIGN.digest, 6))).indices
        await asyncio.sleep(200.0)  # longer than a lease of 80 s
        taken = (await bob.ends(act.Claim(CAMPAIGN.digest, 6))).indices
        assert set(taken) == set(mine)
        renewed = await alice.ends(act.RenewClaims((CAMPAIGN.digest,)))
        assert set(renewed.gone) == {AssignmentId(CAMPAIGN.digest, index) for index in mine}

    on_swarm(story)


def test_claims_of_banned_hosts_do_not_count(on_swarm):
    async def story(alice: Book, bob: Book) -> None:
        mine = (await alice.ends(act.Claim(CAMPAIGN.digest, 6))).indices
        bob.book.perform(act.IgnoreHosts(("alice",)))
        assert set((await bob.ends(act.Claim(CAMPAIGN.digest, 6))).indices) == set(mine)

    on_swarm(story)


def test_claims_carry_the_newest_allowance_and_stay_within_it(on_swarm):
    async def story(alice: Book, bob: Book) -> None:
        alice.book.perform(act.UseAllowance(Allowance(2, 1800, 1 << 39, bytes(64))))
        assert len((await alice.ends(act.Claim(CAMPAIGN.digest, 6))).indices) == 2
        assert (await alice.ends(act.Claim(CAMPAIGN.digest, 6))).indices == (), "two are held"
        alice.book.perform(act.UseAllowance(Allowance(3, 1800, 1 << 39, bytes(64))))
        assert len((await alice.ends(act.Claim(CAMPAIGN.digest, 6))).indices) == 1
        (claim,) = [value for value, _ in alice.node.dht.swarm.records.popitem()[1].values()]
        assert claim.allowance.assignments == 3 and claim.claimed.bit_count() == 3
        assert alice.node.allowed == {CAMPAIGN.digest: 6}

    on_swarm(story)


def test_what_the_node_cannot_do_is_an_event_too(on_swarm):
    async def story(alice: Book, bob: Book) -> None:
        async def broken(puts):
            raise RuntimeError("the node is closed")

        alice.node.dht.put_many = broken
        claim = act.Claim(CAMPAIGN.digest, 1)
        failed = await alice.ends(claim)
        assert isinstance(failed, on.ClaimsFailed) and failed.action is claim and "closed" in failed.detail

    on_swarm(story)
