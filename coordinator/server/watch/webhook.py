"""Alerts as JSON to a URL, from a thread of its own: nobody waits for it, and it never holds more than a few."""

import logging
import queue
import threading
import urllib.error
import urllib.parse
import urllib.request

import msgspec

from coordinator.server.watch.alerts import Alert
from protocol.errors import AddressError, shown

CALL_SECONDS = 10.0
WAITING_MAX = 32  # alerts; beyond, new ones are dropped and a line says so
PAUSES = (2.0, 10.0, 60.0)  # seconds before each further try

log = logging.getLogger(__name__)


def check_url(url: str) -> str:
    """Raises UsageError unless it is one of http or https."""
    try:
        parts = urllib.parse.urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        sound = False
    if not sound:
        raise AddressError(f"--webhook: expected a URL like https://chat.example/hooks/...; this is {shown(url, 40)!r}")
    return url


class Webhook:
    """`send` returns at once. The URL may hold a secret: it is in no log and no message."""

    def __init__(self, url: str, pauses: tuple[float, ...] = PAUSES):
        self._url, self._pauses = check_url(url), pauses
        self._waiting: queue.Queue[Alert] = queue.Queue(WAITING_MAX)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        self._thread.start()

    def send(self, alert: Alert) -> None:
        try:
            self._waiting.put_nowait(alert)
        except queue.Full:
            log.warning("the webhook does not keep up; not sent: %s", alert.text)

    def close(self) -> None:
        """What is under way is given up; the daemon thread ends by itself."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                alert = self._waiting.get(timeout=0.5)
            except queue.Empty:
                continue
            for pause in (0.0, *self._pauses):
                if self._stopping.wait(pause) or self._post(alert):
                    break
            else:
                log.warning("the webhook did not take it: %s", alert.text)

    def _post(self, alert: Alert) -> bool:
        """Whether there is nothing more to do for it."""
        request = urllib.request.Request(
            self._url, msgspec.json.encode(alert), {"Content-Type": "application/json", "User-Agent": "zooswarm"}
        )
        try:
            with urllib.request.urlopen(request, timeout=CALL_SECONDS):
                return True
        except urllib.error.HTTPError as error:
            log.warning("the webhook answers %d", error.code)
            return 400 <= error.code < 500 and error.code != 429  # it will not be taken later either
        except (OSError, ValueError) as error:  # its words could name the URL
            log.warning("the webhook cannot be reached (%s)", type(error).__name__)
            return False
