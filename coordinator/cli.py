"""The verbs of the coordinator package; anything heavy is imported inside a verb."""

import click

VERBS: list[click.Command] = []
