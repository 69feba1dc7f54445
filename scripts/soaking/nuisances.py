"""Strangers who break nothing and want to stop everybody: squatters, silent calls, messages that come again."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc

from peer.session.client import Away, Client
from protocol.engine import ENGINE
from protocol.errors import Refused
from protocol.recipes.campaign import Campaign, campaign_from_bytes
from protocol.rpc import coordinator_pb2 as pb
from protocol.rpc.channel import open_channel
from protocol.rpc.coordinator_pb2_grpc import CoordinatorStub
from protocol.rpc.wire import parse_address, refusal
from protocol.trust.envelope import seal
from protocol.trust.identity import Identity
from protocol.trust.messages import NetworkResult, Receipt, Result

SERVICE = "/zooswarm.v1.Coordinator"
PAUSE_SECONDS = 1.0
BEAT = {
    "name": "gone",
    "device": "cpu",
    "version": "0.2.0",
    "steps_per_second": 1.0,
    "networks_trained": 0,
    "checks_done": 0,
    "holding": (),
}


class Nuisance:
    """A thread that does `turn` again and again until `stop`; what it was told is counted."""

    def __init__(self, address: str, seed: int):
        self.target, self.organizer = parse_address(address)
        self.rng, self.counts = random.Random(seed), Counter()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> "Nuisance":
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(30)

    def _run(self) -> None:
        while not self._stopping.wait(PAUSE_SECONDS):
            try:
                self.turn()
            except Refused as error:
                self.counts[f"refused: {error.reason}"] += 1
            except Away as error:
                self.counts[f"away: {error}"[:50]] += 1

    def turn(self) -> None:
        raise NotImplementedError

    def fresh(self) -> Client:
        return Client(self.target, Identity.generate(), self.organizer)


class Squatter(Nuisance):
    """Each of its keys signs garbage for every assignment, and never shows anything of it."""

    def __init__(self, address: str, keys: int, seed: int):
        super().__init__(address, seed)
        self.clients = [self.fresh() for _ in range(keys)]

    def turn(self) -> None:
        for place, client in enumerate(self.clients):
            try:
                campaigns = client.join("0.2.0").campaigns
                client.poll(BEAT)
                self._squat(client, campaign_from_bytes(client.campaign(self.rng.choice(campaigns))[0]))
            except Refused as error:
                self.counts[f"refused: {error.reason}"] += 1
                if error.reason == "banned":
                    client.close()
                    self.clients[place] = self.fresh()

    def _squat(self, client: Client, campaign: Campaign) -> None:
        for index in range(campaign.assignment_count):
            if self._stopping.is_set():
                return
            assignment = campaign.assignment(index)
            networks = tuple(
                NetworkResult(
                    seed=seed,
                    steps=assignment.recipe.training.max_steps,
                    trace_root=self.rng.randbytes(32),
                    weights_digest=self.rng.randbytes(32),
                    held_out_loss=0.5,
                )
                for seed in assignment.seeds
            )
            result = Result(
                campaign=campaign.digest,
                assignment=index,
                engine=ENGINE,
                backend="c",
                commitment=self.rng.randbytes(32),
                networks=networks,
            )
            reply = client.submit_result(seal(client.identity, result))
            self.counts["squatted" if reply.kind == Receipt.KIND else "duplicate"] += 1


class Silent(Nuisance):
    """Opens calls and says nothing; one that is cut off is opened again. A newcomer's first call is timed meanwhile."""

    def __init__(self, address: str, calls: int, seed: int):
        super().__init__(address, seed)
        self.calls, self.channel = calls, open_channel(self.target, self.organizer)
        self.open: list[Any] = []
        self.join_seconds: list[float] = []

    def turn(self) -> None:
        ended = [call for call in self.open if call.done()]
        self.counts["silent calls cut off"] += len(ended)
        self.open = [call for call in self.open if not call.done()]
        while len(self.open) < self.calls and not self._stopping.is_set():
            method = self.rng.choice(("Poll", "Join", "WatchStatus", "PutBlob"))
            self.open.append(self.channel.stream_stream(f"{SERVICE}/{method}")(self._nothing()))
            self.counts["silent calls"] += 1
        began, client = time.monotonic(), self.fresh()
        try:
            client.join("0.2.0")
        finally:
            self.join_seconds.append(time.monotonic() - began)
            client.close()

    def _nothing(self) -> Iterator[bytes]:
        self._stopping.wait()
        yield from ()

    def stop(self) -> None:
        super().stop()
        self.channel.close()


class Replayer(Nuisance):
    """Sends again what others have sent: the heartbeats of hosts that are gone, and an organizer's old commands."""

    def __init__(self, address: str, hosts: int, seed: int, commands: list[pb.Signed]):
        super().__init__(address, seed)
        self.commands = commands
        self.stub = CoordinatorStub(open_channel(self.target, self.organizer))
        self.clients = [self.fresh() for _ in range(hosts)]
        self.beats: list[pb.Visit] = []
        self._joined: list[Client] = []

    def _capture(self, client: Client) -> None:
        """One heartbeat of a host that then is gone, as it went over the wire. Raises Away while its stamp is made."""
        send: Callable = client.stub.Poll

        def tapped(message: pb.Visit, **more: object) -> object:
            reply = send(message, **more)
            self.beats.append(message)
            return reply

        client.stub.Poll = tapped
        try:
            client.poll(BEAT)
        finally:
            client.stub.Poll = send
        self.clients.remove(client)
        client.close()

    def turn(self) -> None:
        for client in tuple(self.clients):
            if client not in self._joined:
                client.join("0.2.0")
                self._joined.append(client)
            self._capture(client)
        for kind, method, messages in (
            ("heartbeats", self.stub.Poll, self.beats),
            ("commands", self.stub.ControlCampaign, self.commands),
        ):
            for message in messages:
                try:
                    method(message, timeout=10)
                    self.counts[f"{kind} accepted again"] += 1
                except grpc.RpcError as error:
                    refused = refusal(error)
                    code = error.code().name if isinstance(error, grpc.Call) else "no answer"
                    self.counts[f"{kind} again: {refused.reason if refused else code}"] += 1


def captured_commands(path: Path, campaign: str) -> list[pb.Signed]:
    """A pause and a resume of the organizer, as they went over the wire."""
    from coordinator.client import Organizer

    seen: list[pb.Signed] = []
    with Organizer(path) as organizer:
        send: Callable = organizer.stub.ControlCampaign

        def tapped(message: pb.Signed, **more: object) -> object:
            seen.append(message)
            return send(message, **more)

        organizer.stub.ControlCampaign = tapped
        for action in ("pause", "resume"):
            organizer.control(campaign, action)
    return seen
