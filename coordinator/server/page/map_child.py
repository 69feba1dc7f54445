"""The map of the zoo is made by the analyst's verb `map` in a process of its own; here it is started, asked, and read.

It is asked by a line on its input, and ends when that is closed: it works only while somebody looks at the page, and
never outlives us.
"""

import contextlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from protocol.errors import Refused, UsageError, shown
from protocol.files import read_limited
from protocol.page.state import MAP_BYTES_MAX, ZooMap
from protocol.page.told import map_from_bytes

COMMAND = (sys.executable, "-m", "protocol.cli.main", "map")
STARTS_MAX = 3  # a child that ends again and again is left alone
CLOSE_SECONDS = 2.0
NOTE_BYTES = 4096
YOUNG = "The map appears with the first networks of the zoo."


class MapChild:
    """Call `look` now and then while somebody watches."""

    def __init__(self, zoo: Path, out: Path, log_path: Path, command: Sequence[str] = COMMAND):
        self._zoo, self._out, self._log_path, self._command = zoo, out, log_path, command
        self._child: subprocess.Popen[bytes] | None = None
        self._starts, self._asked_for = 0, -1
        self._read_at, self._map = 0, None
        self._note = YOUNG

    def look(self, manifest: int) -> tuple[ZooMap | None, str]:
        """The newest map that is there, and why there is none; `manifest` is the number of the zoo's newest one."""
        if manifest:
            self._ask(manifest)
            self._read()
        return self._map, "" if self._map is not None else self._note

    def _ask(self, manifest: int) -> None:
        if self._child is not None and self._child.poll() is not None:
            self._note = f"No map: {self._last_words()}"
            self._let_go()
        if self._child is None:
            if self._starts >= STARTS_MAX:
                return
            self._starts, self._asked_for = self._starts + 1, -1
            self._start()
        if self._child is not None and self._child.stdin is not None and manifest != self._asked_for:
            with contextlib.suppress(OSError):
                self._child.stdin.write(b"\n")
                self._child.stdin.flush()
                self._asked_for = manifest

    def _start(self) -> None:
        arguments = [*self._command, str(self._zoo), "--out", str(self._out), "--when-asked"]
        try:
            with self._log_path.open("wb") as log:
                self._child = subprocess.Popen(
                    arguments, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True
                )
        except OSError as error:
            self._starts, self._note = STARTS_MAX, f"No map: {shown(error.strerror or error)}"

    def _read(self) -> None:
        try:
            at = self._out.stat().st_mtime_ns
            if at != self._read_at:
                self._map, self._read_at = map_from_bytes(read_limited(self._out, MAP_BYTES_MAX, "map")), at
        except FileNotFoundError:
            pass
        except (OSError, Refused, UsageError) as error:
            self._note = f"No map: {shown(error)}"

    def _last_words(self) -> str:
        """The last line of what the child wrote."""
        with contextlib.suppress(OSError):
            text = self._log_path.read_bytes()[-NOTE_BYTES:].decode(errors="replace")
            if lines := text.strip().splitlines():
                return shown(lines[-1].strip().removeprefix("zooswarm: "), 300)
        return "the process that draws it has ended"

    def _let_go(self) -> subprocess.Popen[bytes] | None:
        """Of the child: it will be asked no more."""
        child, self._child = self._child, None
        if child is not None and child.stdin is not None:
            with contextlib.suppress(OSError):
                child.stdin.close()
        return child

    def close(self) -> None:
        child, self._starts = self._let_go(), STARTS_MAX
        if child is not None:
            child.terminate()  # nothing is lost: its file is written whole or not at all
            try:
                child.wait(CLOSE_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
