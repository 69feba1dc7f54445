"""Effects, as values: what is to be done once a decision is durable. `checking.effects` is the one place that acts."""

import enum
from dataclasses import dataclass

from protocol.trust.messages import BlobPart


class NewsKind(enum.StrEnum):
    """What a line of the log is about, in the words that a person reads."""

    STARTED = "campaign started"
    CONTROLLED = "campaign is now"
    COMMITTED = "result committed"
    KEPT = "result kept, another is being checked"
    HANDED_IN_AGAIN = "result handed in again"
    DUPLICATE = "duplicate, not needed"
    EQUIVOCATION = "two different results for one assignment"
    ADMITTED = "admitted"
    REJECTED = "rejected"
    BANNED = "host banned"
    UNBANNED = "host may come back"
    RETRACTED = "retracted"
    VOUCHED = "vouched for a fake"
    REFUSED = "refused"
    FALSE_ACCUSATION = "false accusation"
    DISPUTE = "dispute"
    SILENT = "checker is silent"
    COMPLETE = "campaign complete"


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """One line for the organizer's log; nothing follows from it."""

    kind: NewsKind
    text: str
    campaign: str = ""  # digest, or "" when it is about none
    assignment: int = -1
    host: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    news: News


@dataclass(frozen=True, slots=True)
class DeleteBlobs:
    """Nobody needs these parts of a result any more: all of them, when none is named."""

    result: bytes
    parts: tuple[BlobPart, ...] = ()


@dataclass(frozen=True, slots=True)
class WakeReferee:
    """Something may be ruled on now; without it the referee looks within a second by itself."""


Action = Report | DeleteBlobs | WakeReferee
