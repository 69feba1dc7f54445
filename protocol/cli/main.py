"""The one command, `zooswarm`: verbs come from each package's entry point, heavy imports only inside a verb."""

import errno
import sys
from importlib.metadata import entry_points

import click

from protocol.cli.libraries import OURS, absent
from protocol.errors import UsageError, harmless_tracebacks, shown

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
STORY = """Volunteers train populations of small neural networks, bit for bit checkable, into a public zoo.

\b
volunteers  zooswarm join ADDRESS            lend this computer to a swarm
organizers  zooswarm host DIR                start a swarm; then: zooswarm seed campaign.toml
analysts    zooswarm pull ADDRESS --out ZOO  a swarm's zoo, copied and checked; then:
            zooswarm report ZOO --out DIR    one page about a zoo
"""


class Verbs(click.Group):
    """The verbs of the installed packages, loaded when asked for."""

    def _load(self) -> dict[str, click.Command]:
        return {
            command.name or "": command
            for point in sorted(entry_points(group="zooswarm.verbs"), key=lambda p: p.name)
            for command in point.load()
        }

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._load())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return self._load().get(cmd_name)

    def invoke(self, ctx: click.Context) -> object:
        """Raises UsageError for a verb whose libraries are not installed."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            if not error.name or error.name.partition(".")[0] in OURS:
                raise
            raise UsageError(absent(error.name, self._package_of(ctx))) from None

    def _package_of(self, ctx: click.Context) -> str:
        """Which of our packages the verb that was asked for belongs to."""
        verb = ctx.invoked_subcommand or ""
        points = entry_points(group="zooswarm.verbs")
        return next((p.module.partition(".")[0] for p in points if verb in {c.name for c in p.load()}), "")


@click.command(cls=Verbs, help=STORY, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="zooswarm")
def zooswarm() -> None:
    pass


def main() -> None:
    """Run a verb; a UsageError is one line and exit code 2, and so is a disk that is full or not to be written on."""
    harmless_tracebacks()
    try:
        zooswarm()
    except UsageError as error:
        print(f"zooswarm: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        where = shown(error.filename or "the disk")
        print(f"zooswarm: {where}: {error.strerror}; nothing is lost, make room or choose another", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
