"""The beacon, the challenge, and the draw: who checks what, fixed by randomness younger than the commitment.

Cells and ranks are drawn from H(beacon link after the commitment, result digest); never from the commitment alone,
which a worker could grind in microseconds (docs/trust.md).
"""

from bisect import bisect_right

import msgspec

from protocol.canonical import sha256
from protocol.errors import Refused
from protocol.recipes.campaign import Policy
from protocol.recipes.recipe import Recipe
from protocol.trust.messages import Cell, Draw, Seat
from protocol.trust.roster import Entry, Roster, check_path

ATTEMPTS_MAX = 256  # points drawn for one result; hosts that none of them hits are not asked
LINKS_MAX = 1 << 20  # epochs of one beacon: the longest walk to an anchor takes a second
CHECKPOINTS_MAX = 1024  # verified links kept of one beacon
ANCHORS_MAX = 64  # beacons of which links are kept


def beacon_link(secret: bytes, length: int, epoch: int) -> bytes:
    """Link `epoch` of a chain of `length` links: link e = H(link e + 1); the last comes from the secret."""
    link = sha256(b"zooswarm/beacon/1\0", secret)
    for _ in range(length - epoch):
        link = sha256(link)
    return link


def check_link(anchor: bytes, epoch: int, link: bytes) -> bool:
    """Whether hashing `link` back `epoch` times gives the anchor."""
    for _ in range(epoch):
        link = sha256(link)
    return link == anchor


class BeaconChain:
    """Links that were shown to lead to one anchor; a new one is hashed back to the nearest of them, not to the anchor.

    May be used from several threads: one that loses a race forgets a checkpoint, nothing else.
    """

    def __init__(self, anchor: bytes):
        self._known: tuple[tuple[int, bytes], ...] = ((0, anchor),)  # by epoch

    def check(self, epoch: int, link: bytes) -> bool:
        """Whether this is link `epoch` of the chain."""
        if not 0 <= epoch <= LINKS_MAX:
            return False
        known = self._known
        at = bisect_right(known, epoch, key=lambda pair: pair[0])
        below, expected = known[at - 1]
        if not check_link(expected, epoch - below, link):
            return False
        if below != epoch:
            kept = known if len(known) < CHECKPOINTS_MAX else known[::2]  # the anchor stays
            self._known = tuple(sorted((*kept, (epoch, link))))
        return True


class BeaconChains:
    """One chain an anchor, for whoever verifies results of several organizers."""

    def __init__(self) -> None:
        self._chains: dict[bytes, BeaconChain] = {}

    def check(self, anchor: bytes, epoch: int, link: bytes) -> bool:
        if anchor not in self._chains:
            if len(self._chains) >= ANCHORS_MAX:
                self._chains = {}
            self._chains[anchor] = BeaconChain(anchor)
        return self._chains[anchor].check(epoch, link)


def challenge(link: bytes, result_digest: bytes) -> bytes:
    return sha256(b"zooswarm/challenge/1\0", link, result_digest)


def checker_point(challenge_digest: bytes, attempt: int, total: int) -> int:
    """The point of 0 .. total - 1 that an attempt hits; the roster says whose it is."""
    return _Stream(sha256(b"checker\0", challenge_digest, attempt.to_bytes(4, "little"))).below(total)


def rank_checkers(
    drawn: bytes, roster: Roster, worker: str, worker_tag: bytes, most: int
) -> tuple[tuple[int, int], ...]:
    """(attempt, place on the roster) of the hosts that the challenge `drawn` hits, in order, at most `most`.

    A host's chance in each attempt is its share of the roster's weight. Never the worker, nor a host of its prefix.
    """
    found: dict[int, int] = {}
    if roster.count < 4 * most:  # so few: know when all are found
        most = min(most, sum(may_sit(entry, worker, worker_tag) for entry in roster.entries))
    for attempt in range(ATTEMPTS_MAX if most else 0):
        place = roster.holder(checker_point(drawn, attempt, roster.total))
        if place not in found and may_sit(roster.entries[place], worker, worker_tag):
            found[place] = attempt
            if len(found) == most:
                break
    return tuple((attempt, place) for place, attempt in found.items())


def may_sit(entry: Entry | Seat, worker: str, worker_tag: bytes) -> bool:
    """Whether a host may check this worker at all."""
    return entry.host != worker and not (worker_tag and entry.tag == worker_tag)


def check_seat(draw: Draw, seat: Seat, worker: str) -> None:
    """Raises Refused unless the draw could seat this host here: the attempt hits it, and it is not the worker's own."""
    if draw.roster_total == 0 or seat.attempt >= ATTEMPTS_MAX:
        raise Refused("seat", "this draw seats nobody")
    if not may_sit(seat, worker, draw.worker_tag):
        raise Refused("seat", "the worker, or its own network, among its checkers")
    point = checker_point(challenge(draw.link, draw.result), seat.attempt, draw.roster_total)
    entry = Entry(host=seat.host, weight=seat.weight, tag=seat.tag)
    check_path(draw.roster_root, draw.roster_total, draw.roster_count, entry, seat.path, point)


def is_house(slot: int, draw: Draw) -> bool:
    """Whether a slot belongs to the organizer, or to a host that the campaign names: one of every stranger's bundle."""
    return slot == 0 and not draw.standing


class SlotTask(msgspec.Struct, frozen=True, kw_only=True):
    """One checker's part: cells to replay, and networks whose state 0 and held-out loss to recompute."""

    cells: tuple[Cell, ...]
    networks: tuple[int, ...]

    @property
    def opened(self) -> tuple[Cell, ...]:
        """Cells whose start state the worker must upload; state 0 the checker makes itself."""
        return tuple(cell for cell in self.cells if cell.segment > 0)


def draw_cells(policy: Policy, standing: bool, challenge_digest: bytes, segments: list[int]) -> list[SlotTask]:
    """The slots' tasks. `segments[n]` is how many segments network n trained; slots number from 0.

    Strata: every network's state 0 and held-out loss (always); the segment that ends in the published weights
    (`final_cell`); `cells_per_network` in each network; and each slot's own draw over the whole bundle.
    """
    slots = policy.checkers if standing else policy.probation_checkers
    own = policy.cells if standing else policy.probation_cells
    cells: list[set[Cell]] = [set() for _ in range(slots)]
    stream = _Stream(challenge_digest)
    for network, count in enumerate(segments):
        if count and policy.final_cell:
            cells[network % slots].add(Cell(network=network, segment=count - 1))
        for i in range(min(policy.cells_per_network, count)):
            cells[(network + i) % slots].add(Cell(network=network, segment=stream.below(count)))
    starts = [0]
    for count in segments:
        starts.append(starts[-1] + count)
    for slot in range(slots):
        drawn: set[int] = set()
        while len(drawn) < min(own, starts[-1]):
            drawn.add(stream.below(starts[-1]))
        for flat in drawn:
            network = bisect_right(starts, flat) - 1  # of networks without segments, it passes by
            cells[slot].add(Cell(network=network, segment=flat - starts[network]))
    return [
        SlotTask(cells=tuple(sorted(cells[slot])), networks=tuple(range(slot, len(segments), slots)))
        for slot in range(slots)
    ]


def opened_max(policy: Policy, recipe: Recipe, networks: int) -> int:
    """How many start states the cells of `draw_cells` ask for at most."""
    own = max(policy.checkers * policy.cells, policy.probation_checkers * policy.probation_cells)
    drawn = own + networks * (policy.cells_per_network + policy.final_cell)
    return min(drawn, networks * recipe.segments_max)


class _Stream:
    """Unbiased integers from a hash: SHA-256 in counter mode, rejection by 64-bit words."""

    def __init__(self, key: bytes):
        self._key, self._counter = key, 0

    def below(self, n: int) -> int:
        limit = (1 << 64) // n * n
        while True:
            word = sha256(b"cells\0", self._key, self._counter.to_bytes(8, "little"))[:8]
            self._counter += 1
            value = int.from_bytes(word, "little")
            if value < limit:
                return value % n
