"""A host's node in the swarm, for code that is not asynchronous: `SwarmNode` runs a `Dht` on a thread of its own.

    with SwarmNode(home / "identity", NodeOptions(bootstrap=["/ip4/.../p2p/12D3..."])) as node:
        claims = Claims(node.dht, campaign, assignments, node.organizer)
        mine = node.run(claims.claim(4))

hivemind's parts are imported when a node starts (0.2 s), never before. Training must not run in this process's loop.
"""

import asyncio
import concurrent.futures
import contextlib
import logging
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from protocol import TIMEOUTS
from protocol.errors import LogFile
from protocol.swarm.addresses import NodeOptions, peer_of
from protocol.swarm.clock import THIS_COMPUTERS, SwarmClock
from protocol.swarm.dht import Dht
from protocol.swarm.records import BARE, MANIFEST_TTL, KeySpace, SwarmManifest, Value, manifest_key
from protocol.trust.identity import Identity

T = TypeVar("T")
log = logging.getLogger("zooswarm.swarm")
START_SECONDS = 120.0
CLOSE_SECONDS = 15.0
INTERRUPTED_SECONDS = 0.5  # somebody waits in front of it
RUN_SECONDS = 90.0


class SwarmNode:
    """Start, use from any thread, close. Raises UsageError for unusable addresses, ports and identity files."""

    def __init__(
        self,
        identity_path: Path,
        options: NodeOptions,
        *,
        organizer: str | None = None,  # default: the host of the first bootstrap address, or this one
        on_progress: Callable[[str], None] | None = None,
        log_path: Path | None = None,
        clock: SwarmClock = THIS_COMPUTERS,
    ):
        self.identity = Identity.load_or_create(identity_path)
        self.host = self.identity.host
        if organizer is None:
            organizer = peer_of(options.bootstrap[0]) if options.bootstrap else self.host
        self.organizer, self.space = organizer, KeySpace(organizer)
        self._log_path, self._say = log_path, on_progress or log.info
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda loop, context: log.debug("loop: %s", context))
        self._thread = threading.Thread(target=self._loop.run_forever, name="swarm", daemon=True)
        self.dht = Dht(self.identity, identity_path, self.space, options, self._say, clock)
        self._closed = False

    def start(self) -> "SwarmNode":
        """Bring the node up (0.3 s, the first in a process 0.2 s more). Dead addresses are no error: joining goes on
        in the background, see `wait_joined`. Raises UsageError."""
        quiet_hivemind(self._log_path)
        self._thread.start()
        try:
            self.run(self.dht.start(), START_SECONDS)
        except BaseException as error:
            self.close(INTERRUPTED_SECONDS if isinstance(error, KeyboardInterrupt) else CLOSE_SECONDS)
            raise
        return self

    def wait_joined(self, seconds: float | None = None) -> bool:
        """Wait until somebody answered. False when `seconds` passed."""
        try:
            self.run(asyncio.wait_for(self.dht.joined.wait(), seconds), None)
        except TimeoutError:
            return False
        return True

    def run(self, work: Coroutine[Any, Any, T], seconds: float | None = RUN_SECONDS) -> T:
        """Run a coroutine on the node's loop and wait for it. Raises TimeoutError, or whatever it raises."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(seconds)
        except TIMEOUTS:
            if future.done():  # the work's own
                raise TimeoutError("the swarm does not answer") from None
            raise TimeoutError(f"nothing came back within {seconds} s") from None
        finally:
            future.cancel()  # no effect on what is done

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Start a coroutine on the node's loop without waiting for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Leave. Records that we hold for others stay with their other replicas. Again is harmless.

        After so many seconds the daemon is killed.
        """
        if self._closed:
            return
        self._closed = True
        if self._thread.is_alive():
            try:
                self.run(self.dht.close(), seconds)
            except Exception as error:
                log.debug("closing: %r", error)
                with contextlib.suppress(Exception):
                    self.dht.link.kill()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5)
        if not self._loop.is_running():
            self._loop.close()

    def __enter__(self) -> "SwarmNode":
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.close()

    # Records

    def put(self, key: str, kind: str, value: Value, ttl: float) -> bool:
        """Store one record under our subkey for `ttl` seconds. False: not stored, try again."""
        return self.run(self.dht.put_many([(key, kind, value, ttl)]))[0]

    def keep(self, key: str, kind: str, value: Value, ttl: float) -> bool:
        """Store, and store again every third of `ttl`, until `drop` or the next `keep` of this key and kind."""
        return self.run(self.dht.keep(key, kind, value, ttl))

    def drop(self, key: str, kind: str) -> None:
        self.run(self.dht.drop(key, kind))

    def read(self, keys: Sequence[str]) -> dict[str, dict[tuple[str, str], Any]]:
        """The newest records: {key: {(host, kind): value}}. Raises TimeoutError when the swarm does not answer."""
        return self.run(self.dht.read(keys))

    def publish_manifest(self, manifest: SwarmManifest) -> bool:
        """The organizer's: tell the swarm about its campaigns from now on."""
        self.space.follow(manifest)
        return self.keep(manifest_key(), BARE, manifest, MANIFEST_TTL)

    def manifest(self) -> SwarmManifest | None:
        """The organizer's manifest; its campaigns' keys are open from then on. Raises TimeoutError."""
        return self.read([manifest_key()])[manifest_key()].get((self.organizer, BARE))

    def allow_campaign(self, digest: str, assignments: int) -> None:
        """Open a campaign's keys by hand; nodes that see the manifest do it by themselves."""
        self._loop.call_soon_threadsafe(self.space.allow_campaign, digest, assignments)

    # State

    def visible_addresses(self) -> list[str]:
        """Addresses for others to dial, with our PeerID."""
        return self.run(self.dht.link.visible_addresses())

    def known_addresses(self) -> list[str]:
        """Addresses of peers that we met; keep them as `known` for the next start."""
        return list(self.dht.known.values())

    def peer_count(self) -> int:
        return self.dht.peer_count()

    def connected(self) -> bool:
        return self.dht.connected()

    def dht_time(self) -> float:
        """Seconds since 1970 on the swarm's clock."""
        return self.dht.dht_time()

    def refused_counts(self) -> Counter[str]:
        """Records refused since the start, by reason."""
        return Counter(self.dht.guard.refused)

    def coordinator(self) -> str:
        """Where the organizer's newest manifest that we have seen says that he is: gRPC host:port, or ""."""
        return self.dht.coordinator

    def last_offenders(self) -> dict[str, str]:
        """For each reason, what was refused last and whose it claimed to be."""
        return dict(self.dht.guard.offenders)


def quiet_hivemind(log_path: Path | None) -> None:
    """hivemind writes to stderr as soon as it is imported; send it to a file of bounded size, or nowhere."""
    from protocol.swarm.hivemind_parts import use_hivemind_log_handler

    use_hivemind_log_handler("nowhere")
    for name in ("hivemind", "zooswarm.swarm"):
        logger = logging.getLogger(name)
        if log_path is not None and not any(isinstance(handler, LogFile) for handler in logger.handlers):
            logger.addHandler(LogFile(log_path, 1 << 20, backups=1))
    hivemind = logging.getLogger("hivemind")
    hivemind.propagate = False
    hivemind.addHandler(logging.NullHandler())
    hivemind.setLevel(logging.WARNING)
