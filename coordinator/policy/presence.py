"""Who counts as present, which heartbeats are believed, and when the next one is due."""

import math
from collections.abc import Mapping

from protocol.errors import Refused
from protocol.trust.messages import Heartbeat

PRESENCE_SECONDS = 30.0  # a host that was silent for so long is not drawn, and loses the slots it was drawn for
PATIENCE = 3  # a host that was told to ask more rarely is here until it has missed so many times
ASK_SECONDS, ASK_SECONDS_MAX = 1.0, 120.0
BUSY_ASK_SECONDS_MAX = 15.0  # others wait for what it has to do
BUSY_ASKS_A_SECOND = 100.0  # of all busy hosts together; a coordinator on two cores serves several times as many
IDLE_ASKS_A_SECOND = 50.0
VISITS_A_SECOND, GATHER_SECONDS_MAX = 80.0, 0.5  # of busy hosts, whatever they have to say; others wait for it


BEAT_SECONDS = 300.0  # a heartbeat is good for so long: nobody keeps one to seat an absent host
BEAT_AHEAD_SECONDS = 60.0  # hosts go by our clock, as they know it


def check_heartbeat(beat: Heartbeat) -> None:
    """Raises Refused for numbers that must not reach a page or a sum. Its texts are such by their types."""
    if not math.isfinite(beat.steps_per_second) or beat.steps_per_second < 0:
        raise Refused("heartbeat", "steps_per_second is not a sensible number")
    if beat.networks_trained >= 2**53 or beat.checks_done >= 2**53:
        raise Refused("heartbeat", "absurd counts")


def ask_again_seconds(busy: bool, busy_hosts: int, present_hosts: int) -> float:
    """When a host should ask next. `busy`: it waits for an outcome, or has something to upload or to check.

    So many hosts that ask together stay below what the coordinator can serve; a few ask every second.
    """
    if busy:
        return min(BUSY_ASK_SECONDS_MAX, max(ASK_SECONDS, busy_hosts / BUSY_ASKS_A_SECOND))
    return min(ASK_SECONDS_MAX, max(ASK_SECONDS, present_hosts / IDLE_ASKS_A_SECOND))


def gather_seconds(busy_hosts: int) -> float:
    """How long after a heartbeat a busy host gathers what it has to say: a few say it at once, many all together."""
    return min(GATHER_SECONDS_MAX, busy_hosts / VISITS_A_SECOND)


def present_until(now: float, ask_again: float, presence_seconds: float) -> float:
    """How long a host counts as present that was heard now, and told when to ask again."""
    return now + max(presence_seconds, PATIENCE * ask_again)


def check_time(issued_at: float, last: float | None, now: float) -> None:
    """Raises Refused for a heartbeat that was heard before, or comes too late. Seconds since 1970, by our clock.

    `last`: when the last one of this host was issued; one from our future was heard under a clock that was set back.
    """
    if not now - BEAT_SECONDS <= issued_at <= now + BEAT_AHEAD_SECONDS:
        raise Refused("heartbeat-time", f"issued {now - issued_at:,.0f} s ago")
    if last is not None and issued_at <= last <= now + BEAT_AHEAD_SECONDS:
        raise Refused("heartbeat-time", "not newer than the last one")


def is_present(host: str, last_seen: Mapping[str, float], now: float, presence_seconds: float) -> bool:
    """Times are seconds since 1970."""
    return now - last_seen.get(host, 0.0) <= presence_seconds


def resumed(last_seen: Mapping[str, float], now: float) -> dict[str, float]:
    """Time stands still while the coordinator is away: who was here when it stopped is here when it starts."""
    stopped_at = max(last_seen.values(), default=now)
    return {host: now - (stopped_at - seen) for host, seen in last_seen.items()}


def told_before(last_seen: Mapping[str, float], now: float) -> float:
    """How long the idle of so many hosts were told to wait before we stopped: nobody is absent before it is over."""
    return ask_again_seconds(False, 0, sum(now - seen <= PATIENCE * ASK_SECONDS_MAX for seen in last_seen.values()))
