"""Random deterministic finite automata, by number: a state machine that a network learns to imitate (after MLDS DS3).

How many states and symbols, and the number `index` of the automaton, say everything: all else is integers from a
Philox stream. An automaton starts in state 0, reads a symbol a step, and shows one bit a step: whether the state that
it has reached accepts. Each one is strongly connected (no state is ever lost) and minimal (no two states behave
alike), so "8 states" means that a network must tell eight situations apart. MLDS's own automata were not at hand:
these are ours.
"""

from functools import lru_cache

import msgspec
import numpy as np

from protocol.tasks.philox import permutation, random_words, stream_key

ATTEMPTS_MAX = 1000  # one in two is minimal even for the smallest sizes


class Automaton(msgspec.Struct, frozen=True, kw_only=True):
    """Axes: S states, A symbols."""

    following: np.ndarray  # (S, A) int64: the next state
    accepts: np.ndarray  # (S,) uint8

    def run(self, symbols: np.ndarray) -> np.ndarray:
        """Sequences of symbols (N, T) -> whether the state after each symbol accepts, (N, T, 1) uint8."""
        state = np.zeros(len(symbols), np.int64)
        shown = np.empty((*symbols.shape, 1), np.uint8)
        for t in range(symbols.shape[1]):
            state = self.following[state, symbols[:, t]]
            shown[:, t, 0] = self.accepts[state]
        return shown


@lru_cache(maxsize=256)
def random_automaton(states: int, alphabet: int, index: int) -> Automaton:
    """Automaton `index` of this size: the first attempt whose automaton is strongly connected and minimal.

    An attempt draws every transition and every acceptance bit at random; then each state gets one random symbol that
    leads to the next state of a random circle through all of them: of automata with two symbols almost none would be
    connected otherwise.
    """
    for attempt in range(ATTEMPTS_MAX):
        parts = ("automaton", states, alphabet, index, attempt)
        table = random_words(stream_key(*parts, "transitions"), states * alphabet).reshape(states, alphabet)
        following = (table % np.uint32(states)).astype(np.int64)
        circle = permutation(stream_key(*parts, "circle"), states).astype(np.int64)
        symbols = random_words(stream_key(*parts, "symbols"), states) % np.uint32(alphabet)
        following[circle, symbols[circle]] = np.roll(circle, -1)
        accepts = (random_words(stream_key(*parts, "accepts"), states) & np.uint32(1)).astype(np.uint8)
        if is_strongly_connected(following) and is_minimal(following, accepts):
            for array in (following, accepts):
                array.flags.writeable = False
            return Automaton(following=following, accepts=accepts)
    raise ValueError(f"no minimal automaton with {states} states and {alphabet} symbols in {ATTEMPTS_MAX} attempts")


def is_strongly_connected(following: np.ndarray) -> bool:
    """Every state leads to every other: all are reached from state 0, forwards and backwards."""
    edges = np.zeros((len(following), len(following)), bool)
    edges[np.arange(len(following))[:, None], following] = True
    return all(_reached(way).all() for way in (edges, edges.T))


def _reached(edges: np.ndarray) -> np.ndarray:
    seen = np.zeros(len(edges), bool)
    seen[0] = True
    while True:
        more = seen | edges[seen].any(axis=0)
        if (more == seen).all():
            return seen
        seen = more


def is_minimal(following: np.ndarray, accepts: np.ndarray) -> bool:
    """No two states behave alike, by Moore's refinement: split by acceptance, then by what the symbols lead to."""
    group = np.asarray(accepts, np.int64)
    while True:
        rows = np.column_stack([group, group[following]])
        finer = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)
        if finer.max() == group.max():
            return bool(finer.max() == len(following) - 1)
        group = finer
