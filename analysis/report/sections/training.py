"""Sections on training: how networks learnt and moved, and what else than the class their weights tell."""

import numpy as np

from analysis.methods import curves, families, properties
from analysis.plots import base, populations
from analysis.plots.populations import Line
from analysis.report.population import Population
from analysis.report.section import Findings, method, middle, number, span, whole, words
from analysis.statistics import splits
from analysis.statistics.intervals import median_interval
from analysis.weights.features import array_statistics
from protocol.errors import UsageError

DOMAINS_MAX = 10  # classes in the transfer matrix


@method(
    "predicted",
    "What else do the weights tell?",
    "Properties of networks predicted from seven statistics of every array, on seeds never seen: Kendall's tau (1: "
    "ranked perfectly, 0: guessing).",
)
def predicted(people: Population) -> Findings:
    names = families.varied_targets(people.table)
    if not names:
        raise UsageError("These networks have the same loss, steps and hyper-parameters: there is nothing to predict.")
    group_N = splits.groups(people.seeds)
    both = [array_statistics(people.recipe, w_NP) for w_NP in (people.weights_NP, people.initial_NP)]
    found = {
        name: [
            properties.predict(x, families.target(people.table, name), group_N, properties.kernel_ridge) for x in both
        ]
        for name in names
    }
    best = max(found, key=lambda name: found[name][0].tau)
    one, control = found[best]
    rows = [
        [
            words(name),
            span(trained.tau, trained.tau_low, trained.tau_high),
            span(trained.r2, trained.r2_low, trained.r2_high),
            span(initial.tau, initial.tau_low, initial.tau_high),
            number(trained.shuffled_tau),
        ]
        for name, (trained, initial) in found.items()
    ]
    lines = [Line(name, [(x.tau, x.tau_low, x.tau_high) for x in pair]) for name, pair in found.items()]
    clear = one.tau_low > max(0.0, control.tau_high)
    return Findings(
        verdict=[
            f"{best} is ranked best: tau {rows[names.index(best)][1].text}; from the initial weights "
            f"{control.tau:.3f}, with a shuffled target {one.shuffled_tau:.3f}. "
            + ("That is above both controls." if clear else "That is not clearly above the controls.")
        ],
        head=["property", "tau (95%)", "R² (95%)", "initial weights, tau (95%)", "shuffled, tau"],
        rows=rows,
        figure=populations.draw_intervals(lines, label="Kendall's tau", guess=0.0),
        caption="Dots with 95% intervals, bootstrap over seeds.",
        control="the initial weights of the same networks, and the target shuffled, through the same folds.",
        note="Kernel ridge regression; positive targets on a logarithmic scale. Where classes differ in a property, "
        "telling the class tells some of it.",
        code=f"""from analysis.methods.families import target
from analysis.methods.properties import kernel_ridge, predict
from analysis.statistics.splits import groups
from analysis.weights.features import array_statistics
[predict(array_statistics(recipe, w_NP), target(table, name), groups(seeds), kernel_ridge)
 for name in {names!r} for w_NP in (weights_NP, initial_NP)]""",
    )


@method(
    "transfer",
    "Does what weights tell of one class hold for another?",
    "How many steps a network trained, predicted by a model that was fitted on the networks of the row's class, for "
    "the networks of the column's: Kendall's tau, on seeds never seen.",
    classes=2,
)
def transferred(people: Population) -> Findings:
    label_N, steps_N = np.array(people.labels, str), families.target(people.table, "steps")
    group_N = splits.groups(people.seeds)
    names = [
        name
        for name in sorted(set(people.labels))
        if len(np.unique(steps_N[label_N == name])) > 2 and len(np.unique(group_N[label_N == name])) >= splits.FOLDS
    ][:DOMAINS_MAX]
    if len(names) < 2:
        raise UsageError(
            "Fewer than two classes have networks that stopped after different numbers of steps, so there is nothing "
            "to transfer."
        )
    keep = np.isin(label_N, names)
    parts = (steps_N[keep], label_N[keep], group_N[keep])
    found = [
        families.transfer_summary(array_statistics(people.recipe, w_NP[keep]), *parts)
        for w_NP in (people.weights_NP, people.initial_NP)
    ]
    rows = [
        [words(name), span(*trained), span(*initial)]
        for name, trained, initial in (
            ("tested on the same class (mean)", found[0].own, found[1].own),
            ("tested on another class (mean)", found[0].other, found[1].other),
        )
    ]
    trained, initial = found
    holds = trained.other[1] > max(0.0, initial.other[2])
    return Findings(
        verdict=[
            f"A model fitted on one class ranks networks of another at tau {rows[1][1].text} on average, of its own at "
            f"{rows[0][1].text}. "
            + ("Part of what it learnt holds beyond its class." if holds else "What it learnt does not clearly carry.")
        ],
        head=["", "trained, tau (95%)", "control: initial weights, tau (95%)"],
        rows=rows,
        figure=base.draw_heat(
            {"Trained weights": (names, trained.tau_KK), "Control: initial weights": (names, initial.tau_KK)},
            "Kendall's tau",
            ("fitted on", "tested on"),
        ),
        caption="Kendall's tau of predicted and true steps.",
        control="the same on initial weights.",
        note="Kernel ridge on seven statistics of every array. Intervals: jackknife over seeds.",
        code=f"""from analysis.methods.families import target, transfer_summary
from analysis.statistics.splits import groups
from analysis.weights.features import array_statistics
import numpy as np
keep = np.isin(classes, {names!r})
parts = target(table, "steps")[keep], np.array(classes)[keep], groups(seeds)[keep]
[transfer_summary(array_statistics(recipe, w_NP[keep]), *parts) for w_NP in (weights_NP, initial_NP)]""",
    )


@method(
    "curves",
    "How they learnt",
    "The training loss of each class: the line is the median network, the band holds the middle 80%; a network that "
    "stopped keeps its last loss.",
    classes=0,
)
def learning_curves(people: Population) -> Findings:
    found = curves.learning_by_class(people.table)
    rows, medians = [], {}
    for row in found:
        begin, end = median_interval(row.first_N), median_interval(row.held_out_N)
        medians[row.name] = end[0]
        rows.append(
            [
                words(row.name),
                whole(row.networks),
                span(*end, ".2g"),
                middle(row.held_out_N, ".2g"),
                span(*begin, ".2g"),
            ]
        )
    low, high = min(medians, key=medians.__getitem__), max(medians, key=medians.__getitem__)
    also = f"; of {high}, the largest, {medians[high]:.2g}" if high != low else ""
    return Findings(
        verdict=[f"At the end the median held-out loss of {low} is {medians[low]:.2g}{also}."],
        head=["class", "networks", "held-out loss, median (95%)", "5% to 95%", "training loss at first (95%)"],
        rows=rows,
        figure=base.draw_curves(found),
        control="the training loss of the first segment, from which a class that learnt nothing would not have come "
        "down.",
        note="Intervals of medians: order statistics.",
        code="""from analysis.methods.curves import learning_by_class
from analysis.statistics.intervals import median_interval
import numpy as np
[(row.networks, median_interval(row.held_out_N), np.quantile(row.held_out_N, (0.05, 0.95)),
  median_interval(row.first_N)) for row in learning_by_class(table)]""",
    )


@method(
    "steps",
    "Steps to the stop",
    "How long networks trained until they met their recipe's stop rule or ran out of steps.",
    classes=0,
)
def steps_to_stop(people: Population) -> Findings:
    found = curves.learning_by_class(people.table)
    rows = []
    for row in found:
        rows.append(
            [
                words(row.name),
                whole(row.networks),
                whole(row.stopped, "no stop rule"),
                span(*median_interval(row.steps_N), ",.0f"),
                middle(row.steps_N, ",.0f"),
            ]
        )
    ruled = [row for row in found if row.stopped is not None]
    met, of = sum(row.stopped or 0 for row in ruled), sum(row.networks for row in ruled)
    return Findings(
        verdict=[f"{met:,} of {of:,} networks met their stop rule." if of else "No recipe here has a stop rule."],
        head=["class", "networks", "met the stop rule", "steps, median (95%)", "5% to 95%"],
        rows=rows,
        figure=base.draw_steps(found),
        caption="Circle: median. Thick bar: middle half. Thin line: 5% to 95%. Dots: networks.",
        control="how many met the rule: the others ran out of steps, so how many they took is no property of theirs.",
        note="Intervals of medians: order statistics.",
        code="""from analysis.methods.curves import learning_by_class
from analysis.statistics.intervals import median_interval
import numpy as np
[(row.networks, row.stopped, median_interval(row.steps_N), np.quantile(row.steps_N, (0.05, 0.95)))
 for row in learning_by_class(table)]""",
    )
