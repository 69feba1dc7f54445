"""Whole or absent, one of many, one at a time: what `protocol.files` promises, also between processes."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from coordinator.directories import default_directory
from peer.join import default_home
from protocol.engine.native.build import cache_folder
from protocol.errors import UsageError
from protocol.files import (
    PRIVATE,
    cache_directory,
    create_once,
    home_directory,
    lock_directory,
    make_once,
    read_limited,
    whole_or_absent,
    write_atomic,
)
from protocol.tasks.datasets import own_folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_write_is_whole_or_absent(tmp_path):
    path = tmp_path / "deep" / "file"
    write_atomic(path, b"first")
    assert path.read_bytes() == b"first" and stat.S_IMODE(path.stat().st_mode) == 0o644
    write_atomic(path, b"secret", PRIVATE)
    assert stat.S_IMODE(path.stat().st_mode) == PRIVATE
    with pytest.raises(ZeroDivisionError), whole_or_absent(path) as partial:
        partial.write_bytes(b"half")
        _ = 1 / 0
    assert path.read_bytes() == b"secret" and names(path.parent) == ["file"]


def test_of_many_creators_one_wins(tmp_path):
    path = tmp_path / "key"
    assert create_once(path, b"mine", PRIVATE) and not create_once(path, b"yours")
    assert path.read_bytes() == b"mine" and stat.S_IMODE(path.stat().st_mode) == PRIVATE
    assert names(tmp_path) == ["key"]


def test_what_fails_is_made_by_the_next(tmp_path):
    path, made = tmp_path / "made", []

    def make(partial: Path) -> None:
        made.append(partial)
        if len(made) == 1:
            raise ValueError("the first fails")
        partial.write_bytes(b"whole")

    with pytest.raises(ValueError, match="the first fails"):
        make_once(path, make, 1)
    assert not path.exists()
    make_once(path, make, 1)
    make_once(path, make, 1)
    assert path.read_bytes() == b"whole" and len(made) == 2


def test_making_waits_for_another_process_but_not_for_ever(tmp_path):
    code = (
        "import sys, pathlib; from protocol.files import make_once\n"
        "def make(partial): print('in', flush=True); sys.stdin.read(); partial.write_bytes(b'theirs')\n"
        f"make_once(pathlib.Path({str(tmp_path / 'made')!r}), make, 1)"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "in\n"
    with pytest.raises(TimeoutError, match="another process"):
        make_once(tmp_path / "made", lambda _: None, 0.1)
    other.communicate("", timeout=60)
    make_once(tmp_path / "made", lambda _: pytest.fail("it is there"), 0.1)
    assert (tmp_path / "made").read_bytes() == b"theirs"


def test_a_directory_belongs_to_one_until_it_lets_go(tmp_path):
    lock = lock_directory(tmp_path / "home", "somebody is here")
    with pytest.raises(UsageError, match="home: somebody is here"):
        lock_directory(tmp_path / "home", "somebody is here")
    lock.release()
    lock_directory(tmp_path / "home", "somebody is here").release()
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(UsageError, match=r"cannot use this directory: .*; pick another"):
        lock_directory(tmp_path / "file", "", "pick another")


def test_a_killed_process_lets_go(tmp_path):
    code = (
        "import pathlib, sys; from protocol.files import lock_directory\n"
        f"lock = lock_directory(pathlib.Path({str(tmp_path)!r}), 'taken'); print('in', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "in\n"
    with pytest.raises(UsageError, match="taken"):
        lock_directory(tmp_path, "taken")
    other.kill()
    other.communicate(timeout=60)
    lock_directory(tmp_path, "taken").release()


def test_reading_has_a_limit(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    assert read_limited(tmp_path / "file", 5, "note") == b"12345"
    with pytest.raises(UsageError, match="a note has at most 4 bytes"):
        read_limited(tmp_path / "file", 4, "note")
    with pytest.raises(UsageError, match="cannot read the note"):
        read_limited(tmp_path / "nothing", 4, "note")


def test_one_variable_moves_everything(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOOSWARM_HOME", str(tmp_path))
    places = (home_directory(), cache_directory(), cache_folder(), own_folder(), default_home(), default_directory())
    assert all(place.is_relative_to(tmp_path) for place in places)
    monkeypatch.delenv("ZOOSWARM_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_directory() == tmp_path / "xdg" / "zooswarm" and os.environ.get("ZOOSWARM_HOME") is None
