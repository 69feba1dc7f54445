"""The libp2p daemon and hivemind's node over it: start, stop, dial, greet. One `Link` outlives its daemons.

With `hivemind_parts` and `hivemind_patches` this is the only module that knows hivemind, and it imports it only in
`Link.up` (0.2 s).
hivemind's own forked `DHT` process is not used: it dies on messages over 16 KiB.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from protocol import TIMEOUTS
from protocol.errors import UsageError
from protocol.swarm.addresses import (
    ADDRESS,
    NodeOptions,
    outward_first,
    port_of,
    split_address,
    startup_message,
    tcp_answers,
)
from protocol.swarm.clock import SwarmClock
from protocol.swarm.validator import RecordValidator

T = TypeVar("T")


class DaemonEnded(UsageError):
    """Somebody killed it while it started: worth another try."""


log = logging.getLogger("zooswarm.swarm")

CALL_SECONDS = 20.0  # a get or store that takes longer has failed
DIAL_SECONDS = 8.0
STARTUP_SECONDS = 60.0  # of the libp2p daemon on a loaded machine; 0.3 s on a quiet one
REPLICAS, KEYS_PER_FIND = 5, 8
GREETINGS_MAX = 16  # of strangers at once; nodes in client mode stay strangers
LOOPBACK = ("127.0.0.1", "::1")


class Link:
    """What changes when a daemon dies is in here; `p2p` and `node` are hivemind's objects of the current one."""

    def __init__(self, identity_path: Path, options: NodeOptions, guard: RecordValidator, clock: SwarmClock):
        self.options, self.guard = options, guard
        self.p2p: Any = None
        self.node: Any = None
        self.clock_samples: dict[str, float] = {}  # host -> its clock minus ours, seconds, when last greeted
        self.clock, self._identity_path, self._port = clock, identity_path, options.port

    async def up(self) -> None:
        """Start the daemon and a DHT node over it. Raises UsageError in one line."""
        from protocol.swarm import hivemind_patches as patches
        from protocol.swarm.hivemind_parts import P2P

        patches.apply(self.clock)
        public = self.options.listen not in LOOPBACK  # on loopback: no UPnP, no relays, no AutoNAT
        relayed = public and bool(self.options.bootstrap)
        family = "ip6" if ":" in self.options.listen else "ip4"
        starting = P2P.create(
            # Without initial_peers: p2pd gives up when none of them answers, and nothing would try again.
            host_maddrs=[f"/{family}/{self.options.listen}/tcp/{self._port}"],
            announce_maddrs=list(self.options.announce) or None,
            identity_path=str(self._identity_path),
            check_if_identity_free=False,  # cannot read Ed25519 keys, and starts one more daemon
            startup_timeout=STARTUP_SECONDS,
            dht_mode="client" if self.options.client_mode else "server",
            trusted_relays=list(self.options.bootstrap) if relayed else None,  # p2pd panics without relays
            auto_nat=public,
            nat_port_map=public,
            use_relay=public,
            use_auto_relay=relayed,
        )
        try:
            p2p = await limited(starting, STARTUP_SECONDS + CALL_SECONDS)
        except Exception as error:
            if str(error).endswith("failed to start: None"):
                raise DaemonEnded("the libp2p daemon ended while it started, and did not say why") from None
            raise UsageError(startup_message(str(error) or repr(error), self.options.listen)) from None
        try:
            node = await limited(self._node_over(p2p))
        except Exception as error:
            with contextlib.suppress(Exception):
                await limited(p2p.shutdown(), 3)
            raise UsageError(startup_message(str(error) or repr(error), self.options.listen)) from None
        self.p2p, self.node = p2p, node
        if not self._port and not self.options.announce:
            self._port = port_of((await self.visible_addresses())[0]) or 0  # a restart must not move us

    async def _node_over(self, p2p: Any) -> Any:
        """hivemind's DHT node over this daemon, with the replicas that we held before."""
        from protocol.swarm import hivemind_patches as patches
        from protocol.swarm.hivemind_parts import DHTNode

        node = await DHTNode.create(
            p2p=p2p,
            node_id=patches.node_id_of(p2p.peer_id),
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
        if self.node is not None:
            node.protocol.storage = self.node.protocol.storage
        return node

    async def down(self) -> None:
        """Stop the daemon, by force if it does not listen."""
        child = self.p2p._child if self.p2p is not None else None
        if self.alive() and self.node is not None:
            with contextlib.suppress(Exception):
                await limited(self.node.shutdown(), 2)
        if self.p2p is not None:
            with contextlib.suppress(Exception):
                await limited(self.p2p.shutdown(), 3)
        if child is not None and child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()

    def alive(self) -> bool:
        """Does the libp2p daemon run, and is our connection to it open?"""
        if self.p2p is None or self.p2p._child.returncode is not None or self.p2p._client is None:
            return False
        return not self.p2p._client.control._read_task.done()

    def peer_count(self) -> int:
        return len(self.node.protocol.routing_table.uid_to_peer_id)

    async def visible_addresses(self) -> list[str]:
        """Addresses for others to dial, with our PeerID; those that most can reach first."""
        return outward_first(str(a) for a in await limited(self.p2p.get_visible_maddrs(latest=True), DIAL_SECONDS))

    async def dial(self, address: str) -> bool:
        """Connect to one address and greet the node behind it."""
        from protocol.swarm.hivemind_parts import Multiaddr, PeerID

        where, host = split_address(address)
        peer = PeerID.from_base58(host)
        try:
            if self.node.protocol.routing_table.get(peer_id=peer) is not None and await self._greet(peer):
                return True
            if not await tcp_answers(where):
                return False
            await limited(self.p2p._client.connect(peer, [Multiaddr(where)]), DIAL_SECONDS)
            return await self._greet(peer)
        except Exception as error:
            log.debug("dialling %s failed: %r", address, error)
            return False

    async def greet_strangers(self, hosts: Iterable[str]) -> None:
        """Take into the routing table whom libp2p is connected to and hivemind has forgotten or never met."""
        from protocol.swarm.hivemind_parts import PeerID

        table = self.node.protocol.routing_table
        peers = [PeerID.from_base58(host) for host in hosts]
        strangers = [peer for peer in peers if table.get(peer_id=peer) is None]
        await asyncio.gather(*(self._greet(peer) for peer in strangers[:GREETINGS_MAX]))

    async def _greet(self, peer: Any) -> bool:
        """Greet a node, take it into the routing table, and compare clocks. False when it does not answer."""
        from protocol.swarm.hivemind_parts import DHTID, dht_pb2

        protocol, before = self.node.protocol, self.clock.own()
        try:
            request = dht_pb2.PingRequest(peer=protocol.node_info)  # type: ignore[attr-defined]
            answer = await limited(protocol.get_stub(peer).rpc_ping(request), 4)
        except Exception:
            return False
        if not answer.peer.node_id:
            return False
        await protocol.update_routing_table(DHTID.from_bytes(answer.peer.node_id), peer, responded=True)
        if answer.dht_time:
            self.clock_samples[peer.to_base58()] = answer.dht_time - (before + self.clock.own()) / 2
        return True

    async def met(self) -> dict[str, str]:
        """{host: address} of those we are connected to, as far as others could dial them."""
        found = {}
        for peer in await limited(self.p2p.list_peers()):
            host = peer.peer_id.to_base58()
            addresses = [f"{where}/p2p/{host}" for where in map(str, peer.addrs)]
            usable = [address for address in addresses if ADDRESS.fullmatch(address)]  # not through a relay
            if usable:
                found[host] = usable[0]
        return found

    def kill(self) -> None:
        """End a daemon that hangs."""
        with contextlib.suppress(ProcessLookupError):
            self.p2p._child.kill()


async def limited(work: Awaitable[T], seconds: float = CALL_SECONDS) -> T:
    """Await, but not for ever: several hivemind calls never return. Raises TimeoutError."""
    try:
        return await asyncio.wait_for(work, seconds)
    except TIMEOUTS:
        raise TimeoutError from None
