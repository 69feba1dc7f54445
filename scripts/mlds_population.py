#!/usr/bin/env python3
"""Write the figures of docs/mlds_population.md and its pictures from a zoo of recipes/mlds-campaign.toml.

    python scripts/mlds_population.py ZOO [--permutations 1000] [--only pairs]

Every table is made by the call that the page shows beside it.
"""

import argparse
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from analysis import open_zoo
from analysis.methods import changes, clusters, trajectories
from analysis.plots.comparisons import Line, draw_intervals
from analysis.plots.maps import draw_maps
from analysis.statistics import distances as between_classes
from analysis.statistics import permutation
from analysis.statistics.baselines import class_baselines
from analysis.statistics.classify import Accuracy, class_accuracy
from analysis.weights import chains, geometry, similarity, symmetry
from analysis.weights.features import invariants, layer_norms, standardized

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "mlds_population.md"


class People(NamedTuple):
    """What every table starts from; the page's first lines of Python."""

    zoo: Any
    recipe: Any
    table: Any
    classes: list[str]
    seeds: list[int]
    weights_NP: np.ndarray
    initial_NP: np.ndarray
    features_NF: np.ndarray
    initial_NF: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zoo", type=Path)
    parser.add_argument("--permutations", type=int, default=1000)
    parser.add_argument("--only", default="", help="one table: the name of a function here")
    options = parser.parse_args()
    people = gather(options.zoo)
    text = PAGE.read_text()
    for make in (population, told, pairs, equal, sizes, distances, groups):
        if options.only not in ("", make.__name__):
            continue
        began = time.perf_counter()
        lines = make(people, options.permutations)
        text = between(text, make.__name__, "\n".join(lines).rstrip())
        PAGE.write_text(text)
        print(f"{make.__name__}: {time.perf_counter() - began:.0f} s")


def gather(path: Path) -> People:
    zoo = open_zoo(path)
    table = zoo.table()
    recipe = zoo.recipe(table["recipe"][0].as_py())
    weights_NP, initial_NP = zoo.weights(), zoo.initial_weights()
    features_NF, initial_NF = (chains.chain_features(recipe, w) for w in (weights_NP, initial_NP))
    classes, seeds = table["class"].to_pylist(), table["seed"].to_pylist()
    return People(zoo, recipe, table, classes, seeds, weights_NP, initial_NP, features_NF, initial_NF)


def between(text: str, name: str, inside: str) -> str:
    begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
    before, rest = text.split(begin)
    return before + begin + inside + end + rest.split(end, 1)[1]


def grid(head: str, rows: list[list[str]]) -> list[str]:
    names = head.split(", ")
    return [f"| {' | '.join(names)} |", f"|{' --- |' * len(names)}", *(f"| {' | '.join(row)} |" for row in rows)]


def population(people: People, permutations: int) -> list[str]:
    """How the networks learnt."""
    rows, table = [], people.table
    steps_N, loss_N = table["steps"].to_numpy(), table["held_out_loss"].to_numpy()
    checks_N = np.array([len(hosts) for hosts in table["checkers"].to_pylist()])
    for name in sorted(set(people.classes)):
        own = np.array(people.classes) == name
        reached = (loss_N[own] <= people.recipe.training.stop_held_out_loss).sum()
        middle = f"{np.median(steps_N[own]):,.0f} ({steps_N[own].min():,} to {steps_N[own].max():,})"
        losses = f"{np.median(loss_N[own]):.4f} (to {loss_N[own].max():.4f})"
        rows.append([name, f"{reached} of {own.sum()}", middle, losses])
    with_check = int((checks_N > 0).sum())
    note = f"{with_check:,} of {len(table):,} networks were checked by at least one other host; {date.today()}."
    return [*grid("class, reached the goal, steps: median (range), held-out loss: median (largest)", rows), "", note]


def told(people: People, permutations: int) -> list[str]:
    """Ten classes: which features know them."""
    column: Callable[[str], np.ndarray] = lambda name: np.log(people.table[name].to_numpy().astype(float))[:, None]  # noqa: E731
    features = {
        "`chains.chain_features`, numbering-free": people.features_NF,
        "`features.invariants`, numbering-free": invariants(people.recipe, people.weights_NP),
        "`symmetry.canonical` weights": symmetry.canonical(people.recipe, people.weights_NP),
        "raw weights": people.weights_NP,
        "control: initial weights, chain features": people.initial_NF,
        "control: initial weights, raw": people.initial_NP,
    }
    rows = []
    best: Accuracy | None = None
    for name, features_NF in features.items():
        found = class_accuracy(features_NF, people.classes, people.seeds, shuffles=permutations)
        best = best or found
        share = f"{found.accuracy:.1%} ({found.low:.1%} to {found.high:.1%})"
        rows.append(
            [name, share, f"{found.accuracy / found.chance:.1f}", f"{max(found.shuffled):.1%}", f"{found.p:.2g}"]
        )
        print(f"  {' | '.join(rows[-1])}")
    known = {"layer sizes": layer_norms(people.recipe, people.weights_NP), "training steps": column("steps")}
    known |= {
        "held-out loss": column("held_out_loss"),
        "all three": np.hstack([*known.values(), column("held_out_loss")]),
    }
    for name, one in class_baselines(known, people.classes, people.seeds).items():
        share = f"{one.accuracy:.1%} ({one.low:.1%} to {one.high:.1%})"
        rows.append([f"baseline: {name}", share, f"{one.accuracy / one.chance:.1f}", "–", "–"])
        print(f"  {' | '.join(rows[-1])}")
    head = "features, class told right (95%), times chance, best of the shuffles, permutation p"
    assert best is not None
    machine = [name.split("+")[0] for name in best.classes]
    right = sum(int(best.confusion_KK[i, j]) for i, a in enumerate(machine) for j, b in enumerate(machine) if a == b)
    wrong = best.total - best.correct
    crossed = right - best.correct
    note = (
        f"Of the {wrong} networks that the first row gets wrong, {crossed} are taken for the other version of their "
        f"own machine; the machine alone is told for {right / best.total:.1%}."
    )
    return [*grid(head, rows), "", note]


def pairs(people: People, permutations: int) -> list[str]:
    """Original against modified."""
    loss_N1, steps_N1 = (np.log(people.table[name].to_numpy())[:, None] for name in ("held_out_loss", "steps"))
    sizes_NF = layer_norms(people.recipe, people.weights_NP)
    rows, drawn = [], []
    for first, second in changes.modification_pairs(people.classes):
        runs = [
            changes.separation(x, people.classes, people.seeds, first, second, initial, shuffles=permutations)
            for x, initial in (
                (people.features_NF, people.initial_NF),
                (people.initial_NF, None),
                (loss_N1, None),
                (steps_N1, None),
                (sizes_NF, None),
            )
        ]
        marks = [(one.trained.value, one.trained.low, one.trained.high) for one in runs[:2]]
        drawn.append(Line(first, marks))
        rows.append([first, *(text for one in runs for text in (str(one.trained), f"{one.p:.2g}"))])
        print(f"  {' | '.join(rows[-1])}")
    draw_intervals(drawn, label="AUC, original against modified", guess=0.5).savefig(DOCS / "mlds_pairs.png", dpi=110)
    return grid(
        "machine, trained weights: AUC (95%), p, initial weights, p, loss alone, p, steps alone, p, layer sizes, p",
        rows,
    )


def equal(people: People, permutations: int) -> list[str]:
    """The same networks at one step, before any of them stops: training for longer cannot be what is seen."""
    step = int(people.table["steps"].to_numpy().min())
    label_N, seed_N = np.array(people.classes), np.array(people.seeds)
    weights_NP, loss_N1 = np.empty_like(people.weights_NP), np.empty((len(label_N), 1))
    for digest in people.zoo.recipes:
        own = np.flatnonzero(np.array(people.table["recipe"].to_pylist()) == digest)
        found = trajectories.at_step(people.zoo.recipe(digest), seed_N[own].tolist(), step)
        weights_NP[own], loss_N1[own, 0] = found
    features_NF, sizes_NF = chains.chain_features(people.recipe, weights_NP), layer_norms(people.recipe, weights_NP)
    rows = []
    for first, second in changes.modification_pairs(people.classes):
        runs = [
            changes.separation(x, people.classes, people.seeds, first, second, shuffles=permutations)
            for x in (features_NF, np.log(loss_N1), sizes_NF)
        ]
        rows.append([first, *(text for one in runs for text in (str(one.trained), f"{one.p:.2g}"))])
        print(f"  {' | '.join(rows[-1])}")
    return grid(f"machine, weights at step {step}: AUC (95%), p, loss at that step, p, layer sizes, p", rows)


def sizes(people: People, permutations: int) -> list[str]:
    """How few networks suffice."""
    code_N, seed_N, rows = np.array(people.classes), np.array(people.seeds), []
    head: list[str] = []
    for first, second in changes.modification_pairs(people.classes):
        chosen = np.isin(code_N, [first, second])
        found = changes.learning_sizes(people.features_NF[chosen], code_N[chosen] == second, seed_N[chosen], 20)
        head = [str(size) for size in found]
        rows.append([first, *(f"{value:.2f}" for value in found.values())])
    return grid(", ".join(["machine; training networks a class:", *head]), rows)


def distances(people: People, permutations: int) -> list[str]:
    """Within and between classes."""
    rows = []
    raw = (people.weights_NP, people.initial_NP)
    forms = {
        "raw weights": raw,
        "canonical weights": tuple(symmetry.canonical(people.recipe, weights_NP) for weights_NP in raw),
        "chain features": (people.features_NF, people.initial_NF),
    }
    for name, both in forms.items():
        for kind, features_NF in zip(("trained", "initial"), both, strict=True):
            scaled = features_NF if name != "chain features" else chain_rows(features_NF)
            found = between_classes.class_distances(scaled, people.classes)
            test = permutation.permanova(similarity.euclidean(scaled), people.classes, people.seeds, permutations)
            numbers = [f"{value:.3f}" for value in (found.within, found.between, found.centres)]
            rows.append([f"{name}, {kind}", *numbers, f"{test.r2:.1%}", f"{test.p:.2g}"])
    return grid("form, within a class, between classes, centres apart, PERMANOVA R², p", rows)


def chain_rows(features_NF: np.ndarray) -> np.ndarray:
    """Rows of length 1: a chain is a product of many matrices, so that a few large networks would rule."""
    return features_NF / np.linalg.norm(features_NF, axis=1, keepdims=True)


def groups(people: People, permutations: int) -> list[str]:
    """Clusters found without labels, and the map."""
    machines = [name.split("+")[0] for name in people.classes]
    rows, forms = (
        [],
        {
            "invariants": invariants(people.recipe, people.weights_NP),
            "chains": chain_rows(people.features_NF),
            "initial, invariants": invariants(people.recipe, people.initial_NP),
        },
    )
    for told, labels in (("ten classes", people.classes), ("five machines", machines)):
        for kind, features_NF in forms.items():
            for one in clusters.agreement(features_NF, labels, people.seeds, permutations):
                values = f"{one.ari:.3f}", f"{one.null_ari:.3f}", f"{one.p:.2g}", f"{one.ami:.3f}"
                rows.append([f"{told}; {kind}", one.method, str(one.found), str(one.unclustered), *values])
    shown = {"initial weights": forms["initial, invariants"], "trained weights": forms["invariants"]}
    maps = {name: geometry.pca(standardized(features_NF)) for name, features_NF in shown.items()}
    draw_maps(maps, machines).savefig(DOCS / "mlds_map.png", dpi=110)
    return grid("labels; features, method, clusters, unclustered, ARI, largest shuffled, p, AMI", rows)


if __name__ == "__main__":
    main()
