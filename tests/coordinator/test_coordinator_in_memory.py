"""The whole coordinator in one thread and in memory, as a simulation drives it. Killed, it goes on where it was."""

import threading

import msgspec
import pytest
from support.room import Room
from support.scripted_host import CAMPAIGN, ScriptedHost, skip_training

from coordinator.policy.actions import NewsKind
from coordinator.server.console import note_of
from protocol.errors import Refused
from protocol.trust.commitment import traces_to_bytes
from protocol.trust.envelope import seal, unseal
from protocol.trust.messages import Admission, Receipt, Result


@pytest.fixture
def room(tmp_path):
    room = Room(tmp_path, CAMPAIGN)
    room.seed()
    return room


def test_a_result_is_admitted_by_one_thread_without_a_file(room, tmp_path):
    before = set(threading.enumerate())
    alice = ScriptedHost("alice", 1)
    room.admit(alice, 0)
    inbox = room.poll(alice)
    assert (inbox.credit, inbox.clean_bundles) == (12, 1)
    assert room.core.done_bits(CAMPAIGN.digest) == {0: 0b0001}
    assert NewsKind.ADMITTED in [news.kind for news in room.news]
    assert set(threading.enumerate()) <= before
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_killed_coordinator_goes_on_over_its_directory(room):
    alice = ScriptedHost("alice", 1)
    digest = room.commit(alice, 0)
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
        room.commit(alice, index)
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


def finish(room: Room, host: ScriptedHost, digest: bytes, index: int, lie=None) -> str:
    """From the draw to the outcome's word."""
    room.tick()
    room.open(host, digest, index, lie)
    room.tick()
    room.tick()
    (outcome,) = room.poll(host, digest).outcomes
    return unseal(outcome, Admission).outcome


def submit(room: Room, host: ScriptedHost, index: int) -> bytes:
    """The commitment alone; its digest."""
    result = host.result(index)
    room.core.handlers.submit_result(result)
    return result.digest


def upload(room: Room, host: ScriptedHost, digest: bytes, index: int) -> None:
    """What the inbox asks for."""
    parts = {"trace": traces_to_bytes(host.traces(CAMPAIGN.assignment(index))), "weights": host.weights(index)}
    for result, part in room.poll(host, digest).missing:
        room.put(host, result, part, parts[part])


@pytest.mark.parametrize("first", ["alice", "mallory"])
def test_an_honest_result_that_a_fake_overtook_is_taken_up_and_nobody_trains_again(room, first):
    """Mallory needs no training, so mallory is here first, whoever commits first. Alice's bundle is not lost by it."""
    mallory, alice = ScriptedHost("mallory", 1), ScriptedHost("alice", 1)
    digest = submit(room, alice, 0) if first == "alice" else b""
    fake = room.commit(mallory, 0, skip_training)
    digest = digest or submit(room, alice, 0)
    upload(room, alice, digest, 0)
    assert room.poll(alice, digest).outcomes == () and room.core.done_bits(CAMPAIGN.digest) == {0: 0b0001}
    room.start()
    assert finish(room, mallory, fake, 0, skip_training) == "convicted"
    assert room.core.done_bits(CAMPAIGN.digest) == {0: 0b0001}, "its place is never free"
    assert room.poll(alice, digest).missing == ()
    assert finish(room, alice, digest, 0) == "admitted"
    case = room.core.stores.cases.get(digest)
    receipt, link = unseal(case.receipt, Receipt), case.draw.link
    assert room.directory.beacon.link(receipt.epoch + 1) == link, "what challenges it is younger than what it answers"
    assert receipt.epoch >= 1
    assert room.poll(alice, digest).credit == 12
    assert room.core.status().campaigns[0].admitted == 1
    assert room.core.curate(force=True) == 2


def test_a_kept_result_is_a_duplicate_when_the_first_one_is_admitted_and_its_blobs_go(room):
    bob, alice = ScriptedHost("bob", 1), ScriptedHost("alice", 1)
    digest = submit(room, alice, 0)
    honest = room.commit(bob, 0)
    upload(room, alice, digest, 0)
    status = room.core.status()
    assert status.campaigns[0].kept == 1 and "1 kept" in note_of(status.campaigns[0], status)
    assert finish(room, bob, honest, 0) == "admitted"
    room.tick()
    assert room.core.status().campaigns[0].kept == 0
    (outcome,) = room.poll(alice, digest).outcomes
    assert unseal(outcome, Admission).outcome == "duplicate" and not room.poll(alice).banned
    assert digest not in room.directory.stores.blobs.results()
    status = room.core.status().campaigns[0]
    assert (status.admitted, status.pending, status.rejected) == (1, 3, 1)


def test_a_kept_result_that_is_not_uploaded_goes_on_where_it_was(room):
    """It competes again, and its challenge is drawn once: with mallory's help it has learned nothing."""
    mallory, alice = ScriptedHost("mallory", 1), ScriptedHost("alice", 1)
    digest = submit(room, alice, 0)
    room.tick()
    drawn = room.core.stores.cases.get(digest).draw
    assert drawn is not None
    fake = room.commit(mallory, 0, skip_training)
    assert room.poll(alice, digest).openings == ()
    assert finish(room, mallory, fake, 0, skip_training) == "convicted"
    assert room.core.done_bits(CAMPAIGN.digest) == {}
    upload(room, alice, digest, 0)
    assert finish(room, alice, digest, 0) == "admitted"
    assert room.core.stores.cases.get(digest).draw == drawn
