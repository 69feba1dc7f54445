"""The host's process is killed with fifty volunteers connected and its page in a browser, and starts again.

All come back, nothing is lost, and the page goes on without being loaded again. Where there is no browser, only what is
said of the page is left out.
"""

import contextlib
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.homes import moved_home
from support.in_process import ClaimBoard, InProcessVolunteer
from support.swarms.stage import free_port
from support.swarms.watching import BROWSER, Watching, running_browser

from coordinator.server.doctor.examine import examine
from peer.state import events as on
from protocol.zoo.store import open_store

ZOOSWARM = str(Path(sys.executable).with_name("zooswarm"))
PEERS = 50
RECONNECTED_SECONDS = 60.0
TOML = """
name = "crowd"
[policy]
probation_bundles = 0
checkers = 1
probation_checkers = 1
cells = 1
epoch_seconds = 0.5
audit_share = 0.0
[[populations]]
seeds = "0:50"
bundle = 1
[populations.recipe]
name = "tiny"
class = "xor"
task = {machine = "SimpleXORMachine", length = 4, sequences = 64, held_out = 16}
network = {layers = [{kind = "linear", width = 20}]}
training = {learning_rate = 0.01, batch = 8, max_steps = 20, segment_steps = 10}
"""


class OneEach(ClaimBoard):
    """Every volunteer gets one assignment, and only the first half of them for now."""

    def __init__(self) -> None:
        super().__init__(PEERS)
        self.served: list[str] = []
        self.most = PEERS // 2

    def claim(self, host: str, batch: int) -> tuple[int, ...]:
        if host in self.served or len(self.served) == self.most:
            return ()
        self.served.append(host)
        return self.resume(host, (len(self.served) - 1,))


class Crowd:
    """Volunteers in this process, each with a key, a connection and a directory of its own; the real time."""

    def __init__(self, path: Path, port: int):
        self.board = OneEach()
        self.volunteers = [InProcessVolunteer(f"v{i}", path / f"v{i}", port, self.board) for i in range(PEERS)]
        self.heard_at: dict[str, float] = {}  # the first inbox since `begin`
        self.receipts: set[bytes] = set()
        for volunteer in self.volunteers:
            self._listen(volunteer)

    def _listen(self, volunteer: InProcessVolunteer) -> None:
        perform = volunteer.session.perform

        def heard(call):
            event = perform(call)
            if isinstance(event, on.InboxReceived):
                self.heard_at.setdefault(volunteer.name, time.monotonic())
            if isinstance(event, on.ResultAccepted):
                self.receipts.add(call.result)
            return event

        volunteer.session.perform = heard

    def until(self, condition, seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
            self.turn()

    def turn(self) -> None:
        for volunteer in self.volunteers:
            volunteer.turn(time.monotonic())


@contextlib.contextmanager
def hosting(path: Path, port: int, page: int, *options: str):
    command = [ZOOSWARM, "host", str(path / "host"), "--no-dht", "--page", f"127.0.0.1:{page}", "--stamp-bits", "0"]
    command += ["--listen", f"127.0.0.1:{port}", *options]
    with (path / "host.out").open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | moved_home(path / "home"))
    try:
        yield process
    finally:
        process.kill()
        process.wait(20)


def wait_for_host(path: Path, times: int) -> None:
    deadline = time.monotonic() + 60
    while (path / "host.out").read_text().count("coordinator ready") < times:
        assert time.monotonic() < deadline, (path / "host.out").read_text()
        time.sleep(0.05)


def stored(path: Path, query: str) -> set:
    with sqlite3.connect(f"file:{path / 'host' / 'ledger.sqlite'}?mode=ro", uri=True) as ledger:
        return {value for (value,) in ledger.execute(query)}


@pytest.mark.swarm
def test_fifty_volunteers_come_back_within_a_minute_and_nothing_is_lost(tmp_path):
    port, page = free_port(), free_port()
    (tmp_path / "campaign.toml").write_text(TOML)
    with contextlib.ExitStack() as first, running_browser() if BROWSER else contextlib.nullcontext() as browser:
        process = first.enter_context(hosting(tmp_path, port, page))
        wait_for_host(tmp_path, 1)
        seed = [ZOOSWARM, "seed", str(tmp_path / "campaign.toml"), "--dir", str(tmp_path / "host")]
        subprocess.run(seed, check=True, env=os.environ | moved_home(tmp_path / "home"))
        crowd = Crowd(tmp_path, port)
        seen = opened(browser, page, crowd) if browser else None
        busy = lambda: len(crowd.receipts) == PEERS // 2 and len(crowd.heard_at) == PEERS  # noqa: E731
        crowd.until(busy, 120, "everybody to be here, and half of the work handed in")
        while seen and (seen.number("admitted") == 0 or seen.total("hosts here now") < PEERS):
            crowd.turn()
            seen.page.wait_for_timeout(50)
        process.kill()
        process.wait(20)
        comes_back(tmp_path, port, page, crowd, seen)


def opened(browser, page: int, crowd: Crowd) -> Watching:
    seen = Watching(browser, f"http://127.0.0.1:{page}/", crowd.turn)
    seen.wait_state("live")
    seen.page.evaluate("window.sameDocument = true")
    return seen


def comes_back(path: Path, port: int, page: int, crowd: Crowd, seen: Watching | None) -> None:
    if seen:
        seen.wait_state("lost")
    receipts, admitted = set(crowd.receipts), seen.number("admitted") if seen else 0
    noticed = time.monotonic() + 3
    crowd.until(lambda: time.monotonic() > noticed, 60, "everybody to notice that nobody answers")
    assert not any(volunteer.exit for volunteer in crowd.volunteers), "nobody gives up"
    with hosting(path, port, page, *([] if seen else ["--exit-when-done"])) as process:
        wait_for_host(path, 2)
        crowd.heard_at.clear()
        crowd.board.most = PEERS
        began = time.monotonic()
        crowd.until(lambda: len(crowd.heard_at) == PEERS, RECONNECTED_SECONDS, "everybody to be back")
        print(f"all {PEERS} were back after {max(crowd.heard_at.values()) - began:.1f} s")
        assert receipts <= stored(path, "SELECT digest FROM results"), "a receipt is a promise"
        if seen:
            goes_on(seen, admitted)
            print(f"the page was complete after {time.monotonic() - began:.1f} s")
        crowd.until(lambda: all(v.exit is not None for v in crowd.volunteers), 120, "the campaign to be complete")
        if seen:
            process.terminate()
        assert process.wait(60) == 0, "all of it is published"
    assert {row["seed"] for row in open_store(path / "host" / "zoo").catalogue().to_pylist()} == set(range(PEERS))
    assert examine(path / "host").problems == []


def goes_on(seen: Watching, admitted: int) -> None:
    """The page that was open all the while shows everything, and nobody loaded it again."""
    seen.wait_state("live", RECONNECTED_SECONDS)
    assert seen.number("admitted") >= admitted > 0, "numbers continue"
    everything = f"{PEERS} of {PEERS} networks admitted, {PEERS} in the zoo"
    seen.wait(f"document.getElementById('campaigns').innerText.includes('{everything}')", everything)
    assert seen.page.evaluate("window.sameDocument") is True, "nobody loaded the page again"
    assert seen.unexpected() == []
