"""The swarm's clock: this computer's, corrected by what the organizer's or the neighbours' clocks say."""

import time
from collections.abc import Callable


class SwarmClock:
    """Seconds since 1970. `offset` is the swarm's clock minus `own`; whoever measures it sets it."""

    def __init__(self, own: Callable[[], float] = time.time):
        self.own, self.offset = own, 0.0

    def __call__(self) -> float:
        return self.own() + self.offset


# A computer has one clock, so nodes of one process share its correction, hivemind's own records among them.
THIS_COMPUTERS = SwarmClock()
