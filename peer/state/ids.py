"""Names of the two things that a volunteer keeps track of: an assignment that it holds, and a check that it does."""

from typing import NamedTuple


class AssignmentId(NamedTuple):
    campaign: str  # digest, 64 hex digits
    index: int  # pyright: ignore[reportIncompatibleMethodOverride] - nobody searches this tuple


class CheckId(NamedTuple):
    """One slot of the spot check of one result."""

    result: bytes  # digest of the signed result, 32 bytes
    slot: int
