"""What a host is asked for: parts of its own results that are missing, and the checks that are its to do."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from coordinator.policy.phases import Phase
from protocol.trust.messages import BlobPart, Cell, OpeningRequest

CHECKS_MAX = 4  # at a time; the rest come when these are answered
CHECKS_BYTES_MAX = 5 * 1024 * 1024  # stays under Inbox.BYTES_MAX with the rest


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
