"""`zooswarm explain CODE`: what stands behind the code at the end of an error's line; docs/errors.md says the same."""

import inspect

import click

from protocol.errors import KINDS, UsageError


def kind_of(code: str) -> type[UsageError]:
    """By `ZS-AWAY`, `zs-away` or `AWAY`, with or without its brackets. Raises UsageError: there is no such code."""
    asked = "ZS-" + code.strip("[] ").upper().removeprefix("ZS-")
    for kind in KINDS:
        if kind.code == asked:
            return kind
    raise UsageError(f"{code!r} is no code of an error; codes: {', '.join(kind.code for kind in KINDS)}")


def words(kind: type[UsageError]) -> str:
    """Meaning, likely causes and mends, as Markdown that reads well as it is."""
    return inspect.cleandoc(kind.__doc__ or "")


@click.command("explain")
@click.argument("code", required=False)
def EXPLAIN(code: str | None) -> None:
    """Say what an error's CODE means, what may be behind it, and what to do; without CODE: list them."""
    if code:
        kind = kind_of(code)
        click.echo(f"{kind.code}: {words(kind)}")
        return
    for kind in KINDS:
        click.echo(f"{kind.code:12} {words(kind).splitlines()[0]}")
