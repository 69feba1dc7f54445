"""`zooswarm probe`: run probes over a zoo and leave their rows beside it."""

import sys
from pathlib import Path

import click

from analysis.probes.names import PROBES
from protocol.errors import UsageError, shown

LINE_SECONDS = 5.0
PROBES_TOLD = "\n".join(f"  {name:14} {listed.line}" for name, listed in PROBES.items())


@click.command(
    "probe",
    epilog=f"\b\nProbes:\n{PROBES_TOLD}\n\n"
    "Settings, columns, formulas and costs of each: docs/probes.md; a wrong --set lists the settings.",
)
@click.argument("zoo", type=click.Path(path_type=Path))
@click.option("--probe", "names", required=True, metavar="NAME[,NAME]", help="Which; see below. `all`: every one.")
@click.option("--where", metavar="SQL", help="Only these networks, e.g. \"class like 'digits%'\".")
@click.option(
    "--set",
    "chosen",
    multiple=True,
    metavar="NAME=VALUE",
    help="A setting; of one of several probes: PROBE.NAME=VALUE. A list stands between commas.",
)
@click.option("--threads", type=click.IntRange(1, 256), help="Processes on this computer. Default: one a core.")
@click.option("--dask", metavar="ADDRESS", help="A Dask scheduler, whose workers see ZOO under the same path.")
def PROBE(
    zoo: Path, names: str, where: str | None, chosen: tuple[str, ...], threads: int | None, dask: str | None
) -> None:
    """Ask every network of ZOO what its weights do not say at sight; rows go to ZOO/probes/NAME.parquet.

    Each network is kept as it is done: Ctrl-C loses only those in work, and the same command goes on, here or with
    other networks. The rows join the catalogue by `network` = `id`, and `zooswarm report ZOO --probes` draws them.

    \b
    zooswarm probe zoo --probe corruption --where "class like 'digits%'"
    zooswarm probe zoo --probe corruption --set radii=0.01,0.1 --set p=inf
    """
    from analysis.probes.registry import probe_named, settings_from
    from analysis.zoo import open_zoo

    wanted = list(PROBES) if names == "all" else list(dict.fromkeys(part.strip() for part in names.split(",")))
    probes = {name: probe_named(name) for name in wanted}
    values = settings_of(wanted, chosen)
    settings = {name: settings_from(one.settings, values[name]) for name, one in probes.items()}
    opened = open_zoo(zoo)
    for name, its in settings.items():
        try:
            run_one(opened, name, where, its, threads, dask)
        except UsageError as error:
            if names != "all":
                raise
            print(f"{name}: {shown(str(error))}")  # none of these networks is for this probe; the next one may see some


def settings_of(names: list[str], chosen: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """Probe -> setting -> text. Raises UsageError: not `name=value`, or of none of these probes."""
    values: dict[str, dict[str, str]] = {name: {} for name in names}
    for text in chosen:
        left, equals, value = text.partition("=")
        probe, dot, setting = left.partition(".")
        if not dot:
            probe, setting = names[0], left
        if not equals or probe not in values or (not dot and len(names) > 1):
            form = "PROBE.NAME=VALUE with one of these probes" if len(names) > 1 else "NAME=VALUE"
            raise UsageError(f"--set {text}: write {form}")
        values[probe][setting] = value
    return values


def run_one(zoo, name: str, where: str | None, settings, threads: int | None, dask: str | None) -> None:
    """Run one probe and say what it left. Ends the program with 130 after Ctrl-C."""
    from analysis.catalogue.probe_tables import origin_of, probe_path
    from analysis.probes.run import probe
    from protocol.cli.console import progress

    with progress(name, line_seconds=LINE_SECONDS) as bar:

        def hear(done: int, total: int) -> None:
            bar.update(done, total, name)

        try:
            table = probe(zoo, where, settings, processes=threads, dask=dask, hear=hear)
        except KeyboardInterrupt:
            print(
                f"stopped: {name}: {bar.done:,} of {bar.total or 0:,} units are kept; "
                "the same command goes on from there",
                file=sys.stderr,
            )
            sys.exit(130)
    origin = origin_of(table)
    path = probe_path(zoo.store.path, origin.probe if origin else name)
    print(f"{path}: {table.num_rows:,} rows" if table.num_rows else f"{name}: no rows; nothing was written")
    for reason, count in sorted(origin.skipped.items()) if origin else []:
        print(shown(f"  {count:,} without rows: {reason}"))
