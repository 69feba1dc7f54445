"""A map of a zoo that grows: new networks join, and those that were there stay about where they were.

Principal components of numbering-free features, computed anew each time and then turned onto the map before (orthogonal
Procrustes over the networks on both). Axes: N networks, P parameters, F features.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from analysis.weights.features import invariants, standardized
from analysis.weights.geometry import pca
from protocol.recipes.recipe import Recipe

EDGE_QUANTILE = 0.995  # one network far out does not press all others into a corner
MARGIN = 1.06


@dataclass(slots=True)
class GrowingMap:
    """Networks of one architecture. Features are kept, so that a network costs its share once."""

    recipe: Recipe  # any of that architecture
    explained: float = 0.0  # share of the variance on the two axes
    _features: dict[str, np.ndarray] = field(default_factory=dict)
    _places: dict[str, np.ndarray] = field(default_factory=dict)

    def update(self, ids: Sequence[str], weights_of: Callable[[list[int]], np.ndarray]) -> np.ndarray:
        """(N, 2) from 0 to 1, for these networks and no others; `weights_of` gives (n, P) for some of their rows."""
        new = [i for i, network in enumerate(ids) if network not in self._features]
        if new:
            found_nF = invariants(self.recipe, weights_of(new)).astype(np.float32)
            self._features.update(zip((ids[i] for i in new), found_nF, strict=True))
        self._features = {network: self._features[network] for network in ids}
        if not ids:
            return np.zeros((0, 2))
        found = pca(standardized(np.stack([self._features[network] for network in ids])))
        self.explained = min(1.0, max(0.0, found.explained)) if len(ids) > 1 else 0.0
        places_N2 = turned_onto(found.scores_ND, [self._places.get(network) for network in ids])
        self._places = dict(zip(ids, places_N2, strict=True))
        return fitted(places_N2)


def turned_onto(places_N2: np.ndarray, before: Sequence[np.ndarray | None]) -> np.ndarray:
    """The map turned, and mirrored if need be, so that what was there before is near its place; sizes stay."""
    common = [(i, place) for i, place in enumerate(before) if place is not None]
    if len(common) < 2:
        return places_N2
    old_N2, new_N2 = np.stack([place for _, place in common]), places_N2[[i for i, _ in common]]
    left, _, right = np.linalg.svd((new_N2 - new_N2.mean(0)).T @ (old_N2 - old_N2.mean(0)))
    return places_N2 @ (left @ right)


def fitted(places_N2: np.ndarray) -> np.ndarray:
    """Into the unit square, one scale on both axes, as large as fits; what is far out stands at the edge."""
    low_2, high_2 = np.quantile(places_N2, [1 - EDGE_QUANTILE, EDGE_QUANTILE], axis=0)
    reach = float((high_2 - low_2).max())
    return np.clip(0.5 + (places_N2 - (low_2 + high_2) / 2) / (MARGIN * max(reach, 1e-12)), 0.0, 1.0)


def sample(ids: Sequence[str], most: int) -> list[int]:
    """Rows of at most so many networks, ascending: always the same ones as long as the zoo has them."""
    if len(ids) <= most:
        return list(range(len(ids)))
    order = sorted(range(len(ids)), key=lambda i: hashlib.sha256(ids[i].encode()).digest())
    return sorted(order[:most])


def class_numbers(labels: Sequence[str], known: list[str], most: int) -> list[int]:
    """The number of each network's class, `most` for those without one; new classes are added to `known`, the largest
    first, so that a class keeps its number."""
    for name, _ in sorted(Counter(labels).items(), key=lambda item: (-item[1], item[0])):
        if name not in known and len(known) < most:
            known.append(name)
    number = {name: i for i, name in enumerate(known)}
    return [number.get(label, most) for label in labels]
