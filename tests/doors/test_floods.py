"""Attacks on the doors, against the real service on loopback: rows 1 to 5 and 20 of the attacks."""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator

import grpc
import pytest
from support.scripted_host import CAMPAIGN, Stage

from coordinator.server import service as service_module
from coordinator.server.doors import call as call_module
from coordinator.server.doors import limits
from peer.session.client import Client
from protocol.rpc import coordinator_pb2 as pb
from protocol.rpc.channel import CHANNEL_OPTIONS, channel_credentials
from protocol.rpc.coordinator_pb2_grpc import CoordinatorStub
from protocol.rpc.wire import to_wire
from protocol.trust.commitment import traces_to_bytes
from protocol.trust.envelope import seal
from protocol.trust.identity import Identity
from protocol.trust.messages import BlobPart, Upload

JOIN_SECONDS = 3.0
NAMES = ("Join", "Poll", "SubmitResult", "PutBlob", "PutData", "GetBlob", "WatchStatus")


@pytest.fixture
def stage(tmp_path) -> Iterator[Stage]:
    stage = Stage(tmp_path / "host")
    stage.seed()
    yield stage
    stage.close()


class Crowd:
    """Calls whose first message never comes, over connections of their own."""

    def __init__(self, stage: Stage):
        self.stage, self.over = stage, threading.Event()
        self.channels: list[grpc.Channel] = []
        self.calls: list[grpc.Call] = []

    def channel(self) -> grpc.Channel:
        options = [*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
        credentials = channel_credentials(self.stage.core.identity.host)
        self.channels.append(grpc.secure_channel(f"127.0.0.1:{self.stage.port}", credentials, options=options))
        return self.channels[-1]

    def _nothing(self) -> Iterator[bytes]:
        self.over.wait()
        yield from ()

    def say_nothing(self, calls: int, connections: int) -> None:
        channels = [self.channel() for _ in range(connections)]
        for number in range(calls):
            method = f"/zooswarm.v1.Coordinator/{NAMES[number % len(NAMES)]}"
            self.calls.append(channels[number % connections].stream_stream(method)(self._nothing()))

    def cut_off(self) -> int:
        return sum(call.code() is not None for call in self.calls if not call.is_active())

    def close(self) -> None:
        self.over.set()
        for channel in self.channels:
            channel.close()


@pytest.fixture
def crowd(stage) -> Iterator[Crowd]:
    with contextlib.closing(Crowd(stage)) as crowd:
        yield crowd


def eventually(so: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not so():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.01)


def join_seconds(stage: Stage) -> float:
    """How long a newcomer at the same address takes: connection, Join, campaign, first heartbeat."""
    began = time.monotonic()
    client = Client(f"127.0.0.1:{stage.port}", Identity.generate(), stage.core.identity.host)
    client.campaign(client.join("1").campaigns[0])
    client.close()
    stage.host("newcomer").poll()
    return time.monotonic() - began


def test_two_hundred_calls_that_say_nothing_keep_nobody_out(stage, crowd):
    crowd.say_nothing(200, connections=20)
    eventually(lambda: stage.server.callers.silent() >= limits.SILENT_PER_ADDRESS)
    assert join_seconds(stage) < JOIN_SECONDS
    eventually(lambda: crowd.cut_off() >= 200 - limits.SILENT_PER_ADDRESS - 7)  # the eldest went, the newest are open
    eventually(lambda: stage.server.callers.silent() <= limits.SILENT_PER_ADDRESS)
    assert join_seconds(stage) < JOIN_SECONDS


def test_one_connection_has_few_silent_calls(stage, crowd):
    crowd.say_nothing(56, connections=1)
    eventually(lambda: crowd.cut_off() == 56 - limits.SILENT_PER_CONNECTION)
    assert join_seconds(stage) < JOIN_SECONDS


def test_a_call_that_says_nothing_is_cut_off(stage, crowd, monkeypatch):
    monkeypatch.setattr(call_module, "FIRST_MESSAGE_SECONDS", 0.2)
    crowd.say_nothing(16, connections=2)
    eventually(lambda: crowd.cut_off() == 16)
    assert {call.code() for call in crowd.calls} == {grpc.StatusCode.CANCELLED}
    eventually(lambda: stage.server.callers.silent() == 0)


def test_an_upload_that_trickles_loses_its_place_and_others_wait_for_one(stage, crowd, monkeypatch):
    """Row 3: a place is taken after the signed first message, and kept by who goes on."""
    monkeypatch.setattr(limits, "PATIENCE_SECONDS", 0.5)
    stage.service.transfers.number = stage.service.transfers.per_address = 1
    mallory, alice = stage.host("mallory"), stage.host("alice")
    results = [mallory.result(0), alice.result(1)]
    traces = [traces_to_bytes(host.traces(CAMPAIGN.assignment(index))) for index, host in enumerate((mallory, alice))]
    for host, result in zip((mallory, alice), results, strict=True):
        host.submit(result)

    def trickle() -> Iterator[bytes]:
        upload = Upload(result=results[0].digest, part=BlobPart.TRACE, size=len(traces[0]))
        yield pb.BlobChunk(upload=to_wire(seal(mallory.identity, upload))).SerializeToString()
        crowd.over.wait()

    call = crowd.channel().stream_stream("/zooswarm.v1.Coordinator/PutBlob")(trickle())
    eventually(lambda: stage.service.transfers._taken == 1)
    alice.put(results[1].digest, "trace", traces[1])  # waits until the place is free
    assert call.code() is grpc.StatusCode.CANCELLED and "few bytes" in (call.details() or "")


def test_a_watch_ends_by_itself_and_one_connection_has_one(stage, crowd, monkeypatch):
    """Row 5."""
    monkeypatch.setattr(service_module, "WATCHERS_PER_ADDRESS", 2)
    watching = [iter(CoordinatorStub(crowd.channel()).WatchStatus(pb.StatusRequest(watch=True))) for _ in range(2)]
    for watch in watching:
        next(watch)
    with pytest.raises(grpc.RpcError) as caught:
        next(iter(CoordinatorStub(crowd.channels[0]).WatchStatus(pb.StatusRequest(watch=True))))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    with pytest.raises(grpc.RpcError):
        next(iter(CoordinatorStub(crowd.channel()).WatchStatus(pb.StatusRequest())))
    for watch in watching:
        watch.cancel()  # type: ignore[attr-defined]
    eventually(lambda: not stage.service.watching)
    monkeypatch.setattr(service_module, "WATCH_SECONDS_MAX", 0.03)
    monkeypatch.setattr(service_module, "WATCH_SECONDS", 0.01)
    assert len(list(CoordinatorStub(crowd.channel()).WatchStatus(pb.StatusRequest(watch=True)))) == 3


def test_messages_that_are_too_large_are_refused_and_nothing_else_happens(stage, crowd):
    """Row 20."""
    stub = CoordinatorStub(crowd.channel())
    for size, code in ((8 << 20, grpc.StatusCode.INVALID_ARGUMENT), (10 << 20, grpc.StatusCode.RESOURCE_EXHAUSTED)):
        with pytest.raises(grpc.RpcError) as caught:
            signer = stage.core.identity.host
            signed = pb.Signed(kind="heartbeat", signer=signer, payload=bytes(size), signature=bytes(64))
            stub.Poll(pb.Visit(heartbeat=signed))
        assert caught.value.code() is code
    assert join_seconds(stage) < JOIN_SECONDS


def test_every_call_has_a_lane_and_an_end(stage):
    answers = stage.service.answers()
    assert set(answers) == {m.name for m in pb.DESCRIPTOR.services_by_name["Coordinator"].methods}
    assert all(0 < answer.seconds_max <= 1000 for answer in answers.values())


def test_nonsense_is_refused_with_a_reason(stage, crowd):
    def say(method: str, *messages: bytes) -> grpc.RpcError:
        with pytest.raises(grpc.RpcError) as caught:
            list(crowd.channel().stream_stream(f"/zooswarm.v1.Coordinator/{method}")(iter(messages)))
        return caught.value

    assert (say("Poll", b"\xff\xff").details() or "").startswith("message: ")
    assert (say("PutBlob").details() or "").startswith("no-message: ")
    assert say("Rob").code() is grpc.StatusCode.UNIMPLEMENTED


def test_no_call_lasts_for_ever(stage, crowd, monkeypatch):
    """Whatever it does meanwhile; the caller asks for the rest."""
    answers = stage.server._answers
    monkeypatch.setitem(answers, "WatchStatus", dataclasses.replace(answers["WatchStatus"], seconds_max=0.3))
    with pytest.raises(grpc.RpcError) as caught:
        list(CoordinatorStub(crowd.channel()).WatchStatus(pb.StatusRequest(watch=True)))
    assert caught.value.code() is grpc.StatusCode.CANCELLED and "took too long" in (caught.value.details() or "")
    eventually(lambda: not stage.service.watching)


def test_a_caller_that_goes_away_leaves_nothing_open(stage, crowd):
    alice = stage.host("alice")
    digest = alice.commit(0)
    stage.service.transfers.number = 0  # it waits for a place
    call = alice.stub.GetBlob(pb.BlobRequest(result=digest, part="weights"))
    eventually(lambda: stage.service.transfers._waiting)
    call.cancel()
    eventually(lambda: not stage.service.transfers._waiting and not stage.server.callers._speaking)
    stage.service.transfers.number = 1
    assert alice.get(digest, "weights", 0, len(alice.weights(0))) == alice.weights(0)
