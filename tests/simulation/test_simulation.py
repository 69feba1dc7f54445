"""Whole swarms: the same seed does the same, no seed breaks a promise, and broken rules are noticed."""

import dataclasses
import os
import random
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from simulation import table
from simulation.actors.liars import FAKERS, Kind
from simulation.adversaries import against
from simulation.options import Options, draw
from simulation.rules import BROKEN, Rules
from simulation.world import Report, simulate

HERE = Path(__file__).resolve().parent
FRESH_SEEDS = 3  # in each run of the tests
SEEDS_TO_NOTICE = 50  # a broken rule has to be noticed within so many
SEEDS_WITH_LUCK = 200  # one in forty small swarms gives a grinder several bundles to grind
SEED_VARIABLE = "ZOOSWARM_SIMULATION_SEED"


NOTICED_AS = {
    "challenge known before commitment": {"false work admitted"},
    "leases never end": {"claim held for ever", "not complete"},
    "verdict of the accused host counts": {"false work admitted", "honest checker blamed", "evidence"},
    "no house slot": {"no house slot"},
    "unweighted draws": {"roster"},
    "nothing is retracted": {"escrow stands"},
    "checks pile up": {"checks pile up"},
    "standing without much work": {"standing unearned", "roster"},
    "standing without any work": {"standing unearned", "roster"},
}
AGAINST = {  # who tries it
    "no house slot": "colluder:40",
    "nothing is retracted": "sleeper:30",
}
NEEDS_LUCK = frozenset({"challenge known before commitment"})  # of a grinder: not every seed has enough fakes


def assert_kept(report: Report) -> None:
    replay = f"scripts/simulate --seed {report.options.seed}"
    assert report.violation is None, f"{report.violation}\n{replay}\n" + "\n".join([*report.story, *report.lines[-20:]])


def seed_with(assignments: int = 1, **wanted: object) -> Options:
    """The first small seed that has what a test is about, and so many assignments or more."""
    for seed in range(1000):
        options = draw(seed)
        if options.campaign.assignment_count < assignments:
            continue
        if options.hosts <= 8 and all(getattr(options, name) == value for name, value in wanted.items()):
            return options
    raise AssertionError(f"no seed has {wanted}")


def test_the_same_seed_does_the_same():
    one, other, another = simulate(draw(4)), simulate(draw(4)), simulate(draw(5))
    assert_kept(one)
    assert (one.digest, one.events, one.counts) == (other.digest, other.events, other.counts)
    assert one.lines == other.lines and table.lines([one]) == table.lines([other])
    assert one.digest != another.digest


def test_the_order_of_hashes_changes_nothing():
    """Another process, with other hashes of strings: byte for byte the same output."""
    outputs = {run_script("--seed", "4", "--what-happened", hash_seed=str(seed)) for seed in (1, 2)}
    assert len(outputs) == 1 and "no promise broken" in outputs.pop()


def run_script(*arguments: str, hash_seed: str) -> str:
    command = [sys.executable, str(HERE.parent.parent / "scripts" / "simulate.py"), *arguments]
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def failed_seeds() -> list[int]:
    lines = (HERE / "failed_seeds.txt").read_text().splitlines()
    return [int(line.split()[0]) for line in lines if line and not line.startswith("#")]


@pytest.mark.slow
@pytest.mark.parametrize("seed", failed_seeds())
def test_seeds_that_once_failed(seed):
    assert_kept(simulate(draw(seed)))


def test_fresh_seeds():
    """Others in each run; ZOOSWARM_SIMULATION_SEED repeats one."""
    base = int(os.environ.get(SEED_VARIABLE) or random.SystemRandom().randrange(10**9))
    print(f"{SEED_VARIABLE}={base}")
    for seed in range(base, base + FRESH_SEEDS):
        assert_kept(simulate(draw(seed, hosts=4)))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seeds", [range(70), pytest.param(range(70, 200), marks=pytest.mark.long)], ids=str)
def test_many_seeds(seeds):
    for seed in seeds:
        assert_kept(simulate(draw(seed)))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in NEEDS_LUCK else ()) for name in BROKEN]
)
def test_a_broken_rule_is_noticed_and_the_right_one_passes_the_same_seed(name):
    seeds = SEEDS_WITH_LUCK if name in NEEDS_LUCK else SEEDS_TO_NOTICE
    for seed in range(seeds):
        options = tempted(draw(seed)) if name in NEEDS_LUCK else draw(seed)
        options = against(AGAINST[name], seed, 5) if name in AGAINST else options
        if options.hosts > 6 or (name in NEEDS_LUCK and options.exhaustive):
            continue  # small swarms show it as well, and sooner; where all is replayed there is nothing to grind for
        report = simulate(options, BROKEN[name])
        if report.violation is not None:
            break
    else:
        pytest.fail(f"{name}: not noticed in {seeds} seeds")
    assert report.violation.kind in NOTICED_AS[name], report.violation
    assert_kept(simulate(options, Rules()))


def tempted(options: Options) -> Options:
    """The same seed with a grinder among its hosts, and checks that leave something to chance."""
    others = options.liars[:-1] if options.liars else ()
    return dataclasses.replace(options, liars=(Kind.GRINDER, *others))


def test_liars_are_banned_and_nobody_else_is():
    options = dataclasses.replace(seed_with(assignments=24, exhaustive=True), liars=(Kind.LAZY, Kind.COPYCAT))
    report = simulate(options)
    assert_kept(report)
    rows = table.kinds([report])
    assert rows["lazy"].banned == rows["copycat"].banned == 1
    assert rows["lazy"].fakes and rows["copycat"].fakes
    assert not rows["honest"].banned and not rows["honest"].void and not rows["lazy"].fakes_admitted
    assert all(host.kind in FAKERS for host in report.world.hosts if host.why_left.startswith("this host is banned"))


def test_a_crowd_that_comes_at_once_waits_in_order_and_lets_few_checks_pass():
    """Who stands first is drawn for all others. Without a bound it has more in hand than it can answer in time."""
    crowd, without = simulate(at_once(4)), simulate(at_once(1024))
    assert_kept(crowd)
    assert_kept(without)
    assert without.counts["slots reassigned"] > 5 and not without.counts["slots that waited for room"]
    assert crowd.counts["slots that waited for room"] > 5
    assert 4 * crowd.counts["slots reassigned"] < without.counts["slots reassigned"]


def at_once(checks: int) -> Options:
    """Twelve honest hosts, within a second; nothing goes wrong; a check takes as long as a bundle."""
    options = draw(7, hosts=12, per_host=3)
    policy = msgspec.structs.replace(options.campaign.policy, checks_at_once=checks, probation_bundles=1)
    campaign = msgspec.structs.replace(options.campaign, policy=policy)
    calm = dict.fromkeys(("crashes_per_hour", "partitions_per_hour", "outages_per_hour", "full_disks", "loss"), 0.0)
    return dataclasses.replace(options, campaign=campaign, liars=(), join_seconds=1.0, duplication=0.0, **calm)


def test_faults_happen_and_are_counted():
    options = seed_with(assignments=12)
    options = dataclasses.replace(options, crashes_per_hour=20.0, partitions_per_hour=30.0, outages_per_hour=30.0)
    report = simulate(options)
    assert_kept(report)
    counted = table.faults([report])
    assert counted["crashes"] and counted["partitions"] and counted["outages of the organizer"]


def test_a_story_says_what_became_of_an_assignment():
    report = simulate(seed_with(liars=()))
    assert_kept(report)
    story = "\n".join(report.world.story(0))
    assert "admitted" in story and "h00" in story


def test_the_command_line_says_what_it_wants():
    from simulate import main  # scripts/simulate.py

    runner = CliRunner()
    assert runner.invoke(main, []).exit_code == 2
    assert "first:end" in runner.invoke(main, ["--seeds", "9"]).output
    small = runner.invoke(main, ["--seeds", "4:6", "--hosts", "3"])
    assert small.exit_code == 0 and small.output.endswith("2 seeds, no promise broken\n")
