"""Text from outside on a terminal, in a log, in a picture, on a page: nothing of it is ever obeyed."""

import dataclasses
import errno
import io
import logging
import re
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from support.zoos import CAMPAIGN, EVIDENCE, ORGANIZER, PARITY, network

from analysis.methods.curves import Learning
from analysis.plots import comparisons, learning, maps
from analysis.plots.style import svg
from analysis.zoo import open_zoo
from coordinator.client import as_line, table
from coordinator.server import console as host_console
from coordinator.server.status import CampaignStatus, HostStatus, RefusalStatus, Status
from coordinator.zoo.writer import ZooWriter
from peer.progress import View
from peer.state import PeerSettings, PeerState
from protocol.canonical import canonical_json, hexdigest
from protocol.cli.console import progress
from protocol.errors import LINE_MAX, LineFormatter, LogFile, Refused, UsageError, shown
from protocol.recipes.campaign import campaign_from_bytes
from protocol.recipes.recipe import recipe_from_bytes
from protocol.trust.messages import Hex, HostLabel, Inbox, Label
from protocol.zoo.catalogue import with_names
from protocol.zoo.manifests import manifest_from_bytes

HOSTILE = (
    "\x1b]0;title\x07\x1b[2J",  # a terminal's title, and its screen
    "\x9b31mred",  # the same in one C1 byte
    "\r\n12:00:00 [demo] admitted: forged",
    "a\x00b\x08\x7f",
    "\u202egnp.exe\u2066\u200f",  # the line turned around
    "\u2028\u2029\ufeff\u200b",
    "\ud800",  # half a surrogate pair
    "x" * 100_000,
    "[bold red]markup[/] [link=file:///etc/passwd]here[/link]",
    r"$\frac{$",
    "{" * 5000,
    "<script>alert(1)</script>",
)
NOTHING = None  # no ledger: these lines name no host
FORBIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


def harmless(text: str, lines: str = "\n") -> bool:
    return not [c for c in text if unicodedata.category(c) in FORBIDDEN and c not in lines]


@given(st.text(st.characters(), max_size=50), st.integers(1, 30))
def test_what_is_shown_is_one_printable_line_of_bounded_length(text, most):
    line = shown(text, most)
    assert line.isprintable() and line.encode() is not None
    assert len(line) <= most + 40


@given(st.text(st.characters(categories=("L", "N", "P", "S")), max_size=200))
def test_a_good_name_is_shown_as_it_is(text):
    assert shown(text) == text


@pytest.mark.parametrize("text", HOSTILE)
def test_every_refusal_and_every_mistake_is_one_harmless_line(text):
    for error in (Refused(text, text), UsageError(text)):
        assert harmless(str(error), "") and len(str(error)) < LINE_MAX + 150


# -- terminals --------------------------------------------------------------------------------------------------------


def volunteer(text: str, out: io.StringIO) -> None:
    state = PeerState(PeerSettings(threads=1, device="cpu"))
    state.figures.training = state.figures.waits_for = text
    view = View(text, Console(file=out, width=200, highlight=False))
    view.say(text)
    view._next_line = 1.0
    view.refresh(2.0, state)


def volunteers_table(text: str, out: io.StringIO) -> None:
    state = PeerState(PeerSettings(threads=1, device="cpu"))
    state.figures.training = state.figures.waits_for = text
    view = View(text, Console(file=out, width=100, highlight=False))
    view._live = type("Live", (), {"update": lambda self, found: view.console.print(found)})()
    view.refresh(2.0, state)


def host(text: str, out: io.StringIO) -> None:
    nothing: Any = NOTHING
    console = host_console.Console(Path(), "", nothing, nothing)
    for line in (text, f"[{text}] refused: {text}"):
        console.say(line)


def status_of(text: str) -> Status:
    """Every text that a status holds is this one."""
    campaign, host, refusal = (filled(kind, text) for kind in (CampaignStatus, HostStatus, RefusalStatus))
    return msgspec.structs.replace(filled(Status, text), campaigns=[campaign], hosts=[host], refusals=[refusal])


def filled(kind, text: str):
    values = {str: text, int: 0, float: 0.0, dict[str, int]: {text: 1}}
    return kind(**{field.name: values.get(field.type) for field in msgspec.structs.fields(kind)})


def status(text: str, out: io.StringIO) -> None:
    Console(file=out, width=200).print(table(status_of(text)))


def pull_and_report(text: str, out: io.StringIO) -> None:
    console = Console(file=out, width=200, highlight=False, soft_wrap=True)
    with progress(text, line_seconds=0, console=console) as bar:
        bar.update(1, 2, text)
        bar.update(1, 2, line=text)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("surface", [volunteer, volunteers_table, host, status, pull_and_report])
def test_no_surface_lets_a_control_byte_out(surface, text, capsys):
    out = io.StringIO()
    surface(text, out)
    told, said = out.getvalue(), capsys.readouterr().out
    assert (told or said) and harmless(told) and harmless(said)
    assert "\x1b" not in told + said


@pytest.mark.parametrize("text", HOSTILE)
def test_status_as_json_is_ascii(text):
    line = as_line(status_of(text))
    assert line.isascii() and harmless(line.replace("\x7f", ""), "")


# -- logs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", HOSTILE)
def test_a_log_holds_a_line_a_record_whatever_it_says(text, tmp_path):
    handler = LogFile(tmp_path / "host.log", 1 << 20, backups=1)
    record = logging.LogRecord("coordinator", logging.INFO, "", 0, "[host %s] refused: %s", (text, text), None)
    handler.handle(record)
    handler.close()
    written = (tmp_path / "host.log").read_text()
    assert written.count("\n") == 1 and harmless(written)


def test_a_traceback_is_set_in_so_that_it_cannot_be_taken_for_records():
    try:
        raise ValueError("bad\n2026-01-01 00:00:00 INFO coordinator admitted \x1b[2J")
    except ValueError:
        record = logging.LogRecord("c", logging.ERROR, "", 0, "failed", None, sys.exc_info())
    first, *rest = LineFormatter("%(message)s").format(record).split("\n")
    assert first == "failed" and rest and all(line.startswith("  | ") for line in rest)
    assert harmless("".join(rest), "")


class FullDisk(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_one_line_of_the_log_handler_not_a_traceback_a_record(tmp_path, capsys):
    handler = LogFile(tmp_path / "host.log", 1 << 20, backups=1)
    record = logging.LogRecord("coordinator", logging.INFO, "", 0, "a line", None, None)
    handler.stream = FullDisk()
    for _ in range(28):
        handler.handle(record)
    assert capsys.readouterr().err.count("\n") == 1
    handler.stream = io.StringIO()
    handler.handle(record)  # there is room again
    handler.stream = FullDisk()
    handler.handle(record)
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "No space left on device" in err and "Traceback" not in err


def test_a_mistake_of_ours_spells_out_what_strangers_said():
    code = (
        "import threading\n"
        "from protocol.errors import harmless_tracebacks\n"
        "harmless_tracebacks()\n"
        "def fail(): raise ValueError('in a thread \\x1b[2J')\n"
        "thread = threading.Thread(target=fail); thread.start(); thread.join()\n"
        "raise ValueError('\\x1b]0;title\\x07')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and done.stderr.count(r"\x1b") >= 2
    assert harmless(done.stderr)


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [*HOSTILE, "parity\n", "Parity", "", "-x"])
def test_recipe_class_and_campaign_are_names_or_refused(text):
    recipe = {"name": text, "class": "xor", "task": {}, "network": {}, "training": {}}
    for value in (recipe, recipe | {"name": "ok", "class": text}):
        with pytest.raises(Refused):
            recipe_from_bytes(msgspec.json.encode(value) if text != "\ud800" else b"{")
    with pytest.raises(Refused):
        campaign_from_bytes(msgspec.json.encode({"name": text, "populations": []}) if text != "\ud800" else b"{")


@pytest.mark.parametrize("kind", [HostLabel, Label, Hex])
@pytest.mark.parametrize("text", [text for text in HOSTILE if not text.isprintable() or len(text) > 64])
def test_what_hosts_call_themselves_is_plain_or_refused(kind, text):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(text, kind)


@pytest.mark.parametrize("kind", [HostLabel, Label])
def test_no_label_has_an_unprintable_letter(kind):
    """Of all that there are: so nobody behind the parser has to ask."""
    (letters,) = (meta.pattern[1:-3] for meta in kind.__metadata__)  # between ^ and *\Z
    unprintable = "".join(letter for letter in map(chr, range(0x110000)) if not letter.isprintable())
    assert re.search(letters, "a") and not re.search(letters, unprintable)


def test_people_may_call_their_host_what_they_like():
    for name in ("Ann's laptop", "Zoë #2", "计算机", "host-abc123", "a@b:3 (old)"):
        assert msgspec.convert(name, HostLabel) == name


@pytest.mark.parametrize("text", [*HOSTILE[:6], "Parity", "a\n", r"$\frac{$"])
def test_a_catalogue_with_another_class_than_a_name_is_not_read(text):
    rows = pa.table({"class": ["parity", text], "seed": [1, 2]})
    with pytest.raises(UsageError, match="column class holds text"):
        with_names(rows, Path("zoo"))


@pytest.mark.parametrize("column", ["recipe_name", "host", "id", "checkers", "task.machine"])
def test_no_column_holds_what_a_terminal_obeys(column):
    for text in HOSTILE[:6]:
        values = [[text]] if column == "checkers" else [text]
        with pytest.raises(UsageError, match="holds text"):
            with_names(pa.table({column: values}), Path("zoo"))
    assert with_names(pa.table({column: [["bob"]] if column == "checkers" else ["bob"]}), Path("zoo"))


def test_a_hostile_zoo_gives_no_table(tmp_path):
    row, weights = network(PARITY, 1)
    row = msgspec.structs.replace(row, host="\x1b[2J")
    blobs = {hexdigest(EVIDENCE): EVIDENCE}, {hexdigest(CAMPAIGN): CAMPAIGN}
    ZooWriter(tmp_path, ORGANIZER, clock=lambda: 0.0).publish([(row, weights)], {PARITY.digest: PARITY}, *blobs)
    zoo = open_zoo(tmp_path)
    assert len(zoo.table(columns=["class", "seed"])) == 1
    with pytest.raises(UsageError, match="column host holds text"):
        zoo.table()


@pytest.mark.parametrize("text", [*HOSTILE[:6], "Parity"])
def test_a_manifest_with_another_class_than_a_name_is_not_read(text):
    part = {"digest": "0" * 64, "bytes": 1000, "rows": 1, "classes": {text: 1}}
    exact = msgspec.json.encode({"number": 1, "catalogue": [part]})
    with pytest.raises(Refused, match="manifest"):
        manifest_from_bytes(exact)
    with pytest.raises(Refused, match="manifest"):
        manifest_from_bytes(msgspec.json.encode({"number": 1, "written_at": text}))
    good = msgspec.json.encode({"number": 1, "catalogue": [part | {"classes": {"parity": 1}}]})
    assert manifest_from_bytes(good).classes == {"parity": 1}


@pytest.mark.parametrize("text", HOSTILE[:6])
def test_the_card_of_a_zoo_spells_out_what_campaigns_say(text, tmp_path):
    campaign = canonical_json({"name": "x", "citation": f"Doe {text}", "licence": text or "x"})
    row, weights = network(PARITY, 1)
    row = msgspec.structs.replace(row, campaign=hexdigest(campaign))
    blobs = {hexdigest(EVIDENCE): EVIDENCE}, {hexdigest(campaign): campaign}
    ZooWriter(tmp_path, ORGANIZER, clock=lambda: 0.0).publish([(row, weights)], {PARITY.digest: PARITY}, *blobs)
    assert harmless((tmp_path / "README.md").read_text())
    assert harmless((tmp_path / "croissant.json").read_text())


@pytest.mark.parametrize("digest", ["../../etc/passwd", "", "0" * 63, "0" * 64 + "\n"])
def test_a_campaign_is_named_by_its_digest_or_not_at_all(digest):
    """It becomes a file's name in a volunteer's directory."""
    field = next(field for field in msgspec.structs.fields(Inbox) if field.name == "campaigns")
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(((digest, "running"),), field.type)
    assert msgspec.convert((("0" * 64, "running"),), field.type)


# -- pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [text for text in HOSTILE if text != "x" * 100_000])
def test_pictures_draw_any_name_as_plain_text(text):
    steps = np.array([50.0, 100.0, 150.0])
    rows = []
    for name in (text, "parity"):
        values: dict[str, Any] = {field.name: steps for field in dataclasses.fields(Learning)}
        values |= {"name": name, "networks": 3, "stopped": None}
        rows.append(Learning(**values))
    lines = [comparisons.Line(text, [(0.5, 0.4, 0.6)])]
    figures = [
        learning.draw_curves(rows),
        learning.draw_steps(rows),
        maps.draw_matrices({text: ([text, "parity"], np.eye(2))}, "distance"),
        comparisons.draw_intervals(lines, [text], guess=0.5),
    ]
    for figure in figures:
        picture = svg(figure)
        assert picture.startswith(b"<?xml") and b"<script" not in picture
