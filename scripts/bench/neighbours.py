#!/usr/bin/env python3
"""Time the exact nearest neighbours of many networks, and check some of them by brute force in float64.

    python scripts/bench/neighbours.py ZOO [--networks 50000] [--k 10]

The networks are those of ZOO with noise added, again and again: as many weights as real ones, as far apart.
"""

import argparse
import os
import resource
import time
from pathlib import Path

import numpy as np

from analysis import open_zoo
from analysis.weights.neighbours import neighbours
from protocol.cli.console import progress

CHECKED = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zoo", type=Path)
    parser.add_argument("--networks", type=int, default=50_000)
    parser.add_argument("--k", type=int, default=10)
    options = parser.parse_args()
    weights_NP = noisy(open_zoo(options.zoo).weights(), options.networks)
    held = peak()
    began, cpu = time.perf_counter(), time.process_time()
    with progress("neighbours") as bar:
        found = neighbours(weights_NP, options.k, progress=bar.update)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{options.networks:,} x {weights_NP.shape[1]:,}, k = {options.k}: {seconds:.0f} s, {cpu:.0f} s of CPU")
    print(f"memory at most {peak():.1f} GB, {held:.1f} GB before it began; load {load} on {os.cpu_count()} cores")
    print(f"{wrong(weights_NP, found.index_Nk)} of {CHECKED * options.k} neighbours differ from float64 brute force")


def noisy(weights_NP: np.ndarray, networks: int) -> np.ndarray:
    """(networks, P) float32, a copy of the zoo at a time."""
    rng, deviation_P = np.random.default_rng(0), weights_NP.std(0) / 4
    found = np.empty((networks, weights_NP.shape[1]), np.float32)
    for begin in range(0, networks, len(weights_NP)):
        rows = found[begin : begin + len(weights_NP)]
        rows[:] = weights_NP[: len(rows)] + deviation_P * rng.standard_normal(rows.shape, np.float32)
    return found


def wrong(weights_NP: np.ndarray, index_Nk: np.ndarray) -> int:
    """Neighbours of a few networks that are not among the k nearest by direct differences."""
    missed = 0
    for row in np.linspace(0, len(weights_NP) - 1, CHECKED).astype(int):
        square_N = np.concatenate(
            [
                ((weights_NP[begin : begin + 2000].astype(np.float64) - weights_NP[row]) ** 2).sum(1)
                for begin in range(0, len(weights_NP), 2000)
            ]
        )
        square_N[row] = np.inf
        missed += len(set(index_Nk[row].tolist()) - set(np.argsort(square_N)[: index_Nk.shape[1]].tolist()))
    return missed


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
