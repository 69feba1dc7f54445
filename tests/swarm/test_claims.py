"""Claiming over an in-memory swarm: the stories of `claim_stories`, then many hosts, faults and long lists."""

import asyncio

import pytest
from support.swarms.claim_stories import STORIES, names, work_all
from support.swarms.fake_swarm import CAMPAIGN, FakeSwarm, run_virtual

from protocol.swarm import claim_rules as rules
from protocol.swarm.claim_rules import Held, View
from protocol.swarm.records import Claim, Done
from protocol.trust.allowance import Allowance


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_story(story):
    run_virtual(story(FakeSwarm(seed=1)))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_forty_hosts_win_every_assignment_exactly_once(seed):
    swarm = FakeSwarm(seed=seed, latency=0.1, settle=1.0)
    print(f"seed {seed}")
    wins = run_virtual(crowd(swarm, count=40, assignments=1000, batch=8, work_seconds=0.5))
    won = [index for index, _ in wins]
    assert sorted(won) == list(range(1000))


def test_the_crowd_does_collide_when_nobody_waits(monkeypatch):
    """The control: without settling the same crowd duplicates work, so the test above can fail."""
    monkeypatch.setattr(rules, "settle_seconds", lambda floor, samples: 0.0)
    monkeypatch.setattr(rules, "is_late", lambda took, settle: False)
    wins = run_virtual(crowd(FakeSwarm(seed=1, latency=0.1), count=40, assignments=1000, batch=8))
    assert len(wins) > len({index for index, _ in wins})


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_tenth_of_all_calls_may_fail(seed):
    swarm = FakeSwarm(seed=seed, latency=0.1, settle=1.0, failure=0.1, lease=20)
    print(f"seed {seed}")
    wins = run_virtual(crowd(swarm, count=20, assignments=200, batch=4, deadline=1000.0))
    assert {index for index, _ in wins} == set(range(200))
    # A confirmation that arrived although its sender was told it did not only blocks, until the lease ends.
    assert len(wins) == 200


def test_hosts_of_very_different_speed_do_not_collide():
    async def story():
        swarm = FakeSwarm(seed=4, settle=0.5)
        hosts = [swarm.host(name, 128, latency=0.05 * 3**i) for i, name in enumerate(names(5))]  # up to 4 s a call
        return await work_all(swarm, hosts, swarm.board(128), 128, 4, deadline=600.0)

    wins = run_virtual(story())
    assert sorted(index for index, _ in wins) == list(range(128))


def test_a_small_swarm_claims_quickly():
    async def story():
        swarm = FakeSwarm(settle=0.5, latency=0.02)
        alice = swarm.host("alice", 3)
        assert len(await alice.claim(3) or []) == 3
        return swarm.clock()

    assert run_virtual(story()) < 0.7


def test_a_quota_leaves_the_rest_of_the_campaign_alone():
    async def story():
        swarm = FakeSwarm(settle=0.5, latency=0.02)
        hosts = [swarm.host(name, 200) for name in names(3)]
        won = [index for host in hosts for index in await host.claim(4, below=5) or []]
        assert sorted(won) == list(range(5)) and await hosts[0].claim(4, below=5) == []
        assert set(await hosts[0].claim(2, below=130) or []) < set(range(5, 130)), "it was raised"

    run_virtual(story())


def test_claiming_from_a_long_list_costs_little():
    """100,000 assignments, nearly all done: a claim reads a bounded number of keys and still finds the last ones."""

    async def story():
        swarm = FakeSwarm(latency=0.01, settle=0.1)
        board, alice = swarm.board(100_000), swarm.host("alice", 100_000)
        left = {70, 99_999}
        board.mark(set(range(100_000)) - left)
        while await board.publish():
            pass
        won, calls, answer = [], 0, None
        while len(won) < 2:
            before = alice.node.keys_read
            won += await alice.claim(4) or []
            calls += 1
            assert alice.node.keys_read - before <= 64 + 3, "64 shards, then the looks of up to three contests"
        assert set(won) == left and calls <= 2 * 1563 // 48
        board.mark(won)
        await board.publish()
        for _ in range(1 + 1563 // 48):
            answer = await alice.claim(4)
        assert answer is None
        fresh = swarm.host("fresh", 100_000)
        board.clear(range(100_000))
        while await board.publish():
            pass
        assert len(await fresh.claim(4) or []) == 4 and fresh.node.keys_read == 2, "one look, one more after settling"

    run_virtual(story())


def test_a_host_that_slept_gives_way_to_who_took_over():
    async def story():
        swarm = FakeSwarm(lease=10)
        for trial in range(8):  # whoever has precedence by hash
            sleeper, other = swarm.host(f"sleeper{trial}", 4), swarm.host(f"other{trial}", 4)
            mine = await sleeper.claim(2) or []
            await asyncio.sleep(11)
            taken = await other.claim(4) or []
            assert set(mine) <= set(taken)
            renewal = await sleeper.renew()
            assert sorted(renewal.lost) == sorted(mine) and sleeper.mine() == []
            assert (await other.renew()).lost == () and sorted(other.mine()) == sorted(taken)
            await other.release(taken)

    run_virtual(story())


def test_a_squatter_cannot_stop_a_campaign():
    """Two claim all they may and renew for ever; after a while the others work anyway."""

    async def story():
        swarm = FakeSwarm(lease=30)
        squatters, honest = [swarm.host(f"s{i}", 100) for i in (1, 2)], [swarm.host(name, 100) for name in names(3)]
        taken = [await claims.claim(64) or [] for claims in squatters for _ in range(2)]
        assert sum(map(len, taken)) == 100 and max(map(len, taken)) <= 64
        for claims in honest:
            claims.patience = 300.0
            assert await claims.claim(4) == []
        for _ in range(31):
            await asyncio.sleep(10)
            for claims in squatters:
                await claims.renew()
        won = [index for claims in honest for index in await claims.claim(4) or []]
        assert len(won) == len(set(won)) == 12

    run_virtual(story())


def test_a_short_patience_is_part_of_the_allowance():
    async def story():
        swarm = FakeSwarm(lease=30)
        slow, honest = swarm.host("slow", 4), swarm.host("honest", 4)
        slow.allowance = Allowance(8, 100, 1 << 39, bytes(64))
        assert len(await slow.claim(4) or []) == 4 and await honest.claim(4) == []
        for _ in range(11):
            await asyncio.sleep(10)
            await slow.renew()
        assert len(await honest.claim(4) or []) == 4

    run_virtual(story())


def test_who_claims_more_than_it_may_claims_nothing():
    """One key claims eight in each of eight shards, each record within its allowance: whoever sees more than one
    shard at a time believes none of it."""

    async def story():
        swarm = FakeSwarm()
        greedy, honest = swarm.host("greedy", 512), swarm.host("honest", 512)
        greedy.allowance = Allowance(8, 1800, 1 << 39, bytes(64))
        for shard in range(8):
            greedy.held[shard] = Held(claimed=255, confirmed=255)
        await greedy._store(list(range(8)))
        views = await honest._look(list(range(8)))
        assert all(view.taken == 0 for view in views.values())
        assert (await honest._look([3]))[3].taken == 255, "of one shard nobody can tell"
        assert await greedy.claim(4) == [], "an honest program does not even try"

    run_virtual(story())


def test_two_confirmed_holders_agree_on_who_goes_on():
    """After a partition both sides hold the same assignments: exactly one of the two keeps each."""

    async def story():
        swarm = FakeSwarm()
        alice, bob = swarm.host("alice", 64), swarm.host("bob", 64)
        for claims in (alice, bob):
            claims.held[0] = Held(claimed=2**64 - 1, confirmed=2**64 - 1, stored_at=swarm.clock())
            await claims._store([0])
        assert [await alice.confirm_still_mine(i) for i in range(64)] == [
            not await bob.confirm_still_mine(i) for i in range(64)
        ]
        lost = {*(await alice.renew()).lost}, {*(await bob.renew()).lost}
        assert lost[0] | lost[1] == set(range(64)) and not lost[0] & lost[1]
        assert alice.mine() and bob.mine()

    run_virtual(story())


def test_a_restarted_host_takes_up_its_own_work():
    async def story():
        swarm = FakeSwarm()
        alice, board = swarm.host("alice", 6), swarm.board(6)
        mine = await alice.claim(4) or []
        board.mark(mine[:1])
        await board.publish()
        reborn = swarm.host("alice", 6)
        assert sorted(await reborn.resume(mine)) == sorted(mine[1:])
        bob = swarm.host("bob", 6)
        assert not set(await bob.claim(6) or []) & set(mine)
        return reborn

    run_virtual(story())


def test_a_host_out_of_reach_claims_nothing_and_forgets_nothing():
    async def story():
        swarm = FakeSwarm()
        alice, bob = swarm.host("alice", 6), swarm.host("bob", 6)
        mine = await alice.claim(2) or []
        alice.node.up = False
        assert await alice.claim(2) == []
        assert (await alice.renew()).lost == () and alice.mine() == sorted(mine)
        await asyncio.sleep(swarm.lease + 1)
        (taken,) = await bob.claim(1) or []
        other = next(i for i in range(6) if i not in (*mine, taken))
        reborn = swarm.host("alice", 6)  # with bundles on its disk, one of which bob took meanwhile
        reborn.node.up = False
        assert sorted(await reborn.resume([taken, other])) == sorted([taken, other])
        reborn.node.up = True
        assert (await reborn.renew()).lost == (taken,) and reborn.mine() == [other]
        assert other not in (await bob.claim(6) or [])

    run_virtual(story())


def test_precedence_is_done_then_confirmed_then_the_lower_hash():
    def decide(view, late=False):
        return rules.settled_bits(view, 0b1, CAMPAIGN, "me", 0, late)

    loser = next(f"h{i}" for i in range(99) if rules.beats("me", f"h{i}", CAMPAIGN, 0, 0))
    winner = next(f"h{i}" for i in range(99) if not rules.beats("me", f"h{i}", CAMPAIGN, 0, 0))
    assert decide(View()) == 1
    assert decide(View(done=1)) == 0
    assert decide(View(others={loser: Claim(1, 0)})) == 1
    assert decide(View(others={winner: Claim(1, 0)})) == 0
    assert decide(View(others={loser: Claim(1, 1)})) == 0
    assert decide(View(others={loser: Claim(1, 0)}), late=True) == 0
    assert decide(View(), late=True) == 1
    assert decide(View(others={winner: Claim(2, 2)})) == 1  # somebody else's assignment


def test_views_leave_out_ourselves_the_banned_and_strangers_words_about_what_is_done():
    entries = {
        ("me", "c"): Claim(1, 1),
        ("mallory", "c"): Claim(2, 2),
        ("bob", "c"): Claim(4, 0),
        ("carol", "c"): Claim(0, 0),
        ("bob", "d"): Done(8),
        ("organizer", "d"): Done(16),
    }
    view = rules.view_of(entries, "me", "organizer", {"mallory"})
    assert view == View(16, {"bob": Claim(4, 0)}) and view.taken == 4


def test_a_claim_is_watched_from_when_each_of_its_bits_was_first_seen():
    early, later = View(others={"bob": Claim(0b0011, 0b0001)}), View(others={"bob": Claim(0b0110, 0b0110)})
    seen = rules.remember({}, early, 100.0)
    assert rules.remember(seen, early, 150.0) == seen == {"bob": ((0b0011, 100.0),)}
    seen = rules.remember(seen, later, 200.0)
    assert seen == {"bob": ((0b0010, 100.0), (0b0100, 200.0))}
    assert rules.remember(seen, View(), 250.0) == {}, "whoever let go begins anew"
    assert rules.without_overdue(later, seen, 400.0, patience=300.0) is later
    assert rules.without_overdue(later, seen, 401.0, patience=300.0) == View(others={"bob": Claim(0b0100, 0b0100)})
    assert rules.without_overdue(later, seen, 501.0, patience=300.0) == View()


def test_every_host_has_an_order_of_its_own():
    orders = [rules.shards_in_order(CAMPAIGN, name, 6400) for name in names(20)]
    assert all(sorted(order) == list(range(100)) for order in orders)
    assert len({order[0] for order in orders}) > 12


def test_settling_follows_the_slowest_of_our_own_calls():
    assert rules.settle_seconds(1.0, []) == 1.0
    assert rules.settle_seconds(1.0, [0.1] * 20) == 1.0
    assert rules.settle_seconds(0.5, [1.0] * 20) == 1.25
    assert rules.settle_seconds(1.0, [60.0] * 20) == 10.0


async def crowd(swarm, count, assignments, batch, work_seconds=0.0, deadline=300.0):
    hosts = [swarm.host(name, assignments) for name in names(count)]
    return await work_all(swarm, hosts, swarm.board(assignments), assignments, batch, work_seconds, deadline)
