"""What a kernel learnt from a family of networks is good for: training points that matter, architectures to choose."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from analysis.plots.comparisons import Line, draw_intervals
from analysis.plots.surrogates import draw_influence
from analysis.probes.gp.summary import Influence, Scored
from analysis.report.selection import Selection
from analysis.report.studies.probes.study import ProbeStudy
from analysis.report.study import Notes, Table, number, small, span, text, whole
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
        rhos = [float(np.nan_to_num(judge.rho[0])) for judge in best]  # all points alike: an order that says nothing
        above = sum(judge.rho[1] > 0 for judge in best)
        plain = [max(float(np.nan_to_num(judge.rho[0])) for judge in one.judged[2:]) for one in result]
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
            method="95% intervals: jackknife over points, or over sets; p by orders of the points. "
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


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"
