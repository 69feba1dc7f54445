"""Two organizers whose nodes know each other: connected, and yet two swarms."""

import contextlib
import time

import pytest

from protocol.engine import ENGINE
from protocol.swarm.addresses import NodeOptions
from protocol.swarm.node import SwarmNode
from protocol.swarm.records import CLAIM, DONE, CampaignEntry, Claim, Done, SwarmManifest, claims_key
from protocol.trust import allowance as allowances
from protocol.trust.identity import Identity

pytestmark = pytest.mark.swarm
CAMPAIGNS = {"a": "aa" * 32, "b": "bb" * 32}


@pytest.fixture
def swarms(tmp_path):
    """{name: (organizer, host)}; those of b dialled a's organizer, too."""
    with contextlib.ExitStack() as stack:
        found, bootstrap = {}, []
        for name in CAMPAIGNS:
            home = tmp_path / name
            organizer = Identity.load_or_create(home).host
            begin = NodeOptions(bootstrap=bootstrap, keepalive_seconds=1.0)
            first = stack.enter_context(SwarmNode(home, begin, organizer=organizer))
            bootstrap = [*bootstrap, *first.visible_addresses()]
            options = NodeOptions(bootstrap=bootstrap, keepalive_seconds=1.0)
            found[name] = (first, stack.enter_context(SwarmNode(tmp_path / f"{name}1", options, organizer=organizer)))
        eventually(lambda: all(node.peer_count() == 1 for nodes in found.values() for node in nodes))
        yield found


def test_two_organizers_whose_nodes_are_connected_are_two_swarms(swarms):
    """What one organizer says, his hosts hear; what his hosts claim, they see; the others hear nothing of it."""
    met = swarms["b"][1].run(swarms["b"][1].dht.link.met())
    assert swarms["a"][0].host in met, "they are connected"
    claims = {}
    for name, (organizer, one) in swarms.items():
        entry = CampaignEntry(bytes.fromhex(CAMPAIGNS[name]), 64)
        assert organizer.publish_manifest(SwarmManifest((entry,), 1, f"127.0.0.1:{ord(name)}", 1, ENGINE))
        eventually(one.manifest)
        end = int(organizer.dht_time()) + 3600
        claims[name] = Claim(1, 1, allowances.allow(organizer.identity, one.host, 8, 1800, end))
        assert one.put(claims_key(CAMPAIGNS[name], 0), CLAIM, claims[name], 60)
        assert organizer.put(claims_key(CAMPAIGNS[name], 0), DONE, Done(2), 60)
    for name, (organizer, one) in swarms.items():
        assert one.coordinator() == f"127.0.0.1:{ord(name)}"
        key = claims_key(CAMPAIGNS[name], 0)
        assert organizer.read([key])[key] == {(one.host, CLAIM): claims[name], (organizer.host, DONE): Done(2)}
    for name, other in (("a", "b"), ("b", "a")):
        key = claims_key(CAMPAIGNS[other], 0)
        for node in swarms[name]:
            assert CAMPAIGNS[other] not in node.space.campaigns
            assert not node.put(key, CLAIM, claims[other], 60), "not of this swarm"


def eventually(ask, seconds=60.0):
    end = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)
    return answer
