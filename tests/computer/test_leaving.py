"""A service that starts with the session, and leaving without a trace."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from peer.computer import purge, service
from peer.computer.control import Control
from peer.computer.settings import write_settings
from peer.computer.verbs import VERBS
from peer.storage.home import Home
from protocol.errors import BusyError, UsageError
from protocol.files import HOME_VARIABLE, cache_directory

SETTINGS = {"address": "127.0.0.1:7750/X", "cpu": 25.0, "memory": "2GB"}


@pytest.fixture
def moved(tmp_path, monkeypatch):
    """All directories of a user, in a folder of the test; no systemctl but the one given to it."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    asked, answers = [], {"code": 0}

    def systemctl(*arguments: str) -> service.Outcome:
        asked.append(arguments)
        return service.Outcome(answers["code"], "active" if "is-active" in arguments else "")

    monkeypatch.setattr(service, "systemctl", systemctl)
    return tmp_path, asked, answers


def verb(*arguments: str, **more):
    command = next(each for each in VERBS if each.name == arguments[0])
    return CliRunner().invoke(command, list(arguments[1:]), catch_exceptions=False, **more)


def test_the_unit_says_what_runs_and_holds_the_limits(tmp_path):
    text = service.unit_text(tmp_path / "my 50% dir", SETTINGS, {"ZOOSWARM_HOME": "/somewhere"})
    lines = text.splitlines()
    (command,) = [line for line in lines if line.startswith("ExecStart=")]
    assert command.endswith(f'join --dir "{tmp_path}/my 50%% dir"') and "127.0.0.1" not in text
    assert {"CPUQuota=30%", "MemoryMax=2000000000", "Nice=10", "NoNewPrivileges=yes"} <= set(lines)
    assert "Environment=ZOOSWARM_HOME=/somewhere" in lines
    assert "CPUQuota" not in service.unit_text(tmp_path, {"address": "x"}, {})


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_takes_the_unit(tmp_path):
    unit = tmp_path / service.UNIT
    unit.write_text(service.unit_text(tmp_path, SETTINGS, {}))
    environment = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", str(unit)], capture_output=True, text=True, env=environment
    )
    if "Failed to initialize manager" in done.stderr or "No such file" in done.stderr:
        pytest.skip(f"systemd does not run here: {done.stderr.strip()[:200]}")
    assert [line for line in done.stderr.splitlines() if service.UNIT in line] == []


def test_where_units_are():
    assert service.unit_path({"HOME": "/h"}) == Path("/h/.config/systemd/user/zooswarm.service")
    assert service.unit_path({"HOME": "/h", "XDG_CONFIG_HOME": "/c"}) == Path("/c/systemd/user/zooswarm.service")


def test_install_status_and_remove(moved):
    path, asked, answers = moved
    Home(path / "bob").close()
    with pytest.raises(UsageError, match="--remember"):
        verb("service", "install", "--dir", str(path / "bob"))
    write_settings(path / "bob", SETTINGS)
    assert "it runs now" in verb("service", "install", "--dir", str(path / "bob")).output
    assert asked == [("daemon-reload",), ("enable", "--now", service.UNIT)]
    unit = path / "config" / "systemd" / "user" / service.UNIT
    assert str(path / "bob") in unit.read_text() and "active" in verb("service", "status").output
    assert "removed" in verb("service", "remove").output and not unit.exists()
    assert (
        "not installed" in verb("service", "status").output
        and "there is no service" in verb("service", "remove").output
    )
    assert not (path / "config" / "systemd").exists(), "no empty folder of ours is left"
    Control(path / "bob").tell({"name": "bob"})
    with pytest.raises(BusyError, match="runs there now"):
        verb("service", "install", "--dir", str(path / "bob"))
    Control(path / "bob").end()
    answers["code"] = None
    told = verb("service", "install", "--dir", str(path / "bob")).output
    assert "it does not run yet" in told and "start this with your session" in told and unit.exists()


def test_leave_purge_says_what_goes_and_leaves_nothing(moved):
    path, _, _ = moved
    home, cache = Home(path / "bob"), cache_directory()
    home.close()
    for name in ("worker.log", "swarm.log.1", ".status.json.partial", "status.json"):
        (path / "bob" / name).write_text("x")
    (path / "bob" / "bundles" / "b").mkdir()
    cache.mkdir(parents=True)
    (cache / "engine.so").write_text("x")
    write_settings(path / "bob", SETTINGS)
    verb("service", "install", "--dir", str(path / "bob"))
    asked = verb("leave", "--purge", "--dir", str(path / "bob"), input="n\n")
    assert asked.exit_code == 1 and (path / "bob" / "identity").exists()
    assert "all credit is bound to it" in asked.output and str(cache) in asked.output and service.UNIT in asked.output
    done = verb("leave", "--purge", "--yes", "--dir", str(path / "bob"))
    assert done.exit_code == 0 and "nothing is left" in done.output
    left = [str(each) for each in path.rglob("*") if each.is_file()]
    assert left == [] and not (path / "bob").exists() and not cache.exists()


def test_what_is_not_ours_stays(moved):
    path, _, _ = moved
    Home(path / "bob").close()
    (path / "elsewhere").mkdir()
    (path / "elsewhere" / "data").write_text("x")
    (path / "bob" / "diary.txt").write_text("mine")
    (path / "bob" / "data").rmdir() if (path / "bob" / "data").exists() else None
    (path / "bob" / "data").symlink_to(path / "elsewhere")
    done = verb("leave", "--purge", "--yes", "--dir", str(path / "bob"))
    assert "not ours, and stays" in done.output and "diary.txt" in done.output
    assert [each.name for each in (path / "bob").iterdir()] == ["diary.txt"]
    assert (path / "elsewhere" / "data").exists(), "what a link points to stays"


def test_a_hosts_directory_is_no_volunteers(tmp_path):
    (tmp_path / "identity").write_bytes(b"the organizer's key")
    (tmp_path / "ledger.sqlite").write_bytes(b"")
    for name in ("leave", "pause", "resume", "volunteer"):
        with pytest.raises(UsageError, match="no volunteer has run here"):
            verb(name, "--dir", str(tmp_path), *(["--purge", "--yes"] if name == "leave" else []))
    assert (tmp_path / "identity").exists()


def test_who_runs_is_asked_to_end_first(moved, monkeypatch):
    path, _, _ = moved
    program = "import sys, time; from pathlib import Path; from peer.storage.home import Home; "
    program += "from peer.computer.control import Control; home = Home(Path(sys.argv[1]))\n"
    program += (
        "control = Control(home.path).begin(); print('up', flush=True)\nwhile not control.leaves(): time.sleep(0.02)\n"
    )
    runs = subprocess.Popen([sys.executable, "-c", program, str(path / "bob")], stdout=subprocess.PIPE)
    assert runs.stdout is not None and runs.stdout.readline() == b"up\n"
    assert "the volunteer has ended" in verb("leave", "--dir", str(path / "bob")).output
    assert runs.wait(10) == 0
    runs.stdout.close()
    assert (path / "bob" / "identity").exists() and not (path / "bob" / "wish.json").exists()
    home = Home(path / "bob")
    monkeypatch.setattr(purge, "LEAVE_SECONDS", 0.0)
    with pytest.raises(BusyError, match="does not end"):
        purge.ask_to_leave(path / "bob", sleep=lambda seconds: None)
    home.close()
