"""Who counts as present, and which heartbeats are believed."""

import math
from collections.abc import Mapping

from protocol.errors import Refused
from protocol.trust.messages import Heartbeat

PRESENCE_SECONDS = 30.0  # a host that was silent for so long is not drawn, and loses the slots it was drawn for


def check_heartbeat(beat: Heartbeat) -> None:
    """Raises Refused for values that must not reach a page or a sum."""
    if not math.isfinite(beat.steps_per_second) or beat.steps_per_second < 0:
        raise Refused("heartbeat", "steps_per_second is not a sensible number")
    if not all(text.isprintable() for text in (beat.name, beat.device, beat.version)):
        raise Refused("heartbeat", "unprintable text")
    if beat.networks_trained >= 2**53 or beat.checks_done >= 2**53:
        raise Refused("heartbeat", "absurd counts")


def is_present(host: str, last_seen: Mapping[str, float], now: float, presence_seconds: float) -> bool:
    """Times are seconds since 1970."""
    return now - last_seen.get(host, 0.0) <= presence_seconds


def resumed(last_seen: Mapping[str, float], now: float) -> dict[str, float]:
    """Time stands still while the coordinator is away: who was here when it stopped is here when it starts."""
    stopped_at = max(last_seen.values(), default=now)
    return {host: now - (stopped_at - seen) for host, seen in last_seen.items()}
