"""Adversaries among honest hosts: each does what it is there for, and breaks no promise."""

import pytest
from click.testing import CliRunner

from simulation.actors.liars import FAKERS, HONEST, Kind
from simulation.adversaries import ADVERSARIES, against, lines, parse
from simulation.options import draw
from simulation.world import Report, simulate

SMALL = 4  # hosts


def run(text: str, seed: int = 1, hosts: int = SMALL) -> Report:
    report = simulate(against(text, seed, hosts))
    assert report.violation is None, f"{text}, seed {seed}: {report.violation}\n" + "\n".join(report.lines[-20:])
    return report


def banned(report: Report, kinds: frozenset) -> list[str]:
    world = report.world
    return [name for name in world.organizer.ledger.banned if world.by_host[name].kind in kinds]


@pytest.mark.parametrize("name", ["lazy", "partial-50", "one-cell", "copycat", "silent", "accuser", "eclipser"])
def test_an_adversary_breaks_no_promise(name):
    report = run(name)
    assert not banned(report, HONEST)


def test_a_ring_does_not_stand_by_assignments_that_need_no_training():
    """Seed 127 has four of them, one checker a bundle, and believes a host after one bundle."""
    world = run("sybil:60", seed=127).world
    ledger = world.organizer.ledger
    idle = [row for row in ledger.rows.values() if not sum(row.segments) and world.by_host[row.worker].kind in FAKERS]
    assert idle and not world.checkers.escaped
    assert all(
        ledger.host(row.worker).convicted for row in ledger.rows.values() if row.digest in world.checkers.offered
    )


def test_a_whitewasher_comes_back_with_a_new_key_after_each_ban():
    report = run("whitewasher")
    (washer,) = [host for host in report.world.hosts if host.kind is Kind.WHITEWASHER]
    assert washer.washes and len(banned(report, FAKERS)) == washer.washes
    assert len({name for name, host in report.world.by_host.items() if host is washer}) == washer.washes + 1


def test_a_sleeper_is_honest_until_it_has_standing():
    report = run("sleeper", seed=1)
    world = report.world
    (sleeper,) = [host for host in world.hosts if host.kind is Kind.SLEEPER]
    rows = [row for row in world.organizer.ledger.rows.values() if row.worker == sleeper.host]
    fakes = [row.received_at for row in rows if row.digest in world.checkers.offered]
    honest = [row.received_at for row in rows if row.digest not in world.checkers.offered]
    assert len(honest) >= report.options.sleep_bundles and fakes and min(fakes) > min(honest)


def test_honest_work_that_a_fake_overtook_is_kept_and_taken_up():
    report = run("overtaker", seed=3)
    kept, admitted = (
        report.counts[f"{name}"] for name in ("results kept behind another", "kept results that were admitted")
    )
    assert kept and admitted and not banned(report, HONEST)


def test_an_eclipsed_host_harms_nobody_and_leaves_at_the_end():
    report = run("eclipser")
    (victim,) = [host for host in report.world.hosts if host.kind is Kind.ECLIPSED]
    assert victim.left and not report.world.organizer.ledger.host(victim.host).banned


def test_every_adversary_changes_the_options_and_is_listed():
    for name, line in zip(ADVERSARIES, lines(), strict=True):
        options = against(name, 3)
        assert options.liars or options.crowds, name
        assert line.startswith(f"{name}:") and "{n}" not in line
    assert against("sybil:7", 3).crowds == ((Kind.SYBIL, 7),) and against("sybil:7", 3, 5).hosts == 5
    assert len(against("sleeper:30", 3, 20).liars) == 6


@pytest.mark.parametrize("text", ["sibyl", "sybil:", "sybil:0", "sybil:x", "sybil:100001"])
def test_an_adversary_that_does_not_exist_is_named_with_those_that_do(text):
    with pytest.raises(ValueError, match=r"no adversary .*; write NAME or NAME:NUMBER with one of sybil, sleeper"):
        parse(text)


def test_the_command_line_lists_adversaries_and_runs_one():
    from simulate import main  # scripts/simulate.py

    runner = CliRunner()
    assert runner.invoke(main, ["--adversaries"]).output.count("\n") == len(ADVERSARIES)
    assert "no adversary 'nobody'" in runner.invoke(main, ["--seed", "1", "--adversary", "nobody"]).output
    done = runner.invoke(main, ["--seed", "1", "--hosts", "3", "--adversary", "lazy"])
    assert done.exit_code == 0 and "3 hosts (1 of them lie)" in done.output


def test_an_adversary_leaves_the_rest_of_the_seed_as_it_is():
    options, other = against("sybil:3", 5, 4), draw(5, 4, per_host=8)
    assert options.campaign.digest == other.campaign.digest and options.loss == other.loss
