"""A whole coordinator in memory and in one thread, and hosts that call its handlers: honest ones, a ring of liars."""

from collections.abc import Callable

import numpy as np
from support.inline import InlineExecutor
from support.scripted_host import Clock, ScriptedHost, engine, trained

from coordinator.checking.beacon import Beacon
from coordinator.server.coordinator import Coordinator
from coordinator.server.directory import memory_directory
from protocol.engine.training import Boundary
from protocol.recipes.campaign import Campaign
from protocol.trust.commitment import Trace, leaf_of, traces_to_bytes
from protocol.trust.envelope import seal, unseal
from protocol.trust.identity import Identity
from protocol.trust.messages import (
    Admission,
    BlobPart,
    Heartbeat,
    Inbox,
    Upload,
)
from protocol.trust.verdict import agreeing_answer, make_result

Lie = Callable[[list[Boundary]], list[Boundary]]


class Room:
    """A coordinator in memory, and hosts that call its handlers."""

    def __init__(self, path, campaign: Campaign) -> None:
        self.campaign, self.clock, self.news = campaign, Clock(), []
        self.directory = memory_directory(path, Identity.generate(), Beacon(b"s" * 32, 64))
        self.start()

    def start(self) -> None:
        self.core = Coordinator(
            self.directory,
            clock=self.clock,
            on_news=self.news.append,
            shared_seconds=0.0,
            executor=InlineExecutor(),
            engines=lambda replay: engine(),
        )

    def seed(self) -> None:
        self.core.commands.seed_campaign(self.campaign.exact)

    def tick(self, seconds: float = 6.0) -> None:
        self.clock.now += seconds
        for _ in range(5):  # a link, a draw, the checks, their answers, the outcome
            self.core.woken.set()
            self.core.tick()

    def put(self, host: ScriptedHost, digest: bytes, part: str, data: bytes) -> None:
        announced = seal(host.identity, Upload(result=digest, part=BlobPart(part), size=len(data)))
        case, upload, have = self.core.handlers.open_upload(announced)
        assert not have
        self.core.handlers.store_parts(case, {upload.part: data})

    def poll(self, host: ScriptedHost, *holding: bytes) -> Inbox:
        beat = Heartbeat(
            nonce=b"n" * 16,
            name=host.name,
            device="",
            version="",
            steps_per_second=1.0,
            networks_trained=0,
            checks_done=0,
            holding=holding,
        )
        return self.core.inboxes.inbox(host.host, beat)

    def audit(self) -> int:
        """Audits and judgements until none is begun any more; how many."""
        done = 0
        while begun := self.core.audit():
            done += begun
            assert done < 1000, "audits are begun for ever"
        return done

    def boundaries(self, index: int, lie: Lie | None = None) -> list[list[Boundary]]:
        """Of each network; what training gave, or what a liar makes of it."""
        return [lie(list(kept)) if lie else kept for kept in trained(self.campaign.assignment(index)).values()]

    def traces(self, index: int, lie: Lie | None = None) -> list[Trace]:
        return [tuple(leaf_of(b.state, b.loss, b.held_out_loss) for b in kept) for kept in self.boundaries(index, lie)]

    def commit(self, host: ScriptedHost, index: int, lie: Lie | None = None) -> bytes:
        """Hand in a result with its trace and weights; the digest."""
        traces = self.traces(index, lie)
        result = make_result(self.campaign.assignment(index), traces, host.host, "test")
        envelope = seal(host.identity, result)
        self.core.handlers.submit_result(envelope)
        weights = [np.asarray(kept[-1].state.params, "<f4").tobytes() for kept in self.boundaries(index, lie)]
        self.put(host, envelope.digest, "trace", traces_to_bytes(traces))
        self.put(host, envelope.digest, "weights", b"".join(weights))
        return envelope.digest

    def open(self, host: ScriptedHost, digest: bytes, index: int, lie: Lie | None = None) -> None:
        """Upload the start states that the challenge asks for."""
        boundaries = self.boundaries(index, lie)
        for opening in [asked for asked in self.poll(host, digest).openings if asked.result == digest]:
            states = [boundaries[cell.network][cell.segment].state.to_bytes() for cell in opening.cells]
            self.put(host, digest, "states", b"".join(states))

    def vouch(self, host: ScriptedHost, index: int, lie: Lie | None = None) -> int:
        """Answer every check with what the worker's leaves say, without computing; how many."""
        checks = self.poll(host).checks
        for check in checks:
            self.say(host, check.result.digest, check.slot, index, lie)
        return len(checks)

    def say(self, host: ScriptedHost, digest: bytes, slot: int, index: int, lie: Lie | None = None) -> None:
        """Answer for a slot what these leaves say."""
        task = self.core.stores.cases.get(digest).tasks[slot]
        answer = agreeing_answer(digest, slot, task, self.traces(index, lie), "none")
        self.core.handlers.begin_answer(seal(host.identity, answer))()

    def admit(self, host: ScriptedHost, index: int, *ring: ScriptedHost, lie: Lie | None = None) -> bytes:
        """From the commitment to the admission; whoever of `ring` is asked to check vouches without computing."""
        digest = self.commit(host, index, lie)
        for other in ring:
            self.poll(other)
        self.tick()
        self.open(host, digest, index, lie)
        self.tick()
        for other in ring:
            self.vouch(other, index, lie)
        self.tick()
        (outcome,) = self.poll(host, digest).outcomes
        assert unseal(outcome, Admission).outcome == "admitted"
        return digest
