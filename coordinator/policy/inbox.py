"""What a host is asked for and told: uploads that are missing, checks to do, bans that it has not heard of."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from coordinator.policy.phases import Phase
from protocol.trust.messages import BlobPart, Cell, OpeningRequest

CHECKS_MAX = 4  # at a time; the rest come when these are answered
CHECKS_BYTES_MAX = 5 * 1024 * 1024  # stays under Inbox.BYTES_MAX with the rest
BANS_TOLD_MAX = 1000  # the newest; older ones have lost their leases long ago
BANS_AT_ONCE = 100  # in one inbox: 5 kB


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
        if result.phase not in (Phase.COMMITTED, Phase.OPENING):
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
