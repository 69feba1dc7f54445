"""The volunteer's verbs; anything heavy is imported inside a verb."""

from pathlib import Path
from typing import Any

import click

from peer.local_training import BACKENDS, TRAIN, device_options
from protocol.cli.libraries import multiply_alone, need_swarm


@click.command("join")
@click.argument("address")
@click.option("--dir", "directory", type=click.Path(path_type=Path), help="Where identity and work are kept.")
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
@click.option("--ticket", metavar="TEXT|FILE", help="What the organizer gave you, where a campaign asks for one.")
@click.option("--until-done", is_flag=True, help="Leave when every campaign is complete.")
@click.option("--listen", default="127.0.0.1", show_default=True, help="Interface of the DHT node (0.0.0.0: public).")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="TCP port of the DHT node. Default: any.")
def join(**options: Any) -> None:
    """Lend this computer to a swarm.

    ADDRESS is what the organizer's `zooswarm host` prints: an invite, zoo-..., or host:port/ORGANIZER.

    You train small networks that others check, and you check theirs. Ctrl-C stops at any time: work in hand is saved
    and claims are given back. Your identity is made on first use and kept in --dir; keep that directory.
    """
    multiply_alone()
    need_swarm()
    from peer.join import JoinOptions, join_swarm

    join_swarm(JoinOptions(**options))


@click.group("identity")
def identity() -> None:
    """Show, copy out or bring in the key that your credit belongs to."""


@identity.command("show")
@click.option("--dir", "directory", type=click.Path(path_type=Path))
def show(directory: Path | None) -> None:
    """Print this host's name and where its key is."""
    from peer.join import default_home
    from protocol.trust.identity import Identity

    path = (directory or default_home()) / "identity"
    click.echo(f"{Identity.load_or_create(path).host}\n{path}")


@identity.command("export")
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--dir", "directory", type=click.Path(path_type=Path))
def export(target: Path, directory: Path | None) -> None:
    """Copy the key to TARGET (mode 0600). Whoever has that file is you."""
    from peer.join import copy_identity, default_home

    click.echo(f"{copy_identity((directory or default_home()) / 'identity', target)} copied to {target}")


@identity.command("import")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--dir", "directory", type=click.Path(path_type=Path))
def import_key(source: Path, directory: Path | None) -> None:
    """Use the key in SOURCE from now on. Never overwrites a key that is there."""
    from peer.join import copy_identity, default_home

    target = (directory or default_home()) / "identity"
    click.echo(f"this host is now {copy_identity(source, target)}")


VERBS: list[click.Command] = [join, TRAIN, identity]
