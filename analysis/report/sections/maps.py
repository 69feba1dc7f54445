"""Sections on where networks lie: maps, distances, and the line between two networks."""

from itertools import pairwise

import numpy as np

from analysis.methods import maps
from analysis.plots import base, populations
from analysis.report.population import Population, known
from analysis.report.section import Findings, method, number, share, small, span, words
from analysis.statistics.distances import class_distances, shuffled_centres
from analysis.statistics.intervals import jackknife, median_interval
from analysis.statistics.permutation import permutation_p
from analysis.statistics.splits import groups
from analysis.weights import similarity
from analysis.weights.symmetry import apply_change, random_change, symmetry_spec
from protocol.errors import UsageError

PAIRS_DRAWN = 8  # a class's loss barriers: a quarter of a second each


@method(
    "maps",
    "A map of the networks",
    "Each dot is a network; the right maps show the very same networks before their first training step. Principal "
    "components (PCA) keep the directions in which networks vary most; t-SNE keeps neighbours near, and nothing else. "
    "Numbering-free features are products and statistics that stay the same when hidden units are renumbered.",
    compares=True,
)
def network_maps(people: Population) -> Findings:
    pairs = [maps.network_maps(people.recipe, w_NP) for w_NP in (people.weights_NP, people.initial_NP)]
    group_N = groups(people.seeds)
    rows, found = [], []
    for name, place in pairs[0].items():
        told = [
            maps.told_by_neighbour(one.scores_ND, people.labels, group_N, people.permutations)
            for one in (place, pairs[1][name])
        ]
        found.append((name, told))
        explained = share(float(place.explained_D.sum())) if len(place.explained_D) else words("–")
        rows.append(
            [
                words(name),
                *[cell for one in told for cell in (span(one.value, one.low, one.high, ".1%"), small(one.p))],
                share(told[0].shuffled),
                explained,
            ]
        )
    drawn = {title: place for name in pairs[0] for title, place in _titled(name, pairs)}
    return Findings(
        verdict=[_map_words(people, found)],
        head=["map", "same class nearby (95%)", "p", "at step 0 (95%)", "p", "shuffled labels", "variance shown"],
        rows=rows,
        figure=base.draw_maps(drawn, people.labels),
        caption=f"{len(people.labels):,} networks of {people.weights_NP.shape[1]:,} parameters."
        + " Only what differs between left and right can come from training.",
        control="the same maps at step 0, where neighbours of one class must be as common as with shuffled labels.",
        note="Same class nearby: the share of networks whose nearest network of another seed on the map has their "
        f"class. Interval: jackknife over seeds. p: {people.permutations:,} times shuffled labels.",
        code=f"""from analysis.methods.maps import network_maps, told_by_neighbour
from analysis.statistics.splits import groups
trained, initial = network_maps(recipe, weights_NP), network_maps(recipe, initial_NP)
[told_by_neighbour(place.scores_ND, classes, groups(seeds), {people.permutations})
 for found in (trained, initial) for place in found.values()]
[place.explained_D.sum() for place in trained.values()]""",
    )


def _titled(name: str, pairs: list[dict]) -> list[tuple]:
    return [(f"{name}, trained", pairs[0][name]), (f"Control: {name} at step 0", pairs[1][name])]


def _map_words(people: Population, found: list) -> str:
    if len(set(people.labels)) < 2:
        return "There is one class, so every neighbour has the same one; look at the shape only."
    limit = 0.05 / len(found)
    seen = [name for name, (trained, _) in found if trained.p <= limit]
    odd = [name for name, (_, initial) in found if initial.p <= limit]
    best = max((told[0] for _, told in found), key=lambda one: one.value)
    text = (
        f"Networks of one class lie together on {len(seen)} of {len(found)} maps (p at most 0.05 over the number of "
        f"maps); at best {best.value:.1%} have a nearest neighbour of their own class, {best.shuffled:.1%} by chance. "
    )
    return text + (
        f"At step 0 they do so on {len(odd)}: something other than training places them."
        if odd
        else "At step 0 they do so on none, as it must be."
    )


@method(
    "distances",
    "Distances within and between classes",
    "How far apart two networks are in weight space, over all pairs (root mean square).",
    classes=2,
    compares=True,
)
def distances(people: Population) -> Findings:
    both, group_N = (people.weights_NP, people.initial_NP), groups(people.seeds)
    found = [class_distances(w_NP, people.labels) for w_NP in both]
    nulls = [shuffled_centres(w_NP, people.labels, people.permutations) for w_NP in both]
    spans = [jackknife(_centres(w_NP, people.labels), group_N, 0.0) for w_NP in both]
    p_values = [permutation_p(one.centres, null_R) for one, null_R in zip(found, nulls, strict=True)]
    rows = [
        [
            words(name),
            number(one.within),
            number(one.between),
            span(one.centres, low, high),
            number(float(null_R.max())),
            small(p),
        ]
        for name, one, (low, high), null_R, p in zip(
            ("trained weights", "control: initial weights"), found, spans, nulls, p_values, strict=True
        )
    ]
    trained, initial = found
    moved = p_values[0] <= 0.05 and trained.centres * initial.within > initial.centres * trained.within
    return Findings(
        verdict=[
            f"Training moved the classes {'' if moved else 'not measurably '}apart: the centres of two classes are "
            f"{trained.centres:.3f} apart, where two networks of one class are {trained.within:.3f} apart; at step 0 "
            f"it was {initial.centres:.3f} against {initial.within:.3f}, and shuffled labels give "
            f"{nulls[0].max():.3f} at most (p {small(p_values[0]).text})."
        ],
        head=["", "within a class", "between classes", "between centres (95%)", "… with shuffled labels", "p"],
        rows=rows,
        figure=base.draw_heat(
            {
                title: (one.classes, one.rms_KK)
                for title, one in zip(("Trained weights", "Control: initial weights"), found, strict=True)
            },
            "distance",
        ),
        caption="The diagonal is the distance within a class. A class that trains for longer moves further and "
        "spreads wider, so a distance between two classes is to be held against both of their diagonals; what is left "
        "is the distance of their centres.",
        control="initial weights, and shuffled labels.",
        note=f"With shuffled labels: the most that {people.permutations:,} shuffles gave. Interval: jackknife over "
        "seeds.",
        code=f"""from analysis.statistics.distances import class_distances, shuffled_centres
from analysis.statistics.intervals import jackknife
from analysis.statistics.permutation import permutation_p
from analysis.statistics.splits import groups
import numpy as np
def centres(w_NP):
    found, null_R = class_distances(w_NP, classes), shuffled_centres(w_NP, classes, {people.permutations})
    part = lambda rows: class_distances(w_NP[rows], np.array(classes)[rows].tolist()).centres
    return (found.within, found.between, found.centres, jackknife(part, groups(seeds), 0.0),
            null_R.max(), permutation_p(found.centres, null_R))
[centres(w_NP) for w_NP in (weights_NP, initial_NP)]""",
    )


def _centres(weights_NP: np.ndarray, labels: list[str]):
    label_N = np.array(labels)
    return lambda rows: class_distances(weights_NP[rows], label_N[rows].tolist()).centres


@method(
    "barrier",
    "Along the line between two networks",
    "The held-out loss of networks on the straight line between two of one class: as they are, and after the hidden "
    "units of the second were renumbered (with signs) to match the first.",
)
def barrier(people: Population) -> Findings:
    name = max(sorted(set(people.labels)), key=people.labels.count)
    rows = [i for i, label in enumerate(people.labels) if label == name][: PAIRS_DRAWN + 1]
    recipe = people.zoo.recipe(people.table["recipe"][rows[0]].as_py())
    if len(rows) < 2:
        raise UsageError("No class has two networks, so there is no line between two of one class.")
    if not known(recipe):
        raise UsageError("This version does not know the task, so it cannot measure losses.")
    data = people.zoo.data(recipe)
    pairs = np.stack([np.stack([people.weights_NP[i], people.weights_NP[j]]) for i, j in pairwise(rows)])
    found = similarity.barriers(recipe, pairs, data)
    spec = symmetry_spec(recipe)
    change = random_change(spec, len(pairs), np.random.default_rng(0), scales=False)
    copy = similarity.barriers(recipe, np.stack([pairs[:, 0], apply_change(spec, pairs[:, 0], change)], axis=1), data)
    lower = int((found.matched_J < found.naive_J).sum())
    naive, matched, renumbered, again = (
        median_interval(one) for one in (found.naive_J, found.matched_J, copy.naive_J, copy.matched_J)
    )
    return Findings(
        verdict=[
            f"{name}: the median barrier is {naive[0]:.3f} as they are and {matched[0]:.3f} after matching; matching "
            f"lowers it for {lower} of {len(pairs)} pairs."
        ],
        head=["median barrier", "as they are (95%)", "matched (95%)"],
        rows=[
            [words("two networks of one class"), span(*naive), span(*matched)],
            [words("control: a network and itself, renumbered"), span(*renumbered), span(*again)],
        ],
        figure=populations.draw_barrier(found),
        caption=f"{len(pairs)} pairs of class {name}, neighbours by seed. Thick: median.",
        control="each network with a randomly renumbered copy of itself, between which matching must find no barrier.",
        note="Intervals: order statistics, or all of the range when there are fewer than six pairs.",
        code=f"""from analysis.statistics.intervals import median_interval
from analysis.weights.similarity import barriers
from analysis.weights.symmetry import apply_change, random_change, symmetry_spec
import numpy as np
rows = [i for i, label in enumerate(classes) if label == {name!r}][:{PAIRS_DRAWN + 1}]
pairs = np.array([[weights_NP[i], weights_NP[j]] for i, j in zip(rows, rows[1:])])
one = zoo.recipe(table["recipe"][rows[0]].as_py())
spec = symmetry_spec(one)
change = random_change(spec, len(pairs), np.random.default_rng(0), scales=False)
copies = np.stack([pairs[:, 0], apply_change(spec, pairs[:, 0], change)], axis=1)
found, copy = barriers(one, pairs, zoo.data(one)), barriers(one, copies, zoo.data(one))
[median_interval(x) for x in (found.naive_J, found.matched_J, copy.naive_J, copy.matched_J)]""",
    )
