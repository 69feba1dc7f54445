"""Who is here: kept in memory. Keys are free, so the ledger remembers only hosts that earned something.

What those say about themselves is written every few seconds; of all others nothing is, and the longest silent are
forgotten first.
"""

import threading
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select, update

from coordinator.ledger.database import Ledger
from coordinator.ledger.tables import hosts
from coordinator.policy.presence import check_heartbeat, present_until, resumed, told_before
from coordinator.policy.standing import prefix_tag
from protocol.trust.messages import Heartbeat

FLUSH_SECONDS = 5.0  # a crash forgets this much of what hosts say about themselves, and nothing else
FRESH_MAX = 20_000  # hosts that the ledger does not know: a few hundred bytes each
SAYS = update(hosts).where(hosts.c.host == bindparam("key"))


@dataclass(slots=True)
class Present:
    """What was last heard of a host. Times are seconds since 1970."""

    first_seen: float
    last_seen: float
    ask_again: float = 0.0  # seconds: when it was told to ask next
    beat: Heartbeat | None = None  # None: not since we started
    tag: bytes | None = None  # of its network (`policy.standing.prefix_tag`); None: not since we started


class Heartbeats:
    """Time stands still while the coordinator is away: who was here when it stopped is here when it starts."""

    def __init__(self, ledger: Ledger, now: float, tag_key: bytes = b""):
        self._ledger, self._lock, self._tag_key = ledger, threading.Lock(), tag_key
        self._flushed_at = now
        self._unwritten: set[str] = set()
        self._fresh: OrderedDict[str, Present] = OrderedDict()  # not in the ledger; the longest silent first
        with ledger.read() as connection:
            rows = connection.execute(select(hosts.c.host, hosts.c.first_seen, hosts.c.last_seen)).all()
        last_seen = resumed({row.host: row.last_seen for row in rows}, now)
        told = told_before(last_seen, now)
        self._known = {row.host: Present(row.first_seen, last_seen[row.host], told) for row in rows}

    def see(
        self, host: str, beat: Heartbeat, now: float, address: str = "", *, ask_again: float = 0.0, known: bool = False
    ) -> None:
        """A host was heard from an IP address ("" when it is not known), and is told to ask again in so many seconds.

        `known`: it is in the ledger. Raises Refused for values that must not reach a page or a sum.
        """
        check_heartbeat(beat)
        tag = prefix_tag(self._tag_key, address)
        with self._lock:
            present = self._known.get(host) or self._fresh.pop(host, None) or Present(now, now)
            present.last_seen, present.ask_again, present.beat, present.tag = now, ask_again, beat, tag
            if known or host in self._known:
                self._known[host] = present
                self._unwritten.add(host)
                return
            self._fresh[host] = present
            if len(self._fresh) > FRESH_MAX:
                self._fresh.popitem(last=False)

    def last_seen(self) -> dict[str, float]:
        """Seconds since 1970, by host."""
        with self._lock:
            return {host: present.last_seen for host, present in (*self._known.items(), *self._fresh.items())}

    def counted_from(self, presence_seconds: float) -> dict[str, float]:
        """`last_seen` for `policy.presence.is_present`: later for hosts that were told to ask more rarely."""
        with self._lock:
            return {
                host: present_until(present.last_seen, present.ask_again, presence_seconds) - presence_seconds
                for host, present in (*self._known.items(), *self._fresh.items())
            }

    def fresh(self) -> dict[str, Present]:
        """Hosts that are not in the ledger, the longest silent first."""
        with self._lock:
            return dict(self._fresh)

    def count_present(self, now: float, presence_seconds: float) -> int:
        """Of all hosts, also of those that nobody knows."""
        with self._lock:
            present = (*self._known.values(), *self._fresh.values())
        return sum(_is_here(p, now, presence_seconds) for p in present)

    def name(self, host: str) -> str:
        """What it calls itself; "" before it was heard."""
        with self._lock:
            present = self._known.get(host) or self._fresh.get(host)
        return present.beat.name if present and present.beat else ""

    def tag(self, host: str) -> bytes | None:
        """Of the network that it was heard from last; None before that."""
        with self._lock:
            present = self._known.get(host) or self._fresh.get(host)
        return present.tag if present else None

    def tags(self, now: float, presence_seconds: float) -> dict[str, bytes]:
        """By host, of those that are present and were heard since we started."""
        with self._lock:
            heard = (*self._known.items(), *self._fresh.items())
        return {h: p.tag for h, p in heard if p.tag is not None and _is_here(p, now, presence_seconds)}

    def flush(self, now: float, *, force: bool = False) -> None:
        """Write what has gathered, at most every FLUSH_SECONDS."""
        with self._lock:
            if not self._unwritten or (now - self._flushed_at < FLUSH_SECONDS and not force):
                return
            beats = [_row(host, self._known[host]) for host in self._unwritten]
            self._unwritten, self._flushed_at = set(), now
        self._ledger.post(lambda connection: add_heartbeats(connection, beats))


def _is_here(present: Present, now: float, presence_seconds: float) -> bool:
    return now <= present_until(present.last_seen, present.ask_again, presence_seconds)


def _row(host: str, present: Present) -> dict:
    beat = present.beat
    assert beat is not None
    return {
        "key": host,
        "last_seen": present.last_seen,
        "name": beat.name,
        "device": beat.device,
        "version": beat.version,
        "steps_per_second": beat.steps_per_second,
        "networks_trained": beat.networks_trained,
        "checks_done": beat.checks_done,
    }


def add_heartbeats(connection: Connection, beats: Collection[dict]) -> None:
    """What hosts of the ledger say about themselves, gathered over some seconds; only `last_seen` is ours."""
    connection.execute(SAYS, list(beats))
