"""`zooswarm join`: from an address to a running volunteer, and a clean way out."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from math import inf
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import msgspec

from peer.computer.control import Control
from peer.computer.options import JoinOptions, measurable, rate_of, settings_of
from peer.computer.pace import Governor
from peer.computer.preflight import Facts, judge, steps_per_second
from peer.computer.sensors import Sensors, free_memory
from peer.daemon import Daemon, EventQueue
from peer.progress import View, limits
from peer.session.claim_book import SwarmClaimBook
from peer.session.client import Client
from peer.session.dataset_fetcher import DatasetFetcher
from peer.session.own_page import OwnPage, open_own_page, page_port
from peer.session.session import CoordinatorSession, Introduction
from peer.session.welcome import Whereto, find_coordinator, keep, knock
from peer.state import PeerSettings, PeerState
from peer.storage.home import Home, JoinCache, default_home
from peer.storage.workspace import Workspace
from peer.trainer.messages import TrainerConfig
from peer.trainer.process import TrainerProcess
from protocol.cli.garbage import settle
from protocol.cli.logs import keep_log
from protocol.errors import FileError, UsageError
from protocol.files import PRIVATE, read_limited, write_atomic
from protocol.rpc.wire import parse_address
from protocol.trust.identity import Identity
from protocol.trust.messages import HostLabel
from protocol.trust.ticket import read_ticket

if TYPE_CHECKING:
    from protocol.swarm.node import SwarmNode

FILE_NAME_MAX = 255  # no ticket is that short
TICKET_FILE_MAX = 4096
CLOSE_SECONDS = 0.5  # for our node to say good-bye
OTHERS_BYTES = 300 * 10**6  # of --memory: this process and the libp2p daemon
TRAINER_BYTES_MIN = 300 * 10**6  # less, and it cannot even start
PEERS_MAX = 32  # addresses kept for the next start


def copy_identity(source: Path, target: Path) -> str:
    """Copy a key file, never over another; returns the host's name. Raises UsageError."""
    if not source.exists():
        raise FileError(f"{source}: there is no identity file")
    if target.exists():
        raise FileError(f"{target}: is there already; move it away first, it may hold somebody's credit")
    identity = Identity.load_or_create(source)
    write_atomic(target, identity.file_bytes(), mode=PRIVATE)
    return identity.host


class Stop:
    """Ctrl-C and SIGTERM interrupt whatever the start waits for; once `gentle`, they end the loop in good order, and a
    second Ctrl-C ends the program at once."""

    def __init__(self) -> None:
        self.asked = self.gentle = False
        self.wake: Callable[[], None] = lambda: None  # whoever waits in the loop
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        again, self.asked = self.asked, True
        if not self.gentle or (again and number == signal.SIGINT):
            raise KeyboardInterrupt
        self.wake()

    def __call__(self) -> bool:
        return self.asked


def join_swarm(options: JoinOptions) -> None:
    """Run a volunteer until Ctrl-C. Raises UsageError for what the user can mend."""
    directory = options.directory or default_home()
    whereto = Whereto.typed(options.address, directory / "known.json")  # before a directory is made
    page_port(options.page)
    ticket_bytes(options.ticket)
    rate_of(options)
    measurable(options.max_temperature)
    stop, error = Stop(), ""
    try:
        if not directory.exists():
            knock(whereto)
    except KeyboardInterrupt:
        return View("").say("stopped")
    home = Home(directory)
    keep_log(home.path / "volunteer.log")
    introduction, settings = introduce(options, home.identity.host), settings_of(options, home)
    with View(introduction.name) as view, contextlib.closing(connect(options, home, whereto, view)) as client:
        view.say(f"{introduction.name} ({home.identity.host}), key and work in {home.path}")
        view.say(f"limits, each an option: {limits(settings)}")
        try:
            cache = find_coordinator(client, home, options.address, whereto, view.say)
            error = run_volunteer(options, settings, home, client, cache, view, stop)
        except KeyboardInterrupt:
            view.say("stopped")
    if error:
        raise UsageError(error)


def check_join(options: JoinOptions) -> bool:
    """`join --check`: say what could stand in the way; nothing is claimed or trained. Whether all is well.

    Raises UsageError for what the user can mend.
    """
    directory = options.directory or default_home()
    whereto = Whereto.typed(options.address, directory / "known.json")
    Stop()  # SIGTERM ends it as Ctrl-C does: with its node closed
    home = Home(directory)
    settings = settings_of(options, home)
    with View("check") as view, contextlib.closing(connect(options, home, whereto, view)) as client:
        began = time.perf_counter()
        cache = find_coordinator(client, home, options.address, whereto, view.say)
        answered = time.perf_counter() - began
        with contextlib.ExitStack() as stack:
            node = start_node(home, cache, options, view)
            stack.callback(node.close, CLOSE_SECONDS)
            found = facts_of(settings, home, client, node, options.listen)
        speed = steps_per_second(options.backend, settings.threads, options.device)
        findings = judge(replace(found, answer_seconds=answered, steps_per_second=speed))
        for finding in findings:
            view.say(str(finding))
    return all(finding.well for finding in findings)


def facts_of(settings: PeerSettings, home: Home, client: Client, node: "SwarmNode", listen: str) -> Facts:
    return Facts(
        clock_ahead=client.clock_ahead,
        nodes=node.peer_count(),
        listen=listen,
        addresses=node.visible_addresses(),
        memory_limit=settings.memory_bytes,
        memory_free=free_memory(),
        disk_limit=settings.disk_bytes,
        disk_free=home.free_bytes(),
        threads=settings.threads,
        cores=os.cpu_count() or 1,
    )


def connect(options: JoinOptions, home: Home, whereto: Whereto, view: View) -> Client:
    """Nothing is sent yet. Raises UsageError for a ticket that is none."""
    target, organizer = parse_address(whereto.address)
    ticket, bandwidth = ticket_bytes(options.ticket), rate_of(options)
    return Client(target, home.identity, organizer, ticket=ticket, say=view.say, bandwidth=bandwidth)


def ticket_bytes(given: str | None) -> bytes:
    """Of a ticket's text, or of a file with it. Raises UsageError."""
    if not given:
        return b""
    if len(given) <= FILE_NAME_MAX and Path(given).is_file():
        given = read_limited(Path(given), TICKET_FILE_MAX, "ticket").decode(errors="replace")
    return read_ticket(given, time.time())


def introduce(options: JoinOptions, host: str) -> Introduction:
    """Raises UsageError for a name that the coordinator would refuse."""
    name = options.name or f"host-{host[-6:]}"
    try:
        msgspec.convert(name, HostLabel)
    except msgspec.ValidationError:
        raise UsageError(f"--name {name}: at most 32 letters, digits, spaces and . , : ; + @ # & ( ) ' / -") from None
    return Introduction(
        name=name,
        version=version("zooswarm"),
        threads=options.threads or os.cpu_count() or 1,
    )


def run_volunteer(
    options: JoinOptions,
    settings: PeerSettings,
    home: Home,
    client: Client,
    cache: JoinCache,
    view: View,
    stop: Stop,
) -> str:
    """Put the parts together and run until it ends. Returns the line that a person has to read, or ""."""
    events, workspace = EventQueue(), Workspace(home)
    introduction = introduce(options, home.identity.host)
    config = TrainerConfig(
        home=str(home.path),
        backend=options.backend,
        threads=introduction.threads,
        nice=options.nice,
        device=options.device,
        gpu_memory=options.gpu_memory,
        memory_bytes=max(TRAINER_BYTES_MIN, settings.memory_bytes - OTHERS_BYTES),
    )
    with contextlib.ExitStack() as stack:
        trainer = TrainerProcess(config, home.path / "worker.log", events.emit)
        stack.callback(trainer.stop)
        trainer.start()  # it gets ready while we find the swarm
        if settings.cpu_cores < inf:
            stack.callback(Governor(settings.cpu_cores, trainer).start().stop)
        control = Control(home.path).begin()
        stack.callback(control.end)
        page = OwnPage(client, introduction.version)
        if (server := open_own_page(page, options.page, home.path, view.say)) is not None:
            stack.callback(server.close)
        view.tell = partial(tell_both, control.tell, page.tell)
        room = partial(room_bytes, home, settings.disk_bytes)
        datasets = DatasetFetcher(home.shelf, client, room, view.say)
        stack.callback(datasets.stop)
        node = start_node(home, cache, options, view)
        stack.callback(node.close, CLOSE_SECONDS)
        stack.callback(remember, home, cache, workspace, node, view.say)
        for finding in judge(facts_of(settings, home, client, node, options.listen)):
            if not finding.well or finding.what == "reachable":
                view.say(str(finding))
        daemon = Daemon(
            PeerState(settings),
            events,
            trainer=trainer,
            coordinator=CoordinatorSession(client, workspace, introduction, node.coordinator),
            claims=SwarmClaimBook(node, cache.organizer, workspace, events.emit),
            datasets=datasets,
            disk=workspace,
            free_bytes=home.free_bytes,
            kept_bytes=home.kept_bytes,
            conditions=Sensors(control.paused_seconds).look,
            view=view,
        )
        stack.callback(client.close)  # first of all: it ends the calls that are under way
        stop.wake, stop.gentle = events.wake, True
        wanted_to_end = partial(any_of, stop, control.leaves)
        settle()
        return daemon.run(tuple(cache.campaigns), wanted_to_end, home.allowance(cache.organizer))


def tell_both(first: Callable[[dict], None], second: Callable[[dict], None], summary: dict) -> None:
    first(summary)
    second(summary)


def any_of(*asked: Callable[[], bool]) -> bool:
    return any(each() for each in asked)


def room_bytes(home: Home, disk_bytes: int) -> int:
    """What a data set may take: of what is free, and of our limit."""
    return min(home.free_bytes(), disk_bytes - home.kept_bytes())


def remember(home: Home, cache: JoinCache, workspace: Workspace, node: "SwarmNode", say: Callable[[str], None]) -> None:
    """What the next start needs while the coordinator is away."""
    known = workspace.digests() or cache.campaigns
    peers = node.known_addresses()[:PEERS_MAX]
    keep(home, msgspec.structs.replace(cache, campaigns=known, peers=peers), say)


def start_node(home: Home, cache: JoinCache, options: JoinOptions, view: View) -> "SwarmNode":
    from protocol.swarm.addresses import NodeOptions
    from protocol.swarm.node import SwarmNode

    view.say("joining the swarm's DHT ...")
    node = SwarmNode(
        home.identity_path,
        NodeOptions(bootstrap=cache.bootstrap, known=cache.peers, listen=options.listen, port=options.port),
        organizer=cache.organizer,
        on_progress=view.say,
        log_path=home.path / "swarm.log",
    ).start()
    node.wait_joined(5)
    view.say(f"in the swarm: {node.peer_count()} other nodes in sight")
    return node
