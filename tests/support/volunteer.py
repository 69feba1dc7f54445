"""A volunteer's decisions under test: events in, actions out, every invariant checked after every event."""

from typing import Any, TypeVar

from peer.state import AssignmentId, CheckId, PeerSettings, PeerState, Phase
from peer.state import actions as act
from peer.state import events as on
from protocol.recipes.campaign import Campaign, Policy, Population
from protocol.recipes.layers import Flatten, Gru, Linear
from protocol.recipes.recipe import Network, Recipe, Training
from protocol.tasks.kinds import DatasetTask, MachineTask
from protocol.trust.allowance import Allowance
from protocol.trust.envelope import Envelope
from protocol.trust.messages import Admission, AdmissionOutcome, Answer, Cell, CheckRequest, OpeningRequest

PLENTY = 1 << 40  # bytes on the disk
ALLOWANCE = Allowance(64, 3600, 1 << 39, bytes(64))  # to claim as much as anybody may
DATA = "d" * 64
OTHER = "12D3" + "x" * 48  # a host
RECIPE = Recipe(
    name="tiny",
    label="xor",
    task=MachineTask(machine="SimpleXORMachine", length=4, sequences=64, held_out=16),
    network=Network(layers=(Gru(width=3), Linear(width=20))),
    training=Training(learning_rate=0.02, batch=8, max_steps=60, segment_steps=20),
)
IMAGES = Recipe(
    name="images",
    label="images",
    task=DatasetTask(data=DATA, shape=(1, 6, 6), labels=3, train=100, held_out=30),
    network=Network(layers=(Flatten(), Linear(width=3))),
    training=Training(loss="cross_entropy", learning_rate=0.02, batch=8, max_steps=60, segment_steps=20),
)


def campaign_of(recipe: Recipe = RECIPE, name: str = "test", assignments: int = 8, **fields: Any) -> Campaign:
    population = Population(recipe=recipe, count=2 * assignments, bundle=2)
    return Campaign(name=name, populations=(population,), policy=Policy(lease_seconds=80.0), **fields)


CAMPAIGN = campaign_of()
E = TypeVar("E", bound=on.CallEnded)
A = TypeVar("A", bound=act.Action)


def id_of(index: int, campaign: Campaign = CAMPAIGN) -> AssignmentId:
    return AssignmentId(campaign.digest, index)


def result_of(index: int) -> bytes:
    """The digest that the signed result of assignment `index` gets here."""
    return bytes([index]) * 32


def check_of(number: int, campaign: Campaign = CAMPAIGN) -> on.RequestedCheck:
    envelope = Envelope(kind="result", signer=OTHER, payload=b"", signature=b"")
    request = CheckRequest(result=envelope, receipt=envelope, draw=envelope, slot=0, states=0, openings=b"")
    return on.RequestedCheck(CheckId(bytes([200 + number]) * 32, 0), campaign.digest, request)


def answer_of(check: CheckId) -> Answer:
    return Answer(result=check.result, slot=check.slot, backend="c", cells=(), networks=())


def opening_of(index: int) -> OpeningRequest:
    return OpeningRequest(result=result_of(index), cells=(Cell(network=0, segment=1),))


def admission_of(index: int, outcome: str = "admitted", reason: str = "") -> Admission:
    return Admission(result=result_of(index), outcome=AdmissionOutcome(outcome), reason=reason, credit=6)


class Volunteer:
    """`volunteer.hears(event)` is one `handle`; what it wants done is in `last`, and in `done` since the start."""

    def __init__(self, *campaigns: Campaign, **settings: Any):
        self.state = PeerState(PeerSettings(**({"threads": 1, "device": "cpu"} | settings)))
        self.campaigns = {campaign.digest: campaign for campaign in campaigns or (CAMPAIGN,)}
        self.now = 1000.0
        self.last: list[act.Action] = []
        self.done: list[act.Action] = []

    def hears(self, event: on.Event) -> list[act.Action]:
        self.last = self.state.handle(event, self.now)
        self.done += self.last
        self.state.validate(self.now)
        return self.last

    def waits(self, seconds: float, free_bytes: int = PLENTY) -> list[act.Action]:
        """Time passes, with a Tick whenever one is due. Returns everything that was decided meanwhile."""
        end, before = self.now + seconds, len(self.done)
        while (due := self.state.next_wakeup()) <= end and not self.state.exited:
            self.now = max(self.now, due)
            self.hears(on.Tick(free_bytes))
        self.now = end
        return self.done[before:]

    def ends(self, kind: type[E], *fields: Any, **more: Any) -> list[act.Action]:
        """The call in flight ends in this event."""
        call = self.state.call
        assert call is not None, "there is no call in flight"
        return self.hears(kind(call, *fields, **more))

    def inbox(self, **fields: Any) -> list[act.Action]:
        """The next poll (waited for, if need be) is answered with this; campaigns are running unless told."""
        if not isinstance(self.state.call, act.Poll):
            assert self.state.call is None, f"{self.state.call} is in flight"
            self.waits(self.state.poll_seconds)
        assert isinstance(self.state.call, act.Poll)
        states = tuple((digest, "running") for digest in self.campaigns)
        taken, opened = ("",) * len(self.state.call.answers), ("",) * len(self.state.call.opened)
        usual = {"campaigns": states, "allowance": ALLOWANCE, "refused": taken, "refused_states": opened}
        return self.ends(on.InboxReceived, **(usual | fields))

    def wanted(self, kind: type[A]) -> list[A]:
        """What the last event made it do, of this kind."""
        return [action for action in self.last if isinstance(action, kind)]

    def ever(self, kind: type[A]) -> list[A]:
        return [action for action in self.done if isinstance(action, kind)]

    @property
    def said(self) -> list[str]:
        return [action.text for action in self.ever(act.Say)]

    def phase(self, index: int, campaign: Campaign = CAMPAIGN) -> Phase | None:
        held = self.state.held.items.get(id_of(index, campaign))
        return held.phase if held else None

    # -- whole stretches of a life -----------------------------------------------------------------------------------
    def joins(self, **restored: tuple[on.RestoredBundle, ...]) -> "Volunteer":
        """Started, its campaigns known, the first inbox read, claims renewed; the first claim is under way.

        `restored`: bundles found on disk, by the campaign's name.
        """
        self.hears(on.Started(tuple(self.campaigns), ALLOWANCE))
        self.hears(on.Tick(PLENTY))
        self.hears(on.TrainerReady(device="", width=0))
        for campaign in self.campaigns.values():
            self.ends(on.CampaignFetched, campaign, restored.get(campaign.name, ()))
        if isinstance(self.state.call, act.Poll):
            self.inbox()
        self.renewed()
        return self

    def renewed(self, *gone: AssignmentId) -> list[act.Action]:
        assert self.state.renewing is not None
        return self.hears(on.ClaimsRenewed(self.state.renewing, gone))

    def claimed(self, *indices: int) -> list[act.Action]:
        """The claim under way is answered."""
        assert isinstance(self.state.claiming, act.Claim), f"under way is {self.state.claiming}"
        return self.hears(on.Claimed(self.state.claiming, indices))

    def trains(self, index: int, campaign: Campaign = CAMPAIGN) -> list[act.Action]:
        """The training process finishes an assignment, and its result is signed."""
        id = id_of(index, campaign)
        for seed in campaign.assignment(index).seeds:
            self.hears(on.NetworkTrained(id, seed))
        self.hears(on.AssignmentTrained(id, "c"))
        assert self.wanted(act.SignResult) == [act.SignResult(id, "c")]
        return self.hears(on.ResultSigned(id, result_of(index)))

    def hands_in(self, index: int) -> list[act.Action]:
        """A trained result is accepted and its parts are uploaded; a poll is under way."""
        assert self.state.call == act.SubmitResult(id_of(index), result_of(index))
        self.ends(on.ResultAccepted)
        self.ends(on.PartUploaded)
        return self.ends(on.PartUploaded)

    def checks(self, requested: on.RequestedCheck) -> list[act.Action]:
        """A check is named by the inbox, fetched and given to the training process."""
        self.inbox(checks=(requested,))
        assert self.state.call == act.FetchCheck(requested.check, requested.request)
        return self.ends(on.CheckFetched)
