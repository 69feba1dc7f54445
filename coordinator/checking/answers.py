"""An answer to a check, a checker's or our own: judged against the committed traces, and entered."""

import threading
from collections.abc import Callable
from concurrent.futures import Future

import msgspec

from coordinator.checking.cases import ResultCase
from coordinator.checking.effects import Effects
from coordinator.checking.stores import Stores
from coordinator.ledger.audits import hear, read_judged
from coordinator.ledger.results import add_answer
from coordinator.policy.actions import NewsKind
from coordinator.policy.convict import may_vouch
from protocol.errors import Refused
from protocol.trust.envelope import Envelope
from protocol.trust.messages import Answer
from protocol.trust.verdict import Verdict, judge


class Answers:
    """May be used from any thread. `examining` is held while something CPU-bound is examined: one at a time."""

    def __init__(self, stores: Stores, effects: Effects, examining: threading.Lock, clock: Callable[[], float]):
        self._stores, self._effects, self._examining, self._clock = stores, effects, examining, clock

    def enter(self, case: ResultCase, answer: Answer, envelope: Envelope, *, replay: bool) -> None:
        """Judge and store an answer. Raises Refused; OSError when our own blob is gone."""
        self.begin(case, answer, envelope, replay=replay)()

    def begin(self, case: ResultCase, answer: Answer, envelope: Envelope, *, replay: bool) -> Callable[[], None]:
        """Judge it; it is stored when what is returned has been called. Both raise like `enter`."""
        verdict = self._judge(case, answer)
        storing = self._store(case, answer, envelope, verdict, replay=replay)

        def end() -> None:
            if storing.result() and not verdict.valid:
                self._say_dispute(case, answer, verdict, envelope.signer, replay=replay)

        return end

    def _store(
        self, case: ResultCase, answer: Answer, envelope: Envelope, verdict: Verdict, *, replay: bool
    ) -> Future[bool]:
        said = (envelope.signer, envelope.to_bytes(), msgspec.msgpack.encode(verdict), self._clock())
        if replay:
            return self._stores.ledger.submit(lambda c: add_answer(c, case.digest, answer.slot, True, *said))
        # the result may be settled, and judged, until it is stored
        return self._stores.ledger.submit(lambda c: hear(c, case.digest, answer.slot, *said))

    def _say_dispute(self, case: ResultCase, answer: Answer, verdict: Verdict, host: str, *, replay: bool) -> None:
        places = len(verdict.bad_cells) + len(verdict.bad_networks)
        who = "the organizer's replay" if replay else "a checker"
        self._effects.report(
            NewsKind.DISPUTE,
            f"{who} disagrees in {places} places of slot {answer.slot} ({answer.backend})",
            campaign=case.campaign.digest,
            assignment=case.assignment.index,
            host=host,
        )

    def enter_late(self, case: ResultCase, answer: Answer, envelope: Envelope) -> None:
        """An answer that comes after the outcome. If that was against the worker, whoever agrees with it vouched for a
        fake, and is judged as if it had come in time; else it says nothing. Raises Refused.
        """
        with self._stores.ledger.read() as connection:
            if not read_judged(connection, case.digest):
                return
        try:
            verdict = self._judge(case, answer)
        except OSError:  # the leaves are gone: what it agrees with is not known any more
            return
        if may_vouch(case.tasks[answer.slot], verdict):
            self._store(case, answer, envelope, verdict, replay=False).result()

    def _judge(self, case: ResultCase, answer: Answer) -> Verdict:
        """Raises Refused, OSError."""
        if answer.slot >= len(case.tasks):
            raise Refused("answer-slot", f"there is no slot {answer.slot}")
        with self._examining:
            return judge(answer, case.tasks[answer.slot], self._stores.cases.traces(case))
