"""What a campaign will cost, before it is seeded: `zooswarm seed --dry-run`.

Upper bounds: every network trains to its last step. Speeds are measured here, on one thread, for a moment a recipe.
"""

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

from protocol.engine import Engine, state_bytes_length
from protocol.engine.needs import memory_bytes
from protocol.recipes.campaign import Campaign, Policy, Population
from protocol.recipes.recipe import Recipe
from protocol.trust.challenge import opened_max
from protocol.trust.commitment import LEAF_BYTES, bundle_bytes

CALIBRATION_SECONDS = 20.0  # of all recipes together: then no other one is begun ...
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
    disk_bytes: int  # on volunteers' disks, of all bundles together; each goes when it is settled
    memory_bytes: int  # of a volunteer, with the bundle that needs most
    received_bytes: int  # by the organizer, from volunteers: traces, weights, states that a challenge opens
    sent_bytes: int  # by the organizer, to those who check: weights and opened states
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
        bundle_bytes=max(bundle_bytes(p.recipe, p.largest_bundle) for p in populations),
        disk_bytes=sum(bundle_bytes(p.recipe, p.count) for p in populations),
        memory_bytes=max(
            memory_bytes(p.recipe, p.largest_bundle, opened_max(campaign.policy, p.recipe, p.largest_bundle))
            for p in populations
        ),
        received_bytes=sum(sum(traffic(p, campaign.policy)[:2]) for p in populations),
        sent_bytes=sum(sum(traffic(p, campaign.policy)[1:]) for p in populations),
        cpu_seconds=sum(p.count * p.recipe.training.max_steps / speed for p, speed in measured),
        unmeasured=tuple(sorted({p.recipe.name for p in populations if p.recipe.digest not in speeds})),
    )


def traffic(population: Population, policy: Policy) -> tuple[int, int, int]:
    """Bytes at most: (traces and weights, handed in; opened states, there and back to the checkers; weights, fetched by
    each checker). Without what hosts say of themselves, proofs and signatures, about a kilobyte a message.
    """
    recipe = population.recipe
    whole, rest = divmod(population.count, population.bundle)
    opened = whole * opened_max(policy, recipe, population.bundle) + opened_max(policy, recipe, rest)
    traces, weights = LEAF_BYTES * (recipe.segments_max + 1), 4 * recipe.parameter_count
    checkers = max(policy.checkers, policy.probation_checkers)
    handed_in, fetched = population.count * (traces + weights), population.count * weights * checkers
    return handed_in, opened * state_bytes_length(recipe), fetched


def calibrate(campaign: Campaign, clock: Callable[[], float] = time.perf_counter) -> dict[str, float]:
    """Network-steps a second of one core here, by the recipe's digest; without recipes that need a data set, and those
    for which there is no time. Recipes that differ in their task alone are as fast: one of them is measured. The engine
    is made before the clock is looked at: where it has to be compiled first, that takes longer than the measurement.
    """
    from protocol.engine.select import select_engine

    alike: dict[Hashable, list[Recipe]] = {}
    for recipe in campaign.recipes.values():
        if not recipe.data_set:
            alike.setdefault((recipe.network, recipe.training, recipe.task_shape), []).append(recipe)
    if not alike:
        return {}
    engine = select_engine()
    began, found = clock(), dict[str, float]()
    each = min(RECIPE_SECONDS_MAX, CALIBRATION_SECONDS / len(alike))
    for recipes in alike.values():
        if found and clock() - began >= CALIBRATION_SECONDS:
            break
        found |= dict.fromkeys((recipe.digest for recipe in recipes), speed_of(engine, recipes[0], each, clock))
    return found


def speed_of(engine: Engine, recipe: Recipe, seconds: float, clock: Callable[[], float]) -> float:
    """Network-steps a second; the making of data and first weights is in it."""
    from protocol.engine.training import train_networks

    began, last = clock(), dict[int, int]()
    for seed, boundary in train_networks(engine, recipe, range(NETWORKS), NETWORKS):
        last[seed] = boundary.step
        if sum(last.values()) and clock() - began >= seconds:
            break
    return max(1, sum(last.values())) / max(clock() - began, 1e-6)


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
    told += [
        f"a volunteer needs {_size(said.memory_bytes)} of memory, and {_size(said.bundle_bytes)} of disk a bundle",
        f"all bundles together: {_size(said.disk_bytes)} of volunteers' disks, each until it is settled",
        f"network: {_size(said.received_bytes)} from volunteers, {_size(said.sent_bytes)} to those who check, "
        f"{_size((said.received_bytes + said.sent_bytes) / said.networks)} a network",
    ]
    if said.unmeasured:
        named = f"{', '.join(said.unmeasured[:5])}{' ...' if len(said.unmeasured) > 5 else ''}"
        told.append(f"without {len(said.unmeasured)} that need data sets or were not measured in time: {named}")
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
