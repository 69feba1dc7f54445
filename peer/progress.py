"""What a volunteer sees: one line an event, and what this machine contributes, kept current."""

import logging
import time

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from peer.state import PeerState, Phase
from protocol.errors import shown

log = logging.getLogger(__name__)
LINE_SECONDS = 10.0  # between status lines where there is no terminal to redraw


def rows(state: PeerState, now: float) -> list[tuple[str, str]]:
    """(label, value) of the table on a terminal; `now` on the clock of the state."""
    figures = state.figures
    return [
        (
            "networks trained",
            f"{figures.networks}   ({figures.networks_per_hour(now):,.0f} an hour, "
            f"{figures.steps_per_second:,.0f} steps a second)",
        ),
        ("now", at_work(state)),
        ("handed in", handed_in(state)),
        ("others checked", f"{figures.checks}"),
        ("credit", f"{credit(state)} network-segments, {figures.clean_bundles} clean bundles"),
    ]


def at_work(state: PeerState) -> str:
    return state.figures.training or f"waiting for {state.figures.waits_for}"


def handed_in(state: PeerState) -> str:
    text = f"{state.figures.admitted} bundles admitted"
    if waiting := state.held.count(Phase.COMMITTED):
        text += f", {waiting} being checked by others"
    if spooled := state.held.count(Phase.TRAINED):
        text += f", {spooled} kept on disk until the coordinator answers"
    return text


def credit(state: PeerState) -> str:
    """`1,200 (300 in escrow)`."""
    escrow = f" ({state.figures.escrow:,} in escrow)" if state.figures.escrow else ""
    return f"{state.figures.credit:,}{escrow}"


def line(state: PeerState, now: float) -> str:
    figures = state.figures
    return (
        f"{figures.networks} networks ({figures.networks_per_hour(now):,.0f}/h) · {figures.checks} checks · "
        f"credit {credit(state)} · {at_work(state)}"
    )


class View:
    """A small table on a terminal, plain lines elsewhere."""

    def __init__(self, name: str, console: Console | None = None):
        self.name = name
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
        log.info("%s", text)
        self.console.print(f"{time.strftime('%H:%M:%S')}  {shown(text)}", markup=False, soft_wrap=True)

    def refresh(self, now: float, state: PeerState) -> None:
        if self._live is not None:
            table = Table(
                title=Text(shown(f"{self.name} in the swarm")), title_justify="left", show_header=False, box=None
            )
            table.add_column(style="dim", justify="right")
            table.add_column()
            for label, value in rows(state, now):
                table.add_row(label, Text(shown(value)))
            self._live.update(table)
        elif now >= self._next_line:
            if self._next_line:
                self.say(line(state, now))
            self._next_line = now + LINE_SECONDS
