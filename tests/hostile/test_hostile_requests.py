"""What a hostile organizer may ask of a volunteer, and what a bad disk may do to it."""

import errno

import pytest
from support.scripted_host import CAMPAIGN, POLICY, RECIPE

from peer.session.requests import check_cells
from peer.session.welcome import keep
from peer.storage.bundle import Bundle
from peer.storage.home import Home, JoinCache
from protocol.engine.reference.engine import NumpyEngine
from protocol.engine.training import train_networks
from protocol.errors import Refused
from protocol.trust.challenge import opened_max
from protocol.trust.commitment import LEAF_BYTES
from protocol.trust.messages import Cell

CELL = Cell(network=0, segment=1)


@pytest.fixture
def bundle(tmp_path) -> Bundle:
    """Trained to the end."""
    assignment = CAMPAIGN.assignment(0)
    bundle = Bundle.create(tmp_path / "bundle", assignment)
    for seed, boundary in train_networks(NumpyEngine(), RECIPE, list(assignment.seeds), len(assignment.seeds)):
        bundle.append(seed, boundary)
    return bundle


def refused(bundle: Bundle, *cells: Cell) -> str:
    with pytest.raises(Refused) as error:
        check_cells(cells, bundle, POLICY)
    return str(error.value)


def test_what_a_draw_can_ask_for_is_opened(bundle):
    check_cells((), bundle, POLICY)
    check_cells((CELL, Cell(network=0, segment=3), Cell(network=1, segment=1)), bundle, POLICY)


def test_300_000_equal_cells_are_refused_before_a_state_is_read(bundle):
    """1.2 GB of memory, and an ignored Ctrl-C."""
    most = opened_max(POLICY, RECIPE, len(bundle.assignment.seeds))
    assert f"draws at most {most}" in refused(bundle, *[CELL] * 300_000)


def test_cells_come_in_order_and_once(bundle):
    assert "there twice" in refused(bundle, CELL, CELL)
    assert "not in order" in refused(bundle, Cell(network=1, segment=1), CELL)


def test_cells_that_are_not_there(bundle):
    assert "no network 99" in refused(bundle, Cell(network=99, segment=1))
    boundaries = len(bundle.trace(bundle.assignment.seeds[0]))
    assert "no state to open" in refused(bundle, Cell(network=0, segment=boundaries))
    assert "no state to open at 0" in refused(bundle, Cell(network=0, segment=0))


# -- a disk that does not keep what was written ----------------------------------------------------------------------


def unsound(bundle: Bundle) -> list[int]:
    return [seed for seed in bundle.assignment.seeds if not bundle.is_sound(seed)]


@pytest.mark.parametrize("name", ["states", "leaves"])
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_a_flipped_bit_anywhere_is_found_before_the_result_is_signed(bundle, name, place):
    seed = bundle.assignment.seeds[0]
    path = bundle.path / f"{seed}.{name}"
    data = bytearray(path.read_bytes())
    at = {"first": 12, "middle": len(data) // 2 // LEAF_BYTES * LEAF_BYTES + 12, "last": len(data) - LEAF_BYTES + 12}
    data[at[place]] ^= 1
    path.write_bytes(data)
    assert unsound(bundle) == [seed]
    assert not bundle.is_trained(seed) and path.with_suffix(f".{name}.damaged").exists()
    assert bundle.resume(seed) is None, "it begins anew"


def test_files_that_are_cut_off_are_found(bundle):
    seed = bundle.assignment.seeds[1]
    path = bundle.path / f"{seed}.states"
    path.write_bytes(path.read_bytes()[:-1])
    assert unsound(bundle) == [seed]


def test_a_sound_bundle_stays_as_it_is(bundle):
    before = {path.name: path.read_bytes() for path in bundle.path.iterdir()}
    assert unsound(bundle) == []
    assert before == {path.name: path.read_bytes() for path in bundle.path.iterdir()}


# -- a full disk -----------------------------------------------------------------------------------------------------


def test_a_full_disk_at_the_end_is_one_line(tmp_path, monkeypatch):
    home, said = Home(tmp_path), []

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "known.json"))

    monkeypatch.setattr("peer.storage.home.write_atomic", full)
    keep(home, JoinCache(address="a:1", organizer="o", bootstrap=[], campaigns=[]), said.append)
    assert len(said) == 1 and "No space left on device" in said[0] and "make room" in said[0]
