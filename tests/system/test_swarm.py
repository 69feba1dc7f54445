"""The whole swarm as real processes: honest hosts, cheats, and SIGKILL at random moments.

What must hold whatever happens: the campaign completes, every network in the zoo is the pure function of its recipe
and seed, none is lost, none is there twice, and ledger and zoo tell the same story.
"""

import os
import random
import sqlite3
import time
from pathlib import Path

import pytest
from support.swarms.stage import Stage

from analysis.audit.check import audit_zoo
from protocol.engine.select import select_engine
from protocol.engine.training import train_networks
from protocol.recipes.campaign import load_campaign
from protocol.zoo.store import open_store

pytestmark = [pytest.mark.swarm, pytest.mark.timeout(600)]


@pytest.fixture
def stage(tmp_path):
    stage = Stage(tmp_path)
    yield stage
    stage.close()


def truth(campaign_file: Path) -> dict[tuple[str, int], str]:
    """(recipe digest, seed) -> weights digest, trained here and now with the reference's own bits."""
    engine, found = select_engine("c"), {}
    for population in load_campaign(campaign_file).populations:
        seeds = range(population.first_seed, population.first_seed + population.count)
        for seed, boundary in train_networks(engine, population.recipe, seeds, 16):
            if boundary.final:
                found[population.recipe.digest, seed] = boundary.state.params_digest.hex()
    return found


def steps_that_last(stage: Stage, seconds: float, networks: int) -> int:
    """How many steps a network keep two volunteers of one thread busy for `seconds`, however fast this machine is."""
    engine, tried = select_engine("c"), 8_000
    population = load_campaign(stage.write_campaign(seeds=4, bundle=4, steps=tried, segment=100)).populations[0]
    took = []
    for _ in range(3):
        start = time.perf_counter()
        assert sum(boundary.final for _, boundary in train_networks(engine, population.recipe, range(4), 4)) == 4
        took.append(time.perf_counter() - start)
    steps = tried * 4 / min(took) * 2 * seconds / networks
    return max(1, round(steps / 100)) * 100


def assert_sound(stage: Stage, campaign_file: Path) -> list[dict]:
    """The zoo holds exactly the campaign's networks, bit for bit, and its evidence stands. Returns its rows."""
    zoo = stage.path / "host" / "zoo"
    rows = open_store(zoo).catalogue().to_pylist()
    told = [((row["recipe"], row["seed"]), row["weights_digest"]) for row in rows]
    assert len({key for key, _ in told}) == len(told), "a network is in the zoo twice"
    assert dict(told) == truth(campaign_file)
    audit = audit_zoo(zoo)
    assert audit.problems == []
    assert audit.checked_by_others == len(rows)
    return rows


def test_a_swarm_trains_a_zoo_and_everybody_checks_everybody(stage):
    campaign = stage.write_campaign(seeds=8, bundle=4)
    stage.host()
    assert stage.run("seed", str(campaign), "--dir", str(stage.path / "host")).returncode == 0
    stage.volunteer("alice")
    stage.volunteer("bob")
    stage.wait_complete(120)
    rows = assert_sound(stage, campaign)
    hosts = {row["host"] for row in rows}
    assert stage.address.startswith("zoo-") and "16 networks of" in stage.log("alice"), "it was told what it joins"
    assert all(row["host"] not in row["checkers"] for row in rows)
    assert hosts <= {h["host"] for h in stage.status()["hosts"]}
    for name in ("alice", "bob"):
        stage.wait(lambda name=name: stage.processes[name].poll() == 0, 30, f"{name} to leave when all is done")
    assert stage.stop("host") == 0
    secret = (stage.path / "host" / "identity").read_bytes()[4:36]
    for name in ("host", "alice", "bob"):
        assert secret.hex() not in stage.log(name)


@pytest.mark.parametrize(
    ("kind", "said", "banned"),
    [
        ("flip-upload", "weights", False),
        ("flip-commit", "disagree", False),
        ("skip", "disagree", True),
        ("steal", "signature", False),
    ],
)
def test_a_cheat_is_rejected_by_name_and_the_campaign_completes(stage, kind, said, banned):
    campaign = stage.write_campaign(seeds=8, bundle=4)
    stage.host()
    stage.run("seed", str(campaign), "--dir", str(stage.path / "host"))
    stage.volunteer("mallory", cheat=kind)
    stage.wait(lambda: said in stage.log("host"), 90, f"the host to say what is wrong ({said})")
    if banned:
        stage.wait(lambda: "banned" in stage.log("mallory"), 60, "mallory to hear of the ban")
    stage.volunteer("alice")
    stage.volunteer("bob")
    if kind == "steal":
        stage.wait(lambda: stage.processes["mallory"].poll() == 2, 60, "mallory to give up after three refusals")
    stage.wait_complete(150)
    rows = assert_sound(stage, campaign)
    mallory = stage.run("identity", "show", "--dir", str(stage.path / "mallory")).stdout.split()[0]
    assert mallory not in {row["host"] for row in rows}
    if kind != "steal":
        assert "mallory" in stage.log("host")
    assert any(word in stage.log("host") for word in ("void", "refused", "banned", "convicted"))


def test_sigkill_of_volunteers_and_host_at_random_moments(stage):
    """Ten kills in a row, the volunteers' and the host's in turn; everything is started again each time."""
    seed = int(os.environ.get("ZOOSWARM_TEST_SEED", random.randrange(10**6)))
    print(f"seed {seed} (ZOOSWARM_TEST_SEED={seed} repeats it)")
    rng = random.Random(seed)
    campaign = stage.write_campaign(seeds=48, bundle=4, steps=steps_that_last(stage, 30.0, networks=96), segment=100)
    print(f"{load_campaign(campaign).populations[0].recipe.training.max_steps} steps a network")
    stage.host()
    stage.run("seed", str(campaign), "--dir", str(stage.path / "host"))
    for name in ("alice", "bob"):
        stage.volunteer(name)
    killed, admitted, at_work = [], 0, 0
    for round_ in range(10):
        time.sleep(rng.uniform(1.0, 5.0))  # the moment *is* random: that is the test
        victim = rng.choice(["alice", "bob"]) if round_ % 2 == 0 else "host"
        at_work += stage.campaign()["state"] != "complete"
        killed.append(victim)
        stage.kill(victim)
        time.sleep(rng.uniform(0.0, 1.0))
        if victim == "host":
            stage.host()
            now = stage.campaign()["networks_admitted"]
            assert now >= admitted, "admitted networks were lost"
            admitted = now
        else:
            stage.volunteer(victim)
    print(f"{at_work} of ten kills hit the work")
    assert at_work >= 6, f"too quick: only {at_work} of ten kills hit the work; make the campaign longer"
    stage.wait_complete(300)
    rows = assert_sound(stage, campaign)
    assert stage.stop("host") == 0
    ledger = sqlite3.connect(stage.path / "host" / "ledger.sqlite")
    counted = ledger.execute("select count(*), count(distinct recipe || ':' || seed) from networks").fetchone()
    assert counted == (len(rows), len(rows))
