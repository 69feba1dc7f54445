"""The whole coordinator in one thread and in memory, as a simulation drives it. Killed, it goes on where it was."""

import threading

import msgspec
import pytest
from support.room import Room
from support.scripted_host import CAMPAIGN, ScriptedHost

from coordinator.policy.actions import NewsKind
from protocol.errors import Refused
from protocol.trust.envelope import seal, unseal
from protocol.trust.messages import Admission, Result


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
