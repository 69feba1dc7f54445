"""The verbs of the peer package; anything heavy is imported inside a verb."""

import click

VERBS: list[click.Command] = []
