#!/usr/bin/env python3
"""Run a real swarm on this machine and print where its CPU seconds went.

    python scripts/bench/swarm.py [--networks 400] [--campaign FILE] [--volunteers 2] [--threads 1] [--bundle N]
        [--policy mlds|demo|default]

One `zooswarm host` and some volunteers, each its own process, train a campaign to its end, with as many seeds of each
population as make up `--networks`; everybody checks everybody, and the zoo is published. The programs are the real
ones, with clocks around some functions (`swarm_parts.py`), CPU seconds of p2pd and of the process that writes the zoo
are read from /proc twice a second.

Useful is what `engine.train` took for networks that are in the zoo; the useful share is that of all CPU seconds of
volunteers, host and p2pd. The campaign is recipes/mlds-campaign.toml, of 1,000 networks as it is shipped; with
`--campaign recipes/demo.toml --bundle 50 --policy mlds` it is the five DS1 recipes. `--policy mlds` is the policy of
the first, `demo` that of the second, which runs two segments of every network again, `default` that of a campaign that
says nothing. The modules are compiled to byte code first, as `pip install` does it.
"""

import argparse
import compileall
import contextlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this folder has a `coordinator.py`: ours comes first
sys.path.append(str(Path(__file__).resolve().parents[1]))

from soaking.swarm import Swarm, descendants

from protocol.files import cache_directory
from protocol.zoo.store import open_store

ROOT = Path(__file__).resolve().parents[2]
PARTS = str(Path(__file__).with_name("swarm_parts.py"))
TICKS = os.sysconf("SC_CLK_TCK")
SAMPLED = ("p2pd", "host: writing the zoo", "trainer")
LOOK_SECONDS = 0.5
PATIENCE_SECONDS = 900.0
POLICIES = {"mlds": "mlds-campaign.toml", "demo": "demo.toml"}
ORDER = (  # of the table's rows
    *("train, networks in the zoo", "train, others", "held-out losses", "initial states"),
    *("states and leaves on the disk", "start of the training processes", "training processes, the rest"),
    *("checks of others", "join", "host: its own checks", "host: audits", "host, the rest", "host: writing the zoo"),
    "p2pd",
)


def main() -> None:
    options = parse()
    as_installed()
    print(
        f"load {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores, {sys.version.split()[0]}", flush=True
    )
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "parts").mkdir()
        swarm = Swarm(folder, "default")
        try:
            starts, wall, sampled = run(swarm, campaign(folder, options), options)
        finally:
            swarm.close()
        told = [json.loads(path.read_text()) for path in (folder / "parts").iterdir()]
        rows = open_store(folder / "host" / "zoo").catalogue().to_pylist()
    show(told, starts, wall, sampled, sum(row["steps"] for row in rows), len(rows), options)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=400, help="in all, as many of each population")
    parser.add_argument("--campaign", type=Path, default=ROOT / "recipes" / "mlds-campaign.toml")
    parser.add_argument("--volunteers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of each volunteer")
    parser.add_argument("--bundle", type=int, help="networks of an assignment; default: as the campaign has it")
    parser.add_argument("--policy", choices=(*POLICIES, "default"), help="another than the campaign's own")
    return parser.parse_args()


def as_installed() -> None:
    """What an installed program finds: byte code. Where this shell says that none is to be written, every process would
    compile our modules once more."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for package in ("protocol", "peer", "coordinator", "scripts"):
        compileall.compile_dir(ROOT / package, quiet=1)


def campaign(folder: Path, options: argparse.Namespace) -> Path:
    """The campaign's file with other seeds, and with another bundle or policy where one is asked for."""
    shutil.copytree(options.campaign.parent, folder / "recipes")
    populations, marker, policy = options.campaign.read_text().partition("[policy]")
    seeds = f'seeds = "0:{options.networks // populations.count("[[populations]]")}"'
    populations = re.sub(r'^seeds = "0:\d+"$', seeds, populations, flags=re.MULTILINE)
    if options.bundle:
        populations = re.sub(r"^bundle = \d+$", f"bundle = {options.bundle}", populations, flags=re.MULTILINE)
    if options.policy:
        file = POLICIES.get(options.policy)
        _, marker, policy = (ROOT / "recipes" / file).read_text().partition("[policy]") if file else ("", "", "")
    made = folder / "recipes" / "campaign-of-the-bench.toml"
    made.write_text(populations + marker + policy)
    return made


def run(swarm: Swarm, file: Path, options: argparse.Namespace) -> tuple[dict[str, float], float, dict[str, float]]:
    """Until the campaign is complete and published: when each volunteer started, seconds, CPU seconds read."""
    assert cache_directory().exists()
    wrapper = [sys.executable, PARTS, str(swarm.path / "parts")]
    names = [f"volunteer-{i}" for i in range(options.volunteers)]
    swarm.prefix = dict.fromkeys(["host", *names], wrapper)
    swarm.start_host()
    swarm.wait_for_host()
    seeded = swarm.run("seed", str(file), "--dir", str(swarm.path / "host"))
    assert seeded.returncode == 0, seeded.stderr
    began, starts = time.time(), {}
    for name in names:
        starts[name] = time.time()
        arguments = ["--dir", str(swarm.path / name), "--name", name, "--threads", str(options.threads), "--until-done"]
        swarm.start(name, "join", swarm.address, *arguments)
    seen: dict[int, tuple[str, float]] = {}
    while any(swarm.alive(name) for name in names):
        look(swarm, seen)
        if time.time() - began > PATIENCE_SECONDS or not swarm.alive("host"):
            raise SystemExit("\n".join(swarm.log(name)[-1500:] for name in ("host", *names)))
        time.sleep(LOOK_SECONDS)
    wall = time.time() - began
    if any(swarm.processes[name].returncode for name in names):
        raise SystemExit("\n".join(swarm.log(name)[-1500:] for name in names))
    swarm.wait(swarm.is_complete, 60, "the whole zoo")
    look(swarm, seen)
    swarm.stop("host")
    sampled: dict[str, float] = dict.fromkeys(SAMPLED, 0.0)
    for kind, seconds in seen.values():
        sampled[kind] += seconds
    return starts, wall, sampled


def look(swarm: Swarm, seen: dict[int, tuple[str, float]]) -> None:
    """CPU seconds so far of the processes that do not tell themselves."""
    for actor, process in swarm.processes.items():
        for pid in descendants(process.pid) if swarm.alive(actor) else ():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text()
                name, numbers = fields[fields.index("(") + 1 : fields.rindex(")")], fields[fields.rindex(")") :].split()
                kind = "p2pd" if name == "p2pd" else "host: writing the zoo" if actor == "host" else "trainer"
                seen[pid] = (kind, (int(numbers[12]) + int(numbers[13])) / TICKS)


def show(
    told: list[dict],
    starts: dict[str, float],
    wall: float,
    sampled: dict[str, float],
    steps: int,
    networks: int,
    options: argparse.Namespace,
) -> None:
    trainers = [one for one in told if one["kind"] == "peer.trainer.worker"]
    seconds: defaultdict[str, float] = defaultdict(float)
    for one in told:
        for part, spent in one["parts"].items():
            seconds[part] += spent
        rest = one["cpu"] - sum(one["parts"].values())
        kind = {"host": "host, the rest", "join": "join"}.get(one["kind"], "training processes, the rest")
        seconds[kind] += rest
    trained = sum(one.get("steps", 0) for one in trainers)
    train = seconds.pop("train")
    seconds["train, networks in the zoo"] = train * min(1.0, steps / trained)
    seconds["train, others"] = train - seconds["train, networks in the zoo"]
    for kind in SAMPLED[:2]:
        seconds[kind] = sampled[kind]
    total = sum(seconds.values())
    print(
        f"{networks} networks, {steps:,} steps ({trained:,} trained), {options.volunteers} volunteers x "
        f"{options.threads} threads, {options.campaign.name}: {wall:.1f} s"
    )
    print("\n| where | CPU s | share |\n| --- | --- | --- |")
    for name in ORDER:
        print(f"| {name} | {seconds[name]:.1f} | {seconds[name] / total:.1%} |")
    print(f"| all | {total:.1f} | |\n")
    assert set(seconds) <= set(ORDER), f"not in the table: {set(seconds) - set(ORDER)}"
    first = min(one["first_step_at"] for one in trainers) - min(starts.values())
    spans = sum(one["last_step_at"] - one["first_step_at"] for one in trainers)
    waits = sum(max(0.0, min(b, o["last_step_at"]) - a) for o in trainers for a, b in o.get("waits", []))
    print(f"first training step: {first:.2f} s after `zooswarm join`")
    print(f"training processes waited {waits:.1f} of {spans:.1f} s between their first and last step")
    print(f"useful share: {seconds['train, networks in the zoo'] / total:.1%}")


if __name__ == "__main__":
    main()
