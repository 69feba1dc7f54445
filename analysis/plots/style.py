"""What all pictures share: colours, fonts, and the bytes of a figure.

Figures are made without pyplot, so nothing global changes in a notebook that uses these functions.
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.ticker import LogFormatter

from protocol.errors import shown

# Told apart by colour-blind readers, dark enough on white (after Okabe and Ito 2008).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b84f90", "#c98a00", "#3a9fd6", "#7b4fb5", "#8c6d46", "#5b6770", "#a3262a")
REST, INK, GRID = "#b8bec6", "#1f2933", "#dfe3e8"
CLASSES_DRAWN_MAX = len(COLOURS)  # more would not be told apart; the smallest classes are drawn as one
NAME_MAX, TITLE_MAX = 40, 140  # characters: a name beside an axis; two of them and a word between
LEGEND_COLUMNS_MAX = 6
PAGE_POINTS, KEY_POINTS = 9.4 * 72, 44  # across a picture of the page; the key beside a name, and the gaps around both
STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.edgecolor": "#9aa5b1",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called $\\frac{$
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "svg.hashsalt": "zooswarm",  # equal numbers give equal bytes
}


def svg(figure: Figure) -> bytes:
    """A self-contained SVG; text is drawn as outlines, so that every reader sees the same."""
    sink = io.BytesIO()
    with rc_context(STYLE):
        if (layout := figure.get_layout_engine()) is not None:
            layout.execute(figure)  # here, and not in `savefig`, which would draw all of it once more for that
            figure.set_layout_engine(None)
        figure.savefig(sink, format="svg", dpi=180, metadata={"Date": None})
    return sink.getvalue()


def plain(name: str, most: int = NAME_MAX) -> str:
    """A name from a zoo as text in a picture; a long one is cut, or nothing else would have room."""
    text = shown(name, TITLE_MAX)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def legend_columns(names: Sequence[str]) -> int:
    """So many names fit side by side under a picture of the page; with more, the outermost would be cut off."""
    font = FontProperties(family="DejaVu Sans", size=STYLE["font.size"])
    widths = [text_to_path.get_text_width_height_descent(plain(name), font, False)[0] for name in names]
    return max(1, min(LEGEND_COLUMNS_MAX, int(PAGE_POINTS // (max(widths, default=0) + KEY_POINTS))))


class PlainLog(LogFormatter):
    """Labels where matplotlib puts them, of three digits: on a short axis its own are all `3e-02`."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:.3g}" if super().__call__(x, pos) else ""


def plain_log(axis: Axis) -> None:
    """Labels of a logarithmic axis as text: matplotlib's own are formulas, which no picture of ours reads."""
    axis.set_major_formatter(PlainLog())
    axis.set_minor_formatter(PlainLog(labelOnlyBase=False, minor_thresholds=(1, 0.4)))


def drawn_classes(labels: Sequence[str]) -> list[str]:
    """The classes that get a colour of their own, by name: the largest ones."""
    names, counts = np.unique(np.array(labels, str), return_counts=True)
    largest = sorted(zip(-counts, names.tolist(), strict=True))[:CLASSES_DRAWN_MAX]
    return sorted(name for _, name in largest)
