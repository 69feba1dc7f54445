"""A backup of a running host is one moment of it; restored it goes on, and never uses a link of the beacon twice."""

import json
import shutil
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.scripted_host import Stage
from support.swarms.stage import Stage as Swarm

from analysis.audit.check import audit_zoo
from coordinator.server.doctor.examine import examine
from coordinator.server.keeping.backup import back_up, covering
from coordinator.server.keeping.epochs import SPARE, skipped_to
from coordinator.server.keeping.restore import lines, restore
from protocol.errors import DiskError, UsageError
from protocol.trust.envelope import seal
from protocol.trust.identity import Identity


# -- epochs -----------------------------------------------------------------------------------------------------------
@given(st.integers(0, 10_000), st.lists(st.floats(0.1, 60.0), min_size=1, max_size=4), st.data())
def test_no_link_that_can_have_been_shown_is_the_next_one(epoch, paces, data):
    """A host that shows links as fast as any of its campaigns lets it."""
    since, now, shown = 1000.0, 1000.0, epoch
    for _ in range(data.draw(st.integers(0, 20))):
        now += data.draw(st.sampled_from(paces))
        shown += 1
    assert skipped_to(epoch, since, now, paces) > shown
    assert skipped_to(epoch, since, now, paces, seen=shown + 5) >= shown + 5 + SPARE


def test_without_a_campaign_and_with_a_clock_set_back():
    assert skipped_to(0, 100.0, 100.0, []) == SPARE and skipped_to(7, 100.0, 50.0, [1.0]) == 7 + SPARE


# -- a directory ------------------------------------------------------------------------------------------------------
@pytest.fixture
def stage(tmp_path):
    stage = Stage(tmp_path / "host")
    stage.seed()
    yield stage
    stage.close()


def admit(stage: Stage, worker, index: int) -> bytes:
    digest = worker.commit(index)
    stage.clock.now += 6
    stage.settle(lambda: worker.open(digest, index))
    stage.settle(lambda: worker.outcome(digest))
    return digest


def restored(tmp_path, name: str, now: float, **options):
    return restore(tmp_path / "copy", tmp_path / name, zoo=None, now=now, chain_length=256, **options)


def test_a_backup_beside_a_running_host_and_what_is_restored_from_it(stage, tmp_path, monkeypatch):
    alice = stage.host("alice")
    admit(stage, alice, 0)
    assert stage.core.curate(force=True) == 2
    waiting = alice.commit(1)
    about = back_up(stage.path, tmp_path / "copy", True, stage.clock.now)
    assert about.epoch == stage.core.epoch() and about.manifest == 1 and about.zoo_inside
    for name in ("identity", "beacon"):
        assert (tmp_path / "copy" / name).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o700
    admit(stage, alice, 2)  # after the backup: it is lost
    shown, lost_at = stage.core.epoch(), stage.clock.now
    organizer = stage.core.identity.host
    done = restored(tmp_path, "again", lost_at)
    assert done.epoch > shown >= done.epoch_before and done.manifest == done.manifest_before == 1
    assert all("newer" not in line and "not here" not in line for line in lines(done))
    second = Stage(tmp_path / "again")
    try:
        second.clock.now = lost_at + 1
        assert second.core.identity.host == organizer and second.core.epoch() == done.epoch
        assert second.core.status().networks == 2
        alice.connect(second.port, organizer)
        second.settle(lambda: alice.open(waiting, 1))
        second.settle(lambda: alice.outcome(waiting))
        assert alice.poll(seal(alice.identity, alice.poll()).digest).unknown, "what came later is to be handed in again"
        receipt = alice.submit(alice.result(2))
        assert receipt.epoch >= done.epoch > shown
        for index in (2, 3):
            admit(second, alice, index)
        second.core.curate(force=True)
        assert second.core.all_complete() and second.core.status().campaigns[0].networks_published == 8
    finally:
        second.close()
    assert examine(tmp_path / "again", chain_length=256).problems == []
    assert audit_zoo(tmp_path / "again" / "zoo").problems == []


def test_a_backup_without_the_zoo_says_where_it_was_and_takes_one_from_elsewhere(stage, tmp_path):
    alice = stage.host("alice")
    admit(stage, alice, 0)
    stage.core.curate(force=True)
    back_up(stage.path, tmp_path / "copy", False, stage.clock.now)
    assert not (tmp_path / "copy" / "zoo").exists()
    told = lines(restored(tmp_path, "bare", stage.clock.now))
    assert any("its zoo is not here" in line for line in told)
    shutil.copytree(stage.path / "zoo", tmp_path / "kept")
    done = restore(tmp_path / "copy", tmp_path / "whole", zoo=tmp_path / "kept", now=stage.clock.now, chain_length=256)
    assert done.manifest == 1 and examine(tmp_path / "whole", chain_length=256).problems == []


def test_a_zoo_that_is_ahead_of_the_ledger_is_cut_where_the_ledger_ends(stage, tmp_path):
    alice = stage.host("alice")
    numbers = []
    for index in (0, 1):
        admit(stage, alice, index)
        stage.core.curate(force=True)
        with stage.core.stores.ledger.read() as connection:
            rows = connection.exec_driver_sql("SELECT recipe, seed FROM networks").all()
        numbers.append({f"{recipe[:16]}-{seed}" for recipe, seed in rows})
    zoo = stage.path / "zoo"
    assert [covering(zoo, 1, ids) for ids in numbers] == [1, 2] and covering(zoo, 2, numbers[0]) == 2
    assert covering(zoo, 0, set()) == 1
    with pytest.raises(UsageError, match="lacks networks"):
        covering(zoo, 1, {"none-1"})


def test_what_cannot_be_a_backup_or_restored_is_one_line(stage, tmp_path):
    now = stage.clock.now
    (tmp_path / "empty").mkdir()
    for call in (
        lambda: back_up(tmp_path / "nothing", tmp_path / "copy", False, now),
        lambda: back_up(stage.path, tmp_path / "empty", False, now),
        lambda: back_up(stage.path, stage.path / "copy", False, now),
        lambda: restored(tmp_path, "again", now),
    ):
        with pytest.raises(UsageError) as caught:
            call()
        assert "\n" not in str(caught.value) and not (tmp_path / "copy").exists()
    back_up(stage.path, tmp_path / "copy", True, now)
    for options in ({"now": now - 10}, {"now": now + 300 * 5}, {"now": now, "epoch": 250}):
        with pytest.raises(UsageError):
            restored(tmp_path, "again", **options)
        assert not (tmp_path / "again").exists(), "whole or absent"
    with pytest.raises(UsageError, match="not empty"):
        restored(tmp_path, "host", now)
    (tmp_path / "file").write_text("no directory can be made in it")
    with pytest.raises(DiskError, match=r"file.*nothing was restored"):
        restored(tmp_path, "file/host", now)
    (tmp_path / "copy" / "identity").write_bytes(Identity.generate().file_bytes())
    with pytest.raises(UsageError, match="ledger is"):
        restored(tmp_path, "again", now)


# -- real processes ---------------------------------------------------------------------------------------------------
@pytest.mark.swarm
@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_host_lost_in_the_middle_is_restored_and_the_campaign_completes(tmp_path):
    """Its disk is gone; volunteers go on with the restored one, and everything is sound in the end."""
    swarm = Swarm(tmp_path)
    try:
        campaign = swarm.write_campaign(seeds=16, bundle=2, steps=1000)
        host = tmp_path / "host"
        swarm.host()
        swarm.run("seed", str(campaign), "--dir", str(host))
        swarm.volunteer("alice")
        swarm.wait(lambda: swarm.campaign()["networks_admitted"] >= 4, 90, "some networks to be admitted")
        swarm.run("control", "stage", "pause", "--dir", str(host))  # on a fast machine it would be over too soon
        copied = swarm.run("backup", str(host), "--out", str(tmp_path / "copy"), "--zoo")
        assert copied.returncode == 0, copied.stderr
        admitted = swarm.campaign()["networks_admitted"]
        swarm.run("control", "stage", "resume", "--dir", str(host))
        more = lambda: swarm.campaign()["networks_admitted"] > admitted or swarm.is_complete()  # noqa: E731
        swarm.wait(more, 60, "more, that will be lost")
        swarm.kill("host")
        with sqlite3.connect(host / "ledger.sqlite") as connection:
            (shown,) = connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
        shutil.rmtree(host)
        made = swarm.run("restore", str(tmp_path / "copy"), str(host))
        assert made.returncode == 0 and "restored" in made.stdout, made.stderr
        with sqlite3.connect(host / "ledger.sqlite") as connection:
            (epoch,) = connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
        assert int(epoch) > int(shown)
        swarm.host()
        swarm.run("control", "stage", "resume", "--dir", str(host))
        swarm.volunteer("bob")  # the other one has left if all was done before the disk was gone
        swarm.wait_complete(120)
        assert swarm.stop("host") == 0
        assert audit_zoo(host / "zoo").problems == []
        doctor = swarm.run("doctor", str(host))
        assert doctor.returncode == 0, doctor.stdout
        about = json.loads((tmp_path / "copy" / "backup.json").read_bytes())
        assert about["organizer"] in swarm.log("host")
    finally:
        swarm.close()
