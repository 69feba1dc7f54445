"""A volunteer in a few lines, from protocol/ alone: tests say what it does, and what it does wrong."""

import itertools
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import msgspec
import numpy as np

from coordinator.policy.actions import NewsKind
from coordinator.server.coordinator import Coordinator
from coordinator.server.directory import open_directory
from coordinator.server.serving import serve, stop
from protocol.canonical import sha256
from protocol.engine import Engine, state_bytes_length
from protocol.engine.select import select_engine
from protocol.engine.training import Boundary, train_networks
from protocol.recipes.campaign import Assignment, Campaign, Policy, Population
from protocol.recipes.layers import Gru, Linear
from protocol.recipes.recipe import Network, Recipe, Training
from protocol.rpc import coordinator_pb2 as pb
from protocol.rpc.channel import open_channel
from protocol.rpc.coordinator_pb2_grpc import CoordinatorStub
from protocol.rpc.wire import chunks, collect, from_wire, to_wire
from protocol.tasks.kinds import MachineTask
from protocol.trust.challenge import BeaconChains
from protocol.trust.commitment import Trace, leaf_of, traces_to_bytes
from protocol.trust.envelope import Envelope, Message, seal, unseal
from protocol.trust.identity import Identity
from protocol.trust.messages import (
    Admission,
    Answer,
    BlobPart,
    CampaignManifest,
    CheckRequest,
    ControlCampaign,
    Heartbeat,
    Inbox,
    ModerateHost,
    Opened,
    Receipt,
    SeedCampaign,
    Upload,
    UploadData,
)
from protocol.trust.openings import match_states, open_check_request
from protocol.trust.spot_check import open_states, open_weights, spot_check
from protocol.trust.verdict import make_result

RECIPE = Recipe(
    name="tiny",
    label="xor",
    task=MachineTask(machine="SimpleXORMachine", length=4, sequences=64, held_out=16),
    network=Network(layers=(Gru(width=3), Linear(width=20))),
    training=Training(learning_rate=0.02, batch=8, max_steps=60, segment_steps=10),
)
POLICY = Policy(
    probation_bundles=0,  # all stand at once: what depends on standing is in test_standing
    probation_checkers=2,
    probation_cells=3,
    checkers=2,
    cells=3,
    epoch_seconds=5.0,
    opening_seconds=60.0,
    answer_seconds=20.0,
    faults_before_ban=2,
    audit_share=0.0,  # chance has no say where a test does not ask for it
)
CAMPAIGN = Campaign(name="test", populations=(Population(recipe=RECIPE, count=8, bundle=2),), policy=POLICY)
C = TypeVar("C", SeedCampaign, ControlCampaign, UploadData, ModerateHost)
_engines: dict[str, Engine] = {}
_trained: dict[tuple[str, tuple[int, ...]], dict[int, list[Boundary]]] = {}


def engine() -> Engine:
    return _engines.setdefault("auto", _engines.get("auto") or select_engine())


def trained(assignment: Assignment) -> dict[int, list[Boundary]]:
    """Boundaries by seed; trained once for all tests, it is a pure function."""
    key = assignment.recipe.digest, tuple(assignment.seeds)
    if key not in _trained:
        found: dict[int, list[Boundary]] = {seed: [] for seed in assignment.seeds}
        for seed, boundary in train_networks(engine(), assignment.recipe, assignment.seeds, len(found)):
            found[seed].append(boundary)
        _trained[key] = found
    return _trained[key]


class Clock:
    """The coordinator's clock; tests move it."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Stage:
    """A coordinator on a directory, served on loopback without a DHT; `restart` kills and reopens it."""

    def __init__(self, path, *, stamp_bits: int = 0, **options):
        self.path, self.clock, self.options, self.stamp_bits = path, Clock(), options, stamp_bits
        for kept in ("shared_seconds", "status_seconds"):
            options.setdefault(kept, 0.0)  # tests look right after they act
        self._issued = itertools.count()
        self.news: list = []
        self.hosts: list[ScriptedHost] = []
        self.open()

    def open(self) -> None:
        self.core = Coordinator(
            open_directory(self.path, chain_length=256),
            clock=self.clock,
            on_news=self.news.append,
            **self.options,
        )
        self.server, self.service, self.port = serve(self.core, "127.0.0.1:0", stamp_bits=self.stamp_bits)
        for host in self.hosts:
            host.connect(self.port, self.core.identity.host)

    def seed(self, campaign: Campaign = CAMPAIGN) -> None:
        stub = CoordinatorStub(open_channel(f"127.0.0.1:{self.port}", self.core.identity.host))
        stub.SubmitCampaign(to_wire(seal(self.core.identity, self.issued(SeedCampaign(campaign=campaign.exact)))))

    def issued(self, command: C) -> C:
        """An organizer's command, newer than all before."""
        at = self.clock.now + 1e-4 * next(self._issued)
        return msgspec.structs.replace(command, issued_at=at, nonce=secrets.token_bytes(16))

    def host(self, name: str) -> "ScriptedHost":
        self.hosts.append(ScriptedHost(name, self.port, self.core.identity.host, self.clock))
        return self.hosts[-1]

    def settle(self, until: Callable[[], object], seconds: float = 90.0) -> None:
        """Let the referee work until something is so; the fake clock stands still meanwhile."""
        deadline = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < deadline, f"nothing more happens: {self.news[-3:]}"
            self.core.woken.set()
            self.core.tick()
            time.sleep(0.005)

    def refused(self) -> dict[tuple[str, str], int]:
        """(reason, host) -> times."""
        self.core.stores.ledger.write(lambda connection: None)  # what was posted before is written now
        return {(r.reason, r.host): r.count for r in self.core.status().refusals}

    def kinds(self) -> list[NewsKind]:
        return [news.kind for news in self.news]

    def close(self) -> None:
        stop(self.server, self.service, 0.1)
        self.core.close()

    def restart(self) -> None:
        """As after SIGKILL: nothing is flushed that was not durable already; only the lock has to go."""
        stop(self.server, self.service, 0.1)
        self.core.stop()
        self.core.directory.close()
        self.open()


class ScriptedHost:
    def __init__(self, name: str, port: int = 1, organizer: str | None = None, clock: Clock | None = None):
        self.clock, self._beats = clock or Clock(), itertools.count()
        self.name, self.identity = name, Identity.generate()
        self.host, self.stamp = self.identity.host, b""
        self.connect(port, organizer or self.host)

    def connect(self, port: int, organizer: str) -> None:
        self.stub = CoordinatorStub(open_channel(f"127.0.0.1:{port}", organizer))

    def sealed(self, message: Message) -> pb.Signed:
        return to_wire(seal(self.identity, message))

    # -- training ------------------------------------------------------------------------------------------------

    def traces(self, assignment: Assignment, lie: Callable[[list[Boundary]], list[Boundary]] | None = None):
        return [
            tuple(leaf_of(b.state, b.loss, b.held_out_loss) for b in (lie(list(kept)) if lie else kept))
            for kept in trained(assignment).values()
        ]

    def result(self, index: int, traces: list[Trace] | None = None, **changes) -> Envelope:
        assignment = CAMPAIGN.assignment(index)
        traces = traces or self.traces(assignment)
        result = make_result(assignment, traces, self.host, "test")
        return seal(self.identity, msgspec.structs.replace(result, **changes))

    def weights(self, index: int) -> bytes:
        kept = trained(CAMPAIGN.assignment(index)).values()
        return b"".join(np.asarray(b[-1].state.params, "<f4").tobytes() for b in kept)

    # -- calls ---------------------------------------------------------------------------------------------------

    def submit(self, envelope: Envelope, trace: bytes = b"", weights: bytes = b"") -> Receipt | Admission:
        request = pb.Submission(result=to_wire(envelope), trace=trace, weights=weights)
        reply = from_wire(self.stub.SubmitResult(request))
        return unseal(reply, Receipt if reply.kind == Receipt.KIND else Admission)

    def put(self, result: bytes, part: str, data: bytes, size: int | None = None) -> None:
        upload = seal(
            self.identity, Upload(result=result, part=BlobPart(part), size=len(data) if size is None else size)
        )
        self.stub.PutBlob(chunks(data, upload))

    def poll(self, *holding: bytes, name: str | None = None) -> Inbox:
        return unseal(from_wire(self.visit(*holding, name=name).inbox), Inbox)

    def answer(self, envelope: Envelope) -> str:
        """Send an answer to a check; why it is refused, in one word, or ""."""
        return self.visit(answers=(envelope,)).refused[0].partition(":")[0]

    def visit(
        self,
        *holding: bytes,
        name: str | None = None,
        answers: Sequence[Envelope] = (),
        opened: Sequence[tuple[bytes, bytes]] = (),
        sent: Sequence[bytes] | None = None,
    ) -> pb.Visited:
        """`opened`: results and their start states that are named; `sent`: what goes along, if that is another."""
        beat = Heartbeat(
            nonce=b"n" * 16,
            name=name or self.name,
            device="cpu",
            version="test",
            steps_per_second=1000.0,
            networks_trained=0,
            checks_done=0,
            holding=holding,
            issued_at=self.clock.now + 1e-4 * next(self._beats),
            stamp=self.stamp,
            opened=tuple(Opened(result=result, states=sha256(states)) for result, states in opened),
        )
        states = [states for _, states in opened] if sent is None else sent
        return self.stub.Poll(pb.Visit(heartbeat=self.sealed(beat), answers=map(to_wire, answers), states=states))

    # -- the honest way ------------------------------------------------------------------------------------------

    def commit(self, index: int, traces: list[Trace] | None = None) -> bytes:
        """Hand in a result with its trace and weights; the digest."""
        self.poll()  # as everybody does: of one who was never heard nobody knows the network
        envelope = self.result(index, traces)
        receipt = self.submit(envelope)
        assert isinstance(receipt, Receipt) and receipt.result == envelope.digest
        self.put(envelope.digest, "trace", traces_to_bytes(traces or self.traces(CAMPAIGN.assignment(index))))
        self.put(envelope.digest, "weights", self.weights(index))
        return envelope.digest

    def states(self, index: int, cells, lie: Callable[[list[Boundary]], list[Boundary]] | None = None) -> bytes:
        kept = list(trained(CAMPAIGN.assignment(index)).values())
        kept = [lie(list(k)) if lie else k for k in kept]
        return b"".join(kept[cell.network][cell.segment].state.to_bytes() for cell in cells)

    def open(self, digest: bytes, index: int, lie=None) -> bool:
        """Answer the challenge, if there is one; False when there is none yet."""
        requests = [r for r in self.poll(digest).openings if r.result == digest]
        for request in requests:
            self.put(digest, "states", self.states(index, request.cells, lie))
        return bool(requests)

    def outcome(self, digest: bytes) -> Admission | None:
        found = [unseal(envelope, Admission) for envelope in self.poll(digest).outcomes]
        return found[0] if found else None

    def answers(self, lie: Callable[[Answer], Answer] | None = None) -> Iterator[Envelope]:
        """Replay every check in the inbox, verifying all of it first."""
        for request in self.poll().checks:
            answer = self.replay(request)
            yield seal(self.identity, lie(answer) if lie else answer)

    def check(self, lie: Callable[[Answer], Answer] | None = None) -> int:
        done = 0
        for envelope in self.answers(lie):
            assert self.answer(envelope) == ""
            done += 1
        return done

    def replay(self, request: CheckRequest) -> Answer:
        reply = self.stub.GetCampaign(pb.CampaignRequest(digest=CAMPAIGN.digest))
        organizer = reply.manifest.signer
        manifest = unseal(from_wire(reply.manifest), CampaignManifest, signer=organizer)
        task = open_check_request(request, CAMPAIGN, manifest, organizer, self.host, BeaconChains())
        recipe = task.assignment.recipe
        states = open_states(
            recipe, self.get(task.result_digest, "states", task.slot, request.states), task.task.opened
        )
        assert request.states == state_bytes_length(recipe) * len(task.task.opened)
        match_states(task, states)
        count = len(task.assignment.seeds)
        weights = self.get(task.result_digest, "weights", task.slot, 4 * recipe.parameter_count * count)
        opened = open_weights(recipe, weights, count)
        return spot_check(engine(), task.assignment, task.result_digest, task.slot, task.task, states, opened)

    def get(self, digest: bytes, part: str, slot: int, size: int) -> bytes:
        return collect(self.stub.GetBlob(pb.BlobRequest(result=digest, part=part, slot=slot)), size)


def skip_training(boundaries: list[Boundary]) -> list[Boundary]:
    """A lie that hangs together until somebody replays it: the segments before the last were never trained."""
    fake = [boundaries[0]]
    for i, honest in enumerate(boundaries[1:-1], start=1):
        state = type(honest.state)(
            step=honest.step,
            params=(boundaries[0].state.params + np.float32(0.001 * i)).astype(np.float32),
            moments=np.zeros_like(honest.state.moments),
        )
        fake.append(Boundary(step=honest.step, state=state, loss=0.2, held_out_loss=honest.held_out_loss, final=False))
    return [*fake, boundaries[-1]]
