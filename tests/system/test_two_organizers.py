"""Two organizers, each with a volunteer of his own, and one person who lends a computer to both."""

import shutil

import pytest
from support.swarms.stage import Stage

from protocol.zoo.store import open_store

pytestmark = [pytest.mark.swarm, pytest.mark.long, pytest.mark.timeout(300)]  # CI has tests/swarm's


@pytest.fixture
def stages(tmp_path):
    found = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        found.append(Stage(tmp_path / name))
    yield found
    for stage in found:
        stage.close()


def test_two_organizers_share_a_volunteer_who_gives_each_a_directory(stages):
    """Both campaigns are the same networks: each organizer has them trained for himself, and credits for himself."""
    for stage in stages:
        campaign = stage.write_campaign(seeds=12, bundle=2)
        stage.host()
        assert stage.run("seed", str(campaign), "--dir", str(stage.path / "host")).returncode == 0
    one, other = stages
    carol = one.run("identity", "show", "--dir", str(one.path / "carol")).stdout.split()[0]
    (other.path / "carol").mkdir()
    shutil.copy(one.path / "carol" / "identity", other.path / "carol" / "identity")
    for stage, name in ((one, "alice"), (one, "carol"), (other, "bob"), (other, "carol")):
        stage.volunteer(name)
    one.wait(lambda: "in the swarm" in one.log("carol"), 60, "carol to join")
    second = one.run("join", other.address, "--dir", str(one.path / "carol"))
    assert second.returncode == 2 and "another volunteer runs from this directory; give this one" in second.stderr
    for stage in stages:
        stage.wait_complete(120)
    organizers = {stage.address for stage in stages}
    assert len(organizers) == 2
    for stage, own in ((one, "alice"), (other, "bob")):
        rows = open_store(stage.path / "host" / "zoo").catalogue().to_pylist()
        hosts = {host["host"]: host for host in stage.status()["hosts"]}
        his = stage.run("identity", "show", "--dir", str(stage.path / own)).stdout.split()[0]
        assert len(rows) == 24 and {his, carol} >= hosts.keys()
        assert hosts[carol]["name"] == "carol" and hosts[carol]["credit"] > 0
        assert sum(row["host"] == carol for row in rows) > 0
