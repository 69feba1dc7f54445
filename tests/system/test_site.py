"""The static site asks nobody for anything, and every document has its place in it. `just site` builds it in CI."""

import re
from pathlib import Path

import build_site
import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("page", "asked"),
    [
        ('<script src="https://cdn.example.org/a.js"></script>', 1),
        ('<link rel="stylesheet" href="//fonts.example.org/css">', 1),
        ('<a href="https://example.org">there</a> <script src="assets/a.js"></script>', 0),
        ('<img alt="x" src="gallery/plot.png"> <img src=https://example.org/x.png>', 1),
    ],
)
def test_what_a_browser_would_fetch_from_elsewhere_is_found(page, asked, tmp_path):
    (tmp_path / "index.html").write_text(page)
    assert len(list(build_site.requests(tmp_path))) == asked


def test_every_document_and_every_tour_is_in_the_menu():
    menu = (ROOT / "mkdocs.yml").read_text()
    pages = {name for name in build_site.tracked("*.md") if re.match(r"docs/|[A-Z]|recipes/", name)}
    pages |= {name.replace(".ipynb", ".md") for name in build_site.tracked("notebooks/*.ipynb")}
    pages |= {f"api/{page}.md" for page in build_site.REFERENCE}
    assert {name for name in pages if name not in menu} == set()


def test_the_reference_names_modules_that_are_there():
    names = [
        name for _, places in build_site.REFERENCE.values() for p in places for name in build_site.modules(ROOT / p)
    ]
    assert len(names) > 30 and all((ROOT / (name.replace(".", "/") + ".py")).is_file() for name in names)
