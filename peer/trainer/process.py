"""The handle of the training process: start it, feed it, hear from it, stop it."""

import contextlib
import json
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

RESTARTS_MAX = 5  # a process that dies more often has a cause that restarting does not mend


class Crew:
    """One training process. `events()` returns what it said since the last call; a dead one is started again."""

    def __init__(
        self, campaigns: Path, log: Path, backend: str, threads: int, nice: int, device: str, gpu_memory: float
    ):
        self.command = [
            sys.executable,
            "-P" if sys.version_info >= (3, 11) else "-u",
            "-m",
            "peer.trainer.worker",
            str(campaigns),
            backend,
            str(threads),
            str(nice),
            device,
            str(gpu_memory),
        ]
        self.log, self.restarts, self.stopping = log, 0, False
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        self._tasks: dict[str, dict[str, Any]] = {}  # by path: what a fresh process has to be told again
        self._start()

    def _start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        threading.Thread(target=self._listen, args=(self.process,), daemon=True).start()
        for task in self._tasks.values():
            self._send(task)

    def _listen(self, process: subprocess.Popen) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with contextlib.suppress(json.JSONDecodeError):
                self._events.put(json.loads(line))
        self._events.put({"event": "ended", "code": process.wait(), "pid": process.pid})

    def _send(self, command: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # it died; the listener says so, and the next one is told again
            self.process.stdin.write(json.dumps(command).encode() + b"\n")
            self.process.stdin.flush()

    def train(self, path: Path, campaign: str, index: int) -> None:
        self._task(do="train", path=str(path), campaign=campaign, index=index)

    def check(self, path: Path) -> None:
        self._task(do="check", path=str(path))

    def _task(self, **command: Any) -> None:
        if command["path"] not in self._tasks:
            self._tasks[command["path"]] = command
            self._send(command)

    def drop(self, path: Path) -> None:
        """Forget a bundle that is no longer ours."""
        if self._tasks.pop(str(path), None):
            self._send({"do": "drop", "path": str(path)})

    def events(self) -> list[dict[str, Any]]:
        found = []
        while True:
            try:
                event = self._events.get_nowait()
            except queue.Empty:
                return found
            if event["event"] in ("trained", "checked", "unchecked"):
                self._tasks.pop(event["path"], None)
            if event["event"] == "ended":
                if self.stopping or event["pid"] != self.process.pid or event["code"] in (2, 3):
                    continue  # sent home, an older one, or one that said why it cannot go on
                self.restarts += 1
                if self.restarts > RESTARTS_MAX:
                    event = {"event": "failed", "reason": f"the training process keeps dying; see {self.log}"}
                else:
                    self._start()
            found.append(event)

    def stop(self) -> None:
        """Ends after the segment in hand; killed if that takes too long (at most that segment is lost)."""
        self.stopping = True
        with contextlib.suppress(OSError):
            assert self.process.stdin is not None
            self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
