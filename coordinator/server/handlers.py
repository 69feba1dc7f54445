"""Messages of other hosts, verified at the edge and entered: results, blobs, answers.

Methods raise `Refused` for what breaks the protocol and `Busy` for what is too much at once; `service` turns that into
gRPC statuses and counts it. Each does three things: verify, let the ledger decide and store, perform the actions.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, NoReturn

from sqlalchemy import Connection, bindparam, select

from coordinator.checking.answers import Answers
from coordinator.checking.blobs import SMALL_BYTES
from coordinator.checking.cases import ResultCase, committed_weights, new_case
from coordinator.checking.effects import Effects
from coordinator.checking.stores import Stores
from coordinator.ledger.places import add_parts
from coordinator.ledger.prepared import Prepared
from coordinator.ledger.results import Reply, hand_in, refuse_stranger
from coordinator.ledger.settlement import Sign, refuse_banned, settle_result
from coordinator.ledger.tables import hosts, results
from coordinator.policy.actions import Action
from coordinator.policy.phases import Event, Phase
from coordinator.policy.receive import Received
from coordinator.policy.uploads import UploadFacts, is_here, may_fetch
from protocol.errors import Refused
from protocol.trust.envelope import Envelope, unseal
from protocol.trust.messages import Answer, BlobPart, Result, Upload
from protocol.trust.openings import check_opened
from protocol.trust.spot_check import open_states
from protocol.trust.verdict import open_result, segments_of

STATE = Prepared(  # of a result, and of the host that asks
    select(results.c.phase, results.c.parts, hosts.c.banned)
    .outerjoin(hosts, hosts.c.host == bindparam("host"))
    .where(results.c.digest == bindparam("digest"))
)


Step = Callable[[], None]  # what is left to do of something that was begun


class Kept(NamedTuple):
    """What became of parts that came along with a new result."""

    actions: tuple[Action, ...]
    refused: Refused | None  # then the result is void


class Busy(Exception):
    """Nothing is wrong with what was asked; it is too much at once. To be tried again later."""


class Handlers:
    """Everything that comes in. Safe to call from many threads: all that matters happens in the ledger's writer."""

    def __init__(
        self,
        stores: Stores,
        organizer: str,
        sign: Sign,
        effects: Effects,
        answers: Answers,
        examining: threading.Lock,
        clock: Callable[[], float],
    ):
        self.stores, self.organizer, self.sign = stores, organizer, sign
        self.effects, self.answers, self.clock = effects, answers, clock
        self._examining = examining  # shared with `answers`: one thing at a time is examined, it is CPU-bound

    # -- results -------------------------------------------------------------------------------------------------

    def submit_result(
        self, envelope: Envelope, parts: Mapping[BlobPart, bytes] | None = None, *, ticketed: bool = False
    ) -> bytes:
        """A worker's result: our signed Receipt, durable when this returns, or an Admission. Raises Refused, Busy.

        With a receipt the `parts` that came along, those that are not empty, are here as well.
        """
        digest = unseal(envelope, Result).campaign
        campaign, _ = self.stores.campaigns.get(digest)
        result, assignment = open_result(envelope, campaign)
        segments = sum(segments_of(assignment.recipe, result))
        now = self.clock()
        case = new_case(envelope, result, campaign, assignment)
        enclosed = {part: data for part, data in (parts or {}).items() if data}
        at_once = enclosed if _fits_a_change(case, enclosed) else {}

        def take_in(connection: Connection) -> tuple[Reply, Kept | None]:
            reply = hand_in(connection, envelope, result, segments, campaign, self.sign, now, ticketed=ticketed)
            keep = reply.what is Received.NEW and at_once
            return reply, self._keep_within(connection, case, at_once, now) if keep else None

        reply, kept = self.stores.ledger.write(take_in)
        self.effects.perform(reply.actions)
        if reply.what is Received.BANNED:
            raise Refused("banned", reply.refusal)
        if reply.what is Received.BUSY:
            raise Busy("so many results of this host wait for an outcome; the next one is taken when one has it")
        if reply.what is Received.NO_TICKET:
            raise Refused("no-ticket", "this campaign takes results only of hosts with a ticket; ask its organizer")
        if kept is not None:
            self.effects.perform(kept.actions)
            if kept.refused is not None:
                raise kept.refused
        elif enclosed and reply.is_receipt:
            new = reply.what is Received.NEW
            self._keep_enclosed(case, (Phase.COMMITTED, []) if new else self._state(envelope.digest), enclosed)
        return reply.envelope

    def _keep_within(
        self, connection: Connection, case: ResultCase, parts: Mapping[BlobPart, bytes], now: float
    ) -> Kept:
        """Small parts of a new result, proved and kept by the very change that takes it in; or it is void."""
        for part, data in parts.items():
            try:
                self._verify_part(case, part, data)
            except Refused as error:
                why = f"{part} refused: {error}"
                void = settle_result(connection, case.digest, Event.MISMATCH, why, case.campaign, self.sign, now)
                return Kept(void, error)
            self.stores.blobs.put_within(connection, case.digest, part, data)
        return Kept(add_parts(connection, case.digest, list(parts), case.campaign, self.sign, now), None)

    def _keep_enclosed(self, case: ResultCase, state: tuple[Phase, list[str]], parts: Mapping[BlobPart, bytes]) -> None:
        """What came along with a result, like uploads of it. Raises Refused."""
        phase, here = state
        wanted = {}
        for part, data in parts.items():
            facts = UploadFacts(
                signer=case.worker,
                worker=case.worker,
                part=part,
                size=len(data),
                phase=phase,
                parts=here,
                legal_sizes=case.legal_sizes(),
            )
            if not is_here(facts):
                wanted[part] = data
        if wanted:
            self.store_parts(case, wanted)

    # -- blobs ---------------------------------------------------------------------------------------------------

    def open_upload(self, envelope: Envelope) -> tuple[ResultCase, Upload, bool]:
        """Judge an upload by its first message, before a byte is read; True when we have the part. Raises Refused."""
        upload = unseal(envelope, Upload)
        case, have = self._judge_upload(envelope.signer, upload.result, upload.part, upload.size)
        return case, upload, have

    def _judge_upload(self, signer: str, result: bytes, part: BlobPart, size: int) -> tuple[ResultCase, bool]:
        phase, parts = self._state(result, signer)
        case = self.stores.cases.get(result)
        facts = UploadFacts(
            signer=signer,
            worker=case.worker,
            part=part,
            size=size,
            phase=phase,
            parts=parts,
            legal_sizes=case.legal_sizes(),
        )
        return case, is_here(facts)

    def begin_opening(self, signer: str, result: bytes, states: bytes) -> Step:
        """Start states that came along with a heartbeat, judged like an upload of them. They are durable when what is
        returned has been called. Both raise Refused."""
        case, have = self._judge_upload(signer, result, BlobPart.STATES, len(states))
        return (lambda: None) if have else self._begin_parts(case, {BlobPart.STATES: states})

    def store_parts(self, case: ResultCase, parts: Mapping[BlobPart, bytes]) -> None:
        """Verify whole parts and keep them. Raises Refused, and then the result is void: it was not what it said."""
        self._begin_parts(case, parts)()

    def _begin_parts(self, case: ResultCase, parts: Mapping[BlobPart, bytes]) -> Step:
        for part, data in parts.items():
            try:
                with self._examining:
                    self._verify_part(case, part, data)
            except Refused as error:
                return partial(self._void, case, f"{part} refused: {error}", error)
            self.stores.blobs.put(case.digest, part, data)
        now, names = self.clock(), list(parts)
        change = self.stores.ledger.submit(lambda c: add_parts(c, case.digest, names, case.campaign, self.sign, now))
        return lambda: self.effects.perform(change.result())

    def _void(self, case: ResultCase, reason: str, error: Refused) -> NoReturn:
        now = self.clock()
        self.effects.perform(
            self.stores.ledger.write(
                lambda c: settle_result(c, case.digest, Event.MISMATCH, reason, case.campaign, self.sign, now)
            )
        )
        raise error

    def _verify_part(self, case: ResultCase, part: str, data: bytes) -> None:
        recipe = case.assignment.recipe
        if part == BlobPart.TRACE:
            self.stores.cases.open_traces(case, data)
        elif part == BlobPart.WEIGHTS:
            committed_weights(case, data)
        else:
            check_opened(self.stores.cases.traces(case), case.opened, open_states(recipe, data, case.opened))

    def serve_blob(self, digest: bytes, part: str, slot: int) -> bytes:
        """A checker's download. Raises Refused: it is not to be had now, or not yet."""
        case = self.stores.cases.get(digest)
        phase, parts = self._state(digest)
        if may_fetch(part, phase, parts, slot, len(case.tasks)):
            if part == BlobPart.STATES:
                return self.stores.cases.slot_states(case, slot)
            data = self.stores.blobs.get(digest, part)
            if data is not None:
                return data
        raise Refused("no-blob", f"there is no {part[:20]!r} of this result to fetch now")

    def _state(self, digest: bytes, host: str = "") -> tuple[Phase, list[str]]:
        """A result's phase, and the parts that are here. Raises Refused, also for a banned host that asks."""
        with self.stores.ledger.read() as connection:
            row = STATE.first(connection, digest=digest, host=host)
            if row is None or row.banned:
                refuse_banned(connection, host)
                raise Refused("unknown-result", digest.hex()[:64])
        return Phase(row.phase), row.parts.split(",")

    # -- what comes along with a heartbeat -----------------------------------------------------------------------

    def take_along(
        self, host: str, answers: Sequence[Envelope], opened: Sequence[tuple[bytes, bytes]]
    ) -> tuple[list[Refused | None], list[Refused | None]]:
        """This host's answers to checks, and (result, its start states): they share a look at the ledger, and a commit.
        Of each why it was refused."""
        begun: list[Step | Refused] = []
        if answers or opened:
            with self.stores.ledger.read():
                begun += [_begun(self._begin_answer_of, host, envelope) for envelope in answers]
                begun += [_begun(self.begin_opening, host, *states) for states in opened]
        told = [step if isinstance(step, Refused) else _ended(step) for step in begun]
        return told[: len(answers)], told[len(answers) :]

    def _begin_answer_of(self, host: str, envelope: Envelope) -> Step:
        if envelope.signer != host:
            raise Refused("answer-signer", "an answer goes along with its own signer's heartbeat")
        return self.begin_answer(envelope)

    def begin_answer(self, envelope: Envelope) -> Step:
        """Verify and judge a checker's answer for its slot; after the outcome it says only who vouched for a fake. It
        is durable when what is returned has been called. Both raise Refused."""
        answer = unseal(envelope, Answer)
        phase, _ = self._state(answer.result, envelope.signer)
        case = self.stores.cases.get(answer.result)
        if phase is Phase.CHECKING:
            return self.answers.begin(case, answer, envelope, replay=False)
        with self.stores.ledger.read() as connection:
            refuse_stranger(connection, answer.result, answer.slot, envelope.signer)
        return lambda: self.answers.enter_late(case, answer, envelope)


def _fits_a_change(case: ResultCase, parts: Mapping[BlobPart, bytes]) -> bool:
    """Whether parts have their lengths, and are so small that others can wait for the writer while it proves them."""
    sizes = case.legal_sizes()
    return sum(map(len, parts.values())) <= SMALL_BYTES and all(len(data) == sizes[p] for p, data in parts.items())


def _begun(begin: Callable[..., Step], *arguments: Any) -> Step | Refused:
    try:
        return begin(*arguments)
    except Refused as error:
        return error


def _ended(step: Step) -> Refused | None:
    try:
        step()
    except Refused as error:
        return error
    return None
