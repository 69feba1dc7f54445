"""Who is here: heartbeats, kept in memory and written to the ledger every few seconds."""

import math
import threading

from sqlalchemy import select

from coordinator.ledger import results as results_ledger
from coordinator.ledger.database import Ledger
from coordinator.ledger.tables import hosts
from protocol.errors import Refused
from protocol.trust.messages import Heartbeat

FLUSH_SECONDS = 5.0  # a crash forgets this much of what hosts say about themselves, and nothing else
HOSTS_MAX = 100_000  # identities are free; beyond this many, new ones are not remembered


class Presence:
    """Time stands still while the coordinator is away: who was here when it stopped is here when it starts."""

    def __init__(self, ledger: Ledger, now: float):
        self._ledger, self._lock = ledger, threading.Lock()
        self._beats: dict[str, dict] = {}
        self._flushed_at = now
        with ledger.read() as connection:
            rows = list(connection.execute(select(hosts.c.host, hosts.c.last_seen)))
        stopped_at = max((row.last_seen for row in rows), default=now)
        self._last_seen = {row.host: now - (stopped_at - row.last_seen) for row in rows}

    def see(self, host: str, beat: Heartbeat, now: float) -> None:
        """Raises Refused for values that must not reach a page or a sum."""
        if not math.isfinite(beat.steps_per_second) or beat.steps_per_second < 0:
            raise Refused("heartbeat", "steps_per_second is not a sensible number")
        if not all(text.isprintable() for text in (beat.name, beat.device, beat.version)):
            raise Refused("heartbeat", "unprintable text")
        if beat.networks_trained >= 2**53 or beat.checks_done >= 2**53:
            raise Refused("heartbeat", "absurd counts")
        with self._lock:
            if host not in self._last_seen and len(self._last_seen) >= HOSTS_MAX:
                return
            self._last_seen[host] = now
            self._beats[host] = {
                "host": host,
                "last_seen": now,
                "name": beat.name,
                "device": beat.device,
                "version": beat.version,
                "steps_per_second": beat.steps_per_second,
                "networks_trained": beat.networks_trained,
                "checks_done": beat.checks_done,
            }

    def last_seen(self) -> dict[str, float]:
        with self._lock:
            return dict(self._last_seen)

    def flush(self, now: float, *, force: bool = False) -> None:
        """Write what has gathered, at most every FLUSH_SECONDS."""
        with self._lock:
            if not self._beats or (now - self._flushed_at < FLUSH_SECONDS and not force):
                return
            beats, self._beats, self._flushed_at = self._beats, {}, now
        self._ledger.post(lambda connection: results_ledger.add_heartbeats(connection, beats.values()))
