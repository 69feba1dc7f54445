"""Publishing in a process of its own: the same zoo, another process after a kill, and none left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from support.scripted_host import Stage

from coordinator.zoo.press import Press, ProcessPress
from protocol.errors import Refused
from protocol.zoo.manifests import latest_manifest

pytestmark = pytest.mark.slow  # a process imports pyarrow in a second or two


@pytest.fixture
def stage(tmp_path):
    path = tmp_path / "host"
    stage = Stage(path, printer=ProcessPress(path / "zoo", path / "identity"))
    stage.seed()
    yield stage
    stage.close()


def admit(stage: Stage, index: int) -> bytes:
    """A bundle that the organizer checks alone."""
    alice = stage.hosts[0] if stage.hosts else stage.host("alice")
    digest = alice.commit(index)
    stage.clock.now += 10.0
    stage.settle(lambda: alice.open(digest, index))
    stage.settle(lambda: alice.outcome(digest))
    return digest


def pid_of(stage: Stage) -> int:
    pool = stage.core.curator.printer._pool
    assert pool is not None
    return next(iter(pool._processes))


def test_bundles_are_published_by_another_process_and_by_the_next_when_it_is_killed(stage):
    admit(stage, 0)
    assert stage.core.curate(force=True) == 2
    first = pid_of(stage)
    assert first != os.getpid() and len(latest_manifest(stage.path / "zoo").shards) == 1
    os.kill(first, signal.SIGINT)  # Ctrl-C at the terminal reaches it too
    os.kill(first, signal.SIGTERM)
    admit(stage, 1)
    os.kill(first, signal.SIGKILL)
    with pytest.raises(OSError, match="it is started again"):
        while stage.core.curate(force=True):
            pass
    assert stage.core.curate(force=True) == 2 and pid_of(stage) != first
    assert stage.core.curator.waiting() == 0


def test_a_bundle_whose_weights_are_not_those_of_its_evidence_is_not_published(stage):
    digest = admit(stage, 0)
    curator = stage.core.curator
    case = curator.stores.cases.get(digest)
    job, press = curator._job(case), Press(curator.writer)
    rows, recipe = press.rows(job, case.campaign.exact)
    assert [row.seed for row, _ in rows] == list(case.assignment.seeds) and recipe is not None
    other = msgspec.structs.replace(job, weights=bytes(len(job.weights)))
    with pytest.raises(Refused, match="weights-digest"):
        press.rows(other, case.campaign.exact)
    printed = press.publish([other], {job.campaign: case.campaign.exact}, {})
    assert not printed.done and list(printed.unusable) == [digest] and latest_manifest(stage.path / "zoo") is None


ORPHAN = """
import sys, os, signal
from pathlib import Path
from coordinator.zoo.press import ProcessPress
from protocol.trust.identity import Identity
if __name__ == "__main__":
    folder = Path(sys.argv[1])
    Identity.load_or_create(folder / "identity")
    press = ProcessPress(folder / "zoo", folder / "identity")
    press.publish([], {}, {})
    print(next(iter(press._pool._processes)), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_process_ends_when_its_parent_is_killed(tmp_path):
    script = tmp_path / "orphan.py"
    script.write_text(ORPHAN)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    said = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], env=environment, stdout=subprocess.PIPE, text=True, check=False
    ).stdout
    pid = int(said)
    deadline = time.monotonic() + 30
    while alive(pid):
        assert time.monotonic() < deadline, f"process {pid} is left behind"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False
