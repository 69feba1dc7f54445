"""What an organizer may do to a campaign, and which campaigns come first."""

from collections.abc import Mapping

from protocol.errors import Refused

CAMPAIGNS_MAX = 1000  # a coordinator's; each costs memory for as long as it runs
CONTROLS = {  # (state, action) -> state; what is absent is refused
    ("running", "pause"): "paused",
    ("paused", "pause"): "paused",
    ("paused", "resume"): "running",
    ("running", "resume"): "running",
    ("running", "cancel"): "cancelled",
    ("paused", "cancel"): "cancelled",
    ("cancelled", "cancel"): "cancelled",
    ("cancelled", "resume"): "running",
}
URGENCY = ("running", "paused", "complete", "cancelled")


def control(state: str, action: str) -> str:
    """The new state. Raises Refused."""
    if (state, action) not in CONTROLS:
        raise Refused("campaign-state", f"cannot {action} a campaign that is {state}")
    return CONTROLS[(state, action)]


def in_order_of_urgency(states: Mapping[str, str], priorities: Mapping[str, int]) -> list[str]:
    """Digests: those with work to do first, by priority, then by age. `states` is in the order of seeding."""
    return sorted(states, key=lambda digest: (URGENCY.index(states[digest]), -priorities[digest]))


def is_over(states: Mapping[str, str]) -> bool:
    """Whether there are campaigns, and none has anything left to do."""
    return bool(states) and all(state in ("complete", "cancelled") for state in states.values())
