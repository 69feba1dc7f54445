"""Random lives: whatever the world does, in any order, nothing is forgotten; when faults end, all is handed in."""

import os
import random
from math import inf

import pytest
from support.volunteer import (
    ALLOWANCE,
    CAMPAIGN,
    PLENTY,
    Volunteer,
    admission_of,
    answer_of,
    check_of,
    id_of,
    opening_of,
    result_of,
)

from peer.state import Phase
from peer.state import actions as act
from peer.state import events as on
from peer.state.lending.pausing import Conditions

EVENTS = 400
SEEDS = 40


class RandomWorld:
    """Answers every action once, in any order, well or badly; `faults` is the share that goes badly."""

    def __init__(self, seed: int):
        self.rng = random.Random(seed)
        self.volunteer = Volunteer(until_done=True)
        self.pending: list[act.Action] = []
        self.faults = self.rng.choice([0.0, 0.1, 0.4])
        self.free = list(range(CAMPAIGN.assignment_count))
        self.known: dict[bytes, int] = {}  # results that the coordinator has -> assignment
        self.parts: set[tuple[bytes, str]] = set()
        self.settled: set[int] = set()
        self.checks = [check_of(n) for n in range(6)]

    def happens(self, event: on.Event) -> None:
        self.pending += [a for a in self.volunteer.hears(event) if not isinstance(a, act.Say | act.Exit)]

    def step(self) -> None:
        if self.pending and self.rng.random() < 0.8:
            action = self.pending.pop(self.rng.randrange(len(self.pending)))
            for event in self.answers(action):
                self.happens(event)
        elif not self.volunteer.state.exited:
            self.volunteer.now += self.rng.choice([0.01, 0.3, 2.0, 30.0])
            self.happens(on.Tick(PLENTY, conditions=self.conditions()))
            if self.rng.random() < 0.02 * self.faults and not self.volunteer.state.leaving:
                self.pending = [a for a in self.pending if not isinstance(a, act.TrainerAction)]
                self.happens(on.TrainerDied(-9))

    def conditions(self) -> Conditions:
        """Now and then a person pauses it, for a moment or for long."""
        left = self.rng.choice([30.0, inf]) if self.rng.random() < self.faults / 2 else 0.0
        return Conditions(paused_seconds=left)

    def fails(self) -> bool:
        return self.rng.random() < self.faults

    def failure(self, call: act.CoordinatorCall) -> on.Event:
        chance = self.rng.random()
        if isinstance(call, act.SubmitResult):
            return on.CallPutOff(call, "not now") if chance < 0.5 else on.CallAway(call, "no answer")
        if isinstance(call, act.FetchCampaign) or self.rng.random() < 0.5:
            return on.CallAway(call, "no answer")
        return on.CallRefused(call, "no", f"no: {chance}")

    def answers(self, action: act.Action) -> list[on.Event]:
        match action:
            case act.CoordinatorCall() if self.fails():
                return [self.failure(action)]
            case act.SwarmAction() if self.fails() and not isinstance(
                action, act.FollowCampaign | act.IgnoreHosts | act.UseAllowance
            ):
                if isinstance(action, act.ReleaseClaims):
                    self.free += [index for index in action.indices if index not in self.settled]  # the lease ends
                return [on.ClaimsFailed(action, "no route")]
            case act.StartTrainer():
                return [on.TrainerReady("", 0)]
            case act.StopTrainer():
                return [on.TrainerStopped()]
            case act.Train(id):
                networks = [on.NetworkTrained(id, seed) for seed in CAMPAIGN.assignment(id.index).seeds]
                return [*networks, on.AssignmentTrained(id, "c")]
            case act.DoCheck(check):
                return [on.CheckFailed(check, "odd") if self.fails() else on.CheckAnswered(check, answer_of(check))]
            case act.SignResult(id):
                return [on.ResultSigned(id, result_of(id.index))]
            case act.Claim():
                taken = [self.free.pop() for _ in range(min(action.batch, len(self.free)))]
                return [on.Claimed(action, tuple(taken))]
            case act.ResumeClaims():
                return [on.ClaimsResumed(action, action.indices)]
            case act.RenewClaims():
                return [on.ClaimsRenewed(action, self.lost())]
            case act.ReleaseClaims():
                self.free += [index for index in action.indices if index not in self.settled]
                return [on.ClaimsReleased(action)]
            case act.FetchCampaign():
                return [on.CampaignFetched(action, CAMPAIGN, ())]
            case act.CoordinatorCall():
                return [self.coordinator(action)]
        return []

    def lost(self) -> tuple:
        held = list(self.volunteer.state.held.of(Phase.TRAINING))
        return (self.rng.choice(held).id,) if held and self.fails() else ()

    def coordinator(self, call: act.CoordinatorCall) -> on.Event:
        match call:
            case act.SubmitResult():
                self.known[call.result] = call.assignment.index
                return on.ResultAccepted(call)
            case act.UploadPart():
                self.parts.add((call.result, call.part))
                return on.PartUploaded(call)
            case act.OpenStates():
                self.parts.add((call.request.result, "states"))
                return on.StatesOpened(call)
            case act.FetchCheck():
                return on.CheckFetched(call)
        assert isinstance(call, act.Poll)
        return self.inbox(call)

    def opened(self, call: act.Poll) -> tuple[str, ...]:
        """Some of the openings that came along are refused."""
        words = ["odd" if self.fails() else "" for _ in call.opened]
        self.parts |= {(o.request.result, "states") for o, word in zip(call.opened, words, strict=True) if not word}
        return tuple(words)

    def inbox(self, call: act.Poll) -> on.InboxReceived:
        answered = {check for check, _ in call.answers}
        self.checks = [check for check in self.checks if check.check not in answered]
        whole = [r for r in call.holding if {(r, "trace"), (r, "weights"), (r, "states")} <= self.parts]
        self.settled |= {self.known[result] for result in whole}
        done = len(self.settled) == CAMPAIGN.assignment_count
        return on.InboxReceived(
            call,
            allowance=ALLOWANCE,
            missing=tuple((r, p) for r in call.holding for p in ("trace", "weights") if (r, p) not in self.parts),
            openings=tuple(opening_of(r[0]) for r in call.holding if (r, "states") not in self.parts),
            checks=tuple(self.checks[:4]),
            refused=("",) * len(call.answers),
            refused_states=self.opened(call),
            outcomes=tuple(admission_of(self.known[result]) for result in whole),
            campaigns=((CAMPAIGN.digest, "complete" if done and not self.checks else "running"),),
        )


@pytest.mark.parametrize("number", range(SEEDS))
def test_whatever_happens_nothing_is_forgotten_and_in_the_end_all_is_done(number):
    seed = int(os.environ.get("ZOOSWARM_TEST_SEED") or number)
    print(f"seed {seed} (ZOOSWARM_TEST_SEED={seed} repeats it)")
    world = RandomWorld(seed)
    world.happens(on.Started((CAMPAIGN.digest,)))
    for _ in range(EVENTS):
        if not world.volunteer.state.exited:
            world.step()
    world.faults = 0.0
    for _ in range(20_000):
        if world.volunteer.state.exited:
            break
        world.step()
    state = world.volunteer.state
    assert state.exited and world.volunteer.ever(act.Exit) == [act.Exit("")]
    assert world.settled == set(range(CAMPAIGN.assignment_count)) and not world.checks
    assert not state.held.items and not state.checks.items
    for index in world.settled:
        assert state.story(id_of(index))[-1].text == "settled"
