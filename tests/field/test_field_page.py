"""The field report of a real host's directory: read while nothing is written, and numbers that are the ledger's."""

import json

import pytest
from click.testing import CliRunner
from support.worked import admit_one_more, work

from coordinator.cli import field_report
from coordinator.field.activity import read_activity
from coordinator.field.page import write_page
from protocol.errors import UsageError


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    path = tmp_path_factory.mktemp("field") / "host"
    work(path)
    admit_one_more(path)
    return path


def test_the_page_says_what_the_ledger_says(host, tmp_path):
    before = {file.name: file.read_bytes() for file in host.iterdir() if file.is_file()}
    page = write_page(host, tmp_path, 1800.0, json_too=True)
    numbers = json.loads((tmp_path / "field.json").read_text())
    found = read_activity(host / "ledger.sqlite")
    assert numbers["segments"]["admitted"] == sum(one.credit for one in found.members) > 0
    assert numbers["segments"]["under_way"] > 0
    assert numbers["costs"][0]["steps"] == sum(w.steps for w in found.works if w.phase == "admitted")
    everybody = {one.host for one in [*found.works, *found.checks, *found.members]}
    assert numbers["volunteers"] == len(everybody - {found.organizer})
    html = page.read_text()
    assert html.count("data:image/svg+xml;base64,") == 4 and "http" not in html.split("<main>")[1]
    assert {name: (host / name).read_bytes() for name in before if not name.endswith(("-shm", "-wal"))} == {
        name: data for name, data in before.items() if not name.endswith(("-shm", "-wal"))
    }


def test_names_of_strangers_are_text(host, tmp_path):
    import shutil
    import sqlite3

    shutil.copytree(host, tmp_path / "host")
    ledger = sqlite3.connect(tmp_path / "host" / "ledger.sqlite")
    ledger.execute("update hosts set name = '<script>alert(1)</script>$\\frac{'")
    ledger.commit()
    ledger.close()
    assert "<script" not in write_page(tmp_path / "host", tmp_path, 1800.0).read_text()


def test_what_is_no_ledger_is_named(tmp_path):
    with pytest.raises(UsageError, match="there is no ledger; name the directory"):
        read_activity(tmp_path / "ledger.sqlite")
    (tmp_path / "ledger.sqlite").write_bytes(b"not SQLite at all, but longer than a header of a hundred bytes" * 9)
    with pytest.raises(UsageError, match="cannot read the ledger"):
        read_activity(tmp_path / "ledger.sqlite")


def test_the_verb(host, tmp_path, monkeypatch):
    monkeypatch.setenv("ZOOSWARM_HOME", str(tmp_path / "home"))
    result = CliRunner().invoke(field_report, [str(host), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert result.output.strip() == str(tmp_path / "out" / "field.html")
