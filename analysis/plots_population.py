"""Pictures of the methods on populations; like `plots`, every function draws numbers that it is given."""

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from analysis.classify import Accuracy
from analysis.clusters import Separation
from analysis.plots import CLASSES_DRAWN_MAX, COLOURS, INK, REST, STYLE
from analysis.similarity import Barrier
from analysis.testing import Tested
from analysis.trajectories import Trajectories


def draw_tests(trained: dict[str, Tested], initial: dict[str, Tested]) -> Figure:
    """One line a layer: trained and initial with intervals, over the bar of what shuffled labels give."""
    with rc_context(STYLE):
        figure = Figure(figsize=(9.4, 1.2 + 0.42 * len(trained)), layout="constrained")
        axes = figure.subplots()
        for place, name in enumerate(trained):
            low, high = np.quantile(trained[name].null_R, (0.025, 0.975))
            axes.plot([low, high], [place] * 2, color=REST, lw=11, solid_capstyle="butt", alpha=0.7)
            for shift, row, colour, text in (
                (-0.12, trained[name], COLOURS[0], "trained weights"),
                (0.12, initial[name], COLOURS[1], "control: initial weights"),
            ):
                axes.plot([row.low, row.high], [place + shift] * 2, color=colour, lw=2.5, alpha=0.5)
                axes.plot(row.accuracy, place + shift, "o", color=colour, ms=5.5, label=None if place else text)
        axes.axvline(next(iter(trained.values())).chance, color=INK, lw=1, ls="--", label="guessing")
        axes.set_yticks(range(len(trained)), list(trained))
        axes.set_ylim(len(trained) - 0.5, -0.5)
        axes.set_xlim(0, 1.02)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.0%}"))
        axes.grid(True, axis="x", lw=0.6)
        axes.tick_params(axis="y", length=0)
        figure.legend(loc="outside lower center", ncols=3)
    return figure


def draw_separations(rows: list[Separation]) -> Figure:
    """One line a pair: AUC of trained and initial weights with intervals; the tick is the best shuffle."""
    with rc_context(STYLE):
        figure = Figure(figsize=(9.4, 1.2 + 0.42 * len(rows)), layout="constrained")
        axes = figure.subplots()
        for place, row in enumerate(rows):
            for shift, one, colour, text in (
                (-0.12, row.trained, COLOURS[0], "trained weights"),
                (0.12, row.initial, COLOURS[1], "control: initial weights"),
            ):
                if one is not None:
                    axes.plot([one.low, one.high], [place + shift] * 2, color=colour, lw=2.5, alpha=0.5)
                    axes.plot(one.value, place + shift, "o", color=colour, ms=5.5, label=None if place else text)
            text = None if place else "control: largest with shuffled labels"
            axes.plot(row.shuffled_max, place, "|", color=INK, ms=11, label=text)
        axes.axvline(0.5, color=INK, lw=1, ls="--")
        axes.set_yticks(range(len(rows)), [row.second for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(0, 1.02)
        axes.set_xlabel("AUC, original against modified")
        axes.grid(True, axis="x", lw=0.6)
        figure.legend(loc="outside lower center", ncols=3)
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
        axes.set_xlabel("from the first network (0) to the second (1)")
        axes.set_ylabel("held-out loss")
        axes.grid(True, lw=0.6)
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def draw_paths(found: dict[str, Trajectories], steps_S: np.ndarray, told: list[Accuracy]) -> Figure:
    """Left: distance from the start by class. Right: how well the class is told at each step."""
    with rc_context(STYLE):
        figure = Figure(figsize=(9.4, 3.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        for (name, path), colour in zip(list(found.items())[:CLASSES_DRAWN_MAX], COLOURS, strict=False):
            moved_NS = np.linalg.norm(path.weights_NSP - path.weights_NSP[:, :1], axis=2)
            left.plot(path.steps_S, np.median(moved_NS, axis=0), color=colour, lw=1.8, label=name)
        left.set_ylabel("distance from the start")
        right.fill_between(
            steps_S, [one.low for one in told], [one.high for one in told], color=COLOURS[0], alpha=0.2, lw=0
        )
        right.plot(steps_S, [one.accuracy for one in told], "o-", color=COLOURS[0], lw=1.8, ms=4)
        right.axhline(told[0].chance, color=INK, lw=1, ls="--")
        right.set_ylim(0, 1.02)
        right.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:.0%}"))
        right.set_ylabel("class told right")
        for axes in (left, right):
            axes.set_xscale("symlog", linthresh=max(1, int(steps_S[1]) if len(steps_S) > 1 else 1))
            axes.set_xlim(left=0)
            axes.set_xlabel("optimizer steps")
            axes.grid(True, lw=0.6)
        figure.legend(loc="outside lower center", ncols=6)
    return figure
