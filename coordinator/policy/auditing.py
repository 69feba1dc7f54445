"""The organizer's own audit of admitted bundles: which, which of their networks, in which order.

An audit trains a network again from recipe and seed. It needs nobody's word and nobody's bytes, so what it finds is
proved, and whoever cheats cannot know which bundle it will be: the coin is tossed with a secret of the organizer's.
"""

import enum
import hmac
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from heapq import nsmallest

AUDITS_AT_ONCE_MAX = 8  # each keeps a core busy for as long as a network trains, and its recipe's data in memory
SUSPECT_NETWORKS_MAX = 4  # of one bundle of a liar, or that one vouched for: docs/trust.md says why so many


class Audit(enum.StrEnum):
    """What the organizer owes a result. The words are stored in the ledger."""

    NONE = ""
    DUE = "due"  # chance wants one of its networks trained again
    SUSPECT = "suspect"  # its worker, or somebody who vouched for it, was shown to have lied
    PASSED = "passed"
    JUDGING = "judging"  # it was proved wrong: who vouched for it?
    JUDGED = "judged"


ORDER = (Audit.JUDGING, Audit.SUSPECT, Audit.DUE)  # who lied first, then where they may have lied, then chance's
OWED = ORDER


@dataclass(frozen=True, slots=True, kw_only=True)
class OwedAudit:
    """One result that is to be audited, or judged."""

    result: bytes
    audit: Audit
    since: float  # seconds since 1970: when it was settled


def audits_at_once(cores: int) -> int:
    """How many run side by side on a machine with so many cores: the coordinator has the other half."""
    return max(1, min(AUDITS_AT_ONCE_MAX, cores // 2))


def chance_wants(secret: bytes, result: bytes, share: float) -> bool:
    """Whether a bundle is audited, decided when it is admitted. `share` of all are."""
    return _number(secret, b"coin", result, 0) < share * 2**64


def draw_networks(secret: bytes, result: bytes, audit: Audit, among: Sequence[int], count: int) -> tuple[int, ...]:
    """At most `count` of the networks `among`, sorted; others for suspicion than for chance."""
    order = sorted(among, key=lambda network: _number(secret, audit.encode(), result, network))
    return tuple(sorted(order[:count]))


def next_audits(owed: Iterable[OwedAudit], out: Collection[bytes], free: int) -> tuple[OwedAudit, ...]:
    """What to begin now: at most `free`, without those that are `out` already, or wait for another try."""
    waiting = (one for one in owed if one.result not in out)
    return tuple(nsmallest(max(0, free), waiting, key=lambda one: (ORDER.index(one.audit), one.since, one.result)))


def _number(secret: bytes, purpose: bytes, result: bytes, network: int) -> int:
    """64 bits that only the secret's owner can foretell."""
    data = purpose + b"\0" + result + network.to_bytes(4, "little")
    return int.from_bytes(hmac.digest(secret, data, "sha256")[:8], "little")
