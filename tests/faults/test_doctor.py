"""`zooswarm doctor`: nothing wrong is found in what is sound, and each damage is named with its mend."""

import hashlib
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support.scripted_host import CAMPAIGN, Stage, trained
from support.worked import admit_one_more, work

from coordinator.policy.phases import Phase
from coordinator.server.directory import open_directory
from coordinator.server.doctor.examine import examine, run_doctor
from coordinator.server.doctor.findings import SAID_MAX, Findings
from coordinator.server.doctor.records import Records
from peer.storage.bundle import Bundle
from peer.storage.home import Home, bundle_path
from protocol.engine import ENGINE
from protocol.errors import UsageError
from protocol.trust.envelope import seal
from protocol.trust.identity import Identity
from protocol.trust.messages import Admission, AdmissionOutcome, CampaignManifest

CHAIN = 256


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A directory with one result of each kind: published, admitted and not yet published, checking, committed."""
    path = tmp_path_factory.mktemp("kept") / "host"
    work(path)
    admit_one_more(path)
    return path


@pytest.fixture
def host(kept, tmp_path) -> Path:
    shutil.copytree(kept, tmp_path / "host")
    return tmp_path / "host"


def problems(path: Path) -> list[str]:
    found = examine(path, chain_length=CHAIN)
    assert all("\n" not in line and "; " in line for line in found.problems)
    return found.problems


def change(host: Path, statement: str) -> None:
    with sqlite3.connect(host / "ledger.sqlite") as ledger:
        assert ledger.execute(statement).rowcount, statement
    ledger.close()


def flip(path: Path, place: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def files(path: Path) -> dict[str, str]:
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in path.rglob("*")
        if file.is_file() and not file.name.endswith(("-shm", "-wal"))
    }


def test_a_sound_directory_is_called_so_and_stays_as_it_is(host):
    before = files(host)
    found = examine(host, chain_length=CHAIN)
    assert found.problems == [] and files(host) == before
    assert {"results", "answers", "bundles", "blobs", "keys"} <= set(found.looked_at)


def test_a_host_that_runs_is_not_disturbed(host):
    stage = Stage(host)
    try:
        assert problems(host) == []
        alice = stage.host("dora")
        alice.poll()
        assert problems(host) == []
    finally:
        stage.close()


def test_a_bare_zoo_is_examined(host):
    assert problems(host / "zoo") == []
    flip(next((host / "zoo" / "evidence").iterdir()))
    assert any("evidence" in line for line in problems(host / "zoo"))


def test_what_is_no_directory_of_ours_is_said(tmp_path):
    with pytest.raises(UsageError, match="neither"):
        examine(tmp_path)


LEDGER_CHANGES = {
    "update hosts set credit = credit + 1 where credit > 0": "credit of host",
    "update hosts set escrow = escrow + 1 where credit > 0": "escrow of host",
    "update hosts set clean_bundles = 7 where credit > 0": "clean bundles",
    "update campaigns set admitted = admitted + 1": "bundles admitted of campaign",
    "update campaigns set state = 'complete'": "called complete and is not",
    "update campaigns set state = 'mended'": "mended",
    "update results set phase = 'void' where phase = 'admitted'": "signed outcome is admitted",
    "update results set segments = segments + 1": "segments",
    "update results set worker = 'nobody'": "different things",
    "update results set epoch = epoch + 50": "receipt",
    "update results set draw = receipt where draw is not null": "expected",
    "update answers set slot = slot + 10": "another result or slot",
    "delete from networks where seed = 0": "not registered",
    "update meta set value = '0' where key = 'epoch'": "links of the beacon",
    "update meta set value = '99' where key = 'version'": "version 99",
    "update meta set value = '00' where key = 'beacon_anchor'": "begun with",
}


@pytest.mark.parametrize("statement", LEDGER_CHANGES)
def test_a_ledger_that_contradicts_itself_is_named(host, statement):
    change(host, statement)
    assert any(LEDGER_CHANGES[statement] in line for line in problems(host)), problems(host)


def test_a_result_that_is_admitted_twice_is_named(host):
    change(host, "update results set assignment = 0 where phase = 'admitted'")
    assert any("admitted twice" in line for line in problems(host))


def test_a_retracted_bundle_that_is_still_in_the_zoo_is_only_a_note(host):
    ledger = sqlite3.connect(host / "ledger.sqlite")
    published = "select digest, worker, segments, segments * (1 - vested) from results where published = 1"
    digest, worker, segments, held = ledger.execute(published).fetchone()
    outcome = Admission(result=digest, outcome=AdmissionOutcome.RETRACTED, reason="a fake", credit=0)
    signed = seal(Identity.load(host / "identity"), outcome).to_bytes()
    ledger.execute("update results set phase = 'retracted', admission = ? where digest = ?", (signed, digest))
    ledger.execute("delete from networks where result = ?", (digest,))
    ledger.execute("update campaigns set admitted = admitted - 1")
    taken = "credit = credit - ?, escrow = escrow - ?, clean_bundles = clean_bundles - 1"
    ledger.execute(f"update hosts set {taken} where host = ?", (segments, held, worker))
    ledger.commit()
    ledger.close()
    found = examine(host, chain_length=CHAIN)
    assert found.problems == [] and any("retracted" in line for line in found.notes)


def test_pages_that_do_not_fit_are_named_and_do_not_stop_the_rest(host):
    with (host / "ledger.sqlite").open("r+b") as file:
        file.seek(4096 * 2)
        file.write(b"\xff" * 4096)
    assert any("ledger.sqlite" in line and "copy" in line for line in problems(host))


def test_keys_are_there_private_and_the_right_ones(host, tmp_path):
    (host / "identity").chmod(0o644)
    assert any("others may read it" in line and "chmod 600" in line for line in problems(host))
    (host / "identity").unlink()
    assert any("identity: gone" in line for line in problems(host))
    open_directory(tmp_path / "other", chain_length=CHAIN).close()
    shutil.copy(tmp_path / "other" / "identity", host / "identity")
    shutil.copy(tmp_path / "other" / "beacon", host / "beacon")
    told = problems(host)
    assert any("identity" in line and "but the ledger is" in line for line in told)
    assert any("beacon" in line and "begun with" in line for line in told)


@pytest.mark.parametrize("part", ["trace", "weights"])
def test_blobs_that_are_still_needed_are_there_and_whole(host, part):
    with closing(sqlite3.connect(host / "ledger.sqlite")) as ledger, ledger:
        (digest,) = ledger.execute("select digest from results where phase = 'admitted' and published = 0").fetchone()
        place = (digest, part)
        (data,) = ledger.execute("select data from blobs where result = ? and part = ?", place).fetchone()
        flipped = bytes([data[0] ^ 1]) + data[1:]
        ledger.execute("update blobs set data = ? where result = ? and part = ?", (flipped, *place))
    assert any(part in line and "not in the zoo yet" in line for line in problems(host))
    with closing(sqlite3.connect(host / "ledger.sqlite")) as ledger, ledger:
        ledger.execute("delete from blobs where result = ? and part = ?", place)
    assert any(part in line and "copy of ledger.sqlite and blobs" in line for line in problems(host))
    file = host / "blobs" / digest.hex() / part  # as a larger one is kept
    file.parent.mkdir(parents=True)
    file.write_bytes(data)
    assert not any(part in line for line in problems(host))


def test_a_blob_that_its_worker_still_has_is_only_a_note(host):
    with closing(sqlite3.connect(host / "ledger.sqlite")) as ledger, ledger:
        ledger.execute("delete from blobs")
    assert any("asked for it again" in line for line in examine(host, chain_length=CHAIN).notes)


def test_a_zoo_that_is_gone_or_older_than_its_ledger_is_named(host):
    next((host / "zoo" / "manifests").iterdir()).unlink()
    assert any("zoo" in line for line in problems(host))
    shutil.rmtree(host / "zoo")
    assert any("zoo: gone" in line and "pull" in line for line in problems(host))


def test_a_bundle_whose_networks_another_campaign_brought_in_is_not_missed_in_the_zoo():
    """One that was seeded twice under two descriptions: its second bundles were said to be gone from the zoo."""
    first, double = (
        {"digest": digest, "phase": Phase.ADMITTED, "published": 1} for digest in (b"\x01" * 32, b"\x02" * 32)
    )
    brought = [{"recipe": "r", "seed": seed, "result": first["digest"]} for seed in range(2)]
    records = Records(Path(), {}, [], [first, double], [], brought, [])
    assert records.published() == {"01" * 32} and records.admitted() == {"01" * 32, "02" * 32}


def test_a_ledger_that_is_older_than_its_zoo_is_named(host):
    change(host, "delete from answers")
    change(host, "delete from networks")
    change(host, "delete from seats")
    change(host, "delete from results where phase = 'admitted'")
    change(host, "update hosts set credit = 0, clean_bundles = 0")
    change(host, "update campaigns set admitted = 0")
    assert any("older than the zoo" in line for line in problems(host))


@pytest.mark.parametrize("folder", ["weights", "catalogue", "evidence"])
def test_a_flipped_bit_in_the_zoo_is_named_with_its_mend(host, folder):
    file = next(path for path in (host / "zoo" / folder).rglob("*") if path.is_file())
    flip(file)
    assert any("pull" in line for line in problems(host))


@pytest.fixture
def home(tmp_path) -> Path:
    """A volunteer's directory with a bundle that was trained and signed."""
    path, organizer = tmp_path / "volunteer", Identity.generate()
    opened = Home(path)
    manifest = CampaignManifest(campaign=CAMPAIGN.digest, beacon_anchor=b"a" * 32, engine=ENGINE, issued_at=1.0)
    opened.add_campaign(CAMPAIGN.exact, seal(organizer, manifest), organizer.host)
    assignment = CAMPAIGN.assignment(0)
    bundle = Bundle.create(bundle_path(path, CAMPAIGN.digest, 0), assignment)
    for seed, boundaries in trained(assignment).items():
        for boundary in boundaries:
            bundle.append(seed, boundary)
    bundle.keep("result", seal(opened.identity, bundle.result(opened.identity.host, "c")))
    opened.close()
    return path


def test_a_volunteers_directory_is_examined(home):
    assert problems(home) == []
    flip(next(home.glob("bundles/*/0.states")), 200)
    assert any("boundary 0" in line and "trained anew" in line for line in problems(home))


def test_a_volunteers_damaged_files_are_named(home):
    flip(next(home.glob("bundles/*/result.envelope")))
    assert any("signature" in line for line in problems(home))
    flip(next(home.glob("campaigns/*.json")), 30)
    assert any("fetched again" in line for line in problems(home))
    (home / "identity").write_bytes(b"rubbish")
    assert any("identity" in line and "copy" in line for line in problems(home))


def test_a_report_is_bounded_and_ends_with_a_verdict(tmp_path, monkeypatch):
    found = Findings()
    for i in range(50):
        found.problem(f"file {i}", "mend it")
    assert len(found.problems) == SAID_MAX and found.more() == ["and 30 more like this: mend it"]
    lines: list[str] = []
    monkeypatch.setattr("coordinator.server.doctor.examine.examine", lambda path, say: found)
    assert run_doctor(tmp_path, lines.append) == 1
    assert lines[-1].endswith("20 problems")
