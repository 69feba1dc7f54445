"""Judging: does a result hang together, and does an answer agree with what the worker committed to? Pure functions."""

import math
import struct
from collections.abc import Sequence

import msgspec

from protocol.engine.training import is_final
from protocol.errors import Refused
from protocol.recipes.campaign import Assignment, Campaign
from protocol.recipes.recipe import Recipe
from protocol.trust.challenge import SlotTask
from protocol.trust.commitment import (
    Leaf,
    Trace,
    commitment,
    context,
    network_result,
    trace_root,
    traces_from_bytes,
)
from protocol.trust.envelope import Envelope, unseal
from protocol.trust.messages import Answer, Cell, CellAnswer, NetworkAnswer, Result


def boundaries_of(recipe: Recipe, steps: int) -> int:
    """How many boundaries a network has that stopped at `steps`: state 0, then one a segment. Raises Refused."""
    training = recipe.training
    if steps > training.max_steps or (steps % training.segment_steps and steps != training.max_steps):
        raise Refused("result-steps", f"no network of this recipe stops at step {steps}")
    return 1 + -(-steps // training.segment_steps)


def make_result(assignment: Assignment, traces: Sequence[Trace], host: str, backend: str) -> Result:
    """The worker's claim about a finished bundle, for it to sign: what `open_result` and `open_traces` check."""
    ctx = context(assignment.campaign, assignment.index, host)
    networks = tuple(network_result(ctx, *pair) for pair in zip(assignment.seeds, traces, strict=True))
    return Result(
        campaign=assignment.campaign,
        assignment=assignment.index,
        engine=assignment.recipe.engine,
        backend=backend,
        commitment=commitment(ctx, networks),
        networks=networks,
    )


def open_result(envelope: Envelope, campaign: Campaign) -> tuple[Result, Assignment]:
    """A worker's signed result, checked against the campaign. Raises Refused with the reason."""
    result = unseal(envelope, Result)
    if result.campaign != campaign.digest:
        raise Refused("result-campaign", "the result is for another campaign")
    if result.assignment >= campaign.assignment_count:
        raise Refused("result-assignment", f"there is no assignment {result.assignment}")
    assignment = campaign.assignment(result.assignment)
    if result.engine != assignment.recipe.engine:
        raise Refused("result-engine", f"{result.engine[:40]!r}; its recipe is of {assignment.recipe.engine}")
    if tuple(network.seed for network in result.networks) != assignment.seeds:
        raise Refused("result-seeds", "the networks are not those of the assignment")
    for network in result.networks:
        boundaries_of(assignment.recipe, network.steps)
        if not math.isfinite(network.held_out_loss):
            raise Refused("result-loss", f"seed {network.seed}: the held-out loss is not finite")
    return result, assignment


def segments_of(recipe: Recipe, result: Result) -> list[int]:
    return [boundaries_of(recipe, network.steps) - 1 for network in result.networks]


def open_traces(data: bytes, result: Result, assignment: Assignment, worker: str) -> list[Trace]:
    """The uploaded traces, proved to be the committed ones and to follow the stop rule. Raises Refused."""
    recipe = assignment.recipe
    traces = traces_from_bytes(data, [count + 1 for count in segments_of(recipe, result)])
    ctx = context(result.campaign, result.assignment, worker)
    for network, trace in zip(result.networks, traces, strict=True):
        where = f"seed {network.seed}"
        for i, leaf in enumerate(trace):
            step = min(i * recipe.training.segment_steps, recipe.training.max_steps)
            last = i == len(trace) - 1
            if leaf.step != step or not (math.isfinite(leaf.loss) and math.isfinite(leaf.held_out_loss)):
                raise Refused("trace-leaf", f"{where}: boundary {i} has a wrong step or a loss that is not finite")
            if is_final(recipe, step, leaf.held_out_loss) != last:
                raise Refused("trace-stop", f"{where}: the trace does not end where the stop rule says")
        if trace_root(ctx, network.seed, trace) != network.trace_root:
            raise Refused("trace-root", f"{where}: the trace is not the committed one")
        if trace[-1].params_digest != network.weights_digest:
            raise Refused("trace-weights", f"{where}: the final weights are not those of the trace")
        if trace[-1].held_out_loss != network.held_out_loss:
            raise Refused("trace-loss", f"{where}: the held-out loss is not that of the trace")
    if commitment(ctx, result.networks) != result.commitment:
        raise Refused("commitment", "the traces are not under the committed root")
    return traces


def _bits(value: float) -> bytes:
    return struct.pack("<f", value)


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """One answer against the trace: everything asked for, and what disagrees."""

    cells: int
    bad_cells: tuple[Cell, ...]
    bad_networks: tuple[int, ...]  # state 0 or held-out loss disagrees

    @property
    def valid(self) -> bool:
        return not self.bad_cells and not self.bad_networks


def agreeing_answer(result: bytes, slot: int, task: SlotTask, traces: Sequence[Trace], backend: str) -> Answer:
    """The answer that agrees with these leaves in every place: what replaying honest work gives, and what a liar says.

    Nobody needs it who computes. Tests, simulations and load benches do not.
    """
    cells = []
    for cell in task.cells:
        leaf = traces[cell.network][cell.segment + 1]
        end = CellAnswer(
            network=cell.network,
            segment=cell.segment,
            params_digest=leaf.params_digest,
            moments_digest=leaf.moments_digest,
            loss=leaf.loss,
            held_out_loss=leaf.held_out_loss,
        )
        cells.append(end)
    networks = tuple(
        NetworkAnswer(
            network=n, initial_params_digest=traces[n][0].params_digest, held_out_loss=traces[n][-1].held_out_loss
        )
        for n in task.networks
    )
    return Answer(result=result, slot=slot, backend=backend, cells=tuple(cells), networks=networks)


def judge(answer: Answer, task: SlotTask, traces: list[Trace]) -> Verdict:
    """Compare an answer with the committed traces, bit for bit. Raises Refused when it is not about this task."""
    asked = tuple(Cell(network=c.network, segment=c.segment) for c in answer.cells)
    if asked != task.cells or tuple(n.network for n in answer.networks) != task.networks:
        raise Refused("answer-task", "the answer is not about the cells that were drawn")
    bad_cells = []
    for cell in answer.cells:
        leaf = traces[cell.network][cell.segment + 1]
        claimed = Leaf(
            step=leaf.step,
            params_digest=cell.params_digest,
            moments_digest=cell.moments_digest,
            loss=cell.loss,
            held_out_loss=cell.held_out_loss,
        )
        if claimed.to_bytes() != leaf.to_bytes():
            bad_cells.append(Cell(network=cell.network, segment=cell.segment))
    bad_networks = [
        n.network
        for n in answer.networks
        if n.initial_params_digest != traces[n.network][0].params_digest
        or _bits(n.held_out_loss) != _bits(traces[n.network][-1].held_out_loss)
    ]
    return Verdict(cells=len(asked), bad_cells=tuple(bad_cells), bad_networks=tuple(bad_networks))
