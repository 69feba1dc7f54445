"""Pictures of what surrogates of families say: frequencies over training, depth, influential points."""

from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.style import COLOURS, INK, REST, STYLE, TITLE_MAX, plain, plain_log
from analysis.probes.gp.summary import Depths, Influence, Learning, Span


def draw_learning(found: Sequence[Learning]) -> Figure:
    """Centroid and length scale over the steps, a colour a family, its control dashed; steps to half of each wave."""
    with rc_context(STYLE):
        figure = Figure(figsize=(9.4, 3.9), layout="constrained")
        over, length, half = figure.subplots(1, 3)
        for one, colour in zip(found, COLOURS, strict=False):
            _line(over, one.steps_S, one.centroid_S, colour, plain(f"{one.name}: {one.architecture}", TITLE_MAX))
            over.plot(one.steps_S, one.control_centroid_S, "--", color=colour, lw=1, alpha=0.7)
            _line(length, one.steps_S, one.length_S, colour)
            length.plot(one.steps_S, one.control_length_S, "--", color=colour, lw=1, alpha=0.7)
            seen = [(f, s) for f, s in zip(one.frequencies, one.half_steps, strict=True) if np.isfinite(s) and s > 0]
            half.plot([f for f, _ in seen], [s for _, s in seen], "o-", color=colour, ms=5, lw=1.2)
        for axes, label in ((over, "mean frequency, periods a unit"), (length, "length scale, deviations")):
            axes.set_xscale("symlog", linthresh=50)
            most = max(int(one.steps_S[-1]) for one in found)
            axes.set_xticks([0, *(50 * 4**power for power in range(10) if 50 * 4**power <= most)])
            axes.xaxis.set_major_formatter(lambda x, _: f"{x:.0f}")
            axes.minorticks_off()
            axes.set_xlabel("training steps")
            axes.set_title(label)
        half.set_xlabel("frequency, periods a unit")
        half.set_title("steps until half of a wave is learnt")
        for axes in (length, half):
            axes.set_yscale("log")
            plain_log(axes.yaxis)
        for axes in (over, length, half):
            axes.grid(True, lw=0.6)
        over.plot([], [], "--", color=INK, lw=1, label="control: untrained networks")
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def draw_depths(found: Sequence[Depths]) -> Figure:
    """Correlation and participation against the number of layers, a colour a kind."""
    with rc_context(STYLE):
        figure = Figure(figsize=(9.4, 3.6), layout="constrained")
        correlation, participation = figure.subplots(1, 2)
        for one, colour in zip(found, COLOURS, strict=False):
            _line(correlation, one.layers_S, one.correlation_S, colour, plain(f"untrained, {one.name}"))
            correlation.plot(one.layers_S, one.again_S, "x", color=colour, ms=6, alpha=0.8)
            correlation.plot(one.layers_S, [mark[0] for mark in one.trained_S], "--", color=colour, lw=1, alpha=0.8)
            _line(participation, one.layers_S, one.participation_S, colour)
        correlation.plot([], [], "x", color=INK, label="a second draw")
        correlation.plot([], [], "--", color=INK, lw=1, label="trained")
        for axes, label in (
            (correlation, "mean correlation of two points' outputs"),
            (participation, "directions along which functions spread"),
        ):
            axes.set_xscale("log", base=2)
            ticks = sorted({int(layers) for one in found for layers in one.layers_S})
            axes.set_xticks(ticks, [str(tick) for tick in ticks])
            axes.minorticks_off()
            axes.set_xlabel("layers of weights")
            axes.set_title(label)
            axes.grid(True, lw=0.6)
        figure.legend(loc="outside lower center", ncols=4)
    return figure


def draw_influence(found: Sequence[Influence]) -> Figure:
    """A panel a family: what the surrogate said of each point against what retraining without it did; logarithmic."""
    with rc_context(STYLE):
        columns = 2 if len(found) in (2, 4) else min(3, len(found))
        rows = -(-len(found) // columns)
        figure = Figure(figsize=(9.4, 0.4 + 3.0 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, one in zip(panels, found, strict=False):
            rho = one.judged[0].rho[0]
            axes.plot(one.said_N, one.moved_N, "o", color=COLOURS[0], ms=4, alpha=0.75)
            axes.axhline(float(np.median(one.moved_N)), color=REST, lw=1)
            axes.set_title(f"{plain(one.name)}\nrank correlation {rho:.2f}", size=8.5)
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.xaxis.set_major_locator(_decades(one.said_N))
            axes.yaxis.set_major_locator(_decades(one.moved_N))
            for axis in (axes.xaxis, axes.yaxis):
                plain_log(axis)
            axes.minorticks_off()
            axes.grid(True, lw=0.6)
        for axes in panels[len(found) :]:
            axes.set_visible(False)
        figure.supxlabel("influence by the surrogate", size=9)
        figure.supylabel("move when trained without", size=9)
    return figure


def _decades(values: np.ndarray):
    from matplotlib.ticker import LogLocator

    powers = np.log10(values[values > 0].max() / values[values > 0].min()) if (values > 0).any() else 1
    return LogLocator(base=10.0 ** max(1, round(powers / 3)))


def _line(axes: Axes, x_S: np.ndarray, marks: Sequence[Span], colour: str, label: str | None = None) -> None:
    values, low, high = (np.array([mark[i] for mark in marks], np.float64) for i in range(3))
    shown = np.isfinite(low) & np.isfinite(high)
    axes.fill_between(x_S, np.where(shown, low, values), np.where(shown, high, values), color=colour, alpha=0.18, lw=0)
    axes.plot(x_S, values, "o-", color=colour, ms=4.5, lw=1.4, label=label)
