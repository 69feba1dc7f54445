"""What can happen to a volunteer. Everything is parsed and verified by whoever makes the event."""

import msgspec

from peer.state.actions import (
    Action,
    Claim,
    CoordinatorCall,
    ReleaseClaims,
    RenewClaims,
    ResumeClaims,
    SwarmAction,
)
from peer.state.ids import AssignmentId, CheckId
from peer.state.lending.pausing import Conditions
from protocol.recipes.campaign import Campaign
from protocol.trust.allowance import Allowance
from protocol.trust.messages import Admission, Answer, BlobPart, CampaignOrder, CheckRequest, OpeningRequest


class Event(msgspec.Struct, frozen=True, tag=True):
    """Base of all events; tagged, since those of the training process come as bytes."""


class Started(Event, frozen=True):
    """The first event. `campaigns` are digests that the join, or the last run, told of; the allowance is of then."""

    campaigns: tuple[str, ...]
    allowance: Allowance | None = None


class Tick(Event, frozen=True):
    """Time has passed. Due at `PeerState.next_wakeup()`; more often is harmless."""

    free_bytes: int  # on the disk that bundles are kept on
    kept_bytes: int = 0  # in our directory, besides bundles: data sets, checks, logs
    conditions: Conditions = Conditions()  # what the computer is doing


class StopRequested(Event, frozen=True):
    """The person wants the program to end: save, hand in, give back, exit."""


# -- the training process ---------------------------------------------------------------------------------------------


class TrainerReady(Event, frozen=True):
    device: str  # "" for processors: the name stays what the settings say
    width: int  # networks in flight on GPUs; 0 on processors


class TrainerProgressed(Event, frozen=True):
    """A segment of a group of networks is done."""

    label: str
    networks: int
    steps: int  # network-steps in this segment
    seconds: float  # of training
    at_step: int
    best_loss: float


class TrainerNote(Event, frozen=True):
    text: str


class NetworkTrained(Event, frozen=True):
    assignment: AssignmentId
    seed: int


class AssignmentTrained(Event, frozen=True):
    """All its networks are final on disk."""

    assignment: AssignmentId
    backend: str


class CheckAnswered(Event, frozen=True):
    check: CheckId
    answer: Answer


class CheckFailed(Event, frozen=True):
    """The training process could not do this check."""

    check: CheckId
    reason: str


class TrainerDied(Event, frozen=True):
    """The training process ended unasked. What it was told has to be told again to the next one."""

    code: int
    log: str = ""  # where it may have said why


class TrainerFailed(Event, frozen=True):
    """It says why it cannot go on, and why another one could not either."""

    reason: str


class TrainerStopped(Event, frozen=True):
    """The end after StopTrainer."""


# -- the volunteer's directory ----------------------------------------------------------------------------------------


class ResultSigned(Event, frozen=True):
    assignment: AssignmentId
    result: bytes  # digest of the signed envelope
    disk_bytes: int | None = None  # what its files have; None: not measured


class DiskFailed(Event, frozen=True):
    """An action met a full or broken disk."""

    action: Action
    detail: str  # path and reason


# -- claims in the DHT ------------------------------------------------------------------------------------------------


class Claimed(Event, frozen=True):
    action: Claim
    indices: tuple[int, ...] | None  # (): nothing free now; None: the organizer calls everything done


class ClaimsResumed(Event, frozen=True):
    action: ResumeClaims
    won: tuple[int, ...]


class ClaimsRenewed(Event, frozen=True):
    action: RenewClaims
    gone: tuple[AssignmentId, ...]  # lost to another host, or covered by the organizer's done bit


class ClaimsReleased(Event, frozen=True):
    action: ReleaseClaims


class ClaimsFailed(Event, frozen=True):
    """The swarm node could not do it; leases end by themselves."""

    action: SwarmAction
    detail: str


# -- data sets --------------------------------------------------------------------------------------------------------


class DatasetReady(Event, frozen=True):
    digest: str
    fetched: bool = True  # False: it was on the disk already


class DatasetFailed(Event, frozen=True):
    digest: str
    away: bool  # nobody answered, as opposed to: refused, damaged, no room
    detail: str


# -- the coordinator's answers: `call` is the action they answer ------------------------------------------------------


class CallEnded(Event, frozen=True):
    """Base of what a coordinator call can end in."""

    call: CoordinatorCall


class CallAway(CallEnded, frozen=True):
    """The coordinator did not answer. Whether it heard us is unknown."""

    detail: str


class CallPutOff(CallEnded, frozen=True):
    """The coordinator answered: not now. Nothing is wrong with what was asked."""

    detail: str


class CallRefused(CallEnded, frozen=True):
    """The coordinator said no, or what it sent is not acceptable. `reason` is one stable word ("banned", ...)."""

    reason: str
    detail: str  # for people, begins with the reason


class RequestedCheck(msgspec.Struct, frozen=True):
    """A check in the inbox; only its names are read yet, it is verified when it is fetched."""

    check: CheckId
    campaign: str
    request: CheckRequest


class InboxReceived(CallEnded, frozen=True):
    """The verified reply to a Poll, fields as in `messages.Inbox`."""

    openings: tuple[OpeningRequest, ...] = ()
    missing: tuple[tuple[bytes, str], ...] = ()  # (result, part)
    checks: tuple[RequestedCheck, ...] = ()
    outcomes: tuple[Admission, ...] = ()
    unknown: tuple[bytes, ...] = ()
    credit: int = 0
    escrow: int = 0  # of the credit: what waits for later clean bundles
    clean_bundles: int = 0
    banned: str = ""
    banned_hosts: tuple[str, ...] = ()  # all that are known
    campaigns: tuple[tuple[str, str], ...] = ()  # (digest, state: running, paused, complete, cancelled)
    orders: tuple[CampaignOrder, ...] = ()
    allowance: Allowance | None = None
    ask_again_seconds: float | None = None  # None: it does not say, so as often as our own settings have it
    gather_seconds: float = 0.0
    refused: tuple[str, ...] = ()  # for each of the call's answers "", or why it is not taken
    refused_states: tuple[str, ...] = ()  # likewise for each of its openings


class ResultAccepted(CallEnded, frozen=True):
    """Its receipt is on disk."""

    uploaded: tuple[BlobPart, ...] = ()  # what went along


class ResultDuplicate(CallEnded, frozen=True):
    """Another host handed this assignment in first."""


class PartUploaded(CallEnded, frozen=True):
    pass


class StatesOpened(CallEnded, frozen=True):
    pass


class RestoredBundle(msgspec.Struct, frozen=True):
    """An assignment that an earlier run left on disk, as its files show it."""

    index: int
    untrained: tuple[int, ...]  # seeds
    result: bytes | None  # digest of the signed result, when there is one
    receipt: bool
    disk_bytes: int | None = None  # what the files of a signed one have


class CampaignFetched(CallEnded, frozen=True):
    campaign: Campaign
    restored: tuple[RestoredBundle, ...]


class CheckFetched(CallEnded, frozen=True):
    """The job is on disk, for DoCheck."""
