"""Retrieval of unseen classes: does a map that was trained on some classes bring networks of others together?

The procedure follows the code of Wang et al.'s predecessor (half of the classes, 20 queries and 80 in the gallery a
class, CMC and mAP); the null is OURS. Axes: N networks, F features, K classes, R shuffles, Q queries, G gallery.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.statistics.classify import ridge_scores
from analysis.statistics.labels import label_codes
from analysis.statistics.permutation import PERMUTATIONS, permutation_p
from protocol.errors import UsageError

QUERIES, GALLERY = 20, 80  # networks a class, as in the authors' code


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
    code_N, classes = label_codes(labels)
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
        mixed_RB = np.concatenate(
            [code_N[part[np.argsort(keys_RN[:, part], axis=1)]] for part in (query, gallery)], axis=1
        )
        null_SR.append([_precision(mixed_B, len(query), ranked)[-1] for mixed_B in mixed_RB])
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
    at_QG = np.cumsum(hit_QG, axis=1, dtype=np.int32)
    found_Q = np.maximum(at_QG[:, -1], 1)
    average_Q = np.einsum("qg,qg,g->q", at_QG, hit_QG, 1 / np.arange(1, hit_QG.shape[1] + 1)) / found_Q
    return [*(float((at_QG[:, min(k, at_QG.shape[1]) - 1] > 0).mean()) for k in (1, 5, 10)), float(average_Q.mean())]
