"""The behaviours of hivemind that we replaced, one by one, without a network."""

import asyncio
import time
from types import SimpleNamespace

import msgspec
import pytest

from protocol.swarm.records import Claim
from protocol.trust.allowance import Allowance

pytestmark = pytest.mark.swarm


@pytest.fixture(scope="module")
def patches():
    from protocol.swarm import hivemind_patches

    hivemind_patches.apply(time.time)
    hivemind_patches.apply(time.time)
    return hivemind_patches


def entry(subkey="alice|c", value=b"v", end=None):
    return [subkey, value, time.time() + 60 if end is None else end]


def unpack(patches, items, limit=float("inf"), end=0.0):
    return patches.DictionaryDHTValue.unpackb(patches.MSGPackSerializer.dumps([limit, end, items]))


def test_a_refused_store_leaves_the_live_record_its_life(patches):
    storage = patches.DHTLocalStorage()
    key, now = patches.DHTID(1), time.time()
    assert storage.store_subkey(key, "alice|c", b"new", now + 60)
    assert not storage.store_subkey(key, "alice|c", b"old", now + 0.05)
    time.sleep(0.1)
    assert storage.get(key).value.get("alice|c").value == b"new"


def test_dictionaries_and_storages_stop_growing(patches, monkeypatch):
    monkeypatch.setattr(patches, "SUBKEYS_MAX", 3)
    monkeypatch.setattr(patches, "KEYS_MAX", 2)
    storage, end = patches.DHTLocalStorage(), time.time() + 60
    assert [storage.store_subkey(patches.DHTID(1), f"h{i}", b"v", end) for i in range(5)] == [True] * 3 + [False] * 2
    assert storage.store_subkey(patches.DHTID(1), "h0", b"w", end + 1), "those inside may still renew"
    assert [storage.store_subkey(patches.DHTID(i), "h", b"v", end) for i in (2, 3)] == [True, False]


def test_in_a_full_dictionary_those_who_earned_something_take_the_places_of_new_keys(patches, monkeypatch):
    def value(assignments):
        claim = Claim(1, 0, Allowance(assignments, 1800, 1 << 39, bytes(64)))
        return msgspec.msgpack.encode(claim) + bytes(64)

    monkeypatch.setattr(patches, "SUBKEYS_MAX", 3)
    storage, key, end = patches.DHTLocalStorage(), patches.DHTID(1), time.time() + 60
    assert all(storage.store_subkey(key, f"new{i}|c", value(8), end) for i in range(3))
    assert not storage.store_subkey(key, "new3|c", value(8), end)
    assert [storage.store_subkey(key, f"old{i}|c", value(9), end) for i in range(4)] == [True] * 3 + [False]
    assert set(storage.get(key).value.data) == {"old0|c", "old1|c", "old2|c"}


@pytest.mark.parametrize(
    "items",
    [
        [["alice", b"v"]],
        [[b"alice", b"v", 1.0]],
        [["alice", "text", 1.0]],
        [["alice", b"v", float("nan")]],
        [["alice", b"v", float("inf")]],
        [["alice", b"v", "soon"]],
        [["x" * 100, b"v", 1.0]],
        [[("a", "b"), b"v", 1.0]],
    ],
)
def test_a_dictionary_of_another_shape_is_no_dictionary(patches, items):
    with pytest.raises((ValueError, TypeError)):
        unpack(patches, items)


def test_a_strangers_size_limit_and_end_are_not_believed(patches):
    dictionary = unpack(patches, [entry("a"), entry("b")], limit=1, end=float("inf"))
    assert len(dictionary) == 2 and dictionary.maxsize == float("inf")
    assert dictionary.latest_expiration_time < time.time() + 61


def test_one_bad_entry_does_not_hide_the_good_ones(patches):
    dictionary = unpack(patches, [entry("good"), entry("bad"), entry("fine")])
    judge = SimpleNamespace(
        record_validator=object(),
        serializer=patches.MSGPackSerializer,
        _validate_record=lambda key, subkey, value, end: b"bad" not in subkey,
    )
    validate = patches.dht_protocol.DHTProtocol._validate_dictionary
    assert validate(judge, b"", dictionary) and set(dictionary.data) == {"good", "fine"}
    assert not validate(judge, b"", unpack(patches, [entry("bad")]))


def test_a_reply_that_claims_to_be_final_does_not_end_the_search(patches):
    async def story():
        search = patches.dht_node._SearchState(patches.DHTID(1), float("inf"))
        value = patches.ValueWithExpiration
        search.add_candidate(value(unpack(patches, [entry("a")]), float("inf")), source_node_id=None)
        search.add_candidate(value(b"regular", float("inf")), source_node_id=None)
        assert not search.finished
        search.add_candidate(value(unpack(patches, [entry("b")]), 0.0), source_node_id=None)
        assert set(search.binary_value.data) == {"a", "b"}

    asyncio.run(story())


def test_nothing_is_cached(patches):
    cache, key = patches.NoCache(), patches.DHTID(1)
    assert not cache.store(key, b"v", time.time() + 60)
    assert not cache.store_subkey(key, "a", b"v", time.time() + 60)
    assert cache.get(key) is None and key not in cache and len(cache) == 0


def test_a_node_cannot_choose_its_place(patches):
    async def story():
        from protocol.swarm.hivemind_parts import PeerID, dht_routing

        peer = PeerID(b"\x00\x24" + b"\x08\x01\x12\x20" + bytes(32))
        true, chosen = patches.node_id_of(peer), patches.DHTID(12345)
        protocol = SimpleNamespace(
            routing_table=dht_routing.RoutingTable(patches.DHTID(7), 20, 5),
            storage=patches.DHTLocalStorage(),
            num_replicas=5,
        )
        update = patches.dht_protocol.DHTProtocol.update_routing_table
        await update(protocol, chosen, peer, responded=True)
        await update(protocol, None, peer, responded=True)
        assert chosen not in protocol.routing_table and true not in protocol.routing_table
        await update(protocol, true, peer, responded=True)
        assert protocol.routing_table.get(peer_id=peer) == true

    asyncio.run(story())


def test_many_records_travel_in_parts(patches):
    limit = patches.PUSH_BYTES_MAX
    assert patches.parts([]) == []
    assert patches.parts([1, 2, 3]) == [(0, 3)]
    assert patches.parts([limit, 1, limit * 2, 1]) == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert patches.size_of(unpack(patches, [entry(value=b"x" * 500)])) > 500


def test_a_reply_too_large_is_answered_with_an_error(patches):
    async def story():
        async def big(data, peer):
            return bytes(1000)

        client = SimpleNamespace(
            unary_handlers={"big": big},
            persistent_conn_max_msg_size=500,
            _pending_messages=asyncio.Queue(),
            _handler_tasks={},
        )
        for proto in ("big", "unknown"):
            request = SimpleNamespace(proto=proto, data=b"", peer=b"\x00\x24" + b"\x08\x01\x12\x20" + bytes(32))
            await patches.handle_request(client, SimpleNamespace(bytes=bytes(16)), request)
            answer = await asyncio.wait_for(client._pending_messages.get(), 1)
            assert answer.unaryResponse.error

    asyncio.run(story())
