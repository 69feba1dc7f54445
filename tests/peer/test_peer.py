"""The volunteer alone: bundles survive every cut, one process to a directory, a worker that obeys and dies well."""

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from peer.session.client import Backoff
from peer.state import HOLDINGS_MAX, TRANSITIONS, Event, Holding, Holdings, Phase, claims_wanted, restore
from peer.storage.bundle import Bundle
from peer.storage.home import Home, Known
from peer.trainer.process import Crew
from protocol.canonical import write_atomic
from protocol.cli.main import zooswarm
from protocol.engine import state_bytes_length
from protocol.engine.select import select_engine
from protocol.engine.streams import task_data
from protocol.engine.training import advance, start
from protocol.errors import Refused, UsageError
from protocol.recipes.campaign import Campaign, Policy, Population
from protocol.recipes.layers import Gru, Linear
from protocol.recipes.recipe import Network, Recipe, Training
from protocol.rpc.wire import parse_address
from protocol.tasks.kinds import MachineTask
from protocol.trust.commitment import LEAF_BYTES
from protocol.trust.envelope import seal
from protocol.trust.identity import Identity
from protocol.trust.messages import Cell, Receipt

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
    return Bundle.create(tmp_path / "bundle", CAMPAIGN.assignments[0])


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
    other = Bundle.create(tmp_path / "whole", CAMPAIGN.assignments[0])
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


def test_a_damaged_state_is_set_aside_and_the_network_starts_over(bundle, tmp_path):
    train(bundle, 0, segments=2)
    path = bundle.path / "0.states"
    data = bytearray(path.read_bytes())
    data[2 * state_bytes_length(RECIPE) + 20] ^= 1
    path.write_bytes(bytes(data))
    assert bundle.resume(0) is None
    assert (bundle.path / "0.states.damaged").exists()
    train(bundle, 0)
    assert bundle.trace(0) == whole_trace(tmp_path, 0)


def test_a_damaged_state_is_not_handed_in_as_an_opening(bundle):
    train(bundle, 0)
    path = bundle.path / "0.states"
    data = bytearray(path.read_bytes())
    data[state_bytes_length(RECIPE) + 20] ^= 1
    path.write_bytes(bytes(data))
    assert bundle.states((Cell(network=0, segment=2),))
    with pytest.raises(Refused, match="states-damaged"):
        bundle.states((Cell(network=0, segment=1),))


def test_a_bundle_found_on_disk_is_in_the_phase_its_files_show(bundle):
    me = Identity.generate()
    assert restore(bundle).phase == Phase.TRAINING
    train(bundle, 0)
    train(bundle, 1)
    assert bundle.all_trained
    result = seal(me, bundle.result(me.host, "c"))
    bundle.keep("result", result)
    assert restore(bundle).phase == Phase.TRAINED
    bundle.keep("receipt", seal(me, Receipt(result=result.digest, epoch=0, received_at=0.0)))
    restored = restore(bundle)
    assert restored.phase == Phase.COMMITTED
    assert restored.result == result
    write_atomic(bundle.path / "result.envelope", b"torn")
    assert restore(bundle).phase == Phase.TRAINING


def test_a_holding_moves_along_the_table_and_nowhere_else(bundle):
    holdings = Holdings()
    holding = Holding(bundle, Phase.TRAINING)
    holdings.add(holding)
    with pytest.raises(KeyError):
        holdings.take(holding, Event.RECEIPT)
    assert not holdings.take(holding, Event.ALL_TRAINED)
    assert not holdings.take(holding, Event.RECEIPT)
    assert not holdings.take(holding, Event.UNKNOWN)
    assert not holdings.take(holding, Event.RECEIPT)
    assert holdings.take(holding, Event.OUTCOME)
    assert not holdings.items
    assert all(isinstance(phase, Phase) for phase, _ in TRANSITIONS)


def test_claims_ahead_but_hoards_nothing(bundle):
    holdings, plenty = Holdings(), 10**12

    def wanted(free: int) -> int:
        return claims_wanted(holdings, threads=1, width=0, steps_per_second=0.0, free_bytes=free)

    assert wanted(plenty)
    assert not wanted(1000)
    holdings.add(Holding(bundle, Phase.TRAINING))
    assert wanted(plenty)
    holdings.items[("other", 1)] = Holding(bundle, Phase.TRAINING)
    assert not wanted(plenty)
    for i in range(HOLDINGS_MAX):
        holdings.items["done", i] = Holding(bundle, Phase.COMMITTED)
    del holdings.items[("other", 1)]
    assert not wanted(plenty)


def test_one_process_to_a_directory_and_what_it_knew_last_time(tmp_path):
    home = Home(tmp_path)
    assert (tmp_path / "identity").stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match="another volunteer"):
        Home(tmp_path)
    known = Known(address="a:1", organizer="o", bootstrap=["b"], campaigns=[])
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


def test_waits_longer_each_time_until_it_works():
    backoff = Backoff(longest=4)
    waits = []
    for _ in range(5):
        backoff.failed(now=100.0)
        waits.append(backoff.delay)
        assert not backoff.ready(100.0)
        assert backoff.ready(100.0 + backoff.delay)
    assert waits == [1, 2, 4, 4, 4]
    backoff.worked()
    assert backoff.ready(0.0)


def events_until(crew: Crew, kind: str, seconds: float = 60) -> list[dict]:
    seen, deadline = [], time.monotonic() + seconds
    while time.monotonic() < deadline:
        seen += crew.events()
        if any(event["event"] == kind for event in seen):
            return seen
        time.sleep(0.02)
    raise AssertionError(f"no {kind} in {seconds} s, only {seen}")


def test_the_worker_trains_in_its_own_process_and_is_started_again_when_it_dies(tmp_path):
    (tmp_path / "campaigns").mkdir()
    write_atomic(tmp_path / "campaigns" / f"{CAMPAIGN.digest}.json", CAMPAIGN.exact)
    first, second = (Bundle.create(tmp_path / str(i), CAMPAIGN.assignments[i]) for i in range(2))
    crew = Crew(tmp_path / "campaigns", tmp_path / "worker.log", "c", 1, 0, "cpu", 0.5)
    try:
        crew.train(first.path, CAMPAIGN.digest, 0)
        seen = events_until(crew, "trained")
        assert [e["seed"] for e in seen if e["event"] == "network"] == [0, 1]
        assert first.all_trained
        crew.process.kill()
        crew.train(second.path, CAMPAIGN.digest, 1)
        seen = events_until(crew, "trained")
        assert any(e["event"] == "ended" for e in seen)
        assert second.all_trained
    finally:
        crew.stop()
    assert crew.process.returncode == 0
    assert json.dumps(crew.events()) == "[]", "a worker that was sent home is no news"
