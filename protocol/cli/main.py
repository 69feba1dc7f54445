"""The one command, `zooswarm`: verbs come from each package's entry point, heavy imports only inside a verb.

However it ends, a person reads one line: what was typed wrongly exits with 2, our own mistakes with 1 and their story
in a log.
"""

import errno
import io
import os
import re
import sys
from collections.abc import Iterable
from functools import cache
from importlib.metadata import distribution

import click

from protocol.cli import logs
from protocol.cli.explain import EXPLAIN
from protocol.cli.libraries import OURS, absent, need_python
from protocol.cli.report_bug import REPORT_BUG
from protocol.errors import LibraryError, UsageError, disk_trouble, harmless_tracebacks

UNKNOWN = re.compile(r"No such command ['\"](.*?)['\"]")
STORY = """Volunteers train populations of small neural networks, bit for bit checkable, into a public zoo.

\b
volunteers  zooswarm join ADDRESS            lend this computer to a swarm
organizers  zooswarm host DIR                start a swarm; then: zooswarm seed campaign.toml
analysts    zooswarm pull ADDRESS --out ZOO  a swarm's zoo, copied and checked; then:
            zooswarm report ZOO --out DIR    one page about a zoo
anybody     zooswarm explain CODE            what an error like [ZS-AWAY] means, and what to do
"""


@cache
def verbs_of_packages() -> dict[str, tuple[str, click.Command]]:
    """{verb: (our package that brings it, its command)}.

    Found once, and in our own distribution alone: help asks for each verb, and to look through all that is installed
    took a quarter of a second.
    """
    points = distribution("zooswarm").entry_points.select(group="zooswarm.verbs")
    found = [
        (point.module.partition(".")[0], command)
        for point in sorted(points, key=lambda p: p.name)
        for command in point.load()
    ]
    return {command.name or "": (package, command) for package, command in found}


class Verbs(click.Group):
    """The verbs of our packages, loaded when asked for."""

    def _load(self) -> dict[str, click.Command]:
        brought = {name: command for name, (_, command) in verbs_of_packages().items()}
        return {EXPLAIN.name or "": EXPLAIN, REPORT_BUG.name or "": REPORT_BUG, **brought}

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
            raise LibraryError(absent(error.name, self._package_of(ctx.invoked_subcommand or ""))) from None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        need_python(self._package_of(name or ""))
        return name, command, rest

    def _package_of(self, verb: str) -> str:
        """Which of our packages a verb belongs to."""
        return verbs_of_packages()[verb][0] if verb in verbs_of_packages() else ""


@click.command(cls=Verbs, help=STORY, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="zooswarm")
@click.pass_context
def zooswarm(context: click.Context) -> None:
    logs.begin(context.invoked_subcommand or "")


def main() -> None:
    """Run a verb. A person's mistake, and a disk that cannot be used, is one line and exit code 2."""
    harmless_tracebacks()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that knows ASCII alone shows ? for a bar, and goes on
    sys.exit(run(sys.argv[1:]))


def run(words: list[str]) -> int:
    """The exit code, after everything that has to be said was said. Raises what a verb exits with."""
    try:
        return zooswarm(words, prog_name="zooswarm", standalone_mode=False) or 0
    except click.exceptions.Abort:
        print("zooswarm: stopped", file=sys.stderr)
        return 130
    except UsageError as error:
        return tell(error)
    except click.UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # `zooswarm` alone, `zooswarm data`
            error.show()
            return error.exit_code
        return tell(UsageError(typed_wrongly(error)))
    except click.ClickException as error:
        return tell(UsageError(error.format_message()))
    except OSError as error:
        if error.errno == errno.EPIPE:  # `zooswarm ... | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        if trouble := disk_trouble(error):
            return tell(trouble)
        return logs.tell_mistake(error)
    except Exception as error:
        return logs.tell_mistake(error)


def tell(error: UsageError) -> int:
    logs.ended(error)
    print(f"zooswarm: {error}  [{error.code}]", file=sys.stderr)
    return 2


def typed_wrongly(error: click.UsageError) -> str:
    """click's message about a verb or an option, in one line with the mend."""
    text, context = error.format_message().rstrip("."), error.ctx
    if context is None:
        return text
    unknown, command = UNKNOWN.match(text), context.command
    if unknown and isinstance(command, click.Group):
        text = f"there is no verb {unknown[1]!r}; {nearest(unknown[1], command.list_commands(context))}"
    text = text[:1].lower() + text[1:]
    return f"{text}{'' if text.endswith('?') else ';'} `{context.command_path} --help` lists what there is"


def nearest(word: str, known: Iterable[str]) -> str:
    """The one that was meant, or all."""
    from difflib import get_close_matches

    names = list(known)
    close = get_close_matches(word, names, 1)
    return f"did you mean {close[0]!r}?" if close else f"verbs: {', '.join(names)}"


if __name__ == "__main__":
    main()
