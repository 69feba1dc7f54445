"""The verbs of the analysis package; anything heavy is imported inside a verb."""

import contextlib
import sys
from pathlib import Path

import click

from protocol.errors import shown


@click.command()
@click.argument("zoo", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Directory for the page; made if missing.")
@click.option("--where", metavar="SQL", help="Only these networks, e.g. \"class in ('parity', 'xor')\".")
@click.option("--json", "json_too", is_flag=True, help="Also write report.json: every number of the page.")
@click.option(
    "--permutations",
    type=click.IntRange(300, 100_000),
    default=1000,
    show_default=True,
    help="Shuffles behind every p-value: more cost more time, 300 are the fewest that can show one of twelve pairs.",
)
@click.option("--no-cache", is_flag=True, help="Compute everything again, and keep nothing.")
def report(zoo: Path, out: Path, where: str | None, json_too: bool, permutations: int, no_cache: bool) -> None:
    """Make one self-contained HTML page about ZOO, a zoo's directory.

    Minutes for a thousand networks the first time, seconds the next time. Ctrl-C keeps the sections that are done.

    \b
    zooswarm report demo-run/zoo --out report
    """
    from analysis.report.page import Settings, write_report
    from analysis.weights.neighbours import cache_dir
    from protocol.cli.console import progress

    page = None
    with progress("reading the catalogue", line_seconds=0) as bar:

        def hear(done: int, total: int, title: str) -> None:
            bar.update(done, total, title, line=f"{done + 1}/{total}  {title}" if done < total else "")

        cache = None if no_cache else cache_dir()
        settings = Settings(where=where, permutations=permutations, cache=cache, hear=hear)
        with contextlib.suppress(KeyboardInterrupt):
            page = write_report(zoo, out, settings, json_too)
    if page is None:
        kept = "nothing was kept" if no_cache else f"{bar.done} of {bar.total or 0} sections are kept"
        again = "" if no_cache else "; the same command goes on from there"
        print(f"stopped: no page was written, {kept}{again}", file=sys.stderr)
        sys.exit(130)
    print(page)


@click.command()
@click.argument("zoo", type=click.Path(path_type=Path))
@click.option("--replay", type=click.IntRange(0), default=3, show_default=True, help="Networks to train again, whole.")
@click.option("--organizer", help="The host name that must have signed. Default: whom the evidence names.")
@click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True)
def audit(zoo: Path, replay: int, organizer: str | None, threads: int) -> None:
    """Check ZOO from scratch: every file, all evidence, and some networks trained again bit for bit.

    Believes nobody. Exit code 1 when anything is wrong.
    """
    from analysis.audit import audit_zoo

    found = audit_zoo(zoo, replay, threads, organizer, say=lambda text: print(shown(text), file=sys.stderr, flush=True))
    print(f"networks           {found.networks} in {found.bundles} bundles by {found.hosts} hosts")
    print(f"checked by others  {found.checked_by_others} of {found.networks}, {found.cells} segments replayed")
    print(f"trained again      {found.replayed}, bit for bit" if found.replayed else "trained again      0")
    for problem in found.problems:
        print(f"PROBLEM            {shown(problem)}")
    print("the zoo is sound" if not found.problems else f"{len(found.problems)} problems")
    sys.exit(1 if found.problems else 0)


@click.command()
@click.argument("address")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Directory for the copy; made if missing.")
def pull(address: str, out: Path) -> None:
    """Copy the zoo of a running swarm into a directory; ADDRESS is the one that volunteers join with.

    Every file is checked under its digest. Again later brings only what is new; Ctrl-C keeps what is whole, and the
    same command goes on.

    \b
    zooswarm pull 203.0.113.7:7750/12D3KooW... --out zoo
    """
    from analysis.pull.command import run_pull

    run_pull(address, out)


VERBS: list[click.Command] = [pull, report, audit]
