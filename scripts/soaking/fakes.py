"""A bundle that was never trained, but hangs together until somebody replays a segment of it."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from protocol.engine import Engine, State
from protocol.engine.initial import initial_state
from protocol.engine.streams import task_data
from protocol.engine.training import is_final, look, segment_length
from protocol.recipes.campaign import Assignment
from protocol.trust.challenge import SlotTask
from protocol.trust.commitment import Leaf, Trace, leaf_of, traces_to_bytes
from protocol.trust.envelope import Envelope, seal
from protocol.trust.identity import Identity
from protocol.trust.messages import Answer, Cell
from protocol.trust.verdict import agreeing_answer, make_result


@dataclass(frozen=True)
class Fake:
    """Networks that stay as they began; their first state and their held-out loss are true, nothing between is."""

    assignment: Assignment
    starts: tuple[State, ...]
    traces: tuple[Trace, ...]

    def signed(self, identity: Identity) -> Envelope:
        return seal(identity, make_result(self.assignment, self.traces, identity.host, "c"))

    @cached_property
    def trace_blob(self) -> bytes:
        return traces_to_bytes(list(self.traces))

    @cached_property
    def weights_blob(self) -> bytes:
        return b"".join(np.asarray(start.params, "<f4").tobytes() for start in self.starts)

    def states_blob(self, cells: tuple[Cell, ...]) -> bytes:
        return b"".join(self._state(cell).to_bytes() for cell in cells)

    def _state(self, cell: Cell) -> State:
        start = self.starts[cell.network]
        return State(step=self.traces[cell.network][cell.segment].step, params=start.params, moments=start.moments)

    def vouch(self, result: bytes, slot: int, task: SlotTask) -> Answer:
        """What a checker says that has the worker's own digests, and computes nothing."""
        return agreeing_answer(result, slot, task, self.traces, "c")


def fake_bundle(engine: Engine, assignment: Assignment) -> Fake:
    """Costs one look at the held-out data a network. Only for recipes without a data set."""
    recipe = assignment.recipe
    starts = [initial_state(recipe, seed) for seed in assignment.seeds]
    seen = look(engine, recipe, task_data(recipe), starts)
    traces = tuple(_trace(assignment, leaf_of(b.state, 0.0, b.held_out_loss)) for b in seen)
    return Fake(assignment, tuple(starts), traces)


def _trace(assignment: Assignment, first: Leaf) -> Trace:
    recipe, leaves = assignment.recipe, [first]
    while not is_final(recipe, leaves[-1].step, first.held_out_loss):
        step = leaves[-1].step + segment_length(recipe, leaves[-1].step)
        leaves.append(
            Leaf(
                step=step,
                params_digest=first.params_digest,
                moments_digest=first.moments_digest,
                loss=float(np.float32(first.held_out_loss)),
                held_out_loss=first.held_out_loss,
            )
        )
    return tuple(leaves)
