"""Bundles and whole swarms: against the same adversaries the two levels of simulation agree on what matters."""

from dataclasses import dataclass

import pytest

from coordinator.policy.phases import Phase
from simulation import aftermath
from simulation.actors.liars import HONEST
from simulation.adversaries import against
from simulation.environment.kernel import branch
from simulation.rivals.cases import CASES
from simulation.rivals.contest import run
from simulation.rivals.scores import ours
from simulation.world import World, simulate

SAME = {  # adversary of a swarm of four honest hosts -> case of bundles
    "sybil:10": "sybil:10",
    "lazy": "lazy",
    "sleeper:30": "sleeper:30",
}
SEEDS = (1, 3)
JUDGED = (Phase.INVALID, Phase.RETRACTED, Phase.ADMITTED)  # of a fake: what it was was found out, or it got through
FACTOR = 4  # between what was computed beside the work, in shares of what the draws ask for


@dataclass(frozen=True)
class Ending:
    alive: int  # fakes
    judged: frozenset[str]  # keys of which a fake has an outcome
    convicted: frozenset[str]
    punished: frozenset[str]  # honest hosts
    effort: float  # segments replayed and trained again, for each one that the draws asked for


def of_bundles(name: str, seed: int) -> Ending:
    case = CASES[name]
    way = ours(case.bundles, branch(seed, "way", name))
    score = run(case, way, branch(seed, "contest", name))
    assert score.complete
    return Ending(
        alive=score.fakes_alive,
        judged=frozenset(row.stored.worker for row in way.rows.values() if row.fake and row.stored.phase in JUDGED),
        convicted=frozenset(name for name, key in way.keys.items() if key.record.convicted),
        punished=frozenset(score.punished),
        effort=score.extra / sum(len(task.cells) for row in way.rows.values() for task in row.tasks),
    )


def of_swarms(name: str, seed: int) -> Ending:
    report = simulate(against(name, seed, 4))
    assert report.violation is None, report.violation
    world, ledger = report.world, report.world.organizer.ledger
    fakes = [ledger.rows[digest] for digest in world.checkers.offered]
    return Ending(
        alive=len(aftermath.fakes_alive(world)),
        judged=frozenset(row.worker for row in fakes if row.phase in JUDGED),
        convicted=frozenset(name for name, host in ledger.hosts.items() if host.convicted),
        punished=frozenset(name for name, host in ledger.hosts.items() if is_honest(world, name) and host.banned),
        effort=computed(world) / sum(len(task.cells) for row in ledger.rows.values() for task in row.tasks),
    )


def is_honest(world: World, name: str) -> bool:
    return name in world.by_host and world.by_host[name].kind in HONEST


def computed(world: World) -> int:
    rows, counts = world.organizer.ledger.rows.values(), world.counts
    longest = max(max(row.segments) for row in rows)
    again = longest * counts["networks trained again by the organizer"]
    return counts["segments replayed"] + counts["segments replayed by the organizer"] + again


@pytest.mark.parametrize("name", SAME)
def test_the_levels_agree(name):
    endings = [of_bundles(SAME[name], seed) for seed in SEEDS] + [of_swarms(name, seed) for seed in SEEDS]
    for ending in endings:
        assert not ending.alive and not ending.punished
        assert ending.judged and ending.judged <= ending.convicted
    efforts = [ending.effort for ending in endings]
    assert max(efforts) < FACTOR * min(efforts), efforts
