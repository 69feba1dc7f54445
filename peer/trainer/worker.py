"""The training process: `python -m peer.trainer.worker`. Trains bundles, and does spot checks before anything else.

It speaks JSON lines: commands come in on stdin, events go out on stdout. It never touches the network. When the
daemon dies, stdin ends and so does this process. Networks of several bundles share one batch: a network that meets
its stop rule leaves, and the next seed takes its place.
"""

import contextlib
import ctypes
import json
import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

from peer.storage.bundle import Bundle
from protocol.engine import Engine, State
from protocol.engine.select import networks_in_flight, select_engine
from protocol.engine.streams import task_data
from protocol.engine.training import Boundary, advance, start
from protocol.errors import Refused, UsageError
from protocol.recipes.campaign import Campaign, campaign_from_bytes
from protocol.tasks.datasets import DataMissing, Shelf
from protocol.trust.challenge import SlotTask
from protocol.trust.spot_check import open_states, open_weights, spot_check

WIDTH = 16  # networks in flight on processors; enough to keep the threads busy, few enough to stay in the caches


class CheckJob(msgspec.Struct, frozen=True, kw_only=True):
    """A verified spot check, written to a file by the daemon."""

    campaign: str
    assignment: int
    result: bytes
    slot: int
    task: SlotTask
    states: bytes
    weights: bytes


class Worker:
    """The loop: commands, then checks, then one segment for every network in flight."""

    def __init__(self, engine: Engine, campaigns: Path):
        self.width = networks_in_flight(engine, WIDTH)
        self.engine, self.folder = engine, campaigns
        self.shelf = Shelf(campaigns.parent / "data")  # of a volunteer's home; the daemon fetches what is missing
        self.commands: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.checks: list[Path] = []
        self.waiting: list[tuple[Bundle, int]] = []
        self.active: list[tuple[Bundle, int, State]] = []
        self._campaigns: dict[str, Campaign] = {}
        self.steps = 0

    def run(self) -> None:
        while True:
            busy = bool(self.checks or self.active or self.waiting)
            if not self._take_commands(wait=not busy):
                return
            if self.checks:
                self._check(self.checks.pop(0))
            elif self.active or self.waiting:
                self._refill()
                self._segment()

    def _take_commands(self, wait: bool) -> bool:
        while True:
            try:
                command = self.commands.get(block=wait)
            except queue.Empty:
                return True
            if command is None or command["do"] == "stop":
                return False
            if command["do"] == "check":
                self.checks.append(Path(command["path"]))
            elif command["do"] == "train":
                self._add_bundle(command)
            elif command["do"] == "drop":
                path = Path(command["path"])
                self.waiting = [item for item in self.waiting if item[0].path != path]
                self.active = [item for item in self.active if item[0].path != path]
            wait = False

    def _campaign(self, digest: str) -> Campaign:
        if digest not in self._campaigns:
            self._campaigns[digest] = campaign_from_bytes((self.folder / f"{digest}.json").read_bytes())
        return self._campaigns[digest]

    def _add_bundle(self, command: dict[str, Any]) -> None:
        assignment = self._campaign(command["campaign"]).assignments[command["index"]]
        bundle = Bundle(Path(command["path"]), assignment)
        if any(item[0].path == bundle.path for item in (*self.waiting, *self.active)):
            return
        left = [seed for seed in assignment.seeds if not bundle.is_trained(seed)]
        self.waiting += [(bundle, seed) for seed in left]
        if not left:
            emit(event="trained", path=str(bundle.path), backend=self.engine.name)

    def _refill(self) -> None:
        """Fresh networks of one recipe start together; those that were begun go on from their last boundary."""
        while self.waiting and len(self.active) < self.width:
            recipe = self.waiting[0][0].assignment.recipe
            joining = [item for item in self.waiting if item[0].assignment.recipe is recipe]
            joining = joining[: self.width - len(self.active)]
            taken = {(bundle.path, seed) for bundle, seed in joining}
            self.waiting = [(bundle, seed) for bundle, seed in self.waiting if (bundle.path, seed) not in taken]
            fresh = []
            for bundle, seed in joining:
                state = bundle.resume(seed)
                if state is None:
                    fresh.append((bundle, seed))
                else:
                    self.active.append((bundle, seed, state))
            begun = (
                start(self.engine, recipe, task_data(recipe, self.shelf), [seed for _, seed in fresh]) if fresh else []
            )
            for (bundle, seed), boundary in zip(fresh, begun, strict=True):
                if not self._keep(bundle, seed, boundary):
                    continue
                if boundary.final:
                    self._leave(bundle, seed, boundary)
                else:
                    self.active.append((bundle, seed, boundary.state))

    def _segment(self) -> None:
        """One segment for the networks in flight that share the first one's recipe; the others take their turn."""
        if not self.active:
            return
        recipe = self.active[0][0].assignment.recipe
        group = [item for item in self.active if item[0].assignment.recipe is recipe]
        began = time.perf_counter()
        seeds, states = [seed for _, seed, _ in group], [state for _, _, state in group]
        ends = advance(self.engine, recipe, task_data(recipe, self.shelf), seeds, states)
        self.active = [item for item in self.active if item[0].assignment.recipe is not recipe]
        steps = 0
        for (bundle, seed, before), boundary in zip(group, ends, strict=True):
            steps += boundary.state.step - before.step
            if not self._keep(bundle, seed, boundary):
                continue
            if boundary.final:
                self._leave(bundle, seed, boundary)
            else:
                self.active.append((bundle, seed, boundary.state))
        emit(
            event="progress",
            steps=steps,
            seconds=time.perf_counter() - began,
            networks=len(group),
            label=recipe.label,
            at=max(boundary.state.step for boundary in ends),
            loss=float(min(boundary.held_out_loss for boundary in ends)),
        )

    def _keep(self, bundle: Bundle, seed: int, boundary: Boundary) -> bool:
        """Append to the bundle's files; False when the daemon has dropped the bundle and its directory meanwhile."""
        try:
            bundle.append(seed, boundary)
        except FileNotFoundError:
            if bundle.path.exists():
                raise
            return False
        return True

    def _leave(self, bundle: Bundle, seed: int, boundary: Boundary) -> None:
        emit(
            event="network",
            label=bundle.assignment.recipe.label,
            seed=seed,
            steps=boundary.state.step,
            held_out_loss=float(boundary.held_out_loss),
        )
        if bundle.all_trained:
            emit(event="trained", path=str(bundle.path), backend=self.engine.name)

    def _check(self, path: Path) -> None:
        try:
            job = msgspec.msgpack.decode(path.read_bytes(), type=CheckJob)
        except FileNotFoundError:
            return
        assignment = self._campaign(job.campaign).assignments[job.assignment]
        try:
            states = open_states(assignment.recipe, job.states, job.task.opened)
            weights = open_weights(assignment.recipe, job.weights, len(assignment.seeds))
            answer = spot_check(self.engine, assignment, job.result, job.slot, job.task, states, weights, self.shelf)
            emit(event="checked", path=str(path), answer=msgspec.msgpack.encode(answer).hex())
        except (Refused, DataMissing) as error:
            emit(event="unchecked", path=str(path), reason=str(error))


def emit(**event: Any) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def _read_commands(commands: queue.Queue) -> None:
    for line in sys.stdin:
        commands.put(json.loads(line))
    commands.put(None)


def main() -> None:
    """argv: directory of cached campaigns, backend, threads, nice, device, share of a card's memory."""
    folder, backend, threads, nice = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    device, gpu_memory = sys.argv[5], float(sys.argv[6])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the daemon decides
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: never outlive a killed daemon
    os.nice(nice)
    try:
        engine = select_engine(
            backend, threads, device=device, gpu_memory=gpu_memory, say=lambda text: emit(event="note", text=text)
        )
    except UsageError as error:
        emit(event="failed", reason=str(error))
        sys.exit(2)
    width = networks_in_flight(engine, 0)
    emit(event="ready", backend=engine.name, width=width, **({"device": engine.name[:64]} if width else {}))
    worker = Worker(engine, folder)
    threading.Thread(target=_read_commands, args=(worker.commands,), daemon=True).start()
    try:
        worker.run()
    except UsageError as error:  # a data set is gone or damaged
        emit(event="failed", reason=f"{error}; nothing is lost")
        sys.exit(3)
    except OSError as error:  # a full or read-only disk: nothing is lost, but we cannot go on
        emit(event="failed", reason=f"{error.filename or folder.parent}: {error.strerror}; nothing is lost, make room")
        sys.exit(3)


if __name__ == "__main__":
    main()
