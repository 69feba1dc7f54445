"""Sections of the page about what the weights say: each has a sentence, numbers with intervals, controls, and its call.

`population_sections` first; a section is a table that report.html draws, so that `--json` holds the same numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from analysis import (
    chains,
    clusters,
    neighbours,
    plots_population,
    properties,
    similarity,
    splits,
    testing,
    trajectories,
)
from analysis.features import invariants
from protocol.engine.data import task_data
from protocol.errors import UsageError
from protocol.recipe import Recipe, check_recipe

PAIRS_DRAWN = 6  # a class's loss barriers: a quarter of a second each
PAIRS_TOLD_MAX = 12  # of original and modified classes
REPLAYED = 8  # networks a class
REPLAY_WORK_MAX = 4e9  # parameters times steps of all replayed networks: about half a minute on one core


@dataclass(slots=True, kw_only=True)
class Section:
    """One method on the page; `missing` says why it could not be used."""

    key: str
    title: str
    intro: str
    verdict: str = ""
    missing: str = ""
    head: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    picture: Any = None  # a Figure
    caption: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """Networks of one architecture, at least two seeds a class."""

    where: str
    recipe: Recipe
    recipes: dict[str, Recipe]  # class -> one of its recipes
    table: pa.Table
    labels: list[str]
    seeds: list[int]
    weights_NP: np.ndarray
    initial_NP: np.ndarray


def population_sections(people: Population, say: Callable[[str], None]) -> list[Section]:
    """All sections; one that lacks networks says so."""
    found = []
    for make in (layers, groupings, modified, predicted, barrier, paths):
        say(make.__name__)
        found.append(make(people))
    return found


def prelude(where: str) -> str:
    """What every call below the page's sections starts from."""
    return f"""where = {where!r} or None
table = zoo.table(where)
recipe = zoo.recipe(table["recipe"][0].as_py())
weights_NP, initial_NP = zoo.weights(where), zoo.initial_weights(where)
classes, seeds = table["class"].to_pylist(), table["seed"].to_pylist()"""


def span(value: float, low: float, high: float, percent: bool = False) -> str:
    if percent:
        return f"{value:.1%} ({low:.1%} to {high:.1%})"
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def small(p: float) -> str:
    return f"{p:.2g}" if p >= 1e-99 else "< 1e-99"


def layers(people: Population) -> Section:
    section = Section(
        key="layers",
        title="Which layers know the class?",
        intro="A linear map is trained on the networks of 60% of the seeds and tested on the others, for the chain of "
        "weights up to each layer; then 1,000 times more with shuffled labels. The p-values are corrected "
        "for the number of layers (Holm). The initial weights of the same networks must stay within chance.",
    )
    try:
        trained, initial = (
            testing.tested_layers(testing.layer_features(people.recipe, w_NP), people.labels, people.seeds)
            for w_NP in (people.weights_NP, people.initial_NP)
        )
    except UsageError as error:
        section.missing = str(error)
        return section
    passed = [name for name, row in trained.items() if row.holm_p <= 0.05]
    best = max(trained.values(), key=lambda row: row.accuracy)
    odd = [name for name, row in initial.items() if row.holm_p <= 0.05]
    section.verdict = (
        f"{len(passed)} of {len(trained)} chains tell the class (Holm p at most 0.05); the best tells "
        f"{span(best.accuracy, best.low, best.high, percent=True)} of {best.total} unseen networks right, "
        f"where guessing gives {best.chance:.1%}. Of the untrained networks, {len(odd)} of {len(initial)} chains do"
        f"{': something other than training tells the classes apart' if odd else ', as it must be'}."
    )
    section.head = ["chain", "right (95%)", "binomial p", "permutation p", "Holm p", "initial weights", "Holm p"]
    for name, row in trained.items():
        other = initial[name]
        section.rows.append(
            [
                name,
                span(row.accuracy, row.low, row.high, percent=True),
                *[small(p) for p in (row.binomial_p, row.permutation_p, row.holm_p)],
                span(other.accuracy, other.low, other.high, percent=True),
                small(other.holm_p),
            ]
        )
    section.picture = plots_population.draw_tests(trained, initial)
    section.caption = "Dots with 95% intervals. Grey bars: the middle 95% of 1,000 trainings with shuffled labels."
    section.code = """from analysis.testing import layer_features, tested_layers
tested_layers(layer_features(recipe, weights_NP), classes, seeds)    # and initial_NP"""
    return section


def groupings(people: Population) -> Section:
    section = Section(
        key="groupings",
        title="Do networks group by themselves?",
        intro="Clusters found without labels against the classes (adjusted Rand index: 1 is perfect, 0 is chance), "
        "nearest neighbours of another seed, classes that a map has never seen (retrieval), and PERMANOVA on distances "
        "that ignore hidden numbering.",
    )
    section.head = ["method", "trained", "p", "initial weights", "p"]
    columns = []
    try:
        for w_NP in (people.weights_NP, people.initial_NP):
            columns.append(_grouping_rows(people, w_NP))
    except UsageError as error:
        section.missing = str(error)
        return section
    section.rows = [[name, *columns[0][name], *columns[1][name]] for name in columns[0]]
    section.verdict = (
        f"Networks of one class lie together without anybody telling: k-means agrees with the classes at "
        f"{columns[0]['k-means, adjusted Rand index'][0]} (p {columns[0]['k-means, adjusted Rand index'][1]}); on the "
        f"untrained networks at {columns[1]['k-means, adjusted Rand index'][0]}."
        if float(columns[0]["k-means, adjusted Rand index"][1]) <= 0.01
        else "Clusters found without labels do not agree with the classes more than chance does."
    )
    section.code = """from analysis import chains, clusters, neighbours, splits, testing
from analysis.features import invariants, standardized
clusters.agreement(invariants(recipe, weights_NP), classes)    # and initial_NP, here and below
features_NF = chains.chain_features(recipe, weights_NP)
nearest = neighbours.neighbours(standardized(features_NF), 20)
neighbours.vote(nearest, classes, splits.groups(seeds))
testing.permanova(chains.chain_distance(chains.chains(recipe, weights_NP)), classes)
len(set(classes)) > 3 and testing.retrieval(features_NF, classes)"""
    return section


def _grouping_rows(people: Population, weights_NP: np.ndarray) -> dict[str, list[str]]:
    from analysis.features import standardized

    rows: dict[str, list[str]] = {}
    for one in clusters.agreement(invariants(people.recipe, weights_NP), people.labels):
        rows[f"{one.method}, adjusted Rand index"] = [f"{one.ari:.3f}", small(one.p)]
    features_NF = chains.chain_features(people.recipe, weights_NP)
    nearest = neighbours.neighbours(standardized(features_NF), 20)
    share = neighbours.vote(nearest, people.labels, splits.groups(people.seeds))
    rows["nearest neighbour has the same class"] = [f"{share:.1%}", "–"]
    spread = testing.permanova(chains.chain_distance(chains.chains(people.recipe, weights_NP)), people.labels)
    rows["PERMANOVA, share of variance"] = [f"{spread.r2:.3f}", small(spread.p)]
    if len(set(people.labels)) >= 4:
        seen = testing.retrieval(features_NF, people.labels)
        rows[f"retrieval of unseen classes, mAP (shuffled: {seen.chance:.2f})"] = [
            f"{seen.mean_average_precision:.3f}",
            small(seen.p),
        ]
    return rows


def modified(people: Population) -> Section:
    section = Section(
        key="modified",
        title="Original or modified?",
        intro="For every machine that is there unchanged and with a small change of its data: how often a modified "
        "network scores above an original one (AUC; 0.5 is guessing), on seeds that the classifier never saw. The "
        "held-out loss is the baseline that should not tell them apart.",
    )
    pairs = clusters.modification_pairs(people.labels)[:PAIRS_TOLD_MAX]
    if not pairs:
        section.missing = "No class of this zoo is a modification of another (a class name such as parity+trigger)."
        return section
    features_NF, initial_NF = (chains.chain_features(people.recipe, w) for w in (people.weights_NP, people.initial_NP))
    loss_N1 = np.log(np.maximum(people.table["held_out_loss"].to_numpy(), 1e-12))[:, None]
    section.head = ["pair", "AUC (95%)", "p", "initial weights", "loss alone", "p", "enough networks"]
    found, losses = [], []
    for first, second in pairs:
        try:
            one = clusters.separation(features_NF, people.labels, people.seeds, first, second, initial_NF)
            loss = clusters.separation(loss_N1, people.labels, people.seeds, first, second)
        except UsageError as error:
            section.missing = str(error)
            continue
        found.append(one)
        losses.append(loss)
        section.rows.append(
            [
                f"{first}, {second}",
                *[str(one.trained), small(one.p), str(one.initial), str(loss.trained), small(loss.p)],
                f"{one.enough} a class" if one.enough else "not with these",
            ]
        )
    if found:
        section.missing = ""
        clear = sum(one.p <= 0.05 / len(found) for one in found)
        by_loss = sum(one.p <= 0.05 / len(found) for one in losses)
        section.verdict = (
            f"The change of the data is seen in the weights for {clear} of {len(found)} pairs, in the loss alone for "
            f"{by_loss} (p at most 0.05 over the number of pairs). Where the loss tells, weights may only repeat it."
        )
        section.picture = plots_population.draw_separations(found)
        section.caption = (
            "DeLong's intervals: they do not hold the chance in the choice of training networks; the p does."
        )
    section.code = """from analysis import chains, clusters
features_NF, initial_NF = (chains.chain_features(recipe, w) for w in (weights_NP, initial_NP))
for first, second in clusters.modification_pairs(classes):
    clusters.separation(features_NF, classes, seeds, first, second, initial_NF)"""
    return section


def predicted(people: Population) -> Section:
    section = Section(
        key="predicted",
        title="What else do the weights tell?",
        intro="Properties of networks predicted from seven statistics of every array, on seeds never seen: Kendall's "
        "tau (1: ranked perfectly, 0: guessing) with intervals bootstrapped over seeds.",
    )
    section.head = ["property", "tau (95%)", "R² (95%)", "initial weights, tau", "shuffled, tau"]
    group_N = splits.groups(people.seeds)
    both = [properties.statistics(people.recipe, w_NP) for w_NP in (people.weights_NP, people.initial_NP)]
    best = None
    for column in ("held_out_loss", "steps", "training.learning_rate", "training.batch"):
        target_N = np.log(np.maximum(people.table[column].to_numpy().astype(float), 1e-12))
        if len(np.unique(target_N)) < 3:
            continue
        try:
            one, control = (properties.predict(x, target_N, group_N, properties.kernel_ridge) for x in both)
        except UsageError as error:
            section.missing = str(error)
            return section
        if best is None or one.tau > best[0].tau:
            best = one, column
        section.rows.append(
            [
                column,
                span(one.tau, one.tau_low, one.tau_high),
                span(one.r2, one.r2_low, one.r2_high),
                span(control.tau, control.tau_low, control.tau_high),
                f"{one.shuffled_tau:.3f}",
            ]
        )
    if best is None:
        section.missing = "These networks have the same loss, steps and hyper-parameters: there is nothing to predict."
        return section
    one, column = best
    section.verdict = f"{column} is ranked best: tau {span(one.tau, one.tau_low, one.tau_high)}."
    section.code = """import numpy as np
from analysis import properties, splits
target_N = np.log(table["steps"].to_numpy().astype(float))    # likewise the other columns
features_NF = properties.statistics(recipe, weights_NP)
properties.predict(features_NF, target_N, splits.groups(seeds), properties.kernel_ridge)"""
    return section


def barrier(people: Population) -> Section:
    section = Section(
        key="barrier",
        title="Along the line between two networks",
        intro="The held-out loss of networks on the straight line between two of one class: as they are, and after the "
        "hidden units of the second were renumbered (with signs) to match the first.",
    )
    name = max(sorted(set(people.labels)), key=people.labels.count)
    rows = [i for i, label in enumerate(people.labels) if label == name][: PAIRS_DRAWN + 1]
    if len(rows) < 2 or not known(people.recipes[name]):
        section.missing = "Not enough networks, or a task that this version does not know."
        return section
    pairs = np.stack([np.stack([people.weights_NP[i], people.weights_NP[j]]) for i, j in pairwise(rows)])
    found = similarity.barriers(people.recipes[name], pairs, task_data(people.recipes[name]))
    lower = int((found.matched_J < found.naive_J).sum())
    section.verdict = (
        f"{name}: the median barrier is {np.median(found.naive_J):.3f} as they are and "
        f"{np.median(found.matched_J):.3f} after matching; matching lowers it for {lower} of {len(pairs)} pairs."
    )
    section.picture = plots_population.draw_barrier(found)
    section.caption = f"{len(pairs)} pairs of class {name}, neighbours by seed. Thick: median."
    section.code = f"""import numpy as np
from analysis.similarity import barriers
rows = [i for i, label in enumerate(classes) if label == {name!r}][:{PAIRS_DRAWN + 1}]
pairs = [[weights_NP[i], weights_NP[j]] for i, j in zip(rows, rows[1:])]
one = zoo.recipe(table["recipe"][rows[0]].as_py())
barriers(one, np.array(pairs), zoo.data(one)).matched_J    # and naive_J"""
    return section


def paths(people: Population) -> Section:
    section = Section(
        key="paths",
        title="How networks move",
        intro=f"{REPLAYED} networks a class, trained again from their recipes: how far they go from where they began, "
        "and when a classifier begins to tell the classes. At step 0 it must be guessing: that is the control.",
    )
    names = sorted(set(people.labels))
    seeds_of = {
        name: sorted({s for s, label in zip(people.seeds, people.labels, strict=True) if label == name})[:REPLAYED]
        for name in names
    }
    steps_N, label_N = people.table["steps"].to_numpy(), np.array(people.labels, str)
    work = sum(steps_N[label_N == name].mean() * len(seeds_of[name]) for name in names) * people.weights_NP.shape[1]
    if len(names) < 2 or work > REPLAY_WORK_MAX or not all(known(people.recipes[name]) for name in names):
        section.missing = "Replaying needs two classes of known tasks, and training that takes seconds."
        return section
    found = {name: trajectories.replay(people.recipes[name], seeds_of[name]) for name in names}
    longest = max(int(path.steps_S[-1]) for path in found.values())
    common = np.unique(np.round(np.linspace(0, longest**0.5, 12) ** 2).astype(int))
    at = {name: np.searchsorted(path.steps_S, common, side="right") - 1 for name, path in found.items()}
    snapshots_NSP = np.concatenate([found[name].weights_NSP[:, at[name]] for name in names])
    labels = [name for name in names for _ in seeds_of[name]]
    seeds = [seed for name in names for seed in seeds_of[name]]
    told = trajectories.when_classes_separate(people.recipe, snapshots_NSP, labels, seeds, invariants)
    first = next((int(step) for step, one in zip(common, told, strict=True) if one.low > one.chance), None)
    section.head = ["step", "class told right (95%)"]
    section.rows = [
        [f"{step:,}", span(one.accuracy, one.low, one.high, percent=True)]
        for step, one in zip(common, told, strict=True)
    ]
    section.verdict = (
        f"From step {first:,} on the interval is above guessing ({told[0].chance:.1%})"
        if first is not None
        else f"At no step is the interval above guessing ({told[0].chance:.1%})"
    ) + f"; at step 0 it is {span(told[0].accuracy, told[0].low, told[0].high, percent=True)}."
    section.picture = plots_population.draw_paths(found, common, told)
    section.caption = "Left: distance to the network's own initial weights, median of a class. A stopped network stays."
    section.code = f"""from analysis.trajectories import distance_to_ends, replay
one = zoo.recipe(table["recipe"][0].as_py())
distance_to_ends(replay(one, {seeds_of[people.labels[0]]}).weights_NSP)    # likewise the other classes"""
    return section


def known(recipe: Recipe) -> bool:
    """Can this version make the recipe's data?"""
    try:
        check_recipe(recipe, "recipe")
    except UsageError:
        return False
    return True
