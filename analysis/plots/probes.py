"""Pictures of what probes found."""

from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from analysis.plots.comparisons import Line
from analysis.plots.style import COLOURS, STYLE, plain, plain_log


def draw_magnitudes(panels: Sequence[tuple[str, Sequence[str], Sequence[Line]]], logarithmic: bool = True) -> Figure:
    """Medians with intervals, panels side by side: (label, names of the series, lines).

    All panels have the same lines by name; what is not finite, or on a logarithmic axis not above zero, is not drawn.
    """
    least = 0.0 if logarithmic else -np.inf
    with rc_context(STYLE):
        lines = panels[0][2]
        figure = Figure(figsize=(9.4, 1.6 + 0.34 * len(lines)), layout="constrained")
        each = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (label, series, marked) in zip(each, panels, strict=True):
            shifts = (np.arange(len(series)) - (len(series) - 1) / 2) * min(0.22, 0.7 / len(series))
            for place, line in enumerate(marked):
                for (value, low, high), shift, colour, name in zip(line.marks, shifts, COLOURS, series, strict=False):
                    text = None if place else plain(name)
                    if np.isfinite([low, high]).all() and low > least:
                        axes.plot([low, high], [place + shift] * 2, color=colour, lw=2.5, alpha=0.5)
                    shown = value if np.isfinite(value) and value > least else np.nan
                    axes.plot(shown, place + shift, "o", color=colour, ms=5, label=text)
            if logarithmic:
                axes.set_xscale("log")
                plain_log(axes.xaxis)
            axes.set_xlabel(label)
            axes.grid(True, axis="x", lw=0.6)
            axes.tick_params(axis="y", length=0)
        each[0].set_yticks(range(len(lines)), [plain(line.name) for line in lines])
        each[0].set_ylim(len(lines) - 0.5, -0.5)
        handles, names = max((axes.get_legend_handles_labels() for axes in each), key=lambda pair: len(pair[1]))
        figure.legend(handles, names, loc="outside lower center", ncols=4)
    return figure
