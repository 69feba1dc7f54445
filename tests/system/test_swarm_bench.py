"""scripts/bench/swarm.py wraps functions by their names: a small swarm shows that they are still there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.swarm, pytest.mark.timeout(300)]

BENCH = Path(__file__).parents[2] / "scripts" / "bench" / "swarm.py"


def test_the_bench_of_a_swarm_finds_every_part_of_its_time():
    campaign = ["--campaign", "recipes/demo.toml", "--policy", "mlds", "--networks", "10", "--bundle", "1"]
    command = [sys.executable, str(BENCH), *campaign, "--volunteers", "1"]
    ended = subprocess.run(command, cwd=BENCH.parents[2], capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    seconds = {
        name: float(spent) for name, spent in re.findall(r"^\| ([^|]+) \| ([\d.]+) \|", ended.stdout, re.MULTILINE)
    }
    for part in ("train, networks in the zoo", "held-out losses", "host: its own checks", "join", "host, the rest"):
        assert seconds[part] > 0, ended.stdout
    assert sum(seconds.values()) == pytest.approx(2 * seconds["all"], abs=0.1 * len(seconds))
    assert "useful share: " in ended.stdout and "first training step: " in ended.stdout
