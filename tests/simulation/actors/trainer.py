"""A host's training process: one thing at a time, spot checks first, every segment on disk before the next.

What it computes is what honest hosts compute, or what its owner's kind of lie makes of it. How long it takes follows
from the host's speed and from how much is really computed.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from peer.state import AssignmentId, CheckId, events
from protocol.engine import State
from protocol.recipes.campaign import Assignment
from protocol.trust.messages import Answer, Cell
from protocol.trust.openings import CheckTask
from protocol.trust.spot_check import open_weights, spot_check
from protocol.trust.verdict import agreeing_answer
from simulation.actors.liars import CHEAP, LIES, RING, WORK, Kind, Networks
from simulation.environment.disk import DiskFull
from simulation.environment.engine import HashEngine
from simulation.environment.kernel import Timer, branch

if TYPE_CHECKING:
    from simulation.actors.host import Host

START_SECONDS = 2.0  # from starting the process to its first words


class CheckJob(msgspec.Struct, frozen=True):
    """A fetched and verified check."""

    task: CheckTask
    states: dict[Cell, State]
    weights: bytes


class Trainer:
    """Tells `say` what happened. `stop` ends it, with a last word or, in a crash, without."""

    def __init__(self, host: "Host", say: Callable[[events.Event], None]):
        self.host, self.say = host, say
        self.engine = HashEngine("simulated")
        self._checks: list[CheckId] = []
        self._assignments: list[AssignmentId] = []
        self._ready = False
        self._timer: Timer = host.world.kernel.after(START_SECONDS, self._started)

    def _started(self) -> None:
        self._ready = True
        self.say(events.TrainerReady("", 0))
        self._go_on()

    @property
    def running(self) -> bool:
        return self._ready

    def stop(self) -> None:
        self._timer.cancel()
        self._ready = False

    def train(self, assignment: AssignmentId) -> None:
        if assignment not in self._assignments:
            self._assignments.append(assignment)
            self._go_on()

    def drop(self, assignment: AssignmentId) -> None:
        if assignment in self._assignments:
            self._assignments.remove(assignment)

    def check(self, check: CheckId) -> None:
        if check not in self._checks:
            self._checks.append(check)
            self._go_on()

    def _go_on(self) -> None:
        """Begin the next thing, unless one is under way."""
        if not self._ready or not self._timer.over:
            return
        kernel, segment = self.host.world.kernel, self.host.world.options.segment_seconds / self.host.speed
        if self._checks:
            job = self.host.jobs.get(self._checks[0])
            cells = len(job.task.task.cells) if job is not None else 0
            work = CHEAP if job is not None and self._friendly(job.task.worker) else max(1, cells)
            self._timer = kernel.after(work * segment, self._checked)
        elif self._assignments:
            bundle = self.host.disk.bundles.get(self._assignments[0].index)
            cells = len(bundle.untrained()) if bundle is not None else 0
            lies_as = self.host.lies_as
            share = WORK.get(lies_as, 1.0) if lies_as is not None else 1.0
            self._timer = kernel.after(max(cells, 0.1) * segment * share, self._segment)

    # -- training -------------------------------------------------------------------------------------------------

    def _segment(self) -> None:
        """One more boundary of every network that is not final, on disk; then the next thing."""
        if not self._assignments:
            return
        assignment = self._assignments[0]
        bundle = self.host.disk.bundles.get(assignment.index)
        finished = []
        try:
            if bundle is None:
                raise DiskFull("it could not be created")
            plan = self.plan(bundle.assignment)
            for seed in bundle.untrained():
                path = bundle.paths[seed]
                if not path:
                    self.host.disk.append(assignment.index, seed, plan[seed][0])
                if not path[-1].final:
                    self.host.disk.append(assignment.index, seed, plan[seed][len(path)])
                    self.host.world.counts["segments trained"] += 1
                if path[-1].final:
                    finished.append(seed)
        except DiskFull:
            self.stop()
            self.say(events.TrainerDied(1))
            return
        for seed in finished:
            self.say(events.NetworkTrained(assignment, seed))
        if not bundle.untrained() and self._assignments and self._assignments[0] == assignment:
            self._assignments.pop(0)
            self.say(events.AssignmentTrained(assignment, self.engine.name))
        self._go_on()

    def plan(self, assignment: Assignment) -> Networks:
        """All boundaries that this host will have: the true ones, or what its owner makes of them."""
        truth = self.host.world.truth
        honest = truth.boundaries(assignment)
        key = assignment.index
        if key not in self.host.plans:
            lies_as = self.host.lies_as
            lie = LIES.get(lies_as) if lies_as is not None else None
            rng = branch(self.host.world.options.seed, "lie", self.host.name, key)
            self.host.plans[key] = lie(truth, assignment.recipe, honest, rng) if lie is not None else honest
        return self.host.plans[key]

    # -- checking -------------------------------------------------------------------------------------------------

    def _checked(self) -> None:
        check = self._checks.pop(0)
        job = self.host.jobs.get(check)
        if job is None:
            self.say(events.CheckFailed(check, "the job is gone"))
        else:
            answer = self._replay(job)
            self.host.world.counts["segments replayed"] += len(answer.cells)
            self.say(events.CheckAnswered(check, answer))
        self._go_on()

    def _friendly(self, worker: str) -> bool:
        """Whether there is nothing to compute: what a friend wants to hear is known."""
        return self.host.kind in RING and self.host.world.by_host[worker].kind in RING

    def _replay(self, job: CheckJob) -> Answer:
        task = job.task
        weights = open_weights(task.assignment.recipe, job.weights, len(task.assignment.seeds))
        if self._friendly(task.worker):
            row = self.host.world.organizer.ledger.rows[task.result_digest]
            return agreeing_answer(task.result_digest, task.slot, task.task, row.traces, "friend")
        answer = spot_check(self.engine, task.assignment, task.result_digest, task.slot, task.task, job.states, weights)
        return accuse(answer) if self.host.kind is Kind.ACCUSER else answer


def accuse(answer: Answer) -> Answer:
    """As if every segment had ended elsewhere."""
    cells = tuple(msgspec.structs.replace(cell, params_digest=bytes(32)) for cell in answer.cells)
    networks = tuple(msgspec.structs.replace(n, initial_params_digest=bytes(32)) for n in answer.networks)
    return msgspec.structs.replace(answer, cells=cells, networks=networks)
