"""An organizer who hurts himself: keys that are gone, another's beacon, a ledger with flipped bits. One line each."""

import random
import shutil
import sqlite3
from pathlib import Path

import pytest
from support.worked import work

from coordinator.ledger.database import LedgerUnavailable
from coordinator.server.coordinator import Coordinator
from coordinator.server.directory import open_directory
from protocol.errors import UsageError


def reopen(path: Path) -> None:
    open_directory(path, chain_length=256).close()


@pytest.fixture
def begun(tmp_path) -> Path:
    """A directory of which the ledger was begun, and that nobody uses."""
    path = tmp_path / "host"
    reopen(path)
    return path


@pytest.mark.parametrize("name", ["identity", "beacon"])
def test_a_secret_that_is_gone_is_not_made_anew_beside_its_ledger(begun, name):
    (begun / name).rename(begun / "kept")
    for _ in range(2):  # the refusal leaves nothing behind that the next start would take
        with pytest.raises(UsageError, match=f"{name}: gone.* put it back") as refused:
            reopen(begun)
        assert "\n" not in str(refused.value) and not (begun / name).exists()
    (begun / "kept").rename(begun / name)
    reopen(begun)


@pytest.mark.parametrize("name", ["identity", "beacon"])
def test_anothers_secret_is_refused(begun, tmp_path, name):
    reopen(tmp_path / "other")
    shutil.copy(tmp_path / "other" / name, begun / name)
    with pytest.raises(UsageError, match=rf"{name}: .*ledger .* put it back"):
        reopen(begun)


def test_a_new_ledger_takes_the_secrets_that_are_there(begun):
    secrets = [(begun / name).read_bytes() for name in ("identity", "beacon")]
    for path in begun.glob("ledger.sqlite*"):
        path.unlink()
    reopen(begun)
    assert [(begun / name).read_bytes() for name in ("identity", "beacon")] == secrets


def test_a_refused_directory_is_free_for_the_next(begun):
    """Neither the lock nor the ledger's thread stays behind."""
    (begun / "blobs").rmdir()
    (begun / "blobs").write_text("in the way")
    with pytest.raises(UsageError, match="blobs"):
        reopen(begun)
    (begun / "blobs").unlink()
    reopen(begun)


@pytest.fixture(scope="module")
def worked(tmp_path_factory):
    """A ledger with a campaign, an admitted result, one that waits for its checks, and one that was only handed in."""
    path = tmp_path_factory.mktemp("worked") / "host"
    return path, work(path)


@pytest.mark.parametrize("seed", range(12))
def test_flipped_bits_in_a_ledger_are_one_line_or_harmless(worked, tmp_path, seed):
    path, now = worked
    place, rng = tmp_path / "host", random.Random(seed)
    shutil.copytree(path, place)
    data = bytearray((place / "ledger.sqlite").read_bytes())
    for _ in range(rng.choice([1, 3, 30])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    (place / "ledger.sqlite").write_bytes(data)
    said = []
    try:
        core = Coordinator(open_directory(place, chain_length=256), clock=lambda: now + 10)
        for step in (core.status, core.tick, core.curate, core.epoch, core.all_complete):
            try:
                step()
            except (LedgerUnavailable, OSError) as error:  # said in one line and tried again
                said.append(str(error))
        core.close()
    except UsageError as error:
        said.append(str(error))
    assert all("ledger" in line and "\n" not in line for line in said)


@pytest.mark.parametrize("what", ["exact", "manifest", "state"])
def test_a_row_that_means_nothing_is_damage_at_the_start(worked, tmp_path, what):
    path, _ = worked
    place = tmp_path / "host"
    shutil.copytree(path, place)
    with sqlite3.connect(place / "ledger.sqlite") as ledger:
        ledger.execute(f"update campaigns set {what} = 'rubbish'")
    ledger.close()
    with pytest.raises(UsageError, match=r"ledger\.sqlite: .*damaged.*zooswarm doctor"):
        reopen(place)


def test_a_text_that_is_none_is_damage_too(worked, tmp_path):
    """SQLite does not look into texts; Python's driver cannot read this one when the coordinator looks at its zoo."""
    path, now = worked
    place = tmp_path / "host"
    shutil.copytree(path, place)
    with sqlite3.connect(place / "ledger.sqlite") as ledger:
        ledger.execute("update results set published = 1")
        assert ledger.execute("update networks set recipe = cast(x'b8ff' as text)").rowcount
    ledger.close()
    with pytest.raises(UsageError, match=r"ledger\.sqlite: the ledger is damaged \(.*UTF-8.*zooswarm doctor"):
        Coordinator(open_directory(place, chain_length=256), clock=lambda: now)
    open_directory(place, chain_length=256).close()  # and it is let go
