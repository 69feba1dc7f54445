#!/usr/bin/env python3
"""Train whole campaigns of small networks in this process, and print the CPU time of a step.

    python scripts/bench/campaigns.py [regression ffl ...] [--threads 1 2]

No files and no swarm: `train_networks`, 64 networks at a time, held-out losses and stop rules included, start-up and
data not. The campaigns are recipes/NAME-campaign.toml.
"""

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as `zooswarm train` does
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this folder has a `coordinator.py`: ours comes first

from protocol.engine import Engine
from protocol.engine.select import select_engine
from protocol.engine.streams import task_data
from protocol.engine.training import train_networks
from protocol.recipes.campaign import Campaign, load_campaign
from protocol.tasks.datasets import Shelf, own_folder

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
WIDTH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["regression", "ffl"])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores, {sys.version.split()[0]}")
    shelf = Shelf(own_folder())
    for name in options.names:
        campaign = load_campaign(RECIPES / f"{name}-campaign.toml")
        for population in campaign.populations:
            task_data(population.recipe, shelf)
        for threads in options.threads:
            engine = select_engine("c", threads)
            wall, cpu = time.perf_counter(), time.process_time()
            networks, steps = train(engine, campaign, shelf)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            print(
                f"{name} {engine.name} x {threads}: {networks:,} networks, {steps:,} steps, CPU {cpu:.2f} s, "
                f"wall {wall:.2f} s, {1e6 * cpu / steps:.2f} us of CPU time a step",
                flush=True,
            )


def train(engine: Engine, campaign: Campaign, shelf: Shelf) -> tuple[int, int]:
    """(networks, steps) of the whole campaign."""
    networks = steps = 0
    for population in campaign.populations:
        seeds = range(population.first_seed, population.first_seed + population.count)
        for _, boundary in train_networks(engine, population.recipe, seeds, WIDTH, shelf=shelf):
            networks += boundary.final
            steps += boundary.step if boundary.final else 0
    return networks, steps


if __name__ == "__main__":
    main()
