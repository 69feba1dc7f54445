"""Whole volunteers in one process and one thread, with everything real but the swarm and the clock.

Decisions, calls over gRPC, files and training are the product's; claims come from a board in memory.
"""

from collections import deque
from pathlib import Path
from typing import Any

from peer.session.client import Client
from peer.session.dataset_fetcher import DatasetFetcher
from peer.session.session import CoordinatorSession, Introduction
from peer.state import AssignmentId, PeerSettings, PeerState
from peer.state import actions as act
from peer.state import events as on
from peer.storage.home import Home, bundle_path, check_path
from peer.storage.workspace import Workspace
from peer.trainer.messages import CheckFile, DropBundle, TrainBundle
from peer.trainer.worker import Worker
from protocol.engine.select import select_engine


class ClaimBoard:
    """Who has what, in one campaign; the organizer's done bits are not on it."""

    def __init__(self, assignments: int):
        self.holders: dict[int, str | None] = dict.fromkeys(range(assignments))

    def claim(self, host: str, batch: int) -> tuple[int, ...]:
        free = [index for index, holder in self.holders.items() if holder is None][:batch]
        return self.resume(host, tuple(free))

    def resume(self, host: str, indices: tuple[int, ...]) -> tuple[int, ...]:
        ours = tuple(index for index in indices if self.holders[index] in (None, host))
        self.holders.update(dict.fromkeys(ours, host))
        return ours


class InProcessVolunteer:
    """`turn(now)` lets everything happen that can happen now."""

    def __init__(self, name: str, path: Path, port: int, board: ClaimBoard, **settings: Any):
        self.name, self.board, self.now = name, board, 0.0
        self.home = Home(path)
        self.workspace = Workspace(self.home)
        self.client = Client(f"127.0.0.1:{port}", self.home.identity)
        self.campaigns = tuple(self.client.join("test").campaigns)
        introduction = Introduction(name=name, version="test", threads=1)
        self.session = CoordinatorSession(self.client, self.workspace, introduction)
        self.said: list[str] = []
        self.fetcher = DatasetFetcher(self.home.shelf, self.client, self.home.free_bytes, self.said.append)
        self.events: deque[on.Event] = deque([on.Started(self.campaigns)])
        self.worker = Worker(select_engine("c"), path, self.events.append)
        self.state = PeerState(PeerSettings(**({"threads": 1, "device": "cpu", "until_done": True} | settings)))
        self.exit: str | None = None
        self.dies_after: int | None = None  # events, then nothing happens here any more

    @property
    def gone(self) -> bool:
        return self.exit is not None or self.dies_after == 0

    @property
    def host(self) -> str:
        return self.home.identity.host

    def turn(self, now: float) -> None:
        self.now = now
        self.hear()
        if not self.gone:
            self.events.append(on.Tick(self.home.free_bytes()))
            self.hear()
        while not self.gone and (self.worker.busy or not self.worker.commands.empty()):
            self.worker.turn()
            self.hear()

    def hear(self) -> None:
        while self.events and not self.gone:
            if self.dies_after is not None:
                self.dies_after -= 1
            actions = self.state.handle(self.events.popleft(), self.now)
            self.state.validate(self.now)
            for action in actions:
                event = self.perform(action)
                if event is not None:
                    self.events.append(event)

    def perform(self, action: act.Action) -> on.Event | None:
        match action:
            case act.Say(text):
                self.said.append(text)
            case act.Exit(error):
                self.exit = error
            case act.CoordinatorCall():
                return self.session.perform(action)
            case act.FetchDataset():
                return self.fetcher.perform(action)
            case act.HomeAction():
                return self.workspace.perform(action)
            case act.TrainerAction():
                return self.train(action)
            case act.SwarmAction():
                return self.claim(action)
        return None

    def train(self, action: act.TrainerAction) -> on.Event | None:
        match action:
            case act.StartTrainer():
                return on.TrainerReady(device="", width=0)
            case act.StopTrainer():
                return on.TrainerStopped()
            case act.Train(id):
                self.worker.commands.put(TrainBundle(id, str(bundle_path(self.home.path, *id))))
            case act.DropTraining(id):
                self.worker.commands.put(DropBundle(id))
            case act.DoCheck(check):
                self.worker.commands.put(CheckFile(check, str(check_path(self.home.path, *check))))
        return None

    def claim(self, action: act.SwarmAction) -> on.Event | None:
        match action:
            case act.Claim():
                return on.Claimed(action, self.board.claim(self.host, action.batch))
            case act.ResumeClaims():
                return on.ClaimsResumed(action, self.board.resume(self.host, action.indices))
            case act.RenewClaims(campaigns):
                held = [id.index for id in self.state.held.items]
                lost = [i for i in held if self.board.holders[i] not in (None, self.host)]
                return on.ClaimsRenewed(action, tuple(AssignmentId(campaigns[0], index) for index in lost))
            case act.ReleaseClaims():
                for index in action.indices:
                    if self.board.holders[index] == self.host:
                        self.board.holders[index] = None
                return on.ClaimsReleased(action)
        return None

    def close(self) -> None:
        """As after a kill: nothing is said to anybody."""
        self.client.close()
        self.home.close()
