"""All probes together: do their numbers go with each other, and do the weights foretell them?"""

import numpy as np
from matplotlib.figure import Figure

from analysis.catalogue.probe_tables import probe_digest, probe_names
from analysis.plots.comparisons import NO_MARK, Line, draw_intervals
from analysis.probes.across import NUMBERS, Foretold, Pair
from analysis.report.selection import Selection
from analysis.report.studies.probes.study import ProbeStudy
from analysis.report.study import Notes, Table, number, span, text, whole

FEATURES = ("statistics", "chain features", "initial weights", "loss alone")
SERIES = ("statistics of arrays", "chain features", "control: initial weights", "baseline: held-out loss")
SPLITS = {"seed": "new seeds", "recipe": "new recipes", "class": "new classes"}


class AcrossProbes:
    """Drawn when two probes left rows."""

    probe = "across"

    def ready(self, there: list[str]) -> bool:
        return len({one.probe for one in NUMBERS} & set(there)) > 1

    def stamp(self, selection: Selection) -> str:
        path = selection.zoo.store.path
        return " ".join(probe_digest(path, name) for name in probe_names(path))


class GoTogether(AcrossProbes, ProbeStudy[list[Pair]]):
    key = "together"
    title = "Do the probes say the same?"
    intro = (
        "One number of each probe for every network, ranked: Spearman's correlation of each two. Beside it the same "
        "within classes (ranks less their class's mean), because classes differ in many ways at once."
    )

    def snippet(self, selection: Selection) -> str:
        return """from analysis.probes.across import correlations, wide
correlations(wide(zoo, table))"""

    def words(self, result: list[Pair]) -> list[str]:
        sure = [one for one in result if one.within[1] > 0 or one.within[2] < 0]
        if not sure:
            return ["Within classes no two numbers go together: no interval leaves out zero."]
        best = max(sure, key=lambda one: abs(one.within[0]))
        return [
            f"Within classes {len(sure)} of {len(result)} pairs go together (their interval leaves out zero; by chance "
            f"about {0.05 * len(result):.1f} would). Most: {best.first} and {best.second}, "
            f"{span(*best.within, '.2f').text}."
        ]

    def table(self, result: list[Pair]) -> Table:
        rows = [
            [
                text(f"{one.first}, {one.second}"),
                whole(one.networks),
                span(*one.overall, ".2f"),
                span(*one.within, ".2f"),
            ]
            for one in result
        ]
        return Table(["numbers", "networks", "all networks (95%)", "within classes (95%)"], rows)

    def figure(self, result: list[Pair]) -> Figure:
        lines = [Line(f"{one.first}, {one.second}", (one.overall, one.within)) for one in result]
        return draw_intervals(lines, ("all networks", "within classes"), label="Spearman's correlation", guess=0.0)

    def notes(self, result: list[Pair], selection: Selection) -> Notes:
        return Notes(
            caption="Dots with 95% intervals.",
            control="the same within classes: what is left there is not what classes differ in.",
            method="Jackknife over blocks of seeds. docs/probes.md lists the numbers.",
        )


class ForetoldByWeights(AcrossProbes, ProbeStudy[list[Foretold]]):
    key = "foretold"
    title = "Do the weights foretell what the probes find?"
    intro = (
        "Each number predicted from the weights alone, for networks of seeds, of recipes or of classes that no "
        "training network had: Kendall's tau (1: ranked perfectly, 0: guessing)."
    )
    classes = 1  # of one shape

    def snippet(self, selection: Selection) -> str:
        return """from analysis.probes.across import foretold, wide
foretold(wide(zoo, table), recipe, weights_NP, initial_NP)"""

    def words(self, result: list[Foretold]) -> list[str]:
        told = [f"{one.number} ({SPLITS[one.split]})" for one in result if above(one)]
        if not told:
            return ["No number is foretold better than by the initial weights or the loss alone."]
        return [f"Clearly above both controls: {', '.join(told)}."]

    def table(self, result: list[Foretold]) -> Table:
        rows = [
            [
                text(f"{one.number}, {SPLITS[one.split]}"),
                whole(one.groups),
                *(span(*one.taus.get(name, NO_MARK), ".2f") for name in FEATURES),
                number(one.shuffled, 2),
            ]
            for one in result
        ]
        head = ["number", "groups", "statistics, tau (95%)", "chain features (95%)", "initial weights (95%)"]
        return Table([*head, "loss alone (95%)", "shuffled"], rows)

    def figure(self, result: list[Foretold]) -> Figure:
        lines = [
            Line(f"{one.number}, {SPLITS[one.split]}", tuple(one.taus.get(name, NO_MARK) for name in FEATURES))
            for one in result
        ]
        return draw_intervals(lines, SERIES, label="Kendall's tau", guess=0.0)

    def notes(self, result: list[Foretold], selection: Selection) -> Notes:
        return Notes(
            caption="Dots with 95% intervals, bootstrap over the groups that are kept apart.",
            control="statistics of the initial weights, the held-out loss alone, and the number shuffled, through the "
            "same folds.",
            method="Kernel ridge regression. A class that a number differs in can be told by its weights: only new "
            "classes show that more than the class is known.",
        )


def above(one: Foretold) -> bool:
    """Whether weights rank it better than both controls, with intervals that do not meet."""
    best = max((one.taus[name] for name in FEATURES[:2]), key=lambda mark: mark[0])
    controls = [one.taus[name][2] for name in FEATURES[2:] if name in one.taus]
    return bool(best[1] > np.nanmax([0.0, *controls]))
