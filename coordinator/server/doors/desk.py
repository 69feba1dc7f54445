"""First contact: which keys are let in, what a new one has to do for it, and which heartbeats are new."""

import hmac
import struct
import threading
from collections import OrderedDict, deque
from collections.abc import Callable

from sqlalchemy import bindparam, select

from coordinator.ledger.database import Ledger
from coordinator.ledger.prepared import Prepared
from coordinator.ledger.tables import hosts
from coordinator.policy.presence import BEAT_AHEAD_SECONDS, check_time
from coordinator.policy.standing import prefix_tag
from coordinator.server.doors.limits import (
    ADMITTED_MAX,
    NEWCOMERS_ALL_SECONDS,
    NEWCOMERS_HERE_SECONDS,
    NEWCOMERS_MAX,
    STAMP_BITS,
    STAMP_SECONDS,
    stamp_bits,
)
from protocol.errors import Refused
from protocol.trust.identity import Identity
from protocol.trust.messages import Heartbeat
from protocol.trust.stamp import PROOF_BYTES, is_paid

TERMS = struct.Struct(">dB")  # when the challenge was made, seconds since 1970, and its bits
MAC_BYTES = 16
STARTED_SECONDS = 1.0  # by so much a volunteer's idea of our time may be behind
EARNED_SECONDS = 10.0  # how often the hosts that have earned something are looked up
KNOWN = Prepared(select(hosts.c.host).where(hosts.c.host == bindparam("host")))
EARNED = select(hosts.c.host).where(hosts.c.credit > 0, hosts.c.banned == "")


class Desk:
    """Remembers in memory who was let in. Challenges are remembered by nobody: they carry our signature."""

    def __init__(self, identity: Identity, ledger: Ledger, clock: Callable[[], float], bits: int = STAMP_BITS):
        self._secret, self._tag_key = identity.secret("stamp"), identity.secret("stamp-prefix")
        self._ledger, self._clock, self.bits = ledger, clock, bits
        self._lock = threading.Lock()
        self._admitted: OrderedDict[str, float] = OrderedDict()  # host -> time of its last heartbeat
        self._since = clock() - STARTED_SECONDS  # what was issued before may have been heard before we started
        self._newcomers: deque[tuple[float, bytes]] = deque(maxlen=NEWCOMERS_MAX)  # when, and from which network
        self._earned: frozenset[str] = frozenset()
        self._earned_at = float("-inf")

    def terms(self, host: str, address: str) -> tuple[int, bytes]:
        """(bits, challenge) of the stamp that this host has to bring; 0 bits: none."""
        if not self.bits or not host or self.knows(host):
            return 0, b""
        now, tag = self._clock(), prefix_tag(self._tag_key, address)
        with self._lock:
            here = sum(
                bool(tag) and other == tag and now - at <= NEWCOMERS_HERE_SECONDS for at, other in self._newcomers
            )
            everywhere = sum(now - at <= NEWCOMERS_ALL_SECONDS for at, _ in self._newcomers)
        bits = stamp_bits(self.bits, here, everywhere)
        terms = TERMS.pack(now, bits)
        return bits, terms + self._mac(host, terms)

    def admit(self, host: str, beat: Heartbeat, address: str) -> None:
        """A heartbeat may be heard. Raises Refused: it was heard before, or its key has no stamp yet."""
        now = self._clock()
        known = self.knows(host)
        if not known:
            self._check_stamp(host, beat.stamp, now)
        with self._lock:
            check_time(beat.issued_at, self._admitted.get(host, self._since), now)
            self._admitted[host] = beat.issued_at
            self._admitted.move_to_end(host)
            if not known:
                self._newcomers.append((now, prefix_tag(self._tag_key, address)))
            if len(self._admitted) > ADMITTED_MAX:
                self._admitted.popitem(last=False)

    def time_for(self, host: str) -> float:
        """Our time, as this host should take it: later than in its last heartbeat, of an earlier life perhaps."""
        now = self._clock()
        with self._lock:
            last = self._admitted.get(host)
        return max(now, last + 1e-3) if last is not None and last <= now + BEAT_AHEAD_SECONDS else now

    def remembers(self, host: str) -> bool:
        """Whether this key was let in since we started. Touches no disk."""
        with self._lock:
            return not self.bits or host in self._admitted

    def knows(self, host: str) -> bool:
        """Whether this key was let in, or stands in the ledger."""
        if self.remembers(host):
            return True
        with self._ledger.read() as connection:
            return KNOWN.first(connection, host=host) is not None

    def has_standing(self, host: str) -> bool:
        """Whether it goes before others; as of some seconds ago, no disk is touched."""
        return host in self._earned

    def look_up(self) -> None:
        """Who has earned something, at most every few seconds."""
        now = self._clock()
        if 0 <= now - self._earned_at < EARNED_SECONDS:
            return
        self._earned_at = now
        with self._ledger.read() as connection:
            self._earned = frozenset(connection.execute(EARNED).scalars())

    def _check_stamp(self, host: str, stamp: bytes, now: float) -> None:
        challenge, proof = stamp[:-PROOF_BYTES], stamp[-PROOF_BYTES:]
        terms, mac = challenge[: TERMS.size], challenge[TERMS.size :]
        if len(terms) != TERMS.size or not hmac.compare_digest(mac, self._mac(host, terms)):
            raise Refused("stamp", "a new key brings a stamp; Join says which")
        made_at, bits = TERMS.unpack(terms)
        if not -1.0 <= now - made_at <= STAMP_SECONDS:
            raise Refused("stamp", "its challenge is too old; Join gives another")
        if not is_paid(challenge, host, bits, proof):
            raise Refused("stamp", "the work was not done")

    def _mac(self, host: str, terms: bytes) -> bytes:
        return hmac.digest(self._secret, terms + host.encode(), "sha256")[:MAC_BYTES]
