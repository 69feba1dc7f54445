"""What a host finds in its inbox: challenges to its results, checks to do, outcomes, its standing."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, and_, bindparam, select, union

from coordinator.checking.cases import decode_envelope
from coordinator.checking.stores import Stores
from coordinator.ledger.allowances import AllowanceBook
from coordinator.ledger.audits import read_audited
from coordinator.ledger.commands import read_orders
from coordinator.ledger.done import DoneBits
from coordinator.ledger.heartbeats import Heartbeats
from coordinator.ledger.prepared import Prepared
from coordinator.ledger.tables import answers, checkers, hosts, results
from coordinator.policy.campaigns import as_told, claimable_below
from coordinator.policy.inbox import ASKED, CHECKS_MAX, OwnResult, Wanted, bans_to_tell, check_fits, uploads_wanted
from coordinator.policy.phases import LIVE, Phase
from coordinator.policy.presence import PRESENCE_SECONDS, ask_again_seconds, check_time, gather_seconds
from protocol.errors import Refused
from protocol.trust.envelope import Envelope, seal, unseal
from protocol.trust.identity import Identity
from protocol.trust.messages import (
    CampaignOrder,
    CampaignState,
    CertificateRequest,
    CheckRequest,
    CreditCertificate,
    Heartbeat,
    Inbox,
)

SHARED_SECONDS = 0.2
PRESENT_SECONDS = 2.0  # without any change in the ledger, hosts are counted this often

STANDING = Prepared(
    select(hosts.c.banned, hosts.c.credit, hosts.c.escrow, hosts.c.clean_bundles).where(
        hosts.c.host == bindparam("host")
    )
)
EARNED = Prepared(select(hosts).where(hosts.c.host == bindparam("host")))
OWN_RESULTS = Prepared(
    select(results.c.digest, results.c.phase, results.c.parts)
    .where(results.c.worker == bindparam("host"), results.c.phase.in_(ASKED))
    .order_by(results.c.received_at)
)
ANSWERED = and_(answers.c.result == checkers.c.result, answers.c.slot == checkers.c.slot, answers.c.replay == 0)
OWN_CHECKS = Prepared(
    select(checkers.c.result, checkers.c.slot)
    .join(results, results.c.digest == checkers.c.result)
    .outerjoin(answers, ANSWERED)
    .where(checkers.c.host == bindparam("host"), checkers.c.silent == 0, results.c.phase == Phase.CHECKING)
    .where(answers.c.slot.is_(None))
    .order_by(checkers.c.since, checkers.c.slot)
    .limit(CHECKS_MAX)
)
BUSY = Prepared(
    union(  # hosts that wait for an outcome, or have something to upload or to check
        select(results.c.worker).where(results.c.phase.in_(LIVE)),
        select(checkers.c.host)
        .join(results, results.c.digest == checkers.c.result)
        .where(results.c.phase == Phase.CHECKING, checkers.c.silent == 0),
    )
)
BANNED = Prepared(select(hosts.c.host).where(hosts.c.banned > "").order_by(hosts.c.host))
NAMES = tuple(f"digest{i}" for i in range(8))  # of results, asked for together
NAMED = Prepared(
    select(results.c.digest, results.c.phase, results.c.admission).where(
        results.c.digest.in_([bindparam(name) for name in NAMES])
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """One look at the ledger for all inboxes."""

    version: int
    at: float  # seconds since 1970
    busy: frozenset[str]  # hosts that wait for an outcome, or have something to upload or to check
    present: int  # hosts
    campaigns: tuple[tuple[str, str], ...]  # (digest, state)
    orders: tuple[CampaignOrder, ...]


class Inboxes:
    def __init__(
        self,
        stores: Stores,
        presence: Heartbeats,
        identity: Identity,
        clock: Callable[[], float],
        shared_seconds: float = SHARED_SECONDS,
    ):
        self.stores, self.presence, self.identity = stores, presence, identity
        self.clock, self.shared_seconds = clock, shared_seconds
        self._shared: Shared | None = None
        self._allowances = AllowanceBook(identity, clock)
        self._looking = threading.Lock()
        self._bans: tuple[str, ...] = ()  # in the order in which they were seen
        self._done: dict[str, DoneBits] = {}  # of campaigns with a quota
        self._bans_list = int(1e3 * clock()) % 2**31  # another list after a restart: its order may be another

    def poll(self, envelope: Envelope, address: str = "") -> Envelope:
        """A signed heartbeat, and the IP address that it came from -> the signed inbox. Raises Refused."""
        beat = unseal(envelope, Heartbeat)
        return seal(self.identity, self.inbox(envelope.signer, beat, address))

    def certificate(self, host: str, request: CertificateRequest) -> CreditCertificate:
        """What this host has earned until now. Raises Refused: a request that is old, nothing earned, or banned."""
        now = self.clock()
        check_time(request.issued_at, None, now)
        with self.stores.ledger.read() as connection:
            row = EARNED.first(connection, host=host)
        if row is None or not row.admissions:
            raise Refused("certificate", "nothing of this host's is admitted yet")
        if row.banned:
            raise Refused("banned", row.banned)
        return CreditCertificate(
            nonce=request.nonce,
            host=host,
            name=row.name,
            credit=row.credit,
            escrow=row.escrow,
            bundles=row.admissions,
            first_seen=row.first_seen,
            issued_at=now,
        )

    def inbox(self, host: str, beat: Heartbeat, address: str = "") -> Inbox:
        """A banned host learns why, and nothing else. Raises Refused."""
        now = self.clock()
        version = self.stores.ledger.version  # before we read, so that what we read is not older than it says
        with self.stores.ledger.read() as connection:
            row = STANDING.first(connection, host=host)
            banned = row.banned if row else ""
            shared = self._look(connection, version, now)
            busy = not banned and host in shared.busy
            ask_again = ask_again_seconds(busy or bool(beat.holding), len(shared.busy), shared.present)
            if not banned:
                self.presence.see(host, beat, now, address, ask_again=ask_again, known=row is not None)
            banned_hosts, bans_known = self._new_bans(beat)
            openings, missing = self._wanted(connection, host) if busy else ((), ())
            outcomes, unknown = self._outcomes(connection, beat) if beat.holding else ((), ())
            return Inbox(
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
                banned_hosts=banned_hosts,
                campaigns=shared.campaigns,
                orders=shared.orders,
                allowance=None if banned else self._allowances.of(connection, host),
                ask_again_seconds=ask_again,
                bans_list=self._bans_list,
                bans_known=bans_known,
                escrow=row.escrow if row else 0,
                gather_seconds=gather_seconds(len(shared.busy)),
            )

    def _new_bans(self, beat: Heartbeat) -> tuple[tuple[str, ...], int]:
        return bans_to_tell(self._bans, beat.bans_known if beat.bans_list == self._bans_list else 0)

    def _look(self, connection: Connection, version: int, now: float) -> Shared:
        """What is the same in all inboxes, a fifth of a second old at most: thousands of hosts ask."""
        shared = self._shared
        if shared is None or self._is_old(shared, version, now):
            with self._looking:
                shared = self._shared
                if shared is None or self._is_old(shared, version, now):
                    shared = self._shared = self._look_now(connection, version, now)
        return shared

    def _is_old(self, shared: Shared, version: int, now: float) -> bool:
        seconds = PRESENT_SECONDS if shared.version == version else self.shared_seconds
        return not 0 <= now - shared.at < seconds

    def _look_now(self, connection: Connection, version: int, now: float) -> Shared:
        banned, known = list(BANNED.scalars(connection)), set(self._bans)
        if not known <= set(banned):  # somebody was let in again: all lists begin anew
            self._bans, self._bans_list, known = (), self._bans_list + 1, set()
        self._bans += tuple(host for host in banned if host not in known)
        states = self.stores.campaigns.states()
        return Shared(
            version=version,
            at=now,
            busy=frozenset(BUSY.scalars(connection)),
            present=self.presence.count_present(now, PRESENCE_SECONDS),
            campaigns=tuple(as_told(states, read_audited(connection)).items()),
            orders=self._orders(connection, states, now),
        )

    def _orders(
        self, connection: Connection, states: Mapping[str, CampaignState], now: float
    ) -> tuple[CampaignOrder, ...]:
        """Of the running campaigns about which the organizer has said something since he seeded them."""
        told = []
        for digest, order in read_orders(connection).items():
            if states.get(digest) is CampaignState.RUNNING:
                assignments = self.stores.campaigns.get(digest)[0].assignment_count
                done = self._done.setdefault(digest, DoneBits(digest)).look(connection, now) if order.max_leased else {}
                below = claimable_below(done, assignments, order.max_leased)
                told.append(CampaignOrder(campaign=digest, priority=order.priority, below=below))
        return tuple(told)

    def _wanted(self, connection: Connection, host: str) -> Wanted:
        """What this host has to upload for its own results."""
        return uploads_wanted(
            OwnResult(
                digest=row.digest,
                phase=Phase(row.phase),
                parts=row.parts.split(","),
                opened=self.stores.cases.get(row.digest).opened if row.phase == Phase.OPENING else (),
            )
            for row in OWN_RESULTS.all(connection, host=host)
        )

    def _checks(self, connection: Connection, host: str) -> tuple[CheckRequest, ...]:
        """Slots this host has and has not answered, the oldest first."""
        checks: list[CheckRequest] = []
        size = 0
        for row in OWN_CHECKS.all(connection, host=host):
            try:
                request = self.stores.cases.check_request(self.stores.cases.get(row.result), row.slot, host)
            except OSError:  # a blob of ours is gone: `own_checks` finds out and asks the worker again
                continue
            size += len(msgspec.msgpack.encode(request))
            if not check_fits(len(checks), size):
                break
            checks.append(request)
        return tuple(checks)

    def _outcomes(self, connection: Connection, beat: Heartbeat) -> tuple[tuple[Envelope, ...], tuple[bytes, ...]]:
        """(Admissions of the results that the host holds, those that the ledger does not know)."""
        known: dict[bytes, Any] = {}
        for begin in range(0, len(beat.holding), len(NAMES)):
            some = beat.holding[begin : begin + len(NAMES)]
            names = {name: some[i] if i < len(some) else b"" for i, name in enumerate(NAMES)}
            known |= {row.digest: row for row in NAMED.all(connection, **names)}
        rows = [known[digest] for digest in dict.fromkeys(beat.holding) if digest in known]
        settled = [row for row in rows if row.admission is not None and row.phase not in LIVE]
        outcomes = tuple(decode_envelope(row.admission) for row in settled)
        return outcomes, tuple(digest for digest in dict.fromkeys(beat.holding) if digest not in known)
