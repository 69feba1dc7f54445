"""What a volunteer holds: assignments and checks, each with its lifecycle as a table. What a table lacks is our bug."""

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field

from peer.state.ids import AssignmentId, CheckId
from protocol import StrEnum
from protocol.recipes.campaign import Assignment
from protocol.trust.commitment import bundle_bytes
from protocol.trust.messages import Answer, CheckRequest


class ImpossibleEvent(Exception):
    """Something happened that cannot happen: a mistake in this program, so it stops here."""


class Phase(StrEnum):
    """Of an assignment that we hold. A string too: those hash several times as fast, and every event looks here."""

    RESUMING = "resuming"  # half trained by an earlier run or before a pause; its claim is asked for again
    WAITING = "waiting"  # ours; its data set is on the way
    TRAINING = "training"  # the training process has it
    SIGNING = "signing"  # all networks are final; the result is being signed
    TRAINED = "trained"  # signed on disk, not handed in
    COMMITTED = "committed"  # handed in; challenged and checked by others


class Happened(enum.Enum):
    """To an assignment that we hold; the value is what its story says."""

    CLAIM_WON = "claimed again"
    DATA_READY = "given to the training process"
    ALL_TRAINED = "all networks trained"
    SIGNED = "signed"
    RECEIPT = "handed in"
    UNKNOWN = "the coordinator does not know it any more; handed in again"
    GIVEN_BACK = "given back for a long pause, its files kept"
    CLAIM_LOST = "another host has the claim"
    REFUSED = "refused by the coordinator"
    DUPLICATE = "another host handed it in first"
    OUTCOME = "settled"


GONE: Phase | None = None
TRANSITIONS: dict[tuple[Phase, Happened], Phase | None] = {
    (Phase.RESUMING, Happened.CLAIM_WON): Phase.WAITING,
    (Phase.WAITING, Happened.DATA_READY): Phase.TRAINING,
    (Phase.TRAINING, Happened.ALL_TRAINED): Phase.SIGNING,
    (Phase.SIGNING, Happened.SIGNED): Phase.TRAINED,
    (Phase.TRAINED, Happened.RECEIPT): Phase.COMMITTED,
    (Phase.COMMITTED, Happened.UNKNOWN): Phase.TRAINED,
    (Phase.WAITING, Happened.GIVEN_BACK): Phase.RESUMING,
    (Phase.TRAINING, Happened.GIVEN_BACK): Phase.RESUMING,
    # the ways out
    (Phase.RESUMING, Happened.CLAIM_LOST): GONE,
    (Phase.WAITING, Happened.CLAIM_LOST): GONE,
    (Phase.TRAINING, Happened.CLAIM_LOST): GONE,
    (Phase.TRAINED, Happened.REFUSED): GONE,
    (Phase.TRAINED, Happened.DUPLICATE): GONE,
    (Phase.TRAINED, Happened.OUTCOME): GONE,  # the coordinator had it, though its receipt did not reach us
    (Phase.COMMITTED, Happened.OUTCOME): GONE,
    # what is finished is handed in whoever has the claim; the coordinator decides
    (Phase.SIGNING, Happened.CLAIM_LOST): Phase.SIGNING,
    (Phase.TRAINED, Happened.CLAIM_LOST): Phase.TRAINED,
    (Phase.COMMITTED, Happened.CLAIM_LOST): Phase.COMMITTED,
}
UNFINISHED = (Phase.RESUMING, Phase.WAITING, Phase.TRAINING)


@dataclass(slots=True)
class HeldAssignment:
    id: AssignmentId
    name: str  # for people
    steps: int  # at most, for each network
    data_set: str | None  # digest, when its recipe needs one
    untrained: set[int]  # seeds
    phase: Phase
    result: bytes | None = None  # digest of the signed result, from TRAINED on
    networks: int = 0
    disk_bytes: int = 0  # at most, and as measured once it is signed


def hold(assignment: Assignment, phase: Phase) -> HeldAssignment:
    seeds = assignment.seeds
    return HeldAssignment(
        id=AssignmentId(assignment.campaign, assignment.index),
        name=f"{assignment.recipe.label} {seeds[0]}-{seeds[-1]}",
        steps=assignment.recipe.training.max_steps,
        data_set=assignment.recipe.data_set,
        untrained=set(seeds),
        phase=phase,
        networks=len(seeds),
        disk_bytes=bundle_bytes(assignment.recipe, len(seeds)),
    )


@dataclass(slots=True)
class HeldAssignments:
    """All assignments that we hold, found by name, by phase and by result, each in the order of its coming."""

    items: dict[AssignmentId, HeldAssignment] = field(default_factory=dict)
    phases: dict[Phase, dict[AssignmentId, HeldAssignment]] = field(default_factory=lambda: {p: {} for p in Phase})
    results: dict[bytes, HeldAssignment] = field(default_factory=dict)

    def add(self, held: HeldAssignment) -> None:
        """Raises ImpossibleEvent when it is held already."""
        if held.id in self.items:
            raise ImpossibleEvent(f"{held.id} is held already")
        self.items[held.id] = self.phases[held.phase][held.id] = held
        if held.result is not None:
            self.results[held.result] = held

    def take(self, held: HeldAssignment, happened: Happened) -> bool:
        """Move along the table; whether it is gone now. Raises ImpossibleEvent for what the table does not have."""
        if (held.phase, happened) not in TRANSITIONS:
            raise ImpossibleEvent(f"{happened.name} of {held.id} in {held.phase.name}")
        del self.phases[held.phase][held.id]
        following = TRANSITIONS[held.phase, happened]
        if following is not None:
            held.phase = following
            self.phases[following][held.id] = held
            return False
        del self.items[held.id]
        if held.result is not None:
            self.results.pop(held.result, None)
        return True

    def sign(self, held: HeldAssignment, result: bytes) -> None:
        held.result = result
        self.results[result] = held
        self.take(held, Happened.SIGNED)

    def of(self, *phases: Phase) -> Iterator[HeldAssignment]:
        for phase in phases:
            yield from self.phases[phase].values()

    def first(self, phase: Phase) -> HeldAssignment | None:
        return next(iter(self.phases[phase].values()), None)

    def count(self, *phases: Phase) -> int:
        return sum(len(self.phases[phase]) for phase in phases)


class CheckPhase(enum.Enum):
    REQUESTED = "requested"  # named by the inbox; what it needs is not here yet
    CHECKING = "checking"  # the training process has it
    ANSWERED = "answered"  # the answer waits to be sent


class CheckHappened(enum.Enum):
    FETCHED = "fetched"
    PUT_OFF = "put off"  # it could not be fetched or done: perhaps later, if it is still asked for
    WITHDRAWN = "withdrawn"  # no longer asked for
    ANSWERED = "answered"
    OVER = "over"  # the answer was taken, or is not needed any more


CHECK_TRANSITIONS: dict[tuple[CheckPhase, CheckHappened], CheckPhase | None] = {
    (CheckPhase.REQUESTED, CheckHappened.FETCHED): CheckPhase.CHECKING,
    (CheckPhase.CHECKING, CheckHappened.ANSWERED): CheckPhase.ANSWERED,
    (CheckPhase.ANSWERED, CheckHappened.OVER): None,
    (CheckPhase.REQUESTED, CheckHappened.PUT_OFF): None,
    (CheckPhase.CHECKING, CheckHappened.PUT_OFF): None,
    (CheckPhase.REQUESTED, CheckHappened.WITHDRAWN): None,
    (CheckPhase.CHECKING, CheckHappened.WITHDRAWN): None,
}


@dataclass(slots=True)
class HeldCheck:
    id: CheckId
    campaign: str
    request: CheckRequest
    phase: CheckPhase = CheckPhase.REQUESTED
    answer: Answer | None = None


@dataclass(slots=True)
class Checks:
    """The checks in hand, in the order of their coming."""

    items: dict[CheckId, HeldCheck] = field(default_factory=dict)

    def take(self, check: HeldCheck, happened: CheckHappened) -> None:
        """Move along the table. Raises ImpossibleEvent."""
        if (check.phase, happened) not in CHECK_TRANSITIONS:
            raise ImpossibleEvent(f"{happened.name} of check {check.id} in {check.phase.name}")
        following = CHECK_TRANSITIONS[check.phase, happened]
        if following is None:
            del self.items[check.id]
        else:
            check.phase = following

    def of(self, phase: CheckPhase) -> Iterator[HeldCheck]:
        return (check for check in self.items.values() if check.phase is phase)
