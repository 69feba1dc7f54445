"""What the organizer sees: one line an event, a summary every ten seconds, a bar on a terminal."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import select

from coordinator.checking.cases import CampaignBook
from coordinator.ledger.database import Ledger, LedgerUnavailable
from coordinator.ledger.tables import hosts
from coordinator.policy.actions import News
from coordinator.policy.campaigns import OVER
from coordinator.server.status import CampaignStatus, Status
from protocol.errors import shown
from protocol.trust.messages import CampaignState


class Console:
    """Plain lines when it is not a terminal. May be told news from any thread."""

    def __init__(self, path: Path, organizer: str, ledger: Ledger, campaigns: CampaignBook):
        self.path, self.organizer = path, organizer
        self._ledger, self._campaigns = ledger, campaigns
        self.present_name: Callable[[str], str] = lambda host: ""  # of hosts that the ledger does not know yet
        self.page = ""  # where the status page is
        self.is_terminal = sys.stdout.isatty()
        self._lock = threading.Lock()
        self._progress: Any = None
        self._bars: dict[str, Any] = {}

    def say(self, text: str) -> None:
        text = shown(text)
        with self._lock:
            if self._progress is not None:
                self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)
            else:
                with contextlib.suppress(BrokenPipeError):
                    print(text, flush=True)

    def news(self, news: News) -> None:
        """One line: when, about what, what, who."""
        about = self._about(news)
        line = f"{time.strftime('%H:%M:%S')} {about}{news.kind}: {news.text}"
        if news.host:
            line += f"  [{self._name(news.host)}]"
        self.say(line)

    def _about(self, news: News) -> str:
        if not news.campaign:
            return ""
        campaign, _ = self._campaigns.get(news.campaign)
        place = f" #{news.assignment}" if news.assignment >= 0 else ""
        return f"[{campaign.name}{place}] "

    def _name(self, host: str) -> str:
        """The host's own name and the end of its key: names are not unique, and not proved."""
        if host == self.organizer:
            return "organizer"
        name = self.present_name(host)
        if not name:
            with contextlib.suppress(LedgerUnavailable), self._ledger.read() as connection:
                name = connection.execute(select(hosts.c.name).where(hosts.c.host == host)).scalar() or ""
        return f"{name} {host[-8:]}".strip()

    def welcome(self, join: str, invite: str) -> None:
        states = self._campaigns.states()
        names = [f"{self._campaigns.get(digest)[0].name} ({state})" for digest, state in states.items()]
        going_on = f", going on with {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}" if states else ""
        self.say(f"coordinator ready on {self.path}{going_on}")
        self.say("volunteers join with:")
        self.say(f"  zooswarm join {invite}")
        self.say(f"which stands for the address {join}")
        if self.page:
            self.say(f"watch it at {self.page}")
        if not states:
            self.say("start a campaign with:")
            self.say("  zooswarm seed campaign.toml")
        self.say("analysts copy the zoo with:")
        self.say(f"  zooswarm pull {invite} --out zoo")

    @contextlib.contextmanager
    def live(self) -> Iterator[None]:
        """A bar a campaign while this lasts, on a terminal."""
        if not self.is_terminal:
            yield
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with Progress(*columns, refresh_per_second=2) as progress:
            self._progress = progress
            try:
                yield
            finally:
                self._progress = None

    def summary(self, status: Status) -> None:
        for campaign in status.campaigns:
            if campaign.state in OVER and campaign.digest not in self._bars:
                continue
            note = note_of(campaign, status)
            if self._progress is None:
                if campaign.state == CampaignState.RUNNING:
                    done = f"{campaign.networks_admitted}/{campaign.networks} networks"
                    self.say(f"{time.strftime('%H:%M:%S')} [{campaign.name}] {done}, {note}")
                continue
            bar = self._bars.get(campaign.digest)
            if bar is None:
                bar = self._progress.add_task(shown(campaign.name), total=campaign.networks, note=note)
                self._bars[campaign.digest] = bar
            self._progress.update(bar, completed=campaign.networks_admitted, note=note)

    def farewell(self) -> None:
        self.say(f"stopped; everything is saved in {self.path}, the zoo in {self.path / 'zoo'}")
        self.say(f"go on with: zooswarm host {self.path}")


def note_of(campaign: CampaignStatus, status: Status) -> str:
    """`2 hosts, 1 committed, 3 checking, 1 kept, 12 s left`."""
    present = status.hosts_present
    parts = [f"{present} host{'s' if present != 1 else ''}"]
    names = ("committed", "checking", "kept", "rejected")
    counts = {name: getattr(campaign, name) for name in names}
    parts += [f"{number} {name}" for name, number in counts.items() if number]
    if campaign.state != CampaignState.RUNNING:
        parts.append(campaign.state)
    if campaign.eta_seconds is not None:
        parts.append(f"{duration(campaign.eta_seconds)} left")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`, `2.1 d`."""
    for limit, unit, size in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.{1 if unit == 'h' else 0}f} {unit}"
    return f"{seconds / 86_400:.1f} d"
