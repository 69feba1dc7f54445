"""What a volunteer sees: one line an event, and what this machine contributes, kept current."""

import time
from collections import deque
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.table import Table

LINE_SECONDS = 10.0  # between status lines where there is no terminal to redraw


@dataclass
class Stats:
    """A volunteer's own figures since the program started; credit and standing are the organizer's word."""

    name: str
    host: str
    networks: int = 0
    checks: int = 0
    credit: int = 0
    clean_bundles: int = 0
    admitted: int = 0
    bundles: dict[str, int] = field(default_factory=dict)  # phase -> how many
    training: str = ""
    waits_for: str = "the swarm"
    peers: int = 0
    began: float = field(default_factory=time.monotonic)
    _steps: deque = field(default_factory=lambda: deque(maxlen=64))
    _finished: deque = field(default_factory=lambda: deque(maxlen=4096))

    def stepped(self, steps: int, seconds: float) -> None:
        self._steps.append((steps, seconds))

    def finished(self, now: float) -> None:
        self.networks += 1
        self._finished.append(now)

    @property
    def steps_per_second(self) -> float:
        """Network-steps a second of training time, over the last segments."""
        seconds = sum(s for _, s in self._steps)
        return sum(n for n, _ in self._steps) / seconds if seconds else 0.0

    def networks_per_hour(self, now: float) -> float:
        """Over the last ten minutes, or since the start when that is less."""
        window = max(1.0, min(600.0, now - self.began))
        return 3600.0 * sum(1 for at in self._finished if at > now - window) / window

    def rows(self, now: float) -> list[tuple[str, str]]:
        return [
            (
                "networks trained",
                f"{self.networks}   ({self.networks_per_hour(now):,.0f} an hour, "
                f"{self.steps_per_second:,.0f} steps a second)",
            ),
            ("now", self.training or f"waiting for {self.waits_for}"),
            ("handed in", self._handed_in()),
            ("others checked", f"{self.checks}"),
            ("credit", f"{self.credit:,} network-segments, {self.clean_bundles} clean bundles"),
        ]

    def _handed_in(self) -> str:
        waiting = self.bundles.get("committed", 0)
        spooled = self.bundles.get("trained", 0)
        text = f"{self.admitted} bundles admitted"
        if waiting:
            text += f", {waiting} being checked by others"
        if spooled:
            text += f", {spooled} kept on disk until the coordinator answers"
        return text

    def line(self, now: float) -> str:
        return (
            f"{self.networks} networks ({self.networks_per_hour(now):,.0f}/h) · {self.checks} checks · "
            f"credit {self.credit:,} · {self.training or 'waiting for ' + self.waits_for}"
        )


class View:
    """Draws Stats: a small table on a terminal, plain lines elsewhere."""

    def __init__(self, stats: Stats, console: Console | None = None):
        self.stats = stats
        self.console = console or Console(highlight=False)
        self._live: Live | None = None
        self._next_line = 0.0

    def __enter__(self) -> "View":
        if self.console.is_terminal:
            self._live = Live(console=self.console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        self.console.print(f"{time.strftime('%H:%M:%S')}  {text}", markup=False, soft_wrap=True)

    def refresh(self, now: float) -> None:
        if self._live is not None:
            table = Table(title=f"{self.stats.name} in the swarm", title_justify="left", show_header=False, box=None)
            table.add_column(style="dim", justify="right")
            table.add_column()
            for label, value in self.stats.rows(now):
                table.add_row(label, value)
            self._live.update(table)
        elif now >= self._next_line:
            if self._next_line:
                self.say(self.stats.line(now))
            self._next_line = now + LINE_SECONDS
