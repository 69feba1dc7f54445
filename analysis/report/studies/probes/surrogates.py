"""What a kernel learnt from a family of networks says: frequencies, depth, training points, architectures."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from analysis.plots.comparisons import Line, draw_intervals
from analysis.plots.surrogates import draw_depths, draw_influence, draw_learning
from analysis.probes.gp.summary import Depths, Influence, Learning, Scored
from analysis.report.selection import Selection
from analysis.report.studies.probes.study import ProbeStudy
from analysis.report.study import Cell, Notes, Table, number, small, span, text, whole
from analysis.statistics.permutation import holm

SURE = 0.05
SCORE_NAMES = {
    "evidence": "evidence",
    "left_out_nats": "leave-one-out density",
    "left_out_error": "leave-one-out error",
    "arc_evidence": "baseline: evidence, wide ReLU",
    "arc_left_out_nats": "baseline: leave-one-out, wide ReLU",
    "parameters": "baseline: more parameters",
    "training_loss": "baseline: training loss, once trained",
}


class Frequencies(ProbeStudy[list[Learning]]):
    key = "gp_spectrum"
    probe = "gp_spectrum"
    title = "Low frequencies first?"
    intro = (
        "A Gaussian process is fitted to what a family of networks computes, at snapshots of its training. Its length "
        "scale says over which distance outputs go together, the mean frequency how fast functions turn."
    )

    def snippet(self, selection: Selection) -> str:
        return """from analysis.probes.gp.summary import learning
learning(zoo.probe("gp_spectrum", table))"""

    def words(self, result: list[Learning]) -> list[str]:
        told = [self._counted([one for one in result if one.view == view], view) for view in ("functions", "seeds")]
        several = [one for one in result if one.view == "functions" and len(one.frequencies) > 1]
        ordered = sum(one.half_steps == sorted(one.half_steps) for one in several)
        if several:
            told.append(
                f"Where the target has several waves, they are half learnt in the order of their frequency in "
                f"{ordered} of {len(several)} families."
            )
        return [" ".join(told)]

    def _counted(self, families: list[Learning], view: str) -> str:
        higher, shorter, control = (
            sum(p <= SURE for p in holm([getattr(one, name)[1] for one in families]))
            for name in ("higher", "shorter", "control")
        )
        begin = {"functions": "As functions", "seeds": "As seeds differ"}[view]
        return (
            f"{begin}, of {len(families)} families the mean frequency rises with training in {higher} and the length "
            f"scale falls in {shorter} (rank correlation, Holm over families, 5%); in the untrained control it rises "
            f"in {control}."
        )

    def table(self, result: list[Learning]) -> Table:
        rows = [
            [
                text(f"{one.name}: {one.architecture}"),
                text(one.view),
                whole(one.networks),
                span(*one.length_S[0], ".2f"),
                span(*one.length_S[-1], ".2f"),
                span(*one.centroid_S[0], ".2f"),
                span(*one.centroid_S[-1], ".2f"),
                _trend(one.higher),
                _trend(one.shorter),
                _trend(one.control),
                _steps(one.frequencies, one.half_steps),
                text(one.kernels[-1]),
            ]
            for one in result
        ]
        head = ["family", "view", "networks", "length scale before (95%)", "after", "mean frequency before (95%)"]
        head += ["after", "rise: rho, p", "shorter: rho, p", "control's rise", "steps to half of each wave"]
        return Table([*head, "kernel chosen at the end"], rows)

    def figure(self, result: list[Learning]) -> Figure:
        return draw_learning([one for one in result if one.view == "functions"])

    def notes(self, result: list[Learning], selection: Selection) -> Notes:
        return Notes(
            caption="Families as functions (moment about 0), with 95% intervals (jackknife over networks). Dashed: as "
            "many untrained networks at every step. Waves that are never half learnt are not drawn.",
            control="untrained networks of other seeds at every step: nothing may rise there. The view `seeds` takes "
            "the family's mean function off, so that the target itself is gone.",
            method="Snapshots are trained again, and the last must be the zoo's weights bit for bit. The length scale "
            "is always the reference kernel's (docs/probes.md). " + self.made(selection),
        )


class DepthAtBeginning(ProbeStudy[list[Depths]]):
    key = "gp_depth"
    probe = "gp_depth"
    title = "What does depth do before training?"
    intro = (
        "Untrained networks of one kind and several depths: are their outputs at different points still different? "
        "A correlation of 1 means that every function is a constant, or one function times a number."
    )

    def snippet(self, selection: Selection) -> str:
        return """from analysis.probes.gp.summary import depths
depths(zoo.probe("gp_depth", table))"""

    def words(self, result: list[Depths]) -> list[str]:
        return [
            " ".join(
                f"{one.name}: from {one.layers_S[0]} to {one.layers_S[-1]} layers the correlation goes from "
                f"{one.correlation_S[0][0]:.3f} to {one.correlation_S[-1][0]:.3f}, and functions spread along "
                f"{one.participation_S[0][0]:.2f} and {one.participation_S[-1][0]:.2f} directions."
                for one in result
            )
        ]

    def table(self, result: list[Depths]) -> Table:
        rows = [
            [
                text(one.name if not s else ""),
                whole(int(layers)),
                span(*one.correlation_S[s], ".4f"),
                number(float(one.again_S[s]), 4),
                span(*one.participation_S[s]),
                number(float(one.length_S[s]), 2),
                span(*one.trained_S[s], ".4f"),
            ]
            for one in result
            for s, layers in enumerate(one.layers_S)
        ]
        head = ["kind", "layers of weights", "correlation, untrained (95%)", "a second draw", "directions (95%)"]
        return Table([*head, "length scale", "correlation, trained"], rows)

    def figure(self, result: list[Depths]) -> Figure:
        return draw_depths(result)

    def notes(self, result: list[Depths], selection: Selection) -> Notes:
        return Notes(
            caption="Left: correlation of outputs. Right: (tr S)^2 / tr S^2. Bands: 95%, jackknife over networks.",
            control="a second draw of as many networks, none of them in the first; and the trained networks. One layer "
            "of weights is the correlation that the inputs themselves bring.",
            method="Initial weights are computed from recipe and seed. " + self.made(selection),
        )


class InfluentialPoints(ProbeStudy[list[Influence]]):
    key = "gp_influence"
    probe = "gp_influence"
    title = "Which training points matter?"
    intro = (
        "A surrogate says by how much predictions move when a training point goes, without any training. Beside it the "
        "truth: networks trained again without that point, from the same initial weights."
    )

    def snippet(self, selection: Selection) -> str:
        return """from analysis.probes.gp.summary import influences
influences(zoo.probe("gp_influence", table))"""

    def words(self, result: list[Influence]) -> list[str]:
        best = [one.judged[0] for one in result]
        rhos = [judge.rho[0] for judge in best]
        above = sum(judge.rho[1] > 0 for judge in best)
        plain = [max(judge.rho[0] for judge in one.judged[2:]) for one in result]
        won = sum(rho > other for rho, other in zip(rhos, plain, strict=True))
        tops = [judge.top for judge in best if judge.top == judge.top]
        told = (
            f"The surrogate's order of points goes with true retraining: rank correlation {_range(rhos)}, with an "
            f"interval above 0 in {above} of {len(result)} families, and above the better of two simple guesses "
            f"(residual, distance to the nearest point) in {won}."
        )
        if not tops:
            return [told]
        removed = result[0].removed
        more = f"Without its {removed} first points outputs move {_range(tops)} times as far as without random ones."
        return [f"{told} {more}"]

    def table(self, result: list[Influence]) -> Table:
        rows = [
            [
                text(one.name if not i else ""),
                text(judge.name),
                span(*judge.rho, ".2f"),
                small(judge.p),
                number(one.ceiling, 2) if not i else text(""),
                number(judge.top, 2),
                small(judge.top_p),
                span(*judge.sets, ".2f"),
                whole(one.points) if not i else text(""),
                whole(one.networks) if not i else text(""),
            ]
            for one in result
            for i, judge in enumerate(one.judged)
        ]
        head = ["family", "order of points by", "rank correlation with retraining (95%)", "p"]
        head += ["at best", "moves without the first, over random sets", "p", "rank correlation over random sets"]
        return Table([*head, "points", "networks for each"], rows)

    def figure(self, result: list[Influence]) -> Figure:
        return draw_influence(result)

    def notes(self, result: list[Influence], selection: Selection) -> Notes:
        return Notes(
            caption="A dot a training point: influence by the kernel of the trained networks against the mean squared "
            "move of the networks' mean output; logarithmic. Grey: the median move.",
            control="the size of the residual and the distance to the nearest other point, which need no surrogate; "
            "random sets of as many points. `At best`: the rank correlation to be expected with a truth that so few "
            "seeds tell, from two halves of them. Points that matter alone can cancel each other in a set.",
            method="95% intervals by Fisher's z with Bonett and Wright's variance; p by orders of the points. "
            + self.made(selection),
        )


class Architectures(ProbeStudy[list[Scored]]):
    key = "gp_ranking"
    probe = "gp_ranking"
    title = "Which architecture suits a data set, before it is trained?"
    intro = (
        "A kernel is learnt from untrained networks of each architecture, or from those that learnt something else. "
        "How well it explains the training targets is a score; is the order of the scores that of the test errors?"
    )

    def snippet(self, selection: Selection) -> str:
        return """from analysis.probes.gp.summary import rankings
rankings(zoo.probe("gp_ranking", table))"""

    def words(self, result: list[Scored]) -> list[str]:
        ours = [one for one in result if one.population]
        p = holm([one.ranked.p for one in ours])
        sure = [(one, value) for one, value in zip(ours, p, strict=True) if value <= SURE]
        told = [f"{_title(one)} (tau {one.ranked.tau:.2f}, p {value:.2g})" for one, value in sure]
        said = (
            f"Scores that rank better than chance (Holm, 5%): {'; '.join(told)}."
            if told
            else "No score of a surrogate ranks architectures better than chance here (Holm, 5%)."
        )
        plain = [one for one in result if not one.population]
        before = max(
            (one for one in plain if one.name != "training_loss"), key=lambda one: one.ranked.tau, default=None
        )
        after = next((one for one in plain if one.name == "training_loss"), None)
        if before is None or after is None:
            return [said]
        name = SCORE_NAMES[before.name].removeprefix("baseline: ")
        compared = f"The best baseline before training is {name}, tau {before.ranked.tau:.2f}"
        return [f"{said} {compared}; the training loss, once trained, has {after.ranked.tau:.2f}."]

    def table(self, result: list[Scored]) -> Table:
        rows = [
            [
                text(_title(one)),
                span(one.ranked.tau, one.ranked.low, one.ranked.high, ".2f"),
                small(one.ranked.p),
                number(one.ranked.regret, 2),
                number(one.ranked.chance, 2),
                whole(len(one.tasks)),
                whole(one.architectures),
            ]
            for one in result
        ]
        head = ["score", "Kendall's tau with the test error (95%)", "p", "regret of its first choice"]
        return Table([*head, "regret of a random choice", "data sets", "architectures"], rows)

    def figure(self, result: list[Scored]) -> Figure:
        lines = [
            Line(
                _title(one),
                ((one.ranked.tau, one.ranked.low, one.ranked.high),),
                band=(float(np.quantile(one.ranked.null_R, 0.025)), float(np.quantile(one.ranked.null_R, 0.975))),
            )
            for one in result
        ]
        band = "scores given to other architectures (95%)"
        return draw_intervals(lines, ("tau",), "Kendall's tau with minus the test error", 0.0, band=band)

    def notes(self, result: list[Scored], selection: Selection) -> Notes:
        return Notes(
            caption="Means over data sets. Regret: 0 the best, 1 the worst architecture.",
            control="scores given to other architectures, the same ones for all data sets; the number of parameters, a "
            "kernel that no network taught (of infinitely wide ReLU networks), and the training loss, which is known "
            "only after training.",
            method="Intervals by a bootstrap over architectures. " + self.made(selection),
        )


def _title(one: Scored) -> str:
    of = {"initial": ", untrained", "other": ", other tasks", "": ""}[one.population]
    return f"{SCORE_NAMES[one.name]}{of}"


def _trend(found: tuple[float, float]) -> Cell:
    rho, p = found
    return Cell("–", (p,)) if np.isnan(rho) else Cell(f"{rho:.2f}, {p:.2g}", (rho, p))


def _steps(frequencies: Sequence[float], steps: Sequence[float]) -> Cell:
    told = [f"{f:.0f}: {'never' if np.isinf(s) else f'{s:.0f}'}" for f, s in zip(frequencies, steps, strict=True)]
    return Cell(", ".join(told), tuple(s for s in steps if np.isfinite(s)))


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"
