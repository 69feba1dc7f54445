"""What a campaign will cost, before it is seeded: `zooswarm seed --dry-run`.

Upper bounds: every network trains to its last step. Speeds are measured here, on one thread, for a moment a recipe.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from protocol.engine import state_bytes_length
from protocol.recipes.campaign import Campaign
from protocol.recipes.recipe import Recipe
from protocol.trust.commitment import LEAF_BYTES

CALIBRATION_SECONDS = 20.0  # of all recipes together ...
RECIPE_SECONDS_MAX = 1.0  # ... and of one
NETWORKS = 4  # trained at once for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Of one campaign."""

    networks: int
    assignments: int
    steps: int  # of all networks
    zoo_bytes: int  # their final weights
    bundle_bytes: int  # on a volunteer's disk, of its largest bundle
    cpu_seconds: float  # of one core here
    unmeasured: tuple[str, ...]  # recipes whose data sets are not here


def estimate(campaign: Campaign, speeds: Mapping[str, float]) -> Estimate:
    """`speeds`: network-steps a second of one core, by the recipe's digest; those that lack are not counted."""
    populations = campaign.populations
    measured = [(p, speeds[p.recipe.digest]) for p in populations if p.recipe.digest in speeds]
    return Estimate(
        networks=campaign.network_count,
        assignments=campaign.assignment_count,
        steps=sum(p.count * p.recipe.training.max_steps for p in populations),
        zoo_bytes=sum(p.count * 4 * p.recipe.parameter_count for p in populations),
        bundle_bytes=max(min(p.bundle, p.count) * _network_bytes(p.recipe) for p in populations),
        cpu_seconds=sum(p.count * p.recipe.training.max_steps / speed for p, speed in measured),
        unmeasured=tuple(sorted({p.recipe.name for p in populations if p.recipe.digest not in speeds})),
    )


def _network_bytes(recipe: Recipe) -> int:
    """A state and a leaf at every boundary."""
    return (recipe.segments_max + 1) * (state_bytes_length(recipe) + LEAF_BYTES)


def calibrate(campaign: Campaign, clock: Callable[[], float] = time.perf_counter) -> dict[str, float]:
    """Network-steps a second of one core here, by the recipe's digest; without recipes that need a data set."""
    from protocol.engine.select import select_engine
    from protocol.engine.training import train_networks

    engine, found = select_engine(), dict[str, float]()
    own = [recipe for recipe in campaign.recipes.values() if not recipe.data_set]
    each = min(RECIPE_SECONDS_MAX, CALIBRATION_SECONDS / max(1, len(own)))
    for recipe in own:
        began, last = clock(), dict[int, int]()
        for seed, boundary in train_networks(engine, recipe, range(NETWORKS), NETWORKS):
            last[seed] = boundary.step
            if sum(last.values()) and clock() - began >= each:
                break
        found[recipe.digest] = max(1, sum(last.values())) / max(clock() - began, 1e-6)
    return found


def lines(campaign: Campaign, said: Estimate, cores: int, swarm_steps_per_second: float) -> list[str]:
    """For people. `swarm_steps_per_second`: what the hosts that are here report; 0: nobody is."""
    told = [
        f"{campaign.name}: {said.networks:,} networks in {said.assignments:,} assignments, nothing was seeded",
        f"the zoo grows by {_size(said.zoo_bytes)} of weights at most",
        f"training: {said.steps:,} network-steps, {_time(said.cpu_seconds)} of one core like those here",
        f"on the {cores} cores here alone: {_time(said.cpu_seconds / cores)}",
    ]
    if swarm_steps_per_second > 0:
        eta = _time(said.steps / swarm_steps_per_second)
        told.append(f"with the hosts that are here ({swarm_steps_per_second:,.0f} steps/s): {eta}")
    told.append(f"a volunteer needs {_size(said.bundle_bytes)} of disk for a bundle of its own")
    if said.unmeasured:
        told.append(f"not measured, for they need data sets: {', '.join(said.unmeasured[:5])}")
    return [*told, "networks that meet their stop rule end earlier; checks add about a hundredth"]


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def _time(seconds: float) -> str:
    for limit, unit, size in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 86_400:.1f} days"
