"""One host and some volunteers as real processes: started, watched, killed, and found by what they run."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from coordinator.client import follow
from protocol.errors import UsageError
from protocol.files import cache_directory
from protocol.rpc.channel import open_channel
from protocol.rpc.coordinator_pb2_grpc import CoordinatorStub
from protocol.rpc.wire import parse_address
from soaking.link import Link
from soaking.recipe import SMALL_RECIPE

ZOOSWARM = str(Path(sys.executable).with_name("zooswarm"))
START_SECONDS = 90.0
MACHINES = {"direct": "SingleDirectMachine", "xor": "SimpleXORMachine"}
DEMO_POLICY = """
[policy]
probation_bundles = 3
probation_checkers = 2
probation_cells = 4
checkers = 2
cells = 4
cells_per_network = 1
final_cell = true
epoch_seconds = 1.0
opening_seconds = 20.0
answer_seconds = 10.0
lease_seconds = 20.0
settle_seconds = 0.5
"""  # that of recipes/demo.toml
POLICIES = {"demo": DEMO_POLICY, "default": ""}


class Swarm:
    """Everything lives under `path`; logs are kept per actor and appended over restarts."""

    def __init__(self, path: Path, policy: str, link: Link | None = None):
        self.path, self.policy, self.link = path, policy, link
        self.name = link.address if link else "127.0.0.1"  # where the host listens
        self.port = free_port(self.name)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.environment: dict[str, dict[str, str]] = {}  # by actor, on top of ours
        self.prefix: dict[str, list[str]] = {}  # by actor: the command before the command
        self.address, self._waves = "", 0
        engines, home = cache_directory() / "engine", path / "home" / "cache"
        for folder in (engines, home):
            folder.mkdir(parents=True, exist_ok=True)
        if not (home / "engine").exists():  # compiled once for this user, not once a soak
            (home / "engine").symlink_to(engines.resolve())

    # -- campaigns ---------------------------------------------------------------------------------------------------

    def seed(self, networks: int, bundle: int = 4, steps: int = 2000, segment: int = 100) -> None:
        """Another campaign of fresh seeds, so that there is always work."""
        first = 100_000 * self._waves
        text = f'name = "soak-{self._waves}"\n'
        for name, machine in MACHINES.items():
            recipe = SMALL_RECIPE.format(name=name, label=name, machine=machine, steps=steps, segment=segment)
            (self.path / f"{name}.toml").write_text(recipe)
            seeds = f"{first}:{first + networks // len(MACHINES)}"
            text += f'[[populations]]\nrecipe = "{name}.toml"\nseeds = "{seeds}"\nbundle = {bundle}\n'
        file = self.path / f"wave-{self._waves}.toml"
        file.write_text(text + POLICIES[self.policy])
        outcome = self.run("seed", str(file), "--dir", str(self.path / "host"))
        if outcome.returncode == 0:
            self._waves += 1

    def has_work(self) -> bool:
        told = self.status()
        return told is None or any(c["state"] == "running" for c in told["campaigns"])

    def is_complete(self) -> bool:
        told = self.status()
        return told is not None and all(
            c["state"] == "complete" and c["networks_published"] >= c["networks_admitted"] for c in told["campaigns"]
        )

    # -- processes ---------------------------------------------------------------------------------------------------

    def run(self, *arguments: str, seconds: float = 300) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"ZOOSWARM_HOME": str(self.path / "home")}
        command = [ZOOSWARM, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=environment, check=False)

    def start(self, actor: str, *arguments: str) -> None:
        environment = os.environ | {"ZOOSWARM_HOME": str(self.path / "home")} | self.environment.get(actor, {})
        command = [*self.prefix.get(actor, []), ZOOSWARM, *arguments]
        with (self.path / f"{actor}.log").open("ab") as log:
            self.processes[actor] = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)

    def start_host(self) -> None:
        self.start("host", "host", str(self.path / "host"), "--listen", f"{self.name}:{self.port}")

    def move(self) -> None:
        """From now on the host listens on another port; its key stays."""
        self.port = free_port(self.name)
        self.address = f"{self.name}:{self.port}/{self.address.partition('/')[2]}"

    def wait_for_host(self) -> None:
        """Until it answers, with an address that volunteers can join. Raises TimeoutError."""
        self.wait(self._answers, START_SECONDS, "the host")

    def _answers(self) -> bool:
        if not self.alive("host"):
            raise TimeoutError(f"the host ended at its start: {self.log('host')[-300:]}")
        if not self.address:
            words = [w for w in self.log("host").split() if w.startswith(f"{self.name}:{self.port}/")]
            self.address = words[-1] if words else ""
        return bool(self.address) and self.status() is not None

    def start_volunteer(self, actor: str) -> None:
        self.start(actor, "join", self.address, "--dir", str(self.path / actor), "--name", actor, "--threads", "1")

    def log(self, actor: str) -> str:
        with contextlib.suppress(OSError):
            return (self.path / f"{actor}.log").read_text(errors="replace")
        return ""

    def status(self) -> dict | None:
        """What the host says of itself; None when it does not answer. A process for each look would load the swarm."""
        target, organizer = parse_address(self.address)
        try:
            with open_channel(target, organizer) as channel:
                return msgspec.to_builtins(next(follow(CoordinatorStub(channel), target, False)))
        except (UsageError, ConnectionError, StopIteration):
            return None

    def wait(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Until `condition`. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not within {seconds:.0f} s; logs are in {self.path}")
            time.sleep(0.5)

    def alive(self, actor: str) -> bool:
        process = self.processes.get(actor)
        return process is not None and process.poll() is None

    def members(self, actor: str) -> dict[str, list[int]]:
        """Processes of an actor by what they are: itself, its trainer, its p2pd."""
        if not self.alive(actor):
            return {}
        found: dict[str, list[int]] = {"self": [self.processes[actor].pid], "trainer": [], "p2pd": []}
        for pid in descendants(self.processes[actor].pid):
            command = command_of(pid)
            for kind, mark in (("trainer", "peer.trainer.worker"), ("p2pd", "p2pd")):
                if mark in command:
                    found[kind].append(pid)
        return found

    def kill(self, actor: str) -> None:
        """As a power cut does: the actor and all that it started, at once."""
        pids = [pid for group in self.members(actor).values() for pid in group]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if actor in self.processes:
            self.processes[actor].wait(20)

    def stop(self, actor: str, seconds: float = 60) -> int:
        """Ctrl-C; its exit status."""
        process = self.processes[actor]
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill(actor)
            return -9

    def close(self) -> None:
        for actor in list(self.processes):
            self.kill(actor)


def free_port(name: str) -> int:
    with socket.socket() as probe:
        probe.bind((name, 0))
        return probe.getsockname()[1]


def descendants(pid: int) -> list[int]:
    """Of a process of ours, found in /proc; what ends meanwhile is left out."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        place = Path(f"/proc/{waiting.pop()}/task")
        with contextlib.suppress(OSError):
            for task in place.iterdir():
                children = [int(child) for child in (task / "children").read_text().split()]
                found += children
                waiting += children
    return found


def command_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""
