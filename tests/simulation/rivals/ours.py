"""Our way, decided by the real functions: `coordinator.policy` and `protocol.trust`, without anything in between.

What is left out is time: everybody is always present, opens at once and answers at once. What a checker finds is the
set of false cells among those that were drawn for it; a friend of the worker finds nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from random import Random

from coordinator.policy import auditing, convict, referee, settle
from coordinator.policy.auditing import Audit, OwedAudit
from coordinator.policy.convict import Places, SaidAnswer
from coordinator.policy.facts import HostRecord, StoredResult
from coordinator.policy.phases import Event, Phase
from coordinator.policy.standing import FALSE_ACCUSATIONS_MAX, Bar, Standing, rank, roster_of, slots_of, stands
from protocol.recipes.campaign import PROVING_SEGMENTS, Policy
from protocol.trust.admission import Outcome, decide
from protocol.trust.challenge import SlotTask, challenge, draw_cells
from protocol.trust.messages import CampaignState, Cell
from protocol.trust.roster import Roster
from protocol.trust.verdict import Verdict
from simulation.rivals.cases import BUNDLE, NETWORKS, SEGMENTS, Fake, Nature, Player
from simulation.rivals.contest import Score

ORGANIZER = "organizer"
EPOCH_TURNS = 20  # a roster is made anew after so many: the weights change slowly
SEGMENTS_OF = [SEGMENTS] * NETWORKS
NOTHING: Fake = frozenset()


@dataclass(eq=False, slots=True)
class Row:
    """One result, as far as anything is decided by it."""

    stored: StoredResult
    worker: Player
    fake: Fake
    tasks: list[SlotTask] = field(default_factory=list)
    said: list[SaidAnswer] = field(default_factory=list)  # by others than the organizer
    audit: Audit = Audit.NONE
    opened: bool = True  # whether the organizer still has the states that the worker opened


@dataclass(eq=False, slots=True)
class Key:
    """What the ledger has of one host."""

    player: Player
    record: HostRecord
    clean_bundles: int = 0
    credit: int = 0
    false_accusations: int = 0

    @property
    def standing(self) -> Standing:
        return Standing(
            host=self.record.host,
            banned=bool(self.record.banned),
            clean_bundles=self.clean_bundles,
            credit=self.credit,
            false_accusations=self.false_accusations,
        )


class Ours:
    """One campaign under a policy."""

    def __init__(self, bundles: int, rng: Random, policy: Policy | None = None):
        self.rng, self.score, self.policy = rng, Score(), policy or Policy()
        self.bundles = bundles
        needed = self.policy.probation_bundles
        self.bar = Bar(needed, needed * NETWORKS * min(PROVING_SEGMENTS, SEGMENTS))
        self.free = dict.fromkeys(range(bundles))
        self.secret = rng.randbytes(32)
        self.keys: dict[str, Key] = {}
        self.rows: dict[bytes, Row] = {}
        self.owed: dict[bytes, None] = {}
        self.vouching: dict[str, list[Row]] = {}  # by host: the rows that its word stands behind
        self.roster, self._roster_at = Roster(()), -EPOCH_TURNS
        self.situation = referee.Situation(now=0.0, organizer=ORGANIZER, epoch=1, revealed_at=0.0, last_seen={})
        self.convicted: set[str] = set()

    # -- what the contest asks ------------------------------------------------------------------------------------

    def complete(self) -> bool:
        return not self.free and not self.owed

    def work_for(self, player: Player) -> int | None:
        return next(iter(self.free), None)

    def friendly(self, player: Player, bundle: int) -> bool:
        return False

    def trusted(self, player: Player) -> bool:
        return stands(self.key(player).standing, self.bar)

    def banned(self, player: Player) -> bool:
        return bool(self.key(player).record.banned)

    def finish(self) -> None:
        admitted = [row for row in self.rows.values() if row.stored.phase is Phase.ADMITTED]
        self.score.admitted = len(admitted)
        self.score.fakes_alive = sum(1 for row in admitted if row.fake)

    def key(self, player: Player) -> Key:
        if player.name not in self.keys:
            self.keys[player.name] = Key(player, HostRecord(host=player.name))
            self.situation.last_seen[player.name] = 0.0
        return self.keys[player.name]

    # -- one bundle -----------------------------------------------------------------------------------------------

    def hand_in(self, player: Player, bundle: int, fake: Fake | None) -> None:
        del self.free[bundle]
        digest = self.rng.randbytes(32)
        stored = StoredResult(
            digest=digest,
            campaign="",
            assignment=bundle,
            worker=player.name,
            phase=Phase.CHECKING,
            networks=NETWORKS,
            segments=BUNDLE,
        )
        row = self.rows[digest] = Row(stored, player, fake or NOTHING)
        standing = stands(self.key(player).standing, self.bar)
        drawn = challenge(self.rng.randbytes(32), digest)
        row.tasks = draw_cells(self.policy, standing, drawn, SEGMENTS_OF)
        seats = rank(drawn, self._roster(), player.name, b"", slots_of(self.policy, standing))
        case = referee.CaseState(
            digest=digest,
            worker=player.name,
            phase=Phase.CHECKING,
            since=0.0,
            epoch=0,
            policy=self.policy,
            standing=standing,
            slots=len(row.tasks),
            ranked=seats,
        )
        self._judge(row, dict(enumerate(referee.first_checkers(case, self.situation))))

    def _roster(self) -> Roster:
        if self.score.turns - self._roster_at >= EPOCH_TURNS:
            self._roster_at = self.score.turns
            known = {name: key.standing for name, key in self.keys.items()}
            self.roster = roster_of(known, self.bar, dict.fromkeys(known, b""))
        return self.roster

    def _judge(self, row: Row, checkers: dict[int, str]) -> None:
        answers = {slot: self._answer(row, slot, host) for slot, host in checkers.items()}
        replays: dict[int, Verdict] = {}
        decision = decide(len(row.tasks), answers, replays)
        while decision.outcome is Outcome.WAITING:
            replays |= {slot: self._answer(row, slot, ORGANIZER) for slot in decision.disputed}
            decision = decide(len(row.tasks), answers, replays)
        row.said = [
            SaidAnswer(host=host, slot=slot, task=row.tasks[slot], verdict=answers[slot])
            for slot, host in checkers.items()
            if host != ORGANIZER
        ]
        for host in {said.host for said in row.said}:
            self.vouching.setdefault(host, []).append(row)
        accusers = [settle.FalseAccusation(checkers[slot], slot) for slot in decision.false_accusers]
        self._settle(row, referee.EVENT_OF[decision.outcome], decision.reason, accusers)

    def _answer(self, row: Row, slot: int, host: str) -> Verdict:
        """What a checker says, and what it costs."""
        task, nature = row.tasks[slot], self.keys[host].player.nature if host != ORGANIZER else Nature.HONEST
        if host != ORGANIZER and self.keys[host].player.ring and row.worker.ring:
            return Verdict(cells=len(task.cells), bad_cells=(), bad_networks=())
        if host == ORGANIZER or nature is Nature.HONEST:
            self.score.extra += len(task.cells)
        else:
            self.score.attackers_units += len(task.cells) / BUNDLE
        bad = task.cells if nature is Nature.ACCUSER else tuple(cell for cell in task.cells if cell in row.fake)
        return Verdict(cells=len(task.cells), bad_cells=bad, bad_networks=())

    # -- what follows ---------------------------------------------------------------------------------------------

    def _settle(self, row: Row, event: Event, reason: str, accusers: Iterable[settle.FalseAccusation] = ()) -> None:
        lied = any(said.host in self.convicted for said in row.said)
        by_chance = auditing.chance_wants(self.secret, row.stored.digest, self.policy.audit_share)
        bundle = settle.Bundle(
            recipe="",
            seeds=(),
            registered=frozenset(),
            admitted=self.bundles - len(self.free) - 1,
            assignments=self.bundles,
            audit=Audit.SUSPECT if lied else Audit.DUE if by_chance else Audit.NONE,
            campaign_state=CampaignState.RUNNING,
        )
        record = self.keys[row.worker.name].record
        self._store(settle.settle(row.stored, event, reason, record, self.policy, bundle=bundle, accusers=accusers))

    def _store(self, settlement: settle.Settlement) -> None:
        key = self.keys[settlement.worker.host]
        key.record = settlement.worker
        for outcome in settlement.outcomes:
            self._ended(outcome)
        if settlement.admit is not None:
            key.credit += settlement.admit.credit
            key.clean_bundles += 1
        for accusation in settlement.false_accusations:
            accuser = self.keys[accusation.host]
            accuser.false_accusations += 1
            if accuser.player.honest:
                self.score.punished.add(accusation.host)
            if accuser.false_accusations >= FALSE_ACCUSATIONS_MAX:
                known = self.situation.false_accusers | {accusation.host}
                self.situation = replace(self.situation, false_accusers=known)
        if settlement.ban is not None:
            self.situation.last_seen.pop(settlement.ban.host, None)
            if key.player.honest:
                self.score.punished.add(settlement.ban.host)
        if settlement.convicted:
            self._suspect(settlement.convicted)

    def _ended(self, outcome: settle.Outcome) -> None:
        row = self.rows[outcome.result.digest]
        was, row.audit = row.stored.phase, outcome.audit
        row.stored = replace(outcome.result, phase=outcome.phase)
        if outcome.phase is Phase.ADMITTED:
            self.score.fakes_admitted += bool(row.fake)
        else:
            self.free[row.stored.assignment] = None
            if was is Phase.ADMITTED:
                key = self.keys[row.worker.name]
                key.credit -= row.stored.segments
            if outcome.fault and row.worker.honest:
                self.score.punished.add(row.worker.name)
        if row.audit in auditing.OWED:
            self.owed[row.stored.digest] = None
            return
        self.owed.pop(row.stored.digest, None)
        if outcome.phase is Phase.ADMITTED:
            row.opened = False

    def _suspect(self, host: str) -> None:
        """All that a liar's word stands behind, its own work and what it vouched for, is looked at again."""
        self.convicted.add(host)
        player = self.keys[host].player
        if player.handed_in:
            self.score.to_conviction.append(player.handed_in)
        mine = [row for row in self.rows.values() if row.stored.worker == host]
        for row in (*mine, *self.vouching.get(host, ())):
            if row.stored.phase is Phase.ADMITTED and row.audit in (Audit.NONE, Audit.DUE, Audit.PASSED):
                row.audit = Audit.SUSPECT
                self.owed[row.stored.digest] = None

    # -- the organizer's own audits -------------------------------------------------------------------------------

    def background(self) -> None:
        """One audit, if any is owed."""
        if not self.owed:
            return
        owed = [OwedAudit(result=digest, audit=self.rows[digest].audit, since=0.0) for digest in self.owed]
        for one in auditing.next_audits(owed, (), 1):
            row = self.rows[one.result]
            if one.audit is Audit.JUDGING:
                self._judge_vouchers(row)
            else:
                self._audit(row)

    def _audit(self, row: Row) -> None:
        everything = range(NETWORKS)
        networks = auditing.draw_networks(self.secret, row.stored.digest, row.audit, everything, 1)
        if row.audit is Audit.SUSPECT:
            theirs = convict.to_train(row.said, self.convicted)
            networks = auditing.draw_networks(
                self.secret, row.stored.digest, row.audit, theirs or everything, auditing.SUSPECT_NETWORKS_MAX
            )
        self._done(row, Audit.PASSED)
        for network in networks:
            self.score.extra += SEGMENTS
            if any(cell.network == network for cell in row.fake):
                self._settle(row, Event.AUDIT_FAILED, f"network {network} is false")
                return
        row.opened = False

    def _judge_vouchers(self, row: Row) -> None:
        """Where the states are gone the networks are trained: what `false_places` finds is where a path turns false."""
        self._done(row, Audit.JUDGED)
        if row.opened:
            replayed = {cell for said in row.said for cell in said.task.cells}
            false = row.fake & replayed
            self.score.extra += len(replayed)
        else:
            trained = convict.to_train(row.said, {said.host for said in row.said})
            first: dict[int, int] = {}
            for cell in row.fake:
                if cell.network in trained:
                    first[cell.network] = min(cell.segment, first.get(cell.network, SEGMENTS))
            false = frozenset(Cell(network=network, segment=segment) for network, segment in first.items())
            self.score.extra += SEGMENTS * len(trained)
        for one in convict.vouchers(row.said, Places(cells=false), ORGANIZER):
            self._store(settle.convict(self.keys[one.host].record, one.reason(row.stored.digest)))

    def _done(self, row: Row, audit: Audit) -> None:
        del self.owed[row.stored.digest]
        row.audit = audit
