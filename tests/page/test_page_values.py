"""What the page shows, as values and as HTML: nothing from outside is obeyed, and nothing is said by colour alone."""

import contextlib
import html.parser
import json
import re

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.pages import ALICE, MALLORY, a_map, a_state, a_status

from coordinator.server.rankings import ranked_teams, team_of
from protocol.errors import Refused
from protocol.page import pictures
from protocol.page.render import SECTIONS, ago, page, sections, span
from protocol.page.state import CLASSES_MAX, MAP_BYTES_MAX, State, schema
from protocol.page.told import harmless, map_from_bytes, state_of

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "\x1b[2J",
    "\u202egnp",
    "{{ 7 * 7 }}",
    "x" * 9999,
)
OURS = {"source": "coordinator", "title": "t", "version": "1", "organizer": "o", "time": 0.0}


class Elements(html.parser.HTMLParser):
    """Every element with its attributes, and all text."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_text_from_outside_is_text_on_the_page(hostile):
    status = a_status(refusals=[{"reason": hostile, "host": "", "count": 1, "detail": hostile}])
    status["campaigns"][0] |= {"name": hostile, "networks_by_class": {hostile: 3, "xor": 4}}
    status["hosts"][1] |= {"name": hostile, "banned": hostile, "device": hostile}
    status["rejections"][0] |= {"reason": hostile, "name": hostile}
    plain = Elements(page(a_state(), "v"))
    bent = Elements(page(a_state(status), "v"))
    assert [tag for tag, _ in bent.found] == [tag for tag, _ in plain.found], "an element more or less"
    assert {name for _, given in bent.found for name in given} <= {name for _, given in plain.found for name in given}
    assert "49" not in "".join(bent.text).split()
    assert all(c.isprintable() or c == "\n" for c in "".join(bent.text))


def test_the_page_asks_nobody_else_and_runs_nothing_that_is_written_in_it():
    found = Elements(page(a_state(), "v")).found
    links = [given[name] for _, given in found for name in ("src", "href", "action", "data") if name in given]
    assert links and all(link.startswith(("/", "#")) and not link.startswith("//") for link in links)
    assert not any(name.startswith("on") or name == "style" for _, given in found for name in given)
    assert [given for tag, given in found if tag == "script"] == [{"src": "/static/page.js?v", "defer": None}]


def test_everything_that_matters_is_said_in_words():
    text = " ".join(" ".join(Elements(page(a_state(), "v")).text).split())
    for words in (
        "32 admitted",
        "5 being checked",
        "3 handed in, not yet checked",
        "20 waiting or leased",
        "2 results rejected",
        "128 of 240 networks admitted, 120 in the zoo; about 44 s left",
        "alice @owls AAAAAAAA",
        "@owls",
        "wrong work",
        "replay disagrees in 5 segments",
        "convicted",
        "demo #7",
        "it does not hold",
        "class 0 20",
    ):
        assert words in text, words


def test_paths_come_whole():
    """A text is cut on its way to the page; a picture of ours is none."""
    state = a_state(zoo_map=a_map(500))
    found = Elements(page(state, "v")).found
    drawn = [given["d"] or "" for tag, given in found if tag == "path" and "dot" in (given.get("class") or "")]
    assert max(map(len, drawn)) > 3000 and sum(path.count("z") for path in drawn) == 500 + 2
    curves = [given["d"] or "" for tag, given in found if tag == "path" and given.get("class") in ("training", "held")]
    assert [path.count("L") for path in curves] == [29, 29]


def test_every_section_is_the_same_alone_and_in_the_page():
    state = a_state()
    whole, alone = page(state, "v"), sections(state)
    assert set(alone) == set(SECTIONS)
    assert all(text in whole for text in alone.values())


def test_a_state_is_what_the_schema_says():
    written = json.loads(msgspec.json.encode(a_state()))
    described = schema()
    assert described["$defs"]["State"]["required"] == ["source", "title", "version", "organizer", "time"]
    assert set(written) == set(described["$defs"]["State"]["properties"])
    assert msgspec.json.decode(msgspec.json.encode(a_state()), type=State) == a_state()


@pytest.mark.parametrize(
    "status", [[], "text", None, {"campaigns": 3}, {"hosts": [{"host": 5}]}, {"campaigns": [{"name": "half"}]}]
)
def test_another_shape_is_refused(status):
    with pytest.raises(Refused):
        state_of(status, **OURS)


@settings(max_examples=30, deadline=None)
@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_json_is_either_refused_or_harmless(status):
    with contextlib.suppress(Refused):
        assert page(state_of(status, **OURS), "v").endswith("</html>")


def test_lists_and_texts_without_end_are_cut():
    deep: list = []
    for _ in range(100):
        deep = [deep]
    assert len(harmless(["x"] * 10_000)) == 200 and len(harmless("x" * 10_000)) < 400
    assert str(harmless(deep)).count("[") < 20


def test_a_bar_holds_every_assignment_once():
    (campaign,) = a_state(a_status()).campaigns
    for leased in (None, 0, 7, 20, 500):
        pieces = pictures.bar(msgspec.structs.replace(campaign, leased=leased))
        assert sum(piece.number for piece in pieces) == campaign.assignments
        assert sum(piece.width for piece in pieces) == pytest.approx(100, abs=0.01)
        assert [piece.begin for piece in pieces] == sorted(piece.begin for piece in pieces)
    assert {piece.name: piece.number for piece in pictures.bar(msgspec.structs.replace(campaign, leased=7))}[
        "waiting"
    ] == 13


@pytest.mark.parametrize(("values", "points"), [([], 0), ([1.0], 0), ([1.0, 0.1], 2), ([1.0, None, 0.0, 0.1], 2)])
def test_a_curve_has_the_losses_that_there_are(values, points):
    assert pictures.curve(values, *pictures.loss_range([values])).count("L") == max(0, points - 1)


def test_lower_losses_are_drawn_lower():
    down = [float(pair.split()[1]) for pair in pictures.curve([1.0, 0.1, 0.01], 0.01, 1.0)[1:].split("L")]
    assert down == sorted(down) and down[1] - down[0] == pytest.approx(down[2] - down[1], abs=0.11)


def test_every_class_has_its_own_shape_or_filling():
    drawn = pictures.dots(a_map(60, CLASSES_MAX).panels[0])
    assert len({(one.shape, one.hollow) for one in drawn}) == CLASSES_MAX
    assert [one.path.count("z") for one in drawn] == [6] * CLASSES_MAX


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "map"),
        (b"{}", "map"),
        (b"[" * 100_000, "map"),
        (b"x" * (MAP_BYTES_MAX + 1), "more than"),
        (msgspec.json.encode(a_map(4)).replace(b"[0.5,", b"[7.5,", 1), "map"),
        (msgspec.json.encode(a_map(4)).replace(b'"class 1"', b'"class 1"'.replace(b"1", b"1" * 99)), "map"),
        (msgspec.json.encode(a_map(4)).replace(b'["class 0","class 1"]', b'["class 0"]'), "no name"),
    ],
)
def test_a_map_that_is_none_is_refused(data, said):
    with pytest.raises(Refused, match=said):
        map_from_bytes(data)


def test_a_map_comes_back_as_it_was_written():
    assert map_from_bytes(msgspec.json.encode(a_map(40))) == a_map(40)


def test_a_team_is_what_stands_behind_the_last_at():
    assert [team_of(name) for name in ("alice @Owls", "@owls", "bob@home", "eve", "x @a b", "y @")] == [
        "owls",
        "owls",
        "",
        "",
        "",
        "",
    ]
    ranked = ranked_teams([("alice @owls", 5), ("bob @Owls", 4), ("eve @cats", 8), ("solo", 99)])
    assert [(team.name, team.hosts, team.credit) for team in ranked] == [("owls", 2, 9), ("cats", 1, 8)]


def test_times_are_coarse_words():
    assert [ago(s) for s in (0, 9.9, 34, 125, 4000)] == ["just now", "just now", "30 s ago", "2 min ago", "66 min ago"]
    assert [span(s) for s in (None, 45, 600, 9000, 200_000)] == ["–", "45 s", "10 min", "2.5 h", "2.3 days"]


def test_a_host_that_is_away_or_banned_is_said_to_be():
    rows = re.findall(
        r"</span> (\w+)</td><th scope=\"row\">[^<]*<span class=\"key\">(\w+)", sections(a_state())["hosts"]
    )
    assert rows == [("here", ALICE[-8:]), ("banned", MALLORY[-8:])]
