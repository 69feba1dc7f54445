"""What `PeerState` asks of the world. Each class says which event answers it; what has no answer cannot fail.

The base class names the port (`ports`) that performs it. Actions of one `handle` are performed in their order; those
that take long (calls, claims, fetches) only have to be begun in that order.
"""

import msgspec

from peer.state.ids import AssignmentId, CheckId
from protocol.trust.allowance import Allowance
from protocol.trust.messages import Answer, BlobPart, CheckRequest, OpeningRequest


class Action(msgspec.Struct, frozen=True):
    """Base of all actions."""


class Say(Action, frozen=True):
    """One line for the person who watches."""

    text: str


class Exit(Action, frozen=True):
    """The program ends: nothing follows. `error` is empty when all is well, or one line for the person to mend."""

    error: str = ""


# -- the training process ---------------------------------------------------------------------------------------------


class TrainerAction(Action, frozen=True):
    """Performed by `ports.Trainer`."""


class StartTrainer(TrainerAction, frozen=True):
    """Start the training process, again after it died. Answered by TrainerReady or TrainerFailed."""


class StopTrainer(TrainerAction, frozen=True):
    """End it after the segment in hand. Answered by TrainerStopped, after everything that it had to say before."""


class PauseTrainer(TrainerAction, frozen=True):
    """It stands still from now on, in the middle of its segment, and so does one that is started later. No answer."""


class ResumeTrainer(TrainerAction, frozen=True):
    """It goes on where it stood still. No answer."""


class Train(TrainerAction, frozen=True):
    """Train what is untrained of an assignment. Answered by NetworkTrained for each, then AssignmentTrained."""

    assignment: AssignmentId


class DropTraining(TrainerAction, frozen=True):
    """Forget an assignment that is no longer ours. An AssignmentTrained may cross it; that is harmless."""

    assignment: AssignmentId


class DoCheck(TrainerAction, frozen=True):
    """Do a fetched spot check before anything else. Answered by CheckAnswered or CheckFailed."""

    check: CheckId


# -- the volunteer's directory ----------------------------------------------------------------------------------------


class HomeAction(Action, frozen=True):
    """Performed on the disk at once; answered by DiskFailed when the disk is full or broken."""


class CreateBundle(HomeAction, frozen=True):
    """Make the directory of an assignment that is now ours."""

    assignment: AssignmentId


class SignResult(HomeAction, frozen=True):
    """Sign what was trained and keep it. Answered by ResultSigned."""

    assignment: AssignmentId
    backend: str


class RemoveBundle(HomeAction, frozen=True):
    """Remove an assignment's files; it is settled, refused, or another host's."""

    assignment: AssignmentId


class ForgetReceipt(HomeAction, frozen=True):
    """The coordinator does not know the result that it gave this receipt for."""

    assignment: AssignmentId


class RemoveCheck(HomeAction, frozen=True):
    """Remove the files of a check that is over."""

    check: CheckId


# -- claims in the DHT ------------------------------------------------------------------------------------------------


class SwarmAction(Action, frozen=True):
    """Performed by `ports.ClaimBook`, begun at once and answered later; ClaimsFailed answers any of them."""


class FollowCampaign(SwarmAction, frozen=True):
    """From now on the claims of this campaign can be read and written. No answer."""

    campaign: str


class Claim(SwarmAction, frozen=True):
    """Claim up to `batch` assignments. Answered by Claimed."""

    campaign: str
    batch: int
    below: int | None = None  # only assignments before this one; None: all


class ResumeClaims(SwarmAction, frozen=True):
    """Claim again what an earlier run left half trained. Answered by ClaimsResumed."""

    campaign: str
    indices: tuple[int, ...]


class RenewClaims(SwarmAction, frozen=True):
    """Extend the leases of everything we hold in these campaigns. Answered by ClaimsRenewed."""

    campaigns: tuple[str, ...]


class ReleaseClaims(SwarmAction, frozen=True):
    """Give assignments back: free for others at once. Answered by ClaimsReleased."""

    campaign: str
    indices: tuple[int, ...]


class IgnoreHosts(SwarmAction, frozen=True):
    """Claims of these hosts do not count (they are banned). Replaces the last list. No answer."""

    hosts: tuple[str, ...]


class UseAllowance(SwarmAction, frozen=True):
    """The organizer's word on how much we may claim: from now on it goes with our claims. No answer."""

    allowance: Allowance


# -- data sets --------------------------------------------------------------------------------------------------------


class FetchDataset(Action, frozen=True):
    """Have this data set on disk. Performed by `ports.DatasetSource`; answered by DatasetReady or DatasetFailed."""

    digest: str


# -- the coordinator --------------------------------------------------------------------------------------------------


class CoordinatorCall(Action, frozen=True):
    """Performed by `ports.CoordinatorApi`, one at a time. Answered by its own event, or by CallAway, CallPutOff,
    CallRefused."""


class OpenStates(CoordinatorCall, frozen=True):
    """Answer a challenge with the start states that it names, by a call of its own: they are too large to go along with
    a heartbeat. Answered by StatesOpened."""

    assignment: AssignmentId
    request: OpeningRequest


class Poll(CoordinatorCall, frozen=True):
    """A heartbeat, with answers to checks and small openings. Answered by InboxReceived."""

    holding: tuple[bytes, ...]  # results that wait for an outcome
    device: str
    steps_per_second: float
    networks_trained: int
    checks_done: int
    answers: tuple[tuple[CheckId, Answer], ...] = ()
    opened: tuple[OpenStates, ...] = ()


class SubmitResult(CoordinatorCall, frozen=True):
    """Hand in the signed result, with what belongs to it where that is small. Answered by ResultAccepted (its receipt
    is on disk) or ResultDuplicate."""

    assignment: AssignmentId
    result: bytes


class UploadPart(CoordinatorCall, frozen=True):
    """Upload the trace or the weights of a committed result. Answered by PartUploaded."""

    assignment: AssignmentId
    result: bytes
    part: BlobPart  # trace or weights


class FetchCampaign(CoordinatorCall, frozen=True):
    """Fetch and verify a campaign, or find it on disk. Answered by CampaignFetched."""

    campaign: str


class FetchCheck(CoordinatorCall, frozen=True):
    """Verify a check request and fetch what it needs to disk. Answered by CheckFetched."""

    check: CheckId
    request: CheckRequest
