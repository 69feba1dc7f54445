"""Real processes for tests: a host and volunteers on loopback, started, watched, killed."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from soaking.recipe import SMALL_RECIPE
from support.homes import moved_home

from coordinator.client import follow
from protocol.errors import UsageError
from protocol.rpc.channel import open_channel
from protocol.rpc.coordinator_pb2_grpc import CoordinatorStub

ZOOSWARM = str(Path(sys.executable).with_name("zooswarm"))
CHEAT = str(Path(__file__).with_name("cheats.py"))

LOOK_SECONDS = 0.2
CAMPAIGN = """
name = "stage"
[policy]
probation_bundles = 2
probation_checkers = 2
probation_cells = 3
checkers = 2
cells = 3
epoch_seconds = 0.5
opening_seconds = 15.0
answer_seconds = 15.0
lease_seconds = 10.0
settle_seconds = 0.3
faults_before_ban = 2
"""
POPULATION = """
[[populations]]
recipe = "{name}.toml"
seeds = "0:{seeds}"
bundle = {bundle}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Stage:
    """Everything lives under one directory; logs are kept per actor and appended over restarts."""

    def __init__(self, path: Path):
        self.path, self.port = path, free_port()
        self.processes: dict[str, subprocess.Popen] = {}
        self.environment = os.environ | moved_home(path / "home")
        self.address = ""

    def write_campaign(self, seeds: int, bundle: int, steps: int = 200, segment: int = 20) -> Path:
        text = CAMPAIGN
        for name, label, machine in (("direct", "direct", "SingleDirectMachine"), ("xor", "xor", "SimpleXORMachine")):
            recipe = SMALL_RECIPE.format(name=name, label=label, machine=machine, steps=steps, segment=segment)
            (self.path / f"{name}.toml").write_text(recipe)
            text += POPULATION.format(name=name, seeds=seeds, bundle=bundle)
        (self.path / "campaign.toml").write_text(text)
        return self.path / "campaign.toml"

    def run(self, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run([ZOOSWARM, *arguments], capture_output=True, text=True, timeout=120, env=self.environment)

    def start(self, name: str, *arguments: str, program: list[str] | None = None) -> subprocess.Popen:
        with (self.path / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*(program or [ZOOSWARM]), *arguments], stdout=log, stderr=subprocess.STDOUT, env=self.environment
            )
        self.processes[name] = process
        return process

    def log(self, name: str) -> str:
        return (self.path / f"{name}.log").read_text(errors="replace")

    def host(self) -> None:
        """Its page has a port of its own, which it keeps: the usual one may go to a swarm beside while this is down."""
        page = [] if self.address else ["--page", f"127.0.0.1:{free_port()}"]
        self.start("host", "host", str(self.path / "host"), "--listen", f"127.0.0.1:{self.port}", *page)
        self.wait(lambda: self._printed_address() != "" and self.status() is not None, 60, "the host to answer")
        self.address = self._printed_address()

    def _printed_address(self) -> str:
        words = [word for word in self.log("host").split() if word.startswith("zoo-")]
        return words[-1] if words else ""

    def volunteer(self, name: str, cheat: str = "") -> None:
        program = [sys.executable, CHEAT, cheat] if cheat else None
        options = ["--dir", str(self.path / name), "--name", name, "--threads", "1", "--until-done"]
        self.start(name, "join", self.address, *options, program=program)

    def status(self) -> dict | None:
        """As `zooswarm status --json` asks it; a process for each look would load what is tested. None: no answer."""
        target = f"127.0.0.1:{self.port}"
        try:
            with open_channel(target, None) as channel:
                return msgspec.to_builtins(next(follow(CoordinatorStub(channel), target, False)))
        except (UsageError, ConnectionError, StopIteration):
            return None

    def campaign(self) -> dict:
        told = self.status()
        return told["campaigns"][0] if told and told["campaigns"] else {"state": "unknown", "networks_admitted": 0}

    def wait(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Until `condition`; a deadline, never a hope. A failure shows the ends of all logs."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if condition():
                return
            time.sleep(LOOK_SECONDS)
        logs = "\n".join(f"--- {name}\n{self.log(name)[-3000:]}" for name in self.processes)
        raise AssertionError(f"waited {seconds} s for {what}\n{logs}")

    def is_complete(self) -> bool:
        told = self.campaign()
        return told["state"] == "complete" and told["networks_published"] == told["networks"]

    def wait_complete(self, seconds: float) -> None:
        self.wait(self.is_complete, seconds, "the campaign to complete and its zoo to be whole")

    def kill(self, name: str) -> None:
        self.processes[name].send_signal(signal.SIGKILL)
        self.processes[name].wait(20)

    def stop(self, name: str) -> int:
        if self.processes[name].poll() is None:
            self.processes[name].send_signal(signal.SIGINT)
        return self.processes[name].wait(40)

    def close(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
        for process in self.processes.values():
            process.wait(20)
