"""Studies of changed data: original or modified, how the distance grows with the dose, and poisoned networks."""

import numpy as np
from matplotlib.figure import Figure

from analysis.methods.changes import DoseResponse, PairSeparation
from analysis.methods.families import Family, TrojanColumns, changed_pairs, dose_families
from analysis.methods.trojans import GRID
from analysis.plots.comparisons import NO_MARK, Line, draw_doses, draw_intervals
from analysis.report.caveats import shared_starts
from analysis.report.selection import Selection
from analysis.report.study import Cell, Notes, Study, Table, listed, mark, number, small, span, text, whole
from analysis.statistics.controls import Controlled
from protocol.errors import UsageError

PAIRS_TOLD_MAX = 12  # of original and modified classes
FAMILIES_MAX = 3
POISONED_MAX = 3  # classes in the trojan table, those with the largest shares


class Modified(Study[list[PairSeparation]]):
    key = "modified"
    title = "Original or modified?"
    intro = (
        "For every class that is there unchanged and with a change of its data: how often a modified network scores "
        "above an original one (AUC; 0.5 is guessing), on seeds that the classifier never saw. The held-out loss "
        "should not tell them apart; the baseline is all that is known beside the weights: layer sizes, steps and loss."
    )
    classes = 2
    compares = True

    def snippet(self, selection: Selection) -> str:
        if not changed_pairs(selection.recipes):
            raise UsageError(
                "No class of this zoo is a modification of another (a name such as parity+trigger, or a recipe that "
                "differs in one share of its data)."
            )
        return f"""from analysis.methods.changes import pair_separations
from analysis.methods.families import changed_pairs, class_recipes, target
from analysis.weights.chains import chain_features
from analysis.weights.features import layer_norms
import numpy as np
pairs = changed_pairs(class_recipes(zoo, table))[:{PAIRS_TOLD_MAX}]
features = [chain_features(recipe, w_NP) for w_NP in (weights_NP, initial_NP)]
loss_N = target(table, "held_out_loss")
known_NF = np.column_stack([layer_norms(recipe, weights_NP), target(table, "steps"), loss_N])
pair_separations(*features, loss_N, known_NF, classes, seeds, pairs, shuffles={selection.permutations})"""

    def words(self, result: list[PairSeparation]) -> list[str]:
        limit = 0.05 / len(result)
        seen, odd, by_loss = (
            sum(p <= limit for p in column)
            for column in zip(*[(one.trained.p, one.initial.p, one.loss.p) for one in result], strict=True)
        )
        more = sum(one.trained.trained.low > one.baseline.high for one in result)
        return [
            f"The change of the data is seen in the weights for {seen} of {len(result)} pairs, in the loss alone for "
            f"{by_loss} (p at most 0.05 over the number of pairs). For {more} the weights tell measurably more than "
            "layer sizes, steps and loss together; for the others they may only repeat these. "
            f"In the initial weights it is seen for {odd}"
            f"{': something other than training tells these apart.' if odd else ', as it must be.'}"
        ]

    def table(self, result: list[PairSeparation]) -> Table:
        rows = []
        for pair in result:
            trained = pair.trained
            columns = (trained, pair.initial, pair.loss)
            cells = [cell for one in columns for cell in (mark(one.trained), small(one.p))]
            enough = whole(trained.enough, "not with these", " a class")
            rows.append([text(f"{trained.first}, {trained.second}"), *cells, mark(pair.baseline), enough])
        head = ["pair", "AUC (95%)", "p", "initial weights (95%)", "p", "loss alone (95%)", "p", "baseline (95%)"]
        return Table([*head, "enough networks"], rows)

    def figure(self, result: list[PairSeparation]) -> Figure:
        lines = []
        for pair in result:
            found = [*(one.trained for one in (pair.trained, pair.initial, pair.loss)), pair.baseline]
            lines.append(Line(pair.trained.second, [(one.value, one.low, one.high) for one in found]))
        return draw_intervals(
            lines,
            ("trained weights", "control: initial weights", "held-out loss alone", "baseline: sizes, steps, loss"),
            label="AUC, original against modified",
            guess=0.5,
        )

    def notes(self, result: list[PairSeparation], selection: Selection) -> Notes:
        return Notes(
            caption="Intervals allow for the training networks too (over seeds, widened); believe the p first.",
            control="initial weights through the same folds, the held-out loss alone, and shuffled labels. "
            + shared_starts(selection),
            method=f"p: {selection.permutations:,} times shuffled labels. Enough: training networks a class from which "
            "the AUC on all others passes 0.9. Baseline: logistic regression on splines of ranks.",
        )


Doses = list[tuple[Family, Controlled[DoseResponse]]]


class DoseResponses(Study[Doses]):
    key = "dose"
    title = "Larger change, larger distance?"
    intro = (
        "Classes that differ only in how much of their data was changed: how far the centre of each lies from the "
        "unchanged class, in units of that class's own spread and corrected for chance, and how well it is told from "
        "it."
    )
    classes = 2
    compares = True

    def snippet(self, selection: Selection) -> str:
        if not dose_families(selection.recipes):
            raise UsageError(
                "No two classes of this zoo differ only in the share of data that is dropped, mislabelled, noisy or "
                "poisoned, so there is no dose."
            )
        return f"""from analysis.methods.changes import dose_response
from analysis.methods.families import class_recipes, dose_families
from analysis.statistics.controls import controlled
from analysis.weights.chains import chain_features
features = [chain_features(recipe, w_NP) for w_NP in (weights_NP, initial_NP)]
[(family, controlled(lambda x_NF: dose_response(x_NF, classes, seeds, family.doses, family.base), *features))
 for family in dose_families(class_recipes(zoo, table))[:{FAMILIES_MAX}]]"""

    def words(self, result: Doses) -> list[str]:
        return [dose_words(family, *pair) for family, pair in result]

    def table(self, result: Doses) -> Table:
        rows = []
        for _, pair in result:
            for one, initial in zip(pair.trained.rows, pair.initial.rows, strict=True):
                far = [span(row.distance, row.low, row.high) for row in (one, initial)]
                rows.append([text(one.label), number(one.dose, 4), far[0], mark(one.auc), far[1], mark(initial.auc)])
        head = ["class", "share", "distance (95%)", "AUC (95%)", "initial: distance (95%)", "initial: AUC (95%)"]
        return Table(head, rows)

    def figure(self, result: Doses) -> Figure:
        return draw_doses(
            {f"{family.change}: from {family.base}": (pair.trained.rows, pair.initial.rows) for family, pair in result}
        )

    def notes(self, result: Doses, selection: Selection) -> Notes:
        return Notes(
            caption="Vertical lines: 95% intervals, bootstrap over networks.",
            control="the initial weights of the same networks: their distances must stay near zero and not rise. "
            + shared_starts(selection),
        )


def dose_words(family: Family, trained: DoseResponse, initial: DoseResponse) -> str:
    """Does the distance rise with the dose?"""
    rows, rho, p = trained
    if len(rows) < 3:
        return f"{family.change}: {len(rows)} doses are too few to say whether the distance rises with them."
    if np.isnan(rho):
        return f"{family.change}: no dose lies measurably away from {family.base}, so no distance rises."
    begin = "no distance rises" if np.isnan(initial.rho) else f"rho is {initial.rho:.3f} (p {small(initial.p).text})"
    return (
        f"{family.change}: the distance from {family.base} {'rises' if p <= 0.05 else 'does not measurably rise'} with "
        f"the share that is changed (Spearman's rho {rho:.3f}, exact p {small(p).text} over all orders of {len(rows)} "
        f"doses); at step 0 {begin}."
    )


class Trojans(Study[TrojanColumns]):
    key = "trojans"
    title = "Can poisoned networks be told by a linear classifier?"
    intro = (
        "Clean networks against those whose training images were poisoned: AUC on seeds never seen, after each of "
        "several ways to prepare the weights (the four steps of Huster et al., arXiv 2411.03445; classifier and grid "
        "are ours)."
    )
    classes = 2
    compares = True

    def snippet(self, selection: Selection) -> str:
        family = next((one for one in dose_families(selection.recipes) if one.change == "poison"), None)
        if family is None:
            raise UsageError(
                "No class of this zoo is a poisoned version of another one, so there is no trojan to find."
            )
        poisoned = sorted(family.doses, key=lambda name: family.doses[name])[-POISONED_MAX:]
        return f"""from analysis.methods.families import trojan_columns
trojan_columns(recipe, weights_NP, initial_NP, classes, seeds, {family.base!r}, {poisoned!r})"""

    def words(self, result: TrojanColumns) -> list[str]:
        best = result.best
        control = result.columns["initial weights"].get(best)
        return [
            f"{result.worst} is told from {result.clean} best after the step {best!r}: AUC "
            f"{mark(result.columns[result.worst][best]).text}; "
            f"{'there is no such control on' if control is None else f'AUC {control.value:.3f} on'} the initial "
            f"weights. The best of {len(result.steps)} rows was picked after looking, so its AUC is somewhat too high.",
        ]

    def table(self, result: TrojanColumns) -> Table:
        columns = result.columns
        rows: list[list[Cell]] = [
            [text(name), *[mark(column[name]) if name in column else text("–") for column in columns.values()]]
            for name in result.steps
        ]
        return Table(["steps", *[f"{name} (95%)" for name in columns]], rows)

    def figure(self, result: TrojanColumns) -> Figure:
        columns = result.columns
        lines = [
            Line(name, [(one.value, one.low, one.high) if (one := columns[c].get(name)) else NO_MARK for c in columns])
            for name in result.steps
        ]
        return draw_intervals(lines, list(columns), label=f"AUC against {result.clean}", guess=0.5)

    def notes(self, result: TrojanColumns, selection: Selection) -> Notes:
        skipped = [str(one) for one in GRID if str(one) not in result.steps]
        return Notes(
            caption="Dots with 95% intervals (over seeds, widened: analysis.statistics.auc).",
            control=f"the initial weights of {result.worst}, and its labels shuffled. " + shared_starts(selection),
            method="Initial weights have no reference to be subtracted."
            + (f" Left out, because these layers have no known symmetry: {listed(skipped)}." if skipped else ""),
        )
