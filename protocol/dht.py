"""One node of the swarm's DHT on an asyncio loop: a libp2p daemon, hivemind's DHTNode, and what keeps them alive.

With `hivemind_patches` this is the only module that knows hivemind, and it imports it only in `Dht.start` (2.5 s).
hivemind's own forked `DHT` process is not used: it dies on messages over 16 KiB. Everybody else uses `swarm`.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import msgspec

from protocol.addresses import (
    Options,
    check_port_free,
    outward_first,
    peer_of,
    port_of,
    split_address,
    startup_message,
    tcp_answers,
)
from protocol.claiming import Put
from protocol.errors import UsageError
from protocol.guard import Guard
from protocol.identity import Identity
from protocol.records import KeySpace, Manifest, Value, hash_key, make_subkey, manifest_key

T = TypeVar("T")
log = logging.getLogger("zooswarm.swarm")

CALL_SECONDS = 20.0  # a get or store that takes longer has failed
DIAL_SECONDS = 8.0
STARTUP_SECONDS = 60.0  # of the libp2p daemon on a loaded machine; 0.3 s on a quiet one
BACKOFF_SECONDS_MAX = 60.0
WATCH_SECONDS = 0.25
BEAM_SIZE, REPLICAS, KEYS_PER_FIND = 8, 5, 8  # 41 instead of 69 calls a claim in a swarm of 16, as safe
PUTS_PER_STORE = 256  # hivemind asks a node for the square root of it at once
CLOCK_TOLERANCE_SECONDS = 1.0  # differences below this are network delay
KNOWN_MAX = 64  # addresses of peers that we remember
LOOPBACK = ("127.0.0.1", "::1")


class Dht:
    """The node; every coroutine runs on one loop. It is the `Node` that `claiming` works with."""

    def __init__(
        self,
        identity: Identity,
        identity_path: Path,
        space: KeySpace,
        options: Options,
        say: Callable[[str], None],
        clock: Callable[[], float] | None = None,
    ):
        self.host, self.space, self.options, self.say = identity.host, space, options, say
        self.bootstrap = [a for a in options.bootstrap if peer_of(a) != self.host]
        self.known = {peer_of(a): a for a in options.known if peer_of(a) != self.host}
        self.guard = Guard(identity, space, self.dht_time)
        self.joined = asyncio.Event()  # set once any address answered
        self.restarts = 0
        self.offset = 0.0  # seconds: the swarm's clock minus ours
        self._clock = clock or time.time
        self._own_clock = clock is not None  # then the process's other nodes must not follow ours
        self._clock_samples: dict[str, float] = {}
        self._identity_path, self._port = identity_path, options.port
        self._p2p: Any = None
        self._node: Any = None
        self._last: dict[tuple[str, str], float] = {}  # (key, kind) -> the latest expiration that we used
        self._kept: dict[tuple[str, str], tuple[Value, float, float]] = {}  # -> value, ttl, due (monotonic)
        self._tasks: list[asyncio.Task] = []

    async def start(self) -> None:
        """Bring the node up and dial its addresses once; joining goes on in the background. Raises UsageError."""
        check_port_free(self.options.listen, self.options.port)
        await self._up()
        await self._join()
        self._tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._keep_alive())]

    async def close(self) -> None:
        """Stop everything that `start` started; returns within seconds even when the daemon hangs."""
        for task in self._tasks:
            task.cancel()
        await self._down()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    # Reading and writing

    async def put_many(self, puts: Sequence[Put]) -> list[bool]:
        """Store (key, kind, value, ttl seconds) under our subkeys. True: another node has it (when alone: we have
        it). False: try again, unless our own rules refuse it."""
        records = []
        for key, kind, value, ttl in puts:
            end = max(self.dht_time() + ttl, self._last.get((key, kind), 0.0) + 0.001)  # only a later end replaces
            self._last[key, kind] = end
            records.append((key.encode(), plain(value), end, make_subkey(self.host, kind)))
        stored: list[bool] = []
        for start in range(0, len(records), PUTS_PER_STORE):
            stored += await self._store(records[start : start + PUTS_PER_STORE])
        return stored

    async def _store(self, records: list[tuple[bytes, Any, float, str]]) -> list[bool]:
        """One call of hivemind's store_many; which records did another node take?"""
        from protocol import hivemind_patches as patches

        keys, values, ends, subkeys = (list(column) for column in zip(*records, strict=True))
        taken: Counter[tuple[bytes, str]] = Counter()
        patches.accepted.set(taken)  # seen by the tasks that this call starts
        answer: dict[Any, bool] = {}
        try:
            answer = await limited(self._node.store_many(keys, values, ends, subkeys, beam_size=BEAM_SIZE))
        except Exception as error:  # a dying daemon fails in many ways; all mean: not stored
            log.debug("store failed: %r", error)
        finally:
            patches.accepted.set(None)
        alone = self.peer_count() == 0
        return [
            taken[hash_key(key.decode()), subkey] > 0 or (alone and bool(answer.get((key, subkey))))
            for key, subkey in zip(keys, subkeys, strict=True)
        ]

    async def read(self, keys: Sequence[str]) -> dict[str, dict[tuple[str, str], Any]]:
        """The newest records under these keys: {key: {(host, kind): value}}. Raises TimeoutError."""
        try:
            found = await limited(
                self._node.get_many(
                    [key.encode() for key in keys],
                    sufficient_expiration_time=float("inf"),
                    beam_size=BEAM_SIZE,
                )
            )
        except Exception as error:
            log.debug("read failed: %r", error)
            raise TimeoutError("the swarm does not answer") from None
        result = {key: self._entries(key, found.get(key.encode())) for key in keys}
        manifest = result.get(manifest_key(), {}).get((self.space.organizer, ""))
        if isinstance(manifest, Manifest):
            self.space.follow(manifest)
        return result

    def _entries(self, key: str, found: Any) -> dict[tuple[str, str], Any]:
        """What hivemind returns for one key -> typed values."""
        entries = {}
        rules = self.space.keys[hash_key(key)].rules
        for subkey, item in (found.value if found is not None else {}).items():
            host, _, kind = subkey.partition("|")
            entries[host, kind] = msgspec.convert(item.value, rules[kind].schema)
            if host == self.host:  # of an earlier life perhaps: our next record must end later
                self._last[key, kind] = max(self._last.get((key, kind), 0.0), item.expiration_time)
        return entries

    async def keep(self, key: str, kind: str, value: Value, ttl: float) -> bool:
        """Store now, and again every third of `ttl` seconds until `drop`: nodes that leave take replicas along."""
        self._kept[key, kind] = (value, ttl, time.monotonic() + ttl / 3)
        return (await self.put_many([(key, kind, value, ttl)]))[0]

    async def drop(self, key: str, kind: str) -> None:
        """Stop keeping a record; it ends with its ttl."""
        self._kept.pop((key, kind), None)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def monotonic(self) -> float:
        return time.monotonic()

    # State

    def dht_time(self) -> float:
        """Seconds since 1970 on the swarm's clock."""
        return self._clock() + self.offset

    def alive(self) -> bool:
        """Does the libp2p daemon run, and is our connection to it open?"""
        if self._p2p is None or self._p2p._child.returncode is not None or self._p2p._client is None:
            return False
        return not self._p2p._client.control._read_task.done()

    def connected(self) -> bool:
        """Is anybody there? A node without addresses to dial is a swarm of its own."""
        return self.alive() and (self.peer_count() > 0 or not self.bootstrap)

    def peer_count(self) -> int:
        return len(self._node.protocol.routing_table.uid_to_peer_id)

    async def visible_addresses(self) -> list[str]:
        """Addresses for others to dial, with our PeerID; those that most can reach first."""
        return outward_first(str(a) for a in await limited(self._p2p.get_visible_maddrs(latest=True)))

    # Staying alive

    async def _up(self) -> None:
        """Start the daemon and a DHT node over it. Raises UsageError in one line."""
        from hivemind.dht import DHTNode
        from hivemind.p2p import P2P

        from protocol import hivemind_patches as patches

        patches.apply()
        public = self.options.listen not in LOOPBACK  # on loopback: no UPnP, no relays, no AutoNAT
        family = "ip6" if ":" in self.options.listen else "ip4"
        try:
            # Without initial_peers: p2pd gives up when none of them answers, and nothing would try again.
            self._p2p = await P2P.create(
                host_maddrs=[f"/{family}/{self.options.listen}/tcp/{self._port}"],
                announce_maddrs=list(self.options.announce) or None,
                identity_path=str(self._identity_path),
                check_if_identity_free=False,  # cannot read Ed25519 keys, and starts one more daemon
                startup_timeout=STARTUP_SECONDS,
                dht_mode="client" if self.options.client_mode else "server",
                trusted_relays=self.bootstrap if public and self.bootstrap else None,
                auto_nat=public,
                nat_port_map=public,
                use_relay=public,
                use_auto_relay=public and bool(self.bootstrap),
            )
        except Exception as error:
            raise UsageError(startup_message(str(error) or repr(error), self.options.listen)) from None
        node = await DHTNode.create(
            p2p=self._p2p,
            node_id=patches.node_id_of(self._p2p.peer_id),
            num_replicas=REPLICAS,
            chunk_size=KEYS_PER_FIND,
            cache_locally=False,
            cache_nearest=0,
            cache_on_store=False,
            reuse_get_requests=False,  # else a read may return what an earlier one had already seen
            client_mode=self.options.client_mode,
            record_validator=self.guard,  # type: ignore[arg-type]
            ensure_bootstrap_success=False,
            strict=False,
        )
        node.protocol.cache = patches.NoCache()
        if self._node is not None:
            node.protocol.storage = self._node.protocol.storage  # the replicas we hold survive our daemon
        self._node = node
        if not self._port and not self.options.announce:
            self._port = port_of((await self.visible_addresses())[0]) or 0  # a restart must not move us

    async def _down(self) -> None:
        """Stop the daemon, by force if it does not listen."""
        child = self._p2p._child if self._p2p is not None else None
        if self.alive() and self._node is not None:
            with contextlib.suppress(Exception):
                await limited(self._node.shutdown(), 2)
        if self._p2p is not None:
            with contextlib.suppress(Exception):
                await limited(self._p2p.shutdown(), 3)
        if child is not None and child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()

    async def _watch(self) -> None:
        """Restart a dead daemon under the same identity and port."""
        backoff = 1.0
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if self.alive():
                continue
            self.say("the libp2p daemon stopped; starting it again")
            await self._down()
            try:
                await self._up()
            except Exception as error:
                self.say(f"{error}; next try in {backoff:.0f} s")
                await asyncio.sleep(backoff)
                backoff = min(BACKOFF_SECONDS_MAX, backoff * 2)
                continue
            backoff, self.restarts = 1.0, self.restarts + 1
            await self._join()

    async def _keep_alive(self) -> None:
        """Join when alone, with back-off; else re-dial, look around, and store again what we keep."""
        backoff, due = 1.0, time.monotonic() + self.options.keepalive_seconds
        while True:
            await asyncio.sleep(min(backoff, WATCH_SECONDS))
            try:
                if self.alive() and self.peer_count() == 0 and (self.bootstrap or self.known):
                    if await self._join():
                        backoff = 1.0
                        continue
                    self.say(
                        f"none of {len(self.bootstrap) + len(self.known)} known addresses answers; "
                        f"next try in {backoff:.0f} s"
                    )
                    await asyncio.sleep(backoff)
                    backoff = min(BACKOFF_SECONDS_MAX, backoff * 2)
                elif self.alive() and time.monotonic() >= due:
                    due = time.monotonic() + self.options.keepalive_seconds
                    await self._look_around()
                await self._store_kept()
            except Exception as error:  # the keeper must outlive whatever it keeps
                log.debug("keep-alive: %r", error)

    async def _look_around(self) -> None:
        """hivemind neither returns to bootstrap addresses nor refreshes its routing table by itself."""
        try:
            await limited(self._p2p.get_visible_maddrs(latest=True), DIAL_SECONDS)
        except TimeoutError:
            self._p2p._child.kill()  # it hangs: the watch starts another
            return
        await asyncio.gather(*(self._dial(address) for address in self.bootstrap))
        self._correct_clock()
        for peer in (await limited(self._p2p.list_peers()))[:KNOWN_MAX]:
            host = peer.peer_id.to_base58()
            if peer.addrs:
                self.known.pop(host, None)  # newest last
                self.known[host] = f"{peer.addrs[0]}/p2p/{host}"
        for host in list(self.known)[:-KNOWN_MAX]:
            del self.known[host]
        await limited(self._node.get(os.urandom(20), latest=True))  # meets whoever lives in that direction
        await self.read([manifest_key()])  # opens the keys of new campaigns

    async def _store_kept(self) -> None:
        now = time.monotonic()
        due = [(name, kept) for name, kept in self._kept.items() if kept[2] <= now]
        if not due or not self.alive():
            return
        for name, (value, ttl, _) in due:
            self._kept[name] = (value, ttl, now + ttl / 3)
        await self.put_many([(key, kind, value, ttl) for (key, kind), (value, ttl, _) in due])

    async def _join(self) -> bool:
        """Dial every address we know. True when any answered, or when there is nobody to dial."""
        addresses = list(dict.fromkeys([*self.bootstrap, *self.known.values()]))
        answers = await asyncio.gather(*(self._dial(address) for address in addresses))
        if any(answers):
            self._correct_clock()
            with contextlib.suppress(Exception):  # meet our neighbours
                await limited(self._node.find_nearest_nodes([self._node.node_id]))
            with contextlib.suppress(TimeoutError):
                await self.read([manifest_key()])
            self._kept = {name: (value, ttl, 0.0) for name, (value, ttl, _) in self._kept.items()}  # due now
        if any(answers) or not addresses:
            self.joined.set()
        return any(answers) or not addresses

    async def _dial(self, address: str) -> bool:
        """Connect to one address and greet the node behind it."""
        from hivemind.p2p import PeerID
        from hivemind.utils.multiaddr import Multiaddr

        where, host = split_address(address)
        peer = PeerID.from_base58(host)
        try:
            if self._node.protocol.routing_table.get(peer_id=peer) is not None and await self._ping(peer):
                return True
            if not await tcp_answers(where):
                return False
            await limited(self._p2p._client.connect(peer, [Multiaddr(where)]), DIAL_SECONDS)
            return await self._ping(peer)
        except Exception as error:
            log.debug("dialling %s failed: %r", address, error)
            return False

    async def _ping(self, peer: Any) -> bool:
        """Greet a node, take it into the routing table, and compare clocks. False when it does not answer."""
        from hivemind.dht import DHTID
        from hivemind.proto import dht_pb2

        protocol, before = self._node.protocol, self._clock()
        try:
            request = dht_pb2.PingRequest(peer=protocol.node_info)  # type: ignore[attr-defined]
            answer = await limited(protocol.get_stub(peer).rpc_ping(request), 4)
        except Exception:
            return False
        if not answer.peer.node_id:
            return False
        await protocol.update_routing_table(DHTID.from_bytes(answer.peer.node_id), peer, responded=True)
        if answer.dht_time:
            self._clock_samples[peer.to_base58()] = answer.dht_time - (before + self._clock()) / 2
        return True

    def _correct_clock(self) -> None:
        """Follow the organizer's clock, or the median of the nodes we dial; the organizer follows nobody."""
        from protocol import hivemind_patches as patches

        if self.host == self.space.organizer:
            return
        offset = clock_offset(self._clock_samples, self.space.organizer)
        if abs(offset - self.offset) > CLOCK_TOLERANCE_SECONDS and abs(offset) > CLOCK_TOLERANCE_SECONDS:
            way = "behind" if offset > 0 else "ahead of"
            self.say(
                f"this computer's clock is {abs(offset):.0f} s {way} the swarm's; corrected for the swarm, "
                "please switch on its time synchronisation (after sleep on WSL: sudo hwclock -s)"
            )
        self.offset = offset
        if not self._own_clock:
            patches.offset_seconds = offset


def clock_offset(samples: dict[str, float], organizer: str) -> float:
    """Seconds to add to our clock, from other nodes' clocks minus ours; 0 when they agree within a second."""
    if not samples:
        return 0.0
    offset = samples.get(organizer, median(samples.values()))
    return offset if abs(offset) > CLOCK_TOLERANCE_SECONDS else 0.0


def plain(value: Value) -> Any:
    """A typed value -> the lists and scalars whose msgpack is the value's exact bytes."""
    exact = msgspec.msgpack.decode(
        msgspec.msgpack.encode(value), type=type(value)
    )  # 100 -> 100.0 where a float belongs
    return msgspec.msgpack.decode(msgspec.msgpack.encode(exact))


async def limited(work: Awaitable[T], seconds: float = CALL_SECONDS) -> T:
    """Await, but not for ever: several hivemind calls never return. Raises TimeoutError."""
    try:
        return await asyncio.wait_for(work, seconds)
    except asyncio.TimeoutError:  # another class than TimeoutError in Python 3.10
        raise TimeoutError from None
