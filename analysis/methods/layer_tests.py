"""Hypothesis-training-testing: is the class in the weights of a layer, and is it more than chance made of it?

H1: a linear map, trained on some networks, tells the class of others. H0: the class cannot be predicted. The procedure
follows the code of Wang et al.'s predecessor (60/40 split; their retrieval is in `retrieval`); the test statistics are
OURS, as the paper's were not seen: 1,000 refits with shuffled labels, and the largest accuracy of all layers
in each refit as the null of every layer. Axes: N networks, F features, K classes, R shuffles, L layers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.statistics.classify import ridge_classes
from analysis.statistics.labels import label_codes
from analysis.statistics.permutation import PERMUTATIONS, largest_p, permutation_p
from analysis.statistics.proportions import wilson
from analysis.statistics.shuffles import shuffled_labels
from analysis.weights.chains import chains_of_all_depths
from analysis.weights.features import gram, upper, weighted_layers
from protocol.errors import UsageError
from protocol.recipes.layers import Conv2d
from protocol.recipes.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """One layer's (or feature set's) test."""

    correct: int
    total: int
    low: float  # 95% Wilson interval
    high: float
    chance: float
    p: float  # of this layer alone
    largest_p: float  # corrected for all layers tested together, see `permutation.largest_p`
    null_R: np.ndarray  # accuracies with shuffled labels

    @property
    def accuracy(self) -> float:
        """Share of unseen networks that are told right, 0 to 1."""
        return self.correct / self.total


def layer_features(recipe: Recipe, weights_NP: np.ndarray) -> dict[str, np.ndarray]:
    """Name -> chain features (N, F) up to each layer: what the procedure tests. Raises UsageError: unknown layers."""
    names = [
        f"{layer.__struct_config__.tag} {layer.channels if isinstance(layer, Conv2d) else layer.width}"
        for _, layer in weighted_layers(recipe)
    ]
    depths = chains_of_all_depths(recipe, weights_NP)
    return {
        f"layers 1-{k} ({name})": np.concatenate([upper(gram(x)) for x in gates], axis=1)
        for k, (name, gates) in enumerate(zip(names, depths, strict=True), 1)
    }


def tested_layers(
    features: dict[str, np.ndarray],
    labels: Sequence[str],
    seeds: Sequence[int] | np.ndarray,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> dict[str, Tested]:
    """The whole procedure for several feature sets of the same networks. Raises UsageError: too few to split.

    Labels are shuffled on both sides of the split: were those of the tested networks kept, a map trained on shuffled
    labels would still find the clouds that they are, and tell them all right every other time. No binomial p is given:
    guesses of one classifier depend on each other.
    """
    code_N, classes = label_codes(labels)
    train_N = split_by_seed(seeds, seed)
    if len(classes) < 2 or min(len(np.unique(code_N[side])) for side in (train_N, ~train_N)) < len(classes):
        raise UsageError("the test needs two classes with a few seeds each, on both sides of the split")
    codes_RN = np.vstack([code_N, shuffled_labels(code_N, seeds, permutations, seed, train_N)])
    test_T = code_N[~train_N]
    chance = float(np.bincount(test_T).max() / len(test_T))
    found: dict[str, tuple[int, np.ndarray]] = {}
    for name, features_NF in features.items():
        guess_RT = ridge_classes(features_NF[train_N], codes_RN[:, train_N], features_NF[~train_N], len(classes))
        right_R = (guess_RT == codes_RN[:, ~train_N]).sum(1)
        found[name] = int(right_R[0]), right_R[1:] / len(test_T)
    value_L = [right / len(test_T) for right, _ in found.values()]
    corrected_L = largest_p(value_L, np.stack([null_R for _, null_R in found.values()], axis=1))
    return {
        name: Tested(
            correct=right,
            total=len(test_T),
            low=wilson(right, len(test_T))[0],
            high=wilson(right, len(test_T))[1],
            chance=chance,
            p=permutation_p(right / len(test_T), null_R),
            largest_p=corrected,
            null_R=null_R,
        )
        for (name, (right, null_R)), corrected in zip(found.items(), corrected_L, strict=True)
    }


def split_by_seed(seeds: Sequence[int] | np.ndarray, seed: int = 0, train: float = 0.6) -> np.ndarray:
    """(N,) bool, true for training: all networks of a seed are on one side, whatever their class."""
    seed_N = np.asarray(seeds)
    unique = np.random.default_rng(seed).permutation(np.unique(seed_N))
    return np.isin(seed_N, unique[: round(train * len(unique))])
