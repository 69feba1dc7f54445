"""The gRPC service: thin. Bytes in, `handlers` and `inbox` behind it; refusals are `INVALID_ARGUMENT reason: detail`.

Status codes are part of the contract: INVALID_ARGUMENT means no, for ever; RESOURCE_EXHAUSTED, UNAVAILABLE and
CANCELLED mean later; anything else is our bug. Each call's docstring says what it refuses.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence

from coordinator.checking.cases import decode_envelope
from coordinator.server.calls import DETAIL_CHARS_MAX, Calls
from coordinator.server.coordinator import Coordinator
from coordinator.server.doors.call import Call
from coordinator.server.doors.desk import Desk
from coordinator.server.doors.door import Answer, NotHere
from coordinator.server.doors.limits import (
    CALL_SECONDS_MAX,
    DATA_TRANSFERS_MAX,
    STAMP_BITS,
    TRANSFER_SECONDS_MAX,
    TRANSFERS_MAX,
    WATCH_SECONDS_MAX,
    WATCHERS_MAX,
    WATCHERS_PER_ADDRESS,
    ZOO_TRANSFERS_MAX,
)
from coordinator.server.doors.places import Places
from coordinator.server.doors.turns import Lane
from coordinator.server.handlers import Busy
from protocol.errors import Refused
from protocol.rpc import coordinator_pb2 as pb
from protocol.rpc.versions import check_versions
from protocol.rpc.wire import CHUNK_BYTES, ENCLOSED_BYTES_MAX, TICKET, from_wire, to_wire
from protocol.trust.envelope import Envelope, seal, unseal
from protocol.trust.identity import HOST_LENGTH
from protocol.trust.messages import (
    ANSWERS_MAX,
    NONCE_BYTES,
    OPENED_BYTES_MAX,
    BlobPart,
    CertificateRequest,
    Heartbeat,
    Result,
    Welcome,
)
from protocol.trust.openings import open_enclosed
from protocol.trust.ticket import check_ticket

BOOTSTRAP_MAX = 16
WATCH_SECONDS = 1.0  # how often a status stream looks for news


class Service:
    """One method a call of coordinator.proto; each runs on the door's loop and lets threads do the work."""

    def __init__(self, coordinator: Coordinator, bootstrap: Callable[[], list[str]], stamp_bits: int = STAMP_BITS):
        self.coordinator, self.bootstrap = coordinator, bootstrap
        self.stores, self.handlers = coordinator.stores, coordinator.handlers
        self.desk = Desk(coordinator.identity, coordinator.stores.ledger, coordinator.clock, stamp_bits)
        self.calls = Calls(coordinator.stores.ledger, coordinator.effects, coordinator.clock, self.desk.remembers)
        self.transfers, self.data_transfers = Places(TRANSFERS_MAX), Places(DATA_TRANSFERS_MAX)
        self.zoo_transfers = Places(ZOO_TRANSFERS_MAX)
        self.watching: dict[str, str] = {}  # connection -> address
        self.stopping = threading.Event()

    def answers(self) -> dict[str, Answer]:
        short, long = CALL_SECONDS_MAX, TRANSFER_SECONDS_MAX
        return {
            "Join": Answer(self.Join, Lane.JOIN, short),
            "GetCampaign": Answer(self.GetCampaign, Lane.JOIN, short),
            "SubmitCampaign": Answer(self.SubmitCampaign, Lane.JOIN, short),
            "ControlCampaign": Answer(self.ControlCampaign, Lane.JOIN, short),
            "ModerateHost": Answer(self.ModerateHost, Lane.JOIN, short),
            "Poll": Answer(self.Poll, Lane.HOST, short),
            "SubmitResult": Answer(self.SubmitResult, Lane.HOST, short),
            "Certify": Answer(self.Certify, Lane.HOST, short),
            "PutBlob": Answer(self.PutBlob, Lane.HOST, long),
            "GetBlob": Answer(self.GetBlob, Lane.HOST, long, stream=True),
            "PutData": Answer(self.PutData, Lane.HOST, long),
            "GetData": Answer(self.GetData, Lane.HOST, long, stream=True),
            "GetZooFile": Answer(self.GetZooFile, Lane.GUEST, long, stream=True),
            "WatchStatus": Answer(self.WatchStatus, Lane.GUEST, WATCH_SECONDS_MAX + short, stream=True),
        }

    # -- everybody -----------------------------------------------------------------------------------------------

    async def Join(self, call: Call) -> pb.Signed:
        """Where the swarm is, and which campaigns there are. Refuses a nonce that is none, and other versions."""
        request = await call.first(pb.JoinRequest)
        return await call.work(self._welcome, request, call.caller.address)

    def _welcome(self, request: pb.JoinRequest, address: str) -> pb.Signed:
        if len(request.nonce) != NONCE_BYTES:
            raise Refused("nonce", f"{len(request.nonce)} bytes instead of {NONCE_BYTES}")
        core = self.coordinator
        if request.host:  # who only pulls has none
            check_versions(request.version, core.version)
        bits, challenge = self.desk.terms(request.host[:HOST_LENGTH], address)
        welcome = Welcome(
            nonce=request.nonce,
            time=self.desk.time_for(request.host),
            version=core.version,
            bootstrap=tuple(self.bootstrap()[:BOOTSTRAP_MAX]),
            campaigns=tuple(self.stores.campaigns.states()),
            stamp_bits=bits,
            stamp_challenge=challenge,
        )
        return to_wire(seal(core.identity, welcome))

    async def GetCampaign(self, call: Call) -> pb.CampaignReply:
        """A campaign's exact bytes and its signed manifest. Refuses a digest that was never seeded."""
        request = await call.first(pb.CampaignRequest)
        return await call.work(self._campaign, request.digest)

    def _campaign(self, digest: str, whole: bool = True) -> pb.CampaignReply:
        campaign, manifest = self.stores.campaigns.get(digest)
        return pb.CampaignReply(
            digest=digest,
            campaign=campaign.exact if whole else b"",
            manifest=to_wire(manifest),
            state=self.stores.campaigns.states()[digest],
        )

    # -- the organizer -------------------------------------------------------------------------------------------

    async def SubmitCampaign(self, call: Call) -> pb.CampaignReply:
        """Refuses other signers, stale commands, what is no campaign, missing or wrong data sets, and too many."""
        envelope = call.parse(await call.first(pb.Signed))
        return await call.work(self._seed, envelope)

    def _seed(self, envelope: Envelope) -> pb.CampaignReply:
        return self._campaign(self.coordinator.obey(self.coordinator.commands.seed, envelope), whole=False)

    async def ControlCampaign(self, call: Call) -> pb.CampaignReply:
        """Refuses other signers, commands that are old or were taken before, unknown campaigns, and what its state does
        not allow (`policy.campaigns`)."""
        envelope = call.parse(await call.first(pb.Signed))
        return await call.work(self._control, envelope)

    def _control(self, envelope: Envelope) -> pb.CampaignReply:
        return self._campaign(self.coordinator.obey(self.coordinator.commands.control, envelope), whole=False)

    async def ModerateHost(self, call: Call) -> pb.Done:
        """Refuses other signers, commands that are old or were taken before, and what changes nothing."""
        envelope = call.parse(await call.first(pb.Signed))
        await call.work(self.coordinator.obey, self.coordinator.commands.moderate, envelope)
        return pb.Done()

    # -- hosts ---------------------------------------------------------------------------------------------------

    async def Poll(self, call: Call) -> pb.Visited:
        """Refuses a broken signature, a new key without a stamp, a heartbeat that was heard before, and numbers or text
        that must not reach a page, and other start states than it names; a banned host is told why. Of the answers that
        come along those of banned hosts, for slots of others, to other questions, and a second, different one; of the
        start states what PutBlob refuses: each by itself."""
        visit = await call.first(pb.Visit)
        envelope = call.parse(visit.heartbeat)
        if len(visit.answers) > ANSWERS_MAX:
            raise Refused("answers", f"{len(visit.answers)} at once; {ANSWERS_MAX} is the limit")
        if sum(map(len, visit.states)) > OPENED_BYTES_MAX:
            raise Refused("enclosed-size", f"more than {OPENED_BYTES_MAX} bytes go along; upload them")
        answers = [from_wire(answer) for answer in visit.answers]
        return await call.work(self._poll, envelope, answers, visit.states, call.caller.address)

    def _poll(self, envelope: Envelope, answers: list[Envelope], states: Sequence[bytes], address: str) -> pb.Visited:
        host, beat = envelope.signer, unseal(envelope, Heartbeat)
        opened = open_enclosed(beat, states)
        self.desk.admit(host, beat, address)
        self.desk.look_up()
        about_answers, about_states = self.handlers.take_along(host, answers, opened)
        inbox = self.coordinator.inboxes.inbox(host, beat, address)
        return pb.Visited(
            inbox=to_wire(seal(self.coordinator.identity, inbox)),
            refused=self._tell(about_answers, answers),
            refused_states=self._tell(about_states, [envelope] * len(opened)),
        )

    def _tell(self, refused: Sequence[Refused | None], said: Sequence[Envelope]) -> list[str]:
        """Why each was refused, or ""; it is counted against whoever signed it."""
        for error, envelope in zip(refused, said, strict=True):
            if error is not None:
                self.calls.count(error, envelope)
        return [str(error)[:DETAIL_CHARS_MAX] if error else "" for error in refused]

    async def Certify(self, call: Call) -> pb.Signed:
        """A host's credit, signed. Refuses a broken signature, an old request, and who earned nothing or is banned."""
        envelope = call.parse(await call.first(pb.Signed))
        return await call.work(self._certify, envelope)

    def _certify(self, envelope: Envelope) -> pb.Signed:
        request = unseal(envelope, CertificateRequest)
        certificate = self.coordinator.inboxes.certificate(envelope.signer, request)
        return to_wire(seal(self.coordinator.identity, certificate))

    async def SubmitResult(self, call: Call) -> pb.Signed:
        """Refuses banned hosts, unknown campaigns, what is no result of the assignment, and where the campaign asks for
        tickets, hosts without; too many at once, or a key that was not let in: later. A part that comes along and is
        not what the result commits to is refused, and voids the result."""
        request = await call.first(pb.Submission)
        envelope = call.parse(request.result)
        if len(request.trace) + len(request.weights) > ENCLOSED_BYTES_MAX:
            raise Refused("enclosed-size", f"more than {ENCLOSED_BYTES_MAX} bytes go along; upload them")
        parts = {BlobPart.TRACE: request.trace, BlobPart.WEIGHTS: request.weights}
        return await call.work(self._submit_result, envelope, parts, call.metadata(TICKET))

    def _submit_result(self, envelope: Envelope, parts: Mapping[BlobPart, bytes], ticket: bytes) -> pb.Signed:
        if not self.desk.knows(envelope.signer):
            unseal(envelope, Result)  # who signs with a name that is not his hears that, not "later"
            raise Busy("send a heartbeat first: this key is not known here")
        if ticket:
            check_ticket(ticket, self.coordinator.identity.host, envelope.signer, self.coordinator.clock())
        return to_wire(decode_envelope(self.handlers.submit_result(envelope, parts, ticketed=bool(ticket))))

    async def PutBlob(self, call: Call) -> pb.Done:
        """Refuses banned hosts, results of others, parts that are late, unasked for or of another length.

        A part that is not what was committed to is refused too, and voids the result. A place is taken, and waited for,
        only after the signed first message was found right.
        """
        envelope, data = await self._announced(call, "the first message of a blob is its signed Upload")
        if data:
            await call.work(self._put_small, envelope, data)
            return pb.Done()
        case, upload, have = await call.work(self.handlers.open_upload, envelope)
        if not have:
            async with self.transfers.take(call.caller.address, envelope.signer):
                call.starts_moving()
                data = await call.collect(upload.size)
                await call.work(self.handlers.store_parts, case, {upload.part: data})
        return pb.Done()

    def _put_small(self, envelope: Envelope, data: bytes) -> None:
        """All of it came with its announcement: it is in memory already, so there is no place to wait for."""
        case, upload, have = self.handlers.open_upload(envelope)
        if len(data) != upload.size:
            raise Refused("blob-size", f"{len(data)} bytes of the announced {upload.size}")
        if not have:
            self.handlers.store_parts(case, {upload.part: data})

    async def GetBlob(self, call: Call) -> None:
        """Refuses what is not there or not to be fetched now: states outside the checks, a trace before the outcome."""
        request = await call.first(pb.BlobRequest)
        # A place first, then the blob into memory: that is what the number of places is for.
        async with self.transfers.take(call.caller.address):
            data = await call.work(self.handlers.serve_blob, request.result, request.part, request.slot)
            call.starts_moving()
            for start in range(0, len(data), CHUNK_BYTES):
                await call.send(pb.BlobChunk(data=data[start : start + CHUNK_BYTES]))

    async def PutData(self, call: Call) -> pb.Done:
        """Refuses other signers, commands that are old or were taken before, too many bytes, and bytes that are not
        those of the digest."""
        envelope, _ = await self._announced(call, "the first message of a data set is its signed UploadData")
        upload, have = await call.work(self.coordinator.commands.open_data, envelope)
        if not have:
            async with self.data_transfers.take(call.caller.address):
                receiving = await call.work(self.stores.datasets.receive, upload)
                call.starts_moving()
                try:
                    async for data in call.chunks():
                        await call.work(receiving.add, data)
                    await call.work(receiving.keep)
                finally:
                    receiving.drop()
        return pb.Done()

    async def _announced(self, call: Call, what: str) -> tuple[Envelope, bytes]:
        """The signed announcement that a stream begins with, and the data that came with it. Raises Refused."""
        first = await call.first(pb.BlobChunk)
        if not first.HasField("upload"):
            raise Refused("upload-first", what)
        return call.parse(first.upload), first.data

    # -- everybody, what takes long ------------------------------------------------------------------------------

    async def GetData(self, call: Call) -> None:
        """Refuses a digest that is not here."""
        request = await call.first(pb.DataRequest)
        async with self.data_transfers.take(call.caller.address):
            chunks = await call.work(self.stores.datasets.serve, request.digest, request.offset)
            call.starts_moving()
            await call.send_all(chunks)

    async def GetZooFile(self, call: Call) -> None:
        """Refuses with NOT_FOUND, counted against nobody: nothing published, or no such file in the newest manifest."""
        request = await call.first(pb.ZooFileRequest)
        async with self.zoo_transfers.take(call.caller.address):
            try:
                chunks = await call.work(self.coordinator.zoo_files.serve, request.name, request.offset)
            except Refused as error:  # nobody's fault, so not counted: the zoo is young, or has moved on
                raise NotHere(str(error)) from None
            call.starts_moving()
            await call.send_all(chunks)

    async def WatchStatus(self, call: Call) -> None:
        """The status as JSON, once or every second for some minutes. Refuses nobody; too many watchers: later."""
        request = await call.first(pb.StatusRequest)
        connection, address = call.caller.connection, call.caller.address
        others = list(self.watching.values())
        if connection in self.watching or others.count(address) >= WATCHERS_PER_ADDRESS or len(others) >= WATCHERS_MAX:
            raise Busy("others watch already, or you do")
        self.watching[connection] = address
        try:
            for _ in range(int(WATCH_SECONDS_MAX / WATCH_SECONDS) if request.watch else 1):
                call.starts_moving()
                await call.send(pb.StatusReply(json=await call.work(self.coordinator.status_json)))
                if not request.watch or self.stopping.is_set():
                    return
                await asyncio.sleep(WATCH_SECONDS)
        finally:
            del self.watching[connection]
