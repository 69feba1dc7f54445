"""Three lines to a plot, and every picture of docs/gallery.md, on a zoo that is made here."""

import re
from pathlib import Path

import gallery
import numpy as np
import pytest
from matplotlib.figure import Figure
from support.populations import RECIPES, SEEDS, planted, publish

import analysis
from analysis.report.picture import largest_shape
from protocol.errors import UsageError

ROOT = Path(__file__).parents[2]
BYTES_MAX = 1_500_000  # of all pictures: a clone is not to grow by them


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> Path:
    networks = [planted(recipe, seed, 0.3) for recipe in RECIPES for seed in range(SEEDS)]
    return publish(tmp_path_factory.mktemp("gallery") / "zoo", networks, RECIPES)


def test_three_lines_are_a_picture_of_every_network_before_and_after(zoo, tmp_path):
    figure = analysis.plot(analysis.open_zoo(zoo))
    dots = [sum(len(np.asarray(found.get_offsets())) for found in axes.collections) for axes in figure.axes]
    assert dots == [len(RECIPES) * SEEDS] * 2
    analysis.plot(zoo).savefig(tmp_path / "zoo.png")
    assert (tmp_path / "zoo.png").read_bytes().startswith(b"\x89PNG")


def test_the_picture_is_of_what_was_asked_for(zoo):
    where = f"class = '{RECIPES[0].label}'"
    figure = analysis.plot(zoo, where)
    assert figure.axes[0].get_legend_handles_labels()[1] == [RECIPES[0].label]
    assert f"{SEEDS} networks" in figure.axes[0].get_title(loc="left")
    with pytest.raises(UsageError, match="two networks"):
        analysis.plot(zoo, "false")
    with pytest.raises(UsageError, match="columns: "):
        analysis.plot(zoo, "klass = 1")


def test_of_several_architectures_the_one_with_most_networks_is_drawn(zoo):
    opened = analysis.open_zoo(zoo)
    rows = opened.table()
    first = opened.recipe(rows["recipe"][0].as_py())
    other = next((r for r in opened.recipes.values() if r.network.layers != first.network.layers), None)
    chosen = largest_shape(opened, rows)
    assert chosen == sorted(chosen) and len(chosen) >= rows.num_rows / len(opened.recipes)
    assert other is not None or np.array_equal(chosen, np.arange(rows.num_rows))


def test_the_readmes_three_lines_are_those():
    text = (ROOT / "README.md").read_text()
    (first, *_) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len([line for line in first.splitlines() if line]) == 3 and "plot(zoo)" in first


@pytest.mark.slow
@pytest.mark.parametrize("picture", list(gallery.pictures()), ids=lambda picture: Path(picture.path).stem)
def test_the_code_beside_each_picture_draws_one(picture, zoo):
    assert isinstance(picture.figure(zoo), Figure)


def test_every_picture_of_the_gallery_is_there_and_small():
    found = [ROOT / "docs" / picture.path for picture in gallery.pictures()]
    assert 6 <= len(found) <= 10 and sorted(found) == sorted((ROOT / "docs" / "gallery").iterdir())
    assert sum(path.stat().st_size for path in found) < BYTES_MAX
