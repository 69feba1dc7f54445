"""Sections on changed data: original or modified, how the distance grows with the dose, and poisoned networks."""

import numpy as np

from analysis.methods import changes, families, trojans
from analysis.plots import populations
from analysis.plots.populations import NO_MARK, Line
from analysis.report.population import Population, shared_starts
from analysis.report.section import Cell, Findings, listed, mark, method, number, small, span, whole, words
from analysis.statistics.auc import Auc
from analysis.weights.chains import chain_features
from protocol.errors import UsageError

PAIRS_TOLD_MAX = 12  # of original and modified classes
FAMILIES_MAX = 3
POISONED_MAX = 3  # classes in the trojan table, those with the largest shares


@method(
    "modified",
    "Original or modified?",
    "For every class that is there unchanged and with a change of its data: how often a modified network scores above "
    "an original one (AUC; 0.5 is guessing), on seeds that the classifier never saw. The held-out loss is the baseline "
    "that should not tell them apart.",
    classes=2,
    compares=True,
)
def modified(people: Population) -> Findings:
    pairs = families.changed_pairs(people.recipes)[:PAIRS_TOLD_MAX]
    if not pairs:
        raise UsageError(
            "No class of this zoo is a modification of another (a name such as parity+trigger, or a recipe that "
            "differs in one share of its data)."
        )
    tables = [chain_features(people.recipe, w) for w in (people.weights_NP, people.initial_NP)]
    tables.append(families.target(people.table, "held_out_loss")[:, None])
    found = [
        [
            changes.separation(x, people.labels, people.seeds, first, second, shuffles=people.permutations)
            for x in tables
        ]
        for first, second in pairs
    ]
    rows = [[words(f"{one.first}, {one.second}"), *_separated(one, initial, loss)] for one, initial, loss in found]
    limit = 0.05 / len(found)
    clear, odd, by_loss = (sum(row[i].p <= limit for row in found) for i in range(3))
    lines = [
        Line(row[0].second, [(one.trained.value, one.trained.low, one.trained.high) for one in row]) for row in found
    ]
    return Findings(
        verdict=[
            f"The change of the data is seen in the weights for {clear} of {len(found)} pairs, in the loss alone for "
            f"{by_loss} (p at most 0.05 over the number of pairs). Where the loss tells, weights may only repeat it. "
            f"In the initial weights it is seen for {odd}"
            f"{': something other than training tells these apart.' if odd else ', as it must be.'}"
        ],
        head=["pair", "AUC (95%)", "p", "initial weights (95%)", "p", "loss alone (95%)", "p", "enough networks"],
        rows=rows,
        figure=populations.draw_intervals(
            lines,
            ("trained weights", "control: initial weights", "baseline: held-out loss"),
            label="AUC, original against modified",
            guess=0.5,
        ),
        caption="Intervals allow for the training networks too (DeLong, widened); believe the p first.",
        control="initial weights through the same folds, the held-out loss alone, and shuffled labels. "
        + shared_starts(people),
        note=f"p: {people.permutations:,} times shuffled labels. Enough: training networks a class from which the AUC "
        "on all others passes 0.9.",
        code=f"""from analysis.methods.changes import separation
from analysis.weights.chains import chain_features
from analysis.methods.families import changed_pairs, class_recipes, target
tables = [chain_features(recipe, w_NP) for w_NP in (weights_NP, initial_NP)]
tables.append(target(table, "held_out_loss")[:, None])
[separation(x, classes, seeds, first, second, shuffles={people.permutations})
 for first, second in changed_pairs(class_recipes(zoo, table))[:{PAIRS_TOLD_MAX}] for x in tables]""",
    )


def _separated(*found: changes.Separation) -> list[Cell]:
    cells = [cell for one in found for cell in (mark(one.trained), small(one.p))]
    return [*cells, whole(found[0].enough, "not with these", " a class")]


@method(
    "dose",
    "Larger change, larger distance?",
    "Classes that differ only in how much of their data was changed: how far the centre of each lies from the "
    "unchanged class, in units of that class's own spread and corrected for chance, and how well it is told from it.",
    classes=2,
    compares=True,
)
def dose_response(people: Population) -> Findings:
    alike = families.dose_families(people.recipes)[:FAMILIES_MAX]
    if not alike:
        raise UsageError(
            "No two classes of this zoo differ only in the share of data that is dropped, mislabelled, noisy or "
            "poisoned, so there is no dose."
        )
    tables = [chain_features(people.recipe, w) for w in (people.weights_NP, people.initial_NP)]
    found, rows, drawn = [], [], {}
    for family in alike:
        pair = [changes.dose_response(x, people.labels, people.seeds, family.doses, family.base) for x in tables]
        found.append(pair)
        drawn[f"{family.change}: from {family.base}"] = (pair[0][0], pair[1][0])
        for one, initial in zip(pair[0][0], pair[1][0], strict=True):
            far = [span(row.distance, row.low, row.high) for row in (one, initial)]
            rows.append([words(one.label), number(one.dose, 4), far[0], mark(one.auc), far[1], mark(initial.auc)])
    return Findings(
        verdict=[_dose_words(family, *pair) for family, pair in zip(alike, found, strict=True)],
        head=["class", "share", "distance (95%)", "AUC (95%)", "initial: distance (95%)", "initial: AUC (95%)"],
        rows=rows,
        figure=populations.draw_doses(drawn),
        caption="Vertical lines: 95% intervals, bootstrap over networks.",
        control="the initial weights of the same networks: their distances must stay near zero and not rise. "
        + shared_starts(people),
        code=f"""from analysis.methods.changes import dose_response
from analysis.weights.chains import chain_features
from analysis.methods.families import class_recipes, dose_families
tables = [chain_features(recipe, w_NP) for w_NP in (weights_NP, initial_NP)]
[dose_response(x, classes, seeds, family.doses, family.base)
 for family in dose_families(class_recipes(zoo, table))[:{FAMILIES_MAX}] for x in tables]""",
    )


def _dose_words(family: families.Family, trained: tuple, initial: tuple) -> str:
    rows, rho, p = trained
    if len(rows) < 3:
        return f"{family.change}: {len(rows)} doses are too few to say whether the distance rises with them."
    if np.isnan(rho):
        return f"{family.change}: no dose lies measurably away from {family.base}, so no distance rises."
    start = "no distance rises" if np.isnan(initial[1]) else f"rho is {initial[1]:.3f} (p {small(initial[2]).text})"
    return (
        f"{family.change}: the distance from {family.base} {'rises' if p <= 0.05 else 'does not measurably rise'} with "
        f"the share that is changed (Spearman's rho {rho:.3f}, exact p {small(p).text} over all orders of {len(rows)} "
        f"doses); at step 0 {start}."
    )


@method(
    "trojans",
    "Can poisoned networks be told by a linear classifier?",
    "Clean networks against those whose training images were poisoned: AUC on seeds never seen, after each of several "
    "ways to prepare the weights (the four steps of Huster et al., arXiv 2411.03445; classifier and grid are ours).",
    classes=2,
    compares=True,
)
def trojan_table(people: Population) -> Findings:
    family = next((one for one in families.dose_families(people.recipes) if one.change == "poison"), None)
    if family is None:
        raise UsageError("No class of this zoo is a poisoned version of another one, so there is no trojan to find.")
    poisoned = sorted(family.doses, key=lambda name: family.doses[name])[-POISONED_MAX:]
    worst = poisoned[-1]
    label_N, rng = np.array(people.labels, str), np.random.default_rng(0)
    columns = {}
    for name in poisoned:
        columns[name] = _table(people, people.weights_NP, family.base, name, label_N)
    columns["initial weights"] = _table(people, people.initial_NP, family.base, worst, label_N)
    chosen = np.isin(label_N, [family.base, worst])
    mixed_N = label_N.copy()
    mixed_N[chosen] = rng.permutation(label_N[chosen])
    columns["shuffled labels"] = _table(people, people.weights_NP, family.base, worst, mixed_N)
    steps = list(columns[worst])
    best = max(steps, key=lambda name: columns[worst][name].value)
    control = columns["initial weights"].get(best)
    lines = [
        Line(name, [(one.value, one.low, one.high) if (one := columns[c].get(name)) else NO_MARK for c in columns])
        for name in steps
    ]
    skipped = [str(one) for one in trojans.GRID if str(one) not in steps]
    return Findings(
        verdict=[
            f"{worst} is told from {family.base} best after the step {best!r}: AUC {mark(columns[worst][best]).text}; "
            f"{'there is no such control on' if control is None else f'AUC {control.value:.3f} on'} the initial "
            f"weights. The best of {len(steps)} rows was picked after looking, so its AUC is somewhat too high.",
        ],
        head=["steps", *[f"{name} (95%)" for name in columns]],
        rows=[
            [words(name), *[mark(column[name]) if name in column else words("–") for column in columns.values()]]
            for name in steps
        ],
        figure=populations.draw_intervals(lines, list(columns), label=f"AUC against {family.base}", guess=0.5),
        caption="Dots with 95% intervals (DeLong, widened: analysis.statistics.auc).",
        control=f"the initial weights of {worst}, and its labels shuffled. " + shared_starts(people),
        note="Initial weights have no reference to be subtracted."
        + (f" Left out, because these layers have no known symmetry: {listed(skipped)}." if skipped else ""),
        code=f"""import numpy as np
from analysis.methods.families import trojan_rows
label_N = np.array(classes, str)
chosen, mixed_N = np.isin(label_N, {[family.base, worst]!r}), label_N.copy()
mixed_N[chosen] = np.random.default_rng(0).permutation(label_N[chosen])
[trojan_rows(recipe, w_NP, first_NP, labels, seeds, {family.base!r}, name)
 for w_NP, first_NP, labels, name in (
     *[(weights_NP, initial_NP, label_N, name) for name in {poisoned!r}],
     (initial_NP, None, label_N, {worst!r}), (weights_NP, initial_NP, mixed_N, {worst!r}))]""",
    )


def _table(people: Population, w_NP: np.ndarray, base: str, name: str, label_N: np.ndarray) -> dict[str, Auc]:
    initial_NP = None if w_NP is people.initial_NP else people.initial_NP
    return families.trojan_rows(people.recipe, w_NP, initial_NP, label_N, people.seeds, base, name)
