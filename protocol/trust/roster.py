"""The roster: which hosts may check when a draw is made, and with what weight, under one signed Merkle root.

A Merkle *sum* tree: every inner node also hashes the sums of weights below its two children, so a path proves not only
that a host is on the roster but also which points of 0 .. total it holds. A point drawn by the challenge thereby names
one host, and whoever holds the draw re-derives it from the host's own path, without the other ten thousand.
"""

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate
from typing import Annotated

import msgspec
from msgspec import Meta

from protocol.canonical import sha256
from protocol.errors import Refused

EMPTY_ROOT = bytes(32)  # of a roster without hosts
WEIGHT_MAX = 1 << 40  # a million bundles of a million network-segments
TOTAL_MAX = 1 << 62
PATH_MAX = 32  # siblings: four billion hosts

Tag = Annotated[bytes, Meta(max_length=8)]
Weight = Annotated[int, Meta(ge=1, le=WEIGHT_MAX)]
Sum = Annotated[int, Meta(ge=1, le=TOTAL_MAX)]
Sibling = tuple[Annotated[bytes, Meta(min_length=32, max_length=32)], Sum]
Node = tuple[bytes, int]  # hash, sum of the weights below


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One host on a roster."""

    host: str
    weight: int
    tag: bytes = b""  # of its network's prefix; empty when it has none


class RosterPath(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From one leaf to the root."""

    index: Annotated[int, Meta(ge=0, lt=1 << 32)]  # in the roster's order
    siblings: Annotated[tuple[Sibling, ...], Meta(max_length=PATH_MAX)]


def leaf(entry: Entry) -> Node:
    data = entry.host.encode() + entry.weight.to_bytes(8, "little") + entry.tag
    return sha256(b"\x00", data), entry.weight


def join(left: Node, right: Node) -> Node:
    sums = left[1].to_bytes(8, "little"), right[1].to_bytes(8, "little")
    return sha256(b"\x01", left[0], sums[0], right[0], sums[1]), left[1] + right[1]


class Roster:
    """Hosts in the order of their names; no host twice. Immutable."""

    def __init__(self, entries: Iterable[Entry]):
        self.entries = tuple(sorted(entries, key=lambda entry: entry.host))
        self._ends = list(accumulate(entry.weight for entry in self.entries))
        self._levels = [[leaf(entry) for entry in self.entries]]
        while len(self._levels[-1]) > 1:
            level = self._levels[-1]
            pairs = [join(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
            self._levels.append(pairs + level[len(level) & ~1 :])  # one without a sibling moves up unchanged

    @property
    def count(self) -> int:
        return len(self.entries)

    @property
    def total(self) -> int:
        return self._ends[-1] if self._ends else 0

    @property
    def root(self) -> bytes:
        return self._levels[-1][0][0] if self.entries else EMPTY_ROOT

    def holder(self, point: int) -> int:
        """Which entry holds a point of 0 .. total - 1."""
        return bisect_right(self._ends, point)

    def path(self, index: int) -> RosterPath:
        siblings, at = [], index
        for level in self._levels[:-1]:
            if at ^ 1 < len(level):
                siblings.append(level[at ^ 1])
            at //= 2
        return RosterPath(index=index, siblings=tuple(siblings))


def check_path(root: bytes, total: int, count: int, entry: Entry, path: RosterPath, point: int) -> None:
    """Raises Refused unless `entry` is on the roster with this root and holds the point."""
    if path.index >= count or not 0 < entry.weight <= WEIGHT_MAX:
        raise Refused("roster", "the host's place is outside the roster")
    node, first = leaf(entry), 0  # `first`: the weights of all that stand before it
    at, width, rest = path.index, count, list(path.siblings)
    while width > 1:
        if at ^ 1 < width:
            if not rest:
                raise Refused("roster", "the path is too short")
            sibling = rest.pop(0)
            if not 0 < sibling[1] <= TOTAL_MAX or node[1] > TOTAL_MAX:
                raise Refused("roster", "a sum on the path is out of bounds")
            if at & 1:
                first += sibling[1]
                node = join(sibling, node)
            else:
                node = join(node, sibling)
        at, width = at // 2, (width + 1) // 2
    if rest or node != (root, total):
        raise Refused("roster", "the path does not lead to the draw's roster")
    if not first <= point < first + entry.weight:
        raise Refused("roster", "the drawn point is not this host's")
