"""`zooswarm pull` for people: a bar on a terminal, plain lines elsewhere, both on the error output."""

import shlex
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from analysis.pull.source import HostSource
from analysis.pull.transfer import Tally, kept, pull

LINE_SECONDS = 5.0


class Watch:
    """Hears of a pull and remembers how far it is."""

    def __init__(self, console: Console | None = None):
        self.console = console or Console(stderr=True, highlight=False)
        self.tally, self._bar, self._line_at = Tally(), None, time.monotonic() + LINE_SECONDS

    def __enter__(self) -> "Watch":
        if self.console.is_terminal:
            columns = (BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
            self._bar = Progress(*columns, console=self.console, transient=True)
            self._task = self._bar.add_task("asking for the manifest", total=None)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def hear(self, tally: Tally) -> None:
        self.tally = tally
        came = f"{tally.fetched_bytes / 1e6:,.1f} MB came"
        if self._bar is not None:
            self._bar.update(self._task, completed=tally.here, total=tally.files, description=came)
        elif time.monotonic() >= self._line_at:
            self._line_at = time.monotonic() + LINE_SECONDS
            self.console.print(f"{tally.here:,}/{tally.files:,} files, {came}", markup=False, soft_wrap=True)


def run_pull(address: str, out: Path) -> None:
    """Pull and say what is there now. Raises UsageError; Ctrl-C exits with 130."""
    watch = Watch()
    try:
        with HostSource(address) as source, watch:
            source.greet()
            tally = pull(source, out, watch.hear)
    except KeyboardInterrupt:
        print(f"stopped: {kept(watch.tally, out)}", file=sys.stderr)
        sys.exit(130)
    print(f"{out}: {tally.networks:,} networks, manifest {tally.number}, {tally.files:,} files")
    print(f"fetched {tally.fetched:,} files, {tally.fetched_bytes / 1e6:,.1f} MB")
    print(f"next: zooswarm report {shlex.quote(str(out))} --out page")
