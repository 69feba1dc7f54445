"""Tell networks with a trojan from clean ones by a linear classifier on their weights.

The four steps are those of Huster et al. (arXiv 2411.03445): feature selection, standardization, subtraction of a
reference, alignment. Their classifier and settings could not be read: the ones here, and the ablation grid, are OURS.
Whether networks share their initial weights decides what can be found; say it beside every figure. Everything that is
learnt (scaling, selection, reference) is learnt in the training fold. Axes: N networks, P parameters, F features.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from analysis.statistics.auc import Auc, ridge_scorer, unseen_auc, unseen_scores
from analysis.statistics.splits import fold_by_group
from analysis.weights.chains import chain_features
from analysis.weights.features import split_layers
from analysis.weights.matching import matched_to
from analysis.weights.symmetry import canonical
from protocol.errors import UsageError
from protocol.recipes.recipe import Recipe

SELECTED = 500  # weights kept by selection


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What happens to the weights before the linear classifier."""

    align: str = ""  # "", "canonical", "matched" (to the first clean network), "chain" (invariants instead of weights)
    reference: bool = False  # subtract each network's initial weights
    sort: bool = False  # each array in ascending order: any numbering gives the same, at a loss
    norm: bool = False  # each array to size 1
    standardize: bool = True
    select: bool = False  # the SELECTED weights that go most with the label, in the training fold

    def __str__(self) -> str:
        on = [self.align, *(f.name for f in fields(self)[1:] if getattr(self, f.name))]
        return " + ".join(filter(None, on)) or "raw"


GRID = (
    Steps(standardize=False),
    Steps(),
    Steps(select=True),
    Steps(norm=True),
    Steps(reference=True),
    Steps(sort=True),
    Steps(align="canonical"),
    Steps(align="matched"),
    Steps(align="chain"),
    Steps(align="chain", select=True),
)


def prepared(recipe: Recipe, weights_NP: np.ndarray, initial_NP: np.ndarray | None, steps: Steps) -> np.ndarray:
    """(N, F) everything that needs no label. With one reference for all networks, a linear classifier on standardized
    weights would not notice its subtraction; here each network's own initial weights are subtracted."""
    weights_NP = np.asarray(weights_NP, np.float64)
    if steps.reference:
        if initial_NP is None:
            raise UsageError("subtracting the reference needs initial weights")
        weights_NP = weights_NP - initial_NP
    if steps.align == "canonical":
        weights_NP = canonical(recipe, weights_NP)
    elif steps.align == "matched":
        weights_NP = matched_to(recipe, weights_NP[0], weights_NP)
    elif steps.align == "chain":
        return chain_features(recipe, weights_NP)
    blocks = [array.reshape(len(array), -1) for array in split_layers(recipe, weights_NP).values()]
    if steps.norm:
        blocks = [block / np.maximum(np.linalg.norm(block, axis=1, keepdims=True), 1e-12) for block in blocks]
    return np.concatenate([np.sort(block, axis=1) if steps.sort else block for block in blocks], axis=1)


def scorer(steps: Steps, selected: int = SELECTED):
    """A classifier for `auc.unseen_scores` with the steps that must be learnt without the test fold."""

    def score(train_MF: np.ndarray, second_M: np.ndarray, test_TF: np.ndarray) -> np.ndarray:
        if steps.select and train_MF.shape[1] > selected:
            centred_MF, centred_M = train_MF - train_MF.mean(0), second_M - second_M.mean()
            size_F = np.sqrt((centred_MF**2).sum(0))
            agree_F = np.abs(centred_M @ centred_MF) / np.where(size_F > 1e-8, size_F, np.inf)
            kept_F = np.argsort(-agree_F, kind="stable")[:selected]
            train_MF, test_TF = train_MF[:, kept_F], test_TF[:, kept_F]
        if not steps.standardize:
            # The ridge classifier standardizes by itself: undo that by rotating to axes of equal meaning.
            return _plain(train_MF, second_M, test_TF)
        return ridge_scorer(train_MF, second_M, test_TF)

    return score


def _plain(train_MF: np.ndarray, second_M: np.ndarray, test_TF: np.ndarray) -> np.ndarray:
    """Ridge on centred but unscaled features, by an equivalent with all scales equal."""
    from sklearn.linear_model import RidgeCV

    spread = max(float(train_MF.var(0).mean()), 1e-300)
    model = RidgeCV(10.0 ** np.arange(-2, 5) * spread * 10)
    return model.fit(train_MF, second_M.astype(float)).predict(test_TF)


def trojan_table(
    recipe: Recipe,
    weights_NP: np.ndarray,
    trojan_N: np.ndarray,
    seeds: Sequence[int] | np.ndarray,
    initial_NP: np.ndarray | None = None,
    grid: Sequence[Steps] = GRID,
    seed: int = 0,
) -> dict[str, Auc]:
    """AUC on unseen seeds, a row of the grid each; on initial weights or shuffled labels it gives the controls.

    Instead of seeds, other groups may be given that stay in one fold: with the trigger's number, every tested network
    has a trigger that no training network had.
    """
    trojan_N = np.asarray(trojan_N, bool)
    if min(trojan_N.sum(), (~trojan_N).sum()) < 2:
        raise UsageError("trojan detection needs at least two clean networks and two with a trojan")
    fold_N = fold_by_group(trojan_N, np.asarray(seeds), seed=seed)
    order = np.argsort(trojan_N, kind="stable")  # a clean network first: matching refers to it
    back = np.argsort(order)
    found = {}
    for steps in grid:
        if steps.reference and initial_NP is None:
            continue
        first = None if initial_NP is None else initial_NP[order]
        features_NF = prepared(recipe, weights_NP[order], first, steps)[back]
        found[str(steps)] = unseen_auc(unseen_scores(features_NF, trojan_N, fold_N, scorer(steps)), trojan_N, seeds)
    return found
