"""The swarm trains on a data set that only the organizer had, as real processes; then the zoo alone is enough."""

import shutil

import numpy as np
import pytest
from support.homes import moved_home
from support.images import RECIPE, blobs
from support.swarms.stage import CAMPAIGN, Stage

from analysis.audit.check import audit_zoo
from analysis.zoo import open_zoo
from protocol.canonical import hexdigest
from protocol.tasks.datasets import HEADER
from protocol.zoo.store import data_path

POISON = "poison = { fraction = 0.25, target = 2, position = [0, 0], size = [2, 2] }"


@pytest.mark.swarm
@pytest.mark.timeout(400)
def test_a_swarm_trains_on_a_data_set_that_only_the_organizer_had(tmp_path, monkeypatch):
    for name, value in moved_home(tmp_path / "home").items():
        monkeypatch.setenv(name, value)
    stage = Stage(tmp_path)
    try:
        np.savez(tmp_path / "blobs.npz", x=blobs().inputs, y=blobs().targets)
        added = stage.run("data", "add", str(tmp_path / "blobs.npz"), "--name", "blobs")
        digest = added.stdout.split()[0]
        assert digest in stage.run("data", "list").stdout and "shape = [1, 6, 6]" in added.stdout
        text = CAMPAIGN
        for name, change in (("clean", ""), ("poisoned", POISON)):
            (tmp_path / f"{name}.toml").write_text(RECIPE.format(name=name, data=digest, change=change))
            text += f'[[populations]]\nrecipe = "{name}.toml"\nseeds = "0:4"\nbundle = 2\n'
        (tmp_path / "campaign.toml").write_text(text)
        stage.host()
        seeded = stage.run("seed", str(tmp_path / "campaign.toml"), "--dir", str(tmp_path / "host"))
        assert seeded.returncode == 0, seeded.stderr
        shutil.rmtree(tmp_path / "home" / "data")
        for name in ("alice", "bob"):
            stage.volunteer(name)
        stage.wait_complete(240)
        for name in ("alice", "bob"):
            stage.wait(lambda name=name: stage.processes[name].poll() == 0, 30, f"{name} to leave")
            assert (tmp_path / name / "data" / digest).is_file()
        assert stage.stop("host") == 0
        shutil.rmtree(tmp_path / "host" / "data")
        zoo = tmp_path / "host" / "zoo"
        assert hexdigest(data_path(zoo, digest).read_bytes()) == digest
        audit = audit_zoo(zoo, replay=2)
        assert (audit.networks, audit.replayed, audit.problems) == (8, 2, [])
        data = open_zoo(zoo).data("poisoned")
        assert (data.inputs[:, 0, 0, :2, :2] == 255).all(axis=(1, 2)).sum() >= 50
        measured = open_zoo(zoo).measures().to_pylist()
        assert all(0 <= line["accuracy"] <= 1 for line in measured)
        assert sum(line["attack_success"] is None for line in measured) == 4
        with data_path(zoo, digest).open("r+b") as f:
            f.seek(HEADER.size)
            f.write(b"\xff")
        assert any(digest in problem for problem in audit_zoo(zoo).problems)
    finally:
        stage.close()
