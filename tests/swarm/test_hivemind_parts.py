"""What we take of hivemind, without what its packages bring. A release that no longer fits fails here."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow  # processes of their own

PARTS = """
import sys
from protocol.swarm import hivemind_parts, hivemind_patches
hivemind_patches.apply(lambda: 0.0)
heavy = {"torch", "hivemind.averaging", "hivemind.moe", "hivemind.optim", "hivemind.dht.dht", "hivemind.utils.mpfuture"}
print(sorted(heavy & set(sys.modules)))
"""
SAME = """
import hivemind
from hivemind.dht import DHTID, DHTNode
from protocol.swarm import hivemind_parts
assert hivemind_parts.DHTNode is DHTNode and hivemind_parts.DHTID is DHTID and hivemind.DHT
"""
NODE = """
import asyncio, sys
from pathlib import Path
from protocol.swarm.addresses import NodeOptions
from protocol.swarm.node import SwarmNode
with SwarmNode(Path(sys.argv[1]), NodeOptions()) as node:
    other = SwarmNode(Path(sys.argv[2]), NodeOptions(bootstrap=node.visible_addresses()[:1])).start()
    assert other.wait_joined(20)
    assert node.run(asyncio.sleep(0, "answered")) == "answered" and other.peer_count() == 1
    other.close()
print([name for name in ("torch", "hivemind.dht.dht") if name in sys.modules])
"""


def run(source: str, *arguments: str) -> str:
    command = [sys.executable, "-P", "-W", "ignore", "-c", source, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_our_parts_of_hivemind_come_without_torch_and_without_its_packages():
    assert run(PARTS) == "[]"


def test_in_a_program_that_has_the_whole_of_hivemind_the_parts_are_its_own():
    run(SAME)


@pytest.mark.swarm
def test_two_nodes_meet_without_torch(tmp_path):
    assert run(NODE, str(tmp_path / "a"), str(tmp_path / "b")) == "[]"
