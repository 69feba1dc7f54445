"""What hivemind 1.1.12 gets wrong for a swarm of strangers, mended in place. Imported only by `swarm`, when it starts.

Each patch names the behaviour it replaces; `docs/swarm.md` lists them with what an attacker could do. The version of
hivemind is pinned because of this file.
"""

# pyright: reportAttributeAccessIssue=false
# (protobuf's generated modules and other people's classes)

import asyncio
import math
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from types import SimpleNamespace
from typing import Any

from protocol.swarm.hivemind_parts import (
    DHTID,
    ControlClient,
    DHTLocalStorage,
    DictionaryDHTValue,
    MSGPackSerializer,
    P2PContext,
    PeerID,
    TimedStorage,
    ValueWithExpiration,
    dht_node,
    dht_pb2,
    dht_protocol,
    dht_routing,
    p2p_daemon,
    p2pd_pb2,
    timed_storage,
)
from protocol.swarm.records import SUBKEY_BYTES_MAX, earned

SUBKEYS_MAX = 1500  # entries under one key: 1,500 x 700 B stays far under libp2p's 4 MiB
KEYS_MAX = 100_000  # keys of a node's storage
PUSH_BYTES_MAX = 1 << 20  # of one message with several records
FIND_KEYS_MAX = 16  # of one request; our own nodes ask for 8

# hivemind says of a store what the last replica said, be it the only one that refused. Whoever sets a counter here
# before storing finds in it how many other nodes took each (hashed key, subkey).
accepted: ContextVar[Counter | None] = ContextVar("accepted", default=None)


class NoCache(DHTLocalStorage):
    """hivemind answers a find from its cache when the cached value expires later, so one record that an attacker
    sends with `in_cache` hides a whole dictionary. Nothing is ever cached here."""

    def store(self, *args: Any, **kwargs: Any) -> bool:
        return False

    def store_subkey(self, *args: Any, **kwargs: Any) -> bool:
        return False

    def get(self, key: Any) -> None:
        return None


class DetachedChildren:
    """asyncio for hivemind's daemon module, with one change: Ctrl-C in a terminal must reach us and not the libp2p
    daemon, or nothing can be handed back on leaving."""

    subprocess = SimpleNamespace(
        PIPE=asyncio.subprocess.PIPE,
        STDOUT=asyncio.subprocess.STDOUT,
        create_subprocess_exec=partial(asyncio.create_subprocess_exec, start_new_session=True),
    )

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)


def node_id_of(peer_id: PeerID) -> DHTID:
    """A node's place in the DHT follows from its key. hivemind lets every node choose, that is: choose its victims."""
    return DHTID.generate(source=peer_id.to_bytes())


def apply(clock: Callable[[], float]) -> None:
    """Patch hivemind once a process; again is harmless. `clock`: seconds since 1970 by which its records expire."""
    if getattr(TimedStorage, "zooswarm_patched", False):
        return
    for module in (timed_storage, dht_node, dht_protocol, dht_routing):
        module.get_dht_time = clock  # type: ignore[attr-defined]
    patch_storage()
    patch_dictionaries()
    patch_protocol()
    patch_names()
    ControlClient._handle_persistent_request = handle_request  # type: ignore[method-assign]
    p2p_daemon.asyncio = DetachedChildren()  # type: ignore[assignment]
    if not os.access("/tmp", os.W_OK):  # the daemon's control socket
        p2p_daemon.P2P._UNIX_SOCKET_PREFIX = f"/unix{tempfile.gettempdir()}/zooswarm-"
    TimedStorage.zooswarm_patched = True  # type: ignore[attr-defined]


def patch_storage() -> None:
    """Early eviction: a store that is refused still moved the live record's end. Also bounds the number of keys."""
    store_value, store_subkey = TimedStorage.store, DHTLocalStorage.store_subkey

    def store(self: Any, key: Any, value: Any, expiration_time: float) -> bool:
        current = self.data.get(key)
        if not type(self).frozen and current is not None and current.expiration_time >= expiration_time:
            return False  # `frozen` as a class is the cache refresh queue, which relies on the old behaviour
        if isinstance(self, DictionaryDHTValue) and current is None and not make_room(self, value):
            return False  # hivemind's dictionaries grow until no reply can carry them
        return store_value(self, key, value, expiration_time)

    def store_entry(self: Any, key: Any, subkey: Any, value: bytes, expiration_time: float) -> bool:
        if self.get(key) is None and len(self.data) >= KEYS_MAX:
            return False
        return store_subkey(self, key, subkey, value, expiration_time)

    TimedStorage.store = store  # type: ignore[method-assign]
    DHTLocalStorage.store_subkey = store_entry  # type: ignore[method-assign]


def make_room(dictionary: DictionaryDHTValue, value: bytes) -> bool:
    """Whether one more entry fits. New keys cost little: where they have filled everything, whoever has earned
    something takes the place of one of them."""
    if len(dictionary.data) < SUBKEYS_MAX:
        return True
    worth = earned(value)
    if worth:
        for subkey, item in dictionary.data.items():
            if earned(item.value) < worth:
                del dictionary[subkey]
                return True
    return False


def patch_dictionaries() -> None:
    """Dictionaries come from strangers: check their shape, and never let one bad entry or lie hide the good ones."""

    def unpack(cls: Any, raw: bytes) -> DictionaryDHTValue:
        fields: Any = MSGPackSerializer.loads(raw)
        _, _, items = fields  # the sender's size limit and end are not believed
        if len(items) > SUBKEYS_MAX:
            raise ValueError("too many entries")
        dictionary = DictionaryDHTValue()
        with dictionary.freeze():
            for subkey, value, expiration in items:
                if not (isinstance(subkey, str) and len(subkey) <= SUBKEY_BYTES_MAX):
                    raise ValueError("not a subkey")
                if not (isinstance(value, bytes) and isinstance(expiration, float) and math.isfinite(expiration)):
                    raise ValueError("not an entry")
                dictionary.store(subkey, value, expiration)
        return dictionary

    def validate(self: Any, key: bytes, dictionary: DictionaryDHTValue) -> bool:
        if self.record_validator is None:
            return True
        for subkey, (value, expiration) in list(dictionary.data.items()):
            subkey_bytes = self.serializer.dumps(subkey)
            if not self._validate_record(key, subkey_bytes, value, expiration):
                del dictionary[subkey]  # hivemind refuses the whole dictionary for one bad entry
        return bool(dictionary.data)

    add_candidate = dht_node._SearchState.add_candidate

    def add(self: Any, candidate: ValueWithExpiration | None, source_node_id: Any) -> None:
        # hivemind stops searching when a reply claims to expire late enough; we believe only the signed entries
        if candidate is None or not isinstance(candidate.value, DictionaryDHTValue):
            return
        ends = [item.expiration_time for _, item in candidate.value.items()]
        if ends:
            add_candidate(self, ValueWithExpiration(candidate.value, max(ends)), source_node_id)

    DictionaryDHTValue.unpackb = classmethod(unpack)  # type: ignore[assignment]
    dht_protocol.DHTProtocol._validate_dictionary = validate  # type: ignore[method-assign]
    dht_node._SearchState.add_candidate = add  # type: ignore[method-assign]


def patch_protocol() -> None:
    """Bound messages, and tie a node's place to its key."""
    protocol = dht_protocol.DHTProtocol
    call_store, call_find, rpc_find = protocol.call_store, protocol.call_find, protocol.rpc_find
    update = protocol.update_routing_table

    async def store_in_parts(
        self: Any, peer: Any, keys: Any, values: Any, expiration_time: Any, subkeys: Any = None, in_cache: Any = None
    ) -> list[bool] | None:
        # a node pushes all it knows to a newcomer in one message; over 4 MiB it then drops the newcomer for failing
        count = len(keys)
        ends = list(expiration_time) if not isinstance(expiration_time, float) else [expiration_time] * count
        subs = list(subkeys) if subkeys is not None else [None] * count
        answers: list[bool] = []
        for start, stop in parts([size_of(value) for value in values]):
            part = slice(start, stop)
            answer = await call_store(self, peer, keys[part], values[part], ends[part], subs[part], False)
            if answer is None:
                return None
            answers += answer
        counter = accepted.get()
        if counter is not None:
            counter.update((k.to_bytes(), sub) for k, sub, ok in zip(keys, subs, answers, strict=True) if ok)
        return answers

    async def find_with_true_ids(self: Any, peer: Any, keys: Any) -> Any:
        found = await call_find(self, peer, keys)
        if found is None:
            return None
        return {
            key: (value, {i: p for i, p in near.items() if i == node_id_of(p)}) for key, (value, near) in found.items()
        }

    # hivemind builds its handlers from these annotations
    async def find_some(self: Any, request: dht_pb2.FindRequest, context: P2PContext) -> dht_pb2.FindResponse:
        if len(request.keys) > FIND_KEYS_MAX:
            raise ValueError("too many keys in one request")
        return await rpc_find(self, request, context)

    async def update_true_ids(self: Any, node_id: Any, peer_id: Any, responded: bool = True) -> None:
        if responded and (node_id is None or node_id != node_id_of(peer_id)):
            return
        await update(self, node_id, peer_id, responded=responded)

    protocol.call_store = store_in_parts  # type: ignore[method-assign]
    protocol.call_find = find_with_true_ids  # type: ignore[method-assign]
    protocol.rpc_find = find_some  # type: ignore[method-assign]
    protocol.update_routing_table = update_true_ids  # type: ignore[method-assign]


def patch_names() -> None:
    """Each organizer's swarm is a DHT of its own, even where nodes of several are connected: its calls have its name.

    In one DHT the nodes of one organizer refuse the records of another, so neither could store reliably.
    """
    protocol = dht_protocol.DHTProtocol
    add, remove = protocol.add_p2p_handlers, protocol.remove_p2p_handlers

    def swarm(self: Any) -> str:
        return self.record_validator.space.organizer

    async def add_named(self: Any, p2p: Any, wrapper: Any = None) -> None:
        await add(self, p2p, wrapper, namespace=swarm(self))

    async def remove_named(self: Any, p2p: Any) -> None:
        await remove(self, p2p, namespace=swarm(self))

    def stub_of(self: Any, peer: PeerID) -> Any:
        return super(protocol, self).get_stub(self.p2p, peer, namespace=swarm(self))

    protocol.add_p2p_handlers = add_named  # type: ignore[method-assign]
    protocol.remove_p2p_handlers = remove_named  # type: ignore[method-assign]
    protocol.get_stub = stub_of  # type: ignore[method-assign]


def size_of(value: Any) -> int:
    """About how many bytes a value takes in a message."""
    if isinstance(value, DictionaryDHTValue):
        return sum(len(item.value) + SUBKEY_BYTES_MAX + 16 for item in value.data.values())
    return len(value)


def parts(sizes: list[int]) -> list[tuple[int, int]]:
    """Consecutive ranges (start, stop) of at most PUSH_BYTES_MAX each, or of one value."""
    ranges, start, total = [], 0, 0
    for i, size in enumerate(sizes):
        if i > start and total + size > PUSH_BYTES_MAX:
            ranges.append((start, i))
            start, total = i, 0
        total += size
    return [*ranges, (start, len(sizes))] if sizes else []


async def handle_request(self: Any, call_id: Any, request: Any) -> None:
    """hivemind builds its "response too large" error with a field that does not exist, and answers an unknown
    protocol with silence; in both cases the caller waits for its timeout and then drops us."""
    handler: Callable[..., Any] | None = self.unary_handlers.get(request.proto)
    try:
        if handler is None:
            response = p2pd_pb2.CallUnaryResponse(error=b"protocol not supported")
        else:
            response = p2pd_pb2.CallUnaryResponse(response=await handler(request.data, PeerID(request.peer)))
    except Exception as error:  # the name only: the text may hold what a stranger has no business to read
        response = p2pd_pb2.CallUnaryResponse(error=type(error).__name__.encode())
    message = p2pd_pb2.PersistentConnectionRequest(callId=call_id.bytes, unaryResponse=response)
    if message.ByteSize() > self.persistent_conn_max_msg_size:
        response = p2pd_pb2.CallUnaryResponse(error=b"response size exceeds message size limit")
        message = p2pd_pb2.PersistentConnectionRequest(callId=call_id.bytes, unaryResponse=response)
    await self._pending_messages.put(message)
    self._handler_tasks.pop(call_id, None)
