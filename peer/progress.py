"""What a volunteer sees: one line an event, and what this machine contributes, kept current."""

import logging
import time
from collections.abc import Callable, Sequence
from math import inf, isfinite, log10
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from peer.state import PeerSettings, PeerState, Phase
from peer.state.lending.pausing import Conditions, hours_text
from peer.state.lending.sizes import UNLIMITED, size_text
from protocol.errors import shown

log = logging.getLogger(__name__)
LINE_SECONDS = 10.0  # between status lines where there is no terminal to redraw
BLOCKS = "▁▂▃▄▅▆▇█"
STYLES = {"paused": "yellow", "losses": "cyan"}
LOSS_MIN = 1e-12  # below: nothing is left to see


def rows(state: PeerState, now: float) -> list[tuple[str, str]]:
    """(label, value) of the table on a terminal; `now` on the clock of the state."""
    figures = state.figures
    told = [
        (
            "networks trained",
            f"{figures.networks}   ({figures.networks_per_hour(now):,.0f} an hour, "
            f"{figures.steps_per_second:,.0f} steps a second)",
        ),
        ("paused" if state.pause else "now", state.pause.reason if state.pause else at_work(state)),
        ("losses", loss_chart(figures.losses)),
        ("handed in", handed_in(state)),
        ("others checked", f"{figures.checks}"),
        ("credit", f"{credit(state)} network-segments, {figures.clean_bundles} clean bundles"),
        ("this computer", computer(state.conditions)),
        ("limits", limits(state.settings)),
    ]
    return [(label, value) for label, value in told if value]


def at_work(state: PeerState) -> str:
    if state.pause is not None:
        return f"paused: {state.pause.reason}"
    if state.figures.training and state.held.count(Phase.TRAINING):  # word of a last segment may come after its end
        return state.figures.training
    return f"waiting for {state.figures.waits_for}"


def handed_in(state: PeerState) -> str:
    text = f"{state.figures.admitted} bundle{'' if state.figures.admitted == 1 else 's'} admitted"
    if waiting := state.held.count(Phase.COMMITTED):
        text += f", {waiting} being checked by others"
    if spooled := state.held.count(Phase.TRAINED):
        text += f", {spooled} kept on disk until the coordinator answers"
    return text


def credit(state: PeerState) -> str:
    """`1,200 (300 in escrow)`."""
    escrow = f" ({state.figures.escrow:,} in escrow)" if state.figures.escrow else ""
    return f"{state.figures.credit:,}{escrow}"


def loss_chart(losses: Sequence[float]) -> str:
    """The last losses as a row of blocks, on a logarithmic scale, and what the ends stand for."""
    seen = [max(LOSS_MIN, loss) for loss in losses if isfinite(loss)]
    if len(seen) < 2:
        return ""
    heights = [log10(loss) for loss in seen]
    low, high = min(heights), max(heights)
    levels = [round((h - low) / (high - low) * (len(BLOCKS) - 1)) if high > low else 0 for h in heights]
    return f"{''.join(BLOCKS[level] for level in levels)}  {min(seen):.3g} to {max(seen):.3g}"


def computer(now: Conditions) -> str:
    """What is in use, as far as it can be read."""
    told = []
    if now.own_cores is not None:
        told.append(f"{now.own_cores:.0%} of a core for zooswarm")
    if now.others_cores is not None:
        told.append(f"{now.others_cores:.0%} for others")
    if now.own_bytes is not None:
        told.append(f"{size_text(now.own_bytes)} of memory")
    if now.temperature is not None:
        told.append(f"{now.temperature:.0f} °C")
    if now.on_battery:
        told.append("on battery")
    return ", ".join(told)


def limits(settings: PeerSettings) -> str:
    """Those that are in force."""
    terms = settings.terms
    told = [f"{settings.threads} thread{'s' if settings.threads > 1 else ''}"]
    if settings.cpu_cores < inf:
        told.append(f"{settings.cpu_cores:.0%} of a core")
    told += [
        f"{size_text(size)} of {what}"
        for size, what in ((settings.memory_bytes, "memory"), (settings.disk_bytes, "disk"))
        if size < UNLIMITED
    ]
    told += [f"{size_text(int(settings.bandwidth))} a second of network"] if settings.bandwidth < inf else []
    told += [f"at most {terms.max_temperature:.0f} °C"] if terms.max_temperature is not None else []
    told += ["only when idle"] if terms.only_when_idle else []
    told += ["not on battery"] if terms.not_on_battery else []
    told += [f"only {hours_text(terms.hours)}"] if terms.hours else []
    return ", ".join(told)


def line(state: PeerState, now: float) -> str:
    figures = state.figures
    return (
        f"{figures.networks} networks ({figures.networks_per_hour(now):,.0f}/h) · {figures.checks} checks · "
        f"credit {credit(state)} · {at_work(state)}"
    )


def summary(name: str, state: PeerState, now: float) -> dict[str, Any]:
    """The same for another terminal and for programs: plain numbers and texts, and the rows for people."""
    figures, conditions = state.figures, state.conditions
    return {
        "name": name,
        "paused": state.pause.reason if state.pause else "",
        "now": at_work(state),
        "networks": figures.networks,
        "networks_per_hour": round(figures.networks_per_hour(now), 1),
        "steps_per_second": round(figures.steps_per_second, 1),
        "losses": [loss for loss in figures.losses if isfinite(loss)],
        "admitted": figures.admitted,
        "checks": figures.checks,
        "credit": figures.credit,
        "escrow": figures.escrow,
        "own_cores": conditions.own_cores,
        "others_cores": conditions.others_cores,
        "own_bytes": conditions.own_bytes,
        "temperature": conditions.temperature,
        "on_battery": conditions.on_battery,
        "coordinator_away": state.backoff.delay > 0,
        "rows": [list(row) for row in rows(state, now)],
    }


def table_of(title: str, told: Sequence[Sequence[str]]) -> Table:
    table = Table(title=Text(shown(title)), title_justify="left", show_header=False, box=None)
    table.add_column(style="dim", justify="right", no_wrap=True)
    table.add_column()
    for label, value in told:
        table.add_row(shown(label), Text(shown(value), style=STYLES.get(label, "")))
    return table


class View:
    """A small table on a terminal, plain lines elsewhere."""

    def __init__(self, name: str, console: Console | None = None):
        self.name = name
        self.console = console or Console(highlight=False)
        self.tell: Callable[[dict[str, Any]], None] = lambda summary: None  # for who looks from elsewhere
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
        log.info("%s", shown(text))
        self.console.print(f"{time.strftime('%H:%M:%S')}  {shown(text)}", markup=False, soft_wrap=True)

    def refresh(self, now: float, state: PeerState) -> None:
        self.tell(summary(self.name, state, now))
        if self._live is not None:
            self._live.update(table_of(f"{self.name} in the swarm", rows(state, now)))
        elif now >= self._next_line:
            if self._next_line:
                self.say(line(state, now))
            self._next_line = now + LINE_SECONDS
