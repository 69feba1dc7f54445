"""What this host holds, and what to do next about it: phases as a table, decisions as pure functions."""

import enum
from dataclasses import dataclass, field

from peer.storage.bundle import Bundle
from protocol.trust.envelope import Envelope


class Phase(str, enum.Enum):
    TRAINING = "training"  # the worker has it, or will
    TRAINED = "trained"  # signed on disk, not yet handed in
    COMMITTED = "committed"  # handed in; challenged and checked by others


class Event(str, enum.Enum):
    ALL_TRAINED = "all-trained"
    RECEIPT = "receipt"
    UNKNOWN = "unknown"  # the coordinator does not know the result it gave a receipt for
    OUTCOME = "outcome"
    LOST = "lost"  # another host holds the claim, or the organizer has the result already


GONE: Phase | None = None
TRANSITIONS: dict[tuple[Phase, Event], Phase | None] = {
    (Phase.TRAINING, Event.ALL_TRAINED): Phase.TRAINED,
    (Phase.TRAINING, Event.LOST): GONE,
    (Phase.TRAINED, Event.RECEIPT): Phase.COMMITTED,
    (Phase.TRAINED, Event.OUTCOME): GONE,  # refused or duplicate
    (Phase.COMMITTED, Event.OUTCOME): GONE,
    (Phase.COMMITTED, Event.UNKNOWN): Phase.TRAINED,
}


@dataclass
class Holding:
    bundle: Bundle
    phase: Phase
    result: Envelope | None = None

    @property
    def key(self) -> tuple[str, int]:
        return self.bundle.assignment.campaign, self.bundle.assignment.index

    @property
    def name(self) -> str:
        seeds = self.bundle.assignment.seeds
        return f"{self.bundle.assignment.recipe.label} {seeds[0]}-{seeds[-1]}"


@dataclass
class Holdings:
    """All bundles of this host. `take` moves one along the table and returns whether it is gone."""

    items: dict[tuple[str, int], Holding] = field(default_factory=dict)

    def add(self, holding: Holding) -> None:
        self.items[holding.key] = holding

    def take(self, holding: Holding, event: Event) -> bool:
        following = TRANSITIONS[holding.phase, event]
        if following is None:
            self.items.pop(holding.key, None)
            return True
        holding.phase = following
        return False

    def of(self, phase: Phase) -> list[Holding]:
        return [holding for holding in self.items.values() if holding.phase == phase]

    def by_result(self, digest: bytes) -> Holding | None:
        return next((h for h in self.items.values() if h.result is not None and h.result.digest == digest), None)

    def by_path(self, path: str) -> Holding | None:
        return next((h for h in self.items.values() if str(h.bundle.path) == path), None)

    def counts(self) -> dict[str, int]:
        return {phase.value: len(self.of(phase)) for phase in Phase}


def claims_wanted(holdings: Holdings, threads: int, width: int, steps_per_second: float, free_bytes: int) -> int:
    """How many assignments to claim now, so that nothing waits for a claim and nothing is hoarded.

    On processors a bundle in training is kept busy by as many networks as there are threads; one more waits behind it.
    A GPU takes `width` networks at once, but no more than its measured speed trains in CLAIM_AHEAD_SECONDS. Results
    that wait for their check keep their states on disk, so their number is bounded too, and so is a full disk.
    """
    training = holdings.of(Phase.TRAINING)
    untrained = [sum(not h.bundle.is_trained(seed) for seed in h.bundle.assignment.seeds) for h in training]
    room = HOLDINGS_MAX - len(holdings.items)
    if room <= 0 or free_bytes <= FREE_BYTES_MIN:
        return 0
    if not width:
        return int(len(training) < 2 and sum(untrained) < 2 * threads + 4)
    if len(training) < 2:
        return min(room, 2 - len(training))  # the first ones are the measurement
    steps = sum(n * h.bundle.assignment.recipe.training.max_steps for n, h in zip(untrained, training, strict=True))
    affordable = CLAIM_AHEAD_SECONDS * steps_per_second
    if sum(untrained) >= width or steps >= affordable:
        return 0
    share = min((width - sum(untrained)) / max(sum(untrained), 1), (affordable - steps) / max(steps, 1))
    return max(1, min(room, CLAIMS_AT_ONCE_MAX, int(share * len(training))))


CLAIM_AHEAD_SECONDS = 600.0
CLAIMS_AT_ONCE_MAX = 16
HOLDINGS_MAX = 48  # heartbeats name at most 64; about 1.5 GB of states for the smallest recipes
FREE_BYTES_MIN = 512 * 1024 * 1024


def restore(bundle: Bundle) -> Holding:
    """A bundle found on disk after a restart, in the phase its files show."""
    result = bundle.kept("result")
    if result is None:
        return Holding(bundle, Phase.TRAINING)
    return Holding(bundle, Phase.COMMITTED if bundle.kept("receipt") else Phase.TRAINED, result)
