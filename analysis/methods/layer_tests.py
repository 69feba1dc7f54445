"""Hypothesis-training-testing: is the class in the weights of a layer, and is it more than chance made of it?

H1: a linear map, trained on some networks, tells the class of others. H0: the class cannot be predicted. The procedure
follows the code of Wang et al.'s predecessor (60/40 split, retrieval on unseen tasks with CMC and mAP); the test
statistics are OURS, as the paper's were not seen: an exact binomial test, 1,000 refits with shuffled training labels,
Holm's correction over the layers. PERMANOVA is Anderson's (2001). Axes: N networks, F features, K classes, R shuffles.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.statistics.classify import fit_predict, ridge_scores, wilson
from analysis.weights.chains import chains
from analysis.weights.features import gram, upper, weighted_layers
from protocol.errors import UsageError
from protocol.recipes.layers import Conv2d
from protocol.recipes.recipe import Recipe

PERMUTATIONS = 1000
LABELINGS_AT_ONCE = 100  # of 600 networks and 10 classes: 5 MB a copy
QUERIES, GALLERY = 20, 80  # networks a class in retrieval, as in the authors' code


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """One layer's (or feature set's) test."""

    correct: int
    total: int
    low: float  # 95% Wilson interval
    high: float
    chance: float
    binomial_p: float  # P(at least as many right | guessing the largest class's share)
    permutation_p: float
    holm_p: float  # the permutation p, corrected for all layers tested together
    null_R: np.ndarray  # accuracies after shuffling the training labels

    @property
    def accuracy(self) -> float:
        return self.correct / self.total


def layer_features(recipe: Recipe, weights_NP: np.ndarray) -> dict[str, np.ndarray]:
    """Chain features up to each layer, by name: what the procedure tests."""
    names = [
        f"{layer.__struct_config__.tag} {layer.channels if isinstance(layer, Conv2d) else layer.width}"
        for _, layer in weighted_layers(recipe)
    ]
    return {
        f"layers 1-{k} ({name})": np.concatenate([upper(gram(x)) for x in chains(recipe, weights_NP, k)], axis=1)
        for k, name in enumerate(names, 1)
    }


def tested_layers(
    features: dict[str, np.ndarray],
    labels: Sequence[str],
    seeds: Sequence[int],
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> dict[str, Tested]:
    """The whole procedure for several feature sets of the same networks. Raises UsageError: too few to split."""
    code_N, classes = codes(labels)
    train_N = split_by_seed(seeds, seed)
    if len(classes) < 2 or min(len(np.unique(code_N[side])) for side in (train_N, ~train_N)) < len(classes):
        raise UsageError("the test needs two classes with a few seeds each, on both sides of the split")
    rng = np.random.default_rng(seed)
    codes_RM = np.stack([code_N[train_N], *(rng.permutation(code_N[train_N]) for _ in range(permutations))])
    test_T = code_N[~train_N]
    chance = float(np.bincount(test_T).max() / len(test_T))
    found: dict[str, tuple[int, np.ndarray]] = {}
    for name, features_NF in features.items():
        parts = [
            fit_predict(
                features_NF[train_N], codes_RM[begin : begin + LABELINGS_AT_ONCE], features_NF[~train_N], len(classes)
            )
            for begin in range(0, len(codes_RM), LABELINGS_AT_ONCE)
        ]
        right_R = (np.concatenate(parts) == test_T).sum(1)
        found[name] = int(right_R[0]), right_R[1:] / len(test_T)
    p_values = [permutation_p(right / len(test_T), null_R) for right, null_R in found.values()]
    return {
        name: Tested(
            correct=right,
            total=len(test_T),
            low=wilson(right, len(test_T))[0],
            high=wilson(right, len(test_T))[1],
            chance=chance,
            binomial_p=binomial_p(right, len(test_T), chance),
            permutation_p=p,
            holm_p=corrected,
            null_R=null_R,
        )
        for (name, (right, null_R)), p, corrected in zip(found.items(), p_values, holm(p_values), strict=True)
    }


def codes(labels: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Labels as numbers (N,), and the names in their order."""
    classes, code_N = np.unique(np.array(labels, str), return_inverse=True)
    return code_N, classes.tolist()


def split_by_seed(seeds: Sequence[int], seed: int = 0, train: float = 0.6) -> np.ndarray:
    """(N,) bool, true for training: all networks of a seed are on one side, whatever their class."""
    seed_N = np.asarray(seeds)
    unique = np.random.default_rng(seed).permutation(np.unique(seed_N))
    return np.isin(seed_N, unique[: round(train * len(unique))])


def binomial_p(correct: int, total: int, chance: float) -> float:
    """Exact one-sided p: at least `correct` of `total` right by guessing."""
    from scipy.stats import binom

    return float(binom.sf(correct - 1, total, chance))


def permutation_p(value: float, null_R: np.ndarray) -> float:
    """(1 + how many are as large) / (1 + R): never zero (Phipson and Smyth 2010)."""
    return float((1 + (np.asarray(null_R) >= value - 1e-12).sum()) / (1 + len(null_R)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979), in the order given."""
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(stepped, 1)
    return corrected.tolist()


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval:
    """Given a network of a class that the map never saw, find others of its class; means over splits of the classes."""

    cmc: dict[int, float]  # rank -> share of queries with one of their own class among so many nearest
    mean_average_precision: float
    chance: float  # mean average precision with shuffled labels
    null_R: np.ndarray
    p: float
    splits: int
    low: float  # range of mean average precision over the splits
    high: float


def retrieval(
    features_NF: np.ndarray, labels: Sequence[str], splits: int = 6, permutations: int = PERMUTATIONS, seed: int = 0
) -> Retrieval:
    """Train the map on half of the classes, retrieve within the others by cosine of its scores.

    Raises UsageError with fewer than four classes.
    """
    code_N, classes = codes(labels)
    if len(classes) < 4:
        raise UsageError("retrieval on unseen classes needs at least four classes")
    rng = np.random.default_rng(seed)
    keys_RN = rng.random((permutations, len(code_N)))  # one shuffle for all splits, so that the null is as wide
    per_split, null_SR = [], []
    for _ in range(splits):
        unseen = rng.permutation(len(classes))[: len(classes) // 2]
        query, gallery = _query_gallery(code_N, unseen, rng)
        seen_N = ~np.isin(code_N, unseen)
        seen_code = np.unique(code_N[seen_N], return_inverse=True)[1]
        both = np.concatenate([query, gallery])
        unit = ridge_scores(features_NF[seen_N], seen_code, features_NF[both], len(classes) - len(unseen))
        unit = unit - unit.mean(0)
        unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-300)
        ranked = np.argsort(-(unit[: len(query)] @ unit[len(query) :].T), axis=1, kind="stable")
        per_split.append(_precision(code_N[both], len(query), ranked))
        null_SR.append(
            [
                _precision(
                    code_N[np.concatenate([part[np.argsort(keys_N[part])] for part in (query, gallery)])],
                    len(query),
                    ranked,
                )[-1]
                for keys_N in keys_RN
            ]
        )
    score_S = np.array(per_split)
    null_R = np.mean(null_SR, axis=0) if permutations else np.zeros(0)
    value = float(score_S[:, -1].mean())
    return Retrieval(
        cmc=dict(zip((1, 5, 10), score_S[:, :3].mean(0).tolist(), strict=True)),
        mean_average_precision=value,
        chance=float(null_R.mean()) if permutations else float("nan"),
        null_R=null_R,
        p=permutation_p(value, null_R),
        splits=splits,
        low=float(score_S[:, -1].min()),
        high=float(score_S[:, -1].max()),
    )


def _query_gallery(code_N: np.ndarray, unseen: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    query, gallery = [], []
    for code in unseen:
        rows = rng.permutation(np.flatnonzero(code_N == code))[: QUERIES + GALLERY]
        cut = max(1, round(len(rows) * QUERIES / (QUERIES + GALLERY)))
        query.append(rows[:cut])
        gallery.append(rows[cut:])
    return np.concatenate(query), np.concatenate(gallery)


def _precision(code_B: np.ndarray, queries: int, ranked_QG: np.ndarray) -> list[float]:
    """CMC at 1, 5, 10 and mean average precision."""
    hit_QG = code_B[queries:][ranked_QG] == code_B[:queries, None]
    at_QG = np.cumsum(hit_QG, axis=1)
    precision_QG = at_QG / np.arange(1, hit_QG.shape[1] + 1)
    average_Q = (precision_QG * hit_QG).sum(1) / np.maximum(at_QG[:, -1], 1)
    return [*(float((at_QG[:, min(k, at_QG.shape[1]) - 1] > 0).mean()) for k in (1, 5, 10)), float(average_Q.mean())]


@dataclass(frozen=True, slots=True, kw_only=True)
class Permanova:
    """Do classes have different centres, in any metric?"""

    f: float  # pseudo-F
    r2: float  # share of the squared distances that the classes explain
    p: float
    null_R: np.ndarray


def permanova(
    distance_NN: np.ndarray, labels: Sequence[str], permutations: int = PERMUTATIONS, seed: int = 0
) -> Permanova:
    """Permutational analysis of variance (Anderson 2001) of a distance matrix by class."""
    code_N, classes = codes(labels)
    n, k = len(code_N), len(classes)
    if k < 2 or n <= k:
        raise UsageError("PERMANOVA needs two classes and more networks than classes")
    square_NN, rng = np.asarray(distance_NN, np.float64) ** 2, np.random.default_rng(seed)
    total = square_NN.sum() / (2 * n)

    def pseudo_f(code_N: np.ndarray) -> float:
        member_NK = np.eye(k)[code_N]
        within = float(((square_NN @ member_NK) * member_NK).sum(0) @ (0.5 / member_NK.sum(0)))
        return (total - within) / (k - 1) / max(within / (n - k), 1e-300)

    f = pseudo_f(code_N)
    null_R = np.array([pseudo_f(rng.permutation(code_N)) for _ in range(permutations)])
    r2 = f * (k - 1) / (f * (k - 1) + n - k)
    return Permanova(f=f, r2=r2, p=permutation_p(f, null_R), null_R=null_R)
