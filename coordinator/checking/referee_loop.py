"""Acts on the referee's rulings: gathers the unsettled cases from the ledger, asks, and does what was ruled."""

import logging
import threading
from collections import defaultdict
from collections.abc import Callable

import msgspec
from sqlalchemy import Connection, select

from coordinator.checking.beacon import Beacon
from coordinator.checking.cases import CampaignBook, CaseFile, CaseFiles
from coordinator.checking.handlers import Intake
from coordinator.checking.own_checks import Checks
from coordinator.ledger import results as results_ledger
from coordinator.ledger import settlement
from coordinator.ledger.database import Ledger, get_meta
from coordinator.ledger.heartbeats import Presence
from coordinator.ledger.settlement import News
from coordinator.ledger.tables import answers, hosts, results, seats
from coordinator.policy.referee import (
    LIVE,
    PRESENCE_SECONDS,
    Action,
    BeginChecks,
    Case,
    CheckSlot,
    Court,
    MakeDraw,
    Phase,
    ReplaySlot,
    Reseat,
    Seat,
    Settle,
    candidates,
    reveal_due,
    rule,
)
from protocol.trust.challenge import seat_checkers
from protocol.trust.messages import Draw
from protocol.trust.verdict import Judged

LOOK_SECONDS = 1.0  # without any change in the ledger, time alone is a reason to look this often

log = logging.getLogger(__name__)


class Bench:
    """`tick` is called by one thread, every 0.2 s or when kicked."""

    def __init__(
        self,
        intake: Intake,
        presence: Presence,
        clock: Callable[[], float],
        presence_seconds: float = PRESENCE_SECONDS,
    ):
        self.intake, self.presence, self.clock, self.presence_seconds = intake, presence, clock, presence_seconds
        self.ledger: Ledger = intake.ledger
        self.files: CaseFiles = intake.files
        self.book: CampaignBook = intake.book
        self.beacon: Beacon = intake.beacon
        self.kicked = threading.Event()
        self.checks = Checks(intake, self.files, clock, self.kicked.set)
        self._seen_version, self._looked_at = -1, 0.0
        self._said_exhausted = False

    def tick(self) -> None:
        """Look, rule, act; cheap when nothing happened. Raises LedgerUnavailable."""
        now = self.clock()
        self.presence.flush(now)
        kicked = self.kicked.is_set()
        self.kicked.clear()
        version = self.ledger.version
        if not kicked and version == self._seen_version and 0 <= now - self._looked_at < LOOK_SECONDS:
            return
        self._seen_version, self._looked_at = version, now
        with self.ledger.read() as connection:
            court = self._court(connection, now)
            cases = self._cases(connection)
        if reveal_due(cases, court) and self._links_left(court.epoch):
            self.ledger.write(lambda c: results_ledger.reveal(c, now))  # durable before anybody sees the link
            return
        for case in cases:
            for action in rule(case, court):
                self._act(action, case, court)

    def close(self) -> None:
        self.checks.close()

    def _links_left(self, epoch: int) -> bool:
        if epoch < self.beacon.length:
            return True
        if not self._said_exhausted:
            log.error("all %d links of the beacon have been shown: start a new directory", self.beacon.length)
            self._said_exhausted = True
        return False

    # -- gathering -----------------------------------------------------------------------------------------------

    def _court(self, connection: Connection, now: float) -> Court:
        return Court(
            now=now,
            organizer=self.intake.identity.host,
            epoch=int(get_meta(connection, "epoch", "0")),
            revealed_at=float(get_meta(connection, "revealed_at", "0")),
            last_seen=self.presence.last_seen(),
            banned=frozenset(connection.execute(select(hosts.c.host).where(hosts.c.banned != "")).scalars()),
            presence_seconds=self.presence_seconds,
        )

    def _cases(self, connection: Connection) -> list[Case]:
        columns = (
            c for c in results.c if c.name in ("digest", "campaign", "worker", "phase", "since", "epoch", "parts")
        )
        rows = list(
            connection.execute(select(*columns).where(results.c.phase.in_(LIVE)).order_by(results.c.received_at))
        )
        checking = select(results.c.digest).where(results.c.phase == Phase.CHECKING)
        seated: dict[bytes, dict[int, Seat]] = defaultdict(dict)
        silent: dict[bytes, set[tuple[int, str]]] = defaultdict(set)
        for seat in connection.execute(select(seats).where(seats.c.result.in_(checking))):
            if seat.silent:
                silent[seat.result].add((seat.slot, seat.host))
            else:
                seated[seat.result][seat.slot] = Seat(seat.host, seat.since)
        judged: dict[tuple[bytes, int], dict[int, Judged]] = defaultdict(dict)
        said = select(answers.c.result, answers.c.slot, answers.c.replay, answers.c.judged)
        for answer in connection.execute(said.where(answers.c.result.in_(checking))):
            judged[answer.result, answer.replay][answer.slot] = msgspec.msgpack.decode(answer.judged, type=Judged)
        cases = []
        for row in rows:
            file = self.files.get(row.digest) if row.phase != Phase.COMMITTED else None
            cases.append(
                Case(
                    digest=row.digest,
                    worker=row.worker,
                    phase=Phase(row.phase),
                    since=row.since,
                    epoch=row.epoch,
                    policy=self.book.get(row.campaign)[0].policy,
                    missing=file.parts() - set(row.parts.split(",")) if file else frozenset(),
                    slots=len(file.tasks) if file else 0,
                    ranked=file.ranked if file else (),
                    seats=seated[row.digest],
                    silent=frozenset(silent[row.digest]),
                    answers=judged[row.digest, 0],
                    replays=judged[row.digest, 1],
                )
            )
        return cases

    # -- acting --------------------------------------------------------------------------------------------------

    def _act(self, action: Action, case: Case, court: Court) -> None:
        file, now = self.files.get(action.result), court.now
        if isinstance(action, CheckSlot):
            self.checks.ask(action.result, action.slot, replay=False)
        elif isinstance(action, ReplaySlot):
            self.checks.ask(action.result, action.slot, replay=True)
        elif isinstance(action, MakeDraw):
            draw = self.intake.sign(self._draw(file, case, court))
            self.ledger.write(lambda c: results_ledger.add_draw(c, file.digest, draw, now))
        elif isinstance(action, BeginChecks):
            seated = seat_checkers(list(file.tasks), self._present(file, court), court.organizer)
            self.ledger.write(lambda c: results_ledger.begin_checks(c, file.digest, seated, now))
        elif isinstance(action, Reseat):
            slot, gone, host = action.slot, action.silent, action.host
            if self.ledger.write(lambda c: results_ledger.reseat(c, file.digest, slot, gone, host, now)):
                text = f"slot {slot} was not answered; {'the organizer' if host == court.organizer else host} takes it"
                self._say("silent", text, file, gone)
        else:
            self._settle(action, file, now)

    def _draw(self, file: CaseFile, case: Case, court: Court) -> Draw:
        with self.ledger.read() as connection:
            clean = connection.execute(select(hosts.c.clean_bundles).where(hosts.c.host == file.worker)).scalar() or 0
        return Draw(
            result=file.digest,
            link=self.beacon.link(case.epoch + 1),
            candidates=candidates(court, file.worker, self.intake.unfit()),
            probation=clean < case.policy.probation_bundles,
        )

    def _present(self, file: CaseFile, court: Court) -> list[str]:
        """The draw's order without those who left or were banned while the worker opened."""
        here = court.now - court.presence_seconds
        return [h for h in file.ranked if court.last_seen.get(h, 0.0) >= here and h not in court.banned]

    def _settle(self, action: Settle, file: CaseFile, now: float) -> None:
        policy, total = file.campaign.policy, len(file.campaign.assignments)

        def change(connection: Connection) -> list[News]:
            news = settlement.settle(
                connection,
                file.digest,
                action.event,
                action.reason,
                policy,
                self.intake.sign,
                now,
                file.assignment,
                total,
            )
            return news + self._blame_liars(connection, action, file) if news else []

        for news in self.ledger.write(change):
            self.intake.report(news)

    def _blame_liars(self, connection: Connection, action: Settle, file: CaseFile) -> list[News]:
        news = []
        for slot in action.liars:
            said = select(answers.c.host).where(
                answers.c.result == file.digest, answers.c.slot == slot, answers.c.replay == 0
            )
            host = connection.execute(said).scalar() or ""
            settlement.count_lie(connection, host)
            settlement.count_refusal(connection, "false-accusation", host, f"slot {slot}", self.clock())
            text = f"accused falsely in slot {slot}: the replay agrees with the worker"
            news.append(
                News(
                    kind="liar",
                    text=text,
                    campaign=file.campaign.digest,
                    assignment=file.assignment.index,
                    host=host,
                )
            )
        return news

    def _say(self, kind: str, text: str, file: CaseFile, host: str) -> None:
        self.intake.report(
            News(kind=kind, text=text, campaign=file.campaign.digest, assignment=file.assignment.index, host=host)
        )
