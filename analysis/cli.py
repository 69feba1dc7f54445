"""The verbs of the analysis package; anything heavy is imported inside a verb."""

import sys
from pathlib import Path

import click


@click.command()
@click.argument("zoo", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Directory for the page; made if missing.")
@click.option("--where", metavar="SQL", help="Only these networks, e.g. \"class in ('parity', 'xor')\".")
@click.option("--json", "json_too", is_flag=True, help="Also write report.json: the page's numbers.")
def report(zoo: Path, out: Path, where: str | None, json_too: bool) -> None:
    """Make one self-contained HTML page about ZOO, a zoo's directory.

    \b
    zooswarm report demo-run/zoo --out report
    """
    from analysis.report import write_report

    page = write_report(zoo, out, where, lambda text: print(text, file=sys.stderr, flush=True), json_too)
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

    found = audit_zoo(zoo, replay, threads, organizer, say=lambda text: print(text, file=sys.stderr, flush=True))
    print(f"networks           {found.networks} in {found.bundles} bundles by {found.hosts} hosts")
    print(f"checked by others  {found.checked_by_others} of {found.networks}, {found.cells} segments replayed")
    print(f"trained again      {found.replayed}, bit for bit" if found.replayed else "trained again      0")
    for problem in found.problems:
        print(f"PROBLEM            {problem}")
    print("the zoo is sound" if not found.problems else f"{len(found.problems)} problems")
    sys.exit(1 if found.problems else 0)


VERBS: list[click.Command] = [report, audit]
