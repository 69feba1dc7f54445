"""The volunteer alone: bundles survive every cut, one process to a directory, a worker that obeys and dies well."""

import queue
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from peer.join import default_home
from peer.state import AssignmentId
from peer.state.actions import CreateBundle, ForgetReceipt, RemoveBundle, SignResult, StartTrainer, StopTrainer, Train
from peer.state.events import (
    AssignmentTrained,
    DiskFailed,
    NetworkTrained,
    ResultSigned,
    TrainerDied,
    TrainerFailed,
    TrainerStopped,
)
from peer.storage.bundle import Bundle
from peer.storage.home import Home, JoinCache, folder_bytes
from peer.storage.workspace import Workspace, restored
from peer.trainer.messages import TrainerConfig
from peer.trainer.process import TrainerProcess
from protocol.cli.main import zooswarm
from protocol.engine import ENGINE, state_bytes_length
from protocol.engine.select import select_engine
from protocol.engine.streams import task_data
from protocol.engine.training import advance, start
from protocol.errors import Refused, UsageError
from protocol.files import write_atomic
from protocol.recipes.campaign import Campaign, Policy, Population
from protocol.recipes.layers import Gru, Linear
from protocol.recipes.recipe import Network, Recipe, Training
from protocol.rpc.wire import parse_address
from protocol.tasks.kinds import MachineTask
from protocol.trust.commitment import LEAF_BYTES
from protocol.trust.envelope import seal
from protocol.trust.identity import Identity
from protocol.trust.messages import CampaignManifest, Cell, Receipt

RECIPE = Recipe(
    name="tiny",
    label="xor",
    task=MachineTask(machine="SimpleXORMachine", length=4, sequences=64, held_out=16),
    network=Network(layers=(Gru(width=3), Linear(width=20))),
    training=Training(learning_rate=0.02, batch=8, max_steps=60, segment_steps=20),
)
CAMPAIGN = Campaign(name="test", populations=(Population(recipe=RECIPE, count=4, bundle=2),), policy=Policy())


@pytest.fixture
def bundle(tmp_path) -> Bundle:
    return Bundle.create(tmp_path / "bundle", CAMPAIGN.assignment(0))


def train(bundle: Bundle, seed: int, segments: int = 3) -> None:
    """What the worker does, from wherever the files stand."""
    engine, data = select_engine("c"), task_data(RECIPE)
    state = bundle.resume(seed)
    if state is None:
        (boundary,) = start(engine, RECIPE, data, [seed])
        bundle.append(seed, boundary)
        state = boundary.state
    for _ in range(segments):
        (boundary,) = advance(engine, RECIPE, data, [seed], [state])
        bundle.append(seed, boundary)
        state = boundary.state


def whole_trace(tmp_path: Path, seed: int):
    other = Bundle.create(tmp_path / "whole", CAMPAIGN.assignment(0))
    train(other, seed)
    return other.trace(seed)


@pytest.mark.parametrize("states_cut", [0, 1, 100])
@pytest.mark.parametrize("leaves_cut", [0, 1, LEAF_BYTES])
def test_a_cut_at_any_byte_costs_at_most_a_segment(bundle, tmp_path, states_cut, leaves_cut):
    train(bundle, 0, segments=2)
    for name, cut in (("0.states", states_cut), ("0.leaves", leaves_cut)):
        path = bundle.path / name
        data = path.read_bytes()
        path.write_bytes(data[: len(data) - cut])
    state = bundle.resume(0)
    assert state is not None
    assert state.step == (40 if not states_cut and not leaves_cut else 20)
    train(bundle, 0, segments=(60 - state.step) // 20)
    assert bundle.trace(0) == whole_trace(tmp_path, 0)
    assert bundle.is_trained(0)


@pytest.mark.parametrize("boundary", [0, 1, 2])
def test_a_damaged_state_is_set_aside_and_the_network_starts_over(bundle, tmp_path, boundary):
    train(bundle, 0, segments=2)
    path = bundle.path / "0.states"
    data = bytearray(path.read_bytes())
    data[boundary * state_bytes_length(RECIPE) + 20] ^= 1
    path.write_bytes(bytes(data))
    assert bundle.resume(0) is None
    assert (bundle.path / "0.states.damaged").exists()
    train(bundle, 0)
    assert bundle.trace(0) == whole_trace(tmp_path, 0)


def test_a_finished_network_that_was_damaged_is_trained_again_before_anything_is_signed(bundle):
    train(bundle, 0)
    train(bundle, 1)
    path = bundle.path / "1.states"
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(bytes(data))
    assert restored(bundle).untrained == (1,) and not bundle.is_trained(1)
    train(bundle, 1)
    assert bundle.all_trained and restored(bundle).untrained == ()


def test_a_damaged_state_is_not_handed_in_as_an_opening(bundle):
    train(bundle, 0)
    path = bundle.path / "0.states"
    data = bytearray(path.read_bytes())
    data[state_bytes_length(RECIPE) + 20] ^= 1
    path.write_bytes(bytes(data))
    assert bundle.states((Cell(network=0, segment=2),))
    with pytest.raises(Refused, match="states-damaged"):
        bundle.states((Cell(network=0, segment=1),))


def test_a_bundle_found_on_disk_is_what_its_files_show(bundle):
    me = Identity.generate()
    assert (restored(bundle).untrained, restored(bundle).result) == ((0, 1), None)
    train(bundle, 0)
    assert restored(bundle).untrained == (1,)
    train(bundle, 1)
    assert bundle.all_trained and restored(bundle).untrained == ()
    result = seal(me, bundle.result(me.host, "c"))
    bundle.keep("result", result)
    assert (restored(bundle).result, restored(bundle).receipt) == (result.digest, False)
    bundle.keep("receipt", seal(me, Receipt(result=result.digest, epoch=0, received_at=0.0)))
    assert (restored(bundle).result, restored(bundle).receipt) == (result.digest, True)
    write_atomic(bundle.path / "result.envelope", b"torn")
    assert restored(bundle).result is None


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    home = Home(tmp_path / "home")
    write_atomic(home.path / "campaigns" / f"{CAMPAIGN.digest}.json", CAMPAIGN.exact)
    workspace = Workspace(home)
    manifest = CampaignManifest(campaign=CAMPAIGN.digest, beacon_anchor=bytes(32), engine=ENGINE, issued_at=0.0)
    assert workspace.follow(CAMPAIGN, manifest) == ()
    return workspace


def test_what_is_decided_about_bundles_is_done_on_disk_and_found_again(workspace):
    id = AssignmentId(CAMPAIGN.digest, 0)
    assert workspace.perform(CreateBundle(id)) is None
    bundle = workspace.bundle(id)
    assert bundle.path == workspace.home.path / "bundles" / f"{CAMPAIGN.digest[:16]}-0"
    for seed in (0, 1):
        train(bundle, seed)
    signed = workspace.perform(SignResult(id, "c"))
    kept = bundle.kept("result")
    assert kept is not None and signed == ResultSigned(id, kept.digest, folder_bytes(bundle.path))
    assert [found.result for found in map(restored, workspace.home.bundles(CAMPAIGN))] == [kept.digest]
    bundle.keep("receipt", kept)
    workspace.perform(ForgetReceipt(id))
    assert bundle.kept("receipt") is None
    workspace.perform(RemoveBundle(id))
    assert workspace.home.bundles(CAMPAIGN) == []


def test_a_disk_that_takes_nothing_is_an_event(workspace):
    (workspace.home.path / "bundles").rmdir()
    (workspace.home.path / "bundles").write_text("a file where a folder should be")
    action = CreateBundle(AssignmentId(CAMPAIGN.digest, 0))
    failed = workspace.perform(action)
    assert isinstance(failed, DiskFailed) and failed.action == action and "bundles" in failed.detail


def test_one_process_to_a_directory_and_what_it_knew_last_time(tmp_path):
    home = Home(tmp_path)
    assert (tmp_path / "identity").stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match="another volunteer"):
        Home(tmp_path)
    known = JoinCache(address="a:1", organizer="o", bootstrap=["b"], campaigns=[])
    home.remember(known)
    assert home.known("a:1") == known
    assert home.known("b:2") is None
    (tmp_path / "known.json").write_bytes(b"{")
    assert home.known("a:1") is None


def test_a_directory_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file"):
        Home(tmp_path / "file")


def test_an_identity_is_copied_but_never_overwritten(tmp_path):
    run = CliRunner().invoke
    first = run(zooswarm, ["identity", "show", "--dir", str(tmp_path / "a")]).output.split()[0]
    assert first in run(zooswarm, ["identity", "export", str(tmp_path / "key"), "--dir", str(tmp_path / "a")]).output
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert first in run(zooswarm, ["identity", "import", str(tmp_path / "key"), "--dir", str(tmp_path / "b")]).output
    again = run(zooswarm, ["identity", "import", str(tmp_path / "key"), "--dir", str(tmp_path / "b")])
    assert isinstance(again.exception, UsageError)


@pytest.mark.parametrize("text", ["", "here", "host:", "host:0", "host:99999", ":7750", "host:7750/nobody", "a b:x"])
def test_an_address_that_is_none_is_one_clear_line(text):
    with pytest.raises(UsageError) as caught:
        parse_address(text)
    assert "\n" not in str(caught.value)


def test_without_dir_the_work_is_where_zooswarm_home_says(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOOSWARM_HOME", str(tmp_path / "home"))
    assert default_home() == tmp_path / "home" / "volunteer"
    shown = CliRunner().invoke(zooswarm, ["identity", "show"]).output
    assert str(tmp_path / "home" / "volunteer" / "identity") in shown


class Heard:
    """What the training process says, waited for with a deadline."""

    def __init__(self):
        self.events: queue.Queue = queue.Queue()
        self.seen: list = []

    def until(self, kind: type, seconds: float = 60):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                self.seen.append(self.events.get(timeout=1.0))
            except queue.Empty:
                continue
            if isinstance(self.seen[-1], kind):
                return self.seen[-1]
        raise AssertionError(f"no {kind.__name__} in {seconds} s, only {self.seen}")


def trainer_in(home: Path, heard: Heard, backend: str = "c") -> TrainerProcess:
    config = TrainerConfig(home=str(home), backend=backend, threads=1, nice=0, device="cpu", gpu_memory=0.5)
    return TrainerProcess(config, home / "worker.log", heard.events.put, stop_seconds=60)


def test_the_trainer_trains_in_its_own_process_and_another_goes_on_when_it_dies(workspace):
    heard, ids = Heard(), [AssignmentId(CAMPAIGN.digest, i) for i in range(2)]
    for id in ids:
        workspace.perform(CreateBundle(id))
    trainer = trainer_in(workspace.home.path, heard)
    try:
        trainer.perform(StartTrainer())
        trainer.perform(Train(ids[0]))
        assert heard.until(AssignmentTrained).assignment == ids[0]
        assert [e.seed for e in heard.seen if isinstance(e, NetworkTrained)] == [0, 1]
        assert workspace.bundle(ids[0]).all_trained
        assert trainer.process is not None
        trainer.process.kill()
        assert heard.until(TrainerDied).code == -9
        trainer.perform(StartTrainer())
        trainer.perform(Train(ids[1]))
        assert heard.until(AssignmentTrained).assignment == ids[1]
        assert workspace.bundle(ids[1]).all_trained
    finally:
        trainer.perform(StopTrainer())
        heard.until(TrainerStopped)
    assert trainer.process.returncode == 0
    assert heard.events.empty(), "a trainer that was sent home is no news"
    trainer.perform(StartTrainer())
    assert trainer.process.returncode == 0, "after the end none is started"


def test_a_trainer_without_an_engine_says_so_once(tmp_path):
    heard = Heard()
    trainer = trainer_in(tmp_path, heard, backend="no such engine")
    trainer.perform(StartTrainer())
    heard.until(TrainerFailed)
    trainer.stop()
    assert heard.events.empty() and not any(isinstance(event, TrainerDied) for event in heard.seen)
