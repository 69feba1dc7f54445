"""The organizer trains again what was admitted: a ring's fake is found, and all that stands on its word falls."""

import threading

import msgspec
import numpy as np
import pytest
from sqlalchemy import select
from support.room import Room
from support.scripted_host import POLICY, RECIPE, ScriptedHost, skip_training

from coordinator.checking.retraining import NotExact, Stopped, confirm, first_difference, retrain
from coordinator.ledger.tables import campaigns, hosts, networks, proofs, results
from coordinator.policy.actions import NewsKind
from coordinator.policy.auditing import Audit
from coordinator.policy.phases import Phase
from protocol.engine.native.engine import NativeEngine
from protocol.engine.select import select_engine
from protocol.errors import Refused
from protocol.recipes.campaign import Campaign, Population
from protocol.tasks.datasets import NO_SHELF
from protocol.zoo.manifests import latest_manifest
from protocol.zoo.store import Store

LATER = 2  # vesting of a campaign of twenty assignments
RING = msgspec.structs.replace(POLICY, audit_share=1.0, probation_bundles=1)


def campaign_of(**policy) -> Campaign:
    rules = msgspec.structs.replace(RING, **policy)
    return Campaign(name="ring", populations=(Population(recipe=RECIPE, count=40, bundle=2),), policy=rules)


@pytest.fixture
def room(tmp_path):
    room = Room(tmp_path, campaign_of())
    room.seed()
    return room


def ring_of(room: Room) -> list[ScriptedHost]:
    """Three hosts that have earned standing with one honest bundle each: assignments 0, 1 and 2."""
    ring = [ScriptedHost(name, 1) for name in ("worker", "bob", "carol")]
    for index, host in enumerate(ring):
        room.admit(host, index, *ring)
    assert room.audit() == 3 and audits(room) == {Audit.PASSED: 3}
    return ring


def audits(room: Room) -> dict[Audit, int]:
    with room.directory.stores.ledger.read() as connection:
        found = connection.execute(select(results.c.audit)).scalars().all()
    return {Audit(audit): found.count(audit) for audit in set(found) if audit}


def row_of(room: Room, digest: bytes):
    with room.directory.stores.ledger.read() as connection:
        return connection.execute(select(results).where(results.c.digest == digest)).one()


def phases(room: Room) -> dict[int, Phase]:
    """Of each assignment's last result."""
    with room.directory.stores.ledger.read() as connection:
        rows = connection.execute(select(results.c.assignment, results.c.phase).order_by(results.c.received_at))
        return {row.assignment: Phase(row.phase) for row in rows}


def check_sums(room: Room) -> None:
    """What is credited, in escrow, counted and registered is what stands."""
    with room.directory.stores.ledger.read() as connection:
        admitted = connection.execute(select(results).where(results.c.phase == Phase.ADMITTED)).all()
        for host in connection.execute(select(hosts)):
            mine = [row for row in admitted if row.worker == host.host]
            assert (host.credit, host.clean_bundles) == (sum(row.segments for row in mine), len(mine))
            assert host.escrow == sum(row.segments for row in mine if not row.vested)
        assert connection.execute(select(campaigns.c.admitted)).scalar() == len(admitted)
        registered = connection.execute(select(networks.c.seed)).scalars().all()
        assert sorted(registered) == sorted(
            seed for row in admitted for seed in room.campaign.assignment(row.assignment).seeds
        )


@pytest.mark.parametrize("published", [False, True])
def test_an_audit_finds_a_rings_fake_and_worker_and_vouchers_fall(room, published):
    worker, bob, carol = ring = ring_of(room)
    fake = room.admit(worker, 3, bob, carol, lie=skip_training)
    if published:
        assert room.core.curate(force=True) == 8
    check_sums(room)
    assert room.audit() >= 2  # found, then judged; then what they vouched for
    assert row_of(room, fake).phase == Phase.RETRACTED and row_of(room, fake).audit == Audit.JUDGED
    status = room.core.status()
    assert {host.host for host in status.hosts if host.convicted} == {host.host for host in ring}
    assert status.audits.vouchers == 2 and status.audits.judged == 1 and status.campaigns[0].retracted == 4
    assert all(phase is Phase.RETRACTED for phase in phases(room).values()), "all of it was in escrow"
    check_sums(room)
    assert room.core.done_bits(room.campaign.digest) == {}
    for host in ring:
        assert room.poll(host).banned
        with pytest.raises(Refused, match="banned"):
            room.commit(host, 5)
    if published:
        assert not room.core.all_complete() and room.core.curate() == 0
        manifest = latest_manifest(room.core.path / "zoo")
        assert manifest is not None and not Store(room.core.path / "zoo", manifest).catalogue(["id"])["id"].to_pylist()
        reasons = {told.evidence: told.reason for told in manifest.retracted}
        assert len(reasons) == 4 and "trained seed" in reasons[row_of(room, fake).evidence]
        assert room.core.curate() == 0 and latest_manifest(room.core.path / "zoo") == manifest, "once is enough"
    kinds = [news.kind for news in room.news]
    assert kinds.count(NewsKind.VOUCHED) == 2 and kinds.count(NewsKind.RETRACTED) == 4


def test_the_proof_of_each_conviction_is_kept(room):
    worker, bob, carol = ring_of(room)
    fake = room.admit(worker, 3, bob, carol, lie=skip_training)
    room.audit()
    with room.directory.stores.ledger.read() as connection:
        kept = {(row.host, row.slot): row for row in connection.execute(select(proofs))}
    assert {host for host, _ in kept} == {worker.host, bob.host, carol.host}
    assert all(row.result == fake and row.place and row.truth for row in kept.values())
    assert kept[worker.host, -1].place == f"network {kept[worker.host, -1].place.split()[1]} boundary 1"


def test_honest_work_that_liars_vouched_for_is_looked_at_again_and_stays(room):
    worker, bob, carol = ring = ring_of(room)
    dave = ScriptedHost("dave", 1)
    honest = [room.admit(dave, index, *ring) for index in (4, 5, 6)]
    room.clock.now += 40.0  # dave leaves
    fake = room.admit(worker, 3, bob, carol, lie=skip_training)
    room.audit()
    assert row_of(room, fake).phase == Phase.RETRACTED
    assert all(row_of(room, digest).phase == Phase.ADMITTED for digest in honest)
    assert all(row_of(room, digest).audit == Audit.PASSED for digest in honest)
    inbox = room.poll(dave)
    assert not inbox.banned and (inbox.credit, inbox.escrow) == (36, 24)
    check_sums(room)


def test_what_has_vested_stays_when_it_is_true_and_is_looked_at_again(room):
    worker, bob, carol = ring_of(room)
    for index in (10, 11, 12):
        room.admit(worker, index, bob, carol)
    room.audit()
    assert row_of(room, room.admit(worker, 3, bob, carol, lie=skip_training)).phase == Phase.ADMITTED
    room.audit()
    kept = {index for index, phase in phases(room).items() if phase is Phase.ADMITTED}
    assert kept == {0, 10, 11}, "these had later bundles enough, and are what their seeds give"
    check_sums(room)


@pytest.mark.parametrize(("gone", "false"), [(False, {2, 3}), (True, {2})])
def test_whoever_vouched_for_a_false_cell_falls_and_nobody_else(room, gone, false):
    """With the states gone (chance did not want the bundle, suspicion comes later) only the cell that leaves the true
    path convicts: where an invented state leads is not known."""
    worker, bob, carol = ring_of(room)
    fake = room.admit(worker, 3, bob, carol, lie=one_segment)
    assert room.core.curate(force=True) == 8
    if gone:
        room.directory.stores.blobs.remove(fake)
        room.directory.stores.cases.forget(fake)
    room.audit()
    assert row_of(room, fake).phase == Phase.RETRACTED
    tasks = room.directory.stores.cases.get(fake).tasks
    liars = {slot for slot, task in enumerate(tasks) if any(cell.segment in false for cell in task.cells)}
    assert room.core.status().audits.vouchers == len(liars)


def one_segment(boundaries):
    """The third segment's end is invented, and so is what the fourth makes of it."""
    fake = list(boundaries)
    state = fake[3].state
    bent = msgspec.structs.replace(state, params=(state.params + np.float32(0.25)).astype(np.float32))
    fake[3] = msgspec.structs.replace(fake[3], state=bent)
    return fake


def test_a_campaign_that_was_complete_runs_again_and_honest_hosts_finish_it(tmp_path):
    room = Room(tmp_path, campaign_of(vesting_bundles=0))
    room.seed()
    worker, bob, carol = ring_of(room)
    for index in range(3, 20):
        room.admit(worker, index, bob, carol, lie=skip_training if index == 19 else None)
    told = dict(room.poll(bob).campaigns)
    assert room.core.status().campaigns[0].state in ("complete", "publishing")
    assert told[room.campaign.digest] == "running", "while an audit is owed, volunteers stay"
    assert not room.core.all_complete()
    room.core.curate(force=True)
    room.audit()
    campaign = room.core.status().campaigns[0]
    assert (campaign.state, campaign.admitted, campaign.retracted) == ("running", 19, 1)
    dave = ScriptedHost("dave", 1)
    room.admit(dave, 19)
    room.core.curate(force=True)
    room.audit()
    zoo = room.core.path / "zoo"
    manifest = latest_manifest(zoo)
    assert manifest is not None and len(manifest.retracted) == 1
    table = Store(zoo, manifest).catalogue(["seed", "host"])
    by_seed = dict(zip(table["seed"].to_pylist(), table["host"].to_pylist(), strict=True))
    assert len(by_seed) == 40 and {by_seed[38], by_seed[39]} == {dave.host}
    assert room.core.status().campaigns[0].state == "complete" and room.core.all_complete()
    check_sums(room)


def test_a_restart_forgets_no_audit_and_no_judgement(room):
    worker, bob, carol = ring_of(room)
    fake = room.admit(worker, 3, bob, carol, lie=skip_training)
    room.start()
    assert room.core.audit() == 1 and row_of(room, fake).audit == Audit.JUDGING
    room.start()
    room.audit()
    assert row_of(room, fake).audit == Audit.JUDGED and room.core.status().audits.vouchers == 2


def test_chance_decides_at_admission_and_blobs_stay_until_the_audit(tmp_path):
    for share, owed in ((0.0, {}), (1.0, {Audit.DUE: 1})):
        room = Room(tmp_path / str(share), campaign_of(audit_share=share))
        room.seed()
        digest = room.admit(ScriptedHost("alice", 1), 0)
        assert audits(room) == owed
        room.core.curate(force=True)
        assert (digest in room.directory.stores.blobs.results()) == bool(owed)
        room.audit()
        assert digest not in room.directory.stores.blobs.results()


def test_credit_is_shown_with_what_is_in_escrow(room):
    alice = ScriptedHost("alice", 1)
    for index in range(LATER + 1):
        room.admit(alice, index)
    inbox = room.poll(alice)
    assert (inbox.credit, inbox.escrow) == (36, 24)
    (status,) = [host for host in room.core.status().hosts if host.host == alice.host]
    assert (status.credit, status.escrow) == (36, 24)


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
