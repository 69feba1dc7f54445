"""Shows how far the page is: a bar on a terminal, plain lines elsewhere. Written to the error output."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class Watch:
    """Hears of the sections (`report.Settings.hear`) and remembers how many are done."""

    def __init__(self, console: Console | None = None):
        self.console = console or Console(stderr=True, highlight=False)
        self.done, self.total, self._bar = 0, 0, None

    def __enter__(self) -> "Watch":
        if self.console.is_terminal:
            columns = (BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
            self._bar = Progress(*columns, console=self.console, transient=True)
            self._task = self._bar.add_task("reading the catalogue", total=None)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()

    def hear(self, done: int, total: int, title: str) -> None:
        self.done, self.total = done, total
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, description=title)
        elif done < total:
            self.console.print(f"{done + 1}/{total}  {title}", markup=False, soft_wrap=True)
