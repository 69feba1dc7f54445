"""The verbs of the analysis package; anything heavy is imported inside a verb."""

import click

VERBS: list[click.Command] = []
