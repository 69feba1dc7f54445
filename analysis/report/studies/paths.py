"""Studies of the way that networks went: when their classes part, and whether they share a plane."""

from matplotlib.figure import Figure

from analysis.methods.trajectories import ClassPaths, Plane
from analysis.plots.learning import draw_separating
from analysis.plots.maps import draw_paths
from analysis.report.caveats import UNTRAINED
from analysis.report.selection import REPLAYED, Selection, chosen_seeds, paths_code
from analysis.report.study import Cell, Notes, Study, Table, accuracy, share, span, text
from analysis.statistics.classify import Accuracy

Parting = tuple[ClassPaths, list[Accuracy]]  # the accuracy at every common step
Planes = tuple[ClassPaths, dict[str, Plane]]  # by title: as trained, and the control


class Separating(Study[Parting]):
    key = "separating"
    title = "When do classes part?"
    intro = (
        f"{REPLAYED} networks a class, trained again from their recipes: how far they go from where they began, and "
        "when a classifier begins to tell the classes."
    )
    classes = 2
    compares = True

    def opening(self, selection: Selection) -> str:
        return paths_code(selection)

    def snippet(self, selection: Selection) -> str:
        chosen_seeds(selection)
        return """from analysis.weights.features import invariants
from analysis.methods.trajectories import when_classes_separate
paths, when_classes_separate(recipe, paths.snapshots_NSP, paths.labels, paths.seeds, invariants)"""

    def words(self, result: Parting) -> list[str]:
        paths, by_step = result
        begin = by_step[0]
        unsure = max((i for i, one in enumerate(by_step) if one.low <= one.chance), default=-1)
        begins = (
            f"From step {paths.steps_S[unsure + 1]:,} on the interval stays above guessing ({begin.chance:.1%})"
            if unsure + 1 < len(by_step)
            else f"The interval does not come to stay above guessing ({begin.chance:.1%})"
        )
        return [
            f"{begins}; at step 0 it is {accuracy(begin).text}.",
            *([UNTRAINED] if begin.low > begin.chance else []),
        ]

    def table(self, result: Parting) -> Table:
        steps = zip(result[0].steps_S.tolist(), result[1], strict=True)
        rows = [[Cell(f"{step:,}", (float(step),)), accuracy(one), share(one.chance)] for step, one in steps]
        return Table(["step", "class told right (95%)", "guessing"], rows)

    def figure(self, result: Parting) -> Figure:
        paths, by_step = result
        return draw_separating(paths.of_class, paths.steps_S, by_step)

    def notes(self, result: Parting, selection: Selection) -> Notes:
        return Notes(
            caption="Left: distance to the network's own initial weights, median of a class. A stopped network stays.",
            control="step 0, where the classes must be told by guessing only.",
            method="Numbering-free features; ridge classification through folds by seed; Wilson's intervals.",
        )


class Snapshots(Study[Planes]):
    key = "snapshots"
    title = "Do networks move in one plane?"
    intro = (
        "The same snapshots, each network as seen from its own beginning (a ring), on the first two principal "
        "components of all of them. Any path looks smooth and flat on such a picture, a random walk too: hence the "
        "control."
    )

    def opening(self, selection: Selection) -> str:
        return paths_code(selection)

    def snippet(self, selection: Selection) -> str:
        chosen_seeds(selection)
        return """from analysis.methods.trajectories import moved, plane, wandered
from analysis.statistics.splits import groups
paths, {"As trained": plane(moved(paths.snapshots_NSP), groups(paths.seeds)),
        "Control: random turns": plane(wandered(paths.snapshots_NSP), groups(paths.seeds))}"""

    def words(self, result: Planes) -> list[str]:
        trained, control = result[1].values()
        return [
            f"{trained.value:.1%} of all movement lies in one plane; with random turns {control.value:.1%} would. "
            + ("Networks share directions." if trained.low > control.high else "That is not clearly more.")
        ]

    def table(self, result: Planes) -> Table:
        rows = [[text(name), span(one.value, one.low, one.high, ".1%")] for name, one in result[1].items()]
        return Table(["", "movement in the plane (95%)"], rows)

    def figure(self, result: Planes) -> Figure:
        paths, planes = result
        shape = (*paths.snapshots_NSP.shape[:2], 2)
        return draw_paths({title: (one.places.scores_ND.reshape(shape), paths.labels) for title, one in planes.items()})

    def notes(self, result: Planes, selection: Selection) -> Notes:
        paths, _ = result
        return Notes(
            caption=f"{len(paths.labels)} networks at {len(paths.steps_S)} common steps. Ring: beginning. Dot: end.",
            control="the very same moves between snapshots, each forward or backward by the toss of a coin.",
            method="Interval: jackknife over seeds.",
        )
