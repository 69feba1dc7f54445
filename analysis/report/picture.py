"""A zoo in one picture: three lines from a directory to a plot."""

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from analysis.plots.maps import draw_maps
from analysis.weights.features import invariants, standardized
from analysis.weights.geometry import pca
from analysis.zoo import Zoo, open_zoo, places_of
from protocol.errors import UsageError
from protocol.recipes.layers import Layer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NETWORKS_MIN = 2


def plot(zoo: Zoo | Path | str, where: str | None = None) -> "Figure":
    """Networks as dots, by their class: on the left as they were initialized, on the right as trained.

    Axes are the first two principal components of numbers that do not depend on how hidden units are numbered. Of
    several architectures the one with most networks is drawn; `where`, SQL over the catalogue as in `Zoo.table`, takes
    others. Returns a matplotlib Figure: `.savefig("zoo.png")`; a notebook shows it by itself. Raises UsageError: fewer
    than two networks of one architecture.
    """
    opened = zoo if isinstance(zoo, Zoo) else open_zoo(zoo)
    rows = opened.table(where, ["class", "recipe", "seed", "shard", "row"])
    some = rows.take(pa.array(largest_shape(opened, rows), pa.int64()))
    if some.num_rows < NETWORKS_MIN:
        raise UsageError("a picture needs two networks of one architecture; widen `where`")
    recipe = opened.recipe(some["recipe"][0].as_py())
    before_NF = standardized(invariants(recipe, opened.initial_weights_of(some)))
    after_NF = standardized(invariants(recipe, opened.weights_of(some)))
    told = f"{some.num_rows:,} networks of {recipe.parameter_count:,} parameters"
    maps = {f"{told}, as initialized": pca(before_NF), "As trained": pca(after_NF)}
    return draw_maps(maps, some["class"].to_pylist())


def largest_shape(zoo: Zoo, rows: pa.Table) -> list[int]:
    """Which rows (column recipe) are of the architecture that has most of them, ascending."""
    shapes: dict[tuple[Layer, ...], list[int]] = {}
    for digest, members in places_of(rows["recipe"]).items():
        shapes.setdefault(zoo.recipe(digest).network.layers, []).extend(members)
    return sorted(max(shapes.values(), key=len, default=[]))
