"""The main job as a play: host, three volunteers, a campaign, a killing, a report. Started by scripts/demo.

demo.py [CAMPAIGN.toml]    default: recipes/demo.toml
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

ROOT = Path(__file__).resolve().parent.parent
ZOOSWARM = str(Path(sys.executable).with_name("zooswarm"))
PLACE = Path(os.environ.get("ZOOSWARM_DEMO_DIR", ROOT / "demo-run")).resolve()
MARK = PLACE / ".zooswarm-demo"  # only a directory with this file is ever removed
STALL_SECONDS = 300  # without a network admitted: something is wrong
KILL_AT = 0.4  # share of networks admitted when one volunteer is killed

console = Console(highlight=False)


class Cast:
    """The processes on stage; all of them are stopped whatever happens."""

    def __init__(self) -> None:
        self.processes: dict[str, subprocess.Popen] = {}

    def start(self, name: str, *arguments: str) -> subprocess.Popen:
        with (PLACE / f"{name}.log").open("wb") as log:
            process = subprocess.Popen([ZOOSWARM, *arguments], stdout=log, stderr=subprocess.STDOUT)
        self.processes[name] = process
        return process

    def log(self, name: str) -> str:
        return (PLACE / f"{name}.log").read_text(errors="replace")

    def stop_all(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def main() -> None:
    began = time.monotonic()
    campaign = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "recipes" / "demo.toml").resolve()
    if not campaign.is_file():
        sys.exit(f"demo: {campaign}: there is no such campaign; recipes/*-campaign.toml are some")
    prepare()
    cast = Cast()
    with contextlib.ExitStack() as stack:
        stack.callback(cast.stop_all)
        address = start_host(cast)
        run([ZOOSWARM, "seed", str(campaign), "--dir", str(PLACE / "host")])
        for name in ("alice", "bob", "carol"):
            arguments = ["--dir", str(PLACE / name), "--name", name, "--threads", "1", "--until-done"]
            cast.start(name, "join", address, *arguments)
        watch(cast, address)
        console.print(f"trained, checked and published after {time.monotonic() - began:.0f} s")
    zoo = PLACE / "host" / "zoo"
    console.print("\n[bold]Audit[/]: every file, all evidence, and some networks trained again")
    run([ZOOSWARM, "audit", str(zoo), "--seconds", "15"])
    console.print("\n[bold]Report[/]")
    run([ZOOSWARM, "report", str(zoo), "--out", str(PLACE / "report")])
    page = next((PLACE / "report").glob("*.html"))
    console.print(f"\nDone in {time.monotonic() - began:.0f} s. Open the report:\n\n    {page}\n", soft_wrap=True)


def prepare() -> None:
    if PLACE.exists() and any(PLACE.iterdir()) and not MARK.exists():
        sys.exit(f"demo: {PLACE} is not a demo directory and not empty; set ZOOSWARM_DEMO_DIR to another place")
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True)
    MARK.touch()


def run(command: list[str]) -> None:
    outcome = subprocess.run(command, check=False)
    if outcome.returncode:
        sys.exit(f"demo: `{' '.join(['zooswarm', *command[1:]])}` failed with code {outcome.returncode}")


def start_host(cast: Cast) -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    host = cast.start("host", "host", str(PLACE / "host"), "--listen", f"127.0.0.1:{port}")
    console.print("starting one host and three volunteers, each its own process, on this computer only ...")
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and host.poll() is None:
        for word in cast.log("host").split():
            if word.startswith(f"127.0.0.1:{port}/"):
                page = json.loads((PLACE / "host" / "host.json").read_text()).get("page_port")
                console.print(f"watch it in a browser: http://127.0.0.1:{page}/" if page else "no page to watch")
                return word
        time.sleep(0.1)
    sys.exit(f"demo: the host did not start; its log is {PLACE / 'host.log'}\n{cast.log('host')[-2000:]}")


def status(address: str) -> dict | None:
    outcome = subprocess.run([ZOOSWARM, "status", address, "--json"], capture_output=True, check=False)
    with contextlib.suppress(ValueError):
        return json.loads(outcome.stdout)
    return None


def watch(cast: Cast, address: str) -> None:
    """Show progress until the campaign is complete; kill carol on the way."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        bar, killed, shown = bars.add_task("networks admitted", total=None), False, 0.0
        most, moved = 0, time.monotonic()
        while time.monotonic() - moved < STALL_SECONDS:
            time.sleep(1)
            told = status(address)
            if told is None:
                if cast.processes["host"].poll() is not None:
                    sys.exit(f"demo: the host ended; its log is {PLACE / 'host.log'}\n{cast.log('host')[-2000:]}")
                continue
            campaign = told["campaigns"][0]
            admitted, total = campaign["networks_admitted"], campaign["networks"]
            bars.update(bar, completed=admitted, total=total)
            if admitted > most:
                most, moved = admitted, time.monotonic()
            if not killed and admitted >= KILL_AT * total:
                cast.processes["carol"].kill()
                killed = True
                bars.console.print("[bold]carol's process is killed[/] (SIGKILL); the others take over what she held")
            if time.monotonic() >= shown:
                shown = time.monotonic() + 15
                bars.console.print(summary(told))
            if campaign["state"] == "complete":
                bars.console.print(summary(told))
                return
    sys.exit(f"demo: no network was admitted for {STALL_SECONDS} s; logs are in {PLACE}")


def summary(told: dict) -> str:
    hosts = ", ".join(sorted(f"{h['name']} {h['credit']:,.0f}" for h in told["hosts"]))
    campaign = told["campaigns"][0]
    return f"  {campaign['networks_admitted']} of {campaign['networks']} admitted; credit: {hosts or 'none yet'}"


if __name__ == "__main__":
    main()
