"""The training process's loop, run in this process: commands in, events out, files on disk."""

import pytest
from support.volunteer import CAMPAIGN, id_of

import peer.trainer.worker
from peer.state import CheckId
from peer.state import events as on
from peer.storage.bundle import Bundle
from peer.storage.home import Home, bundle_path
from peer.trainer.messages import CheckFile, DropBundle, TrainBundle
from peer.trainer.worker import Worker
from protocol.engine.select import select_engine
from protocol.errors import UsageError
from protocol.files import write_atomic
from protocol.trust.commitment import LEAF_BYTES


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path / "home")
    write_atomic(home.path / "campaigns" / f"{CAMPAIGN.digest}.json", CAMPAIGN.exact)
    return home.path


def worker_in(home) -> tuple[Worker, list]:
    said: list = []
    return Worker(select_engine("c"), home, said.append), said


def bundle_in(home, index: int = 0) -> Bundle:
    return Bundle.create(bundle_path(home, *id_of(index)), CAMPAIGN.assignment(index))


def run(worker: Worker, *commands) -> None:
    """All of these, until everything is trained."""
    for command in commands:
        worker.commands.put(command)
    worker.turn()
    while worker.busy:
        worker.turn()


def test_what_is_told_twice_is_trained_once(home):
    (worker, said), bundle = worker_in(home), bundle_in(home)
    command = TrainBundle(id_of(0), str(bundle.path))
    run(worker, command, command)
    assert bundle.all_trained
    assert [event.seed for event in said if isinstance(event, on.NetworkTrained)] == [0, 1]
    assert said[-1] == on.AssignmentTrained(id_of(0), worker.engine.name) or isinstance(said[-1], on.TrainerProgressed)
    run(worker, command)
    assert said[-1] == on.AssignmentTrained(id_of(0), worker.engine.name), "trained already: said at once"


def test_a_segment_of_a_dropped_bundle_is_not_written_into_its_next_life(home, monkeypatch):
    """Dropped and claimed again while a segment ran, that segment's end became the new trace's first leaf."""
    (worker, _), bundle = worker_in(home), bundle_in(home)
    command, advance, segments = TrainBundle(id_of(0), str(bundle.path)), peer.trainer.worker.advance, []

    def advance_while_dropped(*arguments):
        segments.append(1)
        ends = advance(*arguments)
        if len(segments) == 2:
            worker.commands.put(DropBundle(id_of(0)))
            bundle.remove()
            bundle_in(home)
            worker.commands.put(command)
        return ends

    monkeypatch.setattr(peer.trainer.worker, "advance", advance_while_dropped)
    run(worker, command)
    again = bundle.traces()
    bundle.remove()
    run(worker, TrainBundle(id_of(0), str(bundle_in(home).path)))
    assert again == bundle.traces() and [leaf.step for leaf in again[0]] == [0, 20, 40, 60]


def test_what_the_disk_did_not_keep_is_trained_again_before_it_is_signed(home):
    (worker, said), bundle = worker_in(home), bundle_in(home)
    command = TrainBundle(id_of(0), str(bundle.path))
    run(worker, command)
    sound, seed = bundle.traces(), bundle.assignment.seeds[0]
    leaves = bytearray((bundle.path / f"{seed}.leaves").read_bytes())
    leaves[12] ^= 1  # of the first leaf: nothing else would look at it before it is challenged
    (bundle.path / f"{seed}.leaves").write_bytes(leaves)
    said.clear()
    run(worker, command)
    notes = [event.text for event in said if isinstance(event, on.TrainerNote)]
    assert len(notes) == 1 and "did not keep" in notes[0]
    assert [event.seed for event in said if isinstance(event, on.NetworkTrained)] == [seed]
    assert [type(event) for event in said].count(on.AssignmentTrained) == 1 and bundle.traces() == sound


def test_a_disk_that_never_keeps_anything_ends_the_training(home, monkeypatch):
    worker, said = worker_in(home)
    monkeypatch.setattr(Bundle, "is_sound", lambda self, seed: False)
    with pytest.raises(UsageError, match="does not keep what is written"):
        run(worker, TrainBundle(id_of(0), str(bundle_in(home).path)))
    assert not any(isinstance(event, on.AssignmentTrained) for event in said)


def test_small_networks_begin_together_and_a_dropped_one_is_not_trained(home, monkeypatch):
    (worker, _), begun, start = worker_in(home), [], peer.trainer.worker.start
    monkeypatch.setattr(
        peer.trainer.worker, "start", lambda *arguments: begun.append(len(arguments[-1])) or start(*arguments)
    )
    worker.width = 1
    bundles = [bundle_in(home, index) for index in range(3)]
    for index, bundle in enumerate(bundles):
        worker.commands.put(TrainBundle(id_of(index), str(bundle.path)))
    worker.turn()
    assert begun == [6] and len(worker.active) == 1 and len(worker.begun) == 5
    dropped = bundles[1]
    dropped.remove()
    run(worker, DropBundle(id_of(1)))
    assert begun == [6] and not dropped.path.exists()
    assert bundles[0].all_trained and bundles[2].all_trained


def test_a_check_without_its_file_is_said(home):
    worker, said = worker_in(home)
    check = CheckId(b"r" * 32, 3)
    run(worker, CheckFile(check, str(home / "checks" / "none.job")))
    assert isinstance(said[-1], on.CheckFailed) and said[-1].check == check
    write_atomic(home / "checks" / "torn.job", b"torn")
    run(worker, CheckFile(check, str(home / "checks" / "torn.job")))
    assert isinstance(said[-1], on.CheckFailed)


def test_what_the_disk_lost_at_the_end_is_trained_to_its_end_again(home, monkeypatch):
    (worker, said), bundle = worker_in(home), bundle_in(home)
    keep, seeds = Bundle.append, bundle.assignment.seeds

    def append(self, seed, boundary):
        keep(self, seed, boundary)
        if boundary.final and seed == seeds[0] and not lost:
            path = self.path / f"{seed}.leaves"
            path.write_bytes(path.read_bytes()[:-LEAF_BYTES])
            lost.append(seed)

    lost = []
    monkeypatch.setattr(Bundle, "append", append)
    run(worker, TrainBundle(id_of(0), str(bundle.path)))
    assert lost == [seeds[0]] and bundle.all_trained
    assert [type(event) for event in said].count(on.AssignmentTrained) == 1
    assert [leaf.step for leaf in bundle.trace(seeds[0])] == [leaf.step for leaf in bundle.trace(seeds[1])]
