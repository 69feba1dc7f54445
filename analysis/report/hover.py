"""The network under the mouse: rings, drawn only when pointed at, that lie over a picture and have names.

The browser shows a `<title>` by itself, so the page needs no script. Names are text of the template, which escapes
them. Axes: N networks.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure

from protocol.errors import shown

POINTS = 72  # to an inch: the unit of an SVG by matplotlib
NAME_MAX = 64  # characters of a class or a recipe, which is what recipes allow


def rings(figure: Figure, panels: Sequence[np.ndarray], names: Sequence[str]) -> dict[str, Any]:
    """`width` and `height` of the picture in points; `dots`: of each network its name and its (x, y) on each panel.

    `panels`: (N, 2) places in the data's units, in the order of the figure's axes. Call it after `svg(figure)`, which
    is what lays the axes out. Empty without panels. Plain values, as the cache keeps them.
    """
    if not panels:
        return {}
    size_2 = figure.get_size_inches() * POINTS
    on_paper = figure.transFigure.inverted()
    places = [
        on_paper.transform(axes.transData.transform(places_N2)) * [1, -1] + [0, 1]  # from the top, as SVG counts
        for axes, places_N2 in zip(figure.axes, panels, strict=False)
    ]
    place_NK2 = np.round(np.stack(places, axis=1) * size_2, 1)
    width, height = size_2.round(3).tolist()
    return {"width": width, "height": height, "dots": list(map(list, zip(names, place_NK2.tolist(), strict=True)))}


def network_names(table: pa.Table) -> list[str]:
    """What a reader asks of a dot, in three lines: class, seed and loss; recipe; the id that `zoo.module` takes."""
    columns = ["class", "seed", "held_out_loss", "recipe_name", "id"]
    return [
        f"{shown(row['class'], NAME_MAX)}, seed {row['seed']}, held-out loss {loss(row['held_out_loss'])}\n"
        f"recipe {shown(row['recipe_name'], NAME_MAX)}\n{shown(row['id'], NAME_MAX)}"
        for row in table.select(columns).to_pylist()
    ]


def loss(value: float | None) -> str:
    return "not known" if value is None else f"{value:.4g}"
