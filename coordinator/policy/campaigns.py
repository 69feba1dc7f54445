"""What an organizer may do to a campaign, which campaigns come first, and how much of one may be under way."""

from collections.abc import Collection, Mapping

from protocol.errors import Refused
from protocol.swarm.records import SHARD_SIZE, shard_count, shard_size
from protocol.trust.messages import CampaignAction, CampaignState

COMMAND_SECONDS = 300.0  # an organizer's command is good for so long after it was signed
COMMAND_AHEAD_SECONDS = 60.0  # his clock may be ahead of the coordinator's, which is on another machine perhaps
CAMPAIGNS_MAX = 1000  # a coordinator's; each costs memory for as long as it runs
PRIORITIES = range(-100, 101)  # as a campaign's file may say
CONTROLS = {  # (state, action) -> state; what is absent is refused
    (CampaignState.RUNNING, CampaignAction.PAUSE): CampaignState.PAUSED,
    (CampaignState.PAUSED, CampaignAction.PAUSE): CampaignState.PAUSED,
    (CampaignState.PAUSED, CampaignAction.RESUME): CampaignState.RUNNING,
    (CampaignState.RUNNING, CampaignAction.RESUME): CampaignState.RUNNING,
    (CampaignState.RUNNING, CampaignAction.CANCEL): CampaignState.CANCELLED,
    (CampaignState.PAUSED, CampaignAction.CANCEL): CampaignState.CANCELLED,
    (CampaignState.CANCELLED, CampaignAction.CANCEL): CampaignState.CANCELLED,
    (CampaignState.CANCELLED, CampaignAction.RESUME): CampaignState.RUNNING,
}
URGENCY = (CampaignState.RUNNING, CampaignState.PAUSED, CampaignState.COMPLETE, CampaignState.CANCELLED)
OVER = (CampaignState.COMPLETE, CampaignState.CANCELLED)


def control(state: CampaignState, action: CampaignAction) -> CampaignState:
    """The new state. Raises Refused."""
    if (state, action) not in CONTROLS:
        raise Refused("campaign-state", f"cannot {action} a campaign that is {state}")
    return CONTROLS[(state, action)]


def claimable_below(done: Mapping[int, int], assignments: int, max_leased: int) -> int:
    """Before which assignment volunteers may claim, so that at most `max_leased` are under way: those of a window that
    begins at the first that is not done. It never moves back, unless something is retracted.

    `done`: {shard: bits}. A `max_leased` of 0 is no limit.
    """
    if not max_leased:
        return assignments
    left = max_leased
    for shard in range(shard_count(assignments)):
        size = shard_size(assignments, shard)
        free = size - (done.get(shard, 0) & ((1 << size) - 1)).bit_count()
        if free < left:
            left -= free
            continue
        for bit in range(size):
            left -= not done.get(shard, 0) >> bit & 1
            if not left:
                return shard * SHARD_SIZE + bit + 1
    return assignments


def check_command(issued_at: float, newest: float | None, now: float, *, seen: bool) -> None:
    """Raises Refused for an organizer's command that was taken before, or comes late. Seconds since 1970.

    `newest`: of the last one that was taken about the same.
    """
    if seen:
        raise Refused("command-replayed", "this very command was taken before")
    if not now - COMMAND_SECONDS <= issued_at <= now + COMMAND_AHEAD_SECONDS:
        raise Refused("command-stale", f"it is {now - issued_at:,.0f} s old; set this machine's clock and say it again")
    if newest is not None and issued_at <= newest:
        raise Refused("command-stale", "a newer command was taken; was this machine's clock set back? say it again")


def without_one(state: CampaignState) -> CampaignState:
    """The state once an admitted assignment is free again: what was complete runs again."""
    return CampaignState.RUNNING if state is CampaignState.COMPLETE else state


def as_told(states: Mapping[str, CampaignState], audited: Collection[str]) -> dict[str, CampaignState]:
    """For volunteers: a complete campaign still runs while an audit of it is owed, for it may free an assignment."""
    return {
        digest: CampaignState.RUNNING if state is CampaignState.COMPLETE and digest in audited else state
        for digest, state in states.items()
    }


def in_order_of_urgency(states: Mapping[str, CampaignState], priorities: Mapping[str, int]) -> list[str]:
    """Digests: those with work to do first, by priority, then by age. `states` is in the order of seeding."""
    return sorted(states, key=lambda digest: (URGENCY.index(states[digest]), -priorities[digest]))


def is_over(states: Mapping[str, CampaignState]) -> bool:
    """Whether there are campaigns, and none has anything left to do."""
    return bool(states) and all(state in OVER for state in states.values())
