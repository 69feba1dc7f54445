"""`zooswarm host`: the coordinator with its sockets and threads, until somebody stops it."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from coordinator.directories import read_settings, remember_directory, write_settings
from coordinator.ledger.database import LedgerUnavailable
from coordinator.server.console import Console
from coordinator.server.coordinator import Coordinator
from coordinator.server.directory import open_directory
from coordinator.server.running.addresses import (
    bracketed,
    check_announced,
    local_name,
    reachable_name,
    refuse_taken,
    split_listen,
)
from coordinator.server.running.interpreter import calm_interpreter, log_to_file, raise_file_limit
from coordinator.server.running.loops import start_threads
from coordinator.server.running.node import Remembered, kept_ports, start_node
from coordinator.server.serving import serve, stop
from coordinator.server.watch.watching import Watch, start_watching
from coordinator.zoo.press import ProcessPress
from protocol.page.server import missing_libraries, refuse_taken_page, split_place
from protocol.rpc.invite import Invite, make_invite

PAGE = "127.0.0.1:7780"  # or another port, when this one is taken and nobody asked for it
SUMMARY_SECONDS = 10.0
FAREWELL_SECONDS = 4.0  # after the last campaign is complete, for hosts to fetch their outcomes


def run_host(
    path: Path,
    listen: str,
    dht_port: int,
    announce: str | None,
    exit_when_done: bool,
    dht: bool,
    stamp_bits: int,
    page: str | None = None,
    watch: Watch | None = None,
) -> None:
    """Serve until Ctrl-C, SIGTERM, or (`exit_when_done`) until every campaign is complete. Raises UsageError."""
    name, port = split_listen(listen)
    split_place(page or PAGE)  # before anything is made
    if announce is not None:
        check_announced(announce)
    watch = watch or Watch()
    watch.check()
    if not path.exists():
        refuse_taken(listen, name, port)  # nothing is left behind
        refuse_taken_page(page or "none")
    directory = open_directory(path)
    console = Console(path, directory.identity.host, directory.stores.ledger, directory.stores.campaigns)
    core = Coordinator(directory, on_news=console.news, printer=ProcessPress(path / "zoo", path / "identity"))
    console.present_name = core.presence.name
    log_to_file(path / "host.log", watch.log_json)
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    with contextlib.ExitStack() as stack:
        stack.callback(core.close)
        node = None
        if dht:
            refuse_taken(listen, name, port)  # before the node: starting it takes seconds
            console.say("starting the swarm node ...")
            node = start_node(path, name, dht_port, announce, console.say)
            stack.callback(node.close)
        raise_file_limit()
        calm_interpreter()
        bootstrap = Remembered(node.visible_addresses) if node else list
        server, service, port = serve(core, f"{name}:{port}", bootstrap, stamp_bits=stamp_bits)
        stack.callback(stop, server, service)
        public = announce or reachable_name(name)
        target = f"{bracketed(public)}:{port}"
        join = f"{target}/{core.identity.host}"
        here = f"{bracketed(local_name(name))}:{port}/{core.identity.host}"
        write_settings(path, {"address": here, "join": join, **kept_ports(path)})
        remember_directory(path)
        invite = make_invite(Invite(organizer=core.identity.host, targets=(target,)))
        console.page = start_page(core, node, invite, page, console.say, stack)
        watching = start_watching(watch, core.status, stack)
        threads = start_threads(core, node, target, stopping, watching)
        stack.callback(lambda: [thread.join(10) for thread in threads])
        stack.callback(stopping.set)
        console.welcome(join, invite)
        wait(core, console, stopping, exit_when_done)
    console.farewell()


def start_page(
    core: Coordinator, node, join: str, page: str | None, say: Callable[[str], None], stack: contextlib.ExitStack
) -> str:
    """Where the status page is; "" when there is none, and then it is said why. Raises UsageError."""
    place, lacking = split_place(page or PAGE), missing_libraries()
    if place is None:
        return ""
    if lacking:
        say(lacking)
        return ""
    from coordinator.server.page.source import open_page

    host, port = place
    kept = kept_ports(core.path).get("page_port", port)  # who has the page open finds it again
    opened = open_page(core, node, join, host, [port] if page else [kept, port, 0])
    stack.callback(opened.close)
    write_settings(core.path, {**read_settings(core.path), "page_port": opened.port, "page": opened.url})
    return opened.url


def wait(core: Coordinator, console: Console, stopping: threading.Event, exit_when_done: bool) -> None:
    said_at = time.monotonic()
    with console.live():
        while not stopping.wait(0.5):
            if time.monotonic() - said_at >= SUMMARY_SECONDS or console.is_terminal:
                said_at = time.monotonic()
                with contextlib.suppress(LedgerUnavailable):
                    console.summary(core.status())
            with contextlib.suppress(LedgerUnavailable):
                if exit_when_done and core.all_complete():
                    stopping.wait(FAREWELL_SECONDS)
                    return
