"""Everything that a volunteer knows, and the few ways in which reactions and rules change it."""

from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from peer.state.actions import (
    Action,
    Claim,
    CoordinatorCall,
    DropTraining,
    OpenStates,
    ReleaseClaims,
    RemoveBundle,
    RenewClaims,
    ResumeClaims,
    Say,
    UploadPart,
)
from peer.state.backoff import Backoff, Retries
from peer.state.figures import Figures
from peer.state.held import Checks, Happened, HeldAssignment, HeldAssignments, Phase
from peer.state.ids import AssignmentId
from peer.state.lending.pausing import LONG_SECONDS, Conditions, Pause, Terms
from peer.state.lending.sharing import Shares
from peer.state.lending.sizes import UNLIMITED
from protocol.recipes.campaign import Campaign
from protocol.trust.allowance import Allowance
from protocol.trust.messages import CampaignOrder

STORIES_MAX = 1000  # assignments remembered, the newest
STORY_LINES_MAX = 100  # of one: more than any that ends well
SAID_MAX = 1000  # lines that are not said twice
RETRY_SECONDS = 5.0  # a check, an upload or a campaign that went wrong by itself
RETRY_SECONDS_MAX = 60.0
CLAIM_PAUSE_MAX = 120.0  # seconds
AWAY_POLL_SECONDS = 120.0  # in a long pause with nothing in hand: who does not check others need not count as present


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSettings:
    """What the person chose, and the pace. Seconds."""

    threads: int
    device: str  # of the processors; the training process may know better
    until_done: bool = False
    memory_bytes: int = UNLIMITED  # of all our processes
    disk_bytes: int = UNLIMITED  # of our directory
    cpu_cores: float = inf  # of all our processes together, on average
    bandwidth: float = inf  # bytes a second to and from the coordinator
    terms: Terms = field(default_factory=Terms)  # when we may train
    poll_seconds: float = 1.0  # until the coordinator says how often to ask
    claim_pause_seconds: float = 2.0  # after a claim that found nothing free
    leave_seconds: float = 30.0  # then the program ends, whatever is still on its way
    stop_seconds: float = 1.2  # likewise, when a person asked for it: they wait in front of it


class StoryEntry(NamedTuple):
    at: float
    text: str


@dataclass(slots=True)
class Leaving:
    """The program is about to end."""

    error: str  # "" when the person wants it, or all is done
    by: float
    trainer_asked: bool = False
    trainer_stopped: bool = False
    given_back: bool = False
    calls_over: bool = False  # the coordinator is away, or wants nothing from us


@dataclass
class PeerFacts:
    settings: PeerSettings
    actions: list[Action] = field(default_factory=list)  # of this `handle`, in order
    figures: Figures = field(default_factory=Figures)
    leaving: Leaving | None = None
    exited: bool = False
    free_bytes: int = 0
    kept_bytes: int = 0  # in our directory, besides bundles
    # whether we may train
    conditions: Conditions = field(default_factory=Conditions)
    pause: Pause | None = None  # why not
    paused_at: float = inf  # since when
    busy_at: float = -inf  # when other programs were last busy
    hot: bool = False  # the processor was, and has not cooled down yet
    trainer_paused: bool = False  # it stands still
    away: bool = False  # in a long pause, and nothing of ours waits for anybody
    stood_still: bool = False  # since it was last heard of, so that its time says nothing of its speed
    looks_over: int = 0  # in a row, at memory above the limit
    # the training process
    device: str = ""
    width: int = 0  # networks in flight on GPUs, 0 on processors
    trainer_deaths: int = 0
    # campaigns, by digest
    campaigns: dict[str, Campaign] = field(default_factory=dict)
    unknown_campaigns: dict[str, None] = field(default_factory=dict)  # to be fetched, in order
    campaign_states: dict[str, str] = field(default_factory=dict)
    orders: dict[str, CampaignOrder] = field(default_factory=dict)  # what the organizer said of campaigns later
    turned_down: dict[str, None] = field(default_factory=dict)  # above our limits
    shares: Shares = field(default_factory=Shares)  # of our work, that campaigns of equal priority have had
    bundle_bytes: dict[str, int] = field(default_factory=dict)  # of the largest bundle of each, at most
    banned_hosts: tuple[str, ...] = ()
    allowance: Allowance | None = None  # how much we may claim
    # work
    held: HeldAssignments = field(default_factory=HeldAssignments)
    checks: Checks = field(default_factory=Checks)
    openings: dict[bytes, OpenStates] = field(default_factory=dict)  # by result: to be answered
    uploads: dict[tuple[bytes, str], UploadPart] = field(default_factory=dict)  # by result and part
    refusals: int = 0  # results refused in a row
    # data sets, by digest
    datasets: dict[str, None] = field(default_factory=dict)  # here
    missing_datasets: dict[str, None] = field(default_factory=dict)
    fetching: str | None = None
    # what is under way: one of each kind at a time
    call: CoordinatorCall | None = None
    claiming: Claim | ResumeClaims | None = None
    renewing: RenewClaims | None = None
    releasing: list[ReleaseClaims] = field(default_factory=list)
    # when
    backoff: Backoff = field(default_factory=Backoff)
    hand_in: Backoff = field(default_factory=Backoff)  # the coordinator takes no further result of ours at the moment
    retries: Retries = field(default_factory=lambda: Retries(RETRY_SECONDS, RETRY_SECONDS_MAX))
    dataset_retries: dict[str, float] = field(default_factory=dict)
    poll_at: float = -inf
    gather_seconds: float = 0.0  # the coordinator's word for how long to gather what we have to say, within bounds
    gathers_until: float = -inf  # then it is said; what is urgent is said at once
    asked_seconds: float | None = None  # the coordinator's word for how often to ask, within bounds
    renew_at: float = -inf
    claim_at: float = inf  # the earliest of the resting campaigns, when we want work
    resting: dict[str, float] = field(default_factory=dict)  # campaign -> when to claim in it again
    rests: dict[str, float] = field(default_factory=dict)  # campaign -> how long its last rest is, seconds
    # for people
    stories: dict[AssignmentId, list[StoryEntry]] = field(default_factory=dict)
    said: dict[str, None] = field(default_factory=dict)

    def do(self, action: Action) -> None:
        self.actions.append(action)

    def say(self, text: str) -> None:
        self.actions.append(Say(text))

    def say_once(self, text: str) -> None:
        if text not in self.said:
            if len(self.said) >= SAID_MAX:
                self.said.clear()
            self.said[text] = None
            self.say(text)

    def tell(self, assignment: AssignmentId, text: str, now: float) -> None:
        """Add to the story of an assignment."""
        story = self.stories.pop(assignment, [])
        if len(story) < STORY_LINES_MAX:
            story.append(StoryEntry(now, text))
        self.stories[assignment] = story  # the newest last
        if len(self.stories) > STORIES_MAX:
            del self.stories[next(iter(self.stories))]

    def add(self, held: HeldAssignment, why: str, now: float) -> None:
        self.held.add(held)
        self.tell(held.id, why, now)

    def take(self, held: HeldAssignment, happened: Happened, now: float) -> None:
        """Move an assignment along its table; what leaves it is dropped everywhere. Raises ImpossibleEvent."""
        before = held.phase
        self.tell(held.id, happened.value, now)
        if not self.held.take(held, happened):
            return
        if before is Phase.TRAINING:
            self.do(DropTraining(held.id))
        if before is not Phase.RESUMING:  # that claim was not won, so there is nothing to give back
            self.release(held.id.campaign, (held.id.index,))
        self.do(RemoveBundle(held.id))
        self.openings.pop(held.result or b"", None)
        for key in [key for key in self.uploads if key[0] == held.result]:
            del self.uploads[key]

    def release(self, campaign: str, indices: tuple[int, ...]) -> None:
        action = ReleaseClaims(campaign, indices)
        self.releasing.append(action)
        self.do(action)

    def leave(self, now: float, error: str = "", calls_over: bool = False, asked: bool = False) -> None:
        """Begin to leave; the first reason counts, the shorter time too. `asked`: by a person, who waits for it."""
        by = now + (self.settings.stop_seconds if asked else self.settings.leave_seconds)
        if self.leaving is None:
            over = calls_over or self.backoff.delay > 0
            self.leaving = Leaving(error=error, by=by, calls_over=over)
        else:
            self.leaving.calls_over |= calls_over
            self.leaving.by = min(self.leaving.by, by)

    def paused_long(self, now: float) -> bool:
        """So long, or known to become so long, that nobody should wait for us."""
        return self.pause is not None and max(self.pause.seconds, now - self.paused_at) >= LONG_SECONDS

    def start_call(self, call: CoordinatorCall) -> None:
        self.call = call
        self.do(call)

    @property
    def poll_seconds(self) -> float:
        """How often to ask the coordinator, when nothing happens."""
        seconds = self.settings.poll_seconds if self.asked_seconds is None else self.asked_seconds
        return max(seconds, AWAY_POLL_SECONDS) if self.away else seconds

    def rest(self, campaign: str, now: float) -> None:
        """A claim found nothing: leave the campaign's claims alone for a while.

        In a crowd, which the coordinator asks to be heard more rarely, twice as long each time: both the hosts that
        look for a free assignment and the claims that each of them has to read grow with the crowd.
        """
        first = self.settings.claim_pause_seconds
        crowd = max(1.0, self.poll_seconds / self.settings.poll_seconds)
        longest = max(first, min(CLAIM_PAUSE_MAX, first * crowd**2))
        self.rests[campaign] = min(longest, 2 * self.rests.get(campaign, first / 2))
        self.resting[campaign] = now + self.rests[campaign]

    def may_call(self, now: float) -> bool:
        """One call at a time; none while the coordinator is away; while leaving, until one fails."""
        if self.call is not None:
            return False
        return self.backoff.ready(now) if self.leaving is None else not self.leaving.calls_over

    def rested(self, campaign: str, now: float) -> bool:
        """Whether a claim in this campaign may be tried now; if not, we shall wake for it."""
        until = self.resting.get(campaign, -inf)
        if now < until:
            self.claim_at = min(self.claim_at, until)
        return now >= until

    @property
    def room_bytes(self) -> int:
        """What further bundles may take, when those in hand have taken all that they may."""
        return self.settings.disk_bytes - self.kept_bytes - sum(held.disk_bytes for held in self.held.items.values())

    def has_datasets(self, campaign: str) -> bool:
        return all(digest in self.datasets for digest in self.campaigns[campaign].data_sets)
