"""The organizer's audit in simulated time: the real `policy.auditing` and `policy.convict`, over the true engine."""

from typing import TYPE_CHECKING

from coordinator.policy.auditing import (
    SUSPECT_NETWORKS_MAX,
    Audit,
    OwedAudit,
    audits_at_once,
    chance_wants,
    draw_networks,
    next_audits,
)
from coordinator.policy.convict import Places, SaidAnswer, disagreeing, false_places, may_vouch, to_train, vouchers
from coordinator.policy.phases import Event, Phase
from coordinator.policy.settle import convict
from protocol.trust.commitment import Trace, context, trace_root
from protocol.trust.envelope import Envelope
from protocol.trust.messages import Answer
from protocol.trust.spot_check import open_states, open_weights, spot_check
from protocol.trust.verdict import judge
from simulation.actors.ledger import Row
from simulation.environment.engine import HashEngine

if TYPE_CHECKING:
    from simulation.actors.organizer import Organizer

AUDIT_SECONDS = 2.0  # a network, or a bundle's judgement
CORES = 8  # of the organizer's machine


def secret(organizer: "Organizer") -> bytes:
    return organizer.identity.secret("audit")


def at_admission(organizer: "Organizer", row: Row) -> Audit:
    """What an admission of this bundle would owe it."""
    if any(organizer.ledger.host(said.signer).convicted for _, said in row.answers.values()):
        return Audit.SUSPECT
    wanted = chance_wants(secret(organizer), row.digest, organizer.campaign.policy.audit_share)
    return Audit.DUE if wanted else Audit.NONE


class Auditing:
    """Some jobs side by side; a crash forgets nothing, since what is owed is the ledger's."""

    def __init__(self, organizer: "Organizer"):
        self.organizer, self.world, self.ledger = organizer, organizer.world, organizer.ledger
        self.engine = HashEngine("auditor")
        self._waking = False

    def wake(self) -> None:
        if not self._waking:
            self._waking = True
            self.world.kernel.after(AUDIT_SECONDS, self._turn)

    def _turn(self) -> None:
        self._waking = False
        if not self.organizer.up:
            return
        owed = [OwedAudit(result=row.digest, audit=row.audit, since=row.since) for row in self.ledger.owed.values()]
        for one in next_audits(owed, (), audits_at_once(CORES)):
            row = self.ledger.rows[one.result]
            if one.audit is Audit.JUDGING:
                self._judge(row)
            else:
                self._audit(row, one.audit)
        if self.ledger.owed:
            self.wake()

    def _audit(self, row: Row, audit: Audit) -> None:
        for network in self._networks(row, audit):
            self.world.counts["networks trained again by the organizer"] += 1
            seed, truth = row.assignment.seeds[network], self._truth(row, network)
            ctx = context(row.assignment.campaign, row.assignment.index, row.worker)
            if trace_root(ctx, seed, truth) != row.result.networks[network].trace_root:
                self.world.counts["audits that found a fake"] += 1
                self.organizer.settle(row, Event.AUDIT_FAILED, f"the organizer trained seed {seed} again")
                return
        self.ledger.owe(row, Audit.PASSED)

    def _truth(self, row: Row, network: int) -> Trace:
        truth = self.world.truth
        return truth.trace(truth.boundaries(row.assignment)[row.assignment.seeds[network]])

    def _networks(self, row: Row, audit: Audit) -> tuple[int, ...]:
        everything = range(len(row.assignment.seeds))
        if audit is Audit.DUE:
            return draw_networks(secret(self.organizer), row.digest, audit, everything, 1)
        liars = {said.signer for _, said in row.answers.values() if self.ledger.host(said.signer).convicted}
        theirs = to_train(self._said(row), liars)
        return draw_networks(secret(self.organizer), row.digest, audit, theirs or everything, SUSPECT_NETWORKS_MAX)

    def _said(self, row: Row) -> list[SaidAnswer]:
        return [
            SaidAnswer(host=envelope.signer, slot=slot, task=row.tasks[slot], verdict=verdict)
            for slot, (verdict, envelope) in sorted(row.answers.items())
            if envelope.signer != self.organizer.host
        ]

    def _judge(self, row: Row) -> None:
        """Replay what checkers answered, from the states that the worker opened; blobs of a false result are kept."""
        said, false = self._said(row), Places()
        for verdict, _ in row.replays.values():
            false |= disagreeing(verdict)
        for one in said:
            if "states" in row.blobs or not row.opened:
                false |= disagreeing(self._replay(row, one.slot))
            else:
                for network in to_train([one], [one.host]):
                    false |= false_places(network, row.traces[network], self._truth(row, network))
        if row.phase is Phase.VOID and len(false) >= 2:
            self.organizer.settle(row, Event.PROVED_WRONG, f"false in {false}")
        for vouched in vouchers(said, false, self.organizer.host):
            self.world.counts["vouchers convicted"] += not self.ledger.host(vouched.host).convicted
            self.organizer.store(convict(self.ledger.record(vouched.host), vouched.reason(row.digest)))
        self.ledger.owe(row, Audit.JUDGED)

    def hear_late(self, row: Row, envelope: Envelope, answer: Answer) -> None:
        """An answer after the outcome may vouch for a fake all the same."""
        task = row.tasks[answer.slot]
        verdict = judge(answer, task, row.traces)
        if may_vouch(task, verdict):
            row.answers[answer.slot] = verdict, envelope
            self.ledger.said(envelope.signer, row)
            self.world.counts["answers after the outcome that may vouch"] += 1
            self.ledger.owe(row, Audit.JUDGING)
            self.wake()

    def _replay(self, row: Row, slot: int):
        recipe, task = row.assignment.recipe, row.tasks[slot]
        data = row.blobs.get("states", b"")
        length = len(data) // max(1, len(row.opened))
        at = {cell: i * length for i, cell in enumerate(row.opened)}
        states = open_states(recipe, b"".join(data[at[cell] : at[cell] + length] for cell in task.opened), task.opened)
        weights = open_weights(recipe, row.blobs["weights"], len(row.segments))
        answer = spot_check(self.engine, row.assignment, row.digest, slot, task, states, weights)
        return judge(answer, task, row.traces)
