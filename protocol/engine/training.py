"""Whole networks: segments, the stop rule, and batches of networks that refill as networks stop.

`is_final` decides; `start` and `advance` compute; `train_networks` does both for many seeds. A boundary is where a
state is committed: step 0, after every segment, and at the end.
"""

from collections.abc import Iterable, Iterator, Mapping

import msgspec
import numpy as np

from protocol.engine import Engine, State
from protocol.engine.initial import initial_states
from protocol.engine.streams import task_data
from protocol.recipes.recipe import Recipe, check_engine
from protocol.tasks.data import TaskData
from protocol.tasks.datasets import NO_SHELF, Shelf


class Boundary(msgspec.Struct, frozen=True, kw_only=True):
    """A network at the end of a segment, or at step 0."""

    step: int
    state: State
    loss: float  # mean training loss of the segment that ended here; 0.0 at step 0
    held_out_loss: float
    final: bool  # the network is done


def train_networks(
    engine: Engine,
    recipe: Recipe,
    seeds: Iterable[int],
    width: int,
    resume: Mapping[int, State] | None = None,
    shelf: Shelf = NO_SHELF,
) -> Iterator[tuple[int, Boundary]]:
    """Train every seed, `width` networks at a time; yields (seed, boundary) as they come.

    A fresh network's first boundary is step 0. A network in `resume` goes on from its state, whose boundary is not
    repeated unless it is final. `width` changes the order of what is yielded, never a bit of it.
    """
    data, resume = task_data(recipe, shelf), resume or {}
    waiting = iter(seeds)
    running: dict[int, State] = {}
    while True:
        joining = [seed for _, seed in zip(range(width - len(running)), waiting, strict=False)]
        fresh = [seed for seed in joining if seed not in resume]
        again = [seed for seed in joining if seed in resume]
        arrived = list(zip(fresh, start(engine, recipe, data, fresh), strict=True))
        resumed = list(zip(again, look(engine, recipe, data, [resume[seed] for seed in again]), strict=True))
        yield from arrived
        yield from ((seed, boundary) for seed, boundary in resumed if boundary.final)
        running |= {seed: boundary.state for seed, boundary in arrived + resumed if not boundary.final}
        if not running:
            if joining:
                continue
            return
        segment = list(zip(running, advance(engine, recipe, data, list(running), list(running.values())), strict=True))
        yield from segment
        running = {seed: boundary.state for seed, boundary in segment if not boundary.final}


def start(engine: Engine, recipe: Recipe, data: TaskData, seeds: list[int]) -> list[Boundary]:
    """The networks at step 0. Raises UsageError: a recipe of another engine."""
    check_engine(recipe, f"recipe {recipe.name}")
    return look(engine, recipe, data, initial_states(recipe, seeds, engine))


def advance(engine: Engine, recipe: Recipe, data: TaskData, seeds: list[int], states: list[State]) -> list[Boundary]:
    """One segment of each network, from its own state to its next boundary. Raises UsageError as `start` does."""
    check_engine(recipe, f"recipe {recipe.name}")
    done: dict[int, tuple[State, np.float32]] = {}
    lengths = [segment_length(recipe, state.step) for state in states]
    for steps in sorted(set(lengths)):  # a last segment may be shorter; the rest go together
        rows = [k for k, length in enumerate(lengths) if length == steps]
        after, losses = train(engine, recipe, data, [seeds[k] for k in rows], [states[k] for k in rows], steps)
        done |= {k: (state, mean) for k, state, mean in zip(rows, after, means(losses), strict=True)}
    return look(
        engine, recipe, data, [done[k][0] for k in range(len(states))], [done[k][1] for k in range(len(states))]
    )


def train(
    engine: Engine, recipe: Recipe, data: TaskData, seeds: list[int], states: list[State], steps: int
) -> tuple[list[State], np.ndarray]:
    """`engine.train`; one network after another where each has training data of its own."""
    if data.for_seed is None:
        return engine.train(recipe, data, seeds, states, steps)
    pairs = [
        engine.train(recipe, data.for_seed(seed), [seed], [state], steps)
        for seed, state in zip(seeds, states, strict=True)
    ]
    return [state for (state,), _ in pairs], np.concatenate([losses for _, losses in pairs])


def look(
    engine: Engine,
    recipe: Recipe,
    data: TaskData,
    states: list[State],
    losses: list[np.float32] | None = None,
) -> list[Boundary]:
    """States -> boundaries: measure the held-out loss, apply the stop rule."""
    if not states:
        return []
    held_out = engine.held_out_loss(recipe, data, [state.params for state in states])
    return [
        Boundary(
            step=state.step,
            state=state,
            loss=float(loss),
            held_out_loss=float(measured),
            final=is_final(recipe, state.step, float(measured)),
        )
        for state, loss, measured in zip(states, losses or [np.float32(0)] * len(states), held_out, strict=True)
    ]


def is_final(recipe: Recipe, step: int, held_out_loss: float) -> bool:
    """The stop rule: good enough (if the recipe asks), or out of steps."""
    good_enough = 0 < recipe.training.stop_held_out_loss >= held_out_loss
    return good_enough or step >= recipe.training.max_steps


def segment_length(recipe: Recipe, step: int) -> int:
    """Steps from here to the next boundary."""
    t = recipe.training
    return min(t.segment_steps - step % t.segment_steps, t.max_steps - step)


def means(losses: np.ndarray) -> np.ndarray:
    """(K, N) float32 losses -> (K,) means: a float32 sum in step order from 0, divided by N."""
    totals = np.add.accumulate(losses, axis=1, dtype=np.float32)[:, -1] + np.float32(0)
    return totals / np.float32(losses.shape[1])
