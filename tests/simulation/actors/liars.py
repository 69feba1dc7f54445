"""Hosts that do not do what they say: what each kind hands in, and how it answers as a checker.

A liar is a function on boundaries: it takes what honest training would have given and returns what it pretends. It
keeps to the stop rule and to state 0, for otherwise its upload is refused before anybody replays a segment.
"""

import enum
import random
from collections.abc import Callable

import numpy as np

from protocol.engine import State
from protocol.engine.training import Boundary, is_final
from protocol.recipes.recipe import Recipe
from simulation.environment.engine import Truth


class Kind(enum.StrEnum):
    """What is wrong with a host; honest hosts have none of it."""

    LAZY = "lazy"  # trains nothing but the last segment, from an invented state
    ONE_CELL = "one cell"  # invents one segment of one network
    COPYCAT = "copycat"  # hands in another host's commitment as its own
    SILENT = "silent checker"  # trains honestly, never answers a check
    ACCUSER = "false accuser"  # trains honestly, and says of every other's work that it is wrong
    GRINDER = "grinder"  # fakes half of a bundle, and tries until the challenge, if it can know it, misses that half
    PARTIAL_2 = "partial 2 %"  # invents so many of its segments
    PARTIAL_10 = "partial 10 %"
    PARTIAL_50 = "partial 50 %"
    WHITEWASHER = "whitewasher"  # lazy; begins again with a new key whenever one is banned
    SLEEPER = "sleeper"  # works honestly until it has standing, is lazy from then on, and vouches for its ring
    COLLUDER = "colluder"  # works honestly, and vouches for whatever its ring hands in
    SYBIL = "sybil"  # one of a ring's fresh keys: lazy, and vouches for its ring
    OVERTAKER = "overtaker"  # a sybil that hands in fakes of what others are training, before they are done
    SQUATTER = "squatter"  # claims everything, commits to anything, opens nothing
    FLOODER = "flooder"  # fresh keys without end, each with a heartbeat and garbage
    ECLIPSED = "eclipsed"  # honest, and sees of the DHT what an attacker shows it


FAKERS = frozenset(
    {
        Kind.LAZY,
        Kind.ONE_CELL,
        Kind.COPYCAT,
        Kind.GRINDER,
        Kind.PARTIAL_2,
        Kind.PARTIAL_10,
        Kind.PARTIAL_50,
        Kind.WHITEWASHER,
        Kind.SLEEPER,
        Kind.SYBIL,
        Kind.OVERTAKER,
        Kind.SQUATTER,
        Kind.FLOODER,
    }
)
RING = frozenset(
    {Kind.SLEEPER, Kind.COLLUDER, Kind.SYBIL, Kind.OVERTAKER}
)  # all of a run's are friends, and vouch for each other
GUILTY = FAKERS | RING  # who may be banned; everybody else may not
HONEST = frozenset({None, Kind.ECLIPSED})  # who must get through, and leave at the end

NOT_GOOD_ENOUGH = 0.9375  # a held-out loss, exact in float32
Networks = dict[int, list[Boundary]]  # boundaries by seed


def invented(recipe: Recipe, step: int, like: Boundary, rng: random.Random) -> Boundary:
    """A state that looks like one, with losses above any stop rule."""
    count = len(like.state.params)
    params = np.array([rng.random() for _ in range(count)], np.float32)
    state = State(step=step, params=params, moments=np.zeros((2, count), np.float32))
    return Boundary(step=step, state=state, loss=0.25, held_out_loss=NOT_GOOD_ENOUGH, final=is_final(recipe, step, 1.0))


def grow(truth: Truth, recipe: Recipe, seed: int, path: list[Boundary]) -> list[Boundary]:
    """Honest segments from the path's last state until the stop rule: each of them replays."""
    while not path[-1].final:
        path.append(truth.onward(recipe, seed, path[-1].state))
    return path


def lazy(truth: Truth, recipe: Recipe, networks: Networks, rng: random.Random) -> Networks:
    """Every state between the first and the last segment is invented; the last segment is trained from there."""
    steps = range(recipe.training.segment_steps, recipe.training.max_steps, recipe.training.segment_steps)
    return {
        seed: honest
        if honest[0].final
        else grow(truth, recipe, seed, [honest[0], *(invented(recipe, step, honest[0], rng) for step in steps)])
        for seed, honest in networks.items()
    }


def one_cell(truth: Truth, recipe: Recipe, networks: Networks, rng: random.Random) -> Networks:
    """One state of one network is invented, and all after it honestly trained from there."""
    fakes = {seed: list(honest) for seed, honest in networks.items()}
    trained = [seed for seed, honest in networks.items() if len(honest) > 1]
    if not trained:
        return fakes
    seed = rng.choice(trained)
    segments = recipe.segments_max
    at = rng.randrange(1, min(len(networks[seed]), segments))
    fake = invented(recipe, networks[seed][at].step, networks[seed][0], rng)
    fakes[seed] = grow(truth, recipe, seed, [*networks[seed][:at], fake])
    return fakes


def half_lazy(truth: Truth, recipe: Recipe, networks: Networks, rng: random.Random) -> Networks:
    """Some networks are trained and the others lazily faked: a draw that misses the fakes can be found."""
    seeds = list(networks)
    return networks | lazy(truth, recipe, {seed: networks[seed] for seed in seeds[: (len(seeds) + 1) // 2]}, rng)


def partial(share: float) -> Callable[[Truth, Recipe, Networks, random.Random], Networks]:
    """So many of the states are invented, one at least, and everything between them is honestly trained."""

    def lie(truth: Truth, recipe: Recipe, networks: Networks, rng: random.Random) -> Networks:
        steps = range(recipe.training.segment_steps, recipe.training.max_steps, recipe.training.segment_steps)
        places = [(seed, b.step) for seed, honest in networks.items() for b in honest[1:] if b.step in steps]
        chosen = [place for place in places if rng.random() < share] or rng.sample(places, min(1, len(places)))
        fakes = dict(networks)
        for seed in dict(chosen):
            path = [networks[seed][0]]
            while not path[-1].final:
                after = truth.onward(recipe, seed, path[-1].state)
                path.append(invented(recipe, after.step, path[0], rng) if (seed, after.step) in chosen else after)
            fakes[seed] = path
        return fakes

    return lie


LIES: dict[Kind, Callable[[Truth, Recipe, Networks, random.Random], Networks]] = {
    Kind.LAZY: lazy,
    Kind.ONE_CELL: one_cell,
    Kind.GRINDER: half_lazy,
    Kind.PARTIAL_2: partial(0.02),
    Kind.PARTIAL_10: partial(0.1),
    Kind.PARTIAL_50: partial(0.5),
    Kind.WHITEWASHER: lazy,
    Kind.SLEEPER: lazy,
    Kind.SYBIL: lazy,
}
CHEAP = 0.01  # of a segment's time: what inventing one takes
WORK = {  # the share of its segments that it really trains, where that is not all of them
    Kind.LAZY: CHEAP,
    Kind.COPYCAT: CHEAP,
    Kind.GRINDER: CHEAP,
    Kind.PARTIAL_10: 0.9,
    Kind.PARTIAL_50: 0.5,
    Kind.WHITEWASHER: CHEAP,
    Kind.SLEEPER: CHEAP,
}


def bad_cells(truth: Truth, recipe: Recipe, networks: Networks) -> set[tuple[int, int]]:
    """(network, segment) whose end does not follow from its start: what an honest replay finds. In seed order."""
    return {
        (network, segment)
        for network, (seed, path) in enumerate(networks.items())
        for segment in range(len(path) - 1)
        if truth.leaf(truth.onward(recipe, seed, path[segment].state)) != truth.leaf(path[segment + 1])
    }
