"""Doing a spot check: replay the drawn cells and name what came out. Used by peers, by the coordinator, by auditors."""

import numpy as np

from protocol.engine import Engine, State, check_values, state_bytes_length, states_from_bytes
from protocol.engine.initial import initial_states
from protocol.engine.streams import task_data
from protocol.engine.training import advance
from protocol.errors import Refused
from protocol.recipes.campaign import Assignment
from protocol.recipes.recipe import Recipe
from protocol.tasks.datasets import NO_SHELF, Shelf
from protocol.trust.challenge import SlotTask
from protocol.trust.messages import Answer, Cell, CellAnswer, NetworkAnswer


def open_states(recipe: Recipe, data: bytes, cells: tuple[Cell, ...]) -> dict[Cell, State]:
    """An uploaded blob of start states, in the order of `cells`. Raises Refused."""
    length = state_bytes_length(recipe)
    if len(data) != length * len(cells):
        raise Refused("states-size", f"{len(data)} bytes; expected {length * len(cells)}")
    return dict(zip(cells, states_from_bytes(recipe, data, len(cells)), strict=True))


def open_weights(recipe: Recipe, data: bytes, count: int) -> list[np.ndarray]:
    """A bundle's final weights -> one (P,) float32 array a network. Raises Refused."""
    length = 4 * recipe.parameter_count
    if len(data) != length * count:
        raise Refused("weights-size", f"{len(data)} bytes; expected {length * count}")
    weights_NP = np.frombuffer(data, "<f4").reshape(count, recipe.parameter_count).copy()
    check_values(weights_NP, "weights")
    return list(weights_NP)


def spot_check(
    engine: Engine,
    assignment: Assignment,
    result_digest: bytes,
    slot: int,
    task: SlotTask,
    states: dict[Cell, State],
    weights: list[np.ndarray],
    shelf: Shelf = NO_SHELF,
) -> Answer:
    """Replay a slot's cells. `states` holds the start state of every cell with segment > 0.

    Raises DataMissing when the recipe's data set is not in `shelf`.
    """
    recipe = assignment.recipe
    data = task_data(recipe, shelf)
    seeds = [assignment.seeds[cell.network] for cell in task.cells]
    first = [seed for seed, cell in zip(seeds, task.cells, strict=True) if not cell.segment]
    begun = iter(initial_states(recipe, first, engine))
    starts = [states[cell] if cell.segment else next(begun) for cell in task.cells]
    ends = advance(engine, recipe, data, seeds, starts) if starts else []
    cells = tuple(
        CellAnswer(
            network=cell.network,
            segment=cell.segment,
            params_digest=end.state.params_digest,
            moments_digest=end.state.moments_digest,
            loss=float(np.float32(end.loss)),
            held_out_loss=float(np.float32(end.held_out_loss)),
        )
        for cell, end in zip(task.cells, ends, strict=True)
    )
    losses = engine.held_out_loss(recipe, data, [weights[n] for n in task.networks]) if task.networks else []
    drawn = initial_states(recipe, [assignment.seeds[n] for n in task.networks], engine)
    networks = tuple(
        NetworkAnswer(
            network=n,
            initial_params_digest=initial.params_digest,
            held_out_loss=float(loss),
        )
        for n, initial, loss in zip(task.networks, drawn, losses, strict=True)
    )
    return Answer(result=result_digest, slot=slot, backend=engine.name, cells=cells, networks=networks)
