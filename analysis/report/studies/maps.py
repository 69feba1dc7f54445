"""Studies of where networks lie: maps, distances, and the line between two networks."""

from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from analysis.methods.maps import ClassMap
from analysis.plots.comparisons import draw_barrier
from analysis.plots.maps import draw_maps, draw_matrices
from analysis.report.selection import Selection, known
from analysis.report.study import Notes, Study, Table, number, share, small, span, text
from analysis.statistics.controls import Controlled
from analysis.statistics.distances import CentreTest
from analysis.weights.similarity import Barrier
from protocol.errors import UsageError

PAIRS_DRAWN = 8  # a class's loss barriers: a quarter of a second each
TRAINED_AND_INITIAL = ("trained weights", "control: initial weights")


class NetworkMaps(Study[Controlled[dict[str, ClassMap]]]):
    key = "maps"
    title = "A map of the networks"
    intro = (
        "Each dot is a network; the right maps show the very same networks before their first training step. Principal "
        "components (PCA) keep the directions in which networks vary most; t-SNE keeps neighbours near, and nothing "
        "else. Numbering-free features are products and statistics that stay the same when hidden units are renumbered."
    )
    compares = True

    def snippet(self, selection: Selection) -> str:
        return f"""from analysis.methods.maps import class_maps
from analysis.statistics.controls import controlled
controlled(lambda w_NP: class_maps(recipe, w_NP, classes, seeds, {selection.permutations}), weights_NP, initial_NP)"""

    def words(self, result: Controlled[dict[str, ClassMap]]) -> list[str]:
        trained, initial = ({name: one.nearby for name, one in maps.items()} for maps in result)
        best = max(trained.values(), key=lambda one: one.value)
        if best.classes < 2:
            return ["There is one class, so every neighbour has the same one; look at the shape only."]
        limit = 0.05 / len(trained)
        seen, odd = (sum(one.p <= limit for one in nearby.values()) for nearby in (trained, initial))
        return [
            f"Networks of one class lie together on {seen} of {len(trained)} maps (p at most 0.05 over the number of "
            f"maps); at best {best.value:.1%} have a nearest neighbour of their own class, {best.shuffled:.1%} by "
            "chance. "
            + (
                f"At step 0 they do so on {odd}: something other than training places them."
                if odd
                else "At step 0 they do so on none, as it must be."
            )
        ]

    def table(self, result: Controlled[dict[str, ClassMap]]) -> Table:
        rows = []
        for name, one in result.trained.items():
            pair = one.nearby, result.initial[name].nearby
            cells = [cell for near in pair for cell in (span(near.value, near.low, near.high, ".1%"), small(near.p))]
            rows.append([text(name), *cells, share(one.nearby.shuffled), share(one.map.explained)])
        head = ["map", "same class nearby (95%)", "p", "at step 0 (95%)", "p", "shuffled labels", "variance shown"]
        return Table(head, rows)

    def figure(self, result: Controlled[dict[str, ClassMap]]) -> Figure:
        panels, labels = {}, []
        for name, one in result.trained.items():
            panels |= {f"{name}, trained": one.map, f"Control: {name} at step 0": result.initial[name].map}
            labels = list(one.labels)
        return draw_maps(panels, labels)

    def dots(self, result: Controlled[dict[str, ClassMap]]) -> list[np.ndarray]:
        return [one.map.scores_ND[:, :2] for name in result.trained for one in (maps[name] for maps in result)]

    def notes(self, result: Controlled[dict[str, ClassMap]], selection: Selection) -> Notes:
        return Notes(
            caption=f"{len(selection.classes):,} networks of {selection.weights_NP.shape[1]:,} parameters."
            + " Only what differs between left and right can come from training. Point at a dot: its network is named, "
            "and ringed on every map.",
            control="the same maps at step 0, where neighbours of one class must be as common as with shuffled labels.",
            method="Same class nearby: the share of networks whose nearest network of another seed on the map has "
            f"their class. Interval: jackknife over seeds. p: {selection.permutations:,} times shuffled labels.",
        )


class Distances(Study[Controlled[CentreTest]]):
    key = "distances"
    title = "Distances within and between classes"
    intro = "How far apart two networks are in weight space, over all pairs (root mean square)."
    classes = 2
    compares = True

    def snippet(self, selection: Selection) -> str:
        return f"""from analysis.statistics.controls import controlled
from analysis.statistics.distances import centre_test
from analysis.statistics.splits import groups
controlled(lambda w_NP: centre_test(w_NP, classes, groups(seeds), {selection.permutations}), weights_NP, initial_NP)"""

    def words(self, result: Controlled[CentreTest]) -> list[str]:
        trained, initial = (one.distances for one in result)
        apart = trained.centres * initial.within > initial.centres * trained.within
        return [
            f"Training moved the classes {'' if result.trained.p <= 0.05 and apart else 'not measurably '}apart: the "
            f"centres of two classes are {trained.centres:.3f} apart, where two networks of one class are "
            f"{trained.within:.3f} apart; at step 0 it was {initial.centres:.3f} against {initial.within:.3f}, and "
            f"shuffled labels give {result.trained.null_max:.3f} at most (p {small(result.trained.p).text})."
        ]

    def table(self, result: Controlled[CentreTest]) -> Table:
        rows = [
            [
                text(name),
                number(one.distances.within),
                number(one.distances.between),
                span(one.distances.centres, one.low, one.high),
                number(one.null_max),
                small(one.p),
            ]
            for name, one in zip(TRAINED_AND_INITIAL, result, strict=True)
        ]
        head = ["", "within a class", "between classes", "between centres (95%)", "… with shuffled labels", "p"]
        return Table(head, rows)

    def figure(self, result: Controlled[CentreTest]) -> Figure:
        titles = ("Trained weights", "Control: initial weights")
        found = zip(titles, (one.distances for one in result), strict=True)
        return draw_matrices({title: (one.classes, one.rms_KK) for title, one in found}, "distance")

    def notes(self, result: Controlled[CentreTest], selection: Selection) -> Notes:
        return Notes(
            caption="The diagonal is the distance within a class. A class that trains for longer moves further and "
            "spreads wider, so a distance between two classes is to be held against both of their diagonals; what is "
            "left is the distance of their centres.",
            control="initial weights, and shuffled labels.",
            method=f"With shuffled labels: the most that {selection.permutations:,} shuffles gave. Interval: jackknife "
            "over seeds.",
        )


class LineBarriers(NamedTuple):
    """What the call gives."""

    name: str  # of the class
    networks: Barrier
    copies: Barrier  # control: each first network and itself, renumbered
    medians: list[tuple[float, float, float]]  # with intervals: of networks naive, matched; of copies naive, matched


class Barriers(Study[LineBarriers]):
    key = "barrier"
    title = "Along the line between two networks"
    intro = (
        "The held-out loss of networks on the straight line between two of one class: as they are, and after the "
        "hidden units of the second were renumbered (with signs) to match the first."
    )

    def snippet(self, selection: Selection) -> str:
        name = max(sorted(set(selection.classes)), key=selection.classes.count)
        if selection.classes.count(name) < 2:
            raise UsageError("No class has two networks, so there is no line between two of one class.")
        recipe = selection.table["recipe"][selection.classes.index(name)].as_py()
        if not known(selection.zoo.recipe(recipe)):
            raise UsageError("This version does not know the task, so it cannot measure losses.")
        return f"""from analysis.statistics.intervals import median_interval
from analysis.weights.similarity import barriers
from analysis.weights.symmetry import apply_change, random_change, symmetry_spec
import numpy as np
rows = [i for i, name in enumerate(classes) if name == {name!r}][:{PAIRS_DRAWN + 1}]
pairs = np.array([[weights_NP[i], weights_NP[j]] for i, j in zip(rows, rows[1:])])
one = zoo.recipe(table["recipe"][rows[0]].as_py())
spec = symmetry_spec(one)
change = random_change(spec, len(pairs), np.random.default_rng(0), scales=False)
copies = np.stack([pairs[:, 0], apply_change(spec, pairs[:, 0], change)], axis=1)
found, copy = barriers(one, pairs, zoo.data(one)), barriers(one, copies, zoo.data(one))
medians = [median_interval(x) for x in (found.naive_J, found.matched_J, copy.naive_J, copy.matched_J)]
{name!r}, found, copy, medians"""

    def compute(self, selection: Selection) -> LineBarriers:
        return LineBarriers(*super().compute(selection))

    def words(self, result: LineBarriers) -> list[str]:
        lower = int((result.networks.matched_J < result.networks.naive_J).sum())
        naive, matched, *_ = result.medians
        return [
            f"{result.name}: the median barrier is {naive[0]:.3f} as they are and {matched[0]:.3f} after matching; "
            f"matching lowers it for {lower} of {len(result.networks.naive_J)} pairs."
        ]

    def table(self, result: LineBarriers) -> Table:
        naive, matched, renumbered, again = result.medians
        return Table(
            ["median barrier", "as they are (95%)", "matched (95%)"],
            [
                [text("two networks of one class"), span(*naive), span(*matched)],
                [text("control: a network and itself, renumbered"), span(*renumbered), span(*again)],
            ],
        )

    def figure(self, result: LineBarriers) -> Figure:
        return draw_barrier(result.networks)

    def notes(self, result: LineBarriers, selection: Selection) -> Notes:
        return Notes(
            caption=f"{len(result.networks.naive_J)} pairs of class {result.name}, neighbours by seed. Thick: median.",
            control="each network with a randomly renumbered copy of itself, between which matching must find no "
            "barrier.",
            method="Intervals: order statistics, or all of the range when there are fewer than six pairs.",
        )
