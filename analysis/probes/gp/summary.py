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
from analysis.statistics.ranks import spearman, spearman_interval
from protocol.errors import UsageError

Span = tuple[float, float, float]  # a number and its 95% interval
SNAPSHOTS_LEAST = 5  # an order of fewer has no small p
DEPTHS_LEAST = 4
SCORES = ("evidence", "left_out_nats", "left_out_error")
BASELINES = ("arc_evidence", "arc_left_out_nats", "parameters", "training_loss")
LOW_IS_GOOD = {"left_out_error", "training_loss"}


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
    """Families with SNAPSHOTS_LEAST at least. Raises UsageError: there is none."""
    groups = grouped(rows.to_pylist(), "network", "view")
    found = [
        one_family(name, kind, some)
        for (name, kind), some in groups.items()
        if view in (None, kind) and len({row["step"] for row in some}) >= SNAPSHOTS_LEAST
    ]
    if not found:
        raise UsageError("The probe left no rows of a family with five snapshots.")
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

    name: str  # task, kind of unit and initial weights
    layers_S: np.ndarray
    correlation_S: list[Span]
    again_S: np.ndarray  # correlation of a second draw
    trained_S: list[Span]  # NaN where there are no trained ones
    participation_S: list[Span]
    length_S: np.ndarray
    collapse: tuple[float, float]  # Spearman of depth and correlation, one-sided p


def depths(rows: pa.Table) -> list[Depths]:
    """By task, unit, width and law of initial weights, four depths at least. Raises UsageError: there is none."""
    found = []
    for (_, init), some in grouped(rows.to_pylist(), "task_digest", "init").items():
        kinds = {(row["architecture"].split(" ")[0], row["width"]) for row in some if row["layers"] > 1}
        for kind, width in sorted(kinds):
            own = [row for row in some if (row["architecture"].split(" ")[0], row["width"]) == (kind, width)]
            mine = own + [row for row in some if row["layers"] == 1]
            if len({row["layers"] for row in mine}) >= DEPTHS_LEAST:
                found.append(of_depths(f"{own[0]['task']}: {kind}, width {width}, {init}", mine))
    if not found:
        raise UsageError("The probe left no rows of four depths of one kind.")
    return found


def of_depths(name: str, rows: list[Mapping[str, Any]]) -> Depths:
    by = grouped(sorted(rows, key=lambda row: row["steps"]), "population")  # of one depth twice, that of more steps
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
    sets: Span  # Spearman of said and true moves over random sets


@dataclass(frozen=True, slots=True, kw_only=True)
class Influence:
    """One family."""

    name: str  # with its architecture
    points: int
    networks: int
    removed: int  # of a set
    ceiling: float  # the best rank correlation to be expected with a truth of so many seeds
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
                rho=spearman_interval(said_N, moved_N, np.arange(len(points))),
                p=rank_trend(said_N, moved_N)[1],
                top=sets[0] / random.mean() if sets and len(random) else float("nan"),
                top_p=permutation_p(sets[0], random) if sets and len(random) else float("nan"),
                sets=over_sets(rows, column) if sets else (float("nan"), float("nan"), float("nan")),
            )
        )
    return Influence(
        name=f"{name}: {points[0]['architecture']}",
        points=len(points),
        networks=points[0]["networks"],
        removed=max((row["removed"] for row in rows), default=1),
        ceiling=float(np.sqrt(np.maximum(2 * half / (1 + half), 0))),  # Spearman and Brown, then attenuation
        judged=judged,
        moved_N=moved_N,
        said_N=np.array([row["influence_trained"] for row in points]),
    )


def over_sets(rows: list[Mapping[str, Any]], column: str) -> Span:
    """How said and true moves go together over random sets."""
    sets = [row for row in rows if row["what"] == "random"]
    said, moved = (np.array([row[key] for row in sets]) for key in (column, "moved"))
    return spearman_interval(said, moved, np.arange(len(sets)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One score over all data sets that have it."""

    name: str
    population: str  # that the kernel is of; empty for a baseline
    tasks: tuple[str, ...]
    architectures: int
    ranked: Ranked


def rankings(rows: pa.Table, seed: int = 0) -> list[Scored]:
    """Every score and baseline, over the data sets that the same architectures learnt: of several such groups the
    largest. Raises UsageError: no data set with three architectures."""
    every = largest_group(rows.to_pylist())
    if not every:
        raise UsageError("The probe left no rows of a data set with three architectures.")
    wanted = [(name, population) for population in ("initial", "other") for name in SCORES]
    found = [scored(every, name, population, seed) for name, population in wanted]
    found += [scored(every, name, "", seed) for name in BASELINES]
    return [one for one in found if one is not None]


def largest_group(rows: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rows of the contests between the same architectures, three at least, whose number of pairs is largest."""
    groups: dict[frozenset, list[Mapping[str, Any]]] = {}
    for some in grouped(rows, "contest").values():
        groups.setdefault(frozenset(row["architecture"] for row in some), []).extend(some)
    large = [some for names, some in groups.items() if len(names) > 2]
    return max(large, key=lambda some: len({(row["contest"], row["architecture"]) for row in some}), default=[])


def scored(rows: list[Mapping[str, Any]], name: str, population: str, seed: int) -> Scored | None:
    """One score, over the contests that have it; None where none does."""
    some = grouped([row for row in rows if row["population"] == (population or "initial")], "contest")
    if not some:
        return None
    names = sorted({row["architecture"] for row in rows})
    whole = {contest: of for contest, of in some.items() if len({row["architecture"] for row in of}) == len(names)}
    tables = [sorted(of, key=lambda row: row["architecture"]) for _, of in sorted(whole.items())]
    sign = -1.0 if name in LOW_IS_GOOD else 1.0
    return Scored(
        name=name,
        population=population,
        tasks=tuple(of[0]["task"] for of in tables),
        architectures=len(names),
        ranked=rank(
            np.array([[sign * row[name] for row in of] for of in tables]),
            np.array([[row["error"] for row in of] for of in tables]),
            seed=seed,
        ),
    )


def grouped(rows: Sequence[Mapping[str, Any]], *keys: str) -> dict[tuple, list[Mapping[str, Any]]]:
    found: dict[tuple, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in keys), []).append(row)
    return found


def span_of(row: Mapping[str, Any], key: str) -> Span:
    return row[key], row[f"{key}_low"], row[f"{key}_high"]
