"""What claiming promises, told once and run over the fake swarm and over real nodes."""

import asyncio


async def until(swarm, ask, seconds, pause=0.2):
    """Ask again until the answer is truthy. Fails after `seconds`."""
    end = swarm.clock() + seconds
    while True:
        answer = await ask()
        if answer:
            return answer
        assert swarm.clock() < end, "it did not happen in time"
        await asyncio.sleep(pause)


async def work_all(swarm, hosts, board, assignments, batch, work_seconds=0.0, deadline=120.0):
    """Every host claims and finishes until all is done; returns who won what, in order."""
    wins = []

    async def worker(claims):
        end = swarm.clock() + deadline
        while swarm.clock() < end:
            won = await swarm.on(claims, claims.claim(batch))
            if won is None:
                return
            wins.extend((index, claims.node.host) for index in won)
            if won:
                await asyncio.sleep(work_seconds)
                board.mark(won)
                await until(swarm, lambda: published(swarm, board), 20)
                await swarm.on(claims, claims.renew())
            else:
                await asyncio.sleep(0.3)
        raise AssertionError("not done in time")

    await asyncio.gather(*(worker(claims) for claims in hosts))
    return wins


async def published(swarm, board):
    return await swarm.on(board, board.publish()) == 0


async def hosts_share_the_work(swarm, count=3, assignments=96, batch=4):
    hosts = [swarm.host(name, assignments) for name in names(count)]
    wins = await work_all(swarm, hosts, swarm.board(assignments), assignments, batch)
    won = [index for index, _ in wins]
    assert sorted(won) == list(range(assignments)), "each assignment once: no duplicate, nothing left"
    assert len({host for _, host in wins}) == count, "everybody got something"
    assert all(not claims.mine() for claims in hosts), "what the organizer took is not held any longer"


async def a_dead_hosts_work_goes_to_another(swarm):
    alice, bob = (swarm.host(name, 5) for name in ("alice", "bob"))
    board = swarm.board(5)
    first = await until(swarm, lambda: swarm.on(alice, alice.claim(3)), 10)
    board.mark(set(range(5)) - set(first))
    await until(swarm, lambda: published(swarm, board), 20)
    assert await swarm.on(bob, bob.claim(3)) == []
    start = swarm.clock()
    await swarm.crash(alice)
    again = await until(swarm, lambda: swarm.on(bob, bob.claim(3)), swarm.lease + 30)
    assert sorted(again) == sorted(first)
    assert swarm.clock() - start > swarm.lease / 2, "the lease protects a host that is only slow"


async def banned_hosts_do_not_count(swarm):
    mallory, bob = swarm.host("mallory", 4), swarm.host("bob", 4)
    await until(swarm, lambda: swarm.on(mallory, mallory.claim(4)), 10)
    assert await swarm.on(bob, bob.claim(4)) == []
    bob.banned = {mallory.node.host}
    assert sorted(await until(swarm, lambda: swarm.on(bob, bob.claim(4)), 10)) == [0, 1, 2, 3]


async def a_cleared_done_bit_opens_the_assignment_again(swarm):
    alice, board = swarm.host("alice", 70), swarm.board(70)
    board.mark(range(70))
    await until(swarm, lambda: published(swarm, board), 20)
    assert await swarm.on(alice, alice.claim(4)) is None
    board.clear([66])
    await until(swarm, lambda: published(swarm, board), 20)
    assert await until(swarm, lambda: swarm.on(alice, alice.claim(4)), 20) == [66]


async def claims_are_held_until_the_organizer_has_the_results(swarm):
    alice, bob, board = swarm.host("alice", 2), swarm.host("bob", 2), swarm.board(2)
    mine = await until(swarm, lambda: swarm.on(alice, alice.claim(2)), 10)
    for _ in range(3):
        assert (await swarm.on(alice, alice.renew())).done == ()
        assert await swarm.on(bob, bob.claim(2)) == []
    assert await swarm.on(alice, alice.confirm_still_mine(mine[0]))
    board.mark(mine)
    await until(swarm, lambda: published(swarm, board), 20)
    assert (await swarm.on(alice, alice.renew())).done == tuple(sorted(mine))
    assert alice.mine() == [] and not await swarm.on(alice, alice.confirm_still_mine(mine[0]))
    assert await swarm.on(bob, bob.claim(2)) is None


async def released_work_is_free_at_once(swarm):
    alice, bob = swarm.host("alice", 3), swarm.host("bob", 3)
    mine = await until(swarm, lambda: swarm.on(alice, alice.claim(3)), 10)
    await swarm.on(alice, alice.release(mine[:2]))
    assert sorted(await until(swarm, lambda: swarm.on(bob, bob.claim(3)), 10)) == sorted(mine[:2])


def names(count):
    return [f"host{i}" for i in range(count)]


STORIES = [
    hosts_share_the_work,
    a_dead_hosts_work_goes_to_another,
    banned_hosts_do_not_count,
    a_cleared_done_bit_opens_the_assignment_again,
    claims_are_held_until_the_organizer_has_the_results,
    released_work_is_free_at_once,
]
