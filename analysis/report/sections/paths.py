"""Sections on the way that networks went: when their classes part, and whether they share a plane."""

import numpy as np

from analysis.methods import trajectories
from analysis.methods.trajectories import when_classes_separate
from analysis.plots import populations
from analysis.report.population import UNTRAINED, Population, known
from analysis.report.section import Cell, Findings, accuracy, method, share, span, words
from analysis.statistics.splits import groups
from analysis.weights.features import invariants
from protocol.errors import UsageError

REPLAYED = 8  # networks a class
CLASSES_MAX = 10
REPLAY_WORK_MAX = 4e9  # parameters times steps of all replayed networks: about half a minute on one core


def chosen_seeds(people: Population) -> dict[str, list[int]]:
    """Class -> its first seeds, of the one recipe that is replayed. Raises UsageError: too much, or unknown."""
    digests, seeds = people.table["recipe"].to_pylist(), people.table["seed"].to_pylist()
    found = {}
    for name in sorted(people.recipes)[:CLASSES_MAX]:
        own = people.recipes[name].digest
        found[name] = sorted(seed for seed, digest in zip(seeds, digests, strict=True) if digest == own)[:REPLAYED]
    steps_N, label_N = people.table["steps"].to_numpy(), np.array(people.labels, str)
    work = sum(steps_N[label_N == name].mean() * len(some) for name, some in found.items())
    if min(len(some) for some in found.values()) < 2:
        raise UsageError("A class has no recipe with two seeds, so there are no paths to compare.")
    if not all(known(people.recipes[name]) for name in found):
        raise UsageError("This version does not know all of these tasks, so it cannot train their networks again.")
    if work * people.recipe.parameter_count > REPLAY_WORK_MAX:
        raise UsageError(
            "Training these networks again takes more than a page should: see analysis.methods.trajectories.replay."
        )
    return found


def replayed(people: Population) -> trajectories.ClassPaths:
    """The paths, trained once for both sections."""
    if "paths" not in people.kept:
        people.kept["paths"] = trajectories.class_paths(
            people.recipes, chosen_seeds(people), shelf=people.zoo.store.shelf
        )
    return people.kept["paths"]


def call(people: Population) -> str:
    return f"""from analysis.methods.trajectories import class_paths
from analysis.methods.families import class_recipes
found = class_paths(class_recipes(zoo, table), {chosen_seeds(people)!r}, shelf=zoo.store.shelf)"""


@method(
    "separating",
    "When do classes part?",
    f"{REPLAYED} networks a class, trained again from their recipes: how far they go from where they began, and when a "
    "classifier begins to tell the classes.",
    classes=2,
    compares=True,
)
def separating(people: Population) -> Findings:
    found = replayed(people)
    told = when_classes_separate(people.recipe, found.snapshots_NSP, found.labels, found.seeds, invariants)
    pairs = list(zip(found.steps_S.tolist(), told, strict=True))
    unsure = max((i for i, (_, one) in enumerate(pairs) if one.low <= one.chance), default=-1)
    first = pairs[unsure + 1][0] if unsure + 1 < len(pairs) else None
    start = told[0]
    begins = (
        f"From step {first:,} on the interval stays above guessing ({start.chance:.1%})"
        if first is not None
        else f"The interval does not come to stay above guessing ({start.chance:.1%})"
    )
    return Findings(
        verdict=[
            f"{begins}; at step 0 it is {accuracy(start).text}.",
            *([UNTRAINED] if start.low > start.chance else []),
        ],
        head=["step", "class told right (95%)", "guessing"],
        rows=[[Cell(f"{step:,}", (float(step),)), accuracy(one), share(one.chance)] for step, one in pairs],
        figure=populations.draw_separating(found.of_class, found.steps_S, told),
        caption="Left: distance to the network's own initial weights, median of a class. A stopped network stays.",
        control="step 0, where the classes must be told by guessing only.",
        note="Numbering-free features; ridge classification through folds by seed; Wilson's intervals.",
        code=f"""{call(people)}
from analysis.weights.features import invariants
from analysis.methods.trajectories import when_classes_separate
found.steps_S, when_classes_separate(recipe, found.snapshots_NSP, found.labels, found.seeds, invariants)""",
    )


@method(
    "snapshots",
    "Do networks move in one plane?",
    "The same snapshots, each network as seen from its own beginning (a ring), on the first two principal components "
    "of all of them. Any path looks smooth and flat on such a picture, a random walk too: hence the control.",
    classes=1,
)
def snapshots(people: Population) -> Findings:
    found = replayed(people)
    group_N = groups(found.seeds)
    moves = trajectories.moved(found.snapshots_NSP), trajectories.wandered(found.snapshots_NSP)
    planes = [trajectories.plane(x, group_N) for x in moves]
    trained, control = planes
    shape = (*found.snapshots_NSP.shape[:2], 2)
    titles = ("As trained", "Control: random turns")
    more = trained.low > control.high
    return Findings(
        verdict=[
            f"{trained.value:.1%} of all movement lies in one plane; with random turns {control.value:.1%} would. "
            + ("Networks share directions." if more else "That is not clearly more.")
        ],
        head=["", "movement in the plane (95%)"],
        rows=[
            [words(name), span(one.value, one.low, one.high, ".1%")] for name, one in zip(titles, planes, strict=True)
        ],
        figure=populations.draw_paths(
            {
                title: (one.places.scores_ND.reshape(shape), found.labels)
                for title, one in zip(titles, planes, strict=True)
            }
        ),
        caption=f"{len(found.labels)} networks at {len(found.steps_S)} common steps. Ring: beginning. Dot: end.",
        control="the very same moves between snapshots, each forward or backward by the toss of a coin.",
        note="Interval: jackknife over seeds.",
        code=f"""{call(people)}
from analysis.methods.trajectories import moved, plane, wandered
from analysis.statistics.splits import groups
[plane(x, groups(found.seeds)) for x in (moved(found.snapshots_NSP), wandered(found.snapshots_NSP))]""",
    )
