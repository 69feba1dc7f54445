"""What the service's calls share: whom to blame, what is counted, and what is said aloud.

Status codes are part of the contract: INVALID_ARGUMENT means no, for ever; RESOURCE_EXHAUSTED and UNAVAILABLE mean
later; anything else is our bug.
"""

import logging
from collections import Counter
from collections.abc import Callable

from coordinator.checking.effects import Effects
from coordinator.ledger.database import Ledger
from coordinator.ledger.settlement import count_refusal
from coordinator.policy.actions import NewsKind
from protocol.errors import Refused
from protocol.trust.envelope import Envelope, Message, unseal
from protocol.trust.messages import (
    Answer,
    CertificateRequest,
    ControlCampaign,
    Heartbeat,
    ModerateHost,
    Result,
    SeedCampaign,
    Upload,
    UploadData,
)

TROUBLE_SECONDS = 10.0
TROUBLE = "the coordinator is in trouble"  # how the details of our own UNAVAILABLE start; gRPC has its own
DETAIL_CHARS_MAX = 300  # gRPC carries details in a header of a few kilobytes
REFUSALS_SAID_PER_SECOND = 5  # lines; a flood must not fill a terminal or a log
REFUSALS_SAID_MAX = 4096  # kinds of refusal whose number is remembered; a flood of fresh keys starts it over
KINDS = {
    kind.KIND: kind
    for kind in (
        Answer,
        CertificateRequest,
        ControlCampaign,
        Heartbeat,
        ModerateHost,
        Result,
        SeedCampaign,
        Upload,
        UploadData,
    )
}

log = logging.getLogger(__name__)


class Calls:
    """Counts refusals, and says our own troubles."""

    def __init__(
        self,
        ledger: Ledger,
        effects: Effects,
        clock: Callable[[], float],
        knows: Callable[[str], bool],
    ):
        self._ledger, self._effects, self._clock, self._knows = ledger, effects, clock, knows
        self._said: list[float] = []  # when the last lines about refusals were said
        self._unsaid = 0
        self._times: Counter[tuple[str, str]] = Counter()  # (reason, host) -> refusals since we started
        self._trouble_at = 0.0

    def count(self, error: Refused, envelope: Envelope | None) -> None:
        """Against the host that signed; against nobody when the signature does not hold, or a key was not let in."""
        host, now = _blame(envelope), self._clock()
        if host and not self._knows(host):
            host = ""
        reason, detail = error.reason, str(error)
        log.info("[host %s] refused: %s", host or "unknown", detail)
        self._ledger.post(lambda c: count_refusal(c, reason, host, detail, now))
        self._say_refusal(reason, host, detail)

    def _say_refusal(self, reason: str, host: str, detail: str) -> None:
        """The 1st, 10th, 100th ... refusal of a kind is said aloud, few lines a second; all of them are counted."""
        if len(self._times) > REFUSALS_SAID_MAX:
            self._times.clear()
        self._times[reason, host] += 1
        times = self._times[reason, host]
        if str(times).strip("0") != "1":
            return
        now = self._clock()
        self._said = [at for at in self._said if 0 <= now - at < 1.0]
        if len(self._said) >= REFUSALS_SAID_PER_SECOND:
            self._unsaid += 1
            return
        self._said.append(now)
        text = detail if times == 1 else f"{detail} ({times} times)"
        others = f"; {self._unsaid} other refusals were not shown" if self._unsaid else ""
        self._unsaid = 0
        self._effects.report(NewsKind.REFUSED, text + others, host=host)

    def trouble(self, name: str, error: Exception) -> str:
        """What hosts are told. Our own trouble is said aloud at most every ten seconds: all hosts run into it."""
        now = self._clock()
        if not 0 <= now - self._trouble_at < TROUBLE_SECONDS:
            self._trouble_at = now
            log.error("%s; hosts are told to try again later (%s)", error, name)
        return f"{TROUBLE}: {_public(error)}"

    def bug(self, name: str, error: Exception) -> str:
        log.error("%s failed; this is a bug, please report it", name, exc_info=error)
        return "the coordinator failed; this is a bug"


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
