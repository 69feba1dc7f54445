"""Everything that a simulation varies, drawn from its seed: who takes part, how the network is, what goes wrong.

Drawn once, before anything happens. A day is a long campaign of many hosts; everything else is small, so that
hundreds of seeds are cheap.
"""

from dataclasses import dataclass
from random import Random

from protocol.recipes.campaign import Campaign, Policy, Population
from protocol.recipes.layers import Linear
from protocol.recipes.recipe import Network, Recipe, Training
from protocol.tasks.kinds import FunctionTask
from simulation.actors.liars import Kind
from simulation.environment.kernel import branch

HOUR = 3600.0
DAY = 24 * HOUR
CROWD = 1000  # hosts: from here on claims are renewed as rarely as they may be


@dataclass(frozen=True, kw_only=True)
class Options:
    """Times in seconds, shares of 1, rates an hour. `liars` names a kind for each lying host."""

    seed: int
    hosts: int
    campaign: Campaign
    liars: tuple[Kind, ...]
    crowds: tuple[tuple[Kind, int], ...] = ()  # attackers with many keys, and how many
    sleep_bundles: int = 0  # clean ones, after which a sleeper wakes
    exhaustive: bool  # every checker replays the whole bundle: then nothing false gets through, luck or not
    segment_seconds: float  # one network-segment on a host of speed 1
    poll_seconds: float
    tick_seconds: float  # a host's program wakes at multiples of this
    join_seconds: float  # hosts come within this time
    fault_seconds: float  # faults happen until then
    limit_seconds: float  # and by then the campaign must be complete
    latency_seconds: float
    loss: float
    duplication: float
    dht_failure: float
    skew_seconds: float  # a host's clock is off by at most this, after correction
    crashes_per_hour: float  # of each host
    torn_writes: float  # share of crashes that tear what was being written
    deaths: float  # share of crashes after which a host never comes back
    partitions_per_hour: float
    outages_per_hour: float  # of the organizer's server
    full_disks: float  # share of hosts
    slow_hosts: float  # share of hosts


def draw(seed: int, hosts: int | None = None, day: bool = False, per_host: int | None = None) -> Options:
    """The options of a seed; the others change the scale (`per_host` is in assignments), not what is possible."""
    rng = branch(seed, "options")
    count = hosts or rng.choice((3, 4, 5, 6, 8, 10, 15, 20))
    calm = rng.random() < 0.1  # a seed without faults now and then: a failure there is easiest to understand
    exhaustive = rng.random() < 0.3 and not day
    hours = 22.0 if day else rng.uniform(0.2, 0.6)
    harm = 0.0 if calm else rng.choice((0.3, 1.0, 3.0)) * (0.1 if day else 1.0)
    segment_seconds = 100.0 if day else rng.choice((5.0, 10.0, 20.0))
    own = 9 if day else rng.randint(1, 4)
    in_hand = Policy().checks_at_once if count >= CROWD else branch(seed, "in hand").choice((1, 2, 8))
    assignments = max(1, count * (per_host or own))
    campaign = _campaign(rng, assignments, exhaustive, segment_seconds, count >= CROWD, in_hand)
    return Options(
        seed=seed,
        hosts=count,
        campaign=campaign,
        sleep_bundles=campaign.policy.probation_bundles,
        liars=_liars(rng, count, 5 if day else 2),
        exhaustive=exhaustive,
        segment_seconds=segment_seconds,
        poll_seconds=150.0 if day else rng.choice((5.0, 10.0, 20.0)),
        tick_seconds=75.0 if day else 0.0,
        join_seconds=16 * HOUR if day else 60.0,
        fault_seconds=hours * HOUR,
        limit_seconds=hours * HOUR + (12 if day else 8) * HOUR,
        latency_seconds=rng.choice((0.01, 0.05, 0.2, 0.8)),
        loss=0.0 if calm else rng.choice((0.0, 0.01, 0.05)),
        duplication=0.0 if calm else rng.choice((0.0, 0.01, 0.05)),
        dht_failure=0.0 if calm else rng.choice((0.0, 0.01, 0.05)),
        skew_seconds=0.0 if calm else rng.choice((0.0, 1.0, 5.0)),
        crashes_per_hour=harm,
        torn_writes=rng.choice((0.0, 0.5)),
        deaths=rng.choice((0.0, 0.1)),
        partitions_per_hour=harm,
        outages_per_hour=harm,
        full_disks=0.0 if calm else rng.choice((0.0, 0.1)),
        slow_hosts=rng.choice((0.0, 0.1, 0.3)),
    )


def _liars(rng: Random, hosts: int, one_of: int) -> tuple[Kind, ...]:
    """At most one host of so many lies, always fewer than half. No grinder: no seed should depend on its luck."""
    kinds = [Kind.LAZY, Kind.ONE_CELL, Kind.COPYCAT, Kind.SILENT, Kind.ACCUSER]
    return tuple(rng.choice(kinds) for _ in range(rng.randint(0, (hosts - 1) // one_of)))


def recipe(name: str, stop: float, segments: int) -> Recipe:
    """Two parameters and some segments: what a simulated network needs to have."""
    return Recipe(
        name=name,
        label=name,
        task=FunctionTask(function="cubic", samples=8, held_out=4),
        network=Network(layers=(Linear(width=1),)),
        training=Training(
            learning_rate=0.1, batch=4, max_steps=10 * segments, segment_steps=10, stop_held_out_loss=stop
        ),
    )


def _campaign(
    rng: Random, assignments: int, exhaustive: bool, segment_seconds: float, crowd: bool, in_hand: int
) -> Campaign:
    day = segment_seconds >= 100
    bundle = 4 if day else rng.randint(1, 4)
    segments = rng.randint(4, 6)
    whole = bundle * segments
    policy = Policy(
        probation_bundles=rng.choice((1, 3)),
        probation_checkers=rng.choice((2, 3)),
        probation_cells=whole if exhaustive else 4,
        checkers=rng.choice((1, 2)) if exhaustive else 2,
        cells=whole if exhaustive else 3,
        epoch_seconds=300.0 if day else 5.0,
        opening_seconds=3600.0 if day else 600.0,
        answer_seconds=min(1800.0, max(120.0, rng.choice((2.0, 6.0)) * whole * segment_seconds)),
        lease_seconds=max(300.0 if day or crowd else 0.0, 0.0 if day else rng.choice((60.0, 120.0))),
        settle_seconds=rng.choice((0.5, 2.0)),
        faults_before_ban=rng.choice((2, 3)),
        checks_at_once=in_hand,
    )
    half = assignments // 2
    populations = [
        Population(recipe=recipe("plain", 0.0, segments), count=(assignments - half) * bundle, bundle=bundle)
    ]
    if half:
        stops = Population(recipe=recipe("stops", 0.1, segments), count=half * bundle, bundle=bundle)
        populations.append(stops)
    return Campaign(name=f"seed-{rng.randrange(10**6)}", populations=tuple(populations), policy=policy)
