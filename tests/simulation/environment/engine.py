"""A stand-in for training: the next state is a hash of the state before. It takes microseconds and is as exact.

All else about a network is real: initial states, boundaries, the stop rule, leaves, openings and replays. What a false
state would have become can be computed from it, so a liar is a function on boundaries, and a checker really replays.
"""

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from unittest import mock

import numpy as np

from protocol.engine import Evaluation, State, TaskData, initial, training
from protocol.engine.training import Boundary, is_final, means, segment_length, train_networks
from protocol.recipes.campaign import Assignment
from protocol.recipes.recipe import Recipe
from protocol.trust import spot_check
from protocol.trust.commitment import Leaf, Trace, leaf_of


class HashEngine:
    """The interface of `protocol.engine.Engine`, as far as training and checking use it."""

    def __init__(self, name: str = "simulated"):
        self.name = name
        self.cells = 0  # network-segments computed: what training and checking cost

    def train(
        self, recipe: Recipe, data: TaskData, seeds: list[int], states: list[State], steps: int
    ) -> tuple[list[State], np.ndarray]:
        self.cells += len(seeds)
        after = [_after(recipe, seed, state, steps) for seed, state in zip(seeds, states, strict=True)]
        losses = np.repeat([[state.params[0]] for state in after], steps, axis=1).astype(np.float32)
        return after, losses

    def held_out_loss(self, recipe: Recipe, data: TaskData, params: list[np.ndarray]) -> np.ndarray:
        """In [0, 1), and nothing else about it matters: some networks meet a stop rule and others do not."""
        return np.array([_held_out_loss(row) for row in params], np.float32)

    def evaluate(self, recipe: Recipe, data: TaskData, params: list[np.ndarray]) -> Evaluation:
        raise NotImplementedError("neither training nor checking counts targets")


@contextlib.contextmanager
def known_initial_states() -> Iterator[None]:
    """While this lasts, checkers and trainers make a network's state 0 once: all of them are asked for the same few."""
    states: dict[tuple[str, int], State] = {}

    def known(recipe: Recipe, seed: int) -> State:
        key = recipe.digest, seed
        if key not in states:
            states[key] = initial.initial_state(recipe, seed)
        return states[key]

    def all_known(recipe: Recipe, seeds: Iterable[int], engine: object = None) -> list[State]:
        return [known(recipe, seed) for seed in seeds]

    with (
        mock.patch.object(spot_check, "initial_states", all_known),
        mock.patch.object(training, "initial_states", all_known),
    ):
        yield


def _after(recipe: Recipe, seed: int, state: State, steps: int) -> State:
    about = f"{recipe.name}/{seed}/{state.step}/{steps}".encode()
    digest = hashlib.blake2b(state.params.tobytes() + state.moments.tobytes(), key=about[:64]).digest()
    count = recipe.parameter_count
    values = np.resize(np.frombuffer(digest, np.uint8), 3 * count).astype(np.float32).reshape(3, count) / 256
    return State(step=state.step + steps, params=values[0].copy(), moments=values[1:].copy())


def _held_out_loss(params: np.ndarray) -> float:
    return float(np.float32(abs(float(params[0])) * 7919 % 1.0))


class Truth:
    """What every honest computer finds: boundaries by assignment and seed, computed once."""

    def __init__(self) -> None:
        self._engine = HashEngine("truth")
        self._known: dict[tuple[str, int], dict[int, list[Boundary]]] = {}
        self._leaves: dict[int, tuple[Boundary, Leaf]] = {}

    def boundaries(self, assignment: Assignment) -> dict[int, list[Boundary]]:
        key = assignment.campaign, assignment.index
        if key not in self._known:
            found: dict[int, list[Boundary]] = {seed: [] for seed in assignment.seeds}
            trained = train_networks(self._engine, assignment.recipe, assignment.seeds, len(found))
            for seed, boundary in trained:
                found[seed].append(boundary)
            self._known[key] = found
        return self._known[key]

    def leaf(self, boundary: Boundary) -> Leaf:
        """`leaf_of`, once for each boundary."""
        known = self._leaves.get(id(boundary))
        if known is None or known[0] is not boundary:
            known = boundary, leaf_of(boundary.state, boundary.loss, boundary.held_out_loss)
            self._leaves[id(boundary)] = known
        return known[1]

    def trace(self, path: Sequence[Boundary]) -> Trace:
        return tuple(self.leaf(boundary) for boundary in path)

    def onward(self, recipe: Recipe, seed: int, state: State) -> Boundary:
        """One segment from any state, true or false."""
        after = _after(recipe, seed, state, segment_length(recipe, state.step))
        held_out = _held_out_loss(after.params)
        return Boundary(
            step=after.step,
            state=after,
            loss=float(means(np.repeat(after.params[None, :1], after.step - state.step, axis=1))[0]),
            held_out_loss=held_out,
            final=is_final(recipe, after.step, held_out),
        )
