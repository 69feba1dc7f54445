"""The simulated world's own parts: if these are wrong, no seed means anything."""

import msgspec
import pytest

from protocol.engine.initial import initial_state
from protocol.engine.streams import task_data
from protocol.engine.training import advance
from protocol.errors import Refused
from protocol.recipes.campaign import Policy
from protocol.trust.challenge import challenge, draw_cells
from protocol.trust.envelope import seal, unseal
from protocol.trust.messages import BlobPart, Upload
from simulation import chance
from simulation.actors.liars import LIES, Kind, bad_cells
from simulation.environment.crypto import CheapIdentity, cheap_signatures
from simulation.environment.dht import Dht, Node
from simulation.environment.disk import Disk, DiskFull
from simulation.environment.engine import HashEngine, Truth
from simulation.environment.kernel import Crashed, Kernel, Task, branch
from simulation.environment.network import CALL_SECONDS, Away, Network
from simulation.faults import times
from simulation.options import draw, recipe


def test_events_happen_in_time_and_at_one_moment_in_the_order_of_asking():
    kernel, seen = Kernel(), []
    kernel.after(2, seen.append, "late")
    kernel.after(1, seen.append, "first")
    kernel.after(1, seen.append, "second")
    kernel.after(1, seen.append, "never").cancel()
    kernel.run(10)
    assert seen == ["first", "second", "late"] and kernel.now == 10


def test_a_coroutine_waits_in_simulated_time_and_dies_with_its_host():
    kernel, seen = Kernel(), []

    async def work(name, dead):
        try:
            await kernel.sleep(5)
            seen.append((name, kernel.now))
        finally:
            if dead:
                raise Crashed

    Task(work("alice", False), lambda _: seen.append("done"))
    bob = Task(work("bob", True), lambda _: seen.append("bob is done"))
    kernel.after(1, bob.kill)
    kernel.run(10)
    assert seen == [("alice", 5.0), "done"]


def test_streams_of_one_seed_do_not_disturb_each_other():
    assert branch(1, "a").random() == branch(1, "a").random() != branch(1, "b").random()


def make_network(**options) -> tuple[Kernel, Network]:
    kernel = Kernel()
    return kernel, Network(kernel, branch(3, "network"), **options)


def test_a_call_is_answered_once_whatever_the_network_does():
    kernel, network = make_network(loss=0.2, duplication=0.3)
    served, heard = [], []
    for i in range(200):
        network.call("host", "server", lambda i=i: served.append(i) or i, (), heard.append)
    kernel.run(CALL_SECONDS + 1)
    away = [reply for reply in heard if isinstance(reply, Away)]
    assert len(heard) == 200 and 20 < len(away) < 120
    assert len(served) > len(set(served)), "some requests came twice"
    assert set(range(200)) - {reply for reply in heard if not isinstance(reply, Away)} & set(served), (
        "done, and not heard"
    )


def test_a_split_network_cuts_both_ways_until_it_heals():
    kernel, network = make_network()
    heard = []
    network.split([["server"], ["far"]])
    assert network.reaches("server", "near") and not network.reaches("server", "far")
    network.call("far", "server", lambda: "yes", (), heard.append)
    kernel.run(CALL_SECONDS + 1)
    network.heal()
    network.call("far", "server", lambda: "yes", (), heard.append)
    kernel.run(2 * CALL_SECONDS)
    assert heard == [Away(), "yes"]


def test_latencies_reorder():
    kernel, network = make_network(latency_seconds=1.0)
    seen = []
    for i in range(50):
        network.send("a", "b", seen.append, (i,))
    kernel.run(60)
    assert sorted(seen) == list(range(50)) != seen


def run(kernel, work):
    """A coroutine's result."""
    result = []
    Task(work, result.append)
    kernel.run(kernel.now + 60)
    return result[0]


def test_records_end_and_only_a_later_end_replaces():
    kernel, network = make_network()
    dht = Dht(kernel, network, branch(3, "dht"))
    alice, bob = Node(dht, "alice"), Node(dht, "bob", skew=-5.0)
    assert run(kernel, alice.put_many([("key", "c", 1, 300.0)])) == [True]
    run(kernel, alice.put_many([("key", "c", 2, 100.0)]))
    assert run(kernel, bob.read(["key"])) == {"key": {("alice", "c"): 1}}
    kernel.run(301)
    assert run(kernel, bob.read(["key"])) == {"key": {}}


def test_readers_share_an_answer_until_something_changes_or_ends():
    kernel = Kernel()
    dht = Dht(kernel, Network(kernel, branch(1)), branch(2))
    dht.store("alice", "key", "d", "one", 10.0)
    first = dht.read("bob", "key")
    assert dht.read("carol", "key") is first == {("alice", "d"): "one"}
    dht.store("bob", "key", "d", "two", 20.0)
    assert first == {("alice", "d"): "one"} and len(dht.read("bob", "key")) == 2
    kernel.run(10.0)
    assert dht.read("bob", "key") == {("bob", "d"): "two"} and dht.read("bob", "other") == {}


def test_both_sides_of_a_split_go_on_from_the_same_records_and_the_later_end_wins():
    kernel, network = make_network()
    dht = Dht(kernel, network, branch(3, "dht"))
    near, far = Node(dht, "near"), Node(dht, "far")
    run(kernel, near.put_many([("key", "c", "before", 900.0)]))
    network.split([[], ["far"]])
    dht.split(2)
    run(kernel, near.put_many([("key", "c", "during", 900.0)]))
    assert run(kernel, far.read(["key"]))["key"] == {("near", "c"): "before"}
    run(kernel, far.put_many([("key", "c", "far", 900.0)]))
    assert ("far", "c") not in run(kernel, near.read(["key"]))["key"]
    network.heal()
    dht.heal()
    assert run(kernel, far.read(["key"]))["key"] == {("near", "c"): "during", ("far", "c"): "far"}


def test_a_dead_node_answers_nothing_more():
    kernel, network = make_network()
    node = Node(Dht(kernel, network, branch(3, "dht")), "host")
    task = Task(node.read(["key"]), lambda _: pytest.fail("it is dead"))
    node.dead = True
    task.kill()
    kernel.run(60)


def test_a_disk_keeps_what_is_whole_and_says_when_it_is_full():
    options, truth = draw(1), Truth()
    disk, assignment = Disk(truth), options.campaign.assignment(0)
    disk.create(assignment)
    seed = assignment.seeds[0]
    for boundary in truth.boundaries(assignment)[seed][:3]:
        disk.append(assignment.index, seed, boundary)
    assert disk.crash(branch(1, "torn"), 0.0) is False and len(disk.bundles[0].paths[seed]) == 3
    disk.append(assignment.index, seed, truth.boundaries(assignment)[seed][3])
    assert disk.crash(branch(1, "torn"), 1.0) and len(disk.bundles[0].paths[seed]) == 3
    assert disk.crash(branch(1, "torn"), 1.0) is False, "nothing was being written"
    disk.full = True
    with pytest.raises(DiskFull):
        disk.append(assignment.index, seed, truth.boundaries(assignment)[seed][3])
    assert disk.free_bytes == 0


def test_training_is_a_pure_function_of_recipe_seed_and_state():
    plain, truth = recipe("plain", 0.0, 4), Truth()
    data = task_data(plain)
    alone = advance(HashEngine(), plain, data, [5], [initial_state(plain, 5)])[0]
    among = advance(HashEngine(), plain, data, [4, 5], [initial_state(plain, s) for s in (4, 5)])[1]
    assert alone.state.digest == among.state.digest == truth.onward(plain, 5, initial_state(plain, 5)).state.digest
    assert truth.leaf(alone) == truth.leaf(truth.onward(plain, 5, initial_state(plain, 5)))


@pytest.mark.parametrize("kind", LIES)
def test_liars_lie_where_they_say_they_do(kind):
    campaign, truth = draw(4).campaign, Truth()
    assignment = max(map(campaign.assignment, range(campaign.assignment_count)), key=lambda a: len(a.seeds))
    honest = truth.boundaries(assignment)
    assert not bad_cells(truth, assignment.recipe, honest)
    bad = bad_cells(truth, assignment.recipe, LIES[kind](truth, assignment.recipe, honest, branch(1, "lie")))
    assert len(bad) == 1 if kind in (Kind.ONE_CELL, Kind.PARTIAL_2) else len(bad) > 1


def test_cheap_signatures_bind_signer_purpose_and_bytes():
    alice, bob = CheapIdentity(branch(1, "alice")), CheapIdentity(branch(1, "bob"))
    with cheap_signatures():
        envelope = seal(alice, Upload(result=bytes(32), part=BlobPart.TRACE, size=1))
        assert unseal(envelope, Upload, signer=alice.host).size == 1
        forged = msgspec.structs.replace(envelope, signer=bob.host)
        with pytest.raises(Refused, match="signature"):
            unseal(forged, Upload)
    assert alice.sign("a", b"x") != alice.sign("b", b"x") != bob.sign("b", b"x")


def test_the_chance_to_escape_is_that_of_the_real_draw():
    policy = Policy(probation_bundles=0, checkers=2, cells=3)
    segments, bad = [5, 5], {(0, 0), (0, 1), (1, 2)}
    drawn = (draw_cells(policy, True, challenge(bytes(32), n.to_bytes(32, "big")), segments) for n in range(4000))
    escaped = sum(not any((c.network, c.segment) in bad for task in tasks for c in task.cells) for tasks in drawn)
    assert escaped / 4000 == pytest.approx(chance.escapes(policy, True, segments, bad), abs=0.02)
    assert chance.escapes(policy, True, segments, {(1, 4)}) == 0.0, "the last segment is always drawn"


def test_many_unlikely_escapes_are_impossible():
    assert chance.at_least(0, [0.1, 0.2]) == pytest.approx(1.0)
    assert chance.at_least(1, [0.1, 0.2]) == pytest.approx(0.28)
    assert chance.at_least(2, [0.1, 0.2]) == pytest.approx(0.02)
    assert chance.at_least(6, [0.05] * 6) < chance.IMPOSSIBLE < chance.at_least(1, [0.05] * 6)


def test_faults_come_at_their_rate_and_end_in_time():
    found = times(branch(1, "faults"), 60.0, 3600.0)
    assert 35 < len(found) < 90 and max(found) < 3600 and not times(branch(1, "faults"), 0.0, 3600.0)
