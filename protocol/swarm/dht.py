"""One node of the swarm's DHT on an asyncio loop: puts and reads records, keeps them and itself alive.

`libp2p.Link` holds the daemon and hivemind's objects; threads and everybody else use `swarm.SwarmNode`.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from protocol.swarm.addresses import NodeOptions, check_port_free, peer_of
from protocol.swarm.claimer import Put
from protocol.swarm.clock import SwarmClock
from protocol.swarm.p2p import DaemonEnded, Link, limited
from protocol.swarm.records import KeySpace, SwarmManifest, Value, hash_key, make_subkey, manifest_key
from protocol.swarm.validator import RecordValidator
from protocol.trust.identity import Identity

log = logging.getLogger("zooswarm.swarm")

BACKOFF_SECONDS_MAX = 60.0
WATCH_SECONDS = 1.0  # between two looks whether the daemon lives
BEAM_SIZE = 8  # nodes that a read asks: 41 instead of 69 calls a claim in a swarm of 16, as safe
PUTS_PER_STORE = 256  # hivemind asks a node for the square root of it at once
CLOCK_TOLERANCE_SECONDS = 1.0  # differences below this are network delay
START_TRIES, START_PAUSE_SECONDS = 3, 1.0  # of a daemon that somebody killed while it started
KNOWN_MAX = 64  # addresses of peers that we remember


class Dht:
    """The node; every coroutine runs on one loop. It is the `Node` that `claiming` works with."""

    def __init__(
        self,
        identity: Identity,
        identity_path: Path,
        space: KeySpace,
        options: NodeOptions,
        say: Callable[[str], None],
        clock: SwarmClock,
    ):
        self.host, self.space, self.options, self.say = identity.host, space, options, say
        self.bootstrap = [a for a in options.bootstrap if peer_of(a) != self.host]
        self.known = {peer_of(a): a for a in options.known if peer_of(a) != self.host}
        self.guard = RecordValidator(identity, space, self.dht_time)
        self.joined = asyncio.Event()  # set once any address answered
        self.restarts = 0
        self.coordinator = ""  # as the newest manifest that we saw says: gRPC host:port
        self.clock = clock
        self.link = Link(identity_path, options, self.guard, clock)
        self._last: dict[tuple[str, str], float] = {}  # (key, kind) -> the latest expiration that we used
        self._kept: dict[tuple[str, str], tuple[Value, float, float]] = {}  # -> value, ttl, due (monotonic)
        self._tasks: list[asyncio.Task] = []

    async def start(self) -> None:
        """Bring the node up and dial its addresses once; joining goes on in the background. Raises UsageError."""
        check_port_free(self.options.listen, self.options.port)
        await self._first_up()
        await self._join()
        self._tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._keep_alive())]

    async def _first_up(self) -> None:
        for left in reversed(range(START_TRIES)):
            try:
                return await self.link.up()
            except DaemonEnded as error:
                if not left:
                    raise
                self.say(f"{error}; trying again")
                await self.sleep(START_PAUSE_SECONDS)

    async def close(self) -> None:
        """Stop everything that `start` started; returns within seconds even when the daemon hangs."""
        for task in self._tasks:
            task.cancel()
        await self.link.down()
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
        from protocol.swarm import hivemind_patches as patches

        keys, values, ends, subkeys = (list(column) for column in zip(*records, strict=True))
        taken: Counter[tuple[bytes, str]] = Counter()
        patches.accepted.set(taken)  # seen by the tasks that this call starts
        answer: dict[Any, bool] = {}
        try:
            answer = await limited(self.link.node.store_many(keys, values, ends, subkeys, beam_size=BEAM_SIZE))
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
                self.link.node.get_many(
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
        if isinstance(manifest, SwarmManifest):
            self.space.follow(manifest)
            self.coordinator = manifest.coordinator
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
        return self.clock()

    def connected(self) -> bool:
        """Is anybody there? A node without addresses to dial is a swarm of its own."""
        return self.link.alive() and (self.peer_count() > 0 or not self.bootstrap)

    def peer_count(self) -> int:
        """Nodes in our routing table."""
        return self.link.peer_count()

    # Staying alive

    async def _watch(self) -> None:
        """Restart a dead daemon under the same identity and port."""
        backoff = 1.0
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if self.link.alive():
                continue
            self.say("the libp2p daemon stopped; starting it again")
            await self.link.down()
            try:
                await self.link.up()
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
                if self.link.alive() and self.peer_count() == 0 and (self.bootstrap or self.known):
                    if not await self._daemon_answers():
                        continue
                    if await self._join():
                        backoff = 1.0
                        continue
                    self.say(
                        f"none of {len(self.bootstrap) + len(self.known)} known addresses answers; "
                        f"next try in {backoff:.0f} s"
                    )
                    await asyncio.sleep(backoff)
                    backoff = min(BACKOFF_SECONDS_MAX, backoff * 2)
                elif self.link.alive() and time.monotonic() >= due:
                    due = time.monotonic() + self.options.keepalive_seconds
                    if await self._daemon_answers():
                        await self._look_around()
                await self._store_kept()
            except Exception as error:  # the keeper must outlive whatever it keeps
                log.debug("keep-alive: %r", error)

    async def _daemon_answers(self) -> bool:
        """End a daemon that hangs, so that the watch starts another. It may hang long before it seems dead: then all
        other nodes seem to be."""
        try:
            await self.link.visible_addresses()
            return True
        except TimeoutError:
            self.link.kill()
            return False

    async def _look_around(self) -> None:
        """hivemind neither returns to bootstrap addresses nor refreshes its routing table by itself."""
        await asyncio.gather(*(self.link.dial(address) for address in self.bootstrap))
        self._correct_clock()
        met = await self.link.met()
        await self.link.greet_strangers(met)
        for host, address in met.items():
            self.known.pop(host, None)  # newest last
            self.known[host] = address
        for host in list(self.known)[:-KNOWN_MAX]:
            del self.known[host]
        await limited(self.link.node.get(os.urandom(20), latest=True))  # meets whoever lives in that direction
        await self.read([manifest_key()])  # opens the keys of new campaigns

    async def _store_kept(self) -> None:
        now = time.monotonic()
        due = [(name, kept) for name, kept in self._kept.items() if kept[2] <= now]
        if not due or not self.link.alive():
            return
        for name, (value, ttl, _) in due:
            self._kept[name] = (value, ttl, now + ttl / 3)
        await self.put_many([(key, kind, value, ttl) for (key, kind), (value, ttl, _) in due])

    async def _join(self) -> bool:
        """Dial every address we know. True when any answered, or when there is nobody to dial."""
        addresses = list(dict.fromkeys([*self.bootstrap, *self.known.values()]))
        answers = await asyncio.gather(*(self.link.dial(address) for address in addresses))
        if any(answers):
            self._correct_clock()
            with contextlib.suppress(Exception):  # meet our neighbours
                await limited(self.link.node.find_nearest_nodes([self.link.node.node_id]))
            with contextlib.suppress(TimeoutError):
                await self.read([manifest_key()])
            self._kept = {name: (value, ttl, 0.0) for name, (value, ttl, _) in self._kept.items()}  # due now
        if any(answers) or not addresses:
            self.joined.set()
        return any(answers) or not addresses

    def _correct_clock(self) -> None:
        """Follow the organizer's clock, or the median of the nodes we dial; the organizer follows nobody."""
        if self.host == self.space.organizer:
            return
        offset = clock_offset(self.link.clock_samples, self.space.organizer)
        if abs(offset - self.clock.offset) > CLOCK_TOLERANCE_SECONDS and abs(offset) > CLOCK_TOLERANCE_SECONDS:
            way = "behind" if offset > 0 else "ahead of"
            self.say(
                f"this computer's clock is {abs(offset):.0f} s {way} the swarm's; corrected for the swarm, "
                "please switch on its time synchronisation (after sleep on WSL: sudo hwclock -s)"
            )
        self.clock.offset = offset


def clock_offset(samples: dict[str, float], organizer: str) -> float:
    """Seconds to add to our clock, from other nodes' clocks minus ours; 0 when they agree within a second."""
    if not samples:
        return 0.0
    offset = samples.get(organizer, median(samples.values()))
    return offset if abs(offset) > CLOCK_TOLERANCE_SECONDS else 0.0


def plain(value: Value) -> Any:
    """A typed value -> the lists and scalars whose msgpack is the value's exact bytes."""
    # through the type: a whole number where a float belongs becomes one
    exact = msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=type(value))
    return msgspec.msgpack.decode(msgspec.msgpack.encode(exact))
