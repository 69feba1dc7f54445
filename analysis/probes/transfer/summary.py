"""The transfer probe's rows by pair of tasks: each method's score, and whether the unit keeps up.

Axes: S sources of a pair (seeds), D pairs.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from analysis.statistics.permutation import permutation_p
from analysis.statistics.ranks import spearman
from protocol.errors import UsageError

SCRATCH, FINE_TUNE, PTU, PTU_SCRATCH = "scratch", "fine-tune", "ptu", "ptu from scratch"  # of `methods`, without torch
SHUFFLES = 2000
Mean = tuple[float, float, float]  # a mean and its 95% interval (Student's t over sources)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFound:
    """One pair of tasks. Scores are means over sources; `best` of scratch, freeze-k and fine-tune is by them."""

    source: str
    target: str
    sources: int
    scratch: Mean
    fine_tune: Mean
    freeze: Mean  # of the k that is best
    ptu: Mean
    ptu_scratch: Mean
    untrained: Mean  # control: fine-tune from a source that was never trained
    best: str
    behind: float  # mean over sources of best - ptu
    error: float  # its standard error
    gates: tuple[float, ...]  # mean z of each block
    kept: tuple[float, ...]  # mean score of freeze-k above scratch, k = 1 ...
    distance: float  # mean angle between source and target in weight space

    @property
    def keeps_up(self) -> bool:
        """The unit is at least as good as the best of the others, within one standard error."""
        return self.behind <= self.error

    @property
    def gain(self) -> float:
        return self.fine_tune[0] - self.scratch[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Does weight space tell, over D pairs, how much a source gives?"""

    rank: float  # Spearman of distance and gain
    low: float  # 95%, pairs drawn anew
    high: float
    p: float  # by shuffling the distances
    pairs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Transferred:
    pairs: list[PairFound]
    told: Told
    profile: float  # Spearman of a block's gate and of what keeping the source up to it gives; NaN: one block

    @property
    def keeping_up(self) -> int:
        return sum(pair.keeps_up for pair in self.pairs)


def by_pair(rows: pa.Table) -> Transferred:
    """Pairs in the order of the rows' names. Raises UsageError: the probe left no rows of these networks."""
    grouped: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows.to_pylist():
        grouped[row["source_recipe"], row["target_recipe"]].append(row)
    if not grouped:
        raise UsageError("The probe left no rows of these networks.")
    pairs = [one_pair(*names, grouped[names]) for names in sorted(grouped)]
    return Transferred(pairs=pairs, told=distance_tells(pairs), profile=profile(pairs))


def one_pair(source: str, target: str, rows: list[Mapping[str, Any]]) -> PairFound:
    """Each method's scores are in the order of the sources, so they can be compared source by source."""
    scores: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for row in rows:
        scores[row["source"], row["method"]][row["network"]] = row["score"]
    names = sorted(scores["trained", SCRATCH])
    of = {
        method: np.array([found[n] for n in names]) for (state, method), found in scores.items() if state == "trained"
    }
    freezes = sorted(method for method in of if method.startswith("freeze-"))
    best = max([SCRATCH, FINE_TUNE, *freezes], key=lambda method: of[method].mean())
    behind = of[best] - of[PTU]
    opened = [list(map(float, row["gates"].split())) for row in rows if _is(row, "trained", PTU)]
    return PairFound(
        source=source,
        target=target,
        sources=len(names),
        scratch=mean_interval(of[SCRATCH]),
        fine_tune=mean_interval(of[FINE_TUNE]),
        freeze=mean_interval(of[max(freezes, key=lambda method: of[method].mean())]),
        ptu=mean_interval(of[PTU]),
        ptu_scratch=mean_interval(of[PTU_SCRATCH]),
        untrained=mean_interval(np.array(list(scores["untrained", FINE_TUNE].values()))),
        best=best,
        behind=float(behind.mean()),
        error=float(behind.std(ddof=1) / np.sqrt(len(behind))) if len(behind) > 1 else float("nan"),
        gates=tuple(np.mean(opened, axis=0).tolist()),
        kept=tuple(float((of[method] - of[SCRATCH]).mean()) for method in freezes),
        distance=float(np.mean([row["distance"] for row in rows])),
    )


def _is(row: Mapping[str, Any], source: str, method: str) -> bool:
    return row["source"] == source and row["method"] == method


def mean_interval(values_S: np.ndarray) -> Mean:
    """Of a mean, Student's t. NaN bounds with one value."""
    from scipy.stats import t

    value, n = float(values_S.mean()), len(values_S)
    if n < 2:
        return value, float("nan"), float("nan")
    half = float(t.ppf(0.975, n - 1) * values_S.std(ddof=1) / np.sqrt(n))
    return value, value - half, value + half


def distance_tells(pairs: list[PairFound], seed: int = 0) -> Told:
    """Spearman's rank correlation over pairs. They share networks: interval and p, which take them one by one,
    are somewhat too sure."""
    distance_D, gain_D = np.array([p.distance for p in pairs]), np.array([p.gain for p in pairs])
    value, rng = spearman(distance_D, gain_D), np.random.default_rng(seed)
    shuffled = [spearman(rng.permutation(distance_D), gain_D) for _ in range(SHUFFLES)]
    drawn = [rng.integers(len(pairs), size=len(pairs)) for _ in range(SHUFFLES)]
    resampled = [r for rows in drawn if not np.isnan(r := spearman(distance_D[rows], gain_D[rows]))]
    low, high = np.quantile(resampled, [0.025, 0.975]) if resampled else (float("nan"), float("nan"))
    p = permutation_p(abs(value), np.abs(shuffled)) if not np.isnan(value) else float("nan")
    return Told(rank=value, low=float(low), high=float(high), p=p, pairs=len(pairs))


def profile(pairs: list[PairFound]) -> float:
    """Over all blocks of all pairs with more than one: is the gate open where keeping the source's blocks helps?"""
    points = [point for pair in pairs if len(pair.gates) > 1 for point in zip(pair.gates, pair.kept, strict=True)]
    return spearman(*np.array(points).T) if points else float("nan")
