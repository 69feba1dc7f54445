"""The coordinator as a volunteer sees it: gRPC calls that either answer, refuse, or find nobody there."""

import secrets
from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import Any, NamedTuple, TypeVar

import grpc

from peer.session.first_contact import OrganizersTime, StampPayer
from peer.session.throttle import Throttle
from protocol.canonical import sha256
from protocol.errors import Refused, shown
from protocol.rpc import coordinator_pb2 as pb
from protocol.rpc.channel import NO_HOST, is_no_host, is_stranger, open_channel
from protocol.rpc.coordinator_pb2_grpc import CoordinatorStub
from protocol.rpc.versions import check_versions
from protocol.rpc.wire import TICKET, chunks, collect, from_wire, open_welcome, refusal, to_wire
from protocol.trust.envelope import Envelope, Message, seal, unseal
from protocol.trust.identity import Identity
from protocol.trust.messages import (
    NONCE_BYTES,
    Admission,
    Answer,
    BlobPart,
    CertificateRequest,
    CreditCertificate,
    Heartbeat,
    Inbox,
    Opened,
    Receipt,
    Upload,
    Welcome,
)

CALL_SECONDS = 15.0
BLOB_SECONDS = 120.0
DATA_SECONDS = 300.0  # then the rest is asked for again, from where it stopped
FIRST_CONTACT = ("stamp", "heartbeat-time")  # refusals that another Join mends
REFUSED_CHARS_MAX = 300
T = TypeVar("T")


class Away(Exception):
    """The coordinator does not answer now. Work goes on; what is finished waits on disk."""


class Later(Away):
    """It is there, and says: not now."""


class Reply(NamedTuple):
    """What a heartbeat brings back; of each answer and each opening why it was refused, or ""."""

    inbox: Inbox
    refused: tuple[str, ...]
    refused_states: tuple[str, ...]


def leaving() -> Exception:
    return Away("we are leaving")


class Client:
    """One coordinator. Methods raise Away when it is not there, Later when it is too busy, Refused when it says no."""

    def __init__(
        self,
        target: str,
        identity: Identity,
        organizer: str | None = None,
        nonce: Callable[[int], bytes] = secrets.token_bytes,  # so many bytes that nobody can guess
        *,
        ticket: bytes = b"",
        say: Callable[[str], None] = lambda text: None,
        bandwidth: float = inf,  # bytes a second, both ways together
    ):
        self.target, self.identity, self.organizer, self._nonce = target, identity, organizer, nonce
        self._time, self._payer, self._ticket = OrganizersTime(), StampPayer(identity.host, say), ticket
        self._version = ""
        self._open: tuple[grpc.Channel, CoordinatorStub] | None = None
        self._throttle = Throttle(bandwidth, leaving) if bandwidth < inf else None

    def move(self, target: str) -> None:
        """From now on call `target`, host:port. Calls that are under way end as they will."""
        if target != self.target:
            self.target, opened, self._open = target, self._open, None
            if opened is not None:
                opened[0].close()

    @property
    def stub(self) -> CoordinatorStub:
        """Connects when it is first needed. Raises Away, UsageError: the address does not say who should answer."""
        if self._open is None:
            try:
                channel = open_channel(self.target, self.organizer)
            except ConnectionError as error:
                raise Away(str(error)) from None
            throttled = grpc.intercept_channel(channel, self._throttle) if self._throttle else channel
            self._open = channel, CoordinatorStub(throttled)
        return self._open[1]

    def _call(self, method: Callable[..., T], request: Any, seconds: float = CALL_SECONDS) -> T:
        try:
            return method(request, timeout=seconds)
        except grpc.RpcError as error:
            raise self._translate(error) from None

    def _translate(self, error: grpc.RpcError) -> Exception:
        refused = refusal(error)
        if refused is not None:
            return refused
        if is_stranger(error):
            return Away("who answers there has not the organizer's key")
        if not isinstance(error, grpc.Call):
            return Away("no answer")
        code = error.code()
        kind = Later if code == grpc.StatusCode.RESOURCE_EXHAUSTED else Away
        return kind(code.name.lower().replace("_", " "))

    def join(self, version: str, seconds: float = CALL_SECONDS) -> Welcome:
        """How to join; remembers the organizer's name on first use. Raises Refused: another organizer or version."""
        nonce = self._nonce(NONCE_BYTES)
        try:
            request = pb.JoinRequest(version=version, nonce=nonce, host=self.identity.host)
            reply = self.stub.Join(request, timeout=seconds)
        except grpc.RpcError as error:
            if is_no_host(error):
                raise Refused("no-host", NO_HOST) from None
            if is_stranger(error):
                mend = "ask for the new address"
                raise Refused("organizer", f"who answers there has not the key of {self.organizer}; {mend}") from None
            raise self._translate(error) from None
        self.organizer, welcome = open_welcome(reply, nonce, self.organizer)
        check_versions(version, welcome.version)
        self._version = version
        self._time.learn(welcome.time)
        self._payer.begin(welcome.stamp_challenge, welcome.stamp_bits)
        return welcome

    @property
    def clock_ahead(self) -> float:
        """Seconds that the organizer's clock is ahead of ours, as far as we know."""
        return self._time.ahead

    def campaign(self, digest: str) -> tuple[bytes, Envelope]:
        """A campaign's exact bytes and its manifest, still to be checked."""
        reply = self._call(self.stub.GetCampaign, pb.CampaignRequest(digest=digest))
        return reply.campaign, from_wire(reply.manifest)

    def poll(
        self, heartbeat: dict[str, Any], answers: Sequence[Answer] = (), opened: Sequence[tuple[bytes, bytes]] = ()
    ) -> Reply:
        """Say that we are here, what our checks gave, and open results (with their start states); returns what there is
        for us, signed by the organizer for this very heartbeat."""
        try:
            return self._poll(heartbeat, answers, opened)
        except Refused as error:
            if error.reason not in FIRST_CONTACT:
                raise
        self.join(self._version)  # it was restarted, or its clock was set: ask what it wants now
        try:
            return self._poll(heartbeat, answers, opened)
        except Refused as error:
            raise Away(str(error)) if error.reason in FIRST_CONTACT else error from None

    def _poll(
        self, heartbeat: dict[str, Any], answers: Sequence[Answer], opened: Sequence[tuple[bytes, bytes]]
    ) -> Reply:
        nonce, stamp = self._nonce(NONCE_BYTES), self._payer.stamp()
        if stamp is None:
            raise Away("we are still working for our first contact")
        named = tuple(Opened(result=result, states=sha256(states)) for result, states in opened)
        beat = Heartbeat(nonce=nonce, issued_at=self._time.now(), stamp=stamp, opened=named, **heartbeat)
        said = [to_wire(self._seal(answer)) for answer in answers]
        enclosed = [states for _, states in opened]
        visit = pb.Visit(heartbeat=to_wire(self._seal(beat)), answers=said, states=enclosed)
        reply = self._call(self.stub.Poll, visit)
        inbox = unseal(from_wire(reply.inbox), Inbox, signer=self.organizer)
        if inbox.nonce != nonce:
            raise Refused("inbox", "an answer to another heartbeat")
        words, things = (len(reply.refused), len(reply.refused_states)), (len(answers), len(opened))
        if words != things:
            raise Refused("inbox", f"{words} words about {things} answers and openings")
        self._time.learn(inbox.time)
        self._payer.used()
        return Reply(inbox, _shown(reply.refused), _shown(reply.refused_states))

    def status(self) -> bytes:
        """What the coordinator tells everybody of the swarm: JSON, still to be checked."""
        try:
            for reply in self.stub.WatchStatus(pb.StatusRequest(watch=False), timeout=CALL_SECONDS):
                return reply.json
        except grpc.RpcError as error:
            raise self._translate(error) from None
        raise Away("no answer")

    def certificate(self) -> Envelope:
        """The organizer's signed word about our credit, as of now; after `join`, which tells his time."""
        request = CertificateRequest(nonce=self._nonce(NONCE_BYTES), issued_at=self._time.now())
        reply = from_wire(self._call(self.stub.Certify, to_wire(self._seal(request))))
        certificate = unseal(reply, CreditCertificate, signer=self.organizer)
        if (certificate.nonce, certificate.host) != (request.nonce, self.identity.host):
            raise Refused("certificate", "an answer to another call")
        return reply

    def submit_result(self, envelope: Envelope, trace: bytes = b"", weights: bytes = b"") -> Envelope:
        """Hand in a signed result. Returns the signed Receipt, or an Admission that says `duplicate`.

        With a receipt, trace and weights that went along are there as well.
        """
        beside = ((TICKET, self._ticket),) if self._ticket else None
        request = pb.Submission(result=to_wire(envelope), trace=trace, weights=weights)
        try:
            reply = from_wire(self.stub.SubmitResult(request, timeout=CALL_SECONDS, metadata=beside))
        except grpc.RpcError as error:
            raise self._translate(error) from None
        if reply.kind == Admission.KIND:
            about = unseal(reply, Admission, signer=self.organizer).result
        else:
            about = unseal(reply, Receipt, signer=self.organizer).result
        if about != envelope.digest:
            raise Refused("receipt", "an answer about another result")
        return reply

    def put(self, result: bytes, part: BlobPart, data: bytes) -> None:
        upload = self._seal(Upload(result=result, part=part, size=len(data)))
        self._call(self.stub.PutBlob, chunks(data, upload), BLOB_SECONDS)

    def get(self, result: bytes, part: BlobPart, slot: int, size: int) -> bytes:
        """Exactly `size` bytes of a blob, or Refused."""
        stream = self._call(self.stub.GetBlob, pb.BlobRequest(result=result, part=part, slot=slot), BLOB_SECONDS)
        try:
            return collect(stream, size)
        except grpc.RpcError as error:
            raise self._translate(error) from None

    def data(self, digest: str, offset: int) -> Iterator[bytes]:
        """A data set's bytes from `offset` on, as they come; still to be checked."""
        try:
            request = pb.DataRequest(digest=digest, offset=offset)
            for chunk in self.stub.GetData(request, timeout=DATA_SECONDS):
                yield chunk.data
        except grpc.RpcError as error:
            raise self._translate(error) from None

    def _seal(self, message: Message) -> Envelope:
        return seal(self.identity, message)

    def close(self) -> None:
        self._payer.stop()
        if self._throttle is not None:
            self._throttle.close()
        if self._open is not None:
            self._open[0].close()


def _shown(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(shown(text, REFUSED_CHARS_MAX) for text in words)


def is_receipt(envelope: Envelope) -> bool:
    return envelope.kind == Receipt.KIND
