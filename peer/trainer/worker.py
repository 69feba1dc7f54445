"""The training process: `python -m peer.trainer.worker`. Trains bundles, and does spot checks before anything else.

It speaks `messages`: commands come in on stdin, events go out on stdout. It never touches the network. When the daemon
dies, stdin ends and so does this process. Networks of several bundles share one batch: a network that meets
its stop rule leaves, and the next seed takes its place.
"""

import contextlib
import ctypes
import os
import queue
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from peer.state.events import (
    AssignmentTrained,
    CheckAnswered,
    CheckFailed,
    NetworkTrained,
    TrainerFailed,
    TrainerNote,
    TrainerProgressed,
    TrainerReady,
)
from peer.state.ids import AssignmentId, CheckId
from peer.storage.bundle import Bundle
from peer.storage.check_job import read_check_job
from peer.trainer.messages import (
    COMMANDS,
    CONFIG,
    CheckFile,
    Command,
    DropBundle,
    Report,
    TrainBundle,
    TrainerConfig,
    read_message,
    write_message,
)
from protocol.canonical import NOT_DECODABLE
from protocol.cli.garbage import settle
from protocol.engine import Engine, State
from protocol.engine.initial import DRAWN_TOGETHER
from protocol.engine.select import networks_in_flight, select_engine
from protocol.engine.streams import task_data
from protocol.engine.training import Boundary, advance, start
from protocol.errors import DiskError, Refused, UsageError, harmless_tracebacks
from protocol.recipes.campaign import Campaign, campaign_from_bytes
from protocol.tasks.datasets import DataMissing, Shelf
from protocol.trust.spot_check import open_states, open_weights, spot_check

DAMAGES_MAX = 5  # trained again so often, then it is not bad luck
PROGRESS_SECONDS = 1.0  # what is said is handled and shown: as often as somebody looks
WIDTH = 16  # networks in flight on processors; enough to keep the threads busy, few enough to stay in the caches
AHEAD = 16  # small networks that begin together, though not all have a place yet: one costs as much as several


class Worker:
    """The loop: commands, then checks, then one segment for every network in flight."""

    def __init__(self, engine: Engine, home: Path, emit: Callable[[Report], None]):
        self.width = networks_in_flight(engine, WIDTH)
        self.engine, self.home, self.emit = engine, home, emit
        self.shelf = Shelf(home / "data")  # the daemon fetches what is missing
        self.commands: queue.Queue[Command | None] = queue.Queue()
        self.checks: list[CheckFile] = []
        self.waiting: list[tuple[Bundle, int]] = []  # a bundle and a seed of it
        self.begun: list[tuple[Bundle, int, State]] = []  # on the disk; they are next in flight
        self.active: list[tuple[Bundle, int, State]] = []
        self.ended = False  # nobody has anything to say to us any more
        self._campaigns: dict[str, Campaign] = {}
        self._left: Counter[Path] = Counter()  # of each bundle: networks that are not final yet
        self._untold_steps, self._untold_seconds, self._told_at = 0, 0.0, float("-inf")
        self._damages: Counter[Path] = Counter()  # of each bundle: how often the disk had not kept it

    def run(self) -> None:
        while not self.ended:
            self.turn()

    @property
    def busy(self) -> bool:
        return bool(self.checks or self.active or self.begun or self.waiting)

    def turn(self) -> None:
        """Hear commands, then do a check or a segment; waits for a command when there is nothing to do."""
        self._take_commands(wait=not self.busy)
        if self.ended:
            return
        if self.checks:
            self._check(self.checks.pop(0))
        elif self.busy:
            self._refill()
            self._segment()

    def _take_commands(self, wait: bool) -> None:
        while not self.ended:
            try:
                command = self.commands.get(block=wait)
            except queue.Empty:
                return
            match command:
                case None:
                    self.ended = True
                case CheckFile():
                    self.checks.append(command)
                case TrainBundle():
                    self._add_bundle(command)
                case DropBundle():
                    dropped = command.assignment
                    self.waiting = [item for item in self.waiting if id_of(item[0]) != dropped]
                    self.begun = [item for item in self.begun if id_of(item[0]) != dropped]
                    self.active = [item for item in self.active if id_of(item[0]) != dropped]
            wait = False

    def _campaign(self, digest: str) -> Campaign:
        if digest not in self._campaigns:
            self._campaigns[digest] = campaign_from_bytes((self.home / "campaigns" / f"{digest}.json").read_bytes())
        return self._campaigns[digest]

    def _add_bundle(self, command: TrainBundle) -> None:
        assignment = self._campaign(command.assignment.campaign).assignment(command.assignment.index)
        bundle = Bundle(Path(command.path), assignment)
        if any(item[0].path == bundle.path for item in (*self.waiting, *self.begun, *self.active)):
            return
        left = [seed for seed in assignment.seeds if not bundle.is_trained(seed)]
        self.waiting += [(bundle, seed) for seed in left]
        self._left[bundle.path] = len(left)
        if not left:
            self._finish(bundle)

    def _refill(self) -> None:
        """Fill the places in flight with networks that have begun, or were begun before and go on."""
        while len(self.active) < self.width and (self.begun or self.waiting):
            if not self.begun:
                self._begin()
            free = self.width - len(self.active)
            self.active, self.begun = self.active + self.begun[:free], self.begun[free:]

    def _begin(self) -> None:
        """Networks of one recipe begin together; those that an earlier run began go on from their last boundary."""
        recipe = self.waiting[0][0].assignment.recipe
        room = max(self.width - len(self.active), min(AHEAD, DRAWN_TOGETHER // recipe.parameter_count))
        joining = [item for item in self.waiting if item[0].assignment.recipe is recipe][:room]
        taken = {(bundle.path, seed) for bundle, seed in joining}
        self.waiting = [(bundle, seed) for bundle, seed in self.waiting if (bundle.path, seed) not in taken]
        fresh = []
        for bundle, seed in joining:
            state = bundle.resume(seed)
            if state is None:
                fresh.append((bundle, seed))
            else:
                self.begun.append((bundle, seed, state))
        started = (
            start(self.engine, recipe, task_data(recipe, self.shelf), [seed for _, seed in fresh]) if fresh else []
        )
        for (bundle, seed), boundary in zip(fresh, started, strict=True):
            if not self._keep(bundle, seed, boundary):
                continue
            if boundary.final:
                self._leave(bundle, seed)
            else:
                self.begun.append((bundle, seed, boundary.state))

    def _segment(self) -> None:
        """One segment for the networks in flight that share the first one's recipe; the others take their turn."""
        if not self.active:
            return
        recipe = self.active[0][0].assignment.recipe
        group = [item for item in self.active if item[0].assignment.recipe is recipe]
        began = time.perf_counter()
        seeds, states = [seed for _, seed, _ in group], [state for _, _, state in group]
        ends = advance(self.engine, recipe, task_data(recipe, self.shelf), seeds, states)
        self._take_commands(wait=False)  # what was dropped meanwhile may be ours again: its new files begin anew
        dropped = {id(item) for item in group} - {id(item) for item in self.active}
        self.active = [item for item in self.active if item[0].assignment.recipe is not recipe]
        steps = 0
        for item, boundary in zip(group, ends, strict=True):
            bundle, seed, before = item
            steps += boundary.state.step - before.step
            if id(item) in dropped or not self._keep(bundle, seed, boundary):
                continue
            if boundary.final:
                self._leave(bundle, seed)
            else:
                self.active.append((bundle, seed, boundary.state))
        self._untold_steps += steps
        self._untold_seconds += time.perf_counter() - began
        if not self.busy or time.monotonic() >= self._told_at + PROGRESS_SECONDS:
            self._tell(recipe.label, ends)

    def _tell(self, label: str, ends: list[Boundary]) -> None:
        """What was trained since the last time, and where the networks of this segment stand."""
        self.emit(
            TrainerProgressed(
                label=label,
                networks=len(ends),
                steps=self._untold_steps,
                seconds=self._untold_seconds,
                at_step=max(boundary.state.step for boundary in ends),
                best_loss=float(min(boundary.held_out_loss for boundary in ends)),
            )
        )
        self._untold_steps, self._untold_seconds, self._told_at = 0, 0.0, time.monotonic()

    def _keep(self, bundle: Bundle, seed: int, boundary: Boundary) -> bool:
        """Append to the bundle's files; False when the daemon has dropped the bundle and its directory meanwhile."""
        try:
            bundle.append(seed, boundary)
        except FileNotFoundError:
            if bundle.path.exists():
                raise
            return False
        return True

    def _leave(self, bundle: Bundle, seed: int) -> None:
        self.emit(NetworkTrained(id_of(bundle), seed))
        self._left[bundle.path] -= 1
        if not self._left[bundle.path]:
            self._finish(bundle)

    def _finish(self, bundle: Bundle) -> None:
        """All its networks are final: once the disk proves to have kept every state, the result can be signed."""
        damaged = [seed for seed in bundle.assignment.seeds if not (bundle.is_sound(seed) and bundle.is_trained(seed))]
        if not bundle.path.exists():
            return  # the daemon has dropped it meanwhile
        self.waiting += [(bundle, seed) for seed in damaged]
        self._left[bundle.path] = len(damaged)
        if damaged:
            self._damages[bundle.path] += 1
            if self._damages[bundle.path] > DAMAGES_MAX:
                raise DiskError(f"{bundle.path}: the disk does not keep what is written to it; check it, or use --dir")
            self.emit(TrainerNote(f"{bundle.path}: the disk did not keep {len(damaged)} networks; training them again"))
        else:
            del self._left[bundle.path]
            self.emit(AssignmentTrained(id_of(bundle), self.engine.name))

    def _check(self, command: CheckFile) -> None:
        try:
            job = read_check_job(Path(command.path))
            assignment = self._campaign(job.campaign).assignment(job.assignment)
            states = open_states(assignment.recipe, job.states, job.task.opened)
            weights = open_weights(assignment.recipe, job.weights, len(assignment.seeds))
            answer = spot_check(self.engine, assignment, job.result, job.slot, job.task, states, weights, self.shelf)
            self.emit(CheckAnswered(CheckId(job.result, job.slot), answer))
        except FileNotFoundError:
            self.emit(CheckFailed(command.check, f"{command.path} is gone"))
        except (Refused, DataMissing, *NOT_DECODABLE) as error:
            self.emit(CheckFailed(command.check, str(error)))


def id_of(bundle: Bundle) -> AssignmentId:
    return AssignmentId(bundle.assignment.campaign, bundle.assignment.index)


def read_commands(stream: BinaryIO, commands: queue.Queue[Command | None]) -> None:
    """Whatever ends the stream ends the worker too."""
    try:
        while (command := read_message(stream, COMMANDS)) is not None:
            commands.put(command)
    finally:
        commands.put(None)


def main() -> None:
    """Reads a TrainerConfig, then Commands, from stdin. Exits with 2 or 3 after a TrainerFailed."""
    harmless_tracebacks()
    reports = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints goes to the log, not between our messages
    config = read_message(sys.stdin.buffer, CONFIG)
    if config is None:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the daemon decides
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: never outlive a killed daemon
    os.nice(config.nice)
    sys.exit(work(config, lambda report: write_message(reports, report)))


def work(config: TrainerConfig, emit: Callable[[Report], None]) -> int:
    """Until stdin ends: 0. After a TrainerFailed: 2 when there was no engine, 3 when it cannot go on."""
    try:
        engine = select_engine(
            config.backend,
            config.threads,
            device=config.device,
            gpu_memory=config.gpu_memory,
            say=lambda text: emit(TrainerNote(text)),
        )
    except UsageError as error:
        emit(TrainerFailed(str(error)))
        return 2
    width = networks_in_flight(engine, 0)
    if config.memory_bytes and not width:
        limit_memory(config.memory_bytes)
    emit(TrainerReady(device=engine.name.encode("ascii", "replace").decode()[:64] if width else "", width=width))
    home = Path(config.home)
    settle()
    worker = Worker(engine, home, emit)
    threading.Thread(target=read_commands, args=(sys.stdin.buffer, worker.commands), daemon=True).start()
    try:
        worker.run()
    except UsageError as error:  # a data set is gone or damaged
        emit(TrainerFailed(f"{error}; nothing is lost"))
        return 3
    except MemoryError:
        words = f"training needs more memory than the limit leaves it, {config.memory_bytes / 1e6:,.0f} MB"
        emit(TrainerFailed(f"{words}; nothing is lost, allow more with --memory or take fewer --threads"))
        return 3
    except OSError as error:  # a full or read-only disk: nothing is lost, but we cannot go on
        emit(TrainerFailed(f"{error.filename or home}: {error.strerror}; nothing is lost, make room"))
        return 3
    return 0


def limit_memory(most: int) -> None:
    """The system gives this process no more; what asks for it gets a MemoryError. Where the system can do that."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


if __name__ == "__main__":
    main()
