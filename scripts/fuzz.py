"""The command line of tests/fuzz: so many malformed inputs over all parsers. Started by scripts/fuzz.

The inputs are a function of the arguments; what is printed on standard output is too, but for times and memory.
"""

import secrets
import sys
from collections import Counter
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from fuzz.runner import Broken, Tally, fuzz  # noqa: E402
from fuzz.targets import targets  # noqa: E402

from protocol.cli.console import progress  # noqa: E402


@click.command()
@click.option("--inputs", type=click.IntRange(1), default=100_000, show_default=True)
@click.option("--seed", type=int, help="Default: a fresh one, printed.")
@click.option("--only", help="Targets whose name has this in it.")
def main(inputs: int, seed: int | None, only: str | None) -> None:
    """Exits with 1 at the first input that ends in anything but a value or a refusal, takes long, or makes us grow."""
    chosen = [target for target in targets() if only is None or only in target.name]
    if not chosen:
        raise click.BadParameter(f"no such target; there are: {', '.join(target.name for target in targets())}")
    seed = secrets.randbits(31) if seed is None else seed
    click.echo(f"{inputs:,} inputs over {len(chosen)} parsers, --seed {seed}")
    try:
        with progress("fuzzing", inputs, line_seconds=30) as bar:
            tally = fuzz(chosen, inputs, seed, bar.update)
    except Broken as broken:
        click.echo(f"BROKEN  {broken}")
        sys.exit(1)
    show(tally)


def show(tally: Tally) -> None:
    click.echo(f"{'parser':24} {'inputs':>8} {'accepted':>9} {'refused':>8} {'slowest':>9}  refusals")
    for name, inputs in tally.inputs.items():
        reasons = Counter({why: count for (target, why), count in tally.refused.items() if target == name})
        why = ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common())
        slowest = f"{1000 * tally.slowest[name]:,.0f} ms"
        click.echo(f"{name:24} {inputs:8,} {tally.accepted[name]:9,} {reasons.total():8,} {slowest:>9}  {why}")
    inputs, refused = tally.inputs.total(), tally.refused.total()
    click.echo(f"{inputs:,} inputs: {tally.accepted.total():,} accepted, {refused:,} refused; no crash, no hang")
    click.echo(f"memory at its peak: {tally.grown / 1e6:,.0f} MB more than after the first inputs")


if __name__ == "__main__":
    main()
