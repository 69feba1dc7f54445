"""The handle of the training process: start it, feed it, hear from it, stop it. Whether to start another one after it
died is not decided here.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

from peer.state.actions import (
    DoCheck,
    DropTraining,
    PauseTrainer,
    ResumeTrainer,
    StartTrainer,
    StopTrainer,
    Train,
    TrainerAction,
)
from peer.state.events import TrainerDied, TrainerFailed, TrainerStopped
from peer.state.ports import Emit
from peer.storage.home import bundle_path, check_path
from peer.trainer.messages import (
    REPORTS,
    CheckFile,
    Command,
    DropBundle,
    TrainBundle,
    TrainerConfig,
    read_message,
    write_message,
)
from protocol import OWN_GROUP, run_module
from protocol.canonical import NOT_DECODABLE

STOP_SECONDS = 0.8  # for the segment in hand; then that segment is lost
EXPLAINED = (2, 3)  # exit codes of a worker that has said why it cannot go on


class TrainerProcess:
    """One training process at a time. What it says goes to `emit`, from a thread of its own."""

    def __init__(self, config: TrainerConfig, log: Path, emit: Emit, stop_seconds: float = STOP_SECONDS):
        self.config, self.log, self.emit, self.stop_seconds = config, log, emit, stop_seconds
        self.home = Path(config.home)
        self.process: subprocess.Popen[bytes] | None = None
        self._listener: threading.Thread | None = None
        self._stopping = False
        self._holds: set[str] = set()  # why it stands still: a pause, its pace
        self._holding = threading.Lock()

    def perform(self, action: TrainerAction) -> None:
        match action:
            case StartTrainer():
                self.start()
            case StopTrainer():
                threading.Thread(target=self._stop_and_say, name="stop-trainer", daemon=True).start()
            case PauseTrainer():
                self.hold("pause")
            case ResumeTrainer():
                self.let_go("pause")
            case Train(assignment):
                self._send(TrainBundle(assignment, str(bundle_path(self.home, *assignment))))
            case DropTraining(assignment):
                self._send(DropBundle(assignment))
            case DoCheck(check):
                self._send(CheckFile(check, str(check_path(self.home, *check))))
            case _:
                raise TypeError(f"not for the training process: {action}")

    def start(self) -> None:
        """Start it, unless it runs: it takes seconds to be ready, so it is started before there is work."""
        if self._stopping or (self.process is not None and self.process.poll() is None):
            return
        command = [sys.executable, *run_module("peer.trainer.worker")]
        with self.log.open("ab") as log:
            process: subprocess.Popen[bytes] = subprocess.Popen(  # pyright: ignore[reportAssignmentType]
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, **OWN_GROUP
            )  # a group of its own: a compiler that it has started ends with it
        with self._holding:
            self.process = process
            self._signal()
        self._listener = threading.Thread(target=self._listen, args=(process,), name="trainer", daemon=True)
        self._listener.start()
        self._send(self.config)

    def hold(self, why: str) -> None:
        """Stop it where it is, and whoever is started after it, until every reason is gone. From any thread."""
        with self._holding:
            if why not in self._holds:
                self._holds.add(why)
                self._signal()

    def let_go(self, why: str) -> None:
        with self._holding:
            if why in self._holds:
                self._holds.discard(why)
                self._signal()

    def _signal(self) -> None:
        """Its whole group: a compiler that it has started stands still with it."""
        if self.process is not None and self.process.poll() is None:
            still = bool(self._holds) and not self._stopping
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGSTOP if still else signal.SIGCONT)

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None and process.stdin is not None
        try:
            self._report_until_its_end(process, process.stdout)
        finally:
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):  # what was not written yet has no reader any more
                    pipe.close()

    def _report_until_its_end(self, process: subprocess.Popen[bytes], reports: IO[bytes]) -> None:
        try:
            while (report := read_message(reports, REPORTS)) is not None:
                self.emit(report)
        except (ValueError, *NOT_DECODABLE) as error:
            process.kill()
            self.emit(TrainerFailed(f"the training process does not speak our language ({error}); see {self.log}"))
            return
        code = process.wait()
        if not self._stopping and code not in EXPLAINED:
            self.emit(TrainerDied(code, str(self.log)))

    def _send(self, message: Command | TrainerConfig) -> None:
        if self.process is None or self.process.stdin is None:
            return
        with contextlib.suppress(OSError, ValueError):  # it died; the listener says so, and the next is told again
            write_message(self.process.stdin, message)

    def stop(self) -> None:
        """It ends after the segment in hand, or is killed. Everything it said has been emitted when this returns."""
        with self._holding:
            self._stopping = True
            self._signal()  # who stands still hears nothing
        if self.process is None or self._listener is None:
            return
        with contextlib.suppress(OSError, ValueError):
            assert self.process.stdin is not None
            self.process.stdin.close()
        try:
            self.process.wait(self.stop_seconds)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._listener.join(self.stop_seconds)

    def _stop_and_say(self) -> None:
        self.stop()
        self.emit(TrainerStopped())
