"""The volunteer's own page: itself, and what it hears of the swarm; what it hears may be anything."""

import json

import pytest
from support.pages import ORGANIZER, Guest, a_status

from peer.session import own_page
from peer.session.client import Away
from peer.session.own_page import HEARD_SECONDS, OwnPage, open_own_page, page_port
from protocol.errors import UsageError
from protocol.page.render import page as rendered

ALICE = {"name": "alice", "rows": [["networks trained", "16"], ["now", "waiting for the swarm"]]}


class Heard:
    """A coordinator that answers with what it is given, or is away."""

    organizer = ORGANIZER

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), 0

    def status(self):
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def page_of(*answers, now=(0.0,)):
    times = list(now)
    page = OwnPage(Heard(*answers), "0.2", lambda: times.pop(0) if len(times) > 1 else times[0])
    page.tell(ALICE)
    return page


def test_it_shows_itself_and_the_swarm():
    state = page_of(json.dumps(a_status()).encode())()
    assert state.source == "peer" and state.title == "alice in the swarm" and state.networks == 128
    assert state.own == [("networks trained", "16"), ("now", "waiting for the swarm")] and state.trouble == ""
    html = rendered(state, "v")
    assert "waiting for the swarm" in html and "mallory" in html and "zooswarm join" not in html


def test_while_the_coordinator_is_away_it_shows_what_was_told_last():
    page = page_of(json.dumps(a_status()).encode(), Away("no answer"), now=(0.0, HEARD_SECONDS))
    assert page().trouble == ""
    later = page()
    assert later.networks == 128 and later.heard_at == 0.0 and "no answer" in later.trouble


def test_before_anything_was_heard_it_says_so():
    state = page_of(Away("no answer"))()
    assert state.campaigns == [] and state.own and "Not heard of the coordinator yet" in rendered(state, "v")


def test_the_coordinator_is_asked_seldom():
    page = page_of(json.dumps(a_status()).encode(), now=(0.0, 1.0, 2.0, HEARD_SECONDS - 0.1, HEARD_SECONDS))
    for _ in range(5):
        page()
    assert page._coordinator.asked == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b"3",
        b"\xff",
        b"[" * 50_000,
        b'{"campaigns": 3}',
        b'{"hosts": [{"host": {}}]}',
        b'{"networks": -1e999}',
    ],
)
def test_whatever_the_coordinator_tells_the_page_goes_on(answer):
    state = page_of(answer)()
    assert state.own and state.campaigns == [] and "cannot be read" in state.trouble and state.trouble.isprintable()


def test_a_coordinator_cannot_speak_in_our_name():
    bent = a_status(own=[["credit", "none"]], title="forged", source="coordinator", zoo_map={"panels": 3}, join="evil")
    state = page_of(json.dumps(bent).encode())()
    assert (state.title, state.source, state.join, state.zoo_map) == ("alice in the swarm", "peer", "", None)
    assert state.own[0] == ("networks trained", "16")


def test_ports():
    assert (page_port(None), page_port("0"), page_port("none")) == (own_page.PORT, 0, None)
    for text in ("x", "-1", "70000", "0.0.0.0:7781", "٣"):
        with pytest.raises(UsageError, match="--page"):
            page_port(text)


def test_without_the_libraries_one_line_says_so(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(own_page, "missing_libraries", lambda: "no page: starlette not installed")
    assert open_own_page(page_of(b"{}"), "0", tmp_path, said.append) is None and said == [
        "no page: starlette not installed"
    ]
    assert open_own_page(page_of(b"{}"), "none", tmp_path, said.append) is None and len(said) == 1


def test_it_is_served(tmp_path):
    guest = Guest(page_of(json.dumps(a_status()).encode()), tmp_path)
    assert b"alice in the swarm" in guest.ask().body
    guest.server.close()
