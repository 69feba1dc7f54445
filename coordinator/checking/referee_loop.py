"""Acts on the referee's rulings: gathers the unsettled results from the ledger, asks, and does what was ruled."""

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import lru_cache
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, and_, select

from coordinator.checking.beacon import Beacon
from coordinator.checking.effects import Effects
from coordinator.checking.own_checks import OwnChecks
from coordinator.checking.rosters import Rosters
from coordinator.checking.stores import Stores
from coordinator.ledger.database import LedgerUnavailable, get_meta
from coordinator.ledger.facts import holds
from coordinator.ledger.heartbeats import Heartbeats
from coordinator.ledger.places import take_up
from coordinator.ledger.prepared import Prepared
from coordinator.ledger.results import add_draw, begin_checks, give_slot, reassign, reveal
from coordinator.ledger.settlement import Sign, settle_result
from coordinator.ledger.tables import answers, checkers, hosts, results
from coordinator.policy.actions import Action, NewsKind
from coordinator.policy.auditing import chance_wants
from coordinator.policy.phases import LIVE, Phase
from coordinator.policy.referee import (
    NOBODY,
    BeginChecks,
    CaseState,
    Checker,
    CheckSlot,
    GiveSlot,
    MakeDraw,
    Reassign,
    ReplaySlot,
    Ruling,
    Settle,
    Situation,
    TakeUp,
    reveal_due,
    rule_all,
    unanswered,
)
from coordinator.policy.standing import FALSE_ACCUSATIONS_MAX, Standing, bar_of, stands
from protocol.trust.verdict import Verdict

CHECKING = select(results.c.digest).where(results.c.phase == Phase.CHECKING)
CASES = Prepared(
    select(
        *(results.c[name] for name in ("digest", "campaign", "worker", "phase", "since", "epoch", "parts")),
        hosts.c.clean_bundles,
        hosts.c.credit,
        hosts.c.false_accusations,
    )
    .outerjoin(hosts, hosts.c.host == results.c.worker)
    .where(results.c.phase.in_(LIVE))
    .order_by(results.c.received_at)
)
CHECKERS = Prepared(select(checkers).where(checkers.c.result.in_(CHECKING)))
VERDICTS = Prepared(
    select(answers.c.result, answers.c.slot, answers.c.replay, answers.c.verdict).where(answers.c.result.in_(CHECKING))
)
RIVAL, KEPT = results.alias(), results.alias()
HOLDERS = Prepared(  # who has the assignment of each kept result
    select(KEPT.c.digest, RIVAL.c.phase)
    .join(RIVAL, and_(RIVAL.c.campaign == KEPT.c.campaign, RIVAL.c.assignment == KEPT.c.assignment))
    .where(KEPT.c.phase == Phase.KEPT, holds(RIVAL))
)
BANNED = Prepared(select(hosts.c.host).where(hosts.c.banned > ""))
FALSE_ACCUSERS = Prepared(select(hosts.c.host).where(hosts.c.false_accusations >= FALSE_ACCUSATIONS_MAX))
OPENED = (Phase.OPENING, Phase.KEPT)  # something of theirs may be missing
VERDICTS_KEPT = 256  # in memory, some hundred bytes each
LOOK_SECONDS = 1.0  # without any change in the ledger, time alone is a reason to look this often
IDLE_LOOK_SECONDS = 10.0  # and so often where nothing was unsettled

Begun = tuple[Future[Any], Callable[[Any], None]]  # a change of the ledger, and what follows from its value

log = logging.getLogger(__name__)


class RefereeLoop:
    """`tick` is called by one thread, every 0.2 s or when `woken`."""

    def __init__(
        self,
        stores: Stores,
        beacon: Beacon,
        organizer: str,
        sign: Sign,
        presence: Heartbeats,
        effects: Effects,
        own_checks: OwnChecks,
        woken: threading.Event,
        clock: Callable[[], float],
        presence_seconds: float,
        audit_secret: bytes,
    ):
        self.stores, self.beacon, self.organizer, self.sign = stores, beacon, organizer, sign
        self.presence, self.effects, self.own_checks = presence, effects, own_checks
        self.woken, self.clock, self.presence_seconds = woken, clock, presence_seconds
        self._rosters = Rosters(presence, presence_seconds)
        self._audit_secret = audit_secret
        self._seen_version, self._looked_at, self._idle = -1, 0.0, False
        self._said_exhausted = False

    def tick(self) -> None:
        """Look, rule, act; cheap when nothing happened. Raises LedgerUnavailable."""
        now = self.clock()
        self.presence.flush(now)
        woken = self.woken.is_set()
        self.woken.clear()
        version = self.stores.ledger.version
        rest = IDLE_LOOK_SECONDS if self._idle else LOOK_SECONDS
        if not woken and version == self._seen_version and 0 <= now - self._looked_at < rest:
            return
        self._seen_version, self._looked_at = version, now
        with self.stores.ledger.read() as connection:
            cases = self._cases(connection)
            situation = self._situation(connection, now, unanswered(cases))
        self._idle = not cases
        if reveal_due(cases, situation) and self._links_left(situation.epoch):
            self.stores.ledger.write(lambda c: reveal(c, now))  # durable before anybody sees the link
            return
        begun = [self._act(ruling, case, now) for case, ruling in rule_all(cases, situation)]
        finish([change for change in begun if change is not None])

    def _links_left(self, epoch: int) -> bool:
        if epoch < self.beacon.length:
            return True
        if not self._said_exhausted:
            log.error("all %d links of the beacon have been shown: start a new directory", self.beacon.length)
            self._said_exhausted = True
        return False

    # -- gathering -----------------------------------------------------------------------------------------------

    def _situation(self, connection: Connection, now: float, in_hand: Mapping[str, int]) -> Situation:
        return Situation(
            now=now,
            organizer=self.organizer,
            epoch=int(get_meta(connection, "epoch", "0")),
            revealed_at=float(get_meta(connection, "revealed_at", "0")),
            last_seen=self.presence.counted_from(self.presence_seconds),
            banned=frozenset(BANNED.scalars(connection)),
            false_accusers=frozenset(FALSE_ACCUSERS.scalars(connection)),
            presence_seconds=self.presence_seconds,
            unanswered=in_hand,
        )

    def _cases(self, connection: Connection) -> list[CaseState]:
        assigned: dict[bytes, dict[int, Checker]] = defaultdict(dict)
        silent: dict[bytes, set[tuple[int, str]]] = defaultdict(set)
        for row in CHECKERS.all(connection):
            if row.silent:
                silent[row.result].add((row.slot, row.host))
            else:
                assigned[row.result][row.slot] = Checker(row.host, row.since)
        verdicts: dict[tuple[bytes, int], dict[int, Verdict]] = defaultdict(dict)
        for row in VERDICTS.all(connection):
            verdicts[row.result, row.replay][row.slot] = _verdict(row.verdict)
        holders = {row.digest: Phase(row.phase) for row in HOLDERS.all(connection)}
        return [
            self._case_state(
                row,
                holder=holders.get(row.digest),
                checkers=assigned[row.digest],
                silent=frozenset(silent[row.digest]),
                answers=verdicts[row.digest, 0],
                replays=verdicts[row.digest, 1],
            )
            for row in CASES.all(connection)
        ]

    def _case_state(self, row: Row, **checks) -> CaseState:
        case = self.stores.cases.get(row.digest) if row.phase != Phase.COMMITTED else None
        campaign, _ = self.stores.campaigns.get(row.campaign)
        return CaseState(
            digest=row.digest,
            worker=row.worker,
            phase=Phase(row.phase),
            since=row.since,
            epoch=row.epoch,
            policy=campaign.policy,
            standing=case.draw.standing if case and case.draw else stands(_standing(row), bar_of(campaign)),
            missing=case.parts() - set(row.parts.split(",")) if case and row.phase in OPENED else frozenset(),
            slots=len(case.tasks) if case else 0,
            ranked=case.ranked if case else (),
            **checks,
        )

    # -- acting --------------------------------------------------------------------------------------------------

    def _act(self, ruling: Ruling, case: CaseState, now: float) -> Begun | None:
        """Do it; a change of the ledger only begins, so that all of one look share a commit."""
        digest, submit = ruling.result, self.stores.ledger.submit
        match ruling:
            case CheckSlot(_, slot):
                self.own_checks.ask(digest, slot, replay=False)
            case ReplaySlot(_, slot):
                self.own_checks.ask(digest, slot, replay=True)
            case MakeDraw(_, standing):
                with self.stores.ledger.read() as connection:
                    bar = bar_of(self.stores.cases.get(digest).campaign)
                    roster = self._rosters.get(connection, bar, case.epoch, now)
                link = self.beacon.link(case.epoch + 1)
                draw, ranked = self._rosters.draw(roster, digest, case.worker, link, case.policy, standing)
                signed = self.sign(draw)
                return submit(lambda c: add_draw(c, digest, signed, ranked, now)), _nothing
            case TakeUp():
                campaign, sign = self.stores.cases.get(digest).campaign, self.sign
                return submit(lambda c: take_up(c, digest, campaign, sign, now)), self.effects.perform
            case BeginChecks(_, assigned):
                return submit(lambda c: begin_checks(c, digest, assigned, now)), _nothing
            case GiveSlot(_, slot, host):
                return submit(lambda c: give_slot(c, digest, slot, host, now)), _nothing
            case Reassign(_, slot, silent_host, host):
                change = submit(lambda c: reassign(c, digest, slot, silent_host, host, now))
                return change, lambda done: self._say_silent(ruling) if done else None
            case Settle():
                return self._settle(ruling, now), self.effects.perform
        return None

    def _settle(self, ruling: Settle, now: float) -> Future[tuple[Action, ...]]:
        case = self.stores.cases.get(ruling.result)
        audit = chance_wants(self._audit_secret, case.digest, case.campaign.policy.audit_share)
        return self.stores.ledger.submit(
            lambda c: settle_result(
                c,
                case.digest,
                ruling.event,
                ruling.reason,
                case.campaign,
                self.sign,
                now,
                case.assignment,
                ruling.false_accusers,
                audit,
            )
        )

    def _say_silent(self, ruling: Reassign) -> None:
        case = self.stores.cases.get(ruling.result)
        who = {self.organizer: "the organizer", NOBODY: "who has room next"}.get(ruling.host, ruling.host)
        self.effects.report(
            NewsKind.SILENT,
            f"slot {ruling.slot} was not answered; {who} takes it",
            campaign=case.campaign.digest,
            assignment=case.assignment.index,
            host=ruling.silent,
        )


def finish(begun: Sequence[Begun]) -> None:
    """Wait for changes of the ledger, and do what follows from each. Raises LedgerUnavailable when one failed."""
    failed = None
    for change, then in begun:
        try:
            value = change.result()
        except LedgerUnavailable as error:
            failed = error
        else:
            then(value)
    if failed is not None:
        raise failed


@lru_cache(VERDICTS_KEPT)
def _verdict(data: bytes) -> Verdict:
    """Nearly all say the same: so many cells, none of them bad."""
    return msgspec.msgpack.decode(data, type=Verdict)


def _nothing(_value: object) -> None:
    pass


def _standing(row: Row) -> Standing:
    """Of a result's worker, who may not be in the ledger yet. A banned one's results are void in any case."""
    return Standing(
        host=row.worker,
        clean_bundles=row.clean_bundles or 0,
        credit=row.credit or 0,
        false_accusations=row.false_accusations or 0,
    )
