"""`zooswarm train`: train a recipe's networks on this computer, alone, without any swarm.

What it writes is what a swarm would publish: the same bits, seed for seed. It can be stopped at any moment; the same
command goes on from the last checkpoint and ends with the same files.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from protocol.cli.console import progress
from protocol.cli.libraries import multiply_alone
from protocol.cli.numbers import Number
from protocol.errors import DiskError, FileError, Refused, UsageError

if TYPE_CHECKING:
    from protocol.engine import State
    from protocol.engine.training import Boundary
    from protocol.recipes.recipe import Recipe
    from protocol.tasks.datasets import Shelf

WIDTH = 64  # networks that train side by side on processors: enough for the threads, few enough to see some finish
CHECKPOINT_SECONDS = 5.0  # a write a segment would cost more than the training
SEEDS_MAX = 1_000_000
CHECKPOINT_BYTES_MAX = 1 << 30
METADATA_KEY = "zooswarm"


BACKENDS = ["auto", "c", "cuda", "numpy"]


def device_options(verb):
    """Where to train, for every verb that does."""
    verb = click.option(
        "--gpu-memory",
        type=Number(0.05, 0.95),
        default=0.8,
        show_default=True,
        help="Share of a card to use.",
    )(verb)
    return click.option(
        "--device",
        default="auto",
        metavar="DEVICE",
        help="auto, cpu, cuda, cuda:N or all. Default: every GPU, or else the CPU.",
    )(verb)


@click.command("train")
@click.argument("recipe_path", metavar="RECIPE.toml", type=click.Path(path_type=Path))
@click.option("--seeds", required=True, metavar="A:B", help="Seeds A, A+1, .. B-1; or one seed.")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder for one safetensors file a network."
)
@click.option("--backend", type=click.Choice(BACKENDS), default="auto", help="Training engine.")
@device_options
@click.option("--threads", type=click.IntRange(1, 256), help="Networks trained at once. Default: all cores.")
@click.option(
    "--data", type=click.Path(path_type=Path), help="Folder of data sets. Default: where `data add` puts them."
)
def TRAIN(
    recipe_path: Path,
    seeds: str,
    out: Path,
    backend: str,
    threads: int | None,
    data: Path | None,
    device: str,
    gpu_memory: float,
) -> None:
    """Train networks on this computer, without a swarm.

    Prints one line a network as it finishes: seed, steps, held-out loss, digest of the final state. Ctrl-C saves;
    the same command goes on.
    """
    multiply_alone()
    from protocol.engine.select import select_engine, usable_cores
    from protocol.engine.streams import task_data
    from protocol.recipes.recipe import load_recipe
    from protocol.tasks.datasets import Shelf, own_folder

    wanted = seed_range(seeds)
    recipe = load_recipe(recipe_path)
    shelf = Shelf(*([data] if data else []), own_folder())
    task_data(recipe, shelf)  # a data set that is not here is better said now
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DiskError(f"{out}: cannot make this folder: {error.strerror or error}") from None
    engine = select_engine(backend, threads or usable_cores(), device=device, gpu_memory=gpu_memory)
    LocalTrainer(recipe, out, shelf).train(engine, wanted)


def seed_range(text: str) -> range:
    """`A:B` (B excluded) or `N`, of seeds that a campaign can name. Raises UsageError."""
    from protocol.recipes.campaign import SEED_MAX

    first, colon, last = text.partition(":")
    mend = f"--seeds {text}: give a range like 0:8 (seeds 0 to 7), or one seed"
    if not all(part.isascii() and part.isdigit() for part in ([first, last] if colon else [first])):
        raise UsageError(mend)
    seeds = range(int(first), int(last) if colon else int(first) + 1)
    if not seeds:
        raise UsageError(f"{mend}; this range is empty")
    if seeds.stop > SEED_MAX:
        raise UsageError(f"--seeds {text}: seeds are below {SEED_MAX}")
    if len(seeds) > SEEDS_MAX:
        raise UsageError(f"--seeds {text}: at most {SEEDS_MAX:,} networks at once")
    return seeds


class LocalTrainer:
    """One recipe's networks in one folder: finished files, and one checkpoint of what is in hand."""

    def __init__(self, recipe: Recipe, out: Path, shelf: Shelf):
        self.recipe, self.out, self.shelf = recipe, out, shelf
        self.checkpoint = out / f".{recipe.name}.checkpoint"
        self.in_hand: dict[int, State] = {}
        self.done = 0

    def train(self, engine, wanted: range) -> None:
        """Train what is not there yet. Ctrl-C or SIGTERM: save, say so, exit with 130."""
        from protocol.engine.select import networks_in_flight
        from protocol.engine.training import train_networks

        width = networks_in_flight(engine, WIDTH)
        missing = [seed for seed in wanted if not self.report_finished(seed)]
        self.in_hand = self.read_checkpoint()
        resume = {seed: self.in_hand[seed] for seed in missing if seed in self.in_hand}
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        saved, steps = time.monotonic(), 0
        try:
            with progress(self.recipe.name, len(wanted), keep=True) as bar:
                for seed, boundary in train_networks(engine, self.recipe, missing, width, resume, self.shelf):
                    steps += boundary.step - self.in_hand[seed].step if seed in self.in_hand else 0
                    self.in_hand[seed] = boundary.state
                    if boundary.final:
                        self.finish(seed, boundary)
                    bar.update(self.done, text=f"{self.recipe.name}  {steps:,} steps")
                    if time.monotonic() - saved > CHECKPOINT_SECONDS:
                        self.write_checkpoint()
                        saved = time.monotonic()
        except KeyboardInterrupt:
            self.write_checkpoint()
            print(
                f"zooswarm: stopped; {self.done} of {len(wanted)} networks are in {self.out}, {len(self.in_hand)} more "
                "are saved unfinished there; the same command goes on",
                file=sys.stderr,
            )
            sys.exit(130)
        finally:
            signal.signal(signal.SIGTERM, before)
        self.write_checkpoint()

    def network_path(self, seed: int) -> Path:
        return self.out / f"{self.recipe.name}-{seed}.safetensors"

    def finish(self, seed: int, boundary: Boundary) -> None:
        """Write a final network whole, then forget its checkpoint."""
        from safetensors.numpy import save

        from protocol.canonical import canonical_json
        from protocol.files import write_atomic

        arrays = self.recipe.split(boundary.state.params)
        metadata = {
            "recipe": self.recipe.name,
            "recipe_digest": self.recipe.digest,
            "seed": str(seed),
            "steps": str(boundary.step),
            "held_out_loss": repr(boundary.held_out_loss),
            "digest": boundary.state.digest.hex(),
            "params_digest": boundary.state.params_digest.hex(),
        }
        with writing(self.network_path(seed)):
            # One key: safetensors writes several in any order, and the same network should be the same file.
            write_atomic(self.network_path(seed), save(arrays, {METADATA_KEY: canonical_json(metadata).decode()}))
        del self.in_hand[seed]
        self.say(metadata)

    def report_finished(self, seed: int) -> bool:
        """Print the line of a network that an earlier run finished; a damaged file is set aside."""
        path = self.network_path(seed)
        if not path.exists():
            return False
        metadata = self.read_network(path)
        if metadata is None:
            aside = path.with_suffix(".damaged")
            path.replace(aside)
            print(f"zooswarm: {path} is damaged; set aside as {aside.name}, training it again", file=sys.stderr)
            return False
        if metadata.get("recipe_digest") != self.recipe.digest:
            raise FileError(f"{path}: a network of another recipe named {self.recipe.name!r}; choose another --out")
        self.say(metadata)
        return True

    def read_network(self, path: Path) -> dict[str, str] | None:
        """The metadata of a network file, or None unless its weights have the digest written there."""
        import numpy as np
        from safetensors import SafetensorError, safe_open

        from protocol.canonical import sha256

        try:
            with safe_open(path, "numpy") as f:
                metadata = json.loads((f.metadata() or {}).get(METADATA_KEY, "{}"))
                if metadata.get("recipe_digest") != self.recipe.digest:
                    return metadata
                params = b"".join(np.asarray(f.get_tensor(name), "<f4").tobytes() for name, _ in self.recipe.shapes)
        except (OSError, SafetensorError, ValueError):
            return None
        return metadata if sha256(params).hex() == metadata.get("params_digest") else None

    def say(self, metadata: dict[str, str]) -> None:
        self.done += 1
        loss = float(metadata["held_out_loss"])
        print(f"{metadata['seed']}  {metadata['steps']}  {loss:.6f}  {metadata['digest']}", flush=True)

    def write_checkpoint(self) -> None:
        """States in hand, whole: recipe digest, then (seed, state) pairs of fixed length, then their SHA-256."""
        from protocol.canonical import sha256
        from protocol.files import write_atomic

        if not self.in_hand:
            with contextlib.suppress(FileNotFoundError):
                self.checkpoint.unlink()
            return
        body = bytes.fromhex(self.recipe.digest) + b"".join(
            seed.to_bytes(8, "little") + state.to_bytes() for seed, state in sorted(self.in_hand.items())
        )
        with writing(self.checkpoint):
            write_atomic(self.checkpoint, body + sha256(body))

    def read_checkpoint(self) -> dict[int, State]:
        """The states of an earlier run; another recipe's or a damaged checkpoint is set aside."""
        from protocol.canonical import sha256
        from protocol.engine import state_bytes_length, state_from_bytes
        from protocol.files import read_limited

        if not self.checkpoint.exists():
            return {}
        data = read_limited(self.checkpoint, CHECKPOINT_BYTES_MAX, "checkpoint")
        body, length = data[:-32], 8 + state_bytes_length(self.recipe)
        try:
            if sha256(body) != data[-32:] or (len(body) - 32) % length:
                raise Refused("checkpoint", "damaged")
            if body[:32].hex() != self.recipe.digest:
                raise Refused("checkpoint", "of another recipe with this name")
            return {
                int.from_bytes(body[at : at + 8], "little"): state_from_bytes(self.recipe, body[at + 8 : at + length])
                for at in range(32, len(body), length)
            }
        except Refused as refused:
            aside = self.checkpoint.with_suffix(".checkpoint.aside")
            self.checkpoint.replace(aside)
            print(f"zooswarm: {self.checkpoint} ({refused}) is set aside as {aside.name}", file=sys.stderr)
            return {}


@contextlib.contextmanager
def writing(path: Path):
    """A full or read-only disk is the user's to mend: one line that names the path."""
    try:
        yield
    except OSError as error:
        raise DiskError(f"{path}: cannot write: {error.strerror or error}; the same command goes on later") from None
