"""A network trained again, on a machine that is sound, and on one that is not."""

import threading

import msgspec
import numpy as np
import pytest
from support.ring import audits, campaign_of, row_of
from support.room import Room
from support.scripted_host import RECIPE, ScriptedHost

from coordinator.checking.retraining import NotExact, Stopped, confirm, first_difference, retrain
from coordinator.policy.auditing import Audit
from coordinator.policy.phases import Phase
from protocol.engine.native.engine import NativeEngine
from protocol.engine.select import select_engine
from protocol.tasks.datasets import NO_SHELF


class Crooked(NativeEngine):
    """An engine of a computer that is not sound: one bit of one parameter is other than everywhere else."""

    name = "crooked"

    def train(self, recipe, data, seeds, states, steps):
        states, losses = super().train(recipe, data, seeds, states, steps)
        return [bent(state) for state in states], losses


def bent(state):
    params = state.params.copy()
    params.view(np.uint32)[0] ^= 1
    return msgspec.structs.replace(state, params=params)


def test_a_fault_of_our_own_computer_convicts_nobody(tmp_path):
    room = Room(tmp_path, campaign_of())
    room.seed()
    alice = ScriptedHost("alice", 1)
    digest = room.admit(alice, 0)
    sound = select_engine("c")
    room.core.audits._engines = lambda replay: sound if replay else Crooked()
    room.audit()
    assert row_of(room, digest).phase == Phase.ADMITTED and audits(room) == {Audit.DUE: 1}
    assert not room.poll(alice).banned
    assert room.core.audit() == 0, "it is tried again after a while, not at once"
    room.core.audits._engines = lambda replay: sound
    room.clock.now += 61.0
    room.audit()
    assert audits(room) == {Audit.PASSED: 1}


def test_another_build_confirms_a_boundary_or_says_that_the_machine_is_not_sound():

    sound, reference = select_engine("c"), select_engine("numpy")
    truth = retrain(sound, RECIPE, 5, NO_SHELF, threading.Event())
    assert len(truth.trace) == 7 and truth.boundaries[-1].final
    for boundary in (0, 1, 6):
        assert confirm(reference, RECIPE, truth, boundary, NO_SHELF) == truth.trace[boundary]
    crooked = retrain(Crooked(), RECIPE, 5, NO_SHELF, threading.Event())
    assert first_difference(truth.trace, crooked.trace) == 1
    with pytest.raises(NotExact, match="seed 5 boundary 1"):
        confirm(reference, RECIPE, crooked, 1, NO_SHELF)
    with pytest.raises(ValueError, match="do not differ"):
        first_difference(truth.trace, truth.trace)


def test_an_audit_ends_after_the_segment_when_the_program_does():

    stopping = threading.Event()
    stopping.set()
    with pytest.raises(Stopped):
        retrain(select_engine("c"), RECIPE, 5, NO_SHELF, stopping)
