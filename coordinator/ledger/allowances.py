"""The allowances that hosts carry in their claims: read from their pace, signed, and kept in memory for a while."""

import threading
from collections.abc import Callable

from sqlalchemy import Connection, bindparam, select

from coordinator.ledger.prepared import Prepared
from coordinator.ledger.tables import results
from coordinator.policy.inbox import PACE_BUNDLES, allowance_of
from coordinator.policy.phases import Phase
from protocol.trust.allowance import ASSIGNMENTS_MAX, Allowance, allow
from protocol.trust.identity import Identity

LOOK_SECONDS = 30.0  # between two looks at a host's pace
HOSTS_MAX = 20_000  # remembered; whoever is not is looked up again

PACE = Prepared(
    select(results.c.received_at)
    .where(results.c.worker == bindparam("host"), results.c.phase == Phase.ADMITTED)
    .order_by(results.c.since.desc())
    .limit(PACE_BUNDLES)
)


class AllowanceBook:
    """Signing costs a tenth of a millisecond, so it is done when something has changed, not in every inbox."""

    def __init__(self, identity: Identity, clock: Callable[[], float]):
        self._identity, self._clock = identity, clock
        self._lock = threading.Lock()
        self._known: dict[str, tuple[Allowance, float]] = {}  # host -> its allowance, when to look again

    def of(self, connection: Connection, host: str) -> Allowance:
        """What this host may claim now."""
        now = self._clock()
        with self._lock:
            known, look_at = self._known.get(host, (None, 0.0))
        if known is not None and now < look_at:
            return known
        assignments, patience, seconds = allowance_of(PACE.scalars(connection, host=host))
        allowance = known
        if known is None or (known.assignments, known.patience) != (assignments, patience) or _old(known, seconds, now):
            allowance = allow(self._identity, host, assignments, patience, int(now + seconds))
        assert allowance is not None
        look_at = now + (seconds / 8 if assignments == ASSIGNMENTS_MAX else LOOK_SECONDS)
        with self._lock:
            self._known.pop(host, None)  # the newest last
            self._known[host] = allowance, look_at
            while len(self._known) > HOSTS_MAX:
                self._known.pop(next(iter(self._known)))
        return allowance


def _old(allowance: Allowance, seconds: float, now: float) -> bool:
    """Half of its time is over, or the clock was set back."""
    return not now + seconds / 2 <= allowance.expires <= now + seconds
