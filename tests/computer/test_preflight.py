"""What could stand in the way, judged from facts; and the speed, measured."""

from typing import Any

import pytest

from peer.computer.preflight import CLOCK_SECONDS, Facts, is_public, judge, steps_per_second

GB = 10**9
FINE: dict[str, Any] = {
    "answer_seconds": 0.02,
    "clock_ahead": 1.0,
    "nodes": 3,
    "memory_limit": 4 * GB,
    "memory_free": 8 * GB,
    "disk_limit": 20 * GB,
    "disk_free": 40 * GB,
    "threads": 2,
    "cores": 4,
    "steps_per_second": 1234.5,
}


def words(**facts: Any) -> dict[str, tuple[bool, str]]:
    return {finding.what: (finding.well, finding.words) for finding in judge(Facts(**(FINE | facts)))}


def test_a_computer_on_which_all_is_well():
    found = words()
    assert list(found) == ["coordinator", "clock", "swarm", "reachable", "memory", "disk", "processor"]
    assert all(well for well, _ in found.values())
    assert found["coordinator"][1].startswith("answers in 20 ms") and "1,234 network-steps" in found["processor"][1]


@pytest.mark.parametrize(
    ("facts", "what", "told"),
    [
        ({"clock_ahead": CLOCK_SECONDS + 3570}, "clock", "3,600 s behind the organizer's"),
        ({"clock_ahead": -3600.0}, "clock", "3,600 s ahead of the organizer's"),
        ({"nodes": 0}, "swarm", "no other node answers"),
        ({"memory_limit": GB // 2}, "memory", "--memory"),
        ({"memory_free": GB // 2}, "memory", "close programs"),
        ({"disk_free": GB}, "disk", "--dir on another disk"),
    ],
)
def test_what_stands_in_the_way_is_named_with_the_mend(facts, what, told):
    found = words(**facts)
    assert not found[what][0] and told in found[what][1]
    assert all(well for name, (well, _) in found.items() if name != what)


def test_how_others_reach_us():
    public, relayed = "/ip4/93.184.216.34/tcp/4001/p2p/X", "/ip4/93.184.216.34/tcp/1/p2p/Y/p2p-circuit/p2p/X"
    home = "/ip4/192.168.1.7/tcp/4001/p2p/X"
    assert "from this computer only" in words(addresses=[public])["reachable"][1]
    everywhere = {"listen": "0.0.0.0"}
    assert "announced as /ip4/93.184.216.34/tcp/4001," in words(addresses=[home, public], **everywhere)["reachable"][1]
    assert "through a relay" in words(addresses=[home, relayed], **everywhere)["reachable"][1]
    assert "own network only" in words(addresses=[home], **everywhere)["reachable"][1]
    assert [is_public(a) for a in (public, home, "/dns4/zoo.example/tcp/1", "/ip4/x/tcp/1", "", "/ip6/::1/tcp/1")] == [
        True,
        False,
        True,
        False,
        False,
        False,
    ]


def test_what_was_not_tried_is_not_judged():
    assert "coordinator" not in words(answer_seconds=None) and "swarm" not in words(nodes=None)
    assert words(steps_per_second=None)["processor"] == (True, "2 of 4 cores")


def test_the_speed_is_measured():
    at = iter(range(100))
    assert steps_per_second("numpy", 1, "cpu", clock=lambda: 0.3 * next(at)) == pytest.approx(16 * 4 / 0.6)
