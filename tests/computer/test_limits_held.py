"""Real processes: the training process stands still when it is told to, and a volunteer keeps to its limits."""

import subprocess
import sys
import time

import psutil
import pytest
from support.swarms.stage import Stage

from peer.state.events import TrainerFailed, TrainerReady
from peer.trainer.messages import TrainerConfig
from peer.trainer.process import TrainerProcess

RESTS = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)


def wait_for(condition, seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.05)


def config_in(home, **fields) -> TrainerConfig:
    usual = {"backend": "numpy", "threads": 1, "nice": 0, "device": "cpu", "gpu_memory": 0.8}
    return TrainerConfig(home=str(home), **(usual | fields))


@pytest.mark.slow
def test_it_stands_still_for_every_reason_also_after_it_was_started_again(tmp_path):
    told = []
    trainer = TrainerProcess(config_in(tmp_path), tmp_path / "worker.log", told.append, stop_seconds=10)
    trainer.hold("pause")
    trainer.start()
    assert trainer.process is not None
    process = psutil.Process(trainer.process.pid)
    wait_for(lambda: process.status() in RESTS, 10, "it to stand still from the start")
    trainer.hold("pace")
    trainer.let_go("pause")
    assert process.status() in RESTS and told == []
    trainer.let_go("pace")
    wait_for(lambda: any(isinstance(event, TrainerReady) for event in told), 30, "it to get ready")
    trainer.hold("pause")
    wait_for(lambda: process.status() in RESTS, 10, "it to stand still")
    began = time.monotonic()
    trainer.stop()
    assert time.monotonic() - began < 5 and trainer.process.returncode == 0, (
        "it ended in good order, from standing still"
    )


@pytest.mark.slow
def test_memory_above_the_limit_is_one_line_with_the_mend(tmp_path):
    program = (
        "import io, sys, peer.trainer.worker as w, peer.trainer.messages as m\n"
        "def run(self): bytearray(1 << 30)\n"
        "w.Worker.run = run\n"
        f"told = []; w.work(m.TrainerConfig({str(tmp_path)!r}, 'numpy', 1, 0, 'cpu', 0.8, 500_000_000), told.append)\n"
        "print(told[-1])\n"
    )
    program = program.replace(f"({str(tmp_path)!r}, 'numpy', 1, 0, 'cpu', 0.8, 500_000_000)", "(**CONFIG)")
    given = config_in(tmp_path, memory_bytes=500_000_000)
    fields = {name: getattr(given, name) for name in TrainerConfig.__struct_fields__}
    done = subprocess.run(
        [sys.executable, "-c", f"CONFIG = {fields!r}\n{program}"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert TrainerFailed.__name__ in done.stdout and "500 MB" in done.stdout and "--memory" in done.stdout, done.stderr


@pytest.mark.swarm
def test_a_volunteer_keeps_to_its_share_stands_still_on_battery_and_when_asked(tmp_path):
    """Sixty seconds of it are measured by scripts/bench/limits.py; here it is six."""
    stage = Stage(tmp_path)
    power = tmp_path / "online"
    power.write_text("1\n")
    stage.environment["ZOOSWARM_POWER_FILE"] = str(power)
    try:
        campaign = stage.write_campaign(seeds=2000, bundle=16, steps=100_000, segment=100)
        stage.host()
        assert stage.run("seed", str(campaign), "--dir", str(tmp_path / "host")).returncode == 0
        where = ["--dir", str(tmp_path / "bob")]
        volunteer = psutil.Process(stage.start("bob", "join", stage.address, *where, "--cpu", "25").pid)
        wait_for(lambda: any((tmp_path / "bob" / "bundles").glob("*/*.states")), 60, "the first step")
        used, seconds = took(volunteer, 6.0)
        assert 0.05 < used / seconds < 0.40, f"{used / seconds:.0%} of a core"
        worker = next(child for child in volunteer.children() if "peer.trainer.worker" in child.cmdline())

        power.write_text("0\n")
        wait_for(lambda: "paused: on battery" in stage.log("bob"), 10, "it to see the battery")
        assert stands_still(worker)
        power.write_text("1\n")
        wait_for(lambda: not stands_still(worker), 10, "it to go on")

        assert stage.run("pause", *where).stdout == "paused until `zooswarm resume`\n"
        wait_for(lambda: "given back for this pause" in stage.log("bob"), 10, "it to give back")
        assert stands_still(worker)
        wait_for(lambda: "you asked for it" in stage.run("volunteer", *where).stdout, 20, "it to say why")
        assert stage.run("resume", *where).stdout == "it goes on\n"
        wait_for(lambda: "resumed with" in stage.log("bob"), 20, "it to claim again what it gave back")
        wait_for(lambda: not stands_still(worker), 10, "it to train again")
        assert stage.stop("bob") == 0
    finally:
        stage.close()


def took(volunteer: psutil.Process, seconds: float) -> tuple[float, float]:
    """(processor seconds of all its processes, wall seconds) over about so many seconds."""

    def now() -> float:
        family = [volunteer, *volunteer.children(recursive=True)]
        return sum(each.cpu_times().user + each.cpu_times().system for each in family)

    began, before = time.monotonic(), now()
    time.sleep(seconds)
    return now() - before, time.monotonic() - began


def stands_still(process: psutil.Process) -> bool:
    """It takes no processor time for so long: its pace lets it stand still, too, but for less than a second."""
    before = sum(process.cpu_times()[:2])
    time.sleep(1.3)
    return sum(process.cpu_times()[:2]) == before
