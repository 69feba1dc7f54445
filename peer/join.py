"""`zooswarm join`: from an address to a running volunteer, and a clean way out."""

import os
import platform
import signal
import time
from importlib.metadata import version
from pathlib import Path

from peer.daemon import Daemon
from peer.progress import Stats, View
from peer.session.client import Away, Backoff, Client
from peer.session.session import Banned, Options
from peer.storage.home import Home, Known
from peer.trainer.process import Crew
from protocol.canonical import write_atomic
from protocol.errors import Refused, UsageError
from protocol.rpc.wire import parse_address
from protocol.trust.identity import Identity


def default_home() -> Path:
    from platformdirs import user_data_path

    return user_data_path("zooswarm") / "volunteer"


def copy_identity(source: Path, target: Path) -> str:
    """Copy a key file, never over another; returns the host's name. Raises UsageError."""
    if not source.exists():
        raise UsageError(f"{source}: there is no identity file")
    if target.exists():
        raise UsageError(f"{target}: is there already; move it away first, it may hold somebody's credit")
    identity = Identity.load_or_create(source)
    write_atomic(target, identity.file_bytes(), mode=0o600)
    return identity.host


class Stop:
    """Ctrl-C and SIGTERM end the loop; a second Ctrl-C ends the program at once."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, number: int, _frame: object) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True

    def __call__(self) -> bool:
        return self.asked


def join_swarm(
    address: str,
    directory: Path | None,
    threads: int | None,
    nice: int,
    name: str | None,
    backend: str,
    until_done: bool,
    listen: str,
    port: int,
    device: str,
    gpu_memory: float,
) -> None:
    """Run a volunteer until Ctrl-C. Raises UsageError for what the user can mend."""
    target, organizer = parse_address(address)
    home = Home(directory or default_home())
    me = home.identity.host
    options = Options(
        name=(name or f"host-{me[-6:]}")[:32],
        threads=threads or os.cpu_count() or 1,
        version=version("zooswarm"),
        device=f"cpu {platform.machine()}"[:64],
        until_done=until_done,
    )
    with View(Stats(name=options.name, host=me)) as view:
        view.say(f"{options.name} ({me}), key and work in {home.path}")
        stop = Stop()
        client = Client(target, home.identity, organizer)
        known = _find_coordinator(client, home, address, view, stop, options.version)
        if known is None:
            return
        log = home.path / "worker.log"
        crew = Crew(home.path / "campaigns", log, backend, options.threads, nice, device, gpu_memory)
        node = None
        try:
            node = _start_node(home, known, listen, port, view)
            daemon = Daemon(home, client, node, crew, options, view)
            _run(daemon, known, home, stop, view)
        finally:
            crew.stop()
            if node is not None:
                node.close()
            client.close()


def _find_coordinator(client: Client, home: Home, address: str, view: View, stop: Stop, program: str) -> Known | None:
    """Ask the coordinator how to join; while it is away, go on with what the last join taught, or keep trying."""
    backoff = Backoff()
    while not stop():
        try:
            reply = client.join(program)
            known = Known(
                address=address,
                organizer=reply.organizer,
                bootstrap=list(reply.bootstrap)[:16],
                campaigns=list(reply.campaigns)[:64],
            )
            home.remember(known)
            return known
        except Refused as error:
            raise UsageError(f"{address}: {error}") from None
        except Away as error:
            known = home.known(address)
            if known is not None and client.organizer in (None, known.organizer):
                client.organizer = known.organizer
                view.say(f"the coordinator at {address} is away ({error}); going on with what the last join taught")
                return known
            backoff.failed(time.monotonic())
            view.say(f"nobody answers at {address} ({error}); trying again in {backoff.delay:.0f} s, Ctrl-C to stop")
            while not stop() and not backoff.ready():
                time.sleep(0.1)
    return None


def _start_node(home: Home, known: Known, listen: str, port: int, view: View):
    from protocol.swarm.node import SwarmNode  # takes seconds to import: hivemind brings torch

    view.say("joining the swarm's DHT ...")
    node = SwarmNode(
        home.identity_path,
        organizer=known.organizer,
        bootstrap=known.bootstrap,
        known=known.peers,
        listen=listen,
        port=port,
        on_progress=view.say,
        log_path=home.path / "swarm.log",
    ).start()
    node.wait_joined(5)
    view.say(f"in the swarm: {node.peer_count()} other nodes in sight")
    return node


def _run(daemon: Daemon, known: Known, home: Home, stop: Stop, view: View) -> None:
    try:
        for digest in known.campaigns:
            try:
                daemon.learn_campaign(digest)
            except Away:
                continue
            except Refused as error:
                view.say(f"campaign {digest[:16]} refused: {error}")
        daemon.run(stop)
    except Banned as error:
        raise UsageError(f"this host is banned from the swarm: {error}") from None
    finally:
        saved = daemon.leave()
        home.remember(daemon.known(known.address, known.bootstrap))
        view.say(f"stopped. {view.stats.networks} networks trained, {view.stats.checks} checks done this time")
        for sentence in saved:
            view.say(f"  saved: {sentence}")
