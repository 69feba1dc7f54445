"""Whole volunteers against a real coordinator over gRPC: every call and every answer, in seconds."""

import random
from typing import Any

import msgspec
import pytest
from support.in_process import ClaimBoard, InProcessVolunteer
from support.scripted_host import CAMPAIGN, Stage

from coordinator.checking import cases
from coordinator.policy.inbox import bans_to_tell
from peer.session import session
from peer.session.client import Client
from peer.session.requests import fetch_check
from peer.session.session import BANS_KEPT, CoordinatorSession, KnownBans, read_inbox
from peer.state import Phase
from peer.state import actions as act
from peer.state import events as on
from protocol.errors import Refused
from protocol.trust.envelope import seal
from protocol.trust.identity import Identity
from protocol.trust.messages import Admission, AdmissionOutcome, BlobPart, Inbox

TURNS_MAX = 400


class Swarm:
    """A coordinator and volunteers in turns, a second each."""

    def __init__(self, path, names):
        self.path, self.now = path, 0.0
        self.stage = Stage(path / "host")
        self.stage.seed()
        self.board = ClaimBoard(CAMPAIGN.assignment_count)
        self.volunteers = {name: self.start(name) for name in names}

    def start(self, name: str) -> InProcessVolunteer:
        return InProcessVolunteer(name, self.path / name, self.stage.port, self.board)

    def turn(self) -> None:
        self.now += 1.0
        self.stage.clock.now += 1.0
        for volunteer in self.volunteers.values():
            if volunteer.exit is None:
                volunteer.turn(self.now)
        self.stage.core.woken.set()
        self.stage.core.tick()

    def until(self, condition) -> None:
        for _ in range(TURNS_MAX):
            if condition():
                return
            self.turn()
        raise AssertionError([volunteer.said[-5:] for volunteer in self.volunteers.values()])

    def restart(self, name: str) -> InProcessVolunteer:
        """After a kill; meanwhile the leases of its claims ended."""
        host = self.volunteers[name].host
        self.board.holders = {i: None if holder == host else holder for i, holder in self.board.holders.items()}
        self.volunteers[name].close()
        self.volunteers[name] = self.start(name)
        return self.volunteers[name]

    def close(self) -> None:
        for volunteer in self.volunteers.values():
            volunteer.close()
        self.stage.close()


@pytest.fixture
def swarm(tmp_path):
    swarm = Swarm(tmp_path, ["alice", "bob", "carol"])
    yield swarm
    swarm.close()


def test_three_volunteers_finish_a_campaign_and_leave(swarm):
    swarm.until(lambda: all(v.exit == "" for v in swarm.volunteers.values()))
    assert swarm.stage.core.stores.campaigns.states() == {CAMPAIGN.digest: "complete"}
    assert sum(v.state.figures.admitted for v in swarm.volunteers.values()) == CAMPAIGN.assignment_count
    assert sum(v.state.figures.checks for v in swarm.volunteers.values()) >= 2 * CAMPAIGN.assignment_count
    assert not swarm.stage.refused()
    for volunteer in swarm.volunteers.values():
        assert list((volunteer.home.path / "bundles").iterdir()) == []
        assert list((volunteer.home.path / "checks").glob("*")) == []


@pytest.mark.parametrize("enclosed", [True, False])
def test_a_check_comes_with_its_states_and_weights_where_they_are_small(swarm, monkeypatch, enclosed):
    fetched, get = [], Client.get
    monkeypatch.setattr(Client, "get", lambda *call: fetched.append(call[2]) or get(*call))
    if not enclosed:
        monkeypatch.setattr(cases, "ENCLOSED_BYTES_MAX", 0)
    swarm.until(lambda: sum(v.state.figures.checks for v in swarm.volunteers.values()) >= 2)
    assert set(fetched) == (set() if enclosed else {BlobPart.STATES, BlobPart.WEIGHTS})
    assert not swarm.stage.refused()


def test_enclosed_states_that_were_not_committed_to_are_refused(swarm, monkeypatch):
    asked = []
    monkeypatch.setattr(session, "fetch_check", lambda *call: asked.append(call) or fetch_check(*call))
    swarm.until(lambda: any(call[0].enclosed_states for call in asked))
    request, *rest = next(call for call in asked if call[0].enclosed_states)
    flipped = bytes([request.enclosed_states[0] ^ 1]) + request.enclosed_states[1:]
    assert fetch_check(request, *rest).states == request.enclosed_states
    with pytest.raises(Refused):
        fetch_check(msgspec.structs.replace(request, enclosed_states=flipped), *rest)


@pytest.mark.parametrize("seed", range(2))
def test_volunteers_killed_again_and_again_finish_all_the_same(swarm, seed):
    """After any event: what one holds is on its disk, what it owes is in its next inbox."""
    rng = random.Random(seed)
    kills = 0

    def kill_and_go_on() -> bool:
        nonlocal kills
        for name, volunteer in list(swarm.volunteers.items()):
            if volunteer.gone and volunteer.exit is None:
                kills += 1
                volunteer = swarm.restart(name)
            if volunteer.dies_after is None and kills < 24:
                volunteer.dies_after = rng.randrange(2, 20)
        return all(v.exit == "" for v in swarm.volunteers.values())

    swarm.until(kill_and_go_on)
    assert kills >= 12
    assert swarm.stage.core.stores.campaigns.states() == {CAMPAIGN.digest: "complete"}
    assert not swarm.stage.refused()


def test_a_coordinator_that_is_away_is_waited_for(swarm):
    swarm.turn()
    swarm.stage.server.stop(0)
    alice = swarm.volunteers["alice"]
    for seconds in (1, 2):
        alice.turn(swarm.now + seconds)
    assert sum("away" in text for text in alice.said) == 1 and alice.exit is None
    assert alice.state.held.count(Phase.TRAINED, Phase.COMMITTED), "what is finished is kept"


def test_a_coordinator_that_moved_is_found_where_its_manifest_says(tmp_path):
    stage = Stage(tmp_path / "host")
    volunteer = InProcessVolunteer("alice", tmp_path / "alice", stage.port, ClaimBoard(1))
    said, call = [""], act.Poll((), "cpu", 0.0, 0, 0)
    session = CoordinatorSession(volunteer.client, volunteer.workspace, volunteer.session.introduction, lambda: said[0])
    told = volunteer.client.target
    assert isinstance(session.perform(call), on.InboxReceived)
    stage.restart()  # on another port
    assert isinstance(session.perform(call), on.CallAway)
    assert volunteer.client.target == told, "it may only be away"
    said[0] = f"127.0.0.1:{stage.port}"
    assert isinstance(session.perform(call), on.CallAway)
    assert isinstance(session.perform(call), on.InboxReceived)
    stage.close()
    targets = []
    for _ in range(3):
        assert isinstance(session.perform(call), on.CallAway)
        targets.append(volunteer.client.target)
    assert targets == [told, said[0], told], "each in turn while neither answers"
    said[0] = "nonsense"
    assert isinstance(session.perform(call), on.CallAway) and volunteer.client.target == told
    volunteer.close()


def test_an_inbox_with_a_forged_outcome_is_refused_as_a_whole():
    organizer, mallory = Identity.generate(), Identity.generate()
    admission = Admission(result=b"r" * 32, outcome=AdmissionOutcome.ADMITTED, reason="", credit=10**9)
    call = act.Poll((), "cpu", 0.0, 0, 0)

    def inbox(signer: Identity) -> Inbox:
        return inbox_with(outcomes=(seal(signer, admission),))

    assert read_inbox(call, inbox(organizer), organizer.host, ("bob",)).outcomes == (admission,)
    with pytest.raises(Refused, match="signer"):
        read_inbox(call, inbox(mallory), organizer.host, ())


def test_bans_come_a_few_at_a_time_and_anew_from_a_coordinator_that_started_again():
    def told(bans: list[str], name: int) -> tuple[str, ...]:
        hosts, known = bans_to_tell(bans, learned.known if learned.list == name else 0)
        return learned.learn(inbox_with(banned_hosts=hosts, bans_list=name, bans_known=known))

    learned, bans = KnownBans(), [f"host {i}" for i in range(250)]
    assert [len(told(bans, 7)) for _ in range(4)] == [100, 200, 250, 250]
    bans.append("late")
    assert told(bans, 7) == tuple(bans)
    assert told(["another", "host 3"], 8) == ("another", "host 3")
    many = [f"many {i}" for i in range(5000)]
    assert [told(many, 8) for _ in range(20)][-1] == tuple(many[-BANS_KEPT:])


def inbox_with(**fields: Any) -> Inbox:
    nothing: dict[str, Any] = {
        "openings": (),
        "missing": (),
        "checks": (),
        "unknown": (),
        "outcomes": (),
        "campaigns": (),
    }
    mine: dict[str, Any] = {"credit": 0, "clean_bundles": 0, "banned": "", "banned_hosts": ()}
    return Inbox(nonce=bytes(16), time=0.0, **(nothing | mine | fields))


def test_files_that_are_gone_refuse_one_call_and_no_more(swarm):
    alice = swarm.volunteers["alice"]
    swarm.until(lambda: alice.state.held.count(Phase.COMMITTED))
    held = alice.state.held.first(Phase.COMMITTED)
    assert held is not None and held.result is not None
    for path in alice.workspace.bundle(held.id).path.glob("*.states"):
        path.unlink()
    refused = alice.session.perform(act.UploadPart(held.id, held.result, BlobPart.WEIGHTS))
    assert isinstance(refused, on.CallRefused) and refused.reason == "file-gone"
