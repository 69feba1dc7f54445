"""Who goes next, who waits and who is cut off: the doors' rules, without a network."""

import asyncio
import threading
from collections import Counter

import pytest

from coordinator.server.doors import limits, places
from coordinator.server.doors.callers import Caller, Callers
from coordinator.server.doors.limits import BYTES_PER_SECOND_MIN, PATIENCE_SECONDS, patience
from coordinator.server.doors.places import Places
from coordinator.server.doors.turns import FAIR_TURN, Lane, Turns
from coordinator.server.doors.workers import Workers
from coordinator.server.handlers import Busy


def all_of(turns: Turns[str]) -> list[str]:
    return [item for item in iter(turns.take, None) if item is not None]


def test_who_joins_goes_first_and_who_watches_last():
    turns: Turns[str] = Turns(100)
    for lane in (Lane.GUEST, Lane.HOST, Lane.STANDING, Lane.JOIN):
        assert turns.put(lane, "a", lane.name)
    assert all_of(turns) == ["JOIN", "STANDING", "HOST", "GUEST"] and len(turns) == 0


def test_a_crowd_at_one_address_is_one_caller_to_the_others():
    turns: Turns[str] = Turns(100)
    for number in range(5):
        assert turns.put(Lane.HOST, "crowd", f"crowd {number}")
    assert turns.put(Lane.HOST, "alone", "alone")
    assert all_of(turns)[:3] == ["crowd 0", "alone", "crowd 1"]


def test_no_lane_waits_for_ever():
    turns: Turns[str] = Turns(100)
    turns.put(Lane.GUEST, "a", "guest")
    taken = []
    while "guest" not in taken:
        turns.put(Lane.JOIN, "b", "join")
        taken.append(turns.take())
    assert len(taken) <= FAIR_TURN


def test_one_address_never_fills_the_room_and_who_joins_finds_some():
    turns: Turns[int] = Turns(20)
    assert sum(turns.put(Lane.HOST, "crowd", n) for n in range(30)) == 10
    assert sum(turns.put(Lane.HOST, f"other {n}", n) for n in range(30)) == 8
    assert sum(turns.put(Lane.JOIN, f"new {n}", n) for n in range(30)) == 2


def test_a_peers_name_is_taken_apart():
    assert Caller.of("ipv4:192.0.2.7:40123") == Caller("ipv4:192.0.2.7:40123", "192.0.2.7")
    assert Caller.of("ipv6:%5B2001:db8::1%5D:5").address == "2001:db8::1"


def test_the_eldest_silent_call_goes_when_there_are_too_many_and_only_at_its_own_address():
    callers, cut = Callers(per_connection=3, per_address=5, silent_max=8), []

    def enter(name: str, address: str, connection: int = 0) -> int:
        return callers.enter(Caller(f"{address}:{connection}", address), lambda: cut.append(name))

    for number in range(4):
        enter(f"a{number}", "a")
    assert cut == ["a0"]  # of one connection
    enter("a4", "a", 1)
    enter("a5", "a", 1)
    assert cut == ["a0"]
    enter("a6", "a", 2)
    assert cut == ["a0", "a1"]  # of one address
    honest = enter("b", "b")
    for number in range(3):
        enter(f"c{number}", "c")
    assert cut == ["a0", "a1", "a2"] and callers.silent() == 8  # of all: the fullest address pays
    caller = Caller("b:0", "b")
    assert callers.speaks(honest, caller)
    assert callers.silent() == 7
    callers.leave(honest, caller, spoke=True)
    assert callers.silent() == 7


def test_calls_that_speak_are_counted_by_address_and_come_free_again():
    callers, caller = Callers(open_per_address=2), Caller("a:1", "a")
    numbers = [callers.enter(caller, lambda: None) for _ in range(3)]
    assert [callers.speaks(number, caller) for number in numbers] == [True, True, False]
    callers.leave(numbers[2], caller, spoke=True)
    callers.leave(numbers[1], caller, spoke=True)
    again = callers.enter(caller, lambda: None)
    assert (
        callers.speaks(again, caller)
        and callers.speaks(callers.enter(Caller("b:1", "b"), lambda: None), caller) is False
    )


def test_a_stream_may_pause_but_not_trickle():
    assert patience(0, 0.0) == PATIENCE_SECONDS and patience(0, PATIENCE_SECONDS + 1) < 0
    assert patience(100 * BYTES_PER_SECOND_MIN, 100.0) == PATIENCE_SECONDS  # as fast as it must be
    assert patience(3600, 3600.0) < 0  # a byte a second
    assert limits.TRANSFER_SECONDS_MAX > 4 * PATIENCE_SECONDS


def test_places_are_waited_for_and_one_address_or_key_never_has_them_all():
    async def play() -> None:
        taken: Counter[str] = Counter()
        go = asyncio.Event()
        seats = Places(4, per_key=1)

        async def sit(address: str, key: str = "") -> None:
            async with seats.take(address, key):
                taken[address] += 1
                await go.wait()

        crowd = [asyncio.create_task(sit("crowd")) for _ in range(6)]
        await asyncio.sleep(0)
        assert taken["crowd"] == 2
        keys = [asyncio.create_task(sit("k", "one")) for _ in range(2)]
        alone = asyncio.create_task(sit("alone"))
        await asyncio.sleep(0)
        assert taken == {"crowd": 2, "k": 1, "alone": 1}
        crowd[-1].cancel()  # gone while it waits
        go.set()
        await asyncio.gather(*crowd[:-1], *keys, alone)
        assert taken == {"crowd": 5, "k": 2, "alone": 1}
        async with seats.take("again"), seats.take("again"):  # all came free
            pass

    asyncio.run(play())


def test_too_many_that_wait_for_a_place_are_told_so(monkeypatch):
    monkeypatch.setattr(places, "WAITING_FOR_PLACE_MAX", 1)

    async def play() -> None:
        seats = Places(1)
        async with seats.take("a"):
            waiting = asyncio.create_task(seats.take("b").__aenter__())
            await asyncio.sleep(0)
            with pytest.raises(Busy):
                await seats.take("c").__aenter__()
        await waiting

    asyncio.run(play())


def test_who_joins_overtakes_those_that_wait_for_a_thread_and_who_went_away_is_left_out():
    done: list[str] = []
    busy, go = threading.Event(), threading.Event()

    def block() -> None:
        busy.set()
        go.wait(10)

    async def play(workers: Workers) -> None:
        async def ask(lane: Lane, name: str) -> None:
            await workers.do(lane, name, done.append, name)

        first = asyncio.create_task(workers.do(Lane.HOST, "x", block))
        await asyncio.to_thread(busy.wait, 10)
        asked = [
            (Lane.GUEST, "watcher"),
            (Lane.HOST, "gone"),
            (Lane.HOST, "host"),
            (Lane.STANDING, "old"),
            (Lane.JOIN, "new"),
        ]
        tasks = {name: asyncio.create_task(ask(lane, name)) for lane, name in asked}
        await asyncio.sleep(0)
        tasks.pop("gone").cancel()
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(first, *tasks.values())

    workers = Workers(1)
    asyncio.run(play(workers))
    workers.close()
    assert done == ["new", "old", "host", "watcher"]


def test_what_a_thread_raises_reaches_the_caller_and_no_room_is_said():
    def fail() -> None:
        raise OSError("full")

    async def play(workers: Workers) -> None:
        with pytest.raises(OSError, match="full"):
            await workers.do(Lane.HOST, "a", fail)
        assert await workers.do(Lane.HOST, "a", sum, [1, 2]) == 3

    workers = Workers(1)
    asyncio.run(play(workers))
    workers.close()

    async def late() -> None:
        with pytest.raises(Busy):
            await workers.do(Lane.JOIN, "a", sum, [1])

    asyncio.run(late())
