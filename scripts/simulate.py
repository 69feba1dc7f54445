"""The command line of tests/simulation: replay a seed, or run many. Started by scripts/simulate.

What it prints on standard output is a function of its arguments; progress goes to standard error.
"""

import sys
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from rich.console import Console  # noqa: E402
from rich.progress import track  # noqa: E402
from simulation import table  # noqa: E402
from simulation.adversaries import against  # noqa: E402
from simulation.adversaries import lines as adversary_lines  # noqa: E402
from simulation.options import Options, draw  # noqa: E402
from simulation.rivals import scores  # noqa: E402
from simulation.world import Report, simulate  # noqa: E402

TABLE_SEEDS = range(10)  # --table, without --seeds
TRACE_LINES = 40  # of the end of a run that broke a promise


def parse_range(text: str) -> range:
    """`"0:200"` -> range(0, 200)."""
    first, colon, end = text.partition(":")
    if not (colon and first.isdecimal() and end.isdecimal() and int(first) < int(end)):
        raise click.BadParameter('expected "first:end", e.g. 0:200')
    return range(int(first), int(end))


@click.command()
@click.option("--seed", type=int, help="Run this one.")
@click.option("--seeds", help='Run these, e.g. "0:200"; stops at the first that breaks a promise.')
@click.option("--hosts", type=click.IntRange(1, 100_000), help="So many hosts, instead of what the seed says.")
@click.option("--day", is_flag=True, help="A campaign of a day, instead of one of some minutes.")
@click.option("--what-happened", is_flag=True, help="Show what happened, by fault and by kind of host.")
@click.option("--table", "rivals", is_flag=True, help="Our trust beside BOINC's, against every adversary, and end.")
@click.option("--adversary", metavar="NAME[:NUMBER]", help="With this adversary among the hosts, e.g. sybil:1000.")
@click.option("--adversaries", "list_adversaries", is_flag=True, help="List the adversaries, and end.")
@click.option("--story", type=int, help="Tell what happened to this assignment (with --seed).")
def main(
    seed: int | None,
    seeds: str | None,
    hosts: int | None,
    day: bool,
    what_happened: bool,
    rivals: bool,
    adversary: str | None,
    list_adversaries: bool,
    story: int | None,
) -> None:
    """Simulate whole swarms, each decided by its seed."""
    if list_adversaries:
        click.echo("\n".join(adversary_lines()))
        return
    if rivals:
        click.echo("\n".join(scores.lines(TABLE_SEEDS if seeds is None else parse_range(seeds))))
        return
    if (seed is None) == (seeds is None):
        raise click.UsageError("say either --seed N or --seeds A:B")
    wanted = [seed] if seed is not None else parse_range(seeds or "")
    click.echo(f"seeds {wanted[0]} to {wanted[-1]}" if len(wanted) > 1 else f"seed {wanted[0]}")
    scale = (
        (f" --adversary {adversary}" if adversary else "")
        + (f" --hosts {hosts}" if hosts else "")
        + (" --day" if day else "")
    )
    broken, passed = False, 0
    reports, kept = [], story is not None or what_happened  # a world is large: hundreds do not fit into memory
    errors = Console(stderr=True)
    for number in track(wanted, "simulating", console=errors, disable=not errors.is_terminal):
        report = simulate(options_of(number, hosts, day, adversary))
        broken, passed = report.violation is not None, passed + 1
        if kept:
            reports.append(report)
        if len(wanted) == 1 or broken:
            describe(report)
        if broken:
            click.echo(f"replay it with: scripts/simulate --seed {number}{scale}")
            break
    if story is not None:
        click.echo(f"\nassignment {story}:\n" + "\n".join(reports[0].world.story(story)))
    if what_happened:
        click.echo("\n" + "\n".join(table.lines(reports)))
    if len(wanted) > 1 and not broken:
        click.echo(f"{passed} seeds, no promise broken")
    sys.exit(1 if broken else 0)


def options_of(seed: int, hosts: int | None, day: bool, adversary: str | None) -> Options:
    if adversary is None:
        return draw(seed, hosts, day)
    try:
        return against(adversary, seed, hosts, day)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def describe(report: Report) -> None:
    options = report.options
    crowds = "".join(f", beside {size} of a {kind.value}'s keys" for kind, size in options.crowds)
    click.echo(
        f"{options.hosts} hosts ({len(options.liars)} of them lie){crowds},"
        f" {options.campaign.assignment_count:,} assignments,"
        f" {'every' if options.exhaustive else 'no'} checker replays everything"
    )
    click.echo(f"{report.seconds:,.0f} s simulated, {report.events:,} events, trace {report.digest}")
    if report.violation is None:
        click.echo("no promise broken: all is admitted, and every honest host has left")
        return
    click.echo(f"\nBROKEN: {report.violation}")
    if report.story:
        click.echo("\nthe assignment, as its holders tell it:\n" + "\n".join(report.story))
    click.echo("\nthe last lines of the trace:\n" + "\n".join(report.lines[-TRACE_LINES:]))


if __name__ == "__main__":
    main()
