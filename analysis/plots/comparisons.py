"""Pictures of numbers with their intervals beside those of a control: dots, doses, and barriers."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from analysis.methods.changes import Dose
from analysis.plots.style import COLOURS, INK, REST, STYLE, TITLE_MAX, plain, plain_log
from analysis.weights.similarity import Barrier

Mark = tuple[float, float, float]  # a number and its interval; NaN: no interval
NAN = float("nan")
LINE_INCHES, GROUP_TITLE = 0.34, 2  # of `draw_groups`; a title and its axis take as much as so many lines
NO_MARK: Mark = (NAN, NAN, NAN)
TRAINED_AND_INITIAL = ("trained weights", "control: initial weights")


class Line(NamedTuple):
    """One line of `draw_intervals`."""

    name: str
    marks: Sequence[Mark]  # one a series
    band: tuple[float, float] | None = None  # what chance gives


def draw_intervals(
    lines: Sequence[Line],
    series: Sequence[str] = TRAINED_AND_INITIAL,
    label: str = "",
    guess: float | None = None,
    band: str = "",
    percent: bool = False,
) -> Figure:
    """Dots with 95% intervals, a line a name and a colour a series, over grey bars of what chance gives."""
    with rc_context(STYLE):
        figure = Figure(figsize=(9.4, 1.3 + (0.3 + 0.13 * len(series)) * len(lines)), layout="constrained")
        axes = figure.subplots()
        shifts = (np.arange(len(series)) - (len(series) - 1) / 2) * min(0.24, 0.7 / len(series))
        for place, line in enumerate(lines):
            if line.band:
                text = None if place else band
                axes.plot(line.band, [place] * 2, color=REST, lw=11, solid_capstyle="butt", alpha=0.6, label=text)
            for (value, low, high), shift, colour, name in zip(line.marks, shifts, COLOURS, series, strict=False):
                axes.plot([low, high], [place + shift] * 2, color=colour, lw=2.5, alpha=0.5)
                axes.plot(value, place + shift, "o", color=colour, ms=5.5, label=None if place else plain(name))
        if guess is not None:
            axes.axvline(guess, color=INK, lw=1, ls="--", label=f"guessing ({guess:.0%})" if percent else "guessing")
        axes.set_yticks(range(len(lines)), [plain(line.name) for line in lines])
        axes.set_ylim(len(lines) - 0.5, -0.5)
        shown = [*(mark for line in lines for mark in line.marks), *(line.band for line in lines if line.band)]
        values = [x for mark in shown for x in mark if np.isfinite(x)]
        axes.set_xlim(min([0.0, *values]) - 0.02, max([1.0, *values]) + 0.02)
        if percent:
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.0%}"))
        axes.set_xlabel(label)
        axes.grid(True, axis="x", lw=0.6)
        axes.tick_params(axis="y", length=0)
        figure.legend(loc="outside lower center", ncols=3)
    return figure


def draw_groups(groups: Mapping[str, Sequence[Line]], series: Sequence[str], label: str) -> Figure:
    """As `draw_intervals` for many lines: a panel a group, in two columns of about equal height; a group that is more
    than half of all goes on in the second."""
    half = -(-sum(map(len, groups.values())) // 2)
    panels = [(name, lines[at : at + half]) for name, lines in groups.items() for at in range(0, len(lines), half)]
    columns: tuple[list[tuple[str, Sequence[Line]]], ...] = ([], [])
    heights = [0.0, 0.0]
    for name, lines in sorted(panels, key=lambda panel: -len(panel[1])):
        shorter = int(heights[1] < heights[0])
        columns[shorter].append((name, lines))
        heights[shorter] += len(lines) + GROUP_TITLE
    with rc_context(STYLE):
        figure = Figure(figsize=(9.4, 0.9 + LINE_INCHES * max(heights)), layout="constrained")
        for part, column in zip(figure.subfigures(1, 2, squeeze=False)[0], columns, strict=True):
            if column:
                sizes = [len(lines) for _, lines in column]
                every = part.subplots(len(column), 1, squeeze=False, height_ratios=sizes)[:, 0]
                for axes, (name, lines) in zip(every, column, strict=True):
                    _draw_group(axes, name, lines, series)
                every[-1].set_xlabel(label)
        handles, texts = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, texts, loc="outside lower center", ncols=3)
    return figure


def _draw_group(axes: Axes, name: str, lines: Sequence[Line], series: Sequence[str]) -> None:
    for k, (title, colour) in enumerate(zip(series, COLOURS, strict=False)):
        marks = np.array([line.marks[k] for line in lines])
        at = np.arange(len(lines)) + (k - (len(series) - 1) / 2) * 0.75 / len(series)
        axes.hlines(at, marks[:, 1], marks[:, 2], color=colour, lw=1.6, alpha=0.5)
        axes.plot(marks[:, 0], at, "o", color=colour, ms=3.2, label=plain(title))
    axes.set_yticks(range(len(lines)), [plain(line.name) for line in lines])
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_yticks(np.arange(len(lines) - 1) + 0.5, minor=True)
    axes.grid(True, axis="y", which="minor", lw=0.6)
    values = np.array([line.marks for line in lines])
    axes.set_xlim(min(0.0, np.nanmin(values, initial=0)) - 0.02, max(1.0, np.nanmax(values, initial=1)) + 0.02)
    axes.set_title(plain(name, TITLE_MAX))
    axes.grid(True, axis="x", lw=0.6)
    axes.tick_params(axis="y", which="both", length=0)


def draw_doses(found: dict[str, tuple[list[Dose], list[Dose]]]) -> Figure:
    """One panel a change: distance from the unchanged class against the size of the change, with its control."""
    with rc_context(STYLE):
        figure = Figure(figsize=(9.4, 3.6), layout="constrained")
        for axes, (title, pair) in zip(figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True):
            for rows, colour, name in zip(pair, COLOURS, TRAINED_AND_INITIAL, strict=False):
                at = [row.dose for row in rows]
                axes.vlines(at, [row.low for row in rows], [row.high for row in rows], color=colour, lw=2.5, alpha=0.5)
                axes.plot(at, [row.distance for row in rows], "o-", color=colour, ms=5.5, lw=1.2, label=name)
            axes.set_title(plain(title, TITLE_MAX))
            axes.set_xlim(left=0)
            axes.set_ylim(bottom=0)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:.3g}%"))
            axes.set_xlabel("share of the training data that is changed")
            axes.set_ylabel("distance of the centres")
            axes.grid(True, lw=0.6)
        handles, names = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=2)
    return figure


def draw_barrier(found: Barrier) -> Figure:
    """Loss along the line, every pair thin, the median thick; logarithmic."""
    with rc_context(STYLE):
        figure = Figure(figsize=(9.4, 3.4), layout="constrained")
        axes = figure.subplots()
        for losses_JL, colour, name in (
            (found.naive_JL, COLOURS[1], "as they are"),
            (found.matched_JL, COLOURS[0], "matched"),
        ):
            axes.plot(found.at_L, losses_JL.T, color=colour, lw=0.8, alpha=0.35)
            axes.plot(found.at_L, np.median(losses_JL, axis=0), color=colour, lw=2.4, label=name)
        axes.set_yscale("log")
        plain_log(axes.yaxis)
        axes.set_xlabel("from the first network (0) to the second (1)")
        axes.set_ylabel("held-out loss")
        axes.grid(True, lw=0.6)
        figure.legend(loc="outside lower center", ncols=2)
    return figure
