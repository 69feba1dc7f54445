"""Pictures of where networks lie: maps, paths on a plane, and matrices of class against class."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.style import (
    CLASSES_DRAWN_MAX,
    COLOURS,
    INK,
    REST,
    STYLE,
    TITLE_MAX,
    drawn_classes,
    legend_columns,
    plain,
)
from analysis.weights.geometry import Map


def draw_maps(maps: dict[str, Map], labels: list[str]) -> Figure:
    """One scatter a map, two to a row, titled by its key, networks coloured by class."""
    with rc_context(STYLE):
        lines = -(-len(maps) // 2)
        figure = Figure(figsize=(9.4, 0.3 + 4.0 * lines), layout="constrained")
        grid = figure.subplots(lines, min(2, len(maps)), squeeze=False).flat
        for axes, (title, where) in zip(grid, maps.items(), strict=True):
            _scatter(axes, where.scores_ND, labels)
            axes.set_title(plain(title, TITLE_MAX))
            if not len(where.explained_D):  # distances on such a map have no unit
                axes.set_xticks([])
                axes.set_yticks([])
            for axis, share, name in zip(
                (axes.xaxis, axes.yaxis), where.explained_D, ("first", "second"), strict=False
            ):
                axis.set_label_text(f"{name} component ({share:.1%} of the variance)")
        handles, names = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=legend_columns(names), markerscale=1.6)
    return figure


def _scatter(axes: Axes, scores_ND: np.ndarray, labels: list[str]) -> None:
    drawn, label_N = drawn_classes(labels), np.array(labels, str)
    groups = [("other classes", ~np.isin(label_N, drawn), REST)]
    groups += [(name, label_N == name, colour) for name, colour in zip(drawn, COLOURS, strict=False)]
    size = 14 if len(labels) < 1000 else 6
    for name, chosen, colour in groups:
        if chosen.any():
            points = scores_ND[chosen]
            axes.scatter(points[:, 0], points[:, 1], size, colour, label=plain(name), alpha=0.7, lw=0, rasterized=True)
    axes.grid(True, lw=0.6)
    axes.margins(0.06)


def draw_matrices(
    tables: Mapping[str, tuple[Sequence[str], np.ndarray]], label: str, sides: tuple[str, str] = ("", "")
) -> Figure:
    """One heat map a title, all on one scale from zero, so that flat looks flat: (names, values (K, K)) each."""
    classes = len(next(iter(tables.values()))[0])
    top = max(float(np.nanmax(value_KK, initial=1e-9)) for _, value_KK in tables.values())
    with rc_context(STYLE):
        figure = Figure(figsize=(9.4, 1.6 + min(0.42 * classes, 6) + 0.6), layout="constrained")
        grid = figure.subplots(1, len(tables), squeeze=False)[0]
        for axes, (title, (names, value_KK)) in zip(grid, tables.items(), strict=True):
            image = axes.imshow(value_KK, cmap="Blues", vmin=0, vmax=1.25 * top, aspect="auto")
            ticks = range(classes) if classes <= 25 else []
            axes.set_xticks(ticks, [plain(names[i]) for i in ticks], rotation=35, ha="right", rotation_mode="anchor")
            axes.set_yticks(ticks, [plain(names[i]) for i in ticks])
            for i, j in np.ndindex(classes, classes) if classes <= 12 else ():
                value = value_KK[i, j]
                text, colour = "–" if np.isnan(value) else f"{value:.2f}", "white" if value > 0.75 * top else INK
                axes.text(j, i, text, ha="center", va="center", color=colour, size=8)
            axes.spines[:].set_visible(False)
            axes.tick_params(length=0)
            axes.set_title(plain(title, TITLE_MAX))
            axes.set_xlabel(sides[1])
            axes.set_ylabel(sides[0])
            bar = figure.colorbar(image, ax=axes, shrink=0.9)
            bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
            bar.set_label(label)
    return figure


def draw_paths(panels: dict[str, tuple[np.ndarray, list[str]]]) -> Figure:
    """One panel a title: paths (N, S, 2) in the plane by class, from a ring to a dot."""
    with rc_context(STYLE):
        figure = Figure(figsize=(9.4, 4.3), layout="constrained")
        for axes, (title, (places_NS2, labels)) in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
        ):
            _paths(axes, places_NS2, labels)
            axes.set_title(plain(title, TITLE_MAX))
            axes.set_xlabel("first component")
            axes.set_ylabel("second component")
            axes.grid(True, lw=0.6)
        handles, names = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=legend_columns(names))
    return figure


def _paths(axes: Axes, places_NS2: np.ndarray, labels: list[str]) -> None:
    drawn = sorted(set(labels))[:CLASSES_DRAWN_MAX]
    for name, colour in zip(drawn, COLOURS, strict=False):
        of_class = [path_S2 for path_S2, label in zip(places_NS2, labels, strict=True) if label == name]
        for i, path_S2 in enumerate(of_class):
            axes.plot(*path_S2.T, color=colour, lw=0.9, alpha=0.7, label=None if i else plain(name))
            axes.plot(*path_S2[0], "o", mfc="white", mec=colour, ms=4)
            axes.plot(*path_S2[-1], "o", color=colour, ms=4)
