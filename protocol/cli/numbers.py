"""Numbers as options: `nan` and `inf` are no answer to how much, though Python reads them as numbers."""

import math

import click

__all__ = ["Number"]


class Number(click.FloatRange):
    """As click's range of numbers; what is not finite is refused, with the option's name."""

    def convert(self, value, param, ctx):
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value!r} is not a number that can be used", param, ctx)
        return found
