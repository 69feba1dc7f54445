"""The volunteer's shell: every action reaches who performs it, every ending comes back, and no thread ends unheard."""

import io
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support.volunteer import ALLOWANCE, CAMPAIGN, PLENTY, id_of, result_of

import peer.daemon
from peer.daemon import Daemon, EventQueue
from peer.progress import View
from peer.state import PeerSettings, PeerState
from peer.state import actions as act
from peer.state import events as on


class World:
    """All four ports and the disk, in memory: trains at once, and answers as a friendly coordinator does."""

    def __init__(self):
        self.events, self.performed = EventQueue(), []
        self.admitted = threading.Event()
        self.claimed = 0

    def perform(self, action: Any) -> Any:
        self.performed.append(action)
        answer = self.answer(action)
        if isinstance(action, act.CoordinatorCall | act.FetchDataset | act.HomeAction):
            return answer
        for event in answer or ():
            self.events.emit(event)

    def answer(self, action: Any) -> Any:
        match action:
            case act.StartTrainer():
                return [on.TrainerReady("", 0)]
            case act.StopTrainer():
                return [on.TrainerStopped()]
            case act.Train(id):
                return [on.NetworkTrained(id, s) for s in CAMPAIGN.assignment(id.index).seeds] + [
                    on.AssignmentTrained(id, "c")
                ]
            case act.SignResult(id):
                return on.ResultSigned(id, result_of(id.index))
            case act.Claim():
                self.claimed += 1
                return [on.Claimed(action, (self.claimed - 1,) if self.claimed <= 3 else ())]
            case act.RenewClaims():
                return [on.ClaimsRenewed(action, ())]
            case act.ReleaseClaims():
                return [on.ClaimsReleased(action)]
            case act.FetchCampaign():
                return on.CampaignFetched(action, CAMPAIGN, ())
            case act.SubmitResult():
                if action.assignment.index == 2:
                    self.admitted.set()
                return on.ResultAccepted(action)
            case act.UploadPart():
                return on.PartUploaded(action)
            case act.Poll():
                taken = ("",) * len(action.answers)
                states = ((CAMPAIGN.digest, "running"),)
                return on.InboxReceived(action, campaigns=states, allowance=ALLOWANCE, refused=taken)
        return None


def daemon_in(world: World, **ports: Any) -> tuple[Daemon, io.StringIO]:
    screen = io.StringIO()
    parts: dict[str, Any] = dict.fromkeys(("trainer", "coordinator", "claims", "datasets", "disk"), world) | ports
    state = PeerState(PeerSettings(threads=1, device="cpu"))
    view = View("alice", Console(file=screen, width=200))
    return Daemon(state, world.events, free_bytes=lambda: PLENTY, view=view, **parts), screen


def test_three_assignments_are_claimed_trained_and_handed_in_until_ctrl_c():
    world = World()
    daemon, screen = daemon_in(world)
    assert daemon.run((CAMPAIGN.digest,), stop=world.admitted.is_set) == ""
    handed_in = [action.assignment for action in world.performed if isinstance(action, act.SubmitResult)]
    assert handed_in == [id_of(0), id_of(1), id_of(2)]
    assert [type(action) for action in world.performed].count(act.StopTrainer) == 1
    assert "campaign test: 16 networks" in screen.getvalue() and "stopped. 6 networks trained" in screen.getvalue()


def test_a_call_that_hangs_does_not_hold_up_the_end():
    class Hung(World):
        def __init__(self):
            super().__init__()
            self.called = threading.Event()

        def perform(self, action):
            self.called.set()
            threading.Event().wait()

    hung = Hung()
    daemon, screen = daemon_in(World(), coordinator=hung)
    began = time.monotonic()
    assert daemon.run((CAMPAIGN.digest,), stop=hung.called.is_set) == ""
    assert time.monotonic() - began < 5 and "stopped." in screen.getvalue()


def test_what_a_person_has_to_read_comes_back():
    class NoEngine(World):
        def answer(self, action):
            return (
                [on.TrainerFailed("no C compiler")] if isinstance(action, act.StartTrainer) else super().answer(action)
            )

    daemon, _ = daemon_in(NoEngine())
    assert daemon.run((), stop=lambda: False) == "no C compiler"


@pytest.mark.parametrize("port", ["coordinator", "datasets"])
def test_a_thread_that_fails_is_heard(port):
    """A fetch that raised ended its thread, and no data set came any more, and nobody said why."""

    class Broken:
        def perform(self, action):
            raise ZeroDivisionError("a mistake of ours")

    world = World()
    daemon, _ = daemon_in(world, **{port: Broken()})
    if port == "datasets":
        daemon.state.missing_datasets["d" * 64] = None
    with pytest.raises(ZeroDivisionError, match="a mistake of ours"):
        daemon.run((CAMPAIGN.digest,), stop=lambda: False)


def test_the_shell_is_short_and_knows_no_phase():
    text = Path(peer.daemon.__file__).read_text()
    assert text.count("\n") < 150 and "Phase" not in text
