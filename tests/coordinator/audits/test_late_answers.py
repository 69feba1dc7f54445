"""Answers that come after the outcome: who vouched for a fake falls all the same, and nobody else."""

import pytest
from sqlalchemy import select
from support.ring import campaign_of, check_sums, ring_of, row_of
from support.room import Room
from support.scripted_host import ScriptedHost, skip_training

from coordinator.ledger.tables import proofs
from coordinator.policy.auditing import Audit
from coordinator.policy.phases import Phase
from protocol.engine.select import select_engine
from protocol.errors import Refused
from protocol.trust.envelope import seal
from protocol.trust.spot_check import spot_check
from protocol.trust.verdict import agreeing_answer


@pytest.fixture
def room(tmp_path):
    room = Room(tmp_path, campaign_of())
    room.seed()
    return room


def caught_with_bob_seated(room: Room) -> tuple[ScriptedHost, bytes, int]:
    """Bob alone is here to check a fake; the organizer's own slot convicts its worker before bob has said a word."""
    worker, bob, _ = ring_of(room)
    room.clock.now += 40.0  # all others leave
    fake = room.commit(worker, 3, skip_training)
    room.poll(bob)
    room.tick()
    room.open(worker, fake, 3, skip_training)
    room.core.woken.set()
    room.core.tick()  # the slots are given out
    (check,) = room.poll(bob).checks
    room.tick()
    assert row_of(room, fake).phase == Phase.INVALID and row_of(room, fake).audit == Audit.JUDGING
    return bob, fake, check.slot


@pytest.mark.parametrize("judged", [False, True])
def test_an_answer_that_vouches_for_a_fake_convicts_though_it_comes_after_the_conviction(room, judged):
    bob, fake, slot = caught_with_bob_seated(room)
    if judged:
        room.audit()
        assert row_of(room, fake).audit == Audit.JUDGED and not room.poll(bob).banned
    room.say(bob, fake, slot, 3, skip_training)
    room.say(bob, fake, slot, 3, skip_training)  # once more, for its reply was lost
    room.audit()
    assert room.core.status().audits.vouchers == 1
    assert "vouched for a fake" in room.poll(bob).banned
    with room.directory.stores.ledger.read() as connection:
        assert connection.execute(select(proofs.c.slot).where(proofs.c.host == bob.host)).scalars().all() == [slot]
    check_sums(room)


def test_an_honest_answer_that_comes_after_the_conviction_harms_nobody(room):
    """One that disagrees is not even looked into; one that agrees where the bundle is true is found clean."""
    bob, fake, slot = caught_with_bob_seated(room)
    room.audit()
    case = room.directory.stores.cases.get(fake)
    states, weights = room.directory.stores.cases.check_inputs(case, slot)
    answer = spot_check(select_engine("c"), case.assignment, fake, slot, case.tasks[slot], states, weights)
    room.core.handlers.begin_answer(seal(bob.identity, answer))()
    room.audit()
    assert row_of(room, fake).audit == Audit.JUDGED and not room.poll(bob).banned


def test_an_answer_that_comes_when_the_leaves_are_gone_is_dropped(room):
    bob, fake, slot = caught_with_bob_seated(room)
    room.audit()
    room.directory.stores.blobs.remove(fake)
    room.directory.stores.cases.forget(fake)
    room.say(bob, fake, slot, 3, skip_training)
    assert room.audit() == 0 and not room.poll(bob).banned
    with pytest.raises(Refused, match="not-seated"):
        room.say(ScriptedHost("eve", 1), fake, slot, 3, skip_training)


def test_an_answer_that_was_on_its_way_when_its_result_was_judged_is_judged_too(room):
    """It came before the outcome, and is stored after the judgement."""
    bob, fake, slot = caught_with_bob_seated(room)
    case = room.directory.stores.cases.get(fake)
    answer = agreeing_answer(fake, slot, case.tasks[slot], room.traces(3, skip_training), "none")
    room.audit()
    room.core.handlers.answers.enter(case, answer, seal(bob.identity, answer), replay=False)
    room.audit()
    assert "vouched for a fake" in room.poll(bob).banned
