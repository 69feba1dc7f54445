"""The organizer's server in simulated time: the real policy, over a ledger in dictionaries, without sockets or threads.

Messages come in at the methods, as `coordinator.server.handlers` has them; `refereeing` is the referee's turn. `crash`
loses what is only in memory; the ledger stays.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coordinator.checking.beacon import Beacon
from coordinator.policy.phases import JUDGED, Event, Phase
from coordinator.policy.presence import resumed, told_before
from coordinator.policy.receive import Received, ReceiveFacts, Reception, StoredReply, overtaken, receive
from coordinator.policy.settle import Bundle, FalseAccusation, Settlement, settle
from coordinator.policy.standing import bar_of, stands
from protocol.engine import ENGINE
from protocol.errors import Refused
from protocol.recipes.campaign import Campaign
from protocol.swarm.records import DONE, DONE_TTL, SHARD_SIZE, Done, claims_key, shard_count, shard_size
from protocol.trust.envelope import Envelope, seal, unseal
from protocol.trust.messages import (
    Admission,
    Answer,
    BlobPart,
    CampaignManifest,
    CampaignState,
    CheckRequest,
    Receipt,
    Result,
)
from protocol.trust.verdict import judge, open_result, segments_of
from simulation.actors import auditing, inbox, uploads
from simulation.actors.ledger import Ledger, Row
from simulation.actors.refereeing import Refereeing
from simulation.environment.network import Away

if TYPE_CHECKING:
    from simulation.world import World

EPOCH = 1_800_000_000.0  # the organizer's clock at the simulation's beginning, seconds since 1970
PUBLISH_SECONDS = 1.0  # from a change to the done bits in the DHT
NAME = "organizer"  # in the network; its host name is its identity's


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a caller gets instead of an answer."""

    reason: str
    detail: str


def answering(method: Callable[..., Any]) -> Callable[..., Any]:
    """Away while the server is down; Refused becomes a value, and is counted."""

    def call(self: "Organizer", *arguments: Any) -> Any:
        if not self.up:
            return Away("the server is down")
        self.world.loads.served(self.world.kernel.now)
        try:
            return method(self, *arguments)
        except Refused as error:
            self.world.counts[f"refused: {error.reason}"] += 1
            return Refusal(error.reason, str(error))

    return call


class Organizer:
    def __init__(self, world: "World", ledger: Ledger, beacon: Beacon):
        self.world, self.ledger, self.beacon = world, ledger, beacon
        self.campaign, self.identity = ledger.campaign, world.identity(NAME)
        self.host = self.identity.host
        self.up, self.started = True, self.now()
        anchor = CampaignManifest(
            campaign=self.campaign.digest, beacon_anchor=beacon.anchor, engine=ENGINE, issued_at=self.now()
        )
        self.manifest = self.sign(anchor)
        self._publishing = False
        self._said_at: dict[int, float] = {}  # by shard: when the DHT was told its done bits
        self.requests: dict[tuple[bytes, int, str], CheckRequest] = {}  # made once
        self.pace = inbox.Pace(self)
        self.refereeing = Refereeing(self)
        self.auditing = auditing.Auditing(self)

    def now(self) -> float:
        return EPOCH + self.world.kernel.now

    def sign(self, message: Any) -> Envelope:
        return seal(self.identity, message)

    # -- what hosts ask -------------------------------------------------------------------------------------------

    @answering
    def poll(self, host: str, holding: tuple[bytes, ...]) -> inbox.Inbox:
        ask_again = self.pace.ask_again(host, bool(holding))
        if not self.ledger.host(host).banned:
            self.ledger.seen(host, self.now(), self.world.presence_seconds, ask_again or 0.0)
        return inbox.make(self, host, holding, ask_again)

    def visit(
        self, host: str, holding: tuple[bytes, ...], answers: list[Envelope], opened: list[tuple[bytes, bytes]]
    ) -> Any:
        """A heartbeat with answers and openings: (the inbox, of each answer why it was refused, or "", and of each
        opening), or why there is none."""
        about_answers = tuple(_word(self.submit_answer(envelope)) for envelope in answers)
        about_states = tuple(_word(self.put_blob(host, result, BlobPart.STATES, data)) for result, data in opened)
        said = self.poll(host, holding)
        return (said, about_answers, about_states) if isinstance(said, inbox.Inbox) else said

    @answering
    def get_campaign(self, digest: str) -> Campaign:
        if digest != self.campaign.digest:
            raise Refused("unknown-campaign", digest)
        return self.campaign

    @answering
    def submit_result(self, envelope: Envelope) -> Envelope:
        """The receipt, or an admission. Raises Refused."""
        result, assignment = open_result(envelope, self.campaign)
        segments = tuple(segments_of(assignment.recipe, result))
        now = self.now()
        row = Row(
            envelope=envelope,
            digest=envelope.digest,
            result=result,
            assignment=assignment,
            worker=envelope.signer,
            receipt=None,
            epoch=self.world.rules.receipt_epoch(self.ledger.epoch),
            received_at=now,
            segments=segments,
            phase=Phase.COMMITTED,
            since=now,
        )
        others = self.ledger.by_assignment.get(assignment.index, [])
        reception = receive(
            ReceiveFacts(
                result=row.stored,
                worker=self.ledger.record(row.worker),
                others=tuple(other.stored for other in others),
                same_work=frozenset(other.digest for other in others if _same_work(other.result, result)),
                policy=self.campaign.policy,
                epoch=row.epoch,
                now=now,
                standing=stands(self.refereeing.standing(row.worker), bar_of(self.campaign)),
                left_open=self.ledger.left_open(row.worker),
            )
        )
        return self._received(reception, row)

    def _received(self, reception: Reception, row: Row) -> Envelope:
        if reception.what is Received.BANNED:
            self.store(reception.settlement)
            raise Refused("banned", reception.refusal)
        if reception.what is Received.BUSY:
            raise Refused("busy", "too many results of this host wait for an outcome")
        if isinstance(reception.reply, Receipt):
            row.receipt = self.sign(reception.reply)
        if reception.store is not None:
            row.phase = reception.store.phase
        self.world.counts["results kept behind another"] += reception.what is Received.KEPT
        signed = {outcome.result.digest: self.sign(outcome.admission) for outcome in reception.settlement.outcomes}
        self.ledger.receive(reception, row, signed, self.now())
        self.world.checkers.received(reception, row)
        self._settled(reception.settlement)
        self.refereeing.wake()
        if isinstance(reception.reply, Admission):
            return self.sign(reception.reply)
        stored = self.ledger.rows[row.digest]
        reply = stored.receipt if reception.reply is not StoredReply.ADMISSION else stored.admission
        assert reply is not None
        return reply

    @answering
    def put_blob(self, host: str, digest: bytes, part: str, data: bytes) -> None:
        self._refuse_banned(host)
        row = self._row(digest)
        try:
            uploads.store(row, host, part, data)
        except uploads.Mismatch as error:
            self.settle(row, Event.MISMATCH, str(error))
            raise Refused(error.reason, str(error)) from None
        self.ledger.changed[digest] = None
        if row.stored.uploaded and part != BlobPart.STATES:
            self.take_place(row)
        self.refereeing.wake()

    def take_place(self, row: Row) -> None:
        """As `coordinator.ledger.places` has it."""
        rivals = [other.stored for other in self.ledger.by_assignment[row.assignment.index]]
        bar = bar_of(self.campaign)
        late = overtaken(
            row.stored, rivals, {r.worker for r in rivals if stands(self.refereeing.standing(r.worker), bar)}
        )
        for rival in late.kept:
            self.ledger.move(self.ledger.rows[rival.digest], Event.SET_ASIDE, self.now())
            self.world.counts["results kept behind another"] += 1
        for rival in late.ended:
            self.settle(self.ledger.rows[rival.digest], Event.OVERTAKEN, "another host's was uploaded first")
        self.ledger.touch(row)  # its assignment is not free any more

    def take_up(self, row: Row) -> None:
        """What it was kept behind fell. Undrawn it gets a receipt of now."""
        if any(other.stored.holds for other in self.ledger.by_assignment[row.assignment.index]):
            return
        if row.draw is None:
            row.epoch = self.world.rules.receipt_epoch(self.ledger.epoch)
            row.receipt = self.sign(Receipt(result=row.digest, epoch=row.epoch, received_at=self.now()))
        self.ledger.move(row, Event.TAKEN_UP, self.now())
        self.world.checkers.taken_up(row)
        if row.stored.uploaded:
            self.take_place(row)

    @answering
    def get_blobs(self, digest: bytes, slot: int) -> tuple[bytes, bytes]:
        """(states of the slot, weights), for a checker."""
        row = self._row(digest)
        return uploads.slot_states(row, slot), uploads.weights(row, slot)

    @answering
    def submit_answer(self, envelope: Envelope) -> None:
        answer = unseal(envelope, Answer)
        self._refuse_banned(envelope.signer)
        row = self._row(answer.result)
        checker = row.checkers.get(answer.slot)
        if checker is None or checker.host != envelope.signer:
            raise Refused("not-seated", f"slot {answer.slot} is not this host's")
        if row.phase is Phase.CHECKING and answer.slot not in row.answers:
            self.enter(row, envelope, answer, row.answers)
        elif row.event in JUDGED and answer.slot not in row.answers and "trace" in row.blobs:
            self.auditing.hear_late(row, envelope, answer)

    def enter(self, row: Row, envelope: Envelope, answer: Answer, into: dict) -> None:
        judged = judge(answer, row.tasks[answer.slot], row.traces)
        into[answer.slot] = judged, envelope
        if into is row.answers:
            self.ledger.answered(row, answer.slot)
        self.ledger.said(envelope.signer, row)
        self.ledger.changed[row.digest] = None
        self.refereeing.wake()

    def _row(self, digest: bytes) -> Row:
        if digest not in self.ledger.rows:
            raise Refused("unknown-result", digest.hex())
        return self.ledger.rows[digest]

    def _refuse_banned(self, host: str) -> None:
        why = self.ledger.host(host).banned
        if why:
            raise Refused("banned", why)

    # -- outcomes -------------------------------------------------------------------------------------------------

    def settle(self, row: Row, event: Event, reason: str, accusers: list[FalseAccusation] | None = None) -> None:
        assignment = row.assignment
        bundle = Bundle(
            recipe=assignment.recipe.digest,
            seeds=assignment.seeds,
            registered=frozenset(
                seed for seed in assignment.seeds if (assignment.recipe.digest, seed) in self.ledger.registered
            ),
            admitted=self.ledger.admitted,
            assignments=self.campaign.assignment_count,
            campaign_state=CampaignState(self.ledger.state),
            audit=auditing.at_admission(self, row),
        )
        worker = self.ledger.record(row.worker)
        policy = self.campaign.policy
        self.store(settle(row.stored, event, reason, worker, policy, bundle=bundle, accusers=accusers or ()))

    def store(self, settlement: Settlement) -> None:
        signed = {outcome.result.digest: self.sign(outcome.admission) for outcome in settlement.outcomes}
        self.ledger.store(settlement, signed, self.now())
        self._settled(settlement)

    def _settled(self, settlement: Settlement) -> None:
        """Effects after the ledger has it: checkers outside see it, blobs go, the DHT will hear."""
        self.world.checkers.settled(settlement)
        self.world.loads.settled(self.world.kernel.now, len(settlement.outcomes))
        if self.ledger.owed:
            self.auditing.wake()
        for outcome in settlement.outcomes:
            row = self.ledger.rows[outcome.result.digest]
            uploads.delete(row, settlement.actions)
        if settlement.outcomes:
            self.publish_soon()

    # -- the DHT --------------------------------------------------------------------------------------------------

    def publish_soon(self) -> None:
        if not self._publishing:
            self._publishing = True
            self.world.kernel.after(PUBLISH_SECONDS, self._publish)

    def _publish(self) -> None:
        """Say which assignments are done, where it changed or will soon be forgotten."""
        self._publishing = False
        if not self.up:
            return
        now, total = self.world.kernel.now, self.campaign.assignment_count
        old = [shard for shard, at in self._said_at.items() if now - at > DONE_TTL / 4]
        due, self.ledger.unpublished = self.ledger.unpublished, {}
        for shard in sorted({*due, *old}):
            bits = self.ledger.done_bits(shard * SHARD_SIZE, shard_size(total, shard))
            self._said_at[shard] = now
            key = claims_key(self.campaign.digest, shard)
            self.world.dht.store(self.host, key, DONE, Done(done=bits), now + DONE_TTL)

    # -- faults ---------------------------------------------------------------------------------------------------

    def crash(self) -> None:
        self.up = False
        self.world.kernel.note(NAME, "crashed")

    def restart(self) -> None:
        """From the ledger alone: who was here when the server stopped is here when it starts."""
        self.up = True
        self._said_at, self.requests = {}, {}
        self.ledger.unpublished = dict.fromkeys(range(shard_count(self.campaign.assignment_count)))
        heard = resumed({name: self.ledger.host(name).last_seen for name in self.ledger.last_seen}, self.now())
        told = told_before(heard, self.now())
        for name, at in heard.items():
            self.ledger.seen(name, at, self.world.presence_seconds, told)
        self.ledger.changed.update((digest, None) for digest in self.ledger.live)
        self.world.kernel.note(NAME, "restarted")
        self.refereeing.wake()
        self.auditing.wake()
        self.publish_soon()


def _word(reply: Any) -> str:
    return reply.detail if isinstance(reply, Refusal) else ""


def _same_work(one: Result, other: Result) -> bool:
    return (one.commitment, one.networks) == (other.commitment, other.networks)
