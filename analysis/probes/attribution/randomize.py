"""Networks that know less: fresh draws in place of layers (Adebayo et al. 2018, authors' code read).

Cascading goes from the last layer to the first, keeping what was replaced; independent replaces one layer alone.
Axes: P parameters.
"""

import numpy as np

from protocol.recipes.recipe import Recipe


def layers_with_weights(recipe: Recipe) -> list[int]:
    """Numbers of the layers that have parameters, from the last to the first."""
    return sorted({span.layer for span in recipe.spans}, reverse=True)


def replaced(recipe: Recipe, weights_P: np.ndarray, fresh_P: np.ndarray, layers: list[int]) -> np.ndarray:
    """(P,) `weights_P` with all arrays of `layers` taken from `fresh_P`."""
    found = weights_P.copy()
    for span in recipe.spans:
        if span.layer in layers:
            found[span.begin : span.end] = fresh_P[span.begin : span.end]
    return found
