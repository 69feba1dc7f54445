"""The verbs of the analysis package; anything heavy is imported inside a verb."""

import contextlib
import sys
from pathlib import Path

import click

from analysis.probes.command import PROBE
from protocol.cli.numbers import Number
from protocol.errors import shown

LINE_SECONDS = 5.0


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
@click.option("--probes", is_flag=True, help="Also a section for every probe that left rows (zooswarm probe).")
@click.option("--no-cache", is_flag=True, help="Compute everything again, and keep nothing.")
def report(
    zoo: Path, out: Path, where: str | None, json_too: bool, permutations: int, probes: bool, no_cache: bool
) -> None:
    """Make one self-contained HTML page about ZOO, a zoo's directory.

    Minutes for a thousand networks the first time, seconds the next time. Ctrl-C keeps the sections that are done.

    \b
    zooswarm report demo-run/zoo --out report
    """
    from analysis.report.first import check_selection, probed

    check_selection(zoo, where)
    from analysis.report.page import Settings, write_report
    from analysis.weights.neighbours import cache_dir
    from protocol.cli.console import progress

    page = None
    with progress("reading the catalogue", line_seconds=0) as bar:

        def hear(done: int, total: int, title: str) -> None:
            bar.update(done, total, title, line=f"{done + 1}/{total}  {title}" if done < total else "")

        cache = None if no_cache else cache_dir()
        settings = Settings(where=where, permutations=permutations, probes=probes, cache=cache, hear=hear)
        with contextlib.suppress(KeyboardInterrupt):
            page = write_report(zoo, out, settings, json_too)
    if page is None:
        kept = "nothing was kept" if no_cache else f"{bar.done} of {bar.total or 0} sections are kept"
        again = "" if no_cache else "; the same command goes on from there"
        print(f"stopped: no page was written, {kept}{again}", file=sys.stderr)
        sys.exit(130)
    print(page)
    if probes and not probed(zoo):
        print(shown(f"no probe left rows yet, so there is no section of one: zooswarm probe {zoo} --probe NAME"))


@click.command()
@click.argument("zoo", type=click.Path(path_type=Path))
@click.option(
    "--replay",
    type=click.IntRange(0),
    help="Networks to train again, whole; 0: none. Default: as many as begin within --seconds.",
)
@click.option("--seconds", type=Number(0), default=30.0, show_default=True, help="Of training again.")
@click.option("--organizer", help="Whose zoo it must be. Default: whose signature the newest manifest bears.")
@click.option("--threads", type=click.IntRange(1, 256), help="Networks trained at once. Default: one a processor.")
def audit(zoo: Path, replay: int | None, seconds: float, organizer: str | None, threads: int | None) -> None:
    """Check ZOO from scratch: signatures, every file, all evidence, and some networks trained again bit for bit.

    Believes nobody, and says what it has not proved. Exit code 1 when anything is wrong.

    \b
    zooswarm audit zoo               half a minute of training again
    zooswarm audit zoo --replay 300  if all agree, at most 1.5 % of the networks could be fake (95 %)
    """
    import os

    from analysis.audit.check import audit_zoo
    from analysis.audit.telling import told
    from protocol.cli.console import progress

    with progress("files", replay, line_seconds=LINE_SECONDS) as bar:
        found = audit_zoo(
            zoo,
            replay,
            threads or os.cpu_count() or 1,
            organizer,
            say=lambda text: bar.update(0, replay, text),
            seconds=seconds,
            hear=lambda r: bar.update(r.agreed + r.differed, replay, f"trained again, {r.differed} differ"),
        )
    for line in told(found):
        print(shown(line))
    sys.exit(130 if found.replays.stopped else 1 if found.problems else 0)


@click.command()
@click.argument("address")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Directory for the copy; made if missing.")
def pull(address: str, out: Path) -> None:
    """Copy the zoo of a running swarm into a directory; ADDRESS, or the invite, is what volunteers join with.

    Every file is checked under its digest. Again later brings only what is new; Ctrl-C keeps what is whole, and the
    same command goes on.

    \b
    zooswarm pull 203.0.113.7:7750/12D3KooW... --out zoo
    """
    from analysis.pull.command import run_pull

    run_pull(address, out)


@click.command("map")
@click.argument("zoo", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The file to write, JSON.")
@click.option("--watch", is_flag=True, help="Again whenever the zoo has grown, until Ctrl-C.")
@click.option("--when-asked", is_flag=True, hidden=True, help="Again for each line on the input, until its end.")
def map_verb(zoo: Path, out: Path, watch: bool, when_asked: bool) -> None:
    """Place the networks of ZOO in the plane by their weights, as a small file that status pages draw.

    \b
    zooswarm map demo-run/host/zoo --out map.json --watch
    """
    from protocol.cli.libraries import multiply_alone

    multiply_alone()
    from analysis.report.live_map import run_map

    with contextlib.suppress(KeyboardInterrupt):
        run_map(zoo, out, watch, when_asked, lambda text: print(shown(text), flush=True))


VERBS: list[click.Command] = [pull, report, PROBE, audit, map_verb]
