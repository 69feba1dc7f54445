"""Real nodes on loopback: joining, claiming, hostile records, dead daemons, wrong clocks."""

import asyncio
import contextlib
import os
import signal
import socket
import time
from typing import Any

import msgspec
import pytest
from support.swarms.claim_stories import STORIES
from support.swarms.done_board import DoneBoard
from support.swarms.fake_swarm import CAMPAIGN

from protocol.engine import ENGINE
from protocol.errors import UsageError
from protocol.swarm.addresses import NodeOptions
from protocol.swarm.claimer import Claims
from protocol.swarm.clock import SwarmClock
from protocol.swarm.node import SwarmNode
from protocol.swarm.records import (
    BARE,
    CLAIM,
    CampaignEntry,
    Claim,
    Done,
    SwarmManifest,
    claims_key,
    hash_key,
    make_subkey,
    manifest_key,
    sign_record,
)
from protocol.trust import allowance as allowances
from protocol.trust.identity import Identity

pytestmark = pytest.mark.swarm
COMMON = "ac" * 32  # a campaign that every node here knows
KEY = claims_key(COMMON, 0)


def eventually(ask, seconds=60.0, pause=0.1):
    """Ask until the answer is truthy; fails after `seconds`."""
    end = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(pause)
    return answer


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    """An organizer and three hosts that joined through it."""
    home = tmp_path_factory.mktemp("swarm")
    with contextlib.ExitStack() as stack:
        organizer = stack.enter_context(SwarmNode(home / "organizer", NodeOptions()))
        bootstrap = organizer.visible_addresses()
        hosts = [
            stack.enter_context(SwarmNode(home / f"host{i}", NodeOptions(bootstrap=bootstrap, keepalive_seconds=1.0)))
            for i in range(3)
        ]
        eventually(lambda: all(node.peer_count() == 3 for node in (organizer, *hosts)))
        for node in (organizer, *hosts):
            node.allow_campaign(COMMON, 64)
        yield [organizer, *hosts]


class RealSwarm:
    """The stage of `claim_stories` over real nodes; a new campaign for each story."""

    lease = 3.0

    def __init__(self, nodes, number):
        self.nodes, self.names, self.campaign = nodes, {}, f"{number:016x}" + CAMPAIGN[16:]

    def open(self, assignments):
        for node in self.nodes:
            node.run(allow(node, self.campaign, assignments))

    def board(self, assignments):
        self.open(assignments)
        return DoneBoard(self.nodes[0].dht, self.campaign)

    def host(self, name, assignments):
        self.open(assignments)
        node = self.nodes[1 + len(self.names)]
        self.names[name] = node
        allowance = claim_of(self.nodes[0], node).allowance
        return Claims(
            node.dht,
            self.campaign,
            assignments,
            self.nodes[0].host,
            settle=0.3,
            lease=self.lease,
            allowance=allowance,
        )

    async def on(self, claims, work):
        node = next(node for node in self.nodes if node.dht is claims.node)
        return await asyncio.wrap_future(node.submit(work))

    async def crash(self, claims):
        """The host stops renewing; its daemon stays, for the tests that follow."""

    def clock(self):
        return time.monotonic()


def claim_of(organizer, node, claimed=1, confirmed=0, assignments=64):
    """A claim with the organizer's allowance for this host."""
    expires = int(organizer.dht_time()) + 3600
    return Claim(claimed, confirmed, allowances.allow(organizer.identity, node.host, assignments, 1800, expires))


async def allow(node, campaign, assignments):
    node.space.allow_campaign(campaign, assignments)


@pytest.mark.parametrize("number", range(len(STORIES)), ids=[story.__name__ for story in STORIES])
def test_story(nodes, number):
    asyncio.run(STORIES[number](RealSwarm(nodes, number)))


def test_the_manifest_opens_the_keys_of_its_campaigns(nodes):
    organizer, host, *_ = nodes
    entry = CampaignEntry(bytes.fromhex("cd" * 32), 100)
    manifest = SwarmManifest((entry,), 7, "127.0.0.1:4002", 1, ENGINE)
    assert organizer.publish_manifest(manifest)
    assert eventually(host.manifest) == manifest and host.coordinator() == "127.0.0.1:4002"
    claim = claim_of(nodes[0], host, 1, 1)
    assert host.put(claims_key("cd" * 32, 1), CLAIM, claim, 30)
    assert nodes[2].manifest() == manifest
    found = nodes[2].read([claims_key("cd" * 32, 1)])
    assert found == {claims_key("cd" * 32, 1): {(host.host, CLAIM): claim}}


def test_only_a_record_with_a_later_end_replaces_and_ours_always_do(nodes):
    for bits in range(1, 6):
        assert nodes[1].put(KEY, CLAIM, claim_of(nodes[0], nodes[1], bits), 60)
    assert nodes[2].read([KEY])[KEY][nodes[1].host, CLAIM].claimed == 5


def test_hostile_records_are_refused_and_counted(nodes):
    organizer, alice, mallory, _ = nodes
    campaign = "ef" * 32
    for node in nodes:
        node.run(allow(node, campaign, 64))
    key, end = claims_key(campaign, 0), alice.dht_time() + 60
    hashed, subkey = hash_key(key), make_subkey(alice.host, CLAIM)
    packed = msgspec.msgpack.encode(subkey)
    claim = claim_of(nodes[0], alice, 1, 1)
    good = sign_record(alice.identity, hashed, packed, msgspec.msgpack.encode(claim), end)

    def send(value, end=end, subkey: Any = subkey, key=key, sender=mallory):
        return sender.run(raw_store(sender, organizer, hash_key(key), value, end, subkey))

    assert send(good)  # anybody may carry a sound record
    before = organizer.refused_counts()
    own = make_subkey(mallory.host, CLAIM)
    assert not send(good), "a replay changes nothing"
    assert not send(good, end=end + 30)
    assert not send(good, subkey=own)
    assert not send(b"\xc1" * 80, subkey=own)
    assert not send(b"\x00" * 10_000, subkey=own)
    assert not send(good, key="anything else")
    assert not send(good, subkey=None)
    assert not send(good, end=float("inf"))
    assert not send(b"\x80", subkey=b"")
    refused = organizer.refused_counts() - before
    assert refused == {
        "signature": 2,
        "record-schema": 1,
        "record-size": 1,
        "record-key": 1,
        "record-regular": 1,
        "record-ttl": 1,
        "record-subkey": 1,
    }
    assert alice.host in organizer.last_offenders()["record-ttl"]
    early = alice.dht_time() + 0.5  # signed by its owner, long ago; hivemind would let it end the newer one
    old = sign_record(alice.identity, hashed, packed, msgspec.msgpack.encode(claim_of(nodes[0], alice, 2, 0)), early)
    assert not send(old, end=early)
    time.sleep(max(0.0, early + 0.2 - alice.dht_time()))
    assert nodes[3].read([key])[key] == {(alice.host, CLAIM): claim}
    assert not mallory.put(key, CLAIM, claim_of(nodes[0], mallory, 511, 0, assignments=8), 60), "more than it may"
    assert not mallory.put(key, CLAIM, Claim(1, 0), 60), "no allowance"
    assert not mallory.put(key, "d", Done(1), 60), "our own rules refuse it before it leaves"


async def raw_store(sender, target, hashed, value, end, subkey):
    """Send a store request past all of our own checks."""
    from protocol.swarm.hivemind_parts import DHTID

    to = target.dht.link.p2p.peer_id
    answer = await sender.dht.link.node.protocol.call_store(
        to, [DHTID.from_bytes(hashed)], [value], [end], subkeys=[subkey]
    )
    return bool(answer and answer[0])


def test_a_lying_replica_cannot_hide_records(nodes):
    """One node answers every find with an entry that nobody signed, and says that it never ends."""
    from protocol.swarm.hivemind_parts import DictionaryDHTValue, ValueWithExpiration

    _, alice, liar, reader = nodes
    key, lied = KEY, make_subkey(alice.host, CLAIM)
    claim = claim_of(nodes[0], alice)
    assert alice.put(KEY, CLAIM, claim, 60)

    async def lie():
        from protocol.swarm.hivemind_parts import DHTID

        false = DictionaryDHTValue()
        false.store(lied, b"\x01" * 100, alice.dht_time() + 80)
        true = liar.dht.link.node.protocol.storage.get(DHTID.from_bytes(hash_key(key)))
        for subkey, item in true.value.items() if true else ():
            if subkey != lied:
                false.store(subkey, item.value, item.expiration_time)
        name = DHTID.from_bytes(hash_key(key))
        liar.dht.link.node.protocol.storage.data[name] = ValueWithExpiration(false, float("inf"))

    liar.run(lie())
    assert reader.read([KEY])[KEY][alice.host, CLAIM] == claim
    assert reader.refused_counts()["record-schema"] >= 1
    liar.run(forget(liar, key))


async def forget(node, key):
    from protocol.swarm.hivemind_parts import DHTID

    del node.dht.link.node.protocol.storage.data[DHTID.from_bytes(hash_key(key))]


@pytest.mark.parametrize("signal_name", ["SIGKILL", "SIGSTOP"])
def test_a_daemon_that_dies_or_hangs_comes_back_as_the_same_host(nodes, signal_name):
    _, host, other, _ = nodes
    claim = claim_of(nodes[0], host)
    assert host.keep(KEY, CLAIM, claim, 60)
    address, before = host.visible_addresses(), host.dht.restarts
    if signal_name == "SIGSTOP":  # a hang that looks like everybody else's death
        host.dht.link.node.protocol.routing_table.__init__(host.dht.link.node.node_id, 20, 5)
    host.dht.link.p2p._child.send_signal(getattr(signal, signal_name))
    eventually(lambda: host.dht.restarts > before and host.connected(), 60)
    assert host.visible_addresses() == address, "same PeerID, same port"
    eventually(lambda: host.peer_count() == 3, 60)
    assert host.put(KEY, CLAIM, claim, 60)
    assert other.read([KEY])[KEY][host.host, CLAIM] == claim


def test_ctrl_c_does_not_reach_the_daemon(nodes):
    assert os.getpgid(nodes[0].dht.link.p2p._child.pid) != os.getpgid(0)


def test_a_node_joins_when_its_bootstrap_comes_up_late_and_finds_it_again(tmp_path):
    port, said = free_port(), []
    late = Identity.load_or_create(tmp_path / "late")
    address = f"/ip4/127.0.0.1/tcp/{port}/p2p/{late.host}"
    with SwarmNode(
        tmp_path / "early", NodeOptions(bootstrap=[address], keepalive_seconds=0.5), on_progress=said.append
    ) as early:
        assert not early.wait_joined(0.2) and not early.connected()
        eventually(lambda: any("none of 1 known addresses answers" in line for line in said))
        with SwarmNode(tmp_path / "late", NodeOptions(port=port)) as bootstrap:
            assert early.wait_joined(30)
            eventually(lambda: bootstrap.peer_count() == 1 and early.connected())
            for node in (bootstrap, early):
                node.allow_campaign(COMMON, 64)
            claim = claim_of(bootstrap, early)
            assert early.keep(KEY, CLAIM, claim, 60)
        eventually(lambda: not early.connected())
        with SwarmNode(tmp_path / "late", NodeOptions(port=port)) as bootstrap:  # it restarted and knows nobody
            bootstrap.allow_campaign(COMMON, 64)
            eventually(lambda: bootstrap.peer_count() == 1, 60)
            assert eventually(lambda: bootstrap.read([KEY])[KEY])[early.host, CLAIM] == claim


def test_a_wrong_clock_is_measured_and_corrected(nodes, tmp_path):
    said = []
    with SwarmNode(
        tmp_path / "slow",
        NodeOptions(bootstrap=nodes[0].visible_addresses()),
        on_progress=said.append,
        clock=SwarmClock(lambda: time.time() - 400),
    ) as slow:
        assert abs(slow.dht_time() - nodes[0].dht_time()) < 1
        assert "clock is 400 s behind" in said[0]
        slow.allow_campaign(COMMON, 64)
        claim = claim_of(nodes[0], slow)
        assert slow.put(KEY, CLAIM, claim, 60)
        assert nodes[1].read([KEY])[KEY][slow.host, CLAIM] == claim


def test_what_a_person_got_wrong_is_said_in_one_line(nodes, tmp_path):
    with pytest.raises(UsageError, match="not a swarm address"):
        NodeOptions(bootstrap=["example.org:4001"])
    with pytest.raises(UsageError, match="not an IP address"):
        NodeOptions(listen="example.org")
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        with pytest.raises(UsageError, match="choose another port"):
            SwarmNode(tmp_path / "a", NodeOptions(port=busy.getsockname()[1])).start()


def test_a_node_in_client_mode_works_but_is_in_nobodys_table(nodes, tmp_path):
    from protocol.swarm.hivemind_parts import PeerID

    with SwarmNode(
        tmp_path / "client", NodeOptions(bootstrap=nodes[0].visible_addresses(), client_mode=True)
    ) as client:
        assert client.wait_joined(10) and client.connected()
        client.allow_campaign(COMMON, 64)
        claim = claim_of(nodes[0], client)
        assert client.put(KEY, CLAIM, claim, 60)
        assert nodes[1].read([KEY])[KEY][client.host, CLAIM] == claim
        peer = PeerID.from_base58(client.host)
        assert all(node.dht.link.node.protocol.routing_table.get(peer_id=peer) is None for node in nodes)


def test_peers_of_last_time_help_when_every_bootstrap_address_is_dead(nodes, tmp_path):
    eventually(lambda: nodes[2].host in " ".join(nodes[1].known_addresses()))
    dead = f"/ip4/127.0.0.1/tcp/{free_port()}/p2p/{nodes[0].host}"
    known = nodes[2].visible_addresses()
    with SwarmNode(tmp_path / "again", NodeOptions(bootstrap=[dead], known=known)) as node:
        assert node.wait_joined(10) and node.connected()
        assert node.organizer == nodes[0].host


def test_a_manifest_counts_only_from_the_organizer(nodes):
    assert not nodes[2].put(manifest_key(), BARE, SwarmManifest((), 0, "", 1, ""), 60)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
