"""The surrogates' rows as tables of the page, with trends, correlations and their intervals.

Axes: S snapshots or depths, N training points, T data sets, A architectures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from analysis.probes.gp.measures import step_of_half
from analysis.probes.gp.ranking import Ranked, rank
from analysis.statistics.permutation import permutation_p, rank_trend
from protocol.errors import UsageError

Span = tuple[float, float, float]  # a number and its 95% interval
SCORES = ("evidence", "left_out_nats", "left_out_error")
BASELINES = ("arc_evidence", "arc_left_out_nats", "parameters", "training_loss")
LOW_IS_GOOD = {"left_out_error", "training_loss", "parameters"}  # of parameters: the smaller network


@dataclass(frozen=True, slots=True, kw_only=True)
class Learning:
    """One family while it trains, in one view."""

    name: str
    architecture: str
    view: str
    networks: int
    steps_S: np.ndarray
    length_S: list[Span]
    centroid_S: list[Span]
    control_length_S: np.ndarray
    control_centroid_S: np.ndarray
    shorter: tuple[float, float]  # Spearman of steps and minus the length scale, one-sided p
    higher: tuple[float, float]  # of steps and the centroid
    control: tuple[float, float]  # of steps and the control's centroid
    kernels: list[str]  # chosen, a snapshot each
    frequencies: list[float]
    half_steps: list[float]  # until half of each wave is learnt, inf: never


def learning(rows: pa.Table, view: str | None = None) -> list[Learning]:
    """Families with three snapshots at least. Raises UsageError: there is none."""
    groups = grouped(rows.to_pylist(), "network", "view")
    found = [
        one_family(name, kind, some)
        for (name, kind), some in groups.items()
        if view in (None, kind) and len({row["step"] for row in some}) > 2
    ]
    if not found:
        raise UsageError("The probe left no rows of a family with three snapshots.")
    return found


def one_family(name: str, view: str, rows: list[Mapping[str, Any]]) -> Learning:
    """Rows of one family and view."""
    trained, control = (
        sorted((row for row in rows if row["population"] == population), key=lambda row: row["step"])
        for population in ("trained", "control")
    )
    steps_S = np.array([row["step"] for row in trained])
    centroid_S, length_S = (np.array([row[key] for row in trained]) for key in ("centroid", "length"))
    waves = [i for i in range(1, 10) if trained[0].get(f"frequency_{i}") is not None]
    halves = [step_of_half(steps_S, np.array([row[f"learnt_{i}"] for row in trained])) for i in waves]
    return Learning(
        name=name,
        architecture=trained[0]["architecture"],
        view=view,
        networks=trained[0]["networks"],
        steps_S=steps_S,
        length_S=[span_of(row, "length") for row in trained],
        centroid_S=[span_of(row, "centroid") for row in trained],
        control_length_S=np.array([row["length"] for row in control]),
        control_centroid_S=np.array([row["centroid"] for row in control]),
        shorter=rank_trend(steps_S, -length_S),
        higher=rank_trend(steps_S, centroid_S),
        control=rank_trend(steps_S, np.array([row["centroid"] for row in control])),
        kernels=[row["kernel"] for row in trained],
        frequencies=[trained[0][f"frequency_{i}"] for i in waves],
        half_steps=halves,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Depths:
    """Recipes that differ in depth alone."""

    name: str  # kind of unit and initial weights
    layers_S: np.ndarray
    correlation_S: list[Span]
    again_S: np.ndarray  # correlation of a second draw
    trained_S: list[Span]  # NaN where there are no trained ones
    participation_S: list[Span]
    length_S: np.ndarray
    collapse: tuple[float, float]  # Spearman of depth and correlation, one-sided p


def depths(rows: pa.Table) -> list[Depths]:
    """By kind of unit, width and law of initial weights: three depths at least. Raises UsageError: there are none."""
    every = [row | {"kind": row["architecture"].split(" ")[0]} for row in rows.to_pylist()]
    groups: dict[tuple, list] = {}
    for row in every:
        groups.setdefault((row["points"], row["width"], row["init"]), []).append(row)
    found = []
    for (_, width, init), some in groups.items():
        kinds = {row["kind"] for row in some} - {"linear"}
        for kind in sorted(kinds):
            mine = [row for row in some if row["kind"] in (kind, "linear")]
            if len({row["layers"] for row in mine}) > 2:
                found.append(of_depths(f"{kind}, width {width}, {init}", mine))
    if not found:
        raise UsageError("The probe left no rows of three depths of one kind.")
    return found


def of_depths(name: str, rows: list[Mapping[str, Any]]) -> Depths:
    by = grouped(rows, "population")
    initial, again = ({row["layers"]: row for row in by[(key,)]} for key in ("initial", "again"))
    trained = {row["layers"]: row for row in by.get(("trained",), [])}
    layers = sorted(initial)
    correlation_S = [span_of(initial[at], "correlation") for at in layers]
    none = (float("nan"), float("nan"), float("nan"))
    return Depths(
        name=name,
        layers_S=np.array(layers),
        correlation_S=correlation_S,
        again_S=np.array([again[at]["correlation"] for at in layers]),
        trained_S=[span_of(trained[at], "correlation") if at in trained else none for at in layers],
        participation_S=[span_of(initial[at], "participation") for at in layers],
        length_S=np.array([initial[at]["length"] for at in layers]),
        collapse=rank_trend(layers, [one[0] for one in correlation_S]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One way to name influential points, judged by true retraining."""

    name: str
    rho: Span  # Spearman with the true moves
    p: float  # one-sided, orders of the points
    top: float  # true move without its top points, over the mean of random sets; NaN: no such set was left out
    top_p: float  # how often a random set moves predictions as far


@dataclass(frozen=True, slots=True, kw_only=True)
class Influence:
    """One family."""

    name: str
    points: int
    networks: int
    removed: int  # of a set
    ceiling: float  # what the truth agrees with itself: Spearman of two halves of the seeds, stepped up
    judged: list[Judged]
    moved_N: np.ndarray
    said_N: np.ndarray  # by the kernel of the trained networks


JUDGES = {
    "kernel of trained networks": ("influence_trained", "top_trained"),
    "kernel of untrained networks": ("influence_initial", "top_initial"),
    "residual (baseline)": ("residual", None),
    "distance to the nearest point (baseline)": ("distance", None),
}


def influences(rows: pa.Table) -> list[Influence]:
    """Families by name. Raises UsageError: no rows."""
    groups = grouped(rows.to_pylist(), "network")
    if not groups:
        raise UsageError("The probe left no rows of these networks.")
    return [of_points(name, some) for (name,), some in sorted(groups.items())]


def of_points(name: str, rows: list[Mapping[str, Any]]) -> Influence:
    points = [row for row in rows if row["what"] == "point"]
    moved_N, first_N, second_N = (
        np.array([row[key] for row in points]) for key in ("moved", "moved_first", "moved_second")
    )
    random = np.array([row["moved"] for row in rows if row["what"] == "random"])
    half = spearman(first_N, second_N)
    judged = []
    for title, (column, top) in JUDGES.items():
        said_N = np.abs([row[column] for row in points])
        sets = [row["moved"] for row in rows if row["what"] == top]
        judged.append(
            Judged(
                name=title,
                rho=spearman_interval(said_N, moved_N),
                p=rank_trend(said_N, moved_N)[1],
                top=sets[0] / random.mean() if sets and len(random) else float("nan"),
                top_p=permutation_p(sets[0], random) if sets and len(random) else float("nan"),
            )
        )
    return Influence(
        name=name,
        points=len(points),
        networks=points[0]["networks"],
        removed=max((row["removed"] for row in rows), default=1),
        ceiling=2 * half / (1 + half) if half > 0 else 0.0,  # Spearman and Brown: of twice as many seeds
        judged=judged,
        moved_N=moved_N,
        said_N=np.array([row["influence_trained"] for row in points]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One score over all data sets that have it."""

    name: str
    population: str  # that the kernel is of; empty for a baseline
    tasks: tuple[str, ...]
    architectures: int
    ranked: Ranked


def rankings(rows: pa.Table, seed: int = 0) -> list[Scored]:
    """Every score and baseline. Raises UsageError: no data set with three architectures."""
    found = []
    every = rows.to_pylist()
    for population in ("initial", "other"):
        some = [row for row in every if row["population"] == population]
        found += [one for name in SCORES if (one := scored(some, name, population, seed))]
    found += [
        one for name in BASELINES if (one := scored([r for r in every if r["population"] == "initial"], name, "", seed))
    ]
    if not found:
        raise UsageError("The probe left no rows of a data set with three architectures.")
    return found


def scored(rows: list[Mapping[str, Any]], name: str, population: str, seed: int) -> Scored | None:
    """Data sets and the architectures that all of them have; None where fewer than three do."""
    tasks = sorted({(row["task"], row["task_digest"]) for row in rows})
    value = {(row["task_digest"], row["architecture"]): row for row in rows}
    common = sorted(
        {row["architecture"] for row in rows} & set.intersection(*({a for d, a in value if d == t} for _, t in tasks))
        if tasks
        else set()
    )
    if len(common) < 3:
        return None
    sign = -1.0 if name in LOW_IS_GOOD else 1.0
    score_TA, error_TA = (
        np.array([[row[key] * factor for row in (value[t, a] for a in common)] for _, t in tasks])
        for key, factor in ((name, sign), ("error", 1.0))
    )
    return Scored(
        name=name,
        population=population,
        tasks=tuple(task for task, _ in tasks),
        architectures=len(common),
        ranked=rank(score_TA, error_TA, seed=seed),
    )


def grouped(rows: Sequence[Mapping[str, Any]], *keys: str) -> dict[tuple, list[Mapping[str, Any]]]:
    found: dict[tuple, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in keys), []).append(row)
    return found


def span_of(row: Mapping[str, Any], key: str) -> Span:
    return row[key], row[f"{key}_low"], row[f"{key}_high"]


def spearman(x_N: np.ndarray, y_N: np.ndarray) -> float:
    """0 where one of them is constant."""
    from scipy.stats import rankdata

    x, y = (rankdata(values) - (len(values) + 1) / 2 for values in (x_N, y_N))
    size = float(np.sqrt((x**2).sum() * (y**2).sum()))
    return float(x @ y) / size if size else 0.0


def spearman_interval(x_N: np.ndarray, y_N: np.ndarray) -> Span:
    """Spearman's rho with its 95% interval: Fisher's z, with the variance of Bonett and Wright (2000)."""
    rho, n = spearman(x_N, y_N), len(x_N)
    if n < 5:
        return rho, float("nan"), float("nan")
    z, half = np.arctanh(np.clip(rho, -0.999999, 0.999999)), 1.959964 * np.sqrt((1 + rho**2 / 2) / (n - 3))
    return rho, float(np.tanh(z - half)), float(np.tanh(z + half))
