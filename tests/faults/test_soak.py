"""The soak's own parts: its fakes are good fakes, its faults those of its seed; and a short soak of real processes."""

import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from soak import parse_attack
from soaking.fakes import fake_bundle
from soaking.faults import Faults, flip
from soaking.report import Outcome, judge_fakes, judge_honest, judge_logs
from support.scripted_host import CAMPAIGN, engine

from protocol.trust.challenge import draw_cells
from protocol.trust.identity import Identity
from protocol.trust.spot_check import open_states, open_weights, spot_check
from protocol.trust.verdict import judge, open_result, open_traces, segments_of

ROOT = Path(__file__).parents[2]


def test_a_fake_hangs_together_and_only_a_replay_shows_it():
    worker = Identity.generate()
    fake = fake_bundle(engine(), CAMPAIGN.assignment(0))
    envelope = fake.signed(worker)
    result, assignment = open_result(envelope, CAMPAIGN)
    traces = open_traces(fake.trace_blob, result, assignment, worker.host)
    task = draw_cells(CAMPAIGN.policy, True, b"c" * 32, segments_of(assignment.recipe, result))[0]
    assert judge(fake.vouch(envelope.digest, 0, task), task, traces).valid
    states = open_states(assignment.recipe, fake.states_blob(task.opened), task.opened)
    weights = open_weights(assignment.recipe, fake.weights_blob, len(assignment.seeds))
    honest = spot_check(engine(), assignment, envelope.digest, 0, task, states, weights)
    verdict = judge(honest, task, traces)
    assert set(verdict.bad_cells) == set(task.cells) and not verdict.bad_networks


@pytest.mark.parametrize("text", ["sybil", "sybil:60", "idle:200"])
def test_an_attack_is_a_kind_and_a_number(text):
    kind, number = parse_attack(text)
    assert text.startswith(kind) and number == int((text + ":10").split(":")[1])


@pytest.mark.parametrize("text", ["", "rain", "sybil:", "sybil:many", "sybil:-1"])
def test_an_attack_that_is_none_is_refused(text):
    if text == "sybil:":
        assert parse_attack(text) == ("sybil", 10)
    else:
        with pytest.raises(click.BadParameter):
            parse_attack(text)


def test_exactly_one_bit_is_flipped(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    flip(path, random.Random(1))
    assert sum(byte.bit_count() for byte in path.read_bytes()) == 1
    (tmp_path / "empty").touch()
    with pytest.raises(ValueError):
        flip(tmp_path / "empty", random.Random(1))


class StandIn:
    """A swarm in which every fault finds something."""

    def __init__(self, path: Path):
        self.path, self.link, self.environment, self.ended = path, None, {}, {"alice": 1}
        self.processes: dict[str, Any] = {}
        self.started: list[str] = []

    def members(self, actor: str) -> dict[str, list[int]]:
        return {}

    def alive(self, actor: str) -> bool:
        return actor not in self.ended

    def log(self, actor: str) -> str:
        return "a last word"

    def start_host(self) -> None:
        self.started.append("host")

    def start_volunteer(self, actor: str) -> None:
        self.started.append(actor)


def story(path: Path, seed: int) -> list[str]:
    faults = Faults(StandIn(path), ["alice", "bob"], random.Random(seed))  # type: ignore[arg-type]
    drawn = []
    faults._kill = lambda actor, what: bool(drawn.append(f"kill {actor} {what}")) or True  # type: ignore[method-assign]
    faults._stop = lambda actor, what: bool(drawn.append(f"stop {actor} {what}")) or True  # type: ignore[method-assign]
    faults._flip_ledger = faults._fill = faults._move = lambda: False  # type: ignore[method-assign]
    for _ in range(40):
        faults.strike()
    assert faults.kills == sum(faults.hits[kind] for kind in faults.hits if kind.startswith("kill"))
    return drawn


def test_the_same_seed_does_the_same(tmp_path):
    assert story(tmp_path, 7) == story(tmp_path, 7) != story(tmp_path, 8)


def test_what_a_machine_does_not_allow_is_left_out_with_its_reason(tmp_path):
    faults = Faults(StandIn(tmp_path), ["alice"], random.Random(1))  # type: ignore[arg-type]
    assert "namespace" in faults.skipped["cut a link"] and "cut a link" not in faults.weights


def test_who_dies_of_himself_is_a_problem_and_lives_again(tmp_path):
    swarm = StandIn(tmp_path)
    swarm.processes["alice"] = subprocess.CompletedProcess([], 1)
    faults = Faults(swarm, ["alice", "bob"], random.Random(1))  # type: ignore[arg-type]
    assert faults.revive() == 1 and swarm.started == ["alice"]
    assert faults.problems == ["alice ended of itself, status 1: a last word"]


def test_who_ends_on_a_disk_that_we_filled_says_so_and_is_no_problem(tmp_path):
    swarm = StandIn(tmp_path)
    swarm.log = lambda actor: "zooswarm: the disk: No space left on device; nothing is lost"  # type: ignore[method-assign]
    faults = Faults(swarm, ["alice"], random.Random(1))  # type: ignore[arg-type]
    for filled in (0, 1):
        swarm.processes["alice"] = subprocess.CompletedProcess([], 2)
        faults.hits["fill a disk"] = filled
        faults.revive()
        assert len(faults.problems) == 1 and faults.hits["ended on the full disk"] == filled


def test_a_report_says_what_must_not_be(tmp_path):
    outcome = Outcome()
    judge_honest(outcome, {"hosts": [{"name": "bob", "credit": 1, "faults": 3, "banned": "three faults"}]}, ["bob"])
    (tmp_path / "host.log").write_text("all is well\nTraceback (most recent call last):\n")
    judge_logs(outcome, tmp_path)
    judge_fakes(outcome, tmp_path / "no zoo", {"somebody"})
    assert [line.split(":")[0] for line in outcome.wrong] == ["an honest host was banned", "tracebacks in host.log"]


@pytest.mark.swarm
@pytest.mark.timeout(900)
def test_a_short_soak_ends_with_doctor_and_audit_clean(tmp_path):
    seed = os.environ.get("ZOOSWARM_TEST_SEED", str(random.randrange(10**6)))
    print(f"seed {seed} (ZOOSWARM_TEST_SEED={seed} repeats it)")
    command = [sys.executable, str(ROOT / "scripts" / "soak.py"), "--seed", seed, "--dir", str(tmp_path / "soak")]
    attacks = ["--attack", "sybil:3", "--attack", "squat:1", "--attack", "idle:60", "--attack", "replay:2"]
    options = ["--kills", "5", "--minutes", "2", "--wave", "24", *attacks]
    soak = subprocess.run([*command, *options], capture_output=True, text=True, timeout=850, check=False)
    assert soak.returncode == 0, soak.stdout + soak.stderr
    assert re.search(r"fake networks alive in the zoo +0\n", soak.stdout)
    assert re.search(r"doctor host +all well\n", soak.stdout)
