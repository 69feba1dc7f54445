"""Who may vouch for others: hosts whose own work was verified often enough, weighted by how much of it was.

A fresh key costs nothing, so it proves nothing: only hosts with standing are seated as checkers, and everything else
is the organizer's, or done by hosts that the campaign names. Weights are linear in verified work, so that a host that
splits itself into many has no more of the draw than before.
"""

import hashlib
import hmac
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from protocol.recipes.campaign import Campaign, Policy
from protocol.trust.challenge import rank_checkers
from protocol.trust.messages import Seat
from protocol.trust.roster import WEIGHT_MAX, Entry, Roster

FALSE_ACCUSATIONS_MAX = 3  # after so many a host is not drawn any more
RANK_PER_SLOT = 4  # hosts that a draw keeps in order for each slot: the first, and who comes in for it
TAG_BYTES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the ledger knows of a host that bears on its word."""

    host: str
    banned: bool = False
    clean_bundles: int = 0
    credit: int = 0  # network-segments that were verified and not retracted
    false_accusations: int = 0


class Bar(NamedTuple):
    """What a host must have shown until a campaign believes it."""

    bundles: int
    credit: int  # network-segments: many bundles of next to no work are not much work


def bar_of(campaign: Campaign) -> Bar:
    """`probation_bundles = 0` believes everybody."""
    return Bar(campaign.policy.probation_bundles, campaign.probation_credit)


def stands(host: Standing, bar: Bar) -> bool:
    """Whether enough of its work was verified, often enough."""
    accuser = host.false_accusations >= FALSE_ACCUSATIONS_MAX
    return not host.banned and not accuser and host.clean_bundles >= bar.bundles and host.credit >= bar.credit


def roster_of(known: Mapping[str, Standing], bar: Bar, tags: Mapping[str, bytes]) -> Roster:
    """The present hosts with standing. `tags` are those of all present hosts, by host."""
    return Roster(
        Entry(host=host, weight=max(1, min(standing.credit, WEIGHT_MAX)), tag=tag)
        for host, tag in tags.items()
        if stands(standing := known.get(host, Standing(host=host)), bar)
    )


def slots_of(policy: Policy, standing: bool) -> int:
    return policy.checkers if standing else policy.probation_checkers


def rank(drawn: bytes, roster: Roster, worker: str, worker_tag: bytes, slots: int) -> tuple[Seat, ...]:
    """Those who may check, in the order of the challenge `drawn`, each with the proof of it."""
    found = rank_checkers(drawn, roster, worker, worker_tag, RANK_PER_SLOT * slots)
    return tuple(
        Seat(
            attempt=attempt,
            host=roster.entries[place].host,
            weight=roster.entries[place].weight,
            tag=roster.entries[place].tag,
            path=roster.path(place),
        )
        for attempt, place in found
    )


def named_order(policy: Policy, digest: bytes) -> Iterable[str]:
    """Hosts that the campaign names, each first for another share of the results."""
    return sorted(policy.named_checkers, key=lambda host: hashlib.sha256(digest + host.encode()).digest())


def prefix_tag(key: bytes, address: str) -> bytes:
    """Names the network that an address belongs to (/24 of IPv4, /48 of IPv6) without telling it; `key` is secret.

    Empty for addresses that are not of the public internet: a LAN is one owner's, and its hosts check each other.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return b""
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if not ip.is_global:
        return b""
    prefix = ip.packed[: 3 if ip.version == 4 else 6]
    return hmac.digest(key, bytes([ip.version]) + prefix, "sha256")[:TAG_BYTES]
