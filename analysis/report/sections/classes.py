"""Sections on what a network was trained on: class from weights, layer by layer, and groups without labels."""

from collections.abc import Callable

import numpy as np

from analysis.methods import layer_tests
from analysis.methods.groupings import grouped
from analysis.plots import populations
from analysis.plots.populations import Line
from analysis.report.population import UNTRAINED, Population
from analysis.report.section import Findings, accuracy, mark, method, number, share, small, words
from analysis.statistics.classify import Accuracy, class_accuracy
from analysis.weights.features import invariants, layer_norms
from protocol.recipes.recipe import Recipe

FEATURES: dict[str, Callable[[Recipe, np.ndarray], np.ndarray]] = {
    "raw weights": lambda recipe, weights_NP: weights_NP,
    "numbering-free features": invariants,
    "layer sizes only": layer_norms,
}


@method(
    "class",
    "Is the class written in the weights?",
    "A linear classifier is asked for the class of networks that it never saw; the accuracy means something only where "
    "it is well above guessing and both controls. Raw weights: every parameter. Numbering-free features: products and "
    "statistics that stay the same when hidden units are renumbered. Layer sizes only: the norm of each layer; what it "
    "tells, training length alone may tell.",
    classes=2,
    compares=True,
)
def class_from_weights(people: Population) -> Findings:
    found = {
        name: [
            class_accuracy(transform(people.recipe, w_NP), people.labels, people.seeds, people.permutations)
            for w_NP in (people.weights_NP, people.initial_NP)
        ]
        for name, transform in FEATURES.items()
    }
    rows = [
        [
            words(name),
            accuracy(trained),
            small(trained.p),
            share(trained.chance),
            accuracy(initial),
            small(initial.p),
            share(trained.shuffled_mean),
        ]
        for name, (trained, initial) in found.items()
    ]
    first = next(iter(found.values()))[0]
    lines = [
        Line(name, [(one.accuracy, one.low, one.high) for one in pair], chance_band(pair[0].shuffled))
        for name, pair in found.items()
    ]
    return Findings(
        verdict=[
            line for name, (one, initial) in found.items() for line in accuracy_words(name, one, initial, len(found))
        ],
        head=["features", "trained (95%)", "p", "guessing", "initial weights (95%)", "p", "shuffled labels"],
        rows=rows,
        figure=populations.draw_intervals(
            lines, label="networks whose class is told right", guess=first.chance, band="shuffled labels", percent=True
        ),
        caption="Dots with 95% intervals. Grey bars: the middle 95% with shuffled labels.",
        control=f"the initial weights of the same networks, and {people.permutations:,} times shuffled labels (the "
        "mean is shown), both through the same folds.",
        note=f"{len(people.labels):,} networks, {first.folds}-fold cross-validation, ridge classification on "
        "standardized features; scaling and penalty are learnt inside each training part. All networks of one seed are "
        "in the same fold whatever their class, so no initial state or batch order is met in both training and "
        "testing. Intervals are Wilson's.",
        code=f"""from analysis.statistics.classify import class_accuracy
from analysis.weights.features import invariants, layer_norms
[class_accuracy(features_NF, classes, seeds, {people.permutations}) for w_NP in (weights_NP, initial_NP)
 for features_NF in (w_NP, invariants(recipe, w_NP), layer_norms(recipe, w_NP))]""",
    )


def chance_band(null: "tuple[float, ...] | np.ndarray") -> tuple[float, float] | None:
    """The middle 95% of a null."""
    return (float(np.quantile(null, 0.025)), float(np.quantile(null, 0.975))) if len(null) else None


def is_clear(trained: Accuracy, initial: Accuracy, tests: int) -> bool:
    """Rarer than 5% by chance over all tests, and the interval is above guessing and the initial weights' interval."""
    return trained.p <= 0.05 / tests and trained.low > max(trained.chance, initial.high)


def accuracy_words(name: str, trained: Accuracy, initial: Accuracy, tests: int) -> list[str]:
    """An accuracy in words; they may not claim more than the intervals carry."""
    measured = f"{trained.accuracy:.1%} (95% interval {trained.low:.1%} to {trained.high:.1%})"
    others = f"the untrained weights {initial.accuracy:.1%}, shuffled labels {trained.shuffled_mean:.1%} on average"
    if is_clear(trained, initial, tests):
        sentences = [
            f"From {name}: yes. The class of networks never seen before is told right in {measured}; guessing gives "
            f"{trained.chance:.1%}, {others}."
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


@method(
    "layers",
    "Which layers know the class?",
    "Hypothesis-training-testing: a linear map is trained on the networks of 60% of the seeds and tested on the "
    "others, for the chain of weights up to each layer; then again and again with shuffled labels. The permutation "
    "p-values are corrected for the number of layers (Holm).",
    classes=2,
    compares=True,
)
def layers(people: Population) -> Findings:
    trained, initial = (
        layer_tests.tested_layers(
            layer_tests.layer_features(people.recipe, w_NP), people.labels, people.seeds, people.permutations
        )
        for w_NP in (people.weights_NP, people.initial_NP)
    )
    passed = [name for name, row in trained.items() if row.holm_p <= 0.05]
    odd = [name for name, row in initial.items() if row.holm_p <= 0.05]
    best = max(trained.values(), key=lambda row: row.accuracy)
    rows = [
        [
            words(name),
            accuracy(row),
            share(row.chance),
            *[small(p) for p in (row.binomial_p, row.permutation_p, row.holm_p)],
            accuracy(initial[name]),
            small(initial[name].holm_p),
        ]
        for name, row in trained.items()
    ]
    lines = [
        Line(name, [(one.accuracy, one.low, one.high) for one in (row, initial[name])], chance_band(row.null_R))
        for name, row in trained.items()
    ]
    return Findings(
        verdict=[
            f"{len(passed)} of {len(trained)} chains tell the class (Holm p at most 0.05); the best tells "
            f"{accuracy(best).text} of {best.total} unseen networks right, where guessing gives {best.chance:.1%}. Of "
            f"the untrained networks, {len(odd)} of {len(initial)} chains do"
            f"{': something other than training tells the classes apart' if odd else ', as it must be'}."
        ],
        head=[
            "chain",
            "right (95%)",
            "guessing",
            "binomial p",
            "permutation p",
            "Holm p",
            "initial weights (95%)",
            "Holm p",
        ],
        rows=rows,
        figure=populations.draw_intervals(
            lines, label="unseen networks told right", guess=best.chance, band="shuffled labels", percent=True
        ),
        caption=f"Dots with 95% intervals (Wilson's). Grey bars: the middle 95% of {people.permutations:,} trainings "
        "with shuffled labels.",
        control="the initial weights of the same networks, which must stay within chance.",
        note="The binomial p takes guesses for independent, which those of one classifier are not: believe the "
        "permutation p.",
        code=f"""from analysis.methods.layer_tests import layer_features, tested_layers
[tested_layers(layer_features(recipe, w_NP), classes, seeds, {people.permutations})
 for w_NP in (weights_NP, initial_NP)]""",
    )


@method(
    "groupings",
    "Do networks group by themselves?",
    "Clusters found without labels against the classes (adjusted Rand index: 1 is perfect, 0 is chance), nearest "
    "neighbours of another seed, PERMANOVA on distances that ignore hidden numbering (the share of variance that "
    "classes explain), and classes that a map has never seen (retrieval, mean average precision).",
    classes=2,
    compares=True,
)
def groupings(people: Population) -> Findings:
    trained, initial = (
        grouped(people.recipe, w_NP, people.labels, people.seeds, people.permutations)
        for w_NP in (people.weights_NP, people.initial_NP)
    )
    rows = [
        [words(name), mark(one), small(one.p), mark(initial[name]), small(initial[name].p), number(one.shuffled)]
        for name, one in trained.items()
    ]
    lines = [
        Line(name, [(one.value, one.low, one.high) for one in (found, initial[name])])
        for name, found in trained.items()
    ]
    means = trained["k-means, Rand index"], initial["k-means, Rand index"]
    told = f"{means[0].value:.3f} (p {small(means[0].p).text}); on the untrained networks {means[1].value:.3f}"
    return Findings(
        verdict=[
            f"Networks of one class lie together without anybody telling: k-means agrees with the classes at {told}."
            if means[0].p <= 0.01
            else f"Clusters found without labels do not agree with the classes more than chance does: k-means {told}.",
            *([UNTRAINED] if means[1].p <= 0.01 else []),
        ],
        head=["method", "trained (95%)", "p", "initial weights (95%)", "p", "shuffled labels"],
        rows=rows,
        figure=populations.draw_intervals(lines, label="each on its own scale; 1 is perfect"),
        caption="Dots with 95% intervals.",
        control="the same on initial weights, and shuffled labels (of clusters the largest index, else the mean).",
        note="Intervals: jackknife over seeds, with clusters and neighbours held fixed; of retrieval, the range over "
        "its six splits of the classes.",
        code=f"""from analysis.methods.groupings import grouped
[grouped(recipe, w_NP, classes, seeds, {people.permutations}) for w_NP in (weights_NP, initial_NP)]""",
    )
