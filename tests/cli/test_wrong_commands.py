"""Wrong commands as people type them: one helpful line with a code, exit code 2, no traceback, nothing left behind."""

import errno
import http.server
import logging
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from math import inf
from pathlib import Path

import pytest
from support.homes import moved_home
from support.scripted_host import Stage
from support.zoos import ADDER, ORGANIZER, PARITY, network, publish

from coordinator.directories import write_settings
from coordinator.zoo.writer import ZooWriter
from peer.storage.home import Home
from protocol.cli import main
from protocol.rpc.invite import Invite, make_invite
from protocol.trust.identity import Identity
from protocol.trust.ticket import make_ticket

ROOT = Path(__file__).parents[2]
SECONDS_MAX = 20.0  # a quarter of it on a computer that does nothing else
LONG_AGO = 1_000_000_000
RECIPE = (ROOT / "recipes" / "ds1-parity.toml").read_text()
CAMPAIGN = 'name = "x"\n[[populations]]\nrecipe = "recipe.toml"\nseeds = "0:8"\nbundle = 4\n'
ZOOSWARM = str(Path(sys.executable).with_name("zooswarm"))


def mistype(code: str) -> str:
    return code[:-1] + ("3" if code.endswith("2") else "2")


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """A host of ours that runs."""
    stage = Stage(tmp_path_factory.mktemp("host") / "host")
    stage.clock.now = time.time()  # a command says when it was given
    write_settings(stage.path, {"address": f"127.0.0.1:{stage.port}/{stage.core.identity.host}"})
    yield stage
    stage.close()


@pytest.fixture(scope="module")
def elsewhere():
    """The port of a web server."""

    class Quiet(http.server.BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture(scope="module")
def zoos(tmp_path_factory) -> Path:
    """A sound zoo, and one with a damaged shard and one with a damaged catalogue."""
    where = tmp_path_factory.mktemp("zoos")
    publish(ZooWriter(where / "sound", ORGANIZER), network(PARITY, 1), network(ADDER, 2))
    for kind, file in (("weights", "*.safetensors"), ("catalogue", "*.parquet")):
        shutil.copytree(where / "sound", where / kind)
        victim = next((where / kind).rglob(file))
        victim.chmod(0o644)
        victim.write_bytes(victim.read_bytes()[:-9])
    return where


@pytest.fixture
def place(tmp_path, monkeypatch, stage, elsewhere, zoos) -> dict[str, str]:
    """Names for what a command may be about; the current directory is empty but for what was put there."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name, value in moved_home(tmp_path / "home").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(logging.getLogger("coordinator"), "propagate", False)  # the host's, in the same process here
    organizer, other = stage.core.identity.host, Identity.generate().host
    Path("full").mkdir()
    Path("full/letter.txt").write_text("dear")
    Path("recipe.toml").write_text(RECIPE)
    Path("typo.toml").write_text(RECIPE.replace("learning_rate", "leraning_rate"))
    Path("campaign.toml").write_text(CAMPAIGN.replace("bundle", "bundel"))
    Path("broken.toml").write_text(CAMPAIGN.replace('"0:8"', '"0:8'))
    Path("beyond.toml").write_text(CAMPAIGN.replace("0:8", "0:9999999999"))
    Path("odd.toml").write_text(CAMPAIGN.replace('"x"', '"../\\u001b[31mx"'))
    Path("norecipe.toml").write_text(CAMPAIGN.replace("recipe.toml", "recipes.toml"))
    Path("nodata.toml").write_text(CAMPAIGN.replace('"recipe.toml"', '"data.toml"'))
    dataset = RECIPE.replace('machine = "ParityMachine"\nlength = 12\nsequences = 1024', f'data = "{"a" * 64}"')
    Path("nokind-recipe.toml").write_text(dataset)
    Path("nokind.toml").write_text(CAMPAIGN.replace("recipe.toml", "nokind-recipe.toml"))
    digits = (ROOT / "recipes" / "digits-mlp.toml").read_text()
    assert 'data = "digits8x8"' in digits
    Path("data.toml").write_text(digits.replace('"digits8x8"', f'"{"a" * 64}"'))
    expired = Invite(organizer=organizer, targets=(f"127.0.0.1:{stage.port}",), expires_at=LONG_AGO)
    return {
        "port": str(stage.port),
        "http": str(elsewhere),
        "organizer": organizer,
        "other": other,
        "host": str(stage.path),
        "zoos": str(zoos),
        "expired": make_invite(expired),
        "mistyped": mistype(make_invite(expired)),
        "ticket": make_ticket(ORGANIZER, other, LONG_AGO),
    }


# what is typed; words that its line has; its code
WRONG = [
    ("jion {organizer}", "did you mean 'join'?", "ZS-USAGE"),
    ("join 127.0.0.1:{port}/{organizer} --cores 2", "no such option '--cores'", "ZS-USAGE"),
    ("join", "missing argument 'ADDRESS'", "ZS-USAGE"),
    ("join somewhere", "'somewhere' is not an address; expected host:port/ORGANIZER", "ZS-ADDRESS"),
    ("join 127.0.0.1:{port}/12D3KooW", "not an organizer's PeerID", "ZS-ADDRESS"),
    ("join example.org:7750", "the organizer's name is missing", "ZS-ADDRESS"),
    ("join 127.0.0.1:{http}/{organizer}", "no zooswarm host; is the port right?", "ZS-AWAY"),
    ("join 127.0.0.1:{http}", "no zooswarm host; is the port right?", "ZS-AWAY"),
    ("join 127.0.0.1:{port}/{other}", "has not the key of {other}; ask for the new address", "ZS-KEY"),
    ("join {expired}", "ran out", "ZS-INVITE"),
    ("join {mistyped}", "copy it again", "ZS-INVITE"),
    ("join 127.0.0.1:{port}/{organizer} --cpu nan", "'nan' is not a number that can be used", "ZS-USAGE"),
    ("join 127.0.0.1:{port}/{organizer} --ticket nonsense", "this is no ticket", "ZS-INVITE"),
    ("join 127.0.0.1:{port}/{organizer} --ticket {ticket}", "has run out; ask the organizer", "ZS-INVITE"),
    ("join 127.0.0.1:{port}/{organizer} --dir full/letter.txt/x", "choose another with --dir", "ZS-DISK"),
    ("host full/letter.txt/x --listen 127.0.0.1:0", "full/letter.txt", "ZS-DISK"),
    ("host new --listen 127.0.0.1:{port}", "in use", "ZS-BUSY"),
    ("host new --listen 127.0.0.1:0 --page 127.0.0.1:{http}", "in use; choose another, or --page none", "ZS-BUSY"),
    ("host {host} --listen 127.0.0.1:0", "another coordinator runs on this directory", "ZS-BUSY"),
    ("host new --listen 7750", "expected HOST:PORT", "ZS-ADDRESS"),
    ("host new --listen nowhere.invalid:7750", "no such address", "ZS-ADDRESS"),
    ("seed nothing.toml", "nothing.toml: cannot read the campaign: No such file", "ZS-FILE"),
    ("seed campaign.toml", "populations[0].bundel: there is no such field; did you mean bundle?", "ZS-RECIPE"),
    ("seed broken.toml", "broken.toml: not valid TOML", "ZS-RECIPE"),
    ("seed beyond.toml", "populations[0].seeds: expected \"first:end\"", "ZS-RECIPE"),
    ("seed odd.toml", "odd.toml: name: expected 1 to 64 of a-z, 0-9 and . _ + -", "ZS-RECIPE"),
    ("seed norecipe.toml", "recipes.toml: cannot read the recipe: No such file", "ZS-FILE"),
    ("seed campaign.toml --dir full", "bundel", "ZS-RECIPE"),
    ("seed nokind.toml", 'task.data: there is no such field; it is one of kind = "dataset"', "ZS-RECIPE"),
    ("seed nodata.toml --dir {host}", "aaaaaaaa", "ZS-FILE"),
    ("control nothing pause --dir {host}", "no such campaign; there are: none", "ZS-USAGE"),
    ("control nothing priority -5 --dir {host}", "no such campaign; there are: none", "ZS-USAGE"),
    ("control nothing pause --dri {host}", "no such option '--dri'. Did you mean '--dir'?", "ZS-USAGE"),
    ("control nothing priority five --dir {host}", "'five' is not a valid integer", "ZS-USAGE"),
    ("ban {other} --reason ' ' --dir {host}", "say why in a few words", "ZS-USAGE"),
    ("volunteer --watch", "this is a file or a pipe; --json is for those", "ZS-USAGE"),
    ("ticket me --dir {host}", "`zooswarm identity show`", "ZS-USAGE"),
    ("status 127.0.0.1:{http}/{organizer}", "no zooswarm host", "ZS-AWAY"),
    ("status 127.0.0.1:1/{organizer}", "no coordinator answers at 127.0.0.1:1", "ZS-AWAY"),
    ("status", "start one with `zooswarm host", "ZS-FILE"),
    ("train typo.toml --seeds 0:2 --out new", "did you mean learning_rate?", "ZS-RECIPE"),
    ("train recipe.toml --seeds 0:9999999999 --out new", "seeds are below", "ZS-USAGE"),
    ("pull 127.0.0.1:1/{organizer} --out new", "no host answers at 127.0.0.1:1", "ZS-AWAY"),
    ("pull 127.0.0.1:{http}/{organizer} --out new", "no zooswarm host", "ZS-AWAY"),
    ("pull 127.0.0.1:{port}/{other} --out new", "is not {other}; ask for the new address", "ZS-KEY"),
    ("pull 127.0.0.1:{port}/{organizer} --out new", "no zoo is published yet", "ZS-FILE"),
    ("pull 127.0.0.1:{port}/{organizer} --out full", "not empty, and not a zoo", "ZS-FILE"),
    ("report nothing --out new", "no such zoo directory", "ZS-FILE"),
    ("report full --out new", "not a zoo", "ZS-FILE"),
    ("report {zoos}/catalogue --out new", "damaged", "ZS-DAMAGE"),
    ("report {zoos}/sound --out new --where class=parity", "parity", "ZS-USAGE"),
    ("report {zoos}/sound --out new --where \"klass = 'a'\"", "columns: ", "ZS-USAGE"),
    ("audit full", "not a zoo", "ZS-FILE"),
    ("probe {zoos}/sound --probe sizzle", "probes: ", "ZS-USAGE"),
    ("doctor full", "neither a host's nor a volunteer's directory nor a zoo", "ZS-FILE"),
    ("data add nothing.csv --name x", "nothing.csv", "ZS-FILE"),
    ("explain ZS-NOTHING", "codes: ZS-USAGE", "ZS-USAGE"),
]  # fmt: skip


def words_of(typed: str, place: dict[str, str]) -> list[str]:
    return [word.format(**place) for word in shlex.split(typed)]


def everything(*roots: Path) -> set[str]:
    return {str(path) for root in roots for path in root.rglob("*") if "cache/engine" not in str(path)}


@pytest.mark.parametrize(("typed", "told", "code"), WRONG, ids=[typed for typed, *_ in WRONG])
def test_a_wrong_command_is_one_line_that_helps_and_leaves_nothing(typed, told, code, place, capsys, tmp_path):
    before, began = everything(tmp_path, Path(place["zoos"])), time.monotonic()
    assert main.run(words_of(typed, place)) == 2
    out, err = capsys.readouterr()
    assert err.startswith("zooswarm: ") and err.endswith(f"  [{code}]\n"), err
    assert err.count("\n") <= 2 and told.format(**place) in err, err
    assert "Traceback" not in out + err and out == ""
    assert time.monotonic() - began < SECONDS_MAX
    assert everything(tmp_path, Path(place["zoos"])) == before


def test_a_campaign_that_is_there_already_is_said_to_be_so(place, tmp_path, capsys):
    """Also a cancelled one: to seed it again does not begin it again. Windows' byte order mark is no obstacle. What was
    commanded is seen at once, though a status is told to many for a while."""
    stage = Stage(tmp_path / "other-host", status_seconds=inf)
    stage.clock.now = time.time()
    write_settings(stage.path, {"address": f"127.0.0.1:{stage.port}/{stage.core.identity.host}"})
    Path("good.toml").write_text("\ufeff" + CAMPAIGN)

    def said(typed: str) -> str:
        assert main.run([*typed.split(), "--dir", str(stage.path)]) == 0
        return capsys.readouterr().out

    first = said("seed good.toml")
    assert first.startswith("x: 8 networks in 2 assignments, campaign ") and "already" not in first
    assert said("seed good.toml") == first.replace("\n", "; it is there already, running, and nothing changed\n")
    assert said("control x cancel") == "x: cancelled\n" and "already, cancelled" in said("seed good.toml")
    assert "priority -5, cancelled" in said("control x priority -5")
    stage.close()


def test_a_terminal_that_knows_ascii_alone_shows_less_and_goes_on(place):
    narrow = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "20"}  # so that headers end in an ellipsis
    done = subprocess.run(
        [ZOOSWARM, *words_of("status --dir {host}", place)], capture_output=True, text=True, env=narrow, timeout=60
    )
    assert (
        (done.returncode, done.stderr) == (0, "")
        and "?" in done.stdout
        and "banned: 0" in " ".join(done.stdout.split())
    ), done


def test_a_wrong_command_by_a_process_of_its_own(place):
    """The same from a shell, imports and all."""
    for typed in ("join somewhere", "report nothing --out new", "pull 127.0.0.1:1/{organizer} --out new"):
        began = time.monotonic()
        done = subprocess.run(
            [ZOOSWARM, *words_of(typed, place)], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60
        )
        assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1, done.stderr
        assert time.monotonic() - began < SECONDS_MAX


def test_where_nobody_listens_join_says_so_and_tries_again_until_it_is_stopped(place):
    """A laptop may wake before its network: it is no mistake to wait, but it must be seen, and end at once."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    command = [ZOOSWARM, "join", f"127.0.0.1:{port}/{place['organizer']}", "--dir", "waiting"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        told = ""
        for line in process.stdout:
            told += line
            if "trying again" in line.lower():
                break
        process.send_signal(signal.SIGINT)
        told += process.stdout.read()
        assert process.wait(SECONDS_MAX) in (0, 130)
    assert f"nobody answers at 127.0.0.1:{port}" in told and "is the address right?" in told, told
    assert "Traceback" not in told and "Ctrl-C to stop" in told


@pytest.mark.parametrize(("hosts", "mend"), [("0.1.5", "ask its organizer"), ("0.97.0", "install zooswarm 0.97")])
def test_a_volunteer_of_another_version_is_told_which_one_to_install(hosts, mend, place, stage, monkeypatch, capsys):
    monkeypatch.setattr(stage.core, "version", hosts)
    assert main.run(["join", f"127.0.0.1:{place['port']}/{place['organizer']}", "--dir", "new"]) == 2
    told = capsys.readouterr().err
    assert hosts in told and mend in told and told.endswith("[ZS-VERSION]\n") and told.count("\n") == 1
    assert not Path("new").exists()


def test_a_directory_that_is_in_use_is_named(place, capsys):
    home = Home(Path("mine"))
    assert main.run(["join", f"127.0.0.1:{place['port']}/{place['organizer']}", "--dir", "mine"]) == 2
    told = capsys.readouterr().err
    assert (
        told == "zooswarm: mine: another volunteer runs from this directory; give this one its own --dir  [ZS-BUSY]\n"
    )
    home.close()


@pytest.mark.parametrize("verb", ["join 127.0.0.1:{port}/{organizer} --dir new", "host new --listen 127.0.0.1:0"])
def test_a_directory_of_somebody_else_is_named_with_the_mend(verb, place, monkeypatch, capsys):
    def refuse(path: object, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(os, "mkdir", refuse)
    assert main.run(words_of(verb, place)) == 2
    told = capsys.readouterr().err
    assert "new: cannot use this directory: Permission denied" in told and told.endswith("[ZS-DISK]\n")


@pytest.mark.parametrize(
    "verb",
    [
        "join 127.0.0.1:{port}/{organizer} --dir new",
        "host new --listen 127.0.0.1:0",
        "train recipe.toml --seeds 0:1 --out new",
        "report-bug --out bug.zip",
    ],
)
def test_a_full_disk_is_one_line_that_says_nothing_is_lost(verb, place, monkeypatch, capsys):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert main.run(words_of(verb, place)) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert "No space left on device" in told and told.endswith("[ZS-DISK]") and "Traceback" not in told
