"""What `zooswarm host` was told about watching it, and the parts that do so."""

import contextlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass

from coordinator.ledger.database import LedgerUnavailable
from coordinator.server.status import Status
from coordinator.server.watch.alerts import alerts
from coordinator.server.watch.metrics import serve_metrics
from coordinator.server.watch.webhook import Webhook, check_url
from protocol.errors import AddressError, shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Options of `host`."""

    metrics: str | None = None  # HOST:PORT
    webhook: str | None = None
    log_json: bool = False

    def check(self) -> None:
        """Before anything is made. Raises UsageError."""
        if self.metrics is not None:
            split_metrics(self.metrics)
        if self.webhook is not None:
            check_url(self.webhook)


def split_metrics(text: str) -> tuple[str, int]:
    """Raises UsageError."""
    name, colon, port = text.rpartition(":")
    if not colon or not name or not port.isdecimal() or not 0 < int(port) < 65536:
        raise AddressError(f"--metrics {text}: expected HOST:PORT, e.g. 127.0.0.1:9750")
    return name.strip("[]"), int(port)


def start_watching(watch: Watch, status: Callable[[], Status], stack: contextlib.ExitStack) -> Callable[[], None]:
    """Serve metrics if asked to; returns the step that looks for what is worth an alert. Raises UsageError."""
    if watch.metrics is not None:
        stack.callback(serve_metrics(*split_metrics(watch.metrics), status))
    if watch.webhook is None:
        return lambda: None
    hook = Webhook(watch.webhook)
    stack.callback(hook.close)
    return Watcher(status, hook).look


class Watcher:
    """Remembers the status before."""

    def __init__(self, status: Callable[[], Status], hook: Webhook):
        self._status, self._hook = status, hook
        self._before: Status | None = None

    def look(self) -> None:
        with contextlib.suppress(LedgerUnavailable):  # said elsewhere
            now = self._status()
            for alert in alerts(self._before, now):
                self._hook.send(alert)
            self._before = now


class JsonLines(logging.Formatter):
    """A record as one JSON object in ASCII, for programs that collect logs."""

    def format(self, record: logging.LogRecord) -> str:
        told = {"at": record.created, "level": record.levelname, "logger": record.name}
        told["message"] = shown(record.getMessage())
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told)
