"""Who is here: heartbeats, kept in memory and written to the ledger every few seconds."""

import threading
from collections.abc import Collection

from sqlalchemy import Connection, bindparam, insert, select, update

from coordinator.ledger.database import Ledger
from coordinator.ledger.tables import hosts
from coordinator.policy.presence import check_heartbeat, is_present, resumed
from coordinator.policy.standing import prefix_tag
from protocol.trust.messages import Heartbeat

FLUSH_SECONDS = 5.0  # a crash forgets this much of what hosts say about themselves, and nothing else
CHUNK = 500  # hosts in one statement
HOSTS_MAX = 100_000  # identities are free; beyond this many, new ones are not remembered


class Heartbeats:
    """Time stands still while the coordinator is away: who was here when it stopped is here when it starts."""

    def __init__(self, ledger: Ledger, now: float, tag_key: bytes = b""):
        self._tag_key, self._tags = tag_key, dict[str, bytes]()  # of hosts that were heard since we started
        self._ledger, self._lock = ledger, threading.Lock()
        self._beats: dict[str, dict] = {}
        self._flushed_at = now
        with ledger.read() as connection:
            rows = connection.execute(select(hosts.c.host, hosts.c.last_seen))
            self._last_seen = resumed({row.host: row.last_seen for row in rows}, now)

    def see(self, host: str, beat: Heartbeat, now: float, address: str = "") -> None:
        """A heartbeat came from an IP address ("" when it is not known).

        Raises Refused for values that must not reach a page or a sum.
        """
        check_heartbeat(beat)
        tag = prefix_tag(self._tag_key, address)
        with self._lock:
            if host not in self._last_seen and len(self._last_seen) >= HOSTS_MAX:
                return
            self._last_seen[host] = now
            self._tags[host] = tag
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
        """Seconds since 1970, by host."""
        with self._lock:
            return dict(self._last_seen)

    def tag(self, host: str) -> bytes | None:
        """Of the network that it was heard from last (`policy.standing.prefix_tag`); None before that."""
        return self._tags.get(host)

    def tags(self, now: float, presence_seconds: float) -> dict[str, bytes]:
        """By host, of those that were heard within these seconds."""
        with self._lock:
            return {h: tag for h, tag in self._tags.items() if is_present(h, self._last_seen, now, presence_seconds)}

    def flush(self, now: float, *, force: bool = False) -> None:
        """Write what has gathered, at most every FLUSH_SECONDS."""
        with self._lock:
            if not self._beats or (now - self._flushed_at < FLUSH_SECONDS and not force):
                return
            beats, self._beats, self._flushed_at = self._beats, {}, now
        self._ledger.post(lambda connection: add_heartbeats(connection, beats.values()))


def add_heartbeats(connection: Connection, beats: Collection[dict]) -> None:
    """What hosts say about themselves, gathered over some seconds; only `last_seen` is ours."""
    listed = list(beats)
    for begin in range(0, len(listed), CHUNK):
        chunk = listed[begin : begin + CHUNK]
        names = [beat["host"] for beat in chunk]
        known = set(connection.execute(select(hosts.c.host).where(hosts.c.host.in_(names))).scalars())
        fresh = [beat | {"first_seen": beat["last_seen"]} for beat in chunk if beat["host"] not in known]
        if fresh:
            connection.execute(insert(hosts), fresh)
        again = [beat | {"key": beat["host"]} for beat in chunk if beat["host"] in known]
        if again:
            connection.execute(update(hosts).where(hosts.c.host == bindparam("key")), again)
