"""Numbers on the command line: `nan` and `inf` are no answer to how much, and `-5` is a number, not an option."""

import math

import click

__all__ = ["Number", "SignedWhole"]


class Number(click.FloatRange):
    """As click's range of numbers; what is not finite is refused, with the option's name."""

    def convert(self, value, param, ctx):
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value!r} is not a number that can be used", param, ctx)
        return found


class SignedWhole(click.types.IntParamType):
    """A whole number as an argument. For commands that hand on unknown options, without which `-5` would be one: what
    looks like an option and is no number is told as the option that it was meant to be."""

    def convert(self, value, param, ctx):
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            word = str(value)
            if not word.startswith("-"):
                raise
            from difflib import get_close_matches

            known = [name for each in ctx.command.params for name in each.opts if name.startswith("-")] if ctx else []
            close = get_close_matches(word, known)
            raise click.NoSuchOption(word, possibilities=close, ctx=ctx) from None
