"""The gRPC service: thin. Bytes in, `handlers` and `inbox` behind it; refusals are `INVALID_ARGUMENT reason: detail`.

`calls` says what the status codes promise. Each call's docstring says what it refuses.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc

from coordinator.checking.cases import decode_envelope
from coordinator.server.calls import DETAIL_CHARS_MAX, Calls, Places
from coordinator.server.coordinator import Coordinator
from protocol.errors import Refused, UsageError
from protocol.rpc import coordinator_pb2 as pb
from protocol.rpc.channel import server_credentials
from protocol.rpc.coordinator_pb2_grpc import CoordinatorServicer, add_CoordinatorServicer_to_server
from protocol.rpc.wire import CHUNK_BYTES, GRPC_OPTIONS, collect, to_wire
from protocol.trust.envelope import seal
from protocol.trust.messages import NONCE_BYTES, Welcome

WORKERS = 56  # threads; streams hold one each, so streams together must leave some for the short calls
TRANSFERS_MAX = 16  # uploads and downloads at once: at most 64 MiB each in memory
DATA_TRANSFERS_MAX = 8  # of data sets, from disk to disk; a crowd that fetches one must not hold up results
ZOO_TRANSFERS_MAX = 8  # of the zoo's files; analysts must hold up neither results nor volunteers' data sets
WATCHERS_MAX = 16
WATCH_SECONDS = 1.0  # how often a status stream looks for news
ALL_TAKEN = "all transfers that go at once are under way"

Context = grpc.ServicerContext


class Service(CoordinatorServicer):
    def __init__(self, coordinator: Coordinator, bootstrap: Callable[[], list[str]]):
        self.coordinator, self.bootstrap = coordinator, bootstrap
        self.stores, self.handlers = coordinator.stores, coordinator.handlers
        self.calls = Calls(coordinator.stores.ledger, coordinator.effects, coordinator.clock)
        self.transfers = Places(TRANSFERS_MAX, ALL_TAKEN)
        self.data_transfers = Places(DATA_TRANSFERS_MAX, ALL_TAKEN)
        self.zoo_transfers = Places(ZOO_TRANSFERS_MAX, ALL_TAKEN)
        self.watchers = Places(WATCHERS_MAX, f"{WATCHERS_MAX} others watch already", seconds=None)
        self.stopping = threading.Event()

    # -- everybody -----------------------------------------------------------------------------------------------

    def Join(self, request: pb.JoinRequest, context: Context) -> pb.Signed:
        """Where the swarm is, and which campaigns there are. Refuses a nonce that is none, and nobody."""
        core = self.coordinator
        with self.calls.answering("Join", context):
            if len(request.nonce) != NONCE_BYTES:
                raise Refused("nonce", f"{len(request.nonce)} bytes instead of {NONCE_BYTES}")
            welcome = Welcome(
                nonce=request.nonce,
                time=core.clock(),
                version=core.version,
                bootstrap=tuple(self.bootstrap()),
                campaigns=tuple(self.stores.campaigns.states()),
            )
            return to_wire(seal(core.identity, welcome))

    def GetCampaign(self, request: pb.CampaignRequest, context: Context) -> pb.CampaignReply:
        """A campaign's exact bytes and its signed manifest. Refuses a digest that was never seeded."""
        with self.calls.answering("GetCampaign", context):
            return self._campaign(request.digest)

    def _campaign(self, digest: str, whole: bool = True) -> pb.CampaignReply:
        campaign, manifest = self.stores.campaigns.get(digest)
        return pb.CampaignReply(
            digest=digest,
            campaign=campaign.exact if whole else b"",
            manifest=to_wire(manifest),
            state=self.stores.campaigns.states()[digest],
        )

    # -- the organizer -------------------------------------------------------------------------------------------

    def SubmitCampaign(self, request: pb.Signed, context: Context) -> pb.CampaignReply:
        """Refuses other signers, what is no campaign, data sets that are missing or not as described, and too many."""
        with self.calls.answering("SubmitCampaign", context) as call:
            return self._campaign(self.handlers.seed_campaign(call.parse(request)), whole=False)

    def ControlCampaign(self, request: pb.Signed, context: Context) -> pb.CampaignReply:
        """Refuses other signers, unknown campaigns, and what its state does not allow (`policy.campaigns`)."""
        with self.calls.answering("ControlCampaign", context) as call:
            return self._campaign(self.handlers.control_campaign(call.parse(request)), whole=False)

    # -- hosts ---------------------------------------------------------------------------------------------------

    def Poll(self, request: pb.Signed, context: Context) -> pb.Signed:
        """Refuses a broken signature and numbers or text that must not reach a page; a banned host is told why."""
        with self.calls.answering("Poll", context) as call:
            return to_wire(self.coordinator.inboxes.poll(call.parse(request)))

    def SubmitResult(self, request: pb.Signed, context: Context) -> pb.Signed:
        """Refuses banned hosts, unknown campaigns, and what is no result of the assignment; too many at once: later."""
        with self.calls.answering("SubmitResult", context) as call:
            return to_wire(decode_envelope(self.handlers.submit_result(call.parse(request))))

    def SubmitAnswer(self, request: pb.Signed, context: Context) -> pb.Done:
        """Refuses banned hosts, slots of others, answers to other questions, and a second, different answer."""
        with self.calls.answering("SubmitAnswer", context) as call:
            self.handlers.submit_answer(call.parse(request))
            return pb.Done()

    def PutBlob(self, request_iterator: Iterator[pb.BlobChunk], context: Context) -> pb.Done:
        """Refuses banned hosts, results of others, parts that are late, unasked for or of another length.

        A part that is not what was committed to is refused too, and voids the result.
        """
        with self.calls.answering("PutBlob", context) as call, self.transfers.take(context):
            announced = _announced(request_iterator, "the first message of a blob is its signed Upload")
            case, upload, have = self.handlers.open_upload(call.parse(announced))
            if not have:
                try:
                    data = collect(request_iterator, upload.size)
                except grpc.RpcError:  # the connection broke: nobody's fault
                    return pb.Done()
                self.handlers.store_upload(case, upload.part, data)
            return pb.Done()

    def GetBlob(self, request: pb.BlobRequest, context: Context) -> Iterator[pb.BlobChunk]:
        """Refuses what is not there or not to be fetched now: states outside the checks, a trace before the outcome."""
        # A place first, then the blob into memory: that is what the number of places is for.
        with self.calls.answering("GetBlob", context), self.transfers.take(context):
            data = self.handlers.serve_blob(request.result, request.part, request.slot)
            for start in range(0, len(data), CHUNK_BYTES):
                yield pb.BlobChunk(data=data[start : start + CHUNK_BYTES])

    def PutData(self, request_iterator: Iterator[pb.BlobChunk], context: Context) -> pb.Done:
        """Refuses other signers, too many bytes, and bytes that are not those of the digest."""
        with self.calls.answering("PutData", context) as call, self.data_transfers.take(context):
            announced = _announced(request_iterator, "the first message of a data set is its signed UploadData")
            upload, have = self.stores.datasets.open_upload(call.parse(announced))
            if not have:
                try:
                    self.stores.datasets.receive(upload, request_iterator)
                except grpc.RpcError:  # the connection broke: nobody's fault
                    return pb.Done()
            return pb.Done()

    # -- everybody, what takes long ------------------------------------------------------------------------------

    def GetData(self, request: pb.DataRequest, context: Context) -> Iterator[pb.BlobChunk]:
        """Refuses a digest that is not here."""
        with self.calls.answering("GetData", context), self.data_transfers.take(context):
            yield from self.stores.datasets.serve(request.digest, request.offset)

    def GetZooFile(self, request: pb.ZooFileRequest, context: Context) -> Iterator[pb.BlobChunk]:
        """Refuses with NOT_FOUND, counted against nobody: nothing published, or no such file in the newest manifest."""
        with self.calls.answering("GetZooFile", context), self.zoo_transfers.take(context):
            try:
                chunks = self.coordinator.zoo_files.serve(request.name, request.offset)
            except Refused as error:  # nobody's fault, so not counted: the zoo is young, or has moved on
                context.abort(grpc.StatusCode.NOT_FOUND, str(error)[:DETAIL_CHARS_MAX])
            yield from chunks

    def WatchStatus(self, request: pb.StatusRequest, context: Context) -> Iterator[pb.StatusReply]:
        """The status as JSON, once or every second. Refuses nobody; too many watchers: later."""
        with self.calls.answering("WatchStatus", context), self.watchers.take(context):
            yield pb.StatusReply(json=self.coordinator.status_json())
            while request.watch and context.is_active() and not self.stopping.wait(WATCH_SECONDS):
                yield pb.StatusReply(json=self.coordinator.status_json())


def _announced(stream: Iterator[pb.BlobChunk], what: str) -> pb.Signed:
    """The signed announcement that a stream begins with. Raises Refused."""
    first = next(stream, None)
    if first is None or not first.HasField("upload"):
        raise Refused("upload-first", what)
    return first.upload


def serve(
    coordinator: Coordinator, listen: str, bootstrap: Callable[[], list[str]] = list, *, plaintext: bool = False
) -> tuple[grpc.Server, Service, int]:
    """Start the service on `host:port`; port 0 takes any. Raises UsageError when the address cannot be had.

    `bootstrap` gives the swarm node's addresses, for those who join. All speak TLS, unless `plaintext` (tests).
    """
    service = Service(coordinator, bootstrap)
    server = grpc.server(
        ThreadPoolExecutor(WORKERS, thread_name_prefix="grpc"),
        options=[*GRPC_OPTIONS, ("grpc.so_reuseport", 0), ("grpc.http2.min_ping_interval_without_data_ms", 10_000)],
        maximum_concurrent_rpcs=4 * WORKERS,
    )
    add_CoordinatorServicer_to_server(service, server)
    try:
        if plaintext:
            port = server.add_insecure_port(listen)
        else:
            port = server.add_secure_port(listen, server_credentials(coordinator.identity))
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
