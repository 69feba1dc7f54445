"""Of the status: who has done most, alone and in teams, and whose results were rejected. Everything from the ledger.

A team is what stands behind the last `@` of a host's name: anybody may write it.
"""

import re
from collections.abc import Callable, Iterable

import msgspec
from sqlalchemy import Connection, select

from coordinator.checking.cases import CampaignBook
from coordinator.ledger.tables import hosts, results
from coordinator.policy.phases import Phase

LEADERS_MAX = TEAMS_MAX = REJECTIONS_MAX = 20
MEMBERS_MAX = 20_000  # hosts that count for their teams, those with most credit first
TEAM = re.compile(r"(?:^|\s)@([\w.-]{1,24})\s*\Z")


class LeaderStatus(msgspec.Struct, frozen=True, kw_only=True):
    host: str
    name: str
    credit: int  # network-segments
    clean_bundles: int


class TeamStatus(msgspec.Struct, frozen=True, kw_only=True):
    name: str  # without the @, in small letters
    hosts: int
    credit: int


class RejectionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A result that was handed in and not, or no longer, admitted."""

    host: str
    name: str
    campaign: str  # its name
    assignment: int
    outcome: str  # void, convicted, retracted
    reason: str
    at: float


def leaders(connection: Connection) -> list[LeaderStatus]:
    """The hosts with most credit; none that is banned."""
    columns = (hosts.c.host, hosts.c.name, hosts.c.credit, hosts.c.clean_bundles)
    earned = select(*columns).where(hosts.c.credit > 0, hosts.c.banned == "")
    rows = connection.execute(earned.order_by(hosts.c.credit.desc(), hosts.c.host).limit(LEADERS_MAX))
    return [LeaderStatus(host=r.host, name=r.name, credit=r.credit, clean_bundles=r.clean_bundles) for r in rows]


def teams(connection: Connection) -> list[TeamStatus]:
    """The teams with most credit."""
    named = select(hosts.c.name, hosts.c.credit).where(hosts.c.credit > 0, hosts.c.banned == "")
    rows = connection.execute(
        named.where(hosts.c.name.contains("@")).order_by(hosts.c.credit.desc()).limit(MEMBERS_MAX)
    )
    return ranked_teams((row.name, row.credit) for row in rows)


def ranked_teams(members: Iterable[tuple[str, int]]) -> list[TeamStatus]:
    """Of (name, credit) of hosts: the first teams."""
    found: dict[str, list[int]] = {}
    for name, credit in members:
        if team := team_of(name):
            found.setdefault(team, []).append(credit)
    listed = [TeamStatus(name=team, hosts=len(credits), credit=sum(credits)) for team, credits in found.items()]
    return sorted(listed, key=lambda one: (-one.credit, one.name))[:TEAMS_MAX]


def team_of(name: str) -> str:
    """`alice @Owls` -> `owls`; "" without a team."""
    match = TEAM.search(name)
    return match[1].lower() if match else ""


def rejections(connection: Connection, book: CampaignBook, present_name: Callable[[str], str]) -> list[RejectionStatus]:
    """Those of the last results that were rejected, the last one first."""
    columns = (
        results.c.worker,
        results.c.campaign,
        results.c.assignment,
        results.c.phase,
        results.c.reason,
        results.c.since,
        hosts.c.name,
    )
    fallen = select(*columns).join(hosts, hosts.c.host == results.c.worker, isouter=True)
    fallen = fallen.where(results.c.phase.in_((Phase.VOID, Phase.INVALID, Phase.RETRACTED)))
    rows = connection.execute(fallen.order_by(results.c.since.desc()).limit(REJECTIONS_MAX))
    return [
        RejectionStatus(
            host=row.worker,
            name=row.name or present_name(row.worker),
            campaign=book.get(row.campaign)[0].name,
            assignment=row.assignment,
            outcome=row.phase,
            reason=row.reason,
            at=row.since,
        )
        for row in rows
    ]
