"""What real processes load: torch is for analysts, and costs whoever lends a computer 2 s and 200 MB."""

import json
import os
from pathlib import Path

import pytest
from support.swarms.stage import Stage

pytestmark = [pytest.mark.swarm, pytest.mark.timeout(300)]

RECORDED = Path(__file__).parent.parent / "support" / "swarms" / "recorded"
HEAVY = {"torch", "pyarrow", "duckdb", "sklearn", "scipy", "matplotlib", "sqlalchemy"}


@pytest.fixture
def stage(tmp_path):
    stage = Stage(tmp_path)
    stage.environment |= {
        "PYTHONPATH": os.pathsep.join(filter(None, (str(RECORDED), os.environ.get("PYTHONPATH")))),
        "ZOOSWARM_TEST_MODULES": str(tmp_path / "modules"),
    }
    (tmp_path / "modules").mkdir()
    yield stage
    stage.close()


def test_neither_volunteers_nor_their_training_processes_nor_the_host_load_torch(stage):
    campaign = stage.write_campaign(seeds=8, bundle=4)
    stage.host()
    assert stage.run("seed", str(campaign), "--dir", str(stage.path / "host")).returncode == 0
    stage.volunteer("alice")
    stage.volunteer("bob")
    stage.wait_complete(120)
    for name in ("alice", "bob"):
        stage.wait(lambda name=name: stage.processes[name].poll() == 0, 30, f"{name} to leave when all is done")
    assert stage.stop("host") == 0
    told = [json.loads(path.read_text()) for path in (stage.path / "modules").iterdir()]
    loaded = {
        kind: [set(one["modules"]) for one in told if kind in one["program"]]
        for kind in ("join", "peer.trainer.worker", "host")
    }
    assert len(loaded["join"]) == len(loaded["peer.trainer.worker"]) == 2 and len(loaded["host"]) == 1
    assert all("hivemind.dht.node" in modules for modules in loaded["join"]), "these have joined the DHT"
    for modules in (*loaded["join"], *loaded["peer.trainer.worker"]):
        assert not HEAVY & modules
    assert all("torch" not in one["modules"] for one in told)
