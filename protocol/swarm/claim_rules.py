"""Who works on what, decided from views of the swarm: rendezvous order, picking, settling, leases.

All functions here are pure. A host looks at a shard (a `View`), picks free assignments in its own rendezvous order,
claims them, lets the claims settle, looks again and decides. `claiming.Claims` does the looking and the waiting.
Precedence: the organizer's done bit > a confirmed claim > a claim; among equals the lowest hash of (task, host).
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from protocol.swarm.records import CLAIM, DONE, SHARD_SIZE, Claim, Done, shard_count
from protocol.trust.allowance import Allowance

SETTLE_SECONDS_MAX = 10.0  # a host slower than this is always late, and yields to anybody it sees
SETTLE_SAMPLES = 32


@dataclass(frozen=True, slots=True)
class View:
    """One shard as the DHT shows it to a host: the organizer's word and the other hosts' claims."""

    done: int = 0
    others: Mapping[str, Claim] = field(default_factory=dict)

    @property
    def taken(self) -> int:
        """Bits that somebody else asks for or holds."""
        bits = 0
        for claim in self.others.values():
            bits |= claim.claimed
        return bits


@dataclass(slots=True)
class Held:
    """Our own bits in one shard, and what the DHT was last told about them."""

    claimed: int = 0
    confirmed: int = 0
    published: int = 0  # the claimed bits of our last record that was stored
    stored_at: float | None = None  # when that was: seconds, monotonic

    def drop(self, bits: int) -> None:
        self.claimed &= ~bits
        self.confirmed &= ~bits


def view_of(entries: Mapping[tuple[str, str], Any], me: str, organizer: str, banned: Collection[str] = ()) -> View:
    """Checked records of one key -> View. Our own entry and those of banned hosts do not count."""
    done = entries.get((organizer, DONE))
    others = {
        host: value
        for (host, kind), value in entries.items()
        if kind == CLAIM and value.claimed and host != me and host not in banned
    }
    return View(done.done if isinstance(done, Done) else 0, others)


Watched = tuple[tuple[int, float], ...]  # (bits, since when we see them claimed), the oldest first, no bit twice


def remember(seen: Mapping[str, Watched], view: View, now: float) -> dict[str, Watched]:
    """The claims of a shard that stand now, by host, with the time (seconds, monotonic) at which we first saw them."""
    watched = {}
    for host, claim in view.others.items():
        before = seen.get(host, ())
        same = len(before) == 1 and before[0][0] == claim.claimed  # nearly always
        watched[host] = before if same else _watch(before, claim.claimed, now)
    return watched


def _watch(before: Watched, claimed: int, now: float) -> Watched:
    known = 0
    kept = tuple((bits & claimed, since) for bits, since in before if bits & claimed)
    for bits, _ in kept:
        known |= bits
    return kept if known == claimed else (*kept, (claimed & ~known, now))


def without_overdue(view: View, seen: Mapping[str, Watched], now: float, patience: float) -> View:
    """The view without claims that have stood for longer than `patience` seconds. `seen`: as `remember` has it now.

    Its allowance may say less. A host could claim what it may, renew for ever and never deliver; after a while we do
    the work as well, and if the other host was honest and slow, the duplicate is a check.
    """
    others: dict[str, Claim] = {}
    for host, claim in view.others.items():
        age = now - seen[host][0][1]
        if age <= patience and (claim.allowance is None or age <= claim.allowance.patience):
            continue  # nearly always
        allowed = patience if claim.allowance is None else min(patience, claim.allowance.patience)
        others, overdue = others or dict(view.others), 0
        for bits, since in seen[host]:
            if now - since <= allowed:
                break
            overdue |= bits
        others[host] = replace(claim, claimed=claim.claimed & ~overdue, confirmed=claim.confirmed & ~overdue)
    return View(view.done, {host: claim for host, claim in others.items() if claim.claimed}) if others else view


def only_below(view: View, shard: int, below: int) -> View:
    """The view with assignments from `below` on not to be had: the organizer has a quota, or nothing changes."""
    open_bits = max(0, below - shard * SHARD_SIZE)
    return view if open_bits >= SHARD_SIZE else View(view.done | full(SHARD_SIZE) & ~full(open_bits), view.others)


def overclaimers(views: Collection[View]) -> set[str]:
    """Hosts that claim more in these shards together, seen at one moment, than the organizer allows them at all."""
    claimed: dict[str, int] = {}
    allowed: dict[str, int] = {}
    for view in views:
        for host, claim in view.others.items():
            claimed[host] = claimed.get(host, 0) + claim.claimed.bit_count()
            if claim.allowance is not None and claim.allowance.assignments > allowed.get(host, -1):
                allowed[host] = claim.allowance.assignments
    return {host for host, limit in allowed.items() if claimed[host] > limit}


def without(view: View, hosts: Collection[str]) -> View:
    """The view as if these hosts claimed nothing."""
    if not hosts:
        return view
    return View(view.done, {host: claim for host, claim in view.others.items() if host not in hosts})


def room(held: Iterable[Held], allowance: Allowance | None) -> int:
    """How many assignments we may claim beside those that we hold; none without an allowance."""
    limit = 0 if allowance is None else allowance.assignments
    return max(0, limit - sum(shard.claimed.bit_count() for shard in held))


def rank(purpose: str, campaign: str, host: str, number: int) -> int:
    """A 64-bit rendezvous hash: every host puts shards and assignments in an order of its own."""
    text = f"{purpose}/{campaign}/{host}/{number}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def shards_in_order(campaign: str, host: str, assignments: int) -> list[int]:
    """The shards in this host's rendezvous order."""
    return sorted(range(shard_count(assignments)), key=lambda shard: rank("shard", campaign, host, shard))


def pick(view: View, held: Held, campaign: str, host: str, shard: int, size: int, batch: int) -> int:
    """Up to `batch` free bits of a shard, first in this host's order; 0 when nothing is free."""
    free = full(size) & ~(view.done | view.taken | held.claimed)
    if not free:
        return 0
    order = sorted(set_bits(free), key=lambda bit: rank("task", campaign, host, assignment_index(shard, bit)))
    return bitmap(order[:batch])


def settled_bits(view: View, picked: int, campaign: str, host: str, shard: int, late: bool) -> int:
    """The bits of `picked` that are ours after settling.

    A late host (its claim became visible too long after it looked) cannot know who trusted its absence, so it
    yields every bit that anybody else wants.
    """
    won = 0
    for bit in set_bits(picked & ~view.done):
        rivals = {other: claim for other, claim in view.others.items() if claim.claimed >> bit & 1}
        if rivals and (late or any(claim.confirmed >> bit & 1 for claim in rivals.values())):
            continue
        if all(beats(host, other, campaign, shard, bit) for other in rivals):
            won |= 1 << bit
    return won


def lost(view: View, held: int, campaign: str, host: str, shard: int) -> int:
    """The bits of `held` (confirmed by us) that another host holds too, with precedence over us."""
    gone = 0
    for bit in set_bits(held):
        for other, claim in view.others.items():
            if claim.confirmed >> bit & 1 and not beats(host, other, campaign, shard, bit):
                gone |= 1 << bit
    return gone


def beats(host: str, other: str, campaign: str, shard: int, bit: int) -> bool:
    """Among equals: the lowest hash for this assignment, then the lowest name."""
    index = assignment_index(shard, bit)
    return (rank("win", campaign, host, index), host) < (rank("win", campaign, other, index), other)


def settle_seconds(floor: float, samples: Sequence[float]) -> float:
    """How long to let claims settle: 1.25 times the 95th percentile of our own read + store times, at least `floor`.

    A rival that did not see our claim must have looked before it was visible, so its own claim is visible within
    its settle time; ours has to be as long as the slowest of us needs.
    """
    if not samples:
        return floor
    ordered = sorted(samples)
    return max(floor, min(SETTLE_SECONDS_MAX, 1.25 * ordered[int(0.95 * (len(ordered) - 1))]))


def is_late(took_seconds: float, settle: float) -> bool:
    """Did our claim become visible too long after we looked?"""
    return took_seconds > settle


def lapsed(held: Held, now: float, lease_seconds: float) -> bool:
    """Has our lease run out since our last record reached the DHT, so that others may have taken over?"""
    return held.stored_at is None or now - held.stored_at >= lease_seconds


def full(size: int) -> int:
    return (1 << size) - 1


def set_bits(bits: int) -> list[int]:
    bits, found = bits & full(SHARD_SIZE), []
    while bits:
        found.append((bits & -bits).bit_length() - 1)
        bits &= bits - 1  # the lowest set bit goes: most bitmaps have few
    return found


def bitmap(bits: Iterable[int]) -> int:
    result = 0
    for bit in bits:
        result |= 1 << bit
    return result


def assignment_index(shard: int, bit: int) -> int:
    return shard * SHARD_SIZE + bit


def by_shard(indices: Iterable[int]) -> dict[int, int]:
    """Assignment indices -> {shard: bitmap}."""
    result: dict[int, int] = {}
    for index in indices:
        shard, bit = divmod(index, SHARD_SIZE)
        result[shard] = result.get(shard, 0) | 1 << bit
    return result


def indices_of(shard: int, bits: int) -> list[int]:
    return [assignment_index(shard, bit) for bit in set_bits(bits)]
