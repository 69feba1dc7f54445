"""The organizer's ledger in dictionaries: what is durable, and how decisions of the policy change it.

The real ledger stores the same decisions in SQL (`coordinator/ledger/`). A crash of the organizer's server loses
nothing of what is here, and all of what is in `organizer`.
"""

from collections import Counter
from dataclasses import dataclass, field

from coordinator.policy.auditing import OWED, Audit
from coordinator.policy.campaigns import without_one
from coordinator.policy.facts import FAULT_WINDOW, HostRecord, StoredResult
from coordinator.policy.inbox import PACE_BUNDLES
from coordinator.policy.phases import Event, Phase, next_phase
from coordinator.policy.presence import present_until
from coordinator.policy.receive import Reception
from coordinator.policy.referee import Checker
from coordinator.policy.settle import Settlement
from coordinator.policy.standing import FALSE_ACCUSATIONS_MAX
from protocol.recipes.campaign import Assignment, Campaign
from protocol.swarm.records import SHARD_SIZE
from protocol.trust.challenge import SlotTask
from protocol.trust.commitment import Trace
from protocol.trust.envelope import Envelope
from protocol.trust.messages import CampaignState, Cell, Draw, Receipt, Result, Seat
from protocol.trust.verdict import Verdict


@dataclass(kw_only=True, eq=False)
class Row:
    """One result with all that the organizer has of it. Times are seconds since 1970."""

    envelope: Envelope
    digest: bytes
    result: Result
    assignment: Assignment
    worker: str
    receipt: Envelope | None
    epoch: int
    received_at: float
    segments: tuple[int, ...]  # of each network
    phase: Phase
    since: float
    event: str = ""
    reason: str = ""
    fault: bool = False
    audit: Audit = Audit.NONE
    vests_at: int = 0
    admission: Envelope | None = None
    draw: Draw | None = None
    draw_envelope: Envelope | None = None
    tasks: tuple[SlotTask, ...] = ()
    ranked: tuple[Seat, ...] = ()
    opened: tuple[Cell, ...] = ()
    blobs: dict[str, bytes] = field(default_factory=dict)  # by part
    traces: list[Trace] = field(default_factory=list)  # parsed
    checkers: dict[int, Checker] = field(default_factory=dict)
    silent: set[tuple[int, str]] = field(default_factory=set)
    answers: dict[int, tuple[Verdict, Envelope]] = field(default_factory=dict)
    replays: dict[int, tuple[Verdict, Envelope]] = field(default_factory=dict)

    @property
    def stored(self) -> StoredResult:
        return StoredResult(
            digest=self.digest,
            campaign=self.result.campaign,
            assignment=self.result.assignment,
            worker=self.worker,
            phase=self.phase,
            networks=len(self.segments),
            segments=sum(self.segments),
            event=self.event,
            uploaded=self.blobs.keys() >= {"trace", "weights"},
            drawn=self.draw is not None,
            vests_at=self.vests_at,
        )

    @property
    def awaits(self) -> bool:
        """Whether a slot is open until somebody has room for it."""
        return self.phase is Phase.CHECKING and len(self.checkers) < len(self.tasks)

    def seat(self, host: str) -> Seat | None:
        """Why this host may check; none for the organizer."""
        return next((seat for seat in self.ranked if seat.host == host), None)

    @property
    def parts(self) -> frozenset[str]:
        """What has to be uploaded; states are known once the draw is made."""
        return frozenset(("trace", "weights", *(("states",) if self.opened else ())))


@dataclass(eq=False)
class HostRow:
    host: str
    credit: int = 0
    clean_bundles: int = 0
    admissions: int = 0
    convicted: bool = False
    false_accusations: int = 0
    banned: str = ""
    banned_at: float = 0.0
    last_seen: float = 0.0
    tag: bytes = b""  # of its network's prefix
    settled: dict[bytes, bool] = field(default_factory=dict)  # (digest, whether a fault), the oldest first
    unsettled: dict[bytes, Row] = field(default_factory=dict)  # in order of arrival
    admitted_at: list[float] = field(default_factory=list)  # when its last admitted bundles were handed in
    unvested: dict[bytes, Row] = field(default_factory=dict)  # in order of admission


@dataclass(eq=False)
class Ledger:
    """Everything that survives the server. `changed` names results whose case has to be looked at."""

    campaign: Campaign
    epoch: int = 0
    revealed_at: float = 0.0
    state: str = "running"
    admitted: int = 0
    rows: dict[bytes, Row] = field(default_factory=dict)
    live: dict[bytes, Row] = field(default_factory=dict)
    hosts: dict[str, HostRow] = field(default_factory=dict)
    by_assignment: dict[int, list[Row]] = field(default_factory=dict)
    registered: set[tuple[str, int]] = field(default_factory=set)  # (recipe, seed) of admitted networks
    changed: dict[bytes, None] = field(default_factory=dict)
    owed: dict[bytes, Row] = field(default_factory=dict)  # audits and judgements
    unpublished: dict[int, None] = field(default_factory=dict)  # shards whose done bits may have changed
    last_seen: dict[str, float] = field(default_factory=dict)  # by host: as the policy counts it (`presence`)
    false_accusers: frozenset[str] = frozenset()
    banned: frozenset[str] = frozenset()
    banned_hosts: tuple[str, ...] = ()  # the same, sorted
    unanswered: Counter[str] = field(default_factory=Counter)  # by host: slots that it has in hand; none at 0
    waiting: dict[str, dict[bytes, None]] = field(default_factory=dict)  # by host: results with a slot that awaits it
    _said: dict[str, dict[bytes, None]] = field(default_factory=dict)  # by host: results that it answered about
    _duties: dict[str, dict[tuple[bytes, int], None]] = field(default_factory=dict)  # by checker

    def host(self, name: str) -> HostRow:
        return self.hosts.setdefault(name, HostRow(name))

    def seen(self, name: str, now: float, presence_seconds: float, ask_again: float = 0.0) -> None:
        """Heard now; whoever was told to ask more rarely is here for longer."""
        self.host(name).last_seen = now
        self.last_seen[name] = present_until(now, ask_again, presence_seconds) - presence_seconds

    def busy(self) -> set[str]:
        """Hosts that wait for an outcome, or have something to check."""
        checking = [row.checkers.values() for row in self.live.values() if row.phase is Phase.CHECKING]
        return {row.worker for row in self.live.values()} | {checker.host for seats in checking for checker in seats}

    def record(self, name: str) -> HostRecord:
        """What the policy may know of a host."""
        host = self.hosts.get(name)
        if host is None:
            return HostRecord(host=name)
        return HostRecord(
            host=name,
            banned=host.banned,
            convicted=host.convicted,
            admissions=host.admissions,
            settled=tuple(reversed(list(host.settled.items())[-FAULT_WINDOW:])),
            unsettled=tuple(row.stored for row in host.unsettled.values()),
            unvested=tuple(row.stored for row in host.unvested.values()),
        )

    def pace(self, name: str) -> list[float]:
        """When this host's last admitted bundles were handed in, the newest first."""
        return list(reversed(self.host(name).admitted_at))

    def left_open(self, name: str) -> int:
        """Results that this host did not open in time, since its last admitted one."""
        late = 0
        for digest in reversed(self.host(name).settled):
            row = self.rows[digest]
            if row.phase is Phase.ADMITTED:
                break
            late += row.event == Event.OVERDUE
        return late

    def touch(self, row: Row) -> None:
        self.changed[row.digest] = None
        self.unpublished[row.result.assignment // SHARD_SIZE] = None

    def insert(self, row: Row) -> None:
        self.rows[row.digest] = self.live[row.digest] = row
        self.by_assignment.setdefault(row.result.assignment, []).append(row)
        self.host(row.worker).unsettled[row.digest] = row
        self.touch(row)

    def move(self, row: Row, event: Event, now: float) -> bool:
        """One transition that settles nothing; False when it comes too late."""
        phase = next_phase(row.phase, event)
        if phase is None:
            return False
        row.phase, row.event, row.since = phase, event, now
        self.live[row.digest] = self.host(row.worker).unsettled[row.digest] = row
        self.host(row.worker).settled.pop(row.digest, None)
        self.touch(row)
        return True

    def assign(self, row: Row, slot: int, checker: Checker) -> None:
        row.checkers[slot] = checker
        self.unanswered[checker.host] += 1
        self._duties.setdefault(checker.host, {})[row.digest, slot] = None

    def unassign(self, row: Row, slot: int) -> None:
        """Its checker is silent: the slot is nobody's."""
        self._has_room(row.checkers.pop(slot).host)

    def answered(self, row: Row, slot: int) -> None:
        """Its checker has one less in hand."""
        if row.phase is Phase.CHECKING:
            self._has_room(row.checkers[slot].host)

    def _has_room(self, host: str) -> None:
        """One check less: whoever awaits it the longest is looked at."""
        self.unanswered[host] -= 1
        if not self.unanswered[host]:
            del self.unanswered[host]
        waiting = self.waiting.get(host, {})
        while waiting:
            first = next(iter(waiting))
            del waiting[first]
            if self.rows[first].awaits:
                self.changed[first] = None
                break

    def said(self, host: str, row: Row) -> None:
        """It answered: its word stands behind this result."""
        self._said.setdefault(host, {})[row.digest] = None

    def duties(self, host: str) -> list[tuple[Row, int]]:
        """Slots that this host has and has not answered, the oldest first."""
        mine = self._duties.get(host)
        if not mine:
            return []
        found = []
        for digest, slot in list(mine):
            row = self.rows[digest]
            checker = row.checkers.get(slot)
            if row.phase is Phase.CHECKING and slot not in row.answers and checker and checker.host == host:
                found.append((row, slot))
            else:
                del mine[digest, slot]
        return found

    def reopen(self, row: Row, now: float) -> None:
        assert self.move(row, Event.HANDED_IN_AGAIN, now)
        row.fault, row.reason, row.admission = False, "", None

    def store(self, settlement: Settlement, signed: dict[bytes, Envelope], now: float) -> None:
        """Write a settlement; `signed` are its admissions by result."""
        for outcome in settlement.outcomes:
            row = self.rows[outcome.result.digest]
            for slot in row.checkers.keys() - row.answers.keys():
                self.answered(row, slot)
            row.phase, row.event, row.since = outcome.phase, outcome.event, now
            row.reason, row.fault, row.admission = outcome.reason, outcome.fault, signed[row.digest]
            self.live.pop(row.digest, None)
            host = self.host(row.worker)
            host.unsettled.pop(row.digest, None)
            host.settled.pop(row.digest, None)
            host.settled[row.digest] = outcome.fault
            self.owe(row, outcome.audit)
            self.touch(row)
            if outcome.retracts:
                self._take_back(row)
        if settlement.ban is not None:
            host = self.host(settlement.ban.host)
            host.banned, host.banned_at = settlement.ban.why, now
            self.banned |= {host.host}
            self.banned_hosts = tuple(sorted(self.banned))
        if settlement.admit is not None:
            admit = settlement.admit
            host = self.host(admit.host)
            host.credit += admit.credit
            received = [self.rows[outcome.result.digest].received_at for outcome in settlement.outcomes[:1]]
            host.admitted_at = [*host.admitted_at, *received][-PACE_BUNDLES:]
            host.clean_bundles += admit.shows_work
            host.admissions += admit.shows_work
            self.admitted += 1
            row = self.rows[settlement.outcomes[0].result.digest]
            row.vests_at = admit.vests_at
            host.unvested[row.digest] = row
            for digest in admit.vested:
                del host.unvested[digest]
            self.registered.update((admit.recipe, seed) for seed in admit.seeds)
            if admit.completes:
                self.state = "complete"
        if settlement.convicted:
            self._suspect(settlement.convicted)
        for accusation in settlement.false_accusations:
            accuser = self.host(accusation.host)
            accuser.false_accusations += 1
            if accuser.false_accusations >= FALSE_ACCUSATIONS_MAX:
                self.false_accusers |= {accuser.host}

    def owe(self, row: Row, audit: Audit) -> None:
        row.audit = audit
        self.owed.pop(row.digest, None)
        if audit in OWED:
            self.owed[row.digest] = row

    def _take_back(self, row: Row) -> None:
        host = self.host(row.worker)
        host.credit -= sum(row.segments)
        host.clean_bundles -= row.stored.shows_work
        host.unvested.pop(row.digest, None)
        self.admitted -= 1
        self.registered -= {(row.assignment.recipe.digest, seed) for seed in row.assignment.seeds}
        self.state = without_one(CampaignState(self.state))

    def _suspect(self, liar: str) -> None:
        host = self.host(liar)
        host.convicted = True
        for digest in {**host.settled, **self._said.get(liar, {})}:
            if self.rows[digest].phase is Phase.ADMITTED:
                self.owe(self.rows[digest], Audit.SUSPECT)

    def receive(self, reception: Reception, row: Row, signed: dict[bytes, Envelope], now: float) -> None:
        """Write a reception, in the order that it states."""
        if reception.store is not None:
            self.insert(row)
        self.store(reception.settlement, signed, now)
        if reception.reopen:
            stored = self.rows[row.digest]
            if isinstance(reception.reply, Receipt):
                stored.receipt, stored.epoch = row.receipt, row.epoch
            self.reopen(stored, now)

    def done_bits(self, first: int, size: int) -> int:
        """Bit i: assignment first + i has a result that is admitted or being judged."""
        bits = 0
        for index in range(first, first + size):
            for row in self.by_assignment.get(index, ()):
                if row.stored.holds:
                    bits |= 1 << index - first
                    break
        return bits
