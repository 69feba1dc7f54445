"""Pictures: every function draws numbers that it is given and returns a Figure; `svg` makes the bytes.

The figures are made without pyplot, so nothing global changes in a notebook that uses these functions.
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.methods.curves import Learning
from analysis.weights.geometry import Map

# Told apart by colour-blind readers, dark enough on white (after Okabe and Ito 2008).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b84f90", "#c98a00", "#3a9fd6", "#7b4fb5", "#8c6d46", "#5b6770", "#a3262a")
REST, INK, GRID = "#b8bec6", "#1f2933", "#dfe3e8"
CLASSES_DRAWN_MAX = len(COLOURS)  # more would not be told apart; the smallest classes are drawn as one
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
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "svg.hashsalt": "zooswarm",  # equal numbers give equal bytes
}


def svg(figure: Figure) -> bytes:
    """A self-contained SVG; text is drawn as outlines, so that every reader sees the same."""
    sink = io.BytesIO()
    with rc_context(STYLE):
        figure.savefig(sink, format="svg", dpi=180, metadata={"Date": None})
    return sink.getvalue()


def drawn_classes(labels: Sequence[str]) -> list[str]:
    """The classes that get a colour of their own, by name: the largest ones."""
    names, counts = np.unique(np.array(labels, str), return_counts=True)
    largest = sorted(zip(-counts, names.tolist(), strict=True))[:CLASSES_DRAWN_MAX]
    return sorted(name for _, name in largest)


def draw_maps(maps: dict[str, Map], labels: list[str]) -> Figure:
    """One scatter a map, two to a row, titled by its key, networks coloured by class."""
    with rc_context(STYLE):
        lines = -(-len(maps) // 2)
        figure = Figure(figsize=(9.4, 0.3 + 4.0 * lines), layout="constrained")
        grid = figure.subplots(lines, min(2, len(maps)), squeeze=False).flat
        for axes, (title, where) in zip(grid, maps.items(), strict=True):
            _scatter(axes, where.scores_ND, labels)
            axes.set_title(title)
            if not len(where.explained_D):  # distances on such a map have no unit
                axes.set_xticks([])
                axes.set_yticks([])
            for axis, share, name in zip(
                (axes.xaxis, axes.yaxis), where.explained_D, ("first", "second"), strict=False
            ):
                axis.set_label_text(f"{name} component ({share:.1%} of the variance)")
        handles, names = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=6, markerscale=1.6)
    return figure


def _scatter(axes: Axes, scores_ND: np.ndarray, labels: list[str]) -> None:
    drawn, label_N = drawn_classes(labels), np.array(labels, str)
    groups = [("other classes", ~np.isin(label_N, drawn), REST)]
    groups += [(name, label_N == name, colour) for name, colour in zip(drawn, COLOURS, strict=False)]
    size = 14 if len(labels) < 1000 else 6
    for name, chosen, colour in groups:
        if chosen.any():
            points = scores_ND[chosen]
            axes.scatter(points[:, 0], points[:, 1], size, colour, label=name, alpha=0.7, lw=0, rasterized=True)
    axes.grid(True, lw=0.6)
    axes.margins(0.06)


def draw_heat(
    tables: dict[str, tuple[Sequence[str], np.ndarray]], label: str, sides: tuple[str, str] = ("", "")
) -> Figure:
    """One heat map a title, from zero, so that flat looks flat: (names, values (K, K)) each."""
    classes = len(next(iter(tables.values()))[0])
    with rc_context(STYLE):
        figure = Figure(figsize=(9.4, 1.6 + min(0.42 * classes, 6) + 0.6), layout="constrained")
        grid = figure.subplots(1, len(tables), squeeze=False)[0]
        for axes, (title, (names, value_KK)) in zip(grid, tables.items(), strict=True):
            top = max(float(np.nanmax(value_KK, initial=1e-9)), 1e-9)
            image = axes.imshow(value_KK, cmap="Blues", vmin=0, vmax=1.25 * top, aspect="auto")
            ticks = range(classes) if classes <= 25 else []
            axes.set_xticks(ticks, [names[i] for i in ticks], rotation=35, ha="right", rotation_mode="anchor")
            axes.set_yticks(ticks, [names[i] for i in ticks])
            for i, j in np.ndindex(classes, classes) if classes <= 12 else ():
                value = value_KK[i, j]
                text, colour = "–" if np.isnan(value) else f"{value:.2f}", "white" if value > 0.75 * top else INK
                axes.text(j, i, text, ha="center", va="center", color=colour, size=8)
            axes.spines[:].set_visible(False)
            axes.tick_params(length=0)
            axes.set_title(title)
            axes.set_xlabel(sides[1])
            axes.set_ylabel(sides[0])
            bar = figure.colorbar(image, ax=axes, shrink=0.9)
            bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
            bar.set_label(label)
    return figure


def draw_curves(classes: list[Learning]) -> Figure:
    """Median training loss by step with the band of the middle 80% of networks; logarithmic losses."""
    with rc_context(STYLE):
        figure = Figure(figsize=(9.4, 4.0), layout="constrained")
        axes = figure.subplots()
        drawn = drawn_classes([row.name for row in classes for _ in range(row.networks)])
        for row, colour in zip([row for row in classes if row.name in drawn], COLOURS, strict=False):
            if len(row.steps_S):
                axes.fill_between(row.steps_S, row.low_S, row.high_S, color=colour, alpha=0.16, lw=0)
                axes.plot(row.steps_S, row.median_S, color=colour, lw=1.8, label=row.name)
        axes.set_yscale("log")
        axes.set_xlabel("optimizer steps")
        axes.set_ylabel("training loss (mean squared error)")
        axes.grid(True, which="major", lw=0.6)
        axes.set_xlim(left=0)
        figure.legend(loc="outside lower center", ncols=6)
    return figure


def draw_steps(classes: list[Learning]) -> Figure:
    """Steps at the end, a box a class: quartiles, whiskers from 5 to 95%, every network a dot."""
    with rc_context(STYLE):
        drawn = drawn_classes([row.name for row in classes for _ in range(row.networks)])
        rows = [row for row in classes if row.name in drawn]
        figure = Figure(figsize=(9.4, 1.1 + 0.42 * len(rows)), layout="constrained")
        axes = figure.subplots()
        rng = np.random.default_rng(0)
        for place, (row, colour) in enumerate(zip(rows, COLOURS, strict=False)):
            dots = row.steps_N[:1000]
            height = place + rng.uniform(-0.26, 0.26, len(dots))
            axes.scatter(dots, height, 7, colour, alpha=0.35, lw=0, rasterized=True)
            ends, quarters = np.quantile(row.steps_N, (0.05, 0.95)), np.quantile(row.steps_N, (0.25, 0.75))
            axes.plot(ends, [place] * 2, color=INK, lw=1)
            axes.plot(quarters, [place] * 2, color=INK, lw=5, solid_capstyle="butt")
            axes.plot(np.median(row.steps_N), place, "o", color="white", mec=INK, mew=1.2, ms=6)
        axes.set_yticks(range(len(rows)), [row.name for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.set_xlabel("optimizer steps when the network stopped")
        axes.grid(True, axis="x", lw=0.6)
        axes.tick_params(axis="y", length=0)
    return figure
