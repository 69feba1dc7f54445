"""What a host is asked for and told: uploads that are missing, checks to do, new bans, how much it may claim."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from statistics import median

from coordinator.policy.phases import Phase
from protocol.trust.allowance import ASSIGNMENTS_MAX, FRESH_ASSIGNMENTS
from protocol.trust.messages import BlobPart, Cell, OpeningRequest

CHECKS_MAX = 8  # at a time, as many as a host has by default; the rest come when these are answered
CHECKS_BYTES_MAX = 5 * 1024 * 1024  # stays under Inbox.BYTES_MAX with the rest
ASKED = (Phase.COMMITTED, Phase.OPENING, Phase.KEPT)  # what is kept is here before it is wanted
BANS_TOLD_MAX = 1000  # the newest; older ones have lost their leases long ago
BANS_AT_ONCE = 100  # in one inbox: 5 kB

PACE_BUNDLES = 16  # the newest admitted ones: what a host did last month says little
HELD_SECONDS = 120.0  # of its own pace: training, waiting for its checks, and some in reserve
PATIENCE_SECONDS, PATIENCE_SECONDS_MAX = 1800, 4 * 3600  # assignments are meant to take minutes
PATIENCE_BUNDLES = 20  # times its usual bundle
FRESH_SECONDS, PROVED_SECONDS = 3600, 24 * 3600  # how long an allowance lasts


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnResult:
    """One unsettled result of the host that asks."""

    digest: bytes
    phase: Phase
    parts: Collection[str]  # that are here
    opened: tuple[Cell, ...] = ()  # start states that the challenge asks for; empty before the draw


Wanted = tuple[tuple[OpeningRequest, ...], tuple[tuple[bytes, str], ...]]


def uploads_wanted(results: Iterable[OwnResult]) -> Wanted:
    """(openings, missing parts) in the order of the results. States are asked for once the trace is here."""
    openings, missing = [], []
    for result in results:
        if result.phase not in ASKED:
            continue
        missing += [(result.digest, part) for part in (BlobPart.TRACE, BlobPart.WEIGHTS) if part not in result.parts]
        opening = (
            result.phase is Phase.OPENING and BlobPart.TRACE in result.parts and BlobPart.STATES not in result.parts
        )
        if opening and result.opened:
            openings.append(OpeningRequest(result=result.digest, cells=result.opened))
    return tuple(openings), tuple(missing)


def check_fits(count: int, size: int) -> bool:
    """Whether one more check may go into an inbox that has `count`, when all together are `size` bytes."""
    return not count or (count < CHECKS_MAX and size <= CHECKS_BYTES_MAX)


def bans_to_tell(bans: Sequence[str], known: int) -> tuple[tuple[str, ...], int]:
    """(Some that come after the `known` first ones, how many are known then); of the newest BANS_TOLD_MAX."""
    begin = max(known, len(bans) - BANS_TOLD_MAX)
    end = min(len(bans), begin + BANS_AT_ONCE)
    return tuple(bans[begin:end]), end


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
