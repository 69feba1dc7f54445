"""The lent computer: remembered options, wishes from another terminal, the pace, and what is read of it."""

import os
import time
from collections import namedtuple
from math import ceil, inf
from types import SimpleNamespace

import psutil
import pytest
from click.testing import CliRunner

from peer.cli import join, option_types
from peer.computer import sensors
from peer.computer.control import Control, Wish, paused_seconds, read_status, read_wish, write_wish
from peer.computer.pace import OWED_SECONDS, SAVED_SECONDS, Governor, Purse, next_look
from peer.computer.sensors import LOAD_SECONDS, LOADS, POWER_VARIABLE, Sensors, on_battery
from peer.computer.settings import SETTINGS, read_settings, write_settings
from peer.computer.verbs import VERBS
from protocol.cli.main import zooswarm
from protocol.errors import UsageError
from protocol.files import PRIVATE

KNOWN = {"cpu": float, "threads": int, "only_when_idle": bool, "hours": str}

# -- the pace ----------------------------------------------------------------------------------------------------------


def trained(
    cores: float, threads: float, seconds: float, others: float = 0.02, start: float = 0.0
) -> tuple[float, float]:
    """(processor seconds of all of us, of them in the last half) of a simulated volunteer that obeys its purse.

    `others`: what our other processes use all the time; `start`: what was used before the first look.
    """
    purse, now, used, half = Purse(cores, 0.0, 0.0, ceil(threads)), 0.0, start, 0.0
    while now < seconds:
        still = purse.look(now, used)
        step = next_look(still)
        used += step * (others + (0.0 if still else threads))
        now += step
        half = half or (used if now >= seconds / 2 else 0.0)
    return used, used - half


@pytest.mark.parametrize("threads", [1, 2, 16])
@pytest.mark.parametrize("cores", [0.1, 0.25, 0.5, 1.5])
def test_all_processes_together_keep_to_the_share(cores, threads):
    used, half = trained(cores, threads, 120.0)
    fits = min(cores, threads + 0.02)
    a_look = 1.7 / 60 if threads == 16 else 0.0  # what sixteen threads take until the next one
    assert used / 120 == pytest.approx(fits, rel=0.12, abs=a_look / 2)
    assert half / 60 == pytest.approx(fits, rel=0.12, abs=a_look)


def test_a_start_that_took_more_is_mostly_forgiven_and_rest_is_not_saved_up():
    used, half = trained(0.25, 2, 60.0, start=10.0)
    assert half / 30 == pytest.approx(0.25, rel=0.12) and used - 10.0 >= 0.25 * (60 - OWED_SECONDS) - 1.0
    purse = Purse(0.5, 0.0, 0.0, 2)
    assert purse.look(3600.0, 0.0) == 0.0 and purse.left == 0.5 * SAVED_SECONDS
    assert purse.look(3600.0, 2.0) == pytest.approx(3.0)


def test_the_governor_holds_what_uses_too_much_and_lets_go_in_the_end():
    class Trainer:
        held = ever = False

        def hold(self, why):
            self.held = self.ever = True

        def let_go(self, why):
            self.held = False

    trainer = Trainer()
    governor = Governor(1e-9, trainer).start()  # this very process uses more
    deadline = time.monotonic() + 10
    while not trainer.ever and time.monotonic() < deadline:
        sum(range(1000))
    governor.stop()
    assert trainer.ever and not trainer.held


# -- what is read of it ------------------------------------------------------------------------------------------------


def test_loads_of_others_and_of_us_are_told_apart(monkeypatch):
    at, everybody, ours = 0.0, 100.0, 0.0
    monkeypatch.setattr(sensors, "busy_seconds", lambda: everybody)
    looks = Sensors(lambda: 7.0, clock=lambda: at)
    looks._meter.cpu_seconds = lambda: ours
    found = looks.look()
    assert found.others_cores is None
    for _ in range(LOADS):
        at, everybody, ours = at + LOAD_SECONDS, everybody + 1.5 * LOAD_SECONDS, ours + 0.5 * LOAD_SECONDS
        found = looks.look()
    assert (found.others_cores, found.own_cores, found.paused_seconds) == (pytest.approx(1.0), pytest.approx(0.5), 7.0)
    for _ in range(LOADS):
        at += LOAD_SECONDS
        found = looks.look()
    assert found.others_cores == 0.0 and 0 <= found.hour < 24


def test_a_real_look_at_this_computer():
    found = Sensors(lambda: 0.0).look()
    assert (found.own_bytes or 0) > 10_000_000 and sensors.busy_seconds() > 0


def test_the_battery_is_read_where_there_is_one(monkeypatch, tmp_path):
    monkeypatch.delenv(POWER_VARIABLE, raising=False)
    battery = namedtuple("battery", "percent secsleft power_plugged")
    for plugged, told in ((True, False), (False, True), (None, None)):
        monkeypatch.setattr(psutil, "sensors_battery", lambda plugged=plugged: battery(50, 100, plugged))
        assert on_battery() is told
    monkeypatch.setattr(psutil, "sensors_battery", lambda: None)
    assert on_battery() is None
    monkeypatch.setenv(POWER_VARIABLE, str(tmp_path / "online"))
    assert on_battery() is None
    for text, told in (("0\n", True), ("1\n", False)):
        (tmp_path / "online").write_text(text)
        assert on_battery() is told


# -- wishes from another terminal --------------------------------------------------------------------------------------


def test_a_wish_is_heard_survives_a_restart_and_runs_out(tmp_path):
    now = 1000.0
    control = Control(tmp_path, clock=lambda: now).begin()
    assert control.paused_seconds() == 0.0 and not control.leaves()
    write_wish(tmp_path, Wish(paused_until=1600.0))
    assert control.paused_seconds() == 600.0
    assert Control(tmp_path, clock=lambda: now).begin().paused_seconds() == 600.0
    now = 1600.0
    assert control.paused_seconds() == 0.0
    write_wish(tmp_path, Wish(paused_until=-1.0, leave=True))
    assert control.paused_seconds() == inf and control.leaves()
    again = Control(tmp_path, clock=lambda: now).begin()
    assert not again.leaves() and again.paused_seconds() == inf, "to leave was wished of the one before"
    write_wish(tmp_path, Wish())
    assert control.paused_seconds() == 0.0 and not (tmp_path / "wish.json").exists()


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"paused_until": "x"}', b'{"more": 1}', b"1" * 2000, b"\xff"])
def test_a_wish_that_cannot_be_read_is_none(tmp_path, data):
    (tmp_path / "wish.json").write_bytes(data)
    assert read_wish(tmp_path) == Wish() and Control(tmp_path).begin().paused_seconds() == 0.0


def test_what_it_says_of_itself_is_for_this_user_alone_and_grows_old(tmp_path):
    now = 1000.0
    control = Control(tmp_path, clock=lambda: now)
    control.tell({"name": "alice"})
    path = tmp_path / "status.json"
    assert path.stat().st_mode & 0o777 == PRIVATE
    assert read_status(tmp_path, now + 9.0)["name"] == "alice" and read_status(tmp_path, now + 11.0) is None
    control.tell({"name": "bob"})
    assert read_status(tmp_path, now)["name"] == "alice", "not so soon again"
    path.write_bytes(b"[1")
    assert read_status(tmp_path, now) is None
    control.end()
    assert list(tmp_path.iterdir()) == []


def test_a_pause_lasts_as_long_as_it_says():
    assert paused_seconds(Wish(), 5.0) == 0.0
    assert paused_seconds(Wish(paused_until=8.0), 5.0) == 3.0
    assert paused_seconds(Wish(paused_until=-1.0), 5.0) == inf


def test_the_verbs_say_what_becomes_of_a_pause(tmp_path):
    run, where = CliRunner().invoke, ["--dir", str(tmp_path)]
    pause, resume = (next(v for v in VERBS if v.name == name) for name in ("pause", "resume"))
    assert "no volunteer has run here" in str(run(pause, where).exception)
    (tmp_path / "identity").write_bytes(b"key")
    (tmp_path / "bundles").mkdir()
    assert "it will be paused for 2 h" in run(pause, ["--for", "2h", *where]).output
    Control(tmp_path).tell({"name": "alice", "rows": [["now", "training"]]})
    assert run(pause, where).output == "paused until `zooswarm resume`\n"
    assert paused_seconds(read_wish(tmp_path), time.time()) == inf
    assert run(resume, where).output == "it goes on\n" and run(resume, where).output == "it was not paused\n"
    shown = run(next(v for v in VERBS if v.name == "volunteer"), where).output
    assert "alice" in shown and "training" in shown


# -- remembered options ------------------------------------------------------------------------------------------------


def test_settings_are_read_as_they_were_written(tmp_path):
    given = {"cpu": 25.5, "threads": 2, "only_when_idle": True, "hours": "22-6"}
    path = write_settings(tmp_path, given)
    assert read_settings(tmp_path, KNOWN) == given and path.stat().st_mode & 0o777 == PRIVATE
    path.write_text("cpu = 25\n")
    assert read_settings(tmp_path, KNOWN) == {"cpu": 25} and read_settings(tmp_path / "none", KNOWN) == {}


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("cpu = ", "remove it"),
        ("speed = 3", "there is no option 'speed'"),
        ("threads = 'two'", "is no whole number"),
        ("threads = true", "is no whole number"),
        ("only_when_idle = 1", "is no true or false"),
        ("[cpu]\nx = 1", "is no number"),
    ],
)
def test_settings_that_are_none_are_one_line_with_the_mend(tmp_path, text, word):
    (tmp_path / SETTINGS).write_text(text)
    with pytest.raises(UsageError, match=word) as caught:
        read_settings(tmp_path, KNOWN)
    assert SETTINGS in str(caught.value)


@pytest.fixture
def told(monkeypatch, tmp_path):
    """`told(*arguments)` -> the options that `zooswarm join` would run with."""
    found = []
    monkeypatch.setattr("peer.join.join_swarm", found.append)

    def ask(*arguments: str):
        outcome = CliRunner().invoke(zooswarm, ["join", "--dir", str(tmp_path), *arguments], catch_exceptions=False)
        assert outcome.exit_code == 0, outcome.output
        return found[-1]

    return ask


def test_what_is_remembered_are_defaults_and_what_is_typed_wins(told):
    plain = told("127.0.0.1:1")
    assert (plain.cpu, plain.threads, plain.not_on_battery, plain.hours) == (None, None, True, None)
    told("127.0.0.1:1", "--cpu", "25", "--hours", "22-6", "--on-battery", "--only-when-idle", "--remember")
    again = told()
    assert (again.address, again.cpu, again.hours, again.not_on_battery) == ("127.0.0.1:1", 25.0, "22-6", False)
    typed = told("127.0.0.1:2", "--cpu", "50", "--threads", "3", "--remember")
    assert (typed.address, typed.cpu, typed.hours, typed.threads) == ("127.0.0.1:2", 50.0, "22-6", 3)
    assert told().threads == 3 and told().cpu == 50.0


def test_every_option_of_join_has_a_type_that_a_settings_file_can_have():
    types = option_types(join)
    assert set(types.values()) <= {str, int, float, bool} and types["cpu"] is float and types["nice"] is int
    assert types["only_when_idle"] is bool and types["hours"] is str and "directory" not in types


def test_our_own_processes_are_counted():
    from peer.computer.meter import Meter

    meter = Meter()
    before, deadline = meter.cpu_seconds(), time.monotonic() + 10
    while meter.cpu_seconds() < before + 0.05 and time.monotonic() < deadline:
        sum(range(10_000))
    assert (
        meter.cpu_seconds() >= before + 0.05
        and meter.memory_bytes() > psutil.Process(os.getpid()).memory_info().rss / 2
    )


def test_the_computers_processes_are_walked_over_often_only_while_ours_come_and_go(monkeypatch):
    """Each walk reads a file for every process of the computer."""
    from peer.computer import meter as measured

    now, walks, ended = [0.0], [0], [False]

    class Child:
        pid = 7

        def cpu_times(self):
            if ended[0]:
                raise psutil.NoSuchProcess(7)
            return SimpleNamespace(user=1.0, system=0.0)

    class Ours:
        pid = 6

        def cpu_times(self):
            return SimpleNamespace(user=1.0, system=0.0)

        def children(self, recursive):
            walks[0] += 1
            return [] if ended[0] else [Child()]

    monkeypatch.setattr(measured.psutil, "Process", lambda *_: Ours())
    meter = measured.Meter(clock=lambda: now[0])

    def walks_in(seconds):
        before = walks[0]
        for _ in range(seconds):
            meter.cpu_seconds()
            now[0] += 1.0
        return walks[0] - before

    assert walks_in(20) == 10  # the family is new
    assert walks_in(100) == 5
    ended[0] = True
    assert walks_in(20) >= 8  # who takes its place?
    assert walks_in(100) <= 6
