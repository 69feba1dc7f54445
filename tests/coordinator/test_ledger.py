"""The ledger: durable when it says so, whole or absent, many writers at once; and the beacon beside it."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import msgspec
import pytest
from sqlalchemy import func, insert, select
from sqlalchemy.exc import IntegrityError

from coordinator.checking.beacon import Beacon, BeaconExhausted
from coordinator.checking.referee_loop import finish
from coordinator.ledger import heartbeats, settlement
from coordinator.ledger.database import Ledger, LedgerUnavailable, get_meta, set_meta
from coordinator.ledger.heartbeats import Heartbeats
from coordinator.ledger.results import reveal
from coordinator.ledger.settlement import ensure_host
from coordinator.ledger.tables import hosts, meta, refusals
from coordinator.policy.presence import is_present
from protocol.errors import Refused, UsageError
from protocol.trust.challenge import beacon_link, check_link
from protocol.trust.messages import Heartbeat

BEAT = Heartbeat(
    nonce=b"n" * 16,
    name="a",
    device="",
    version="",
    steps_per_second=1.0,
    networks_trained=0,
    checks_done=0,
    holding=(),
)
CHILD = r"""
import sys, threading
from coordinator.ledger.database import Ledger, set_meta
ledger = Ledger(sys.argv[1] + "/ledger.sqlite")
def work(k):
    for i in range(10**6):
        ledger.write(lambda c: set_meta(c, f"{k}", str(i)))
        sys.stdout.write(f"{k} {i}\n")
for k in range(4):
    threading.Thread(target=work, args=(k,)).start()
"""


def test_many_writers_share_commits_and_all_are_durable(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")

    def work(k: int) -> None:
        for i in range(50):
            ledger.write(lambda c, i=i: c.execute(insert(meta).values(key=f"{k}-{i}", value="x")))

    before = ledger.version
    threads = [threading.Thread(target=work, args=(k,)) for k in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.version - before < 800  # fewer commits than writes
    ledger.close()
    again = Ledger(tmp_path / "ledger.sqlite")
    with again.read() as connection:
        assert connection.execute(select(func.count()).select_from(meta)).scalar() == 801
    again.close()


def test_readers_never_wait_for_each_others_connections(tmp_path):
    """Each of 150 threads reads, and reads again meanwhile: they need one connection each, and get it at once."""
    ledger = Ledger(tmp_path / "ledger.sqlite")
    together = threading.Barrier(150, timeout=20)

    def look() -> int:
        with ledger.read() as outer:
            together.wait()  # all hold a connection now
            with ledger.read() as inner:
                assert inner is outer
                found = inner.execute(select(func.count()).select_from(meta)).scalar_one()
            together.wait()
            return found + outer.execute(select(func.count()).select_from(meta)).scalar_one()

    with ThreadPoolExecutor(150) as pool:
        assert {look.result(timeout=30) for look in [pool.submit(look) for _ in range(150)]} == {2}
    ledger.close()


def test_a_reader_that_fails_leaves_nothing_open(tmp_path):
    """A transaction that stayed open would see that moment for ever."""
    ledger = Ledger(tmp_path / "ledger.sqlite")
    with pytest.raises(ZeroDivisionError), ledger.read() as first:
        assert get_meta(first, "epoch", "") == ""
        raise ZeroDivisionError
    ledger.write(lambda connection: set_meta(connection, "epoch", "7"))
    with ledger.read() as second:
        assert get_meta(second, "epoch", "") == "7"
    ledger.close()
    assert first.closed and second.closed


def test_changes_that_are_submitted_together_share_a_commit_and_a_failure_is_its_own(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    gate, before = threading.Event(), ledger.version
    first = ledger.submit(lambda c: gate.wait(20))
    done = [ledger.submit(lambda c, i=i: set_meta(c, f"{i}", "x") or i) for i in range(20)]
    bad = ledger.submit(lambda c: set_meta(c, "bad", "1") or c.execute(insert(meta).values(key="0", value="again")))
    gate.set()
    assert first.result(20) and [change.result(20) for change in done] == list(range(20))
    with pytest.raises(IntegrityError):
        bad.result(20)
    assert ledger.version - before <= 2
    with ledger.read() as connection:
        assert get_meta(connection, "19", "") == "x" and get_meta(connection, "bad", "") == ""
    ledger.close()


def test_what_follows_from_a_change_is_done_though_another_one_failed():
    def change(outcome: object) -> Future:
        future = Future()
        future.set_exception(outcome) if isinstance(outcome, Exception) else future.set_result(outcome)
        return future

    followed = []
    with pytest.raises(LedgerUnavailable, match="disk"):
        finish([(change(n), followed.append) for n in (1, LedgerUnavailable("disk"), 2)])
    assert followed == [1, 2]


def test_a_change_that_raises_leaves_nothing_and_harms_no_neighbour(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    gate = threading.Event()
    waiting = threading.Thread(target=lambda: ledger.write(lambda c: gate.wait(5)))
    waiting.start()

    def bad(connection):
        set_meta(connection, "bad", "1")
        raise Refused("no", "never")

    failures: list[BaseException] = []

    def try_bad() -> None:
        try:
            ledger.write(bad)
        except Refused as error:
            failures.append(error)

    others = [threading.Thread(target=try_bad)]
    others.append(threading.Thread(target=lambda: ledger.write(lambda c: set_meta(c, "good", "1"))))
    for thread in others:
        thread.start()
    gate.set()
    for thread in (waiting, *others):
        thread.join()
    with ledger.read() as connection:
        assert get_meta(connection, "bad", "absent") == "absent" and get_meta(connection, "good", "absent") == "1"
    assert len(failures) == 1
    ledger.close()
    with pytest.raises(LedgerUnavailable):
        ledger.write(lambda c: None)


def test_what_was_answered_survives_sigkill(tmp_path):
    child = subprocess.Popen([sys.executable, "-uc", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    answered: dict[str, int] = {}
    deadline = time.monotonic() + 20
    while sum(answered.values()) < 100 and time.monotonic() < deadline:
        k, i = child.stdout.readline().split()
        answered[k] = int(i)
    os.kill(child.pid, signal.SIGKILL)
    for line in child.stdout.read().splitlines():
        if len(line.split()) == 2:
            answered[line.split()[0]] = int(line.split()[1])
    child.stdout.close()
    child.wait()
    ledger = Ledger(tmp_path / "ledger.sqlite")
    with ledger.read() as connection:
        for k, i in answered.items():
            assert int(get_meta(connection, k, "-1")) >= i
    ledger.close()


def test_an_unwritable_ledger_is_named_and_changes_nothing(tmp_path):
    with pytest.raises(UsageError, match="missing"):
        Ledger(tmp_path / "missing" / "ledger.sqlite")
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.write(lambda c: set_meta(c, "a", "1"))
    with pytest.raises(LedgerUnavailable, match=r"ledger\.sqlite"):
        ledger.write(lambda c: c.exec_driver_sql("PRAGMA max_page_count = 1") and fill(c))
    with ledger.read() as connection:
        assert get_meta(connection, "a", "") == "1" and get_meta(connection, "filled", "") == ""
    ledger.close()


def fill(connection) -> None:
    """The disk is full in the middle of a change."""
    set_meta(connection, "filled", "x" * 1_000_000)


def test_a_ledger_of_another_version_is_not_touched(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.write(lambda c: set_meta(c, "version", "99"))
    ledger.close()
    for _ in range(2):
        with pytest.raises(UsageError, match="version 99"):
            Ledger(tmp_path / "ledger.sqlite")


def test_refusals_are_counted_by_reason_and_host_and_the_table_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(settlement, "REFUSAL_ROWS_MAX", 3)
    ledger = Ledger(tmp_path / "ledger.sqlite")
    for host in ("a", "b", "a", "c", "d", "e"):
        ledger.post(lambda c, host=host: settlement.count_refusal(c, "schema", host, "x" * 1000, 1.0))
    ledger.write(lambda c: None)
    with ledger.read() as connection:
        rows = {row.host: row.count for row in connection.execute(select(refusals))}
    assert rows == {"a": 2, "b": 1, "c": 1, "others": 2}
    ledger.close()


def test_the_beacon_is_one_chain_from_a_secret_file_and_its_epoch_is_durable(tmp_path):
    beacon = Beacon.load_or_create(tmp_path / "beacon", 64)
    assert (tmp_path / "beacon").stat().st_mode & 0o777 == 0o600
    assert Beacon.load_or_create(tmp_path / "beacon", 64).link(9) == beacon.link(9)
    secret = (tmp_path / "beacon").read_bytes()
    assert all(beacon.link(e) == beacon_link(secret, 64, e) for e in range(65))
    assert check_link(beacon.anchor, 9, beacon.link(9)) and not check_link(beacon.anchor, 8, beacon.link(9))
    with pytest.raises(BeaconExhausted):
        beacon.link(65)
    ledger = Ledger(tmp_path / "ledger.sqlite")
    assert [ledger.write(lambda c: reveal(c, 5.0)) for _ in range(2)] == [1, 2]
    ledger.close()
    ledger = Ledger(tmp_path / "ledger.sqlite")
    assert ledger.write(lambda c: reveal(c, 6.0)) == 3
    ledger.close()


def test_presence_stands_still_while_the_coordinator_is_away(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    for name in ("a", "b"):
        ledger.write(lambda c, name=name: ensure_host(c, name, 900.0))
    presence = Heartbeats(ledger, 1000.0)
    presence.see("a", BEAT, 1000.0)
    presence.see("b", BEAT, 1007.0)
    with pytest.raises(Refused):
        presence.see("a", msgspec.structs.replace(BEAT, steps_per_second=float("nan")), 1.0)
    presence.flush(1007.0, force=True)
    ledger.write(lambda c: None)
    assert Heartbeats(ledger, 9000.0).last_seen() == {"a": 8993.0, "b": 9000.0}
    ledger.close()


def test_the_ledger_remembers_only_hosts_that_earned_something(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    presence = Heartbeats(ledger, 1000.0)
    for i in range(1000):
        presence.see(f"stranger {i}", BEAT, 1000.0)
    presence.see("worker", BEAT, 1000.0)  # its first result comes after its first heartbeat
    ledger.write(lambda c: ensure_host(c, "worker", 1000.5))
    presence.see("worker", msgspec.structs.replace(BEAT, name="second"), 1001.0, known=True)
    before = ledger.version
    presence.flush(1010.0)
    ledger.write(lambda c: None)
    assert ledger.version - before <= 2
    with ledger.read() as connection:
        assert connection.execute(select(hosts.c.host, hosts.c.name)).all() == [("worker", "second")]
    assert len(presence.fresh()) == 1000 and presence.count_present(1001.0, 30.0) == 1001
    assert Heartbeats(ledger, 9000.0).last_seen() == {"worker": 9000.0}
    ledger.close()


def test_a_crowd_of_strangers_pushes_out_the_longest_silent_stranger_and_nobody_known(tmp_path, monkeypatch):
    monkeypatch.setattr(heartbeats, "FRESH_MAX", 3)
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.write(lambda c: ensure_host(c, "worker", 900.0))
    presence = Heartbeats(ledger, 900.0)
    for i, name in enumerate(["a", "b", "c", "a", "d"]):
        presence.see(name, BEAT, 1000.0 + i)
    assert presence.last_seen() == {"worker": 900.0, "c": 1002.0, "a": 1003.0, "d": 1004.0}
    ledger.close()


def test_a_host_that_was_told_to_ask_rarely_is_present_until_it_has_missed_three_times(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    presence = Heartbeats(ledger, 1000.0)
    presence.see("often", BEAT, 1000.0, ask_again=1.0)
    presence.see("rarely", BEAT, 1000.0, ask_again=60.0)
    counted = presence.counted_from(30.0)
    here = [[host for host in counted if is_present(host, counted, now, 30.0)] for now in (1030.0, 1031.0, 1180.0)]
    assert here == [["often", "rarely"], ["rarely"], ["rarely"]]
    assert [presence.count_present(now, 30.0) for now in (1030.0, 1031.0, 1180.0, 1181.0)] == [2, 1, 1, 0]
    ledger.close()


def test_a_ledger_of_another_version_is_refused_with_the_mend(tmp_path):
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    ledger.write(lambda connection: set_meta(connection, "version", "1"))
    ledger.close()
    with pytest.raises(UsageError, match=r"version 1, and this program's is 2: go on with the version that began it"):
        Ledger(path)
