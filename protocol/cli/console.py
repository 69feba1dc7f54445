"""Progress of long work, on the error output: a bar where a person watches, lines now and then elsewhere, or nothing.

    with progress("training", total=64) as bar:
        bar.update(3, text="1,200 steps")

rich is imported only when a bar is drawn or a line printed, so that `--help` stays quick.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from protocol.errors import shown

if TYPE_CHECKING:
    from rich.console import Console


class Progress:
    """How far a piece of work is; kept when the bar is gone."""

    def __init__(self, title: str, total: int | None = None):
        self.title, self.done, self.total, self.text = title, 0, total, ""

    def update(self, done: int, total: int | None = None, text: str = "", line: str | None = None) -> None:
        """So much is done, of `total` if it is known by now; `text` says what is in work.

        `line` is what is printed where there is no bar; default: done, total and text.
        """
        self.done, self.total, self.text = done, self.total if total is None else total, text
        of = "" if self.total is None else f"/{self.total:,}"
        self._show(line if line is not None else f"{done:,}{of}  {text or self.title}")

    def _show(self, line: str) -> None:
        """Nobody watches."""


class _Bar(Progress):
    """Redraws one line of a terminal."""

    def __init__(self, title: str, total: int | None, rich_bar: Any):
        super().__init__(title, total)
        self._bar, self._task = rich_bar, rich_bar.add_task(title, total=total)

    def _show(self, line: str) -> None:
        self._bar.update(self._task, completed=self.done, total=self.total, description=shown(self.text or self.title))


class _Lines(Progress):
    """A line an update, but no two within `seconds`."""

    def __init__(self, title: str, total: int | None, console: "Console", seconds: float):
        super().__init__(title, total)
        self._console, self._seconds = console, seconds
        self._next = time.monotonic() + seconds

    def _show(self, line: str) -> None:
        if line and time.monotonic() >= self._next:
            self._next = time.monotonic() + self._seconds
            self._console.print(shown(line), markup=False, soft_wrap=True)


@contextmanager
def progress(
    title: str,
    total: int | None = None,
    *,
    line_seconds: float | None = None,
    keep: bool = False,
    console: "Console | None" = None,
) -> Iterator[Progress]:
    """Show work while the block runs; `keep` leaves the finished bar on the screen.

    Without a terminal: a line an update, at most one in `line_seconds`; None: nothing at all.
    """
    if console is None and line_seconds is None and not sys.stderr.isatty():
        yield Progress(title, total)
        return
    from rich.console import Console

    console = console or Console(stderr=True, highlight=False, soft_wrap=True)  # a line that is printed stays one
    if not console.is_terminal:
        yield Progress(title, total) if line_seconds is None else _Lines(title, total, console, line_seconds)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress

    columns = (BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
    with RichProgress(*columns, console=console, transient=not keep, redirect_stdout=sys.stdout.isatty()) as bar:
        yield _Bar(title, total, bar)
