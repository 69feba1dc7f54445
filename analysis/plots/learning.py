"""Pictures of training: loss curves, steps to the stop, and when classes part."""

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, StrMethodFormatter

from analysis.methods.curves import Learning
from analysis.methods.trajectories import Trajectories
from analysis.plots.style import CLASSES_DRAWN_MAX, COLOURS, INK, STYLE, drawn_classes, legend_columns, plain, plain_log
from analysis.statistics.classify import Accuracy


def draw_curves(classes: list[Learning]) -> Figure:
    """Median training loss by step with the band of the middle 80% of networks; logarithmic losses."""
    with rc_context(STYLE):
        figure = Figure(figsize=(9.4, 4.0), layout="constrained")
        axes = figure.subplots()
        drawn = drawn_classes([row.name for row in classes for _ in range(row.networks)])
        for row, colour in zip([row for row in classes if row.name in drawn], COLOURS, strict=False):
            if len(row.steps_S):
                axes.fill_between(row.steps_S, row.low_S, row.high_S, color=colour, alpha=0.16, lw=0)
                axes.plot(row.steps_S, row.median_S, color=colour, lw=1.8, label=plain(row.name))
        axes.set_yscale("log")
        plain_log(axes.yaxis)
        axes.set_xlabel("optimizer steps")
        axes.set_ylabel("training loss (mean squared error)")
        axes.grid(True, which="major", lw=0.6)
        axes.set_xlim(left=0)
        figure.legend(loc="outside lower center", ncols=legend_columns(drawn))
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
        axes.set_yticks(range(len(rows)), [plain(row.name) for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.set_xlabel("optimizer steps when the network stopped")
        axes.grid(True, axis="x", lw=0.6)
        axes.tick_params(axis="y", length=0)
    return figure


def draw_separating(found: dict[str, Trajectories], steps_S: np.ndarray, told: list[Accuracy]) -> Figure:
    """Left: distance from the start by class. Right: how well the class is told at each step."""
    with rc_context(STYLE):
        figure = Figure(figsize=(9.4, 3.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        for (name, path), colour in zip(list(found.items())[:CLASSES_DRAWN_MAX], COLOURS, strict=False):
            moved_NS = np.linalg.norm(path.weights_NSP - path.weights_NSP[:, :1], axis=2)
            left.plot(path.steps_S, np.median(moved_NS, axis=0), color=colour, lw=1.8, label=plain(name))
        left.set_ylabel("distance from the start")
        lows, highs = [one.low for one in told], [one.high for one in told]
        right.fill_between(steps_S, lows, highs, color=COLOURS[0], alpha=0.2, lw=0)
        right.plot(steps_S, [one.accuracy for one in told], "o-", color=COLOURS[0], lw=1.8, ms=4)
        right.axhline(told[0].chance, color=INK, lw=1, ls="--")
        right.set_ylim(0, 1.02)
        right.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:.0%}"))
        right.set_ylabel("class told right")
        for axes in (left, right):
            axes.set_xscale("symlog", linthresh=max(1, int(steps_S[1]) if len(steps_S) > 1 else 1))
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            axes.set_xlim(left=0)
            axes.set_xlabel("optimizer steps")
            axes.grid(True, lw=0.6)
        figure.legend(loc="outside lower center", ncols=legend_columns(list(found)))
    return figure
