"""Does a volunteer keep to its limits? A host and one volunteer with `--cpu PERCENT`, measured from outside.

    python scripts/bench/limits.py [--cpu 25] [--threads 2] [--seconds 60] [--foreground]

Prints the processor time that all of the volunteer's processes took, in percent of one core, over windows of `seconds`
that begin with its first step of training and 20 s later, what the training process alone took, and the memory that all
of them had at most. --foreground (on a quiet computer) measures `--only-when-idle` instead: how soon it yields to a
program that computes, and goes on after it.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / name) for name in ("tests", "scripts")]
from support.swarms.stage import Stage  # noqa: E402

SAMPLE_SECONDS = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description="Does a volunteer keep to --cpu?")
    parser.add_argument("--cpu", type=float, default=25.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--foreground", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder))
        try:
            if given.foreground:
                yields(stage, given.threads)
            else:
                measure(stage, given.cpu, given.threads, given.seconds)
        finally:
            stage.close()


def measure(stage: Stage, cpu: float, threads: int, seconds: float) -> None:
    began = time.monotonic()
    volunteer = started(stage, "--cpu", str(cpu), "--threads", str(threads))
    print(f"first states on disk after {time.monotonic() - began:.1f} s")
    at, samples, most = time.monotonic(), [], 0
    while time.monotonic() < at + seconds + 20:
        alone = cpu_seconds(worker_of(volunteer))
        samples.append((time.monotonic() - at, cpu_seconds([volunteer, *volunteer.children(recursive=True)]), alone))
        most = max(most, sum(each.memory_info().rss for each in [volunteer, *volunteer.children(recursive=True)]))
        time.sleep(SAMPLE_SECONDS)
    for begin in (0.0, 20.0):
        window = [sample for sample in samples if begin <= sample[0] <= begin + seconds]
        (t0, all0, alone0), (t1, all1, alone1) = window[0], window[-1]
        print(
            f"from {begin:.0f} s: {100 * (all1 - all0) / (t1 - t0):.1f} % of one core over {t1 - t0:.0f} s, "
            f"{100 * (alone1 - alone0) / (t1 - t0):.1f} % of it training"
        )
    print(f"at most {most / 1e6:,.0f} MB of memory, all processes")


def started(stage: Stage, *options: str) -> psutil.Process:
    """A volunteer that has begun to train."""
    campaign = stage.write_campaign(seeds=2000, bundle=16, steps=100_000, segment=100)
    stage.host()
    assert stage.run("seed", str(campaign), "--dir", str(stage.path / "host")).returncode == 0
    where = ["--dir", str(stage.path / "bob"), "--on-battery"]
    volunteer = psutil.Process(stage.start("bob", "join", stage.address, *where, *options).pid)
    stage.wait(lambda: any((stage.path / "bob" / "bundles").glob("*/*.states")), 90, "the first step")
    return volunteer


def yields(stage: Stage, threads: int) -> None:
    volunteer = started(stage, "--only-when-idle", "--threads", str(threads))
    (worker,) = worker_of(volunteer)
    for what in ("computes", "is gone"):
        rival = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if what == "computes" else None
        began, still = time.monotonic(), what == "computes"
        while (worker.status() == psutil.STATUS_STOPPED) != still:
            assert time.monotonic() < began + 90, f"no change after the other program {what}"
            time.sleep(0.05)
        print(f"{'stands still' if still else 'goes on'} {time.monotonic() - began:.1f} s after another program {what}")
        if rival is not None:
            before, began = cpu_seconds([worker]), time.monotonic()
            time.sleep(10.0)
            print(f"training took {cpu_seconds([worker]) - before:.2f} s in {time.monotonic() - began:.0f} s beside it")
            rival.kill()
            rival.wait()


def worker_of(volunteer: psutil.Process) -> list[psutil.Process]:
    return [each for each in volunteer.children() if "peer.trainer.worker" in each.cmdline()]


def cpu_seconds(processes: list[psutil.Process]) -> float:
    return sum(each.cpu_times().user + each.cpu_times().system for each in processes)


if __name__ == "__main__":
    main()
