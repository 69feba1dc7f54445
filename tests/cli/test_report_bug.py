"""`zooswarm report-bug`: nothing of what is nobody's business is in it, whatever it is surrounded by."""

import base64
import ipaddress
import re
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.cli import main
from protocol.cli.redact import Redactor
from protocol.cli.report_bug import bundle, of_directory
from protocol.rpc.invite import Invite, make_invite
from protocol.trust.identity import Identity
from protocol.trust.ticket import make_ticket

PEOPLE, HOMES = ("marie", "maries-laptop"), ("/srv/people/marie",)
AROUND = st.sampled_from(
    ["", " ", "\n", "'", '"', "(", ")", "=", ",", "; ", "/", ": ", " at ", "[host ", "]", "\t", "{", "}"]
)
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=30)
ORGANIZER, VOLUNTEER = Identity.generate(), Identity.generate()
IPS = st.one_of(
    st.ip_addresses(v=4).filter(lambda ip: not (ip.is_loopback or ip.is_unspecified)),
    st.ip_addresses(v=6).filter(lambda ip: not (ip.is_loopback or ip.is_unspecified or ip.ipv4_mapped)),
).map(str)
SECRETS = st.one_of(
    st.builds(lambda seed: Identity.generate().host, st.none()),
    st.floats(1e9, 2e9).map(lambda until: make_ticket(ORGANIZER, VOLUNTEER.host, until)),
    st.ip_addresses(v=4).map(lambda ip: make_invite(Invite(organizer=ORGANIZER.host, targets=(f"{ip}:7750",)))),
    st.binary(min_size=32, max_size=32).map(bytes.hex),
    st.binary(min_size=32, max_size=32).map(lambda data: base64.urlsafe_b64encode(data).decode()),
    IPS,
    st.just("marie"),
    st.just("/srv/people/marie/zoo"),
    st.just("marie@example.org"),
    st.just("https://hooks.example.org/T0/B0/xyz"),
)


@given(WORDS, AROUND, SECRETS, AROUND, WORDS)
def test_no_secret_is_left_between_any_words(before, left, secret, right, after):
    redacted = Redactor(PEOPLE, HOMES)(f"{before} {left}{secret}{right} {after}")
    bare = (before + after).lower()
    if secret.lower() not in bare:
        assert secret.lower() not in redacted.lower()
    if "marie" not in bare:
        assert "marie" not in redacted.lower()


@given(WORDS, SECRETS, WORDS)
def test_a_second_time_changes_nothing_more(before, secret, after):
    once = Redactor(PEOPLE, HOMES)(f"{before} {secret} {after}")
    assert Redactor(PEOPLE, HOMES)(once) == once


@given(IPS, IPS)
def test_the_same_address_has_the_same_mark_and_another_one_another(one, other):
    first, second, again = Redactor()(f"{one} | {other} | {one}").split(" | ")
    assert first == again and (first == second) == (ipaddress.ip_address(one) == ipaddress.ip_address(other))


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-26 11:09:16,525 ERROR coordinator.server: case failed; this is a bug, please report it",
        '  |   File "/usr/lib/python3.11/site-packages/click/core.py", line 1653, in __call__',
        "zooswarm 0.2.0.dev0, Python 3.11.7, numpy 2.4.6",
        "listening on 127.0.0.1:7750 and [::1]:7750, 0.0.0.0",
        "in test_a_dead_hosts_work_unit_goes_to_another_one: coordinator.server.swarm_publisher",
        "flags: fpu vme sse4_2 avx2 fma avx512f std::vector",
        "--------------------------------------------------",
        "12,345 networks (1,200/h), loss 0.017570, 3.5e-05",
    ],
)
def test_what_tells_what_happened_stays(text):
    assert Redactor(PEOPLE, HOMES)(text) == text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("join --ticket abc --name 'Marie C' x", "join --ticket <secret> --name <secret> x"),
        ('{"token": "short", "ok": 1}', '{"token": "<secret>", "ok": 1}'),
        ("host-ziYeTS was here", "host-<name> was here"),
        ("/home/pierre/zoo and C:\\Users\\pierre\\zoo", "/home/<name>/zoo and C:\\Users\\<name>\\zoo"),
        ("swarm.example.org:7750 in main.py:66", "<computer 1>:7750 in main.py:66"),
        ("/dns4/swarm.example.org/tcp/4001", "/dns4/<name>/tcp/4001"),
        ("/ip4/203.0.113.7/tcp/4001", "/ip4/<ip 1>/tcp/4001"),
        ("/srv/people/marie/a /srv/people/marielle/a", "~/a /srv/people/marielle/a"),
    ],
)
def test_forms_of_names_and_places(text, left):
    assert Redactor(PEOPLE, HOMES)(text) == left


@pytest.fixture
def volunteer(tmp_path) -> Path:
    """A volunteer's directory with something to hide in each file."""
    directory = tmp_path / "volunteer"
    (directory / "bundles").mkdir(parents=True)
    Identity.load_or_create(directory / "identity")
    (directory / "volunteer.log").write_text(f"12:00:00 joined {ORGANIZER.host} at 203.0.113.7:7750\n" * 9000)
    (directory / "known.json").write_text(f'{{"address": "203.0.113.7:7750/{ORGANIZER.host}"}}')
    (directory / "ticket.txt").write_text(make_ticket(ORGANIZER, VOLUNTEER.host, 2e9))
    (directory / "invite.json").write_text("secret-invite")
    (directory / "link.log").symlink_to("/etc/passwd")
    return directory


def test_the_file_has_what_helps_and_no_key(volunteer, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ZOOSWARM_HOME", str(tmp_path / "home"))
    key = (volunteer / "identity").read_bytes()
    out = tmp_path / "bug.zip"
    assert main.run(["report-bug", "--dir", str(volunteer), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    with zipfile.ZipFile(out) as file:
        texts = {name: file.read(name).decode() for name in file.namelist()}
    assert set(texts) == {
        "README.txt", "about.txt", "1/doctor.txt", "1/files.txt", "1/known.json", "1/volunteer.log",
    }  # fmt: skip
    assert all(name in told for name in texts) and "nothing was sent" in told
    assert "exit code" in texts["1/doctor.txt"] and re.search(r"zooswarm \d", texts["about.txt"])
    assert len(texts["1/volunteer.log"]) <= 200_000 and "joined <host 1> at <ip 1>:7750" in texts["1/volunteer.log"]
    whole = "\n".join(texts.values())
    assert ORGANIZER.host not in whole and "203.0.113.7" not in whole and key[4:36].hex() not in whole
    assert main.run(["report-bug", "--dir", str(volunteer), "--out", str(out)]) == 2  # never over another file


def test_a_directory_that_is_not_there_is_one_line(tmp_path, capsys):
    assert main.run(["report-bug", "--dir", str(tmp_path / "no"), "--out", str(tmp_path / "bug.zip")]) == 2
    assert "[ZS-FILE]" in capsys.readouterr().err and not (tmp_path / "bug.zip").exists()


def test_files_with_keys_are_never_opened(volunteer, monkeypatch):
    opened = []
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *args, **more: opened.append(self.name) or real(self, *args, **more))
    monkeypatch.setattr("protocol.cli.report_bug._doctor", lambda directory: "")
    assert dict(of_directory(volunteer)) and "volunteer.log" in opened
    assert not {"identity", "ticket.txt", "invite.json", "link.log"} & set(opened)


def test_nobody_at_home_is_no_trouble(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOOSWARM_HOME", str(tmp_path / "home"))
    assert set(bundle([])) == {"README.txt", "about.txt"}
