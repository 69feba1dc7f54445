"""The referee's turn: gather the cases, ask the real `coordinator.policy.referee`, do what it rules."""

from typing import TYPE_CHECKING

from coordinator.policy import referee
from coordinator.policy.phases import LIVE, Event, Phase
from coordinator.policy.referee import CaseState, Checker, Situation
from coordinator.policy.settle import FalseAccusation
from coordinator.policy.standing import Standing, bar_of, rank, roster_of, slots_of, stands
from protocol.trust.challenge import challenge
from protocol.trust.messages import Draw
from protocol.trust.openings import slot_tasks
from protocol.trust.roster import Roster
from protocol.trust.spot_check import open_states, open_weights, spot_check
from simulation.actors import uploads
from simulation.actors.ledger import Row
from simulation.environment.engine import HashEngine

if TYPE_CHECKING:
    from simulation.actors.organizer import Organizer

ROSTER_SECONDS = 5.0  # as `coordinator.checking.rosters` has it
LOOKED_AT_A_SECOND = 250  # results, by the looks that time alone is the reason of
WAKE_SECONDS = 0.2  # from a change to the look


class Refereeing:
    """Looks soon after a change at what has changed, and from time to time at everything."""

    def __init__(self, organizer: "Organizer"):
        self.organizer, self.world, self.ledger = organizer, organizer.world, organizer.ledger
        self.campaign = organizer.campaign
        self.engine = HashEngine("organizer")
        self._waking = False
        self._roster = 0.0, -1, Roster(())  # when it was made, in which epoch
        self._timed_look()

    def wake(self) -> None:
        """Look soon at what has changed."""
        if not self._waking:
            self._waking = True
            self.world.kernel.after(WAKE_SECONDS, self._woken)

    def _woken(self) -> None:
        self._waking = False
        if self.organizer.up:
            changed, self.ledger.changed = self.ledger.changed, {}
            self._look([self.ledger.rows[digest] for digest in changed])

    def _timed_look(self) -> None:
        """Time alone is a reason to look: silent checkers, overdue openings, the beacon. Rarer where there is much."""
        seconds = max(self.world.options.poll_seconds, len(self.ledger.live) / LOOKED_AT_A_SECOND)
        self.world.kernel.after(seconds, self._timed_look)
        self.world.loads.looked(len(self.ledger.live))
        if self.organizer.up:
            self._look(list(self.ledger.live.values()))
            self.organizer.publish_soon()

    def _look(self, rows: list[Row]) -> None:
        situation = self.situation()
        cases = [self._case(row) for row in rows if row.phase in LIVE]
        if referee.reveal_due(cases, situation):
            self.ledger.epoch, self.ledger.revealed_at = situation.epoch + 1, situation.now
            self.world.checkers.revealed(self.organizer.beacon.link(self.ledger.epoch))
            waiting = (row for row in self.ledger.live.values() if row.phase is Phase.COMMITTED)
            self.ledger.changed.update(
                (row.digest, None) for row in (*waiting, *(self.ledger.rows[case.digest] for case in cases))
            )
            self.wake()
            return
        for case, action in referee.rule_all(cases, situation):
            self._act(action, self.ledger.rows[case.digest], situation)
        for case in cases:
            self._await(case, situation)

    def _await(self, case: CaseState, situation: Situation) -> None:
        """Note whom open slots wait for, so that not all results need be looked at when somebody has answered."""
        row = self.ledger.rows[case.digest]
        if row.awaits:
            busy = {checker.host for checker in row.checkers.values()}
            for slot in range(len(row.tasks)):
                if slot not in row.checkers:
                    busy.add(host := referee.next_checker(case, situation, slot, busy))
                    self.ledger.waiting.setdefault(host, {})[row.digest] = None

    def situation(self) -> Situation:
        ledger = self.ledger
        return Situation(
            now=self.organizer.now(),
            organizer=self.organizer.host,
            epoch=ledger.epoch,
            revealed_at=ledger.revealed_at,
            last_seen=ledger.last_seen,
            banned=ledger.banned,
            false_accusers=ledger.false_accusers,
            presence_seconds=self.world.presence_seconds,
            unanswered=ledger.unanswered,
        )

    def _case(self, row: Row) -> CaseState:
        return CaseState(
            digest=row.digest,
            worker=row.worker,
            phase=row.phase,
            since=row.since,
            epoch=row.epoch,
            policy=self.campaign.policy,
            standing=row.draw.standing if row.draw else stands(self.standing(row.worker), bar_of(self.campaign)),
            missing=row.parts - row.blobs.keys(),
            holder=self._holder(row) if row.phase is Phase.KEPT else None,
            slots=len(row.tasks),
            ranked=row.ranked,
            checkers=dict(row.checkers),
            silent=frozenset(row.silent),
            answers={slot: judged for slot, (judged, _) in row.answers.items()},
            replays={slot: judged for slot, (judged, _) in row.replays.items()},
        )

    def _holder(self, row: Row) -> Phase | None:
        """Of the other result that has the assignment."""
        rivals = self.ledger.by_assignment[row.assignment.index]
        return next((other.phase for other in rivals if other.stored.holds), None)

    def _act(self, action: referee.Ruling, row: Row, situation: Situation) -> None:
        now = situation.now
        if isinstance(action, referee.MakeDraw):
            self._draw(row, action)
        elif isinstance(action, referee.TakeUp):
            self.organizer.take_up(row)
        elif isinstance(action, referee.BeginChecks):
            if self.ledger.move(row, Event.UPLOADED, now):
                for slot, host in enumerate(action.checkers):
                    if host != referee.NOBODY:
                        self.ledger.assign(row, slot, Checker(host, now))
        elif isinstance(action, referee.GiveSlot):
            if row.phase is Phase.CHECKING and action.slot not in row.checkers:
                self.ledger.assign(row, action.slot, Checker(action.host, now))
                self.world.counts["slots that waited for room"] += 1
        elif isinstance(action, referee.Reassign):
            checker = row.checkers.get(action.slot)
            if row.phase is Phase.CHECKING and action.slot not in row.answers and checker.host == action.silent:
                row.silent.add((action.slot, action.silent))
                self.ledger.unassign(row, action.slot)
                if action.host != referee.NOBODY:
                    self.ledger.assign(row, action.slot, Checker(action.host, now))
                self.world.counts["slots reassigned"] += 1
        elif isinstance(action, referee.Settle):
            accusers = [FalseAccusation(row.answers[slot][1].signer, slot) for slot in action.false_accusers]
            self.organizer.settle(row, action.event, action.reason, accusers)
        else:
            self._check(row, action.slot, isinstance(action, referee.ReplaySlot))
        self.ledger.changed[row.digest] = None
        self.wake()

    def _draw(self, row: Row, action: referee.MakeDraw) -> None:
        if not self.ledger.move(row, Event.DRAWN, self.organizer.now()) or row.draw is not None:
            return  # the first draw stays for ever, also for a result that was void in between
        link = self.organizer.beacon.link(row.epoch + 1)
        policy, drawn = self.campaign.policy, challenge(link, row.digest)
        roster = self.roster()
        draw = Draw(
            result=row.digest,
            link=link,
            roster_root=roster.root,
            roster_total=roster.total,
            roster_count=roster.count,
            standing=action.standing,
            worker_tag=self.ledger.host(row.worker).tag,
        )
        row.draw, row.draw_envelope = draw, self.organizer.sign(draw)
        row.tasks = tuple(slot_tasks(self.campaign, row.assignment, row.result, row.digest, draw))
        row.ranked = rank(drawn, roster, row.worker, draw.worker_tag, slots_of(policy, action.standing))
        row.opened = tuple(sorted({cell for task in row.tasks for cell in task.opened}))
        self.world.checkers.drawn(row)

    def roster(self) -> Roster:
        """Who is present and stands; the same for all draws of an epoch that are made within seconds."""
        now = self.organizer.now()
        made_at, epoch, roster = self._roster
        if epoch != self.ledger.epoch or now - made_at >= ROSTER_SECONDS:
            present = {
                name: self.ledger.host(name).tag
                for name, seen in self.ledger.last_seen.items()
                if now - seen <= self.world.presence_seconds
            }
            known = {name: self.standing(name) for name in present}
            roster = roster_of(known, bar_of(self.campaign), present)
            self._roster = now, self.ledger.epoch, roster
            self.world.checkers.listed(roster)
            self.world.loads.drew(roster.count)
        return roster

    def standing(self, name: str) -> Standing:
        host = self.ledger.host(name)
        return Standing(
            host=name,
            banned=bool(host.banned),
            clean_bundles=host.clean_bundles,
            credit=host.credit,
            false_accusations=host.false_accusations,
        )

    def _check(self, row: Row, slot: int, replay: bool) -> None:
        """The organizer replays himself: his own slots, and what a checker and a worker disagree about."""
        into = row.replays if replay else row.answers
        if slot in into or row.phase is not Phase.CHECKING:  # or a ruling a moment ago has settled it
            return
        recipe, task = row.assignment.recipe, row.tasks[slot]
        states = open_states(recipe, uploads.slot_states(row, slot), task.opened)
        weights = open_weights(recipe, uploads.weights(row, slot), len(row.segments))
        answer = spot_check(self.engine, row.assignment, row.digest, slot, task, states, weights)
        self.world.counts["replays of disputes" if replay else "slots of the organizer"] += 1
        self.world.counts["segments replayed by the organizer"] += len(answer.cells)
        self.organizer.enter(row, self.organizer.sign(answer), answer, into)
