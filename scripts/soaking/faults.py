"""What is done to a swarm, drawn from a seed: kills, standstills, full disks, cut links, wrong clocks, flipped bits.

A fault that this machine does not allow is left out, and the report says why.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from soaking.swarm import Swarm, free_port

DISK_MEGABYTES = 1024  # a volunteer claims nothing below 512 MiB free
FAKETIME = "*/faketime/libfaketimeMT.so.1"  # in /usr/lib; SOAK_FAKETIME names another place
CLOCKS = ("-6d", "-3h", "+40s", "+3h", "+3d")
KILLS = {"kill host": 3, "kill volunteer": 4, "kill trainer": 3, "kill p2pd": 3}
OTHERS = {
    "stop host": 1,
    "stop volunteer": 1,
    "stop p2pd": 1,
    "flip a checkpoint": 1,
    "flip the ledger": 0.5,
    "move host": 0.5,
}
MAYBE = {"fill a disk": 1, "cut a link": 1, "jump a clock": 1}


FILL, FULL = "fill a disk", "No space left on device"


class Faults:
    """`strike()` does one thing and says which. Dead actors stay dead until somebody starts them again."""

    def __init__(self, swarm: Swarm, volunteers: list[str], rng: random.Random, only_kills: bool = False):
        self.swarm, self.volunteers, self.rng = swarm, volunteers, rng
        self.hits: Counter[str] = Counter()  # what happened, by kind
        self.skipped: dict[str, str] = {}  # kind -> why
        self.problems: list[str] = []
        self._mounted: list[Path] = []
        self._killed: set[str] = set()  # actors of which the end is our doing
        self.faketime = os.environ.get("SOAK_FAKETIME") or next(iter(Path("/usr/lib").glob(FAKETIME)), None)
        self.weights = dict(KILLS) if only_kills else KILLS | OTHERS | MAYBE
        if self.faketime is None:
            self.leave_out("jump a clock", "there is no libfaketime")
        if not self.swarm.link:
            self.leave_out("cut a link", "there is no network namespace: it needs root and `ip`")

    def leave_out(self, kind: str, why: str) -> None:
        """Never do this, and say why."""
        self.skipped[kind] = why
        self.weights.pop(kind, None)

    def mount_disks(self) -> None:
        """A small disk of its own for the host and for the first volunteer."""
        for actor in ("host", self.volunteers[0]):
            place = self.swarm.path / actor
            place.mkdir(parents=True, exist_ok=True)
            command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MEGABYTES}m", "tmpfs", str(place)]
            if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
                self.leave_out("fill a disk", "tmpfs cannot be mounted: it needs root")
                return
            self._mounted.append(place)

    def unmount_disks(self) -> None:
        """What is on them is copied first: a report wants to look at it."""
        for place in self._mounted:
            kept = place.with_name(f"{place.name}.kept")
            shutil.copytree(place, kept, symlinks=True)
            subprocess.run(["umount", "-l", str(place)], check=False)
            place.rmdir()
            kept.rename(place)
        self._mounted = []

    @property
    def kills(self) -> int:
        return sum(self.hits[kind] for kind in KILLS)

    def strike(self) -> str:
        """One fault; what it was, "" when there was nothing to hit."""
        kinds = sorted(self.weights)
        kind = self.rng.choices(kinds, [self.weights[k] for k in kinds])[0]
        verb, _, what = kind.partition(" ")
        actor = (
            "host" if what == "host" else self.rng.choice([*self.volunteers, "host"][: None if what == "p2pd" else -1])
        )
        act: dict[str, Callable[[], bool]] = {
            "kill": lambda: self._kill(actor, what),
            "stop": lambda: self._stop(actor, what),
            "fill": self._fill,
            "cut": self._cut,
            "jump": lambda: self._jump(self.rng.choice(self.volunteers)),
            "move": self._move,
            "flip": lambda: self._flip_ledger() if what == "the ledger" else self._flip_checkpoint(actor),
        }
        if not act[verb]():
            return ""
        self.hits[kind] += 1
        return f"{kind} ({actor})" if verb in ("kill", "stop") else kind

    def revive(self) -> int:
        """Start again what is dead; how many were. Who died of himself is a problem."""
        started = 0
        for actor in ("host", *self.volunteers):
            if self.swarm.alive(actor):
                continue
            code = self.swarm.processes[actor].returncode
            if actor not in self._killed and self.hits[FILL] and FULL in self._last_line(actor):
                self.hits["ended on the full disk"] += 1  # in one line that says so; it goes on when there is room
            elif actor not in self._killed:
                self.problems.append(f"{actor} ended of itself, status {code}: {self._last_line(actor)}")
            self._killed.discard(actor)
            if actor == "host":
                self.swarm.start_host()
            else:
                self.swarm.start_volunteer(actor)
            started += 1
        return started

    def _last_line(self, actor: str) -> str:
        lines = self.swarm.log(actor).strip().splitlines()
        return lines[-1][:200] if lines else "(no log)"

    # -- the faults --------------------------------------------------------------------------------------------------

    def _pids(self, actor: str, what: str) -> list[int]:
        members = self.swarm.members(actor)
        return members.get(what if what in ("trainer", "p2pd") else "self", [])

    def _kill(self, actor: str, what: str) -> bool:
        pids = self._pids(actor, what)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if pids and what not in ("trainer", "p2pd"):
            self._killed.add(actor)
            self.swarm.processes[actor].wait(20)
        return bool(pids)

    def _stop(self, actor: str, what: str) -> bool:
        """A standstill of some seconds: a laptop that sleeps, a machine that swaps."""
        pids = self._pids(actor, what)
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            if number == signal.SIGSTOP:
                time.sleep(self.rng.uniform(1.0, 8.0))
        return bool(pids)

    def _fill(self) -> bool:
        place = self.rng.choice(self._mounted) if self._mounted else None
        if place is None:
            return False
        filler = place / "filler"
        with contextlib.suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(b"\0" * (1 << 20))
                file.flush()
        time.sleep(self.rng.uniform(2.0, 6.0))
        filler.unlink(missing_ok=True)
        if not self.swarm.alive(place.name):
            self._killed.add(place.name)  # a volunteer on a full disk may end, with a line that says so
        return True

    def _cut(self) -> bool:
        assert self.swarm.link is not None
        self.swarm.link.down()
        time.sleep(self.rng.uniform(2.0, 8.0))
        self.swarm.link.up()
        return True

    def _move(self) -> bool:
        """The host's next life is on another port: volunteers find it where the organizer's manifest says."""
        if not self._kill("host", "self"):
            return False
        self.swarm.move()
        return True

    def _jump(self, actor: str) -> bool:
        """The actor's next life has another time of day; its stop watches run as ever."""
        if not self._kill(actor, "self"):
            return False
        clock = self.rng.choice([*CLOCKS, ""])
        told = {
            "LD_PRELOAD": str(self.faketime),
            "FAKETIME": clock,
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
        }
        self.swarm.environment[actor] = told if clock else {}
        return True

    def _flip_checkpoint(self, actor: str) -> bool:
        files = sorted((self.swarm.path / actor / "bundles").glob("*/*.states"))
        if not files or not self._kill(actor, "self"):
            return False
        with contextlib.suppress(OSError, ValueError):
            flip(self.rng.choice(files), self.rng)
        return True

    def _flip_ledger(self) -> bool:
        """A copy of the host's directory with flipped bits is started: it is refused in one line, or it runs."""
        if not self._kill("host", "self"):
            return False
        place = self.swarm.path / "damaged"
        shutil.copytree(self.swarm.path / "host", place, ignore=shutil.ignore_patterns("zoo", "lock", "filler"))
        for _ in range(self.rng.choice([1, 3, 30])):
            flip(place / "ledger.sqlite", self.rng)
        listen = f"127.0.0.1:{free_port('127.0.0.1')}"
        self.swarm.start("damaged", "host", str(place), "--listen", listen, "--no-dht")
        process = self.swarm.processes["damaged"]
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(self.rng.uniform(6.0, 10.0))
        if process.returncode not in (None, 2):
            self.problems.append(f"a damaged ledger ended the host with status {process.returncode}")
        self.swarm.kill("damaged")
        shutil.rmtree(place)
        return True


def flip(path: Path, rng: random.Random) -> None:
    """One bit. Raises OSError, ValueError for an empty file."""
    with path.open("r+b") as file:
        place = rng.randrange(path.stat().st_size)
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1 << rng.randrange(8)]))
