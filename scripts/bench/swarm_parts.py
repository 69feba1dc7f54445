"""One program of a swarm with a clock on its parts: `python swarm_parts.py FOLDER zooswarm join ADDRESS ...`.

`swarm.py` starts it in place of `zooswarm`. It runs the real program, with the functions that are named below wrapped;
so is a volunteer's training process. At its end each process writes its CPU seconds, by part, into FOLDER. Parts inside
others are counted once, where they are.
"""

import atexit
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

TRAINER = "peer.trainer.worker"


class PartClock:
    """CPU seconds by part: of the thread that runs it, or for a training process of all its threads."""

    def __init__(self, whole_process: bool):
        self.now = time.process_time if whole_process else time.thread_time
        self.totals: Counter[str] = Counter()
        self._open = threading.local()

    def timed(self, owner: Any, attribute: str, part: str, outer: bool = False) -> None:
        """`outer`: what is timed inside it is part of it."""
        inner = getattr(owner, attribute)

        @wraps(inner)
        def wrapped(*arguments: Any, **options: Any) -> Any:
            stack: list[list[Any]] = self._open.__dict__.setdefault("stack", [])
            if any(whole for _, _, whole in stack):
                return inner(*arguments, **options)
            stack.append([self.now(), 0.0, outer])
            try:
                return inner(*arguments, **options)
            finally:
                began, inside, _ = stack.pop()
                spent = self.now() - began
                self.totals[part] += spent - inside
                if stack:
                    stack[-1][1] += spent

        setattr(owner, attribute, wrapped)


def time_trainer(clock: PartClock, told: dict[str, Any]) -> None:
    """Wrap the training process's parts; count steps and waits."""
    import peer.storage.bundle
    import peer.trainer.worker as worker
    import protocol.engine.training as training
    from protocol.engine.native.engine import NativeEngine

    clock.timed(worker.Worker, "_check", "checks of others", outer=True)
    clock.timed(worker, "select_engine", "start of the training processes", outer=True)
    clock.timed(NativeEngine, "train", "train")
    clock.timed(NativeEngine, "held_out_loss", "held-out losses")
    clock.timed(training, "initial_states", "initial states")
    for name in ("append", "is_sound", "resume"):
        clock.timed(peer.storage.bundle.Bundle, name, "states and leaves on the disk")
    segment, take = worker.advance, worker.Worker._take_commands

    def advance(engine: Any, recipe: Any, data: Any, seeds: Any, states: Any) -> Any:
        told.setdefault("first_step_at", time.time())
        ends = segment(engine, recipe, data, seeds, states)
        told["steps"] = told.get("steps", 0) + sum(
            end.step - state.step for end, state in zip(ends, states, strict=True)
        )
        told["last_step_at"] = time.time()
        return ends

    def take_commands(self: Any, wait: bool) -> None:
        began = time.time()
        take(self, wait)
        if wait and "first_step_at" in told:
            told.setdefault("waits", []).append((began, time.time()))

    worker.advance, worker.Worker._take_commands = advance, take_commands
    told["start"] = time.process_time()


def time_host(clock: PartClock) -> None:
    import coordinator.checking.own_checks as own_checks
    from protocol.engine.native.engine import NativeEngine

    clock.timed(own_checks, "spot_check", "host: its own checks", outer=True)
    clock.timed(own_checks, "select_engine", "host: its own checks", outer=True)
    clock.timed(NativeEngine, "train", "host: audits")
    clock.timed(NativeEngine, "held_out_loss", "host: audits")


def wrap_trainers(program: str, folder: str) -> None:
    """Let the volunteer start its training process by way of this file."""
    import peer.trainer.process as process

    popen = process.subprocess.Popen

    class TimedPopen(popen):  # type: ignore[type-arg, misc, valid-type]
        def __init__(self, command: list[str], *arguments: Any, **options: Any):
            if TRAINER in command:
                command = [sys.executable, program, folder, TRAINER]
            super().__init__(command, *arguments, **options)

    process.subprocess.Popen = TimedPopen  # type: ignore[misc]


def main() -> None:
    program, folder, *words = sys.argv
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this folder has a `coordinator.py`: ours comes first
    kind = TRAINER if words[0] == TRAINER else words[1]
    clock = PartClock(kind == TRAINER)
    told: dict[str, Any] = {"kind": kind}
    run: Callable[[], Any]
    if kind == TRAINER:
        time_trainer(clock, told)
        from peer.trainer.worker import main as run
    else:
        from protocol.cli.main import main as run

        if kind == "host":
            time_host(clock)
        elif kind == "join":
            wrap_trainers(program, folder)
    sys.argv = words

    def tell() -> None:
        told.update(parts=clock.totals, cpu=time.process_time(), pid=os.getpid())
        Path(folder, f"{kind}-{os.getpid()}.json").write_text(json.dumps(told))

    atexit.register(tell)
    run()


if __name__ == "__main__":
    main()
