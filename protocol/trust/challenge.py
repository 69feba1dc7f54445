"""The beacon, the challenge, and the draw: who checks what, fixed by randomness younger than the commitment.

Cells and ranks are drawn from H(beacon link after the commitment, result digest); never from the commitment alone,
which a worker could grind in microseconds (docs/trust.md).
"""

from collections.abc import Sequence, Sized

import msgspec

from protocol.canonical import sha256
from protocol.recipes.campaign import Policy
from protocol.trust.messages import Cell


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


def challenge(link: bytes, result_digest: bytes) -> bytes:
    return sha256(b"zooswarm/challenge/1\0", link, result_digest)


def rank_checkers(challenge_digest: bytes, candidates: tuple[str, ...]) -> list[str]:
    """Rendezvous order: the first is the first slot's checker, and so on; a silent one is replaced by the next."""
    return sorted(candidates, key=lambda host: sha256(b"checker\0", challenge_digest, host.encode()))


class SlotTask(msgspec.Struct, frozen=True, kw_only=True):
    """One checker's part: cells to replay, and networks whose state 0 and held-out loss to recompute."""

    cells: tuple[Cell, ...]
    networks: tuple[int, ...]

    @property
    def opened(self) -> tuple[Cell, ...]:
        """Cells whose start state the worker must upload; state 0 the checker makes itself."""
        return tuple(cell for cell in self.cells if cell.segment > 0)


def draw_cells(policy: Policy, probation: bool, challenge_digest: bytes, segments: list[int]) -> list[SlotTask]:
    """The slots' tasks. `segments[n]` is how many segments network n trained; slots number from 0.

    Strata: every network's state 0 and held-out loss (always); the segment that ends in the published weights
    (`final_cell`); `cells_per_network` in each network; and each slot's own draw over the whole bundle.
    """
    slots = policy.probation_checkers if probation else policy.checkers
    own = policy.probation_cells if probation else policy.cells
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
            network = max(n for n, start in enumerate(starts[:-1]) if start <= flat and segments[n])
            cells[slot].add(Cell(network=network, segment=flat - starts[network]))
    return [
        SlotTask(cells=tuple(sorted(cells[slot])), networks=tuple(range(slot, len(segments), slots)))
        for slot in range(slots)
    ]


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


def seat_checkers(tasks: Sized, ranked: Sequence[str], organizer: str) -> list[str]:
    """Who has which slot at first: distinct hosts in rank; where they run out the organizer checks, and it shows."""
    return [ranked[slot] if slot < len(ranked) else organizer for slot in range(len(tasks))]
