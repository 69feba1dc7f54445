"""The name under the mouse: where the dots are, of the right network, and text whatever it says."""

import html
import json
import re
from html.parser import HTMLParser

import msgspec
import numpy as np
import pytest
from support.populations import RECIPES, planted, publish
from support.zoos import CAMPAIGN, EVIDENCE, ORGANIZER

from analysis import open_zoo
from analysis.plots.maps import draw_maps
from analysis.plots.style import svg
from analysis.report import page
from analysis.report.hover import network_names, rings
from analysis.report.page import STUDIES, Settings, rendered, report_json, report_values
from analysis.weights.geometry import Map
from coordinator.zoo.writer import ZooWriter
from protocol.canonical import canonical_json, hexdigest

FEW = Settings(permutations=20)
HOSTILE = (
    "</title></svg><script>alert(1)</script>",
    '" onload="alert(1)',
    "&lt;b&gt;",
    "{{ 7 * 7 }}",
    "\u202egnp.exe",
    "\x1b[2J",
)
NAMED = re.compile(r"<g><title>(.*?)</title>(.*?)</g>", re.DOTALL)


class Reader(HTMLParser):
    """The titles of a page's rings and all its tags, as a browser would read them."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.names: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data):
        if self.tags[-2:] == ["g", "title"]:
            self.names.append(data)


@pytest.fixture(scope="module")
def values(tmp_path_factory):
    """The page of 18 networks, its maps only."""
    networks = [planted(recipe, seed, 0.3) for recipe in RECIPES for seed in range(6)]
    zoo = open_zoo(publish(tmp_path_factory.mktemp("hover") / "zoo", networks, RECIPES))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "STUDIES", tuple(one for one in STUDIES if one.key in ("maps", "distances")))
        return zoo, report_values(zoo, FEW)


def section(values, key: str):
    return next(one for group in values["groups"] for one in group["sections"] if one.key == key)


@pytest.mark.parametrize("spread", [1.0, 1e6])
def test_rings_lie_where_the_picture_has_its_dots(spread):
    rng = np.random.default_rng(5)
    maps = {
        f"map {i}": Map(scores_ND=spread * rng.normal(size=(9, 2)), explained_D=np.array([0.5, 0.2])) for i in range(4)
    }
    labels = ["b", "a", "c"] * 3
    figure = draw_maps(maps, labels)
    for axes in figure.axes:
        for dots in axes.collections:
            dots.set_rasterized(False)  # as shapes their places can be read
    drawn = re.findall(rb'<use [^>]*x="([\d.]+)" y="([\d.]+)"[^>]*fill-opacity', svg(figure))
    places = np.array(drawn, float).reshape(-1, 2)
    found = rings(figure, [one.scores_ND for one in maps.values()], [str(i) for i in range(9)])
    ringed = np.array([place for _, each in found["dots"] for place in each])
    assert len(ringed) == 36
    off = np.linalg.norm(ringed[:, None] - places[None], axis=2).min(axis=1)
    assert off.max() < 0.1, "in points; a dot is four wide"
    assert [name for name, _ in found["dots"]] == [str(i) for i in range(9)]
    first = np.array([each[0] for _, each in found["dots"]])  # of map 0, to the right and upwards as the data
    assert (np.argsort(first[:, 0]) == np.argsort(maps["map 0"].scores_ND[:, 0])).all()
    assert (np.argsort(-first[:, 1]) == np.argsort(maps["map 0"].scores_ND[:, 1])).all()


def test_every_network_of_the_map_is_named_once_and_ringed_on_every_map(values):
    zoo, page_values = values
    text = rendered(page_values)
    found = NAMED.findall(text)
    table = zoo.table()
    assert [html.unescape(name) for name, _ in found] == network_names(table)
    assert all(rings.count("<circle") == 6 for _, rings in found)
    assert '<svg aria-hidden="true" fill="none" pointer-events="all"' in text, "not drawn, and yet pointed at"
    row = table.to_pylist()[7]
    assert network_names(table)[7] == (
        f"{row['class']}, seed {row['seed']}, held-out loss 0.25\nrecipe {row['recipe_name']}\n{row['id']}"
    )
    assert zoo.module(row["id"]) is not None
    assert not section(page_values, "distances").hover and text.count("<svg") == 1


def test_the_page_still_runs_nothing_and_loads_nothing(values):
    text = rendered(values[1])
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'\"" in text
    assert "script" not in Reader(text).tags and not re.search(r"""(src|href)=["'](?!data:|#)""", text)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_text_whatever_it_says(values, name):
    one = section(values[1], "maps")
    kept = one.hover
    try:
        one.hover = kept | {"dots": [[name, kept["dots"][0][1]]]}
        read = Reader(rendered(values[1]))
    finally:
        one.hover = kept
    told = name if name.isprintable() else name.encode("unicode_escape").decode()
    assert "".join(read.names) == told and "script" not in read.tags and read.tags.count("svg") == 1


@pytest.mark.parametrize("text", ["Doe \u202e6202", "Doe\x1b[2J", "Doe \U000e0041", "Doe\x9b31m"])
def test_what_a_campaign_says_is_spelled_out_on_the_page_and_in_json(tmp_path, monkeypatch, text):
    campaign = canonical_json(json.loads(CAMPAIGN) | {"citation": text})
    row, params = planted(RECIPES[0], 0, 0.0)
    row = msgspec.structs.replace(row, campaign=hexdigest(campaign))
    blobs = {hexdigest(EVIDENCE): EVIDENCE}, {hexdigest(campaign): campaign}
    ZooWriter(tmp_path, ORGANIZER, clock=lambda: 0.0).publish([(row, params)], {RECIPES[0].digest: RECIPES[0]}, *blobs)
    monkeypatch.setattr(page, "STUDIES", ())
    values = report_values(open_zoo(tmp_path), FEW)
    for told in (rendered(values), report_json(values)):
        assert "Doe" in told and all(letter.isprintable() for line in told.split("\n") for letter in line)
    assert json.loads(report_json(values))["provenance"]["campaigns"][0]["citation"] == text, "no value is changed"


@pytest.mark.parametrize("length", [4, 14, 22, 40, 64])
def test_names_under_a_map_are_not_cut_off(length):
    maps = {
        title: Map(scores_ND=np.random.default_rng(1).normal(size=(8, 2)), explained_D=np.zeros(0)) for title in "ab"
    }
    figure = draw_maps(maps, [f"{i}" + "m" * (length - 1) for i in range(8)])  # m is the widest letter
    svg(figure)
    (legend,), whole = figure.legends, figure.bbox
    box = legend.get_window_extent()
    assert whole.x0 <= box.x0 and box.x1 <= whole.x1
