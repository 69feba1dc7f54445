"""Studies of what a network was trained on: class from weights, layer by layer, and groups without labels."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from analysis.methods.groupings import Grouped
from analysis.methods.layer_tests import Tested
from analysis.plots.comparisons import Line, draw_intervals
from analysis.report.caveats import UNTRAINED
from analysis.report.selection import Selection
from analysis.report.study import Notes, Study, Table, accuracy, mark, number, share, small, text
from analysis.statistics.classify import Accuracy
from analysis.statistics.controls import Controlled

HOLD = "Layer sizes, steps or loss may tell as much: see the baselines of “Is the class written in the weights?”."


class Told(NamedTuple):
    """What the call gives."""

    weights: dict[str, Controlled[Accuracy]]  # by features
    baselines: dict[str, Accuracy]  # by what else is known


class ClassFromWeights(Study[Told]):
    key = "class"
    title = "Is the class written in the weights?"
    intro = (
        "A linear classifier is asked for the class of networks that it never saw; the accuracy means something only "
        "where it is well above guessing and both controls, and something new only where it is above the baselines: "
        "what the norm of each layer, the number of steps or the loss tell by themselves. Raw weights: every "
        "parameter. Numbering-free features: products and statistics that stay the same when hidden units are "
        "renumbered."
    )
    classes = 2
    compares = True

    def snippet(self, selection: Selection) -> str:
        return f"""from analysis.methods.families import target
from analysis.statistics.baselines import class_baselines
from analysis.statistics.classify import class_accuracy
from analysis.statistics.controls import controlled
from analysis.weights.features import invariants, layer_norms
features = {{"raw weights": lambda recipe, w_NP: w_NP, "numbering-free features": invariants}}
known = {{"layer sizes only": layer_norms(recipe, weights_NP), "steps only": target(table, "steps"),
         "held-out loss only": target(table, "held_out_loss")}}
{{name: controlled(lambda w_NP: class_accuracy(of(recipe, w_NP), classes, seeds, {selection.permutations}),
                  weights_NP, initial_NP) for name, of in features.items()}}, class_baselines(known, classes, seeds)"""

    def compute(self, selection: Selection) -> Told:
        return Told(*super().compute(selection))

    def words(self, result: Told) -> list[str]:
        return [
            line
            for name, pair in result.weights.items()
            for line in accuracy_words(name, pair, result.baselines, len(result.weights))
        ]

    def table(self, result: Told) -> Table:
        rows = [
            [
                text(name),
                accuracy(trained),
                small(trained.p),
                share(trained.chance),
                accuracy(initial),
                small(initial.p),
                share(trained.shuffled_mean),
            ]
            for name, (trained, initial) in result.weights.items()
        ]
        none = text("–")
        rows += [
            [text(f"baseline: {name}"), accuracy(one), none, share(one.chance), none, none, none]
            for name, one in result.baselines.items()
        ]
        return Table(
            ["features", "trained (95%)", "p", "guessing", "initial weights (95%)", "p", "shuffled labels"], rows
        )

    def figure(self, result: Told) -> Figure:
        lines = [
            Line(name, [(one.accuracy, one.low, one.high) for one in pair], chance_band(pair.trained.shuffled))
            for name, pair in result.weights.items()
        ]
        lines += [
            Line(f"baseline: {name}", [(one.accuracy, one.low, one.high)]) for name, one in result.baselines.items()
        ]
        return draw_intervals(
            lines,
            label="networks whose class is told right",
            guess=_first(result).chance,
            band="shuffled labels",
            percent=True,
        )

    def notes(self, result: Told, selection: Selection) -> Notes:
        return Notes(
            caption="Dots with 95% intervals. Grey bars: the middle 95% with shuffled labels.",
            control=f"the initial weights of the same networks, and {selection.permutations:,} times shuffled labels "
            "(the mean is shown), both through the same folds; so go the baselines, with a classifier that can order "
            "classes along a number (multinomial regression on splines of ranks).",
            method=f"{len(selection.classes):,} networks, {_first(result).folds}-fold cross-validation, ridge "
            "classification on standardized features; scaling and penalty are learnt inside each training part. All "
            "networks of one seed are in the same fold whatever their class, so no initial state or batch order is met "
            "in both training and testing. Intervals are Wilson's.",
        )


def _first(result: Told) -> Accuracy:
    return next(iter(result.weights.values())).trained


def chance_band(null: Sequence[float] | np.ndarray) -> tuple[float, float] | None:
    """The middle 95% of a null."""
    return (float(np.quantile(null, 0.025)), float(np.quantile(null, 0.975))) if len(null) else None


def is_clear(trained: Accuracy, initial: Accuracy, tests: int) -> bool:
    """Rarer than 5% by chance over all tests, and the interval is above guessing and the initial weights' interval."""
    return trained.p <= 0.05 / tests and trained.low > max(trained.chance, initial.high)


def accuracy_words(name: str, pair: Controlled[Accuracy], baselines: dict[str, Accuracy], tests: int) -> list[str]:
    """An accuracy in words; they may not claim more than the intervals carry, nor what a baseline tells as well."""
    trained, initial = pair
    best = max(baselines, key=lambda one: baselines[one].accuracy)
    alone = f"{best} tells {accuracy(baselines[best]).text}"
    measured = f"{trained.accuracy:.1%} (95% interval {trained.low:.1%} to {trained.high:.1%})"
    others = f"the untrained weights {initial.accuracy:.1%}, shuffled labels {trained.shuffled_mean:.1%} on average"
    if is_clear(trained, initial, tests):
        sentences = [
            f"From {name}: yes. The class of networks never seen before is told right in {measured}; guessing gives "
            f"{trained.chance:.1%}, {others}.",
            f"The best baseline is below that: {alone}."
            if trained.low > baselines[best].high
            else f"But {alone}: these weights need say no more than that.",
        ]
    else:
        sentences = [
            f"From {name}: no. {measured} is not clearly above guessing ({trained.chance:.1%}) and the controls: "
            f"{others}."
        ]
    if initial.p <= 0.05 / tests and initial.low > initial.chance:
        sentences.append(
            f"Warning: from {name} the untrained weights alone are above chance, so something other than training "
            "tells the classes apart; do not read this row as a finding."
        )
    return sentences


class Layers(Study[Controlled[dict[str, Tested]]]):
    key = "layers"
    title = "Which layers know the class?"
    intro = (
        "Hypothesis-training-testing: a linear map is trained on the networks of 60% of the seeds and tested on the "
        "others, for the chain of weights up to each layer; then again and again with shuffled labels. A chain counts "
        "when it does better than the best of all chains did with shuffled labels."
    )
    classes = 2
    compares = True

    def snippet(self, selection: Selection) -> str:
        return f"""from analysis.methods.layer_tests import layer_features, tested_layers
from analysis.statistics.controls import controlled
controlled(lambda w_NP: tested_layers(layer_features(recipe, w_NP), classes, seeds, {selection.permutations}),
           weights_NP, initial_NP)"""

    def words(self, result: Controlled[dict[str, Tested]]) -> list[str]:
        passed, odd = (sum(row.largest_p <= 0.05 for row in rows.values()) for rows in result)
        best = max(result.trained.values(), key=lambda row: row.accuracy)
        claims = [HOLD] if passed else []
        return [
            f"{passed} of {len(result.trained)} chains tell the class (corrected p at most 0.05); the best "
            f"tells "
            f"{accuracy(best).text} of {best.total} unseen networks right, where guessing gives {best.chance:.1%}. Of "
            f"the untrained networks, {odd} of {len(result.initial)} chains do"
            f"{': something other than training tells the classes apart' if odd else ', as it must be'}.",
            *claims,
        ]

    def table(self, result: Controlled[dict[str, Tested]]) -> Table:
        rows = [
            [
                text(name),
                accuracy(row),
                share(row.chance),
                *[small(p) for p in (row.p, row.largest_p)],
                accuracy(result.initial[name]),
                small(result.initial[name].largest_p),
            ]
            for name, row in result.trained.items()
        ]
        head = ["chain", "right (95%)", "guessing", "p", "corrected p", "initial weights (95%)", "corrected p"]
        return Table(head, rows)

    def figure(self, result: Controlled[dict[str, Tested]]) -> Figure:
        lines = [
            Line(
                name,
                [(one.accuracy, one.low, one.high) for one in (row, result.initial[name])],
                chance_band(row.null_R),
            )
            for name, row in result.trained.items()
        ]
        chance = next(iter(result.trained.values())).chance
        return draw_intervals(
            lines, label="unseen networks told right", guess=chance, band="shuffled labels", percent=True
        )

    def notes(self, result: Controlled[dict[str, Tested]], selection: Selection) -> Notes:
        return Notes(
            caption=f"Dots with 95% intervals (Wilson's). Grey bars: the middle 95% of {selection.permutations:,} "
            "trainings with shuffled labels.",
            control="the initial weights of the same networks, which must stay within chance.",
            method="p: of one chain alone. Corrected p: how often the best of all chains does as well with shuffled "
            "labels (Westfall and Young's maximum).",
        )


class Groupings(Study[Controlled[dict[str, Grouped]]]):
    key = "groupings"
    title = "Do networks group by themselves?"
    intro = (
        "Clusters found without labels against the classes (adjusted Rand index: 1 is perfect, 0 is chance), nearest "
        "neighbours of another seed, PERMANOVA on distances that ignore hidden numbering (the share of variance that "
        "classes explain), and classes that a map has never seen (retrieval, mean average precision)."
    )
    classes = 2
    compares = True

    def snippet(self, selection: Selection) -> str:
        return f"""from analysis.methods.groupings import grouped
from analysis.statistics.controls import controlled
controlled(lambda w_NP: grouped(recipe, w_NP, classes, seeds, {selection.permutations}), weights_NP, initial_NP)"""

    def words(self, result: Controlled[dict[str, Grouped]]) -> list[str]:
        trained, initial = (found["k-means, Rand index"] for found in result)
        measured = f"{trained.value:.3f} (p {small(trained.p).text}); on the untrained networks {initial.value:.3f}"
        return [
            f"Networks of one class lie together without anybody telling: k-means agrees with the classes at "
            f"{measured}."
            if trained.p <= 0.01
            else f"Clusters found without labels do not agree with the classes more than chance does: k-means "
            f"{measured}.",
            *([HOLD] if trained.p <= 0.01 else []),
            *([UNTRAINED] if initial.p <= 0.01 else []),
        ]

    def table(self, result: Controlled[dict[str, Grouped]]) -> Table:
        rows = []
        for name, one in result.trained.items():
            initial = result.initial[name]
            rows.append([text(name), mark(one), small(one.p), mark(initial), small(initial.p), number(one.shuffled)])
        return Table(["method", "trained (95%)", "p", "initial weights (95%)", "p", "shuffled labels"], rows)

    def figure(self, result: Controlled[dict[str, Grouped]]) -> Figure:
        lines = [
            Line(name, [(one.value, one.low, one.high) for one in (found, result.initial[name])])
            for name, found in result.trained.items()
        ]
        return draw_intervals(lines, label="each on its own scale; 1 is perfect")

    def notes(self, result: Controlled[dict[str, Grouped]], selection: Selection) -> Notes:
        return Notes(
            caption="Dots with 95% intervals.",
            control="the same on initial weights, and shuffled labels (of clusters the largest index, else the mean).",
            method="Intervals: jackknife over seeds, with clusters, neighbours and retrieval's maps held fixed.",
        )
