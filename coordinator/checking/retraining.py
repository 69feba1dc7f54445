"""One network trained again from recipe and seed, and what another build says of its boundaries: an audit's truth."""

import threading
from dataclasses import dataclass

from protocol.engine import Engine
from protocol.engine.initial import initial_state
from protocol.engine.streams import task_data
from protocol.engine.training import Boundary, advance, look, train_networks
from protocol.recipes.recipe import Recipe
from protocol.tasks.datasets import Shelf
from protocol.trust.commitment import Leaf, Trace, leaf_of


class Stopped(Exception):
    """The organizer's program ends; what was begun is done again after the next start."""


class NotExact(Exception):
    """Two builds of the engine differ on this computer: nothing may be concluded from either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrained:
    """A network's true boundaries, and their leaves."""

    seed: int
    boundaries: tuple[Boundary, ...]
    trace: Trace


def retrain(engine: Engine, recipe: Recipe, seed: int, shelf: Shelf, stopping: threading.Event) -> Retrained:
    """Looks at `stopping` after every segment. Raises Stopped, DataMissing."""
    boundaries = []
    for _, boundary in train_networks(engine, recipe, [seed], 1, shelf=shelf):
        if stopping.is_set():
            raise Stopped
        boundaries.append(boundary)
    return Retrained(seed=seed, boundaries=tuple(boundaries), trace=tuple(_leaf(b) for b in boundaries))


def confirm(reference: Engine, recipe: Recipe, truth: Retrained, boundary: int, shelf: Shelf) -> Leaf:
    """The leaf of one boundary, by another build from the true state before it. Raises NotExact where they differ.

    No host may be blamed for what a fault of our own computer gives.
    """
    data = task_data(recipe, shelf)
    if boundary:
        (found,) = advance(reference, recipe, data, [truth.seed], [truth.boundaries[boundary - 1].state])
    else:
        (found,) = look(reference, recipe, data, [initial_state(recipe, truth.seed)])
    leaf = _leaf(found)
    if leaf.to_bytes() != truth.trace[boundary].to_bytes():
        place = f"seed {truth.seed} boundary {boundary}"
        raise NotExact(f"{place}: {reference.name} gives other bits; is this machine sound?")
    return leaf


def first_difference(committed: Trace, truth: Trace) -> int:
    """The first boundary at which they differ. Raises ValueError when there is none."""
    for i, (one, other) in enumerate(zip(committed, truth, strict=False)):
        if one.to_bytes() != other.to_bytes():
            return i
    raise ValueError("the traces do not differ")


def _leaf(boundary: Boundary) -> Leaf:
    return leaf_of(boundary.state, boundary.loss, boundary.held_out_loss)
