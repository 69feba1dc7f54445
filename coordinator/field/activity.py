"""What a ledger says about the people behind it: who did something when, and what became of it. Read-only."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import msgspec

from protocol.errors import DamageError, FileError, Refused
from protocol.recipes.campaign import campaign_from_bytes
from protocol.trust.envelope import envelope_from_bytes
from protocol.trust.messages import Answer, Result

M = TypeVar("M", Result, Answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A result that was handed in. Times are seconds since 1970."""

    campaign: str  # its name
    host: str
    received_at: float
    settled_at: float  # when its phase began
    phase: str
    event: str  # that led there
    networks: int
    segments: int  # network-segments
    steps: int  # network-steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A checker's answer."""

    campaign: str
    host: str
    answered_at: float
    segments: int  # trained again


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A host, by what it says of itself (name, device, speed) and what it earned."""

    host: str
    name: str
    device: str
    steps_per_second: float  # 0: it never said
    credit: int  # network-segments of what is admitted
    first_seen: float
    last_seen: float
    banned: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """One moment's ledger. `organizer` answers checks too; it is no volunteer."""

    organizer: str
    works: list[Work]
    checks: list[Check]
    members: list[Member]
    silent_seats: int  # checkers who were asked and did not answer

    def events(self) -> dict[str, list[float]]:
        """When each volunteer was certainly here, rising."""
        found: dict[str, list[float]] = {one.host: [one.first_seen, one.last_seen] for one in self.members}
        for work in self.works:
            found.setdefault(work.host, []).append(work.received_at)
        for check in self.checks:
            found.setdefault(check.host, []).append(check.answered_at)
        return {host: sorted(times) for host, times in found.items() if host != self.organizer}


def read_activity(ledger: Path) -> Activity:
    """Raises UsageError: no ledger there, or one that cannot be read. The host may go on writing."""
    if not ledger.is_file():
        raise FileError(f"{ledger}: there is no ledger; name the directory that `zooswarm host` was given")
    try:
        with closing(sqlite3.connect(f"file:{quote(str(ledger.resolve()))}?mode=ro", uri=True, timeout=30)) as found:
            found.row_factory = sqlite3.Row
            found.execute("BEGIN")  # one moment only
            return _read(found)
    except (sqlite3.Error, UnicodeDecodeError, msgspec.MsgspecError, Refused) as error:
        raise DamageError(f"{ledger}: cannot read the ledger: {error}; ask `zooswarm doctor`") from None


def _read(ledger: sqlite3.Connection) -> Activity:
    meta = dict(ledger.execute("select key, value from meta").fetchall())
    campaigns = {
        row["digest"]: campaign_from_bytes(row["exact"])
        for row in ledger.execute("select digest, exact from campaigns")
    }
    works, campaign_of = [], {}
    columns = "digest, campaign, worker, received_at, since, phase, event, networks, segments, envelope"
    for row in ledger.execute(f"select {columns} from results order by received_at, digest"):
        campaign_of[row["digest"]] = name = campaigns[row["campaign"]].name
        steps = sum(network.steps for network in _payload(row["envelope"], Result).networks)
        works.append(
            Work(
                campaign=name,
                host=row["worker"],
                received_at=row["received_at"],
                settled_at=row["since"],
                phase=row["phase"],
                event=row["event"],
                networks=row["networks"],
                segments=row["segments"],
                steps=steps,
            )
        )
    members = [
        Member(**{name: row[name] for name in Member.__dataclass_fields__})
        for row in ledger.execute("select * from hosts order by first_seen, host")
    ]
    return Activity(
        organizer=meta.get("organizer", ""),
        works=works,
        checks=list(_checks(ledger, campaign_of)),
        members=members,
        silent_seats=ledger.execute("select count(*) from seats where silent > 0").fetchone()[0],
    )


def _checks(ledger: sqlite3.Connection, campaign_of: dict[bytes, str]) -> Iterator[Check]:
    for row in ledger.execute(
        "select result, host, answered_at, envelope from answers order by answered_at, result, slot"
    ):
        yield Check(
            campaign=campaign_of[row["result"]],
            host=row["host"],
            answered_at=row["answered_at"],
            segments=len(_payload(row["envelope"], Answer).cells),
        )


def _payload(envelope: bytes, kind: type[M]) -> M:
    """What is in a message of the ledger: its signature held when it came in."""
    return msgspec.msgpack.decode(envelope_from_bytes(envelope, kind.BYTES_MAX).payload, type=kind)
