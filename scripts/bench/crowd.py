"""A crowd of volunteers in one process, for `coordinator.py` beside this file: their calls, and none of their training.

Every volunteer has a key, a connection and a signature of its own. What they hand in was trained before the clock
starts, and they answer checks from what they know, so their processor time is that of calls and signatures.
"""

import asyncio
import os
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import grpc
import numpy as np

from protocol.canonical import sha256
from protocol.engine.select import select_engine
from protocol.engine.training import train_networks
from protocol.errors import Refused
from protocol.recipes.campaign import Assignment, Campaign
from protocol.rpc import coordinator_pb2 as pb
from protocol.rpc.channel import CHANNEL_OPTIONS, channel_credentials
from protocol.rpc.coordinator_pb2_grpc import CoordinatorStub
from protocol.rpc.wire import ENCLOSED_BYTES_MAX, chunks, from_wire, to_wire
from protocol.trust.challenge import SlotTask
from protocol.trust.commitment import Trace, leaf_of, traces_to_bytes
from protocol.trust.envelope import Message, seal, unseal
from protocol.trust.identity import Identity
from protocol.trust.messages import (
    ANSWERS_MAX,
    OPENED_MAX,
    Admission,
    BlobPart,
    CheckRequest,
    Draw,
    Heartbeat,
    Inbox,
    Opened,
    Result,
    Upload,
)
from protocol.trust.openings import slot_tasks
from protocol.trust.verdict import agreeing_answer, make_result

CALL_SECONDS = 120.0
RETRY_SECONDS = 1.0
CHALLENGE_SECONDS, CHECKS_FULL = 1.0, 8  # after handing in; in a full inbox: as `peer.state.replies` has it
TRAINED_AT_ONCE = 1024  # networks


@dataclass(slots=True)
class Trained:
    """One assignment as an honest volunteer has it on its disk."""

    assignment: Assignment
    traces: list[Trace]
    states: list[list[bytes]]  # by network, by boundary
    weights: bytes


@dataclass(slots=True)
class Tally:
    """What the crowd saw. Seconds, but for counts."""

    poll_seconds: list[float] = field(default_factory=list)
    outcome_seconds: list[float] = field(default_factory=list)  # from handing in to reading the outcome
    asked_seconds: list[float] = field(default_factory=list)  # how long the server said to wait
    settled_at: list[float] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)


def train(assignments: list[Assignment]) -> dict[str, dict[int, Trained]]:
    """By campaign and index. Trains on all cores."""
    engine = select_engine()
    found: dict[str, dict[int, Trained]] = {}
    boundaries: dict[tuple[str, int], list] = {}
    by_recipe: dict[str, list[Assignment]] = {}
    for assignment in assignments:
        by_recipe.setdefault(assignment.recipe.digest, []).append(assignment)
    for same in by_recipe.values():
        seeds = [seed for assignment in same for seed in assignment.seeds]
        for begin in range(0, len(seeds), TRAINED_AT_ONCE):
            batch = seeds[begin : begin + TRAINED_AT_ONCE]
            for seed, boundary in train_networks(engine, same[0].recipe, batch, os.cpu_count() or 1):
                boundaries.setdefault((same[0].recipe.digest, seed), []).append(boundary)
    for assignment in assignments:
        kept = [boundaries[assignment.recipe.digest, seed] for seed in assignment.seeds]
        found.setdefault(assignment.campaign, {})[assignment.index] = Trained(
            assignment=assignment,
            traces=[tuple(leaf_of(b.state, b.loss, b.held_out_loss) for b in network) for network in kept],
            states=[[b.state.to_bytes() for b in network] for network in kept],
            weights=b"".join(np.asarray(network[-1].state.params, "<f4").tobytes() for network in kept),
        )
    return found


class Crowd:
    """Volunteers of one campaign after another; `pace` (seconds) overrides what the server says, for comparison."""

    def __init__(self, address: str, number: int, campaigns: list[Campaign], pace: float | None = None):
        self.target, _, organizer = address.partition("/")
        self.credentials = channel_credentials(organizer)
        self.pace, self.tally = pace, Tally()
        self.campaigns = {campaign.digest: campaign for campaign in campaigns}
        self.trained: dict[str, dict[int, Trained]] = {}
        self.tasks: dict[bytes, tuple[list[SlotTask], Trained]] = {}  # of drawn results, by digest
        self.stopping = asyncio.Event()
        self._settled = asyncio.Condition()
        self.volunteers = [Volunteer(self, Identity.generate()) for _ in range(number)]
        self._in_turn = self._volunteers_in_turn()

    def _volunteers_in_turn(self) -> Iterator["Volunteer"]:
        while True:
            yield from self.volunteers

    def hand_in(self, trained: Trained) -> None:
        """The next volunteer has finished a bundle."""
        volunteer = next(self._in_turn)
        volunteer.finished.append(trained)
        volunteer.awake.set()

    async def all_settled(self, number: int) -> None:
        async with self._settled:
            await self._settled.wait_for(lambda: len(self.tally.settled_at) >= number)

    async def all_heard(self) -> None:
        """Every volunteer has asked once."""
        for volunteer in self.volunteers:
            await volunteer.heard.wait()

    async def note_outcome(self, outcome: str, seconds: float) -> None:
        self.tally.outcomes[outcome] += 1
        self.tally.outcome_seconds.append(seconds)
        self.tally.settled_at.append(time.perf_counter())
        async with self._settled:
            self._settled.notify_all()

    async def live(self, begin_over: float) -> list[asyncio.Task]:
        """Start all volunteers, spread over so many seconds."""
        count = len(self.volunteers)
        return [
            asyncio.create_task(volunteer.live(begin_over * i / count)) for i, volunteer in enumerate(self.volunteers)
        ]


class Volunteer:
    def __init__(self, crowd: Crowd, identity: Identity):
        self.crowd, self.identity = crowd, identity
        self.holding: dict[bytes, tuple[Trained, float]] = {}
        self.finished: list[Trained] = []
        self.answers: list[pb.Signed] = []  # for the next heartbeat
        self.opened: list[tuple[bytes, bytes]] = []  # for the next heartbeat: results, and their start states
        self.answered: set[tuple[bytes, int]] = set()
        self.awake, self.heard = asyncio.Event(), asyncio.Event()
        self.poll_at = 0.0  # on the monotonic clock

    async def live(self, after: float) -> None:
        options = [*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.secure_channel(self.crowd.target, self.crowd.credentials, options=options) as channel:
            self.stub = CoordinatorStub(channel)
            await asyncio.sleep(after)
            while not self.crowd.stopping.is_set():
                self.awake.clear()
                wait = await self.once()
                try:
                    await asyncio.wait_for(self.awake.wait(), wait)
                except TimeoutError:
                    continue

    async def once(self) -> float:
        """Hand in, ask, do what is asked for; the seconds until the next time."""
        try:
            while self.finished:
                await self.submit(self.finished[0])
                self.finished.pop(0)  # others may have come meanwhile
                self.poll_at = min(self.poll_at, time.monotonic() + CHALLENGE_SECONDS)
            if (wait := self.poll_at - time.monotonic()) > 0:
                return wait
            began = time.monotonic()
            inbox = await self.poll()
            await self.act(inbox)
        except grpc.aio.AioRpcError as error:
            self.crowd.tally.errors[f"{error.code().name} {error.details()}"[:90]] += 1
            return RETRY_SECONDS
        except (Refused, KeyError) as error:  # counted: a volunteer that ends would leave its results open
            self.crowd.tally.errors[repr(error)[:90]] += 1
            return RETRY_SECONDS
        wait = self.wait_after(inbox, time.monotonic() - began)
        self.poll_at = time.monotonic() + wait
        return wait

    def wait_after(self, inbox: Inbox, lasted: float) -> float:
        """Seconds until the next heartbeat, by the rules of `peer.state`."""
        if self.crowd.pace is not None:
            return self.crowd.pace
        asked = inbox.ask_again_seconds
        self.crowd.tally.asked_seconds.append(asked)
        if not self.answers and not self.opened:
            return asked
        return 0.0 if len(inbox.checks) >= CHECKS_FULL else max(0.0, inbox.gather_seconds - lasted)

    async def call(self, name: str, request):
        self.crowd.tally.calls[name] += 1
        return await getattr(self.stub, name)(request, timeout=CALL_SECONDS)

    def sealed(self, message: Message) -> pb.Signed:
        return to_wire(seal(self.identity, message))

    async def poll(self) -> Inbox:
        opened, self.opened = self.opened[:OPENED_MAX], self.opened[OPENED_MAX:]
        beat = Heartbeat(
            nonce=secrets.token_bytes(16),
            name="crowd",
            device="cpu",
            version="bench",
            steps_per_second=1000.0,
            networks_trained=0,
            checks_done=0,
            holding=tuple(list(self.holding)[:64]),
            issued_at=time.time(),
            opened=tuple(Opened(result=result, states=sha256(data)) for result, data in opened),
        )
        answers, self.answers = self.answers[:ANSWERS_MAX], self.answers[ANSWERS_MAX:]
        request = pb.Visit(heartbeat=self.sealed(beat), answers=answers, states=[data for _, data in opened])
        began = time.perf_counter()
        reply = await self.call("Poll", request)
        self.crowd.tally.poll_seconds.append(time.perf_counter() - began)
        self.heard.set()
        for refused in filter(None, [*reply.refused, *reply.refused_states]):
            self.crowd.tally.errors[refused[:90]] += 1
        return unseal(from_wire(reply.inbox), Inbox)

    async def act(self, inbox: Inbox) -> None:
        for envelope in inbox.outcomes:
            admission = unseal(envelope, Admission)
            held = self.holding.pop(admission.result, None)
            if held is not None:
                await self.crowd.note_outcome(admission.outcome, time.perf_counter() - held[1])
        for digest, part in inbox.missing:
            if digest in self.holding:
                await self.upload(digest, BlobPart(part))
        for opening in inbox.openings:
            if opening.result in self.holding:
                states = self.holding[opening.result][0].states
                data = b"".join(states[cell.network][cell.segment] for cell in opening.cells)
                self.opened.append((opening.result, data))
        for request in inbox.checks:
            await self.check(request)

    async def submit(self, trained: Trained) -> None:
        result = make_result(trained.assignment, trained.traces, self.identity.host, "bench")
        envelope = seal(self.identity, result)
        began = time.perf_counter()
        trace, weights = traces_to_bytes(trained.traces), trained.weights
        small = len(trace) + len(weights) <= ENCLOSED_BYTES_MAX
        beside = {"trace": trace, "weights": weights} if small else {}
        await self.call("SubmitResult", pb.Submission(result=to_wire(envelope), **beside))
        self.holding[envelope.digest] = trained, began
        for part in () if small else (BlobPart.TRACE, BlobPart.WEIGHTS):
            await self.upload(envelope.digest, part)

    async def upload(self, digest: bytes, part: BlobPart) -> None:
        trained = self.holding[digest][0]
        await self.put(digest, part, traces_to_bytes(trained.traces) if part is BlobPart.TRACE else trained.weights)

    async def put(self, digest: bytes, part: BlobPart, data: bytes) -> None:
        upload = seal(self.identity, Upload(result=digest, part=part, size=len(data)))
        await self.call("PutBlob", chunks(data, upload))

    async def get(self, digest: bytes, part: BlobPart, slot: int) -> None:
        self.crowd.tally.calls["GetBlob"] += 1
        async for _ in self.stub.GetBlob(pb.BlobRequest(result=digest, part=part, slot=slot), timeout=CALL_SECONDS):
            pass

    # -- checking ------------------------------------------------------------------------------------------------

    async def check(self, request: CheckRequest) -> None:
        digest = request.result.digest
        if (digest, request.slot) in self.answered:
            return
        task, trained = self.task_of(request)
        if len(request.enclosed_states) != request.states:
            await self.get(digest, BlobPart.STATES, request.slot)
        if not request.enclosed_weights:
            await self.get(digest, BlobPart.WEIGHTS, request.slot)
        answer = agreeing_answer(digest, request.slot, task, trained.traces, "bench")
        self.answers.append(self.sealed(answer))
        self.answered.add((digest, request.slot))

    def task_of(self, request: CheckRequest) -> tuple[SlotTask, Trained]:
        """Worked out once for all checkers of a result: real ones have processors of their own for it."""
        digest = request.result.digest
        if digest not in self.crowd.tasks:
            result, draw = unseal(request.result, Result), unseal(request.draw, Draw)
            trained = self.crowd.trained[result.campaign][result.assignment]
            campaign = self.crowd.campaigns[result.campaign]
            self.crowd.tasks[digest] = slot_tasks(campaign, trained.assignment, result, digest, draw), trained
        tasks, trained = self.crowd.tasks[digest]
        return tasks[request.slot], trained
