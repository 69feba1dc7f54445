"""The organizer's verbs as a person uses them, with a real process (no DHT); and what is said into the DHT."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.homes import moved_home
from support.scripted_host import CAMPAIGN, Stage, skip_training

from coordinator.server.main import run_host
from coordinator.server.running import loops
from coordinator.server.running.addresses import check_announced
from coordinator.server.swarm_publisher import SwarmPublisher
from protocol.errors import AddressError
from protocol.rpc.wire import parse_address
from protocol.swarm.records import DONE, claims_key
from protocol.trust.envelope import Envelope

ZOOSWARM = str(Path(sys.executable).with_name("zooswarm"))
TOML = """
name = "tiny"
[[populations]]
seeds = "0:4"
bundle = 2
[populations.recipe]
name = "tiny"
class = "xor"
task = {machine = "SimpleXORMachine", length = 4, sequences = 64, held_out = 16}
network = {layers = [{kind = "linear", width = 20}]}
training = {learning_rate = 0.01, batch = 8, max_steps = 20, segment_steps = 10}
"""


@pytest.fixture
def zooswarm(tmp_path):
    environment = os.environ | moved_home(tmp_path / "home")

    def run(*arguments: str) -> tuple[int, str]:
        done = subprocess.run([ZOOSWARM, *arguments], capture_output=True, text=True, timeout=60, env=environment)
        return done.returncode, done.stdout + done.stderr

    run.environment = environment
    return run


@contextlib.contextmanager
def hosting(zooswarm, path: Path, *options: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """The process, and the address that it prints. Killed at the end, if it is still there."""
    command = [ZOOSWARM, "host", str(path), "--no-dht", "--listen", "127.0.0.1:0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=zooswarm.environment) as process:
        try:
            yield process, told_address(process)
        finally:
            process.kill()


def told_address(process: subprocess.Popen) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip().startswith("zooswarm join "):
            return line.split()[2]
    raise AssertionError("the host ended")


@pytest.mark.slow
def test_an_organizers_session(zooswarm, tmp_path):
    (tmp_path / "campaign.toml").write_text(TOML)
    (tmp_path / "bad.toml").write_text(TOML.replace("SimpleXOR", "Simple"))
    code, text = zooswarm("status")
    assert code == 2 and "zooswarm host DIR" in text and text.count("\n") == 1
    with hosting(zooswarm, tmp_path / "host") as (process, address):
        code, text = zooswarm("seed", str(tmp_path / "bad.toml"))
        assert code == 2 and "task.machine" in text and text.count("\n") == 1
        for _ in range(2):
            code, text = zooswarm("seed", str(tmp_path / "campaign.toml"))
            assert code == 0 and "4 networks in 2 assignments" in text
        code, text = zooswarm("status", address, "--json")
        assert code == 0 and [c["pending"] for c in json.loads(text)["campaigns"]] == [2]
        assert zooswarm("control", "tiny", "pause") == (0, "tiny: paused\n")
        code, text = zooswarm("control", "nothing", "pause")
        assert code == 2 and "no such campaign" in text and "tiny" in text
        code, text = zooswarm("host", str(tmp_path / "host"), "--no-dht")
        assert code == 2 and "another coordinator" in text and text.count("\n") == 1
        taken, _ = parse_address(address)
        code, text = zooswarm("host", str(tmp_path / "other"), "--no-dht", "--listen", taken)
        assert code == 2 and taken in text and text.count("\n") == 1
        told = zooswarm("status", "--dir", str(tmp_path / "host"))[1]
        page = json.loads((tmp_path / "host" / "host.json").read_text())["page"]
        assert "paused" in told and told.endswith(f"status page: {page}\n")
        assert urllib.request.urlopen(page, timeout=20).status == 200
        assert "status page" not in zooswarm("status", address)[1], "of another's host only he knows"
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None and process.wait(20) == 0
        text = process.stdout.read()
        assert "campaign started" in text and f"zooswarm host {tmp_path / 'host'}" in text
    code, text = zooswarm("seed", str(tmp_path / "campaign.toml"), "--dir", str(tmp_path / "host"))
    assert code == 2 and "no coordinator answers" in text and "zooswarm host" in text


@pytest.mark.slow
def test_a_campaign_goes_on_after_sigkill(zooswarm, tmp_path):
    (tmp_path / "campaign.toml").write_text(TOML)
    with hosting(zooswarm, tmp_path / "host"):
        assert zooswarm("seed", str(tmp_path / "campaign.toml"), "--dir", str(tmp_path / "host"))[0] == 0
    with hosting(zooswarm, tmp_path / "host") as (_, address):
        told = json.loads(zooswarm("status", address, "--json")[1])
        assert [c["name"] for c in told["campaigns"]] == ["tiny"]
        zooswarm("control", "tiny", "cancel")
    with hosting(zooswarm, tmp_path / "host", "--exit-when-done") as (process, _):  # nothing is left to do
        assert process.wait(20) == 0


def test_help_answers_before_anything_heavy_is_loaded():
    code = (
        "import sys, coordinator.cli; print([m for m in ('grpc', 'sqlalchemy', 'torch', 'rich') if m in sys.modules])"
    )
    began = time.monotonic()
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stdout
    assert loaded.strip() == "[]" and time.monotonic() - began < 10


@pytest.mark.parametrize("name", ["a b", "", "host:7750", "203.0.113.5:1", "-x", "a/b"])
def test_what_nobody_can_dial_is_not_announced_and_leaves_no_directory(tmp_path, name):
    with pytest.raises(AddressError, match=r"--announce .*without a port"):
        run_host(tmp_path / "host", "127.0.0.1:0", 0, name, False, True, 0, "none")
    assert not (tmp_path / "host").exists()


@pytest.mark.parametrize("name", ["localhost", "zoo.example.org", "my_host-2", "203.0.113.5", "2001:db8::1"])
def test_names_and_addresses_are_announced(name):
    check_announced(name)


class FakeNode:
    """A DHT that keeps what it is told, or refuses; or keeps it, and the answer is lost (`arrives`)."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], int] = {}
        self.manifest: Any = None
        self.stores, self.works, self.arrives = 0, True, False

    def keep(self, key, kind, value, ttl) -> bool:
        self.stores += 1
        if self.works or self.arrives:
            self.kept[key, kind] = value.done
        return self.works

    def publish_manifest(self, manifest) -> bool:
        self.manifest = manifest
        return self.works


def test_the_dht_is_told_what_is_done_and_what_is_free_again(tmp_path):
    stage = Stage(tmp_path / "host")
    stage.seed()
    node: Any = FakeNode()
    place = (claims_key(CAMPAIGN.digest, 0), DONE)
    publisher = SwarmPublisher(stage.core, node, "127.0.0.1:1")
    publisher.publish()
    assert node.manifest.campaigns[0].assignments == 4 and node.kept == {}  # nothing to say about nothing
    alice = stage.host("alice")
    alice.commit(0)
    alice.commit(2)
    alice.submit(alice.result(3))  # a commitment alone takes nothing
    node.works = False
    publisher.publish()
    node.works = True
    publisher.publish()
    assert node.kept[place] == 0b0101
    stores = node.stores
    publisher.publish()
    assert node.stores == stores  # nothing changed, nothing said
    alice.submit(alice.result(2, alice.traces(CAMPAIGN.assignment(2), skip_training)))  # equivocation: all void
    stage.restart()
    SwarmPublisher(stage.core, node, "127.0.0.1:1").publish()
    assert node.kept[place] == 0  # the last run's bits are taken back
    stage.close()


def test_the_swarm_hears_of_a_seeded_campaign_at_once(tmp_path, monkeypatch):
    """Nodes take claims of the campaigns that the manifest names: who joined right after `seed` waited for it."""
    stage, told, stopping = Stage(tmp_path / "host"), queue.Queue[Any](), threading.Event()
    node: Any = FakeNode()
    monkeypatch.setattr(node, "publish_manifest", lambda manifest: told.put(manifest) or True)
    publisher = SwarmPublisher(stage.core, node, "127.0.0.1:1")
    words = (publisher.publish, 3600.0, stage.core.ordered, stopping)
    thread = threading.Thread(target=loops.repeat, args=words, daemon=True)
    thread.start()
    assert told.get(timeout=20).campaigns == ()
    stage.core.obey(lambda _: stage.seed(), Envelope(kind="Seed", signer="", payload=b"", signature=b""))
    assert told.get(timeout=20).campaigns[0].assignments == 4
    stopping.set()
    stage.core.ordered.set()
    thread.join(20)
    assert not thread.is_alive()
    stage.close()


def test_a_store_that_failed_and_arrived_is_taken_back_like_any_other(tmp_path):
    stage = Stage(tmp_path / "host")
    stage.seed()
    node: Any = FakeNode()
    place = (claims_key(CAMPAIGN.digest, 0), DONE)
    publisher = SwarmPublisher(stage.core, node, "127.0.0.1:1")
    alice = stage.host("alice")
    alice.commit(0)
    node.works, node.arrives = False, True
    publisher.publish()
    assert node.kept[place] == 0b0001
    node.works = True
    alice.submit(alice.result(0, alice.traces(CAMPAIGN.assignment(0), skip_training)))  # equivocation: free again
    publisher.publish()
    assert node.kept[place] == 0
    stage.close()
