"""The verbs of the coordinator package; anything heavy is imported inside a verb."""

import os
import sys
import time
from pathlib import Path

import click

from protocol.cli.garbage import look_seldom
from protocol.cli.libraries import installation, multiply_alone, need_swarm
from protocol.cli.numbers import Number, SignedWhole
from protocol.errors import shown

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its core writes to stderr; what matters we say ourselves
DIR = click.Path(path_type=Path, file_okay=False)
WITH_VALUE = ("priority", "max-leased")
REASON_CHARS_MAX = 150


@click.command()
@click.argument("directory", metavar="[DIR]", required=False, type=DIR)
@click.option("--listen", default="127.0.0.1:7750", show_default=True, help="HOST:PORT of the service.")
@click.option("--dht-port", default=0, help="TCP port of the swarm node; default: the one of last time.")
@click.option("--announce", metavar="HOST", help="Name or address under which others reach this machine.")
@click.option(
    "--stamp-bits", type=click.IntRange(0, 24), default=15, show_default=True, help="What a new key works; 0: nothing."
)
@click.option(
    "--page", metavar="HOST:PORT|none", help="Where the status page is served. Default: 127.0.0.1:7780, or a free port."
)
@click.option("--metrics", metavar="HOST:PORT", help="Numbers for Prometheus there, e.g. 127.0.0.1:9750.")
@click.option("--webhook", metavar="URL", help="Alerts as JSON: stalled, complete, a host convicted, disk low.")
@click.option("--log-json", is_flag=True, help="DIR/host.log as one JSON object a line.")
@click.option("--exit-when-done", is_flag=True, help="Stop when every campaign is complete.")
@click.option("--no-dht", is_flag=True, hidden=True, help="Serve without a swarm node (tests).")
def host(
    directory: Path | None,
    listen: str,
    dht_port: int,
    announce: str | None,
    stamp_bits: int,
    page: str | None,
    metrics: str | None,
    webhook: str | None,
    log_json: bool,
    exit_when_done: bool,
    no_dht: bool,
) -> None:
    """Start a swarm: coordinate campaigns, check results, fill DIR/zoo. Default DIR: one under your user data.

    Prints the invite for volunteers and where the status page is. Ctrl-C stops it; the same command goes on.
    """
    look_seldom()
    multiply_alone()
    if not no_dht:
        need_swarm()
    from coordinator.directories import default_directory
    from coordinator.server.main import run_host
    from coordinator.server.watch.watching import Watch

    watch = Watch(metrics=metrics, webhook=webhook, log_json=log_json)
    path = directory or default_directory()
    run_host(path, listen, dht_port, announce, exit_when_done, not no_dht, stamp_bits, page, watch)


@click.command()
@click.argument("campaign", type=click.Path(path_type=Path))
@click.option("--dir", "directory", type=DIR, help="The coordinator's directory; default: the one used last.")
@click.option("--dry-run", is_flag=True, help="Seed nothing; say what it will cost, from a short calibration here.")
@click.option("--seeds", metavar="FIRST:END", help="Other seeds than the file's: more of the same.")
def seed(campaign: Path, directory: Path | None, dry_run: bool, seeds: str | None) -> None:
    """Give a campaign file to the running coordinator. Twice is harmless.

    To extend a campaign: `zooswarm seed campaign.toml --seeds 1000:2000`.
    """
    from protocol.recipes.campaign import follow_up, load_campaign

    loaded = load_campaign(campaign)
    loaded = follow_up(loaded, seeds) if seeds else loaded
    if dry_run:
        from coordinator.estimate import calibrate, estimate, lines

        said = lines(loaded, estimate(loaded, calibrate(loaded)), os.cpu_count() or 1, _swarm_speed(directory))
        return click.echo("\n".join(said))
    from coordinator import client
    from coordinator.dataset_verbs import upload_all
    from coordinator.directories import last_directory
    from protocol.trust.messages import SeedCampaign

    path = directory or last_directory()
    with client.Organizer(path) as organizer:
        before = organizer.state_of(loaded.digest)
        upload_all(organizer, loaded, path)
        digest = organizer.seed(SeedCampaign(campaign=loaded.exact))
    click.echo(
        f"{loaded.name}: {loaded.network_count:,} networks in {loaded.assignment_count:,} assignments, "
        f"campaign {digest[:16]}{f'; it is there already, {before}, and nothing changed' if before else ''}"
    )


def _swarm_speed(directory: Path | None) -> float:
    """Network-steps a second that the hosts of the running coordinator report together; 0 when there is none."""
    from coordinator import client
    from coordinator.directories import last_directory
    from protocol.errors import UsageError

    try:
        with client.Organizer(directory or last_directory()) as organizer:
            return organizer.steps_per_second()
    except UsageError:
        return 0.0


@click.command(context_settings={"ignore_unknown_options": True})  # `priority -5` is a number
@click.argument("campaign")
@click.argument("action", type=click.Choice(["pause", "resume", "cancel", "priority", "max-leased"]))
@click.argument("value", type=SignedWhole(), required=False)
@click.option("--dir", "directory", type=DIR, help="The coordinator's directory; default: the one used last.")
def control(campaign: str, action: str, value: int | None, directory: Path | None) -> None:
    """Pause, resume or cancel CAMPAIGN, given by its name or the first digits of its digest.

    `priority N` (-100 to 100): volunteers take up work of the highest first. `max-leased N`: so many assignments are
    being trained at once at most, and the rest of the swarm goes to other campaigns; 0 is no limit.
    """
    if (value is None) == (action in WITH_VALUE):
        raise click.UsageError(f"{action} {'needs a number' if value is None else 'takes no number'}")
    from coordinator import client
    from coordinator.directories import last_directory

    with client.Organizer(directory or last_directory()) as organizer:
        name, state = organizer.control(campaign, action, value or 0)
    click.echo(shown(f"{name}: {state}" if value is None else f"{name}: {action} {value}, {state}"))


@click.command()
@click.argument("host_name", metavar="HOST")
@click.option("--reason", required=True, help="Shown to the host and to everybody.")
@click.option("--dir", "directory", type=DIR, help="The coordinator's directory; default: the one used last.")
def ban(host_name: str, reason: str, directory: Path | None) -> None:
    """Refuse HOST from now on; its name, or the end of it as `zooswarm status` shows it.

    What was admitted stays; what waits for its outcome is given to others.
    """
    _moderate(host_name, True, reason, directory)


@click.command()
@click.argument("host_name", metavar="HOST")
@click.option("--reason", default="", help="Kept in the ledger.")
@click.option("--dir", "directory", type=DIR, help="The coordinator's directory; default: the one used last.")
def unban(host_name: str, reason: str, directory: Path | None) -> None:
    """Let HOST in again, unless it was proved to have lied. It may hand in again what the ban voided."""
    _moderate(host_name, False, reason, directory)


def _moderate(host_name: str, banned: bool, reason: str, directory: Path | None) -> None:
    from coordinator import client
    from coordinator.directories import last_directory

    if len(reason) > REASON_CHARS_MAX:
        raise click.UsageError(f"--reason: at most {REASON_CHARS_MAX} characters")
    if banned and not reason.strip():
        raise click.UsageError("--reason: say why in a few words; the host and everybody read it")
    with client.Organizer(directory or last_directory()) as organizer:
        host = organizer.moderate(host_name, banned, reason)
    click.echo(f"{host}: {'banned' if banned else 'may come back'}")


@click.command()
@click.argument("address", required=False)
@click.option("--dir", "directory", type=DIR, help="The coordinator's directory; default: the one used last.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--watch", is_flag=True, help="Go on until Ctrl-C.")
@click.option("--until-done", is_flag=True, help="Watch until every campaign is complete.")
def status(address: str | None, directory: Path | None, as_json: bool, watch: bool, until_done: bool) -> None:
    """Show campaigns, networks, hosts and refusals; of ADDRESS, or of the coordinator on this machine."""
    from coordinator import client
    from coordinator.directories import address_of, last_directory, page_of

    path = None if address else directory or last_directory()
    where, page = (address_of(path), page_of(path)) if path else (address or "", "")
    try:
        client.show_status(where, as_json=as_json, watch=watch or until_done, until_done=until_done, page=page)
    except KeyboardInterrupt:
        sys.exit(0)


@click.command()
@click.argument("directory", metavar="[DIR]", required=False, type=DIR)
@click.option("--out", type=DIR, required=True, help="A new directory for the copy, on another disk best.")
@click.option("--zoo", "with_zoo", is_flag=True, help="Copy the zoo, too.")
def backup(directory: Path | None, out: Path, with_zoo: bool) -> None:
    """Copy an organizer's directory while it runs; DIR: the one used last. Whoever has the copy is the organizer.

    \b
    zooswarm backup --out /mnt/other/backup-1 --zoo
    """
    from coordinator.directories import last_directory
    from coordinator.server.keeping.backup import back_up

    about = back_up(directory or last_directory(), out, with_zoo, time.time())
    zoo = f"zoo as of manifest {about.manifest}" if about.zoo_inside else "without the zoo (--zoo)"
    click.echo(f"{out}: keys, ledger at epoch {about.epoch:,}, uploads, data sets, {zoo}; keep it secret")


@click.command()
@click.argument("backup_path", metavar="BACKUP", type=DIR)
@click.argument("directory", metavar="DIR", type=DIR)
@click.option("--zoo", type=DIR, help="A copy of the zoo, where the backup has none, or a newer one.")
@click.option("--epoch", type=click.IntRange(0), default=0, help="Links of the beacon that were shown, if you know.")
@click.option(
    "--epoch-seconds",
    type=Number(0, min_open=True),
    help="The shortest of campaigns seeded since.",
)
def restore(backup_path: Path, directory: Path, zoo: Path | None, epoch: int, epoch_seconds: float | None) -> None:
    """Make DIR from a BACKUP. The host that it was made from must not run any more, here or elsewhere.

    The beacon skips all links that can have been shown since. What was admitted since then is trained again.
    """
    from coordinator.server.keeping.restore import lines, restore

    for line in lines(
        restore(backup_path, directory, zoo=zoo, now=time.time(), epoch=epoch, epoch_seconds=epoch_seconds)
    ):
        click.echo(line)


@click.command()
@click.argument("directory", metavar="[DIR]", type=DIR, required=False)
def doctor(directory: Path | None) -> None:
    """Is DIR sound? Of a host (running or stopped), a volunteer, or a zoo: every signature, digest and count.

    Without DIR: what is installed here, and what is missing.
    """
    if directory is None:
        click.echo("\n".join(installation()))
        return
    from coordinator.server.doctor.examine import run_doctor

    sys.exit(run_doctor(directory, click.echo))


@click.command("field-report")
@click.argument("directory", metavar="[DIR]", required=False, type=DIR)
@click.option("--out", type=DIR, required=True, help="Directory for the page; made if missing.")
@click.option(
    "--pause",
    type=Number(0),
    default=30.0,
    show_default=True,
    help="Minutes without a sign: then a volunteer has left.",
)
@click.option("--json", "json_too", is_flag=True, help="Also write field.json: the page's numbers.")
def field_report(directory: Path | None, out: Path, pause: float, json_too: bool) -> None:
    """What it was like with volunteers: who came, how long they stayed, who did how much, what was lost and checked.

    Of DIR, a coordinator's directory, running or stopped; default: the one used last. Nothing in it is written.

    \b
    zooswarm field-report --out field
    """
    from coordinator.directories import last_directory
    from coordinator.field.page import write_page

    click.echo(write_page(directory or last_directory(), out, 60 * pause, json_too))


@click.command()
@click.argument("host_name", metavar="HOST")
@click.option("--days", type=Number(0, 3660, min_open=True), default=30.0, show_default=True)
@click.option("--dir", "directory", type=DIR, help="The coordinator's directory; default: the one used last.")
def ticket(host_name: str, days: float, directory: Path | None) -> None:
    """Let HOST, by its key (`zooswarm identity show`), into campaigns that ask for tickets; prints the ticket."""
    from coordinator.client import ticket_for
    from coordinator.directories import last_directory

    click.echo(ticket_for(directory or last_directory(), host_name, days))


@click.command()
@click.option("--days", type=Number(0, 3660, min_open=True), help="How long it is good. Default: for ever.")
@click.option("--also", multiple=True, metavar="HOST:PORT", help="Another address of the same host; may be repeated.")
@click.option("--bootstrap", multiple=True, metavar="MULTIADDR", help="A swarm node that outlives a move of the host.")
@click.option("--dir", "directory", type=DIR, help="The coordinator's directory; default: the one used last.")
def invite(days: float | None, also: tuple[str, ...], bootstrap: tuple[str, ...], directory: Path | None) -> None:
    """Print the invite code for volunteers and analysts: one word instead of an address and a key.

    It is no secret. What keeps people out are tickets.

    \b
    zooswarm invite --days 30
    """
    from coordinator.client import invite_for
    from coordinator.directories import last_directory

    click.echo(invite_for(directory or last_directory(), days, also, bootstrap, time.time()))


@click.group()
def data() -> None:
    """Data sets that recipes can name."""


@data.command("add")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--name", required=True, help="A short name for people; recipes name the digest.")
@click.option("--labels", type=click.Path(path_type=Path), help="File with the labels, when FILE has none.")
@click.option("--regression", is_flag=True, help="Targets are numbers to predict, not classes.")
@click.option("--dir", "directory", type=DIR, help="Keep it in this coordinator's directory; default: yours.")
def add(files: tuple[Path, ...], name: str, labels: Path | None, regression: bool, directory: Path | None) -> None:
    """Make a data set of IDX, CIFAR, CSV, .npy, .npz or safetensors files, and print how a recipe names it."""
    from coordinator.dataset_verbs import add_data, data_folder

    click.echo(add_data(data_folder(directory), list(files), name, labels, regression))


@data.command("list")
@click.option("--dir", "directory", type=DIR, help="Of this coordinator's directory; default: yours.")
def list_data(directory: Path | None) -> None:
    """Show the data sets that are here."""
    from coordinator.dataset_verbs import data_folder, data_lines

    for line in data_lines(data_folder(directory)):
        click.echo(shown(line))


RUNNING: list[click.Command] = [host, seed, status, control, ban, unban]
VERBS = [*RUNNING, invite, ticket, data, doctor, backup, restore, field_report]
