"""What a heartbeat is answered with: `coordinator.server.inbox` over the simulated ledger."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.policy.campaigns import as_told
from coordinator.policy.inbox import CHECKS_MAX, OwnResult, allowance_of, uploads_wanted
from coordinator.policy.phases import LIVE, Phase
from coordinator.policy.presence import ask_again_seconds, gather_seconds
from protocol.engine import state_bytes_length
from protocol.trust.allowance import Allowance
from protocol.trust.commitment import bundle_leaves, context, merkle_levels
from protocol.trust.envelope import unseal
from protocol.trust.messages import Admission, CampaignState, CheckRequest, OpeningRequest
from protocol.trust.openings import make_openings
from simulation.actors.ledger import Ledger, Row

if TYPE_CHECKING:
    from simulation.actors.organizer import Organizer


COUNT_SECONDS = 5.0  # who is here and who is busy is counted this often


class Pace:
    """How often hosts are told to ask: as the real policy says, and never more often than the options have it."""

    def __init__(self, organizer: "Organizer"):
        self.organizer, self.world = organizer, organizer.world
        self._counted_at, self._busy, self._present = -COUNT_SECONDS, frozenset[str](), 0

    def ask_again(self, host: str, waits: bool) -> float | None:
        """Seconds; None: as the options say."""
        if self.world.kernel.now - self._counted_at >= COUNT_SECONDS:
            self._count()
        told = ask_again_seconds(waits or host in self._busy, len(self._busy), self._present)
        return told if told > self.world.options.poll_seconds else None

    def gather(self) -> float:
        """Seconds for which hosts gather what they have to say."""
        return gather_seconds(len(self._busy))

    def _count(self) -> None:
        ledger, now = self.organizer.ledger, self.organizer.now()
        self._counted_at = self.world.kernel.now
        self._present = sum(now - seen <= self.world.presence_seconds for seen in ledger.last_seen.values())
        self._busy = frozenset(ledger.busy())


@dataclass(frozen=True, slots=True, kw_only=True)
class Inbox:
    """As `messages.Inbox`, unsigned and without what only the wire needs."""

    openings: tuple[OpeningRequest, ...] = ()
    missing: tuple[tuple[bytes, str], ...] = ()
    checks: tuple[CheckRequest, ...] = ()
    outcomes: tuple[Admission, ...] = ()
    unknown: tuple[bytes, ...] = ()
    credit: int
    clean_bundles: int
    banned: str
    banned_hosts: tuple[str, ...]
    campaigns: tuple[tuple[str, str], ...]
    allowance: Allowance | None = None
    ask_again_seconds: float | None = None
    gather_seconds: float = 0.0


def make(organizer: "Organizer", host: str, holding: tuple[bytes, ...], ask_again: float | None) -> Inbox:
    ledger = organizer.ledger
    row = ledger.host(host)
    openings, missing, checks = (), (), ()
    if not row.banned:
        live = [found for found in row.unsettled.values() if found.phase is not Phase.CHECKING]
        if live:
            openings, missing = uploads_wanted(
                OwnResult(digest=r.digest, phase=r.phase, parts=r.blobs.keys(), opened=r.opened) for r in live
            )
        duties = ledger.duties(host)
        if duties:
            checks = tuple(_check_request(organizer, r, slot, host) for r, slot in duties[:CHECKS_MAX])
    named = [(digest, ledger.rows.get(digest)) for digest in holding] if holding else []
    return Inbox(
        openings=openings,
        missing=missing,
        checks=checks,
        outcomes=tuple(
            unseal(found.admission, Admission)
            for _, found in named
            if found is not None and found.phase not in LIVE and found.admission is not None
        ),
        unknown=tuple(digest for digest, found in named if found is None),
        credit=row.credit,
        clean_bundles=row.clean_bundles,
        banned=row.banned,
        banned_hosts=ledger.banned_hosts,
        campaigns=tuple(as_told({ledger.campaign.digest: CampaignState(ledger.state)}, _audited(ledger)).items()),
        allowance=None if row.banned else _allowance(organizer, host),
        ask_again_seconds=ask_again,
        gather_seconds=organizer.pace.gather(),
    )


def _audited(ledger: Ledger) -> tuple[str, ...]:
    return (ledger.campaign.digest,) if ledger.owed else ()


def _allowance(organizer: "Organizer", host: str) -> Allowance:
    """As `coordinator.ledger.allowances` has it, unsigned: the simulated DHT takes every claim."""
    assignments, patience, _ = allowance_of(organizer.ledger.pace(host))
    return Allowance(assignments, patience, 1 << 39, bytes(64))


def _check_request(organizer: "Organizer", row: Row, slot: int, host: str) -> CheckRequest:
    """What a checker gets; it shows no end state. Made once."""
    key = row.digest, slot, host
    if key not in organizer.requests:
        assert row.receipt is not None and row.draw_envelope is not None and row.phase is Phase.CHECKING
        task, assignment = row.tasks[slot], row.assignment
        ctx = context(assignment.campaign, assignment.index, row.worker)
        levels = merkle_levels(bundle_leaves(ctx, row.result.networks))
        organizer.requests[key] = CheckRequest(
            result=row.envelope,
            receipt=row.receipt,
            draw=row.draw_envelope,
            slot=slot,
            states=state_bytes_length(assignment.recipe) * len(task.opened),
            openings=make_openings(ctx, assignment.seeds, row.traces, task, levels),
            seat=row.seat(host),
        )
    return organizer.requests[key]
