"""Errors as people meet them: a code, one line, a page that explains it; our own mistakes go to a log."""

import errno
import sys
from pathlib import Path

import check_links
import click
import errors as errors_page
import pytest

from protocol.cli import logs, main
from protocol.cli.explain import kind_of, words
from protocol.errors import KINDS, DiskError, Refused, UsageError, disk_trouble, refused_there

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"


@pytest.fixture
def verb(monkeypatch, tmp_path, capsys):
    """Run a verb that does what it is given; (exit code, error output)."""
    monkeypatch.setenv("ZOOSWARM_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["zooswarm", "act", "--ticket", "abcdefgh"])

    def run(act) -> tuple[int, str]:
        monkeypatch.setattr(main.Verbs, "_load", lambda self: {"act": click.Command("act", callback=act)})
        return main.run(["act"]), capsys.readouterr().err

    return run


def test_there_are_at_most_a_dozen_kinds_each_with_a_code_of_its_own():
    assert set(KINDS) == {UsageError, *UsageError.__subclasses__()} - {
        kind for kind in UsageError.__subclasses__() if kind.__module__ != "protocol.errors"
    }
    assert len(KINDS) <= 12 and len({kind.code for kind in KINDS}) == len(KINDS)


def test_the_page_is_that_of_the_classes_and_has_each_anchor():
    assert PAGE.read_text() == errors_page.page(), "run: python scripts/errors.py --write"
    assert {kind.code.lower() for kind in KINDS} <= check_links.headings(PAGE)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.code)
def test_every_kind_says_what_it_means_what_may_be_behind_it_and_what_to_do(kind):
    text = words(kind)
    assert text.count("\n- ") >= 2 and len(text.splitlines()[0]) < 120
    assert kind_of(kind.code) is kind_of(f"[{kind.code.lower()}]") is kind_of(kind.code[3:]) is kind


def test_each_kind_is_one_line_with_its_code_and_exits_with_2(verb):
    for kind in KINDS:

        def act(kind=kind):
            raise kind("first\nsecond \x1b[31m")

        assert verb(act) == (2, f"zooswarm: first\\nsecond \\x1b[31m  [{kind.code}]\n")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.ENOTDIR, errno.EDQUOT])
def test_a_disk_that_cannot_be_used_is_nobodys_mistake(verb, number, tmp_path):
    def act():
        raise OSError(number, "cannot", str(tmp_path / "file"))

    code, told = verb(act)
    assert code == 2 and str(tmp_path / "file") in told and told.endswith("[ZS-DISK]\n")


def test_other_errors_of_the_system_are_ours():
    assert disk_trouble(OSError(errno.EBADF, "bad file")) is None
    assert isinstance(disk_trouble(OSError(errno.ENOSPC, "full")), DiskError)


def test_a_refusal_is_of_the_kind_that_says_what_to_do():
    reasons = {"organizer": "ZS-KEY", "version": "ZS-VERSION", "ticket": "ZS-INVITE", "other": "ZS-USAGE"}
    assert {reason: refused_there(Refused(reason), "there").code for reason in reasons} == reasons


def test_our_own_mistake_is_two_lines_and_its_story_is_in_the_log(verb, tmp_path):
    def act():
        raise KeyError("\x1b[2Jboom")

    code, told = verb(act)
    log = tmp_path / "cache" / "log" / "zooswarm.log"
    assert code == 1 and len(told.splitlines()) == 2 and "Traceback" not in told
    assert "our mistake, not yours: KeyError" in told and str(log) in told and "report-bug" in told
    story = log.read_text()
    assert "Traceback" in story and "boom" in story and "\x1b" not in story and "\x1b" not in told
    assert "zooswarm act --ticket <secret>" in story.splitlines()[0] and "abcdefgh" not in story


def test_the_story_is_told_at_once_where_there_is_no_log_or_when_asked(verb, tmp_path, monkeypatch):
    def act():
        raise KeyError("boom")

    monkeypatch.setenv("ZOOSWARM_DEBUG", "1")
    assert "  | Traceback" in verb(act)[1]
    monkeypatch.delenv("ZOOSWARM_DEBUG")
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZOOSWARM_HOME", str(tmp_path / "file"))
    assert "  | Traceback" in verb(act)[1]


def test_a_verb_may_keep_its_log_in_its_own_directory(verb, tmp_path):
    def act():
        logs.keep_log(tmp_path / "own.log")
        raise KeyError("boom")

    assert str(tmp_path / "own.log") in verb(act)[1]
    assert "boom" in (tmp_path / "own.log").read_text() and not (tmp_path / "cache").exists()


def test_a_command_that_was_only_typed_wrongly_leaves_no_log(verb, tmp_path):
    def act():
        raise UsageError("no")

    assert verb(act)[0] == 2 and list(tmp_path.iterdir()) == []


def test_ctrl_c_is_no_mistake(verb):
    def act():
        raise KeyboardInterrupt

    code, told = verb(act)
    assert code == 130 and told.strip() == "zooswarm: stopped"


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["jion", "x"], "there is no verb 'jion'; did you mean 'join'?"),
        (["join", "--thread", "2", "x"], "'--threads'"),
        (["join"], "missing argument 'ADDRESS'"),
        (["identity", "shw"], "did you mean 'show'?"),
        (["join", "x", "--threads", "many"], "--threads"),
    ],
)
def test_a_misspelt_verb_or_option_is_one_line_that_names_the_nearest(typed, told, capsys):
    assert main.run(typed) == 2
    line = capsys.readouterr().err
    assert told in line and line.count("\n") == 1 and line.endswith("[ZS-USAGE]\n") and "--help` lists" in line
