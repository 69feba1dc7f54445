"""The volunteer's verbs; anything heavy is imported inside a verb."""

from pathlib import Path
from typing import Any

import click

from peer.computer.verbs import VERBS as COMPUTER
from peer.local_training import BACKENDS, TRAIN, device_options
from protocol.cli.garbage import look_seldom
from protocol.cli.libraries import multiply_alone, need_swarm
from protocol.cli.numbers import Number

NOT_REMEMBERED = ("directory", "remember", "check", "until_done")


def remembered(context: click.Context, _parameter: click.Parameter, directory: Path | None) -> Path | None:
    """The options of DIR/settings.toml become this command's defaults."""
    from peer.computer.settings import read_settings
    from peer.storage.home import default_home

    context.default_map = read_settings(directory or default_home(), option_types(context.command))
    return directory


def option_types(command: click.Command) -> dict[str, type]:
    """Of every option that can be remembered: what a settings file has there."""
    kinds = {"integer range": int, "float range": float, "boolean": bool}
    named = {each.name: each for each in command.params if each.name and each.name not in NOT_REMEMBERED}
    return {name: kinds.get(each.type.name, str) for name, each in named.items()}


def remember_these(context: click.Context, directory: Path) -> None:
    """Whatever was typed now or remembered before."""
    from click.core import ParameterSource

    from peer.computer.settings import write_settings

    chosen = (ParameterSource.COMMANDLINE, ParameterSource.DEFAULT_MAP)
    names = [name for name in option_types(context.command) if context.get_parameter_source(name) in chosen]
    click.echo(f"remembered in {write_settings(directory, {name: context.params[name] for name in names})}")


@click.command("join")
@click.argument("address")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    is_eager=True,
    callback=remembered,
    help="Where identity, work and remembered options are kept.",
)
@click.option(
    "--cpu",
    type=Number(1, 100_000),
    metavar="PERCENT",
    help="Processor time of all of zooswarm, on average, in percent of one core: 25 is a quarter of one core, 200 is "
    "two cores. Default: no limit.",
)
@click.option("--threads", type=click.IntRange(1, 256), help="Training threads. Default: all cores.")
@click.option("--nice", type=click.IntRange(0, 19), default=10, show_default=True, help="Politeness of training.")
@click.option("--name", help="Shown to others. Default: a short form of your host's key.")
@click.option("--backend", type=click.Choice(BACKENDS), default="auto", help="Training engine.")
@device_options
@click.option(
    "--memory", metavar="SIZE", help="A campaign that may need more is not taken. Default: half of this computer's."
)
@click.option(
    "--disk", metavar="SIZE", help="What --dir may grow to, e.g. 5GB. Default: half of what is free, 20GB at most."
)
@click.option("--only-when-idle", is_flag=True, help="Stand still while other programs are busy, and 30 s after.")
@click.option("--not-on-battery/--on-battery", default=True, show_default=True, help="Stand still on battery.")
@click.option(
    "--max-temperature",
    type=Number(40, 110),
    metavar="DEGREES",
    help="Stand still above so many degrees Celsius of the processor, until it is 5 cooler. Default: no limit.",
)
@click.option(
    "--bandwidth", metavar="SIZE", help="Bytes a second to and from the organizer, e.g. 500kB, 2MB. Default: no limit."
)
@click.option("--hours", metavar="FROM-TO", help="Train only then, local time: 22-6, 8:30-17. Default: always.")
@click.option("--ticket", metavar="TEXT|FILE", help="What the organizer gave you, where a campaign asks for one.")
@click.option("--until-done", is_flag=True, help="Leave when every campaign is complete.")
@click.option("--listen", default="127.0.0.1", show_default=True, help="Interface of the DHT node (0.0.0.0: public).")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="TCP port of the DHT node. Default: any.")
@click.option(
    "--page", metavar="PORT|none", help="Port of your own status page on loopback. Default: 7781, or a free one."
)
@click.option("--check", is_flag=True, help="Only say what could stand in the way here; nothing is claimed or trained.")
@click.option("--remember", is_flag=True, help="Keep these options in --dir as defaults of the next start.")
@click.pass_context
def join(context: click.Context, remember: bool, check: bool, **options: Any) -> None:
    """Lend this computer to a swarm.

    ADDRESS is what the organizer's `zooswarm host` prints: an invite, zoo-..., or host:port/ORGANIZER.

    You train small networks that others check, and you check theirs. Ctrl-C stops at any time: work in hand is saved
    and claims are given back. Your identity is made on first use and kept in --dir; keep that directory.

    \b
    zooswarm join zoo-Ra1kH7... --check              what could stand in the way; nothing is trained
    zooswarm join zoo-Ra1kH7... --cpu 50 --hours 22-6
    """
    look_seldom()
    multiply_alone()
    need_swarm()
    from peer.join import JoinOptions, check_join, join_swarm
    from peer.storage.home import default_home

    if remember:
        remember_these(context, options["directory"] or default_home())
    if check:
        context.exit(0 if check_join(JoinOptions(**options)) else 1)
    join_swarm(JoinOptions(**options))


@click.group("identity")
def identity() -> None:
    """Show, copy out or bring in the key that your credit belongs to."""


@identity.command("show")
@click.option("--dir", "directory", type=click.Path(path_type=Path))
def show(directory: Path | None) -> None:
    """Print this host's name and where its key is."""
    from peer.storage.home import default_home
    from protocol.trust.identity import Identity

    path = (directory or default_home()) / "identity"
    click.echo(f"{Identity.load_or_create(path).host}\n{path}")


@identity.command("export")
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--dir", "directory", type=click.Path(path_type=Path))
def export(target: Path, directory: Path | None) -> None:
    """Copy the key to TARGET (mode 0600). Whoever has that file is you."""
    from peer.join import copy_identity
    from peer.storage.home import default_home

    click.echo(f"{copy_identity((directory or default_home()) / 'identity', target)} copied to {target}")


@identity.command("import")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--dir", "directory", type=click.Path(path_type=Path))
def import_key(source: Path, directory: Path | None) -> None:
    """Use the key in SOURCE from now on. Never overwrites a key that is there."""
    from peer.join import copy_identity
    from peer.storage.home import default_home

    target = (directory or default_home()) / "identity"
    click.echo(f"this host is now {copy_identity(source, target)}")


@click.group("certificate", invoke_without_command=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Where to. Default: print what it says.")
@click.option("--dir", "directory", type=click.Path(path_type=Path), help="The volunteer's directory.")
@click.pass_context
def certificate(context: click.Context, out: Path | None, directory: Path | None) -> None:
    """Have your credit certified: signed by the organizer, for anybody to verify without a network.

    \b
    zooswarm certificate --out credit.json
    zooswarm certificate verify credit.json
    """
    if context.invoked_subcommand is not None:
        return
    from peer.computer.verbs import home_of
    from peer.session.certificate import about, fetch, sentence, write_certificate

    envelope = fetch(home_of(directory))
    click.echo(sentence(about(envelope)))
    if out is not None:
        write_certificate(out, envelope)
        click.echo(f"written: {out}")


@certificate.command("verify")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--organizer", metavar="KEY", help="Whose word it has to be: what stands after the / of his address.")
def verify(file: Path, organizer: str | None) -> None:
    """Is FILE what an organizer signed? Without --organizer compare the key in the answer by eye."""
    from peer.session.certificate import read_certificate, sentence

    click.echo(f"valid: {sentence(read_certificate(file, organizer))}")


VERBS: list[click.Command] = [join, *COMPUTER, TRAIN, identity, certificate]
