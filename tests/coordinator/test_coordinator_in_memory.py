"""The whole coordinator in one thread and in memory, as a simulation drives it. Killed, it goes on where it was."""

import threading

import msgspec
import pytest
from support.inline import InlineExecutor
from support.scripted_host import CAMPAIGN, Clock, ScriptedHost, engine

from coordinator.checking.beacon import Beacon
from coordinator.policy.actions import NewsKind
from coordinator.server.coordinator import Coordinator
from coordinator.server.directory import memory_directory
from protocol.errors import Refused
from protocol.trust.commitment import traces_to_bytes
from protocol.trust.envelope import seal, unseal
from protocol.trust.identity import Identity
from protocol.trust.messages import Admission, BlobPart, Heartbeat, Inbox, Result, SeedCampaign, Upload


class Room:
    """A coordinator in memory, and hosts that call its handlers."""

    def __init__(self, path) -> None:
        self.clock, self.news = Clock(), []
        self.directory = memory_directory(path, Identity.generate(), Beacon(b"s" * 32, 64))
        self.start()

    def start(self) -> None:
        self.core = Coordinator(
            self.directory,
            clock=self.clock,
            on_news=self.news.append,
            shared_seconds=0.0,
            executor=InlineExecutor(),
            engines=lambda replay: engine(),
        )

    def seed(self) -> None:
        self.core.handlers.seed_campaign(seal(self.directory.identity, SeedCampaign(campaign=CAMPAIGN.exact)))

    def tick(self, seconds: float = 6.0) -> None:
        self.clock.now += seconds
        for _ in range(5):  # a link, a draw, the checks, their answers, the outcome
            self.core.woken.set()
            self.core.tick()

    def put(self, host: ScriptedHost, digest: bytes, part: str, data: bytes) -> None:
        announced = seal(host.identity, Upload(result=digest, part=BlobPart(part), size=len(data)))
        case, upload, have = self.core.handlers.open_upload(announced)
        assert not have
        self.core.handlers.store_upload(case, upload.part, data)

    def poll(self, host: ScriptedHost, *holding: bytes) -> Inbox:
        beat = Heartbeat(
            nonce=b"n" * 16,
            name=host.name,
            device="",
            version="",
            steps_per_second=1.0,
            networks_trained=0,
            checks_done=0,
            holding=holding,
        )
        return self.core.inboxes.inbox(host.host, beat)


@pytest.fixture
def room(tmp_path):
    room = Room(tmp_path)
    room.seed()
    return room


def commit(room: Room, host: ScriptedHost, index: int) -> bytes:
    envelope = host.result(index)
    room.core.handlers.submit_result(envelope)
    room.put(host, envelope.digest, "trace", traces_to_bytes(host.traces(CAMPAIGN.assignment(index))))
    room.put(host, envelope.digest, "weights", host.weights(index))
    return envelope.digest


def admit(room: Room, host: ScriptedHost, index: int) -> bytes:
    digest = commit(room, host, index)
    room.tick()
    (opening,) = room.poll(host, digest).openings
    room.put(host, digest, "states", host.states(index, opening.cells))
    room.tick()
    (outcome,) = room.poll(host, digest).outcomes
    assert unseal(outcome, Admission).outcome == "admitted"
    return digest


def test_a_result_is_admitted_by_one_thread_without_a_file(room, tmp_path):
    before = set(threading.enumerate())
    alice = ScriptedHost("alice", 1)
    admit(room, alice, 0)
    inbox = room.poll(alice)
    assert (inbox.credit, inbox.clean_bundles) == (12, 1)
    assert room.core.done_bits(CAMPAIGN.digest) == {0: 0b0001}
    assert NewsKind.ADMITTED in [news.kind for news in room.news]
    assert set(threading.enumerate()) <= before
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_killed_coordinator_goes_on_over_its_directory(room):
    alice = ScriptedHost("alice", 1)
    digest = commit(room, alice, 0)
    room.tick()
    asked = room.poll(alice, digest).openings
    room.start()
    assert room.poll(alice, digest).openings == asked
    room.put(alice, digest, "states", alice.states(0, asked[0].cells))
    room.start()
    room.tick()
    (outcome,) = room.poll(alice, digest).outcomes
    assert unseal(outcome, Admission).outcome == "admitted"


def test_a_withdrawal_that_bans_is_stored_though_the_result_is_refused(room):
    """The refusal once took the fault and the ban back with it, for they were one change of the ledger."""
    alice = ScriptedHost("alice", 1)
    for index in (0, 1):
        commit(room, alice, index)
        room.tick()
        room.tick(seconds=61)  # past policy.opening_seconds: void, no fault
        second = msgspec.structs.replace(unseal(alice.result(index), Result), backend="another", commitment=bytes(32))
        if index == 0:
            room.core.handlers.submit_result(seal(alice.identity, second))
        else:
            with pytest.raises(Refused, match="2 faults"):
                room.core.handlers.submit_result(seal(alice.identity, second))
    assert "2 faults" in room.poll(alice).banned
    assert room.core.done_bits(CAMPAIGN.digest) == {}  # the first withdrawal's result is void with its host
