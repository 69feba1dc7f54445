"""What the service's calls share: whom to blame, what is counted, which status, and places for what takes long.

Status codes are part of the contract: INVALID_ARGUMENT means no, for ever; RESOURCE_EXHAUSTED and UNAVAILABLE mean
later; anything else is our bug.
"""

import contextlib
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator

import grpc

from coordinator.checking.effects import Effects
from coordinator.ledger.database import Ledger, LedgerUnavailable
from coordinator.ledger.settlement import count_refusal
from coordinator.policy.actions import NewsKind
from coordinator.server.handlers import Busy
from protocol.errors import Refused
from protocol.rpc import coordinator_pb2 as pb
from protocol.rpc.wire import from_wire
from protocol.trust.envelope import Envelope, Message, unseal
from protocol.trust.messages import (
    Answer,
    ControlCampaign,
    Heartbeat,
    Result,
    SeedCampaign,
    Upload,
    UploadData,
)

PLACE_SECONDS_MAX = 300.0  # a stream that trickles longer is cut off; the peer tries again
TROUBLE_SECONDS = 10.0
TROUBLE = "the coordinator is in trouble"  # how the details of our own UNAVAILABLE start; gRPC has its own
DETAIL_CHARS_MAX = 300  # gRPC carries details in a header of a few kilobytes
REFUSALS_SAID_MAX = 4096  # kinds of refusal whose number is remembered; a flood of fresh keys starts it over
KINDS = {kind.KIND: kind for kind in (Answer, ControlCampaign, Heartbeat, Result, SeedCampaign, Upload, UploadData)}

log = logging.getLogger(__name__)


class Call:
    """One call, while it is answered: its envelope, once there is one, says whom to blame."""

    envelope: Envelope | None = None

    def parse(self, wire: pb.Signed) -> Envelope:
        """Raises Refused when it is no envelope at all."""
        self.envelope = from_wire(wire)
        return self.envelope


class Calls:
    """Turns what a call raises into its status, and counts refusals."""

    def __init__(self, ledger: Ledger, effects: Effects, clock: Callable[[], float]):
        self._ledger, self._effects, self._clock = ledger, effects, clock
        self._times: Counter[tuple[str, str]] = Counter()  # (reason, host) -> refusals since we started
        self._trouble_at = 0.0

    @contextlib.contextmanager
    def answering(self, name: str, context: grpc.ServicerContext) -> Iterator[Call]:
        """Around a call's work: refusals are counted and named, our own troubles are UNAVAILABLE."""
        call = Call()
        try:
            yield call
        except Refused as error:
            self._count(error, call)
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error)[:DETAIL_CHARS_MAX])
        except Busy as error:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        except (LedgerUnavailable, OSError) as error:
            self._say_trouble(name, error)
            context.abort(grpc.StatusCode.UNAVAILABLE, f"{TROUBLE}: {_public(error)}")

    def _count(self, error: Refused, call: Call) -> None:
        """Against the host that signed; against nobody when the signature does not hold."""
        host, now = _blame(call.envelope), self._clock()
        reason, detail = error.reason, str(error)
        log.info("[host %s] refused: %s", host or "unknown", detail)
        self._ledger.post(lambda c: count_refusal(c, reason, host, detail, now))
        self._say_refusal(reason, host, detail)

    def _say_refusal(self, reason: str, host: str, detail: str) -> None:
        """The 1st, 10th, 100th ... refusal of a kind is said aloud; all of them are counted."""
        if len(self._times) > REFUSALS_SAID_MAX:
            self._times.clear()
        self._times[reason, host] += 1
        times = self._times[reason, host]
        if str(times).strip("0") == "1":
            text = detail if times == 1 else f"{detail} ({times} times)"
            self._effects.report(NewsKind.REFUSED, text, host=host)

    def _say_trouble(self, name: str, error: Exception) -> None:
        """Our own trouble, said at most every ten seconds: all hosts run into it, again and again."""
        now = self._clock()
        if not 0 <= now - self._trouble_at < TROUBLE_SECONDS:
            self._trouble_at = now
            log.error("%s; hosts are told to try again later (%s)", error, name)


class Places:
    """Places for calls that take long and hold memory, at most `number` at once."""

    def __init__(self, number: int, when_full: str, seconds: float | None = PLACE_SECONDS_MAX):
        self._free = threading.BoundedSemaphore(number)
        self._when_full, self._seconds = when_full, seconds

    @contextlib.contextmanager
    def take(self, context: grpc.ServicerContext) -> Iterator[None]:
        """A place for one call, for a limited time. Aborts the call when there is none."""
        if not self._free.acquire(blocking=False):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, self._when_full)
        timer = None
        if self._seconds is not None:
            timer = threading.Timer(self._seconds, context.cancel)
            timer.daemon = True
            timer.start()
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()
            self._free.release()


def _public(error: Exception) -> str:
    """Our trouble for strangers: what, but not on which path of this machine."""
    return error.strerror or "its disk refuses" if isinstance(error, OSError) else "it cannot use its ledger"


def _blame(envelope: Envelope | None) -> str:
    """The signer of an envelope whose signature holds, else "": nobody is blamed for what another sent."""
    kind: type[Message] | None = KINDS.get(envelope.kind) if envelope else None
    if envelope is None or kind is None:
        return ""
    try:
        unseal(envelope, kind)
    except Refused as error:
        return envelope.signer if error.reason == "message-schema" else ""  # signed, but not a message
    return envelope.signer
