"""How much a host may claim in the DHT: a handful at first, then what its own pace fills in two minutes."""

from collections.abc import Sequence
from itertools import pairwise
from math import ceil
from statistics import median

from protocol.trust.allowance import ASSIGNMENTS_MAX, FRESH_ASSIGNMENTS

PACE_BUNDLES = 16  # the newest admitted ones: what a host did last month says little
HELD_SECONDS = 120.0  # of its own pace: training, waiting for its checks, and some in reserve
PATIENCE_SECONDS, PATIENCE_SECONDS_MAX = 1800, 4 * 3600  # assignments are meant to take minutes
PATIENCE_BUNDLES = 20  # times its usual bundle
FRESH_SECONDS, PROVED_SECONDS = 3600, 24 * 3600  # how long an allowance lasts


def allowance_of(received_at: Sequence[float]) -> tuple[int, int, int]:
    """(assignments at once, seconds of patience, seconds it lasts) of a host, from when its last admitted bundles came.

    `received_at`: seconds since 1970, newest first. The median gap, so that a night's pause does not count.
    """
    if not received_at:
        return FRESH_ASSIGNMENTS, PATIENCE_SECONDS, FRESH_SECONDS
    gaps = [max(0.0, later - earlier) for later, earlier in pairwise(received_at[:PACE_BUNDLES])]
    if not gaps:
        return FRESH_ASSIGNMENTS + 1, PATIENCE_SECONDS, PROVED_SECONDS
    gap = max(median(gaps), 0.001)
    assignments = min(ASSIGNMENTS_MAX, FRESH_ASSIGNMENTS + ceil(HELD_SECONDS / gap))
    patience = min(PATIENCE_SECONDS_MAX, max(PATIENCE_SECONDS, ceil(PATIENCE_BUNDLES * gap)))
    return assignments, patience, PROVED_SECONDS
