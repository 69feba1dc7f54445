"""Our claims in the swarm: a swarm node's coroutines, each ending in one event."""

import contextlib
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, Protocol

from peer.state.actions import (
    Claim,
    FollowCampaign,
    IgnoreHosts,
    ReleaseClaims,
    RenewClaims,
    ResumeClaims,
    SwarmAction,
    UseAllowance,
)
from peer.state.events import Claimed, ClaimsFailed, ClaimsReleased, ClaimsRenewed, ClaimsResumed, Event
from peer.state.ids import AssignmentId
from peer.state.ports import Emit
from peer.storage.workspace import Workspace
from protocol.swarm.claimer import Claims
from protocol.trust.allowance import Allowance


class Node(Protocol):
    """What is needed of a `SwarmNode`."""

    host: str
    dht: Any  # a claimer.Node

    def submit(self, work: Coroutine[Any, Any, Any]) -> Future[Any]: ...
    def allow_campaign(self, digest: str, assignments: int) -> None: ...


class SwarmClaimBook:
    """Performs swarm actions; the node's thread does the waiting."""

    def __init__(self, node: Node, organizer: str, workspace: Workspace, emit: Emit):
        self.node, self.organizer, self.workspace, self.emit = node, organizer, workspace, emit
        self.allowance: Allowance | None = None
        self.claims: dict[str, Claims] = {}  # by campaign
        self.banned: set[str] = set()  # all of them look at this one

    def perform(self, action: SwarmAction) -> None:
        match action:
            case FollowCampaign(campaign):
                self._follow(campaign)
            case IgnoreHosts(hosts):
                self.banned.clear()
                self.banned.update(hosts)
            case UseAllowance(allowance):
                self.allowance = allowance
                for claims in self.claims.values():
                    claims.allowance = allowance
                with contextlib.suppress(OSError):  # a full disk is said elsewhere; the next inbox brings it again
                    self.workspace.home.keep_allowance(self.organizer, allowance)
            case _:
                future = self.node.submit(self._answer(action))
                future.add_done_callback(lambda done: self.emit(ending(action, done)))

    def _follow(self, digest: str) -> None:
        followed = self.workspace.campaign(digest)
        assert followed is not None, "a campaign is followed after it was fetched"
        campaign, assignments = followed[0], followed[0].assignment_count
        self.node.allow_campaign(digest, assignments)
        self.claims[digest] = Claims(
            self.node.dht,
            digest,
            assignments,
            self.organizer,
            settle=campaign.policy.settle_seconds,
            lease=campaign.policy.lease_seconds,
            banned=self.banned,
            allowance=self.allowance,
        )

    async def _answer(self, action: SwarmAction) -> Event:
        match action:
            case Claim(campaign, batch, below):
                won = await self.claims[campaign].claim(batch, below)
                return Claimed(action, None if won is None else tuple(won))
            case ResumeClaims(campaign, indices):
                return ClaimsResumed(action, tuple(await self.claims[campaign].resume(indices)))
            case RenewClaims(campaigns):
                gone: list[AssignmentId] = []
                for campaign in campaigns:
                    renewal = await self.claims[campaign].renew()
                    gone += [AssignmentId(campaign, index) for index in (*renewal.lost, *renewal.done)]
                return ClaimsRenewed(action, tuple(gone))
            case ReleaseClaims(campaign, indices):
                await self.claims[campaign].release(indices)
                return ClaimsReleased(action)
        raise TypeError(f"not for the swarm: {action}")


def ending(action: SwarmAction, done: Future[Event]) -> Event:
    """What a finished coroutine means; a node that is going down raises all sorts of things."""
    try:
        return done.result()
    except Exception as error:
        return ClaimsFailed(action, f"{type(error).__name__} {error}".strip())
