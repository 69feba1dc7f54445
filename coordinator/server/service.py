"""The gRPC service: thin. Bytes in, `handlers` and `inbox` behind it; refusals are `INVALID_ARGUMENT reason: detail`.

Status codes are part of the contract: INVALID_ARGUMENT means no, for ever; RESOURCE_EXHAUSTED and UNAVAILABLE mean
later; anything else is our bug.
"""

import functools
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from coordinator.checking.cases import decode_envelope
from coordinator.ledger.database import LedgerUnavailable
from coordinator.ledger.settlement import count_refusal
from coordinator.policy.actions import NewsKind
from coordinator.server.coordinator import Coordinator
from coordinator.server.handlers import Busy
from protocol.errors import Refused, UsageError
from protocol.rpc import coordinator_pb2 as pb
from protocol.rpc.coordinator_pb2_grpc import CoordinatorServicer, add_CoordinatorServicer_to_server
from protocol.rpc.wire import CHUNK_BYTES, GRPC_OPTIONS, collect, from_wire, to_wire
from protocol.trust.envelope import Envelope, unseal
from protocol.trust.messages import (
    Answer,
    ControlCampaign,
    Heartbeat,
    Message,
    Result,
    SeedCampaign,
    Upload,
    UploadData,
)

WORKERS = 56  # threads; streams hold one each, so streams together must leave some for the short calls
TRANSFERS_MAX = 16  # uploads and downloads at once: at most 64 MiB each in memory
DATA_TRANSFERS_MAX = 8  # of data sets, from disk to disk; a crowd that fetches one must not hold up results
ZOO_TRANSFERS_MAX = 8  # of the zoo's files; analysts must hold up neither results nor volunteers' data sets
WATCHERS_MAX = 16
TRANSFER_SECONDS_MAX = 300.0  # a stream that trickles longer is cut off; the peer tries again
WATCH_SECONDS = 1.0  # how often a status stream looks for news
TROUBLE_SECONDS = 10.0
TROUBLE = "the coordinator is in trouble"  # how the details of our own UNAVAILABLE start; gRPC has its own
DETAIL_CHARS_MAX = 300  # gRPC carries details in a header of a few kilobytes
KINDS = {kind.KIND: kind for kind in (Answer, ControlCampaign, Heartbeat, Result, SeedCampaign, Upload, UploadData)}

log = logging.getLogger(__name__)
REFUSALS_TOLD_MAX = 4096  # kinds of refusal whose number is remembered; a flood of fresh keys starts it over


def answering(method: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a call: refusals are counted and named, our own troubles are UNAVAILABLE, nothing else changes."""

    @functools.wraps(method)
    def call(self: "Service", request: Any, context: grpc.ServicerContext) -> Any:
        signed = _Signed()
        try:
            return method(self, request, context, signed)
        except Refused as error:
            self.count(error, signed)
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error)[:DETAIL_CHARS_MAX])
        except Busy as error:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        except (LedgerUnavailable, OSError) as error:
            self.trouble(method.__name__, error)
            context.abort(grpc.StatusCode.UNAVAILABLE, f"{TROUBLE}: {_public(error)}")

    return call


class _Signed:
    """The envelope of a call, once it is parsed: whom to blame."""

    envelope: Envelope | None = None

    def parse(self, wire: pb.Signed) -> Envelope:
        self.envelope = from_wire(wire)
        return self.envelope


class Service(CoordinatorServicer):
    def __init__(self, coordinator: Coordinator, bootstrap: Callable[[], list[str]]):
        self.coordinator, self.bootstrap = coordinator, bootstrap
        self._transfers = threading.BoundedSemaphore(TRANSFERS_MAX)
        self._data_transfers = threading.BoundedSemaphore(DATA_TRANSFERS_MAX)
        self._zoo_transfers = threading.BoundedSemaphore(ZOO_TRANSFERS_MAX)
        self._watchers = threading.BoundedSemaphore(WATCHERS_MAX)
        self.stopping = threading.Event()
        self._told: Counter[tuple[str, str]] = Counter()
        self._trouble_at = 0.0

    def trouble(self, call: str, error: Exception) -> None:
        """Our own trouble, said at most every ten seconds: all hosts run into it, again and again."""
        now = self.coordinator.clock()
        if not 0 <= now - self._trouble_at < TROUBLE_SECONDS:
            self._trouble_at = now
            log.error("%s; hosts are told to try again later (%s)", error, call)

    def count(self, error: Refused, signed: _Signed) -> None:
        """Against the host that signed; against nobody when the signature does not hold."""
        host, now = _blame(signed.envelope), self.coordinator.clock()
        reason, detail = error.reason, str(error)
        log.info("[host %s] refused: %s", host or "unknown", detail)
        self.coordinator.stores.ledger.post(lambda c: count_refusal(c, reason, host, detail, now))
        self._tell(reason, host, detail)

    def _tell(self, reason: str, host: str, detail: str) -> None:
        """The 1st, 10th, 100th ... refusal of a kind is said aloud; all of them are counted."""
        if len(self._told) > REFUSALS_TOLD_MAX:
            self._told.clear()
        self._told[reason, host] += 1
        times = self._told[reason, host]
        if str(times).strip("0") == "1":
            text = detail if times == 1 else f"{detail} ({times} times)"
            self.coordinator.effects.report(NewsKind.REFUSED, text, host=host)

    # -- everybody -----------------------------------------------------------------------------------------------

    @answering
    def Join(self, request: pb.JoinRequest, context: grpc.ServicerContext, signed: _Signed) -> pb.JoinReply:
        """Where the swarm is, and which campaigns there are. Refuses nobody."""
        core = self.coordinator
        return pb.JoinReply(
            organizer=core.identity.host,
            bootstrap=self.bootstrap(),
            time=core.clock(),
            campaigns=list(core.stores.campaigns.states()),
            version=core.version,
        )

    @answering
    def GetCampaign(self, request: pb.CampaignRequest, context: Any, signed: _Signed) -> pb.CampaignReply:
        """A campaign's exact bytes and its signed manifest. Refuses a digest that was never seeded."""
        return self._campaign(request.digest)

    def _campaign(self, digest: str, whole: bool = True) -> pb.CampaignReply:
        campaign, manifest = self.coordinator.stores.campaigns.get(digest)
        return pb.CampaignReply(
            digest=digest,
            campaign=campaign.exact if whole else b"",
            manifest=to_wire(manifest),
            state=self.coordinator.stores.campaigns.states()[digest],
        )

    # -- the organizer -------------------------------------------------------------------------------------------

    @answering
    def SubmitCampaign(self, request: pb.Signed, context: Any, signed: _Signed) -> pb.CampaignReply:
        """Refuses other signers, what is no campaign, data sets that are missing or not as described, and too many."""
        return self._campaign(self.coordinator.handlers.seed_campaign(signed.parse(request)), whole=False)

    @answering
    def ControlCampaign(self, request: pb.Signed, context: Any, signed: _Signed) -> pb.CampaignReply:
        """Refuses other signers, unknown campaigns, and what its state does not allow (`policy.campaigns`)."""
        return self._campaign(self.coordinator.handlers.control_campaign(signed.parse(request)), whole=False)

    # -- hosts ---------------------------------------------------------------------------------------------------

    @answering
    def Poll(self, request: pb.Signed, context: Any, signed: _Signed) -> pb.Signed:
        """Refuses a broken signature and numbers or text that must not reach a page; a banned host is told why."""
        return to_wire(self.coordinator.inboxes.poll(signed.parse(request)))

    @answering
    def SubmitResult(self, request: pb.Signed, context: Any, signed: _Signed) -> pb.Signed:
        """Refuses banned hosts, unknown campaigns, and what is no result of the assignment; too many at once: later."""
        return to_wire(decode_envelope(self.coordinator.handlers.submit_result(signed.parse(request))))

    @answering
    def SubmitAnswer(self, request: pb.Signed, context: Any, signed: _Signed) -> pb.Done:
        """Refuses banned hosts, slots of others, answers to other questions, and a second, different answer."""
        self.coordinator.handlers.submit_answer(signed.parse(request))
        return pb.Done()

    @answering
    def PutBlob(self, stream: Iterator[pb.BlobChunk], context: grpc.ServicerContext, signed: _Signed) -> pb.Done:
        """Refuses banned hosts, results of others, parts that are late, unasked for or of another length.

        A part that is not what was committed to is refused too, and voids the result.
        """
        with self._transfer(context):
            first = next(stream, None)
            if first is None or not first.HasField("upload"):
                raise Refused("upload-first", "the first message of a blob is its signed Upload")
            handlers = self.coordinator.handlers
            case, upload, have = handlers.open_upload(signed.parse(first.upload))
            if not have:
                try:
                    data = collect(stream, upload.size)
                except grpc.RpcError:  # the connection broke: nobody's fault
                    return pb.Done()
                handlers.store_upload(case, upload.part, data)
            return pb.Done()

    def GetBlob(self, request: pb.BlobRequest, context: grpc.ServicerContext) -> Iterator[pb.BlobChunk]:
        """Refuses what is not there or not to be fetched now: states outside the checks, a trace before the outcome."""
        with self._transfer(context):  # before the blob is in memory: that is what the number of places is for
            data = self._blob(request, context)
            for start in range(0, len(data), CHUNK_BYTES):
                yield pb.BlobChunk(data=data[start : start + CHUNK_BYTES])

    @answering
    def _blob(self, request: pb.BlobRequest, context: grpc.ServicerContext, signed: _Signed) -> bytes:
        return self.coordinator.handlers.serve_blob(request.result, request.part, request.slot)

    @answering
    def PutData(self, stream: Iterator[pb.BlobChunk], context: grpc.ServicerContext, signed: _Signed) -> pb.Done:
        """Refuses other signers, too many bytes, and bytes that are not those of the digest."""
        with _Transfer(self._data_transfers, context):
            first = next(stream, None)
            if first is None or not first.HasField("upload"):
                raise Refused("upload-first", "the first message of a data set is its signed UploadData")
            upload, have = self.coordinator.stores.datasets.open_upload(signed.parse(first.upload))
            if not have:
                try:
                    self.coordinator.stores.datasets.receive(upload, stream)
                except grpc.RpcError:  # the connection broke: nobody's fault
                    return pb.Done()
            return pb.Done()

    def GetData(self, request: pb.DataRequest, context: grpc.ServicerContext) -> Iterator[pb.BlobChunk]:
        """Refuses a digest that is not here."""
        chunks = self._data(request, context)
        with _Transfer(self._data_transfers, context):
            yield from chunks

    @answering
    def _data(self, request: pb.DataRequest, context: grpc.ServicerContext, signed: _Signed) -> Iterator[pb.BlobChunk]:
        return self.coordinator.stores.datasets.serve(request.digest, request.offset)

    def GetZooFile(self, request: pb.ZooFileRequest, context: grpc.ServicerContext) -> Iterator[pb.BlobChunk]:
        """NOT_FOUND, counted against nobody: nothing is published, or the newest manifest does not name the file."""
        chunks = self._zoo_file(request, context)
        with _Transfer(self._zoo_transfers, context):
            yield from chunks

    @answering
    def _zoo_file(
        self, request: pb.ZooFileRequest, context: grpc.ServicerContext, signed: _Signed
    ) -> Iterator[pb.BlobChunk]:
        try:
            return self.coordinator.zoo_files.serve(request.name, request.offset)
        except Refused as error:  # nobody's fault, so not counted: the zoo is young, or has moved on
            context.abort(grpc.StatusCode.NOT_FOUND, str(error)[:DETAIL_CHARS_MAX])

    def _transfer(self, context: grpc.ServicerContext) -> "_Transfer":
        return _Transfer(self._transfers, context)

    def WatchStatus(self, request: pb.StatusRequest, context: grpc.ServicerContext) -> Iterator[pb.StatusReply]:
        """The status as JSON, once or every second. Too many watchers: later."""
        if not self._watchers.acquire(blocking=False):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{WATCHERS_MAX} others watch already")
        try:
            yield pb.StatusReply(json=self._status(None, context))
            while request.watch and context.is_active() and not self.stopping.wait(WATCH_SECONDS):
                yield pb.StatusReply(json=self._status(None, context))
        finally:
            self._watchers.release()

    @answering
    def _status(self, request: None, context: grpc.ServicerContext, signed: _Signed) -> bytes:
        return self.coordinator.status_json()


class _Transfer:
    """A place among the streams, for a limited time. Raises nothing: aborts the call when there is none."""

    def __init__(self, places: threading.BoundedSemaphore, context: grpc.ServicerContext):
        self._places, self._context = places, context
        self._timer = threading.Timer(TRANSFER_SECONDS_MAX, context.cancel)
        self._timer.daemon = True

    def __enter__(self) -> None:
        if not self._places.acquire(blocking=False):
            self._context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "all transfers that go at once are under way")
        self._timer.start()

    def __exit__(self, *exception: object) -> None:
        self._timer.cancel()
        self._places.release()


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


def serve(
    coordinator: Coordinator, listen: str, bootstrap: Callable[[], list[str]] = list
) -> tuple[grpc.Server, Service, int]:
    """Start the service on `host:port`; port 0 takes any. Raises UsageError when the address cannot be had.

    `bootstrap` gives the swarm node's addresses, for those who join.
    """
    service = Service(coordinator, bootstrap)
    server = grpc.server(
        ThreadPoolExecutor(WORKERS, thread_name_prefix="grpc"),
        options=[*GRPC_OPTIONS, ("grpc.so_reuseport", 0), ("grpc.http2.min_ping_interval_without_data_ms", 10_000)],
        maximum_concurrent_rpcs=4 * WORKERS,
    )
    add_CoordinatorServicer_to_server(service, server)
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError:
        port = 0
    if not port:
        raise UsageError(taken(listen))
    server.start()
    return server, service, port


def taken(listen: str) -> str:
    return f"--listen {listen}: this address is in use or not ours; choose another, e.g. --listen 127.0.0.1:0"


def stop(server: grpc.Server, service: Service, grace_seconds: float = 2.0) -> None:
    service.stopping.set()
    server.stop(grace_seconds).wait(timeout=grace_seconds + 1)
