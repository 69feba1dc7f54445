"""Retrieval of unseen classes: does a map that was trained on some classes bring networks of others together?

The procedure follows the code of Wang et al.'s predecessor (half of the classes are unseen, a fifth of their networks
are queries and the others the gallery, CMC and mAP). OURS: each half is unseen once, queries are of other seeds than
the gallery, and the null. Axes: N networks, F features, K classes, R labelings, B of them at a time, Q queries, G
gallery, T networks of unseen classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.statistics.classify import score_parts
from analysis.statistics.intervals import jackknife
from analysis.statistics.labels import label_codes
from analysis.statistics.permutation import PERMUTATIONS, permutation_p
from analysis.statistics.shuffles import shuffled_labels
from analysis.statistics.splits import fold_by_group
from protocol.errors import UsageError

VALUES_AT_ONCE = 500_000  # similarities: 4 MB
ONE_SEED = "retrieval needs networks of two seeds in each half of the classes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval:
    """Given a network of a class that the map never saw, find others of its class; means over both halves."""

    cmc: dict[int, float]  # rank -> share of queries with one of their own class among so many nearest
    mean_average_precision: float
    low: float  # 95% of that, jackknife over groups with the maps held fixed
    high: float
    chance: float  # mean average precision with shuffled labels
    null_R: np.ndarray
    p: float


def retrieval(
    features_NF: np.ndarray,
    labels: Sequence[str],
    groups: Sequence[int] | np.ndarray,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Retrieval:
    """Train the map on half of the classes, retrieve within the others by cosine of its scores; then the other way.

    Labels are shuffled by group within each half, and the map is trained again for every shuffle: with one map for all
    a half that happens to be told by the other's map counts twice, and p is too small. Raises UsageError with fewer
    than four classes, or when a half has networks of a single group.
    """
    code_N, classes = label_codes(labels)
    if len(classes) < 4:
        raise UsageError("retrieval on unseen classes needs at least four classes")
    rng, group_N = np.random.default_rng(seed), np.asarray(groups)
    half_N = np.isin(code_N, rng.permutation(len(classes))[: len(classes) // 2]).astype(int)
    if len(np.unique(group_N)) < 2:
        raise UsageError(ONE_SEED)
    query_N = fold_by_group(code_N, group_N, seed=seed) == 0
    codes_RN = np.vstack([code_N, shuffled_labels(code_N, group_N, permutations, rng, 2 * half_N + query_N)])
    sides = [(np.flatnonzero(query_N & (half_N == h)), np.flatnonzero(~query_N & (half_N == h))) for h in (0, 1)]
    if not all(part.size for side in sides for part in side):
        raise UsageError(ONE_SEED)
    alike, value_R, found_2Q = [], np.zeros(len(codes_RN)), []
    for query_Q, gallery_G in sides:
        begin = 0
        for alike_BQG in _similarities(features_NF, codes_RN, query_Q, gallery_G):
            codes_BN = codes_RN[begin : begin + len(alike_BQG)]
            own_BQG = codes_BN[:, query_Q, None] == codes_BN[:, None, gallery_G]
            at_BQG, precision_BQ = found_among_nearest(alike_BQG, own_BQG)
            value_R[begin : begin + len(alike_BQG)] += precision_BQ.mean(1) / 2
            if not begin:
                alike.append(alike_BQG[0].copy())
                found_2Q.append(at_BQG[0].copy())
            begin += len(alike_BQG)

    def measure(rows: np.ndarray) -> float:
        means = []
        for (query_Q, gallery_G), alike_QG in zip(sides, alike, strict=True):
            q, g = np.isin(query_Q, rows), np.isin(gallery_G, rows)
            if not q.any() or not g.any():
                return float("nan")  # with a handful of seeds: no interval
            own_QG = code_N[query_Q[q], None] == code_N[gallery_G[g]]
            means.append(found_among_nearest(alike_QG[q][:, g][None], own_QG[None])[1].mean())
        return float(np.mean(means))

    low, high = jackknife(measure, group_N, 0.0, 1.0)
    return Retrieval(
        cmc={k: float(np.mean([(at[:, min(k, at.shape[1]) - 1] > 0).mean() for at in found_2Q])) for k in (1, 5, 10)},
        mean_average_precision=float(value_R[0]),
        low=low,
        high=high,
        chance=float(value_R[1:].mean()) if permutations else float("nan"),
        null_R=value_R[1:],
        p=permutation_p(float(value_R[0]), value_R[1:]),
    )


def _similarities(
    features_NF: np.ndarray, codes_RN: np.ndarray, query_Q: np.ndarray, gallery_G: np.ndarray
) -> Iterator[np.ndarray]:
    """(B, Q, G) cosines of scores that a map gives which was trained on all networks but these, labels as they are."""
    both_T = np.concatenate([query_Q, gallery_G])
    seen = np.setdiff1d(np.arange(len(features_NF)), both_T)
    names, seen_RM = np.unique(codes_RN[:, seen], return_inverse=True)
    seen_RM = seen_RM.reshape(len(codes_RN), -1)
    at_once = max(1, VALUES_AT_ONCE // (len(query_Q) * len(gallery_G)))
    for scores_TRK in score_parts(features_NF[seen], seen_RM, features_NF[both_T], len(names)):
        unit_RTK = np.ascontiguousarray((scores_TRK - scores_TRK.mean(0)).transpose(1, 0, 2))
        unit_RTK /= np.maximum(np.linalg.norm(unit_RTK, axis=2, keepdims=True), 1e-300)
        for begin in range(0, len(unit_RTK), at_once):
            unit_BTK = unit_RTK[begin : begin + at_once]
            yield unit_BTK[:, : len(query_Q)] @ unit_BTK[:, len(query_Q) :].transpose(0, 2, 1)


def found_among_nearest(alike_BQG: np.ndarray, own_BQG: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many of a query's own class are among its nearest so many (B, Q, G), and its average precision (B, Q).

    The lowest bit of each distance carries through the sort whether it is one: sorting numbers is several times faster
    than sorting places. Equal distances come with their own class last.
    """
    key_BQG = (3 - alike_BQG).astype(np.float32).view(np.int32)  # 2 to 4: ordered as integers, too
    own_BQG = np.sort((key_BQG & ~1) | own_BQG, axis=2) & 1
    at_BQG = np.cumsum(own_BQG, axis=2, dtype=own_BQG.dtype).astype(np.float32)  # whole numbers add up faster
    rank_G = np.arange(1, at_BQG.shape[2] + 1, dtype=np.float32)
    precision_BQ = np.einsum("bqg,bqg,g->bq", at_BQG, own_BQG.astype(np.float32), 1 / rank_G)
    return at_BQG, precision_BQ / np.maximum(at_BQG[:, :, -1], 1)
