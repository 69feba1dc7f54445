"""How small a change of the weights does harm?"""

from matplotlib.figure import Figure

from analysis.plots.comparisons import Line
from analysis.plots.probes import draw_magnitudes
from analysis.probes.corruption.summary import Corrupted as OfClass
from analysis.report.selection import Selection
from analysis.report.studies.probes.study import ProbeStudy
from analysis.report.study import Notes, Table, span, text, whole

SERIES = ("worst of many steps", "worst single step", "largest of random changes", "control: before training")


class Corrupted(ProbeStudy[list[OfClass]]):
    key = "corruption"
    probe = "corruption"
    title = "How small a change of the weights does harm?"
    intro = (
        "All weights are moved together, by a small share of their own size: in the direction that raises the loss "
        "most, and in random directions of the same length. The halving radius is the smallest share that takes away "
        "half of what the network is better than an answer that does not look."
    )

    def snippet(self, selection: Selection) -> str:
        return """from analysis.probes.corruption.summary import by_class
by_class(zoo.probe("corruption", table, ["class"]))"""

    def words(self, result: list[OfClass]) -> list[str]:
        halved = [one for one in result if one.halving[0] == one.halving[0]]
        if not halved:
            return ["No class here is better than an answer that does not look, so there is nothing to halve."]
        weakest, firmest = (pick(halved, key=lambda one: one.halving[0]) for pick in (min, max))
        told = f"Weights moved by {weakest.halving[0]:.1%} of their size take away half of what {weakest.name} knows"
        if firmest is not weakest:
            told += f"; for {firmest.name} it takes {firmest.halving[0]:.1%}"
        less = [one.multi_step[0] / one.random_max[0] for one in halved if one.random_max[0] > 0]
        if not less:
            return [f"{told} (medians)."]
        least, most = f"{min(less):,.0f}", f"{max(less):,.0f}"
        times = f"{least} times" if least == most else f"{least} to {most} times"
        return [f"{told} (medians). At {result[0].rho:.0%} the worst change costs {times} what random ones do at most."]

    def table(self, result: list[OfClass]) -> Table:
        rows = [
            [
                text(one.name),
                whole(one.networks),
                span(*one.score),
                span(*one.halving, ".2%"),
                span(*one.multi_step, ".3g"),
                span(*one.one_step, ".3g"),
                span(*one.linear, ".0%"),
                span(*one.random_max, ".2g"),
                span(*one.initial, ".2g"),
            ]
            for one in result
        ]
        at = f"{result[0].rho:g} of the size"
        head = ["class", "networks", "accuracy", "halving radius (95%)", f"gain of the loss at {at}: many steps"]
        return Table([*head, "one step", "of it foretold by the gradient", "largest random", "before training"], rows)

    def figure(self, result: list[OfClass]) -> Figure:
        gains = [Line(one.name, (one.multi_step, one.one_step, one.random_max, one.initial)) for one in result]
        radii = [Line(one.name, (one.halving,)) for one in result]
        return draw_magnitudes(
            [("halving radius, share of |w|", ("halving radius",), radii), ("gain of the loss", SERIES, gains)]
        )

    def notes(self, result: list[OfClass], selection: Selection) -> Notes:
        return Notes(
            caption="Medians of a class with 95% intervals, logarithmic. Left: halving radius. Right: gains at one "
            "radius.",
            control="random changes of the same norm, and the same networks before training. A search only bounds the "
            "worst change from below.",
            method="The worst step in closed form, then steps of a fifth of the radius (docs/probes.md). "
            + self.made(selection),
        )
