"""`zooswarm host`: the coordinator with its sockets and threads, until somebody stops it."""

import contextlib
import gc
import ipaddress
import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from coordinator.directories import read_settings, remember_directory, write_settings
from coordinator.ledger.database import LedgerUnavailable
from coordinator.server.console import Console
from coordinator.server.coordinator import Coordinator
from coordinator.server.directory import open_directory
from coordinator.server.serving import serve, stop, taken
from coordinator.server.watch.watching import JsonLines, Watch, start_watching
from coordinator.zoo.press import ProcessPress
from protocol.cli.logs import keep_log
from protocol.errors import AddressError, BusyError, LineFormatter, UsageError
from protocol.page.server import missing_libraries, split_place
from protocol.rpc.invite import Invite, make_invite

PAGE = "127.0.0.1:7780"  # or another port, when this one is taken and nobody asked for it
TICK_SECONDS = 0.2
RESTS = 6.0  # times what a step took
SWITCH_SECONDS = 0.02  # how long a thread may compute while others want to
GARBAGE = (100_000, 20, 20)  # when the collector looks: a call makes thousands of objects, hardly any in circles
CURATE_SECONDS = 0.5
AUDIT_SECONDS = 1.0
SWARM_SECONDS = 2.0
TROUBLE_SECONDS = 2.0  # after a full disk or the like, before the next try
SUMMARY_SECONDS = 10.0
WATCH_SECONDS = 15.0  # between two statuses that alerts compare
FAREWELL_SECONDS = 4.0  # after the last campaign is complete, for hosts to fetch their outcomes
BOOTSTRAP_SECONDS = 10.0  # how long the node's addresses are taken to stay the same

log = logging.getLogger(__name__)


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
    watch = watch or Watch()
    watch.check()
    if not path.exists():
        refuse_taken(listen, name, port)  # nothing is left behind
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
    write_settings(core.path, {**read_settings(core.path), "page_port": opened.port})
    return opened.url


def raise_file_limit() -> None:
    """A connection is an open file: as many as this user may have."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def calm_interpreter() -> None:
    """Threads change places when one waits, seldom in the middle: each change costs as much as a small call does. And
    what is loaded by now is not looked through for garbage again and again."""
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE)


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


def start_threads(
    core: Coordinator, node, target: str, stopping: threading.Event, watching: Callable[[], None]
) -> list[threading.Thread]:
    loops = [
        ("referee", core.tick, TICK_SECONDS, core.woken),
        ("curator", core.curate, CURATE_SECONDS, None),
        ("auditor", core.audit, AUDIT_SECONDS, core.audits.woken),
        ("watch", watching, WATCH_SECONDS, None),
    ]
    if node is not None:
        from coordinator.server.swarm_publisher import SwarmPublisher

        loops.append(("swarm-publisher", SwarmPublisher(core, node, target).publish, SWARM_SECONDS, None))
    threads = [
        threading.Thread(target=repeat, args=(step, seconds, woken, stopping), name=name, daemon=True)
        for name, step, seconds, woken in loops
    ]
    for thread in threads:
        thread.start()
    return threads


def repeat(
    step: Callable[[], object], seconds: float, woken: threading.Event | None, stopping: threading.Event
) -> None:
    """Do `step` every so often, or when woken, whatever it raises: one trouble must not stop the rest for ever.

    However often it is woken, it rests for a while that grows with what it took: others need the processor.
    """
    last_error = ""
    while not stopping.is_set():
        began = time.monotonic()
        try:
            step()
            last_error, pause = "", seconds
        except (LedgerUnavailable, OSError, TimeoutError) as error:
            if str(error) != last_error:
                log.error("%s; trying again every %g s", error, TROUBLE_SECONDS)
            last_error, pause = str(error), TROUBLE_SECONDS
        except Exception:
            log.exception("%s failed; this is a bug, please report it", getattr(step, "__qualname__", step))
            pause = TROUBLE_SECONDS
        if woken is not None and pause == seconds:
            rest = min(pause, RESTS * (time.monotonic() - began))
            stopping.wait(rest)
            woken.wait(pause - rest)
        else:
            stopping.wait(pause)


# -- addresses -------------------------------------------------------------------------------------------------------


def split_listen(listen: str) -> tuple[str, int]:
    """`host:port` -> (host, port). Raises UsageError."""
    name, colon, port = listen.rpartition(":")
    name = name.strip("[]")
    if not colon or not name or not port.isdecimal() or int(port) > 65535:
        raise AddressError(f"--listen {listen}: expected HOST:PORT, e.g. 127.0.0.1:7750 or 0.0.0.0:7750")
    return name, int(port)


def bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name else name


def local_name(name: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name)


def reachable_name(name: str) -> str:
    """What others dial when we listen on every interface: the address of the default route, or this machine's name."""
    if name not in ("0.0.0.0", "::"):
        return name
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1: nothing is sent
            return probe.getsockname()[0]
        except OSError:
            return socket.gethostname()


def free_port(name: str) -> int:
    with socket.socket() as probe:
        probe.bind((name, 0))
        return probe.getsockname()[1]


def kept_ports(path: Path) -> dict[str, int]:
    settings = read_settings(path)
    ports = {name: settings.get(name) for name in ("dht_port", "page_port")}
    return {name: port for name, port in ports.items() if isinstance(port, int) and 0 < port < 65536}


def start_node(path: Path, name: str, dht_port: int, announce: str | None, say: Callable[[str], None]):
    """The swarm's first node, on the port of last time if it can be had. Raises UsageError."""
    wanted, ip = dht_port or kept_ports(path).get("dht_port", 0), resolve(name)
    try:
        node, port = _node(path, ip, wanted or free_port(ip), announce)
    except UsageError as error:
        if dht_port or not wanted:
            raise
        node, port = _node(path, ip, free_port(ip), announce)
        say(f"the swarm's port {wanted} is taken ({error}); using {port} from now on")
    write_settings(path, {**read_settings(path), "dht_port": port})
    return node


def resolve(name: str) -> str:
    """Raises UsageError."""
    try:
        return str(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError:
        raise AddressError(f"--listen {name}: no such address") from None


def refuse_taken(listen: str, name: str, port: int) -> None:
    """Raises UsageError when the service could not listen there."""
    if port and not _bindable(resolve(name), port):
        raise BusyError(taken(listen))


def _node(path: Path, ip: str, port: int, announce: str | None):
    from protocol.swarm.addresses import NodeOptions
    from protocol.swarm.node import SwarmNode

    if not _bindable(ip, port):
        raise BusyError(f"port {port} is in use")
    shown = []
    if announce:
        try:
            kind = f"ip{ipaddress.ip_address(announce).version}"
        except ValueError:
            kind = "dns"
        shown = [f"/{kind}/{announce}/tcp/{port}"]
    options = NodeOptions(listen=ip, port=port, announce=shown)
    node = SwarmNode(path / "identity", options, log_path=path / "swarm.log")
    return node.start(), port


def _bindable(ip: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port of our own last run may be in TIME_WAIT
        try:
            probe.bind((ip, port))
        except OSError:
            return False
        return True


class Remembered:
    """The node's addresses, asked for at most every BOOTSTRAP_SECONDS: every Join wants them."""

    def __init__(self, ask: Callable[[], list[str]]):
        self._ask, self._lock = ask, threading.Lock()
        self._value: list[str] = []
        self._asked_at = -BOOTSTRAP_SECONDS

    def __call__(self) -> list[str]:
        with self._lock:
            if time.monotonic() - self._asked_at >= BOOTSTRAP_SECONDS:
                try:
                    self._value = self._ask()
                except Exception as error:
                    log.warning("the swarm node does not say where it is: %r", error)
                self._asked_at = time.monotonic()
            return self._value


def log_to_file(path: Path, as_json: bool = False) -> None:
    """Everything to DIR/host.log, which is bounded; what a person must know also to stderr."""
    logger = logging.getLogger("coordinator")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    kept = keep_log(path, 4 << 20, backups=2)
    if as_json:
        kept.setFormatter(JsonLines())
    logger.addHandler(kept)
    shown = logging.StreamHandler(sys.stderr)
    shown.setLevel(logging.WARNING)
    shown.setFormatter(LineFormatter("zooswarm: %(message)s"))
    logger.addHandler(shown)
