"""What a host finds in its inbox: challenges to its results, checks to do, outcomes, its standing."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection, and_, select

from coordinator.checking.cases import CampaignBook, CaseFiles, decode_envelope
from coordinator.ledger.database import Ledger
from coordinator.ledger.heartbeats import Presence
from coordinator.ledger.tables import answers, hosts, results, seats
from coordinator.policy.referee import LIVE, Phase
from protocol.trust.envelope import Envelope, seal, unseal
from protocol.trust.identity import Identity
from protocol.trust.messages import CheckRequest, Heartbeat, Inbox, OpeningRequest

CHECKS_MAX = 4  # at a time; the rest come when these are answered
CHECKS_BYTES_MAX = 5 * 1024 * 1024  # stays under Inbox.BYTES_MAX with the rest
SHARED_SECONDS = 0.2
BANNED_MAX = 1000  # the newest; older ones have lost their leases long ago


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """One look at the ledger for all inboxes."""

    version: int
    at: float  # monotonic seconds
    busy: frozenset[str]  # hosts that have something to upload or to check
    banned: tuple[str, ...]
    campaigns: tuple[tuple[str, str], ...]  # (digest, state)


class Inboxes:
    def __init__(
        self,
        identity: Identity,
        ledger: Ledger,
        book: CampaignBook,
        files: CaseFiles,
        presence: Presence,
        clock: Callable[[], float],
        shared_seconds: float = SHARED_SECONDS,
    ):
        self.identity, self.ledger, self.book, self.files = identity, ledger, book, files
        self.presence, self.clock, self.shared_seconds = presence, clock, shared_seconds
        self._shared: Shared | None = None

    def poll(self, envelope: Envelope) -> Envelope:
        """A signed heartbeat -> the signed inbox. A banned host learns why, and nothing else. Raises Refused."""
        beat = unseal(envelope, Heartbeat)
        host, now = envelope.signer, self.clock()
        version = self.ledger.version  # before we read, so that what we read is not older than it says
        with self.ledger.read() as connection:
            row = connection.execute(select(hosts).where(hosts.c.host == host)).first()
            banned = row.banned if row else ""
            if not banned:
                self.presence.see(host, beat, now)
            shared = self._look(connection, version)
            busy = not banned and host in shared.busy
            openings, missing = self._wanted(connection, host) if busy else ((), ())
            outcomes, unknown = self._outcomes(connection, beat) if beat.holding else ((), ())
            inbox = Inbox(
                nonce=beat.nonce,
                time=now,
                openings=openings,
                missing=missing,
                checks=self._checks(connection, host) if busy else (),
                outcomes=outcomes,
                unknown=unknown,
                credit=row.credit if row else 0,
                clean_bundles=row.clean_bundles if row else 0,
                banned=banned,
                banned_hosts=shared.banned,
                campaigns=shared.campaigns,
            )
        return seal(self.identity, inbox)

    def _look(self, connection: Connection, version: int) -> Shared:
        """What is the same in all inboxes, a fifth of a second old at most: a thousand hosts ask every second."""
        shared = self._shared
        if shared is None or (shared.version != version and time.monotonic() - shared.at >= self.shared_seconds):
            waiting = select(results.c.worker).where(results.c.phase.in_((Phase.COMMITTED, Phase.OPENING)))
            checking = select(results.c.digest).where(results.c.phase == Phase.CHECKING)
            seated = select(seats.c.host).where(seats.c.result.in_(checking), seats.c.silent == 0)
            busy = frozenset(connection.execute(waiting.union(seated)).scalars())
            shared = self._shared = Shared(
                version=version,
                at=time.monotonic(),
                busy=busy,
                banned=banned_hosts(connection),
                campaigns=tuple(self.book.states().items()),
            )
        return shared

    def _wanted(
        self, connection: Connection, host: str
    ) -> tuple[tuple[OpeningRequest, ...], tuple[tuple[bytes, str], ...]]:
        """What this host has to upload for its own results."""
        live = select(results.c.digest, results.c.phase, results.c.parts).where(
            results.c.worker == host, results.c.phase.in_((Phase.COMMITTED, Phase.OPENING))
        )
        openings, missing = [], []
        for row in connection.execute(live.order_by(results.c.received_at)):
            have = row.parts.split(",")
            missing += [(row.digest, part) for part in ("trace", "weights") if part not in have]
            if row.phase == Phase.OPENING and "trace" in have and "states" not in have:
                opened = self.files.get(row.digest).opened
                if opened:
                    openings.append(OpeningRequest(result=row.digest, cells=opened))
        return tuple(openings), tuple(missing)

    def _checks(self, connection: Connection, host: str) -> tuple[CheckRequest, ...]:
        """Slots this host has and has not answered, the oldest first."""
        answered = and_(answers.c.result == seats.c.result, answers.c.slot == seats.c.slot, answers.c.replay == 0)
        mine = (
            select(seats.c.result, seats.c.slot)
            .join(results, results.c.digest == seats.c.result)
            .outerjoin(answers, answered)
            .where(seats.c.host == host, seats.c.silent == 0, results.c.phase == Phase.CHECKING)
            .where(answers.c.slot.is_(None))
            .order_by(seats.c.since, seats.c.slot)
            .limit(CHECKS_MAX)
        )
        checks: list[CheckRequest] = []
        size = 0
        for row in connection.execute(mine):
            try:
                request = self.files.check_request(self.files.get(row.result), row.slot)
            except OSError:  # a blob of ours is gone: `checks` finds out and asks the worker again
                continue
            size += len(msgspec.msgpack.encode(request))
            if checks and size > CHECKS_BYTES_MAX:
                break
            checks.append(request)
        return tuple(checks)

    def _outcomes(self, connection: Connection, beat: Heartbeat) -> tuple[tuple[Envelope, ...], tuple[bytes, ...]]:
        named = select(results.c.digest, results.c.phase, results.c.admission).where(results.c.digest.in_(beat.holding))
        found = {row.digest: row for row in connection.execute(named)}
        settled = [r for r in found.values() if r.admission is not None and r.phase not in LIVE]
        outcomes = tuple(decode_envelope(row.admission) for row in settled)
        return outcomes, tuple(digest for digest in beat.holding if digest not in found)


def banned_hosts(connection: Connection) -> tuple[str, ...]:
    newest = select(hosts.c.host).where(hosts.c.banned != "").order_by(hosts.c.last_seen.desc()).limit(BANNED_MAX)
    return tuple(sorted(connection.execute(newest).scalars()))
