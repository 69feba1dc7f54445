#!/usr/bin/env python3
"""Push at a real `zooswarm host`'s doors, and print how long a newcomer waits and what strangers leave behind.

    python scripts/bench/doors.py [--silent 200] [--seconds 10] [--newcomers 10]

A newcomer is what `zooswarm join` does first: connection, Join, stamp, first heartbeat. It comes from the same address
as the crowd. Strangers are fresh keys that send heartbeats without a stamp, from 16 threads.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this folder has a `coordinator.py`: ours comes first

from coordinator.directories import read_settings
from peer.session.client import Away, Client
from protocol.errors import Refused
from protocol.rpc import coordinator_pb2 as pb
from protocol.rpc.channel import CHANNEL_OPTIONS, channel_credentials, open_channel
from protocol.rpc.coordinator_pb2_grpc import CoordinatorStub
from protocol.rpc.wire import parse_address, to_wire
from protocol.trust.envelope import seal
from protocol.trust.identity import Identity
from protocol.trust.messages import Heartbeat

SAYS = {
    "name": "bench",
    "device": "cpu",
    "version": "1",
    "steps_per_second": 1.0,
    "networks_trained": 0,
    "checks_done": 0,
    "holding": (),
}
THREADS = 16
SILENT_A_CONNECTION = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--silent", type=int, default=200, help="calls whose first message never comes")
    parser.add_argument("--seconds", type=float, default=10.0, help="of fresh keys")
    parser.add_argument("--newcomers", type=int, default=10, help="one after another, for each row")
    options = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores, {sys.version.split()[0]}")
    with tempfile.TemporaryDirectory() as folder, running_host(Path(folder)) as (address, pid):
        row("nobody else", address, options.newcomers)
        with silent_calls(address, options.silent):
            row(f"{options.silent} calls that say nothing", address, options.newcomers)
        before = behind(Path(folder), pid)
        refused = fresh_keys(address, options.seconds)
        after = behind(Path(folder), pid)
        row("after the flood", address, options.newcomers)
        a_second = refused / options.seconds
        print(
            f"fresh keys: {refused} refused, {a_second:,.0f} a second; left behind in {options.seconds:g} s: ", end=""
        )
        print(", ".join(f"{name} {after[name] - before[name]:+,}" for name in before))


def row(what: str, address: str, newcomers: int) -> None:
    seconds = sorted(newcomer(address) for _ in range(newcomers))
    print(f"newcomer, {what:32} p50 {seconds[len(seconds) // 2]:5.2f} s, slowest {seconds[-1]:5.2f} s", flush=True)


def newcomer(address: str) -> float:
    target, organizer = parse_address(address)
    began = time.monotonic()
    with contextlib.closing(Client(target, Identity.generate(), organizer)) as client:
        client.join("bench")
        while True:
            with contextlib.suppress(Away):  # still working for its stamp
                client.poll(SAYS)
                break
    return time.monotonic() - began


@contextlib.contextmanager
def running_host(folder: Path) -> Iterator[tuple[str, int]]:
    """(address, process id) of a host without a DHT; its output goes to a file in `folder`."""
    words = ["host", str(folder / "host"), "--listen", "127.0.0.1:0", "--no-dht"]
    program = "from protocol.cli.main import zooswarm; zooswarm()"
    with (folder / "out").open("wb") as out:
        environment = os.environ | {"ZOOSWARM_HOME": str(folder / "home")}
        process = subprocess.Popen([sys.executable, "-c", program, *words], stdout=out, stderr=out, env=environment)
        try:
            while "join" not in read_settings(folder / "host"):
                if process.poll() is not None:
                    raise SystemExit((folder / "out").read_text()[-2000:])
                time.sleep(0.05)
            yield str(read_settings(folder / "host")["join"]), process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


@contextlib.contextmanager
def silent_calls(address: str, number: int) -> Iterator[None]:
    """Opened again as fast as they are cut off."""
    target, organizer = parse_address(address)
    assert organizer is not None
    over = threading.Event()
    options = [*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]

    def nothing() -> Iterator[bytes]:
        over.wait()
        yield from ()

    def hold(count: int) -> None:
        with grpc.secure_channel(target, channel_credentials(organizer), options=options) as channel:
            call = channel.stream_stream("/zooswarm.v1.Coordinator/Poll")
            open_calls: list[grpc.Call] = []
            while not over.is_set():
                open_calls = [c for c in open_calls if c.is_active()]
                open_calls += [call(nothing()) for _ in range(count - len(open_calls))]
                over.wait(0.5)

    threads = [
        threading.Thread(target=hold, args=(SILENT_A_CONNECTION,)) for _ in range(-(-number // SILENT_A_CONNECTION))
    ]
    for thread in threads:
        thread.start()
    try:
        time.sleep(2.0)  # all are there
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def fresh_keys(address: str, seconds: float) -> int:
    """How many heartbeats of fresh keys were refused."""
    target, organizer = parse_address(address)
    deadline, refused = time.monotonic() + seconds, [0] * THREADS

    def flood(index: int) -> None:
        with open_channel(target, organizer) as channel:
            stub = CoordinatorStub(channel)
            while time.monotonic() < deadline:
                beat = Heartbeat(nonce=os.urandom(16), issued_at=time.time(), **SAYS)
                with contextlib.suppress(grpc.RpcError, Refused):
                    stub.Poll(pb.Visit(heartbeat=to_wire(seal(Identity.generate(), beat))), timeout=30)
                    raise SystemExit("a key without a stamp was let in")
                refused[index] += 1

    threads = [threading.Thread(target=flood, args=(index,)) for index in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(refused)


def behind(folder: Path, pid: int) -> dict[str, int]:
    """Bytes that the host keeps and says."""
    time.sleep(1.0)
    ledger = sum(path.stat().st_size for path in (folder / "host").glob("ledger.sqlite*"))
    memory = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    said = (folder / "out").stat().st_size
    return {"bytes in the ledger": ledger, "bytes on stdout": said, "bytes of memory": memory}


if __name__ == "__main__":
    main()
