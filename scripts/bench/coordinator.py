#!/usr/bin/env python3
"""Load one coordinator with volunteers over real gRPC, and print what it costs.

    python scripts/bench/coordinator.py [--volunteers 2000] [--results 800] [--rate 40] [--seconds 40]

Starts `zooswarm host` (without DHT) in a fresh directory for each row. `polls` rows: volunteers that have nothing to
do and ask as often as the server says, then as often as 0.1 did, every second. `results` rows: results of 16 tiny
networks, trained before the clock starts, are handed in at a steady rate, opened, checked by four others and published.
CPU time is that of the host and all its processes; the crowd (`crowd.py`) has its own.
"""

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this folder has a `coordinator.py`: ours comes first

from crowd import Crowd, Tally, train  # beside this file

from coordinator.client import Organizer
from coordinator.directories import read_settings
from protocol.recipes.campaign import Campaign, Policy, Population
from protocol.recipes.layers import Linear, Tanh
from protocol.recipes.recipe import Network, Recipe, Training
from protocol.tasks.kinds import FunctionTask
from protocol.trust.messages import SeedCampaign

BUNDLE = 16
PATIENCE_SECONDS = 120.0  # after the last result was handed in
SEGMENTS = 4
WARM = 20  # results before the clock starts
PART = 1_000_000 // BUNDLE  # assignments of one population, at most
TICKS = os.sysconf("SC_CLK_TCK")
POLICY = Policy(probation_bundles=0, checkers=4, cells=4, epoch_seconds=1.0, final_cell=True)


def main() -> None:
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the host is not left behind
    print(f"load {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores, {sys.version.split()[0]}")
    if "polls" in options.rows:
        polls(options)
    if "results" in options.rows:
        results(options)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="*", choices=("polls", "results"), default=("polls", "results"))
    parser.add_argument("--volunteers", type=int, default=2000, help="that ask, in `polls`")
    parser.add_argument("--seconds", type=float, default=40.0, help="of asking")
    parser.add_argument("--hosts", type=int, default=40, help="that work, in `results`")
    parser.add_argument("--results", type=int, default=800, help="handed in for each row")
    parser.add_argument("--rate", type=float, default=40.0, help="results a second")
    parser.add_argument("--assignments", type=int, nargs="*", default=[100, 1_000_000], help="a campaign")
    parser.add_argument("--recipes", type=int, default=1, help="a campaign")
    parser.add_argument("--keep", type=Path, help="where the zoo of the last `results` row is copied to")
    parser.add_argument("--profile", type=Path, help="where py-spy (if installed) writes the host's profile")
    return parser.parse_args()


# -- the host --------------------------------------------------------------------------------------------------------


class Host:
    """`zooswarm host` on a fresh directory, without a DHT."""

    def __init__(self, path: Path):
        self.path = path
        words = ["host", str(path), "--listen", "127.0.0.1:0", "--no-dht", "--stamp-bits", "0"]
        program = "from protocol.cli.main import zooswarm; zooswarm()"
        self.log = (path.parent / "host.out").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, *words], stdout=self.log, stderr=subprocess.STDOUT, start_new_session=True
        )
        deadline = time.monotonic() + 60
        while "join" not in read_settings(path):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                raise SystemExit((path.parent / "host.out").read_text()[-2000:] or "the host does not start")
            time.sleep(0.05)
        self.address = str(read_settings(path)["join"])

    def __enter__(self) -> "Host":
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self.log.close()

    def seed(self, campaigns: list[Campaign]) -> None:
        with Organizer(self.path) as organizer:
            for campaign in campaigns:
                organizer.seed(SeedCampaign(campaign=campaign.exact))

    def cpu_seconds(self) -> np.ndarray:
        """User and system time, first of the host, then of all its processes together, ended ones too: (2, 2)."""
        ids, seconds = {self.process.pid}, np.zeros((2, 2))
        for _ in range(3):  # children of children
            for folder in Path("/proc").iterdir():
                if folder.name.isdecimal() and _parent(folder) in ids:
                    ids.add(int(folder.name))
        for id in ids:
            numbers = [int(number) / TICKS for number in _numbers(Path("/proc") / str(id))[11:15]]
            if numbers:
                seconds[int(id != self.process.pid)] += numbers[:2]
                seconds[1] += numbers[2:]
        return seconds

    def memory_mb(self) -> float:
        for line in (Path("/proc") / str(self.process.pid) / "status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
        return 0.0


def _numbers(folder: Path) -> list[str]:
    """The fields of /proc/ID/stat after the name; none when it is gone."""
    try:
        return (folder / "stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return []


def _parent(folder: Path) -> int:
    numbers = _numbers(folder)
    return int(numbers[1]) if numbers else 0


# -- polls -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Polls:
    volunteers: int
    polls_a_second: float
    milliseconds: tuple[float, ...]  # p50, p95, p99
    asked_seconds: float  # median of what the server said
    cpu_ms_a_poll: float
    cores: float
    errors: int


def polls(options: argparse.Namespace) -> None:
    print(f"\npolls: {options.seconds:g} s, after every volunteer has asked once")
    print("| volunteers | ask again after | polls/s | p50 / p95 / p99 ms | host CPU ms a poll | host cores | errors |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    rows = []
    for pace in (None, 1.0):
        with tempfile.TemporaryDirectory() as folder, Host(Path(folder) / "host") as host:
            campaigns = campaigns_of(1000, 1, 1, 0)
            host.seed(campaigns)
            row = asyncio.run(ask(host, options.volunteers, options.seconds, pace))
        rows.append(row)
        after = f"{row.asked_seconds:.1f} s, as told" if pace is None else f"{pace:g} s, as in 0.1"
        times = " / ".join(f"{value:,.0f}" for value in row.milliseconds)
        print(
            f"| {row.volunteers:,} | {after} | {row.polls_a_second:,.0f} | {times} | {row.cpu_ms_a_poll:.2f}"
            f" | {row.cores:.2f} | {row.errors} |",
            flush=True,
        )
    print(f"ratio: asking every second as in 0.1 takes {rows[1].cores / rows[0].cores:.1f} times the host's CPU time")


async def ask(host: Host, number: int, seconds: float, pace: float | None) -> Polls:
    crowd = Crowd(host.address, number, [], pace)
    begin_over = max(2.0, number / 100)
    tasks = await crowd.live(begin_over)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(crowd.all_heard(), begin_over + PATIENCE_SECONDS)
    await asyncio.sleep(5.0)
    crowd.tally = Tally()
    cpu, began = host.cpu_seconds(), time.perf_counter()
    await asyncio.sleep(seconds)
    lasted, cpu = time.perf_counter() - began, (host.cpu_seconds() - cpu).sum()
    seen = crowd.tally.poll_seconds[:]
    await end(crowd, tasks)
    return Polls(
        volunteers=number,
        polls_a_second=len(seen) / lasted,
        milliseconds=tuple(1e3 * float(value) for value in np.percentile(seen or [0.0], [50, 95, 99])),
        asked_seconds=float(np.median(crowd.tally.asked_seconds or [0.0])),
        cpu_ms_a_poll=1e3 * cpu / max(len(seen), 1),
        cores=cpu / lasted,
        errors=sum(crowd.tally.errors.values()),
    )


async def end(crowd: Crowd, tasks: list[asyncio.Task]) -> None:
    crowd.stopping.set()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# -- results ---------------------------------------------------------------------------------------------------------


def results(options: argparse.Namespace) -> None:
    print(f"\nresults: {options.results} of {BUNDLE} networks, {options.hosts} hosts, {options.rate:g}/s offered")
    print(
        "| assignments | recipes | results/s | host CPU ms a result | host cores | outcome p50 / p95 s"
        " | poll p95 ms | memory MB | errors |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for assignments in options.assignments:
        with tempfile.TemporaryDirectory() as folder, Host(Path(folder) / "host") as host:
            campaigns = campaigns_of(assignments, options.recipes, options.results, 1)
            host.seed(campaigns)
            print(asyncio.run(work(host, campaigns, assignments, options)), flush=True)
            if options.keep is not None:
                shutil.copytree(host.path / "zoo", options.keep, dirs_exist_ok=True)


def campaigns_of(assignments: int, recipes: int, results: int, first: int) -> list[Campaign]:
    """As many campaigns of so many assignments as the results need, each with networks of its own."""
    share = -(-assignments // recipes)
    return [
        Campaign(
            name=f"bench-{k}",
            populations=tuple(
                Population(recipe=recipe(r), first_seed=((first + k) * share + i) * BUNDLE, count=count, bundle=BUNDLE)
                for r in range(recipes)
                for i in range(0, share, PART)
                for count in [min(PART, share - i) * BUNDLE]
            ),
            policy=POLICY,
        )
        for k in range(-(-results // assignments))
    ]


def recipe(number: int) -> Recipe:
    """97 parameters, four segments; recipes differ in their learning rate."""
    return Recipe(
        name=f"tiny-{number}",
        label="wave",
        task=FunctionTask(function="wave", samples=64, held_out=64),
        network=Network(layers=(Linear(width=32), Tanh(), Linear(width=1))),
        training=Training(learning_rate=0.001 + 1e-6 * number, batch=32, max_steps=8, segment_steps=8 // SEGMENTS),
    )


async def work(host: Host, campaigns: list[Campaign], assignments: int, options: argparse.Namespace) -> str:
    crowd = Crowd(host.address, options.hosts, campaigns)
    places = [(campaign, i) for campaign in campaigns for i in range(assignments)][: options.results]
    if assignments > options.results:  # spread over the campaign's recipes
        step = assignments // options.results
        places = [(campaigns[0], i * step) for i in range(options.results)]
    crowd.trained = train([campaign.assignment(i) for campaign, i in places])
    tasks = await crowd.live(1.0)
    warm, places = places[:WARM], places[WARM:]  # these start what starts once
    for campaign, i in warm:
        crowd.hand_in(crowd.trained[campaign.digest][i])
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(crowd.all_settled(len(warm)), PATIENCE_SECONDS)
    await asyncio.sleep(5.0)
    crowd.tally = Tally()
    cpu, crowds, began = host.cpu_seconds(), time.process_time(), time.perf_counter()
    profiler = start_profiler(host, options)
    for number, (campaign, i) in enumerate(places):
        await asyncio.sleep(max(0.0, began + number / options.rate - time.perf_counter()))
        crowd.hand_in(crowd.trained[campaign.digest][i])
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(crowd.all_settled(len(places)), PATIENCE_SECONDS)
    ends = crowd.tally.settled_at or [time.perf_counter()]
    lasted, sustained = ends[-1] - began, (len(ends) - 1) / max(ends[-1] - ends[0], 1e-9)
    await asyncio.sleep(3.0)  # for the zoo
    parts, crowds = host.cpu_seconds() - cpu, time.process_time() - crowds
    cpu = parts.sum()
    await end(crowd, tasks)
    if profiler is not None:
        profiler.wait(60)
    tally = crowd.tally
    settled = len(tally.settled_at)
    outcome = np.percentile(tally.outcome_seconds or [0.0], [50, 95])
    for what, count in [*tally.errors.most_common(5), *tally.outcomes.items()]:
        print(f"  {what}: {count}", file=sys.stderr)
    each = 1e3 / max(settled, 1)
    words = "host {:.1f} + {:.1f} in the kernel, its processes {:.1f} + {:.1f}".format(*(each * parts).ravel())
    print(f"  calls: {dict(tally.calls)}; CPU ms a result: {words}; the crowd {each * crowds:.1f}", file=sys.stderr)
    return (
        f"| {assignments:,} | {options.recipes:,} | {sustained:.1f} | {1e3 * cpu / max(settled, 1):.1f}"
        f" | {cpu / (lasted + 3):.2f} | {outcome[0]:.1f} / {outcome[1]:.1f}"
        f" | {1e3 * float(np.percentile(tally.poll_seconds, 95)):.0f} | {host.memory_mb():.0f}"
        f" | {sum(tally.errors.values())} |"
    )


def start_profiler(host: Host, options: argparse.Namespace) -> subprocess.Popen | None:
    if options.profile is None:
        return None
    seconds = str(int(options.results / options.rate))
    words = ["record", "-o", str(options.profile), "-f", "raw", "-d", seconds, "-g", "-p", str(host.process.pid)]
    return subprocess.Popen(["py-spy", *words], stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
