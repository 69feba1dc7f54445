"""Who vouched for a fake: signed answers that name what a false leaf says, against the truth of each place.

A false place is one whose leaf is not what its own start state leads to. Nobody names such a leaf who computed: it is
a hash. So a checker that agreed there did not compute, and its signed answer is the proof. Where only the truth from
recipe and seed is known (`false_places`), a place is false if the path was true up to it and is not after it; what
follows from a state that was invented before it is not held against anybody.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from protocol.trust.challenge import SlotTask
from protocol.trust.commitment import Trace
from protocol.trust.messages import Cell
from protocol.trust.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class SaidAnswer:
    """What a checker answered for a slot, judged against the worker's leaves when it came."""

    host: str
    slot: int
    task: SlotTask
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Places of a bundle that are shown to be false."""

    cells: frozenset[Cell] = frozenset()
    networks: frozenset[int] = frozenset()  # state 0, or the held-out loss of the published weights

    def __or__(self, other: "Places") -> "Places":
        return Places(cells=self.cells | other.cells, networks=self.networks | other.networks)

    def __len__(self) -> int:
        return len(self.cells) + len(self.networks)

    def __str__(self) -> str:
        first = [f"network {cell.network} segment {cell.segment}" for cell in sorted(self.cells)]
        first += [f"network {network}" for network in sorted(self.networks)]
        return ", ".join(first[:3]) + (f" and {len(first) - 3} more" if len(first) > 3 else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Vouched:
    """A checker's signed answer agrees with false places."""

    host: str
    slot: int
    places: Places

    def reason(self, result: bytes) -> str:
        return f"vouched for a fake: result {result.hex()[:16]} slot {self.slot}, {self.places}"


def may_vouch(task: SlotTask, verdict: Verdict) -> bool:
    """Whether the answer agrees anywhere: of a result that was proved wrong it has to be looked into, however late."""
    return len(verdict.bad_cells) + len(verdict.bad_networks) < len(task.cells) + len(task.networks)


def disagreeing(verdict: Verdict) -> Places:
    """The places in which a replay by the organizer does not give the worker's leaves."""
    return Places(cells=frozenset(verdict.bad_cells), networks=frozenset(verdict.bad_networks))


def false_places(network: int, committed: Trace, truth: Trace) -> Places:
    """Cells of one network that are false for certain, from its committed leaves and those of a true training."""
    cells = set()
    for segment, (start, end) in enumerate(pairwise(committed)):
        if segment + 1 >= len(truth) or (segment and start.state_digest != truth[segment].state_digest):
            continue  # where an invented state leads is not known here; a true network does not go on past its end
        if end.to_bytes() != truth[segment + 1].to_bytes():
            cells.add(Cell(network=network, segment=segment))
    first = committed[0].params_digest != truth[0].params_digest
    ends = committed[-1].params_digest == truth[-1].params_digest
    loss = ends and committed[-1].to_bytes()[-4:] != truth[-1].to_bytes()[-4:]
    return Places(cells=frozenset(cells), networks=frozenset({network} if first or loss else ()))


def vouchers(answers: Iterable[SaidAnswer], false: Places, organizer: str) -> tuple[Vouched, ...]:
    """Who agreed where the leaf is false: one entry a slot, in the order of the answers; never the organizer."""
    found = []
    for said in answers:
        cells = (false.cells & set(said.task.cells)) - set(said.verdict.bad_cells)
        networks = (false.networks & set(said.task.networks)) - set(said.verdict.bad_networks)
        agreed = Places(cells=frozenset(cells), networks=frozenset(networks))
        if agreed and said.host != organizer:
            found.append(Vouched(host=said.host, slot=said.slot, places=agreed))
    return tuple(found)


def to_train(answers: Iterable[SaidAnswer], hosts: Iterable[str]) -> tuple[int, ...]:
    """Networks of which one of `hosts` replayed a segment, sorted."""
    wanted = set(hosts)
    return tuple(sorted({cell.network for said in answers if said.host in wanted for cell in said.task.cells}))
