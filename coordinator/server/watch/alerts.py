"""Which messages an organizer gets: a function of two statuses, the one before and the one now. Nothing else is asked.

Each is said when it begins to be so, and again only after it was otherwise in between.
"""

import enum
from collections.abc import Iterator

import msgspec

from coordinator.server.status import CampaignStatus, Status
from protocol.trust.messages import CampaignState

STALLED_SECONDS = 1800.0  # with work to do, and nothing admitted
DISK_BYTES_MIN = 2 << 30  # free: below that a host has hours


class AlertKind(enum.StrEnum):
    STALLED = "stalled"
    COMPLETE = "complete"
    CONVICTED = "convicted"
    DISK_LOW = "disk-low"


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """What a webhook gets as JSON: nothing secret is in a status, so nothing is in here."""

    kind: AlertKind
    text: str  # one line for people; chats that know no other field show it
    at: float  # seconds since 1970
    organizer: str
    campaign: str = ""  # its name
    host: str = ""


def alerts(before: Status | None, now: Status) -> tuple[Alert, ...]:
    """What has begun since `before`; without one (the host has just started) what is so already is not told."""
    if before is None:
        return ()
    was = {campaign.digest: campaign for campaign in before.campaigns}
    found = [
        alert for campaign in now.campaigns for alert in _of_campaign(was.get(campaign.digest), campaign, before, now)
    ]
    convicted = {host.host for host in before.hosts if host.convicted}
    for host in now.hosts:
        if host.convicted and host.host not in convicted:
            text = f"host {host.name} {host.host[-8:]} was convicted: {host.banned}"
            found.append(_alert(now, AlertKind.CONVICTED, text, host=host.host))
    if 0 <= now.free_bytes < DISK_BYTES_MIN <= before.free_bytes:
        text = f"{now.free_bytes / 1e9:.1f} GB are left on the host's disk; without any, nothing is taken in"
        found.append(_alert(now, AlertKind.DISK_LOW, text))
    return tuple(found)


def _of_campaign(was: CampaignStatus | None, campaign: CampaignStatus, before: Status, now: Status) -> Iterator[Alert]:
    if campaign.state == CampaignState.COMPLETE and (was is None or was.state != CampaignState.COMPLETE):
        text = f"campaign {campaign.name} is complete: {campaign.networks_published:,} networks are in the zoo"
        yield _alert(now, AlertKind.COMPLETE, text, campaign=campaign.name)
    if is_stalled(campaign, now.time) and not (was is not None and is_stalled(was, before.time)):
        minutes = (now.time - campaign.progress_at) / 60
        text = f"campaign {campaign.name}: nothing admitted for {minutes:.0f} min, {now.hosts_present} hosts are here"
        yield _alert(now, AlertKind.STALLED, text, campaign=campaign.name)


def is_stalled(campaign: CampaignStatus, time: float) -> bool:
    """`time`: of the status, seconds since 1970."""
    left = campaign.assignments - campaign.admitted
    return campaign.state == CampaignState.RUNNING and left > 0 and time - campaign.progress_at >= STALLED_SECONDS


def _alert(now: Status, kind: AlertKind, text: str, campaign: str = "", host: str = "") -> Alert:
    return Alert(kind=kind, text=text, at=now.time, organizer=now.organizer, campaign=campaign, host=host)
