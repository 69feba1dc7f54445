"""Ctrl-C ends a volunteer within two seconds, whatever it waits for."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.homes import moved_home
from support.volunteer import CAMPAIGN, Volunteer, id_of

from peer.state import actions as act
from peer.state import events as on
from peer.trainer.messages import TrainerConfig
from peer.trainer.process import TrainerProcess

SECONDS = 2.0
SLACK = 3.0  # of a machine with other work: without the stop these waits last 5, 15, 30 s or for ever
ZOOSWARM = str(Path(sys.executable).with_name("zooswarm"))


def test_leaving_has_little_time_when_a_person_waits():
    """A call that hangs, a worker in the middle of a segment, claims that are not given back: none is waited for."""
    alice = Volunteer(stop_seconds=1.2, leave_seconds=30.0).joins()
    alice.claimed(0)
    alice.inbox()
    assert alice.state.call is None or isinstance(alice.state.call, act.CoordinatorCall)
    alice.hears(on.StopRequested())
    assert alice.ever(act.StopTrainer)
    alice.waits(1.3)
    assert alice.state.exited


def test_a_ban_and_then_ctrl_c_leaves_in_the_shorter_time():
    alice = Volunteer(stop_seconds=1.2, leave_seconds=30.0).joins()
    alice.inbox(banned="for lying")
    alice.waits(5)
    assert not alice.state.exited, "the claims are on their way back"
    alice.hears(on.StopRequested())
    alice.waits(1.3)
    assert alice.state.exited


def test_by_itself_it_takes_its_time():
    alice = Volunteer(until_done=True, leave_seconds=30.0).joins()
    alice.claimed()
    alice.inbox(campaigns=((CAMPAIGN.digest, "complete"),))
    alice.waits(20)
    assert alice.state.leaving is not None and not alice.state.exited
    assert id_of(0) not in alice.state.held.items


def test_a_worker_in_a_long_segment_is_not_waited_for(tmp_path):
    config = TrainerConfig(home=str(tmp_path), backend="c", threads=1, nice=0, device="cpu", gpu_memory=0.5)
    heard: list[on.Event] = []
    trainer = TrainerProcess(config, tmp_path / "worker.log", heard.append)
    trainer.start()
    assert trainer.process is not None
    assert os.getpgid(trainer.process.pid) == trainer.process.pid, "what it starts ends with it"
    os.kill(trainer.process.pid, signal.SIGSTOP)  # as deaf as a worker inside of C ...
    trainer._signal = lambda: None  # ... which nothing wakes
    began = time.monotonic()
    trainer.stop()
    assert time.monotonic() - began < SECONDS + SLACK
    assert trainer.process.returncode == -9


def test_a_thread_that_hangs_does_not_keep_the_program():
    code = (
        "import threading\n"
        "from peer.daemon import Background, EventQueue\n"
        "begun = threading.Event()\n"
        "def hang(action): begun.set(); threading.Event().wait()\n"
        "Background('hangs', hang, EventQueue())(object())\n"
        "begun.wait()\n"
    )
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "number", "ends"), [([], signal.SIGINT, 0), (["--check"], signal.SIGTERM, 130)], ids=["join", "check"]
)
def test_a_coordinator_that_accepts_and_never_answers(tmp_path, options, number, ends):
    """The first call of `join`, in a process of its own: Ctrl-C is heard at once, and nothing is a traceback."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        command = [ZOOSWARM, "join", address, "--dir", str(tmp_path / "volunteer"), *options]
        environment = os.environ | moved_home(tmp_path / "home")
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment) as process:
            connection, _ = silent.accept()  # it has called
            began = time.monotonic()
            process.send_signal(number)
            said, _ = process.communicate(timeout=60)
            taken = time.monotonic() - began
            connection.close()
    assert taken < SECONDS + SLACK, f"{taken:.1f} s"
    if "--check" in options:
        assert said.strip() == b"zooswarm: stopped"
    assert b"Traceback" not in said and b"stopped" in said
    assert process.returncode == ends
