"""The organizer trains again what was admitted: a ring's fake is found, and all that stands on its word falls."""

from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from sqlalchemy import select
from support.ring import LATER, audits, campaign_of, check_sums, phases, ring_of, row_of
from support.room import Room
from support.scripted_host import ScriptedHost, skip_training

from coordinator.ledger.tables import proofs
from coordinator.policy.actions import NewsKind
from coordinator.policy.auditing import Audit, OwedAudit, audits_at_once
from coordinator.policy.phases import Phase
from protocol.errors import Refused
from protocol.zoo.manifests import latest_manifest
from protocol.zoo.store import Store


@pytest.fixture
def room(tmp_path):
    room = Room(tmp_path, campaign_of())
    room.seed()
    return room


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


def test_some_audits_run_side_by_side_and_no_more(room, monkeypatch):
    ring = ring_of(room)
    for index in range(3, 8):
        room.admit(ring[0], index, *ring)
    begun, auditing = list[OwedAudit](), room.core.audits
    monkeypatch.setattr(auditing, "_at_once", 3)
    monkeypatch.setattr(auditing, "_executor", SimpleNamespace(submit=lambda run, one: begun.append(one)))
    assert auditing.tick() == 3 and auditing.tick() == 0
    auditing._run(begun[0])
    assert auditing.tick() == 1 and len({one.result for one in begun}) == 4
    for one in begun[1:]:
        auditing._run(one)
    assert audits(room) == {Audit.PASSED: 7, Audit.DUE: 1}


def test_the_coordinator_keeps_half_of_its_machine():
    assert [audits_at_once(cores) for cores in (1, 2, 4, 16, 128)] == [1, 1, 2, 8, 8]
