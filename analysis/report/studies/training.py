"""Studies of training: how networks learnt and moved, and what else than the class their weights tell."""

import numpy as np
from matplotlib.figure import Figure

from analysis.methods.curves import Learning
from analysis.methods.families import Transfer, target, varied_targets
from analysis.methods.properties import Prediction
from analysis.plots.comparisons import Line, draw_intervals
from analysis.plots.learning import draw_curves, draw_steps
from analysis.plots.maps import draw_matrices
from analysis.report.selection import Selection
from analysis.report.study import Notes, Study, Table, number, reach, span, text, whole
from analysis.statistics.controls import Controlled
from analysis.statistics.splits import FOLDS, groups
from protocol.errors import UsageError

DOMAINS_MAX = 10  # classes in the transfer matrix
Predictions = dict[str, Controlled[Prediction]]  # by property


class Predicted(Study[Predictions]):
    key = "predicted"
    title = "What else do the weights tell?"
    intro = (
        "Properties of networks predicted from seven statistics of every array, on seeds never seen: Kendall's tau (1: "
        "ranked perfectly, 0: guessing)."
    )

    def snippet(self, selection: Selection) -> str:
        if not varied_targets(selection.table):
            raise UsageError(
                "These networks have the same loss, steps and hyper-parameters: there is nothing to predict."
            )
        return """from analysis.methods.families import target, varied_targets
from analysis.methods.properties import kernel_ridge, predict
from analysis.statistics.controls import controlled
from analysis.statistics.splits import groups
from analysis.weights.features import array_statistics
features = [array_statistics(recipe, w_NP) for w_NP in (weights_NP, initial_NP)]
{name: controlled(lambda x_NF: predict(x_NF, target(table, name), groups(seeds), kernel_ridge), *features)
 for name in varied_targets(table)}"""

    def words(self, result: Predictions) -> list[str]:
        best = max(result, key=lambda name: result[name].trained.tau)
        trained, initial = result[best]
        clear = trained.tau_low > max(0.0, initial.tau_high)
        return [
            f"{best} is ranked best: tau {span(trained.tau, trained.tau_low, trained.tau_high).text}; from the initial "
            f"weights {initial.tau:.3f}, with a shuffled target {trained.shuffled_tau:.3f}. "
            + ("That is above both controls." if clear else "That is not clearly above the controls.")
        ]

    def table(self, result: Predictions) -> Table:
        rows = [
            [
                text(name),
                span(trained.tau, trained.tau_low, trained.tau_high),
                span(trained.r2, trained.r2_low, trained.r2_high),
                span(initial.tau, initial.tau_low, initial.tau_high),
                number(trained.shuffled_tau),
            ]
            for name, (trained, initial) in result.items()
        ]
        return Table(["property", "tau (95%)", "R² (95%)", "initial weights, tau (95%)", "shuffled, tau"], rows)

    def figure(self, result: Predictions) -> Figure:
        lines = [Line(name, [(x.tau, x.tau_low, x.tau_high) for x in pair]) for name, pair in result.items()]
        return draw_intervals(lines, label="Kendall's tau", guess=0.0)

    def notes(self, result: Predictions, selection: Selection) -> Notes:
        return Notes(
            caption="Dots with 95% intervals, bootstrap over seeds.",
            control="the initial weights of the same networks, and the target shuffled, through the same folds.",
            method="Kernel ridge regression; positive targets on a logarithmic scale. Where classes differ in a "
            "property, telling the class tells some of it.",
        )


class Transferred(Study[Controlled[Transfer]]):
    key = "transfer"
    title = "Does what weights tell of one class hold for another?"
    intro = (
        "How many steps a network trained, predicted by a model that was fitted on the networks of the row's class, "
        "for the networks of the column's: Kendall's tau, on seeds never seen."
    )
    classes = 2

    def snippet(self, selection: Selection) -> str:
        class_N, steps_N = np.array(selection.classes, str), target(selection.table, "steps")
        group_N = groups(selection.seeds)
        varied = [
            name
            for name in sorted(set(selection.classes))
            if len(np.unique(steps_N[class_N == name])) > 2 and len(np.unique(group_N[class_N == name])) >= FOLDS
        ][:DOMAINS_MAX]
        if len(varied) < 2:
            raise UsageError(
                "Fewer than two classes have networks that stopped after different numbers of steps, so there is "
                "nothing to transfer."
            )
        return f"""from analysis.methods.families import target, transfer_summary
from analysis.statistics.controls import controlled
from analysis.statistics.splits import groups
from analysis.weights.features import array_statistics
import numpy as np
keep = np.isin(classes, {varied!r})
parts = target(table, "steps")[keep], np.array(classes)[keep], groups(seeds)[keep]
controlled(lambda w_NP: transfer_summary(array_statistics(recipe, w_NP[keep]), *parts), weights_NP, initial_NP)"""

    def words(self, result: Controlled[Transfer]) -> list[str]:
        trained, initial = result
        holds = trained.other[1] > max(0.0, initial.other[2])
        return [
            f"A model fitted on one class ranks networks of another at tau {span(*trained.other).text} on average, of "
            f"its own at {span(*trained.own).text}. "
            + ("Part of what it learnt holds beyond its class." if holds else "What it learnt does not clearly carry.")
        ]

    def table(self, result: Controlled[Transfer]) -> Table:
        trained, initial = result
        return Table(
            ["", "trained, tau (95%)", "control: initial weights, tau (95%)"],
            [
                [text("tested on the same class (mean)"), span(*trained.own), span(*initial.own)],
                [text("tested on another class (mean)"), span(*trained.other), span(*initial.other)],
            ],
        )

    def figure(self, result: Controlled[Transfer]) -> Figure:
        titles = ("Trained weights", "Control: initial weights")
        tables = {title: (one.domains, one.tau_KK) for title, one in zip(titles, result, strict=True)}
        return draw_matrices(tables, "Kendall's tau", ("fitted on", "tested on"))

    def notes(self, result: Controlled[Transfer], selection: Selection) -> Notes:
        return Notes(
            caption="Kendall's tau of predicted and true steps.",
            control="the same on initial weights.",
            method="Kernel ridge on seven statistics of every array. Intervals: jackknife over seeds.",
        )


class LearningCurves(Study[list[Learning]]):
    key = "curves"
    title = "How they learnt"
    intro = (
        "The training loss of each class: the line is the median network, the band holds the middle 80%; a network "
        "that stopped keeps its last loss."
    )
    classes = 0

    def snippet(self, selection: Selection) -> str:
        return """from analysis.methods.curves import learning_by_class
learning_by_class(table)"""

    def words(self, result: list[Learning]) -> list[str]:
        medians = {row.name: row.held_out[0] for row in result}
        low, high = min(medians, key=medians.__getitem__), max(medians, key=medians.__getitem__)
        also = f"; of {high}, the largest, {medians[high]:.2g}" if high != low else ""
        return [f"At the end the median held-out loss of {low} is {medians[low]:.2g}{also}."]

    def table(self, result: list[Learning]) -> Table:
        rows = [
            [
                text(row.name),
                whole(row.networks),
                span(*row.held_out, ".2g"),
                reach(*row.held_out_middle, ".2g"),
                span(*row.first, ".2g"),
            ]
            for row in result
        ]
        head = ["class", "networks", "held-out loss, median (95%)", "5% to 95%", "training loss at first (95%)"]
        return Table(head, rows)

    def figure(self, result: list[Learning]) -> Figure:
        return draw_curves(result)

    def notes(self, result: list[Learning], selection: Selection) -> Notes:
        return Notes(
            control="the training loss of the first segment, from which a class that learnt nothing would not have "
            "come down.",
            method="Intervals of medians: order statistics.",
        )


class StepsToStop(Study[list[Learning]]):
    key = "steps"
    title = "Steps to the stop"
    intro = "How long networks trained until they met their recipe's stop rule or ran out of steps."
    classes = 0

    def snippet(self, selection: Selection) -> str:
        return """from analysis.methods.curves import learning_by_class
learning_by_class(table)"""

    def words(self, result: list[Learning]) -> list[str]:
        ruled = [row for row in result if row.stopped is not None]
        met, of = sum(row.stopped or 0 for row in ruled), sum(row.networks for row in ruled)
        return [f"{met:,} of {of:,} networks met their stop rule." if of else "No recipe here has a stop rule."]

    def table(self, result: list[Learning]) -> Table:
        rows = [
            [
                text(row.name),
                whole(row.networks),
                whole(row.stopped, "no stop rule"),
                span(*row.steps, ",.0f"),
                reach(*row.steps_middle, ",.0f"),
            ]
            for row in result
        ]
        return Table(["class", "networks", "met the stop rule", "steps, median (95%)", "5% to 95%"], rows)

    def figure(self, result: list[Learning]) -> Figure:
        return draw_steps(result)

    def notes(self, result: list[Learning], selection: Selection) -> Notes:
        return Notes(
            caption="Circle: median. Thick bar: middle half. Thin line: 5% to 95%. Dots: networks.",
            control="how many met the rule: the others ran out of steps, so how many they took is no property of "
            "theirs.",
            method="Intervals of medians: order statistics.",
        )
