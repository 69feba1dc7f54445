"""Renumber one network's hidden units so that its weights come as near as possible to another's.

Weight matching (Git Re-Basin, Ainsworth et al. 2023, as in the authors' code): coordinate ascent over groups, each a
linear assignment. OURS: signs of tanh and recurrent layers (in a GRU or LSTM the similarity splits into a part that
does not know a unit's sign, the gates, and one that does, the candidate); a first sweep that uses only what is settled
already, so that planted copies are found without restarts; a restart from random orders when asked. Positive scales
are not searched: `symmetry.balanced` settles them exactly beforehand. Axes: N networks, P parameters, H units of a
group.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from analysis.weights.features import split_layers
from analysis.weights.symmetry import Change, apply_change, identity, moved, random_change, rows_of
from analysis.weights.symmetry_rules import Spec, symmetry_spec
from protocol.recipes.recipe import Recipe

SWEEPS_MAX = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Network b renumbered to look like a."""

    weights_P: np.ndarray  # b's, float64; the same function
    change: Change  # one network
    similarity: float  # inner product of a's weights and these


def match(
    recipe: Recipe, a_P: np.ndarray, b_P: np.ndarray, signed: bool = True, restarts: int = 0, seed: int = 0
) -> Match:
    """The best of a settled-first start and `restarts` random ones, of weights (P,); without `signed` no sign changes.

    Raises UsageError for layers without known symmetries.
    """
    spec, rng = symmetry_spec(recipe), np.random.default_rng(seed)
    a, b = (split_layers(recipe, np.asarray(w_P, np.float64)[None]) for w_P in (a_P, b_P))
    starts = [None, *(random_change(spec, 1, rng, scales=False) for _ in range(restarts))]
    # A generator each: with restarts the first start runs as without, so they can only add.
    found = [_ascend(spec, a, b, start, signed, np.random.default_rng(seed)) for start in starts]
    matches = []
    for change in found:
        weights_P = apply_change(spec, np.asarray(b_P)[None], change)[0]
        matches.append(
            Match(weights_P=weights_P, change=change, similarity=float(weights_P @ np.asarray(a_P, np.float64)))
        )
    return max(matches, key=lambda one: one.similarity)


def matched_to(recipe: Recipe, reference_P: np.ndarray, weights_NP: np.ndarray) -> np.ndarray:
    """(N, P) float64: every network matched to one reference."""
    return np.stack([match(recipe, reference_P, row_P).weights_P for row_P in weights_NP])


def _ascend(spec: Spec, a: dict, b: dict, start: Change | None, signed: bool, rng: np.random.Generator) -> Change:
    change = start or identity(spec, 1)
    settled = set(range(len(spec.groups))) if start else set()
    if start and not signed:
        change = Change(change.order_NH, identity(spec, 1).factor_NH)
    for sweep in range(SWEEPS_MAX):
        moved_any = False
        order = range(len(spec.groups)) if sweep == 0 and not start else rng.permutation(len(spec.groups))
        for g in order:
            gain, order_H, factor_H = _best(spec, a, b, change, int(g), settled, signed)
            if gain > 1e-12 or g not in settled:
                moved_any |= g in settled
                change.order_NH[g], change.factor_NH[g] = order_H[None], factor_H[None]
            settled.add(int(g))
        if sweep > 0 and not moved_any:
            break
    return change


def _best(spec: Spec, a: dict, b: dict, change: Change, group: int, settled: set[int], signed: bool):
    """One linear assignment: (gain over the present choice, order, factors) of one group, the others held."""
    h = spec.groups[group].size
    blind_HH, knowing_HH = np.zeros((h, h)), np.zeros((h, h))
    for use in spec.uses_of(group):
        others = [other for other in spec.uses_in(use.array) if other != use]
        if any(other.group not in settled for other in others):
            continue
        array_b = b[use.array]
        for other in others:
            array_b = moved(array_b, other, change.order_NH[other.group], change.factor_NH[other.group])
        rows_a, rows_b = rows_of(a[use.array], use)[0], rows_of(array_b, use)[0]
        for block, carried in enumerate(use.carries):
            into = knowing_HH if carried else blind_HH
            into += rows_a[block] @ rows_b[block].T
    flips = signed and spec.groups[group].sign
    value_HH = blind_HH + (np.abs(knowing_HH) if flips else knowing_HH)
    cell_H = np.arange(h) // (h // spec.groups[group].cells)
    allowed_HH = np.where(cell_H[:, None] == cell_H, value_HH, -np.inf)
    places, order_H = linear_sum_assignment(allowed_HH, maximize=True)
    factor_H = np.where(knowing_HH[places, order_H] < 0, -1.0, 1.0) if flips else np.ones(h)
    old_H, old_factor_H = change.order_NH[group][0], change.factor_NH[group][0]
    old = blind_HH[places, old_H] + old_factor_H * knowing_HH[places, old_H]
    return float(value_HH[places, order_H].sum() - old.sum()), order_H, factor_H
