"""The verbs that speak to the volunteer of this computer from another terminal: `volunteer`, `pause`, `resume`."""

import json
import sys
import time
from pathlib import Path

import click

from protocol.errors import AwayError, FileError, UsageError

DIR = click.option("--dir", "directory", type=click.Path(path_type=Path), help="The volunteer's directory.")


def home_of(directory: Path | None) -> Path:
    """A directory that a volunteer has used. Raises FileError."""
    from peer.storage.home import default_home

    home = directory or default_home()
    if not ((home / "identity").is_file() and (home / "bundles").is_dir()):  # a host's directory has no bundles
        raise FileError(f"{home}: no volunteer has run here; name its directory with --dir")
    return home


@click.command("volunteer")
@DIR
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--watch", is_flag=True, help="Go on until Ctrl-C.")
def volunteer(directory: Path | None, as_json: bool, watch: bool) -> None:
    """Show what the volunteer on this computer does, and what it waits for."""
    from rich.console import Console
    from rich.live import Live

    from peer.computer.control import read_status
    from peer.progress import table_of

    if watch and not sys.stdout.isatty():
        raise click.UsageError(
            "--watch redraws a terminal, and this is a file or a pipe; --json is for those, once a call"
        )
    home = home_of(directory)
    told = read_status(home, time.time())
    if told is None:
        raise AwayError(f"{home}: no volunteer runs here now; `zooswarm join` starts it")
    if as_json:
        click.echo(json.dumps({name: value for name, value in told.items() if name != "rows"}))
    elif not watch:
        Console(highlight=False).print(table_of(told["name"], told["rows"]))
    else:
        try:
            with Live(refresh_per_second=2) as live:
                while told is not None:
                    live.update(table_of(told["name"], told["rows"]))
                    time.sleep(1.0)
                    told = read_status(home, time.time())
        except KeyboardInterrupt:
            return
        click.echo("it ended; `zooswarm join` starts it again")


@click.command("pause")
@click.option("--for", "length", metavar="TIME", help="30m, 2h, 1d, then it goes on. Default: until `resume`.")
@DIR
def pause(length: str | None, directory: Path | None) -> None:
    """Let the volunteer on this computer stand still.

    Training stops within two seconds, in the middle of its step, and nothing is lost. A pause of ten minutes and more
    gives back what is not finished, so that nobody waits; what is finished is still handed in and opened for checks.
    """
    from peer.computer.control import Wish, read_status, write_wish
    from peer.state.lending.pausing import duration, parse_duration

    home, seconds = home_of(directory), parse_duration(length) if length else None
    write_wish(home, Wish(paused_until=-1.0 if seconds is None else time.time() + seconds))
    until = "until `zooswarm resume`" if seconds is None else f"for {duration(seconds)}"
    runs = read_status(home, time.time()) is not None
    click.echo(f"paused {until}" if runs else f"no volunteer runs in {home} now; it will be paused {until}")


@click.command("resume")
@DIR
def resume(directory: Path | None) -> None:
    """Let the volunteer on this computer go on after `pause`."""
    from peer.computer.control import Wish, read_status, read_wish, write_wish

    home = home_of(directory)
    paused = read_wish(home).paused_until != 0
    write_wish(home, Wish())
    runs = read_status(home, time.time()) is not None
    words = "it goes on" if paused else "it was not paused"
    click.echo(words if runs else f"{words}; no volunteer runs in {home} now, `zooswarm join` starts it")


@click.command("leave")
@click.option("--purge", "everything", is_flag=True, help="Remove all that zooswarm has on this computer for it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@DIR
def leave(everything: bool, yes: bool, directory: Path | None) -> None:
    """End the volunteer on this computer in good order; with --purge, leave no trace.

    Its work in hand is given back, its service is removed. With --purge its directory, the cache and its key go too:
    who has the key has the credit, so `zooswarm identity export` first if you may come back.
    """
    from peer.computer import purge, service

    home = home_of(directory)
    if everything:
        goes, stays = purge.what_goes(home)
        click.echo("This goes:")
        for path in goes:
            click.echo(f"  {path}{LOST if path == home / 'identity' else ''}")
        if service.unit_path().exists():
            click.echo(f"  {service.unit_path()}")
        for path in stays:
            click.echo(f"This is not ours, and stays: {path}")
        if not yes and not sure():
            raise click.Abort
    if service.unit_path().exists():
        click.echo("\n".join(service.remove()))
    click.echo("the volunteer has ended" if purge.ask_to_leave(home) else "no volunteer runs here")
    if everything:
        purge.purge(purge.what_goes(home)[0], home)
        click.echo("nothing is left" if not home.exists() else f"only what is not ours is left in {home}")


def sure() -> bool:
    """Asks whoever sits there. Raises UsageError where nobody can answer."""
    try:
        return click.confirm("Remove it?")
    except click.Abort:
        if sys.stdin.isatty():
            raise
        raise UsageError("nobody is here to answer, so nothing was removed; --yes answers") from None


LOST = "   the key: all credit is bound to it, and nobody can make it again"


@click.group("service")
def service_group() -> None:
    """Start the volunteer with your session (systemd), with the remembered options of its directory."""


@service_group.command("install")
@DIR
def install(directory: Path | None) -> None:
    """Write a user unit and start it. Before: `zooswarm join ADDRESS --remember`, with the limits that you want."""
    from peer.computer import service
    from peer.computer.settings import remembered_settings

    home = home_of(directory).resolve()
    click.echo("\n".join(service.install(home, remembered_settings(home))))


@service_group.command("remove")
def remove() -> None:
    """Stop it, and take the unit away."""
    from peer.computer import service

    click.echo("\n".join(service.remove()))


@service_group.command("status")
def service_status() -> None:
    """Is it installed, and does it run?"""
    from peer.computer import service

    click.echo(service.status())


VERBS: list[click.Command] = [volunteer, pause, resume, leave, service_group]
