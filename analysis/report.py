"""`zooswarm report`: one self-contained HTML page about a zoo. Equal zoos give equal pages, byte for byte.

`write_report` first; each section is a function from values to a dictionary that the template, report.html, shows.
"""

import base64
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from analysis import curves, features, geometry, plots
from analysis.classify import Accuracy, class_accuracy
from analysis.report_sections import Population, Section, population_sections, prelude
from analysis.zoo import Zoo, open_zoo
from protocol.canonical import write_atomic
from protocol.errors import UsageError
from protocol.recipe import Recipe

SAMPLE_MAX = 2000  # networks in maps and classifiers: the largest kernel that two cores factor in seconds
RATE = r',"rate":[^,}]*'  # of dropout, in the catalogue's JSON
ROWS_LISTED_MAX = 50  # of hosts and recipes: a page, not a listing
TABLE_COLUMNS = [
    *dict.fromkeys([*curves.COLUMNS, "id", "seed", "recipe", "campaign", "host", "checkers", "checks_valid"]),
    *["cells_checked", "credit", "evidence", "shard", "row", "network.layers", "network.parameters"],
]
FEATURES: dict[str, Callable[[Recipe, np.ndarray], np.ndarray]] = {
    "raw weights": lambda recipe, weights_NP: weights_NP,
    "numbering-free features": features.invariants,
    "layer sizes only": features.layer_norms,
}


def write_report(
    path: Path,
    out: Path,
    where: str | None = None,
    say: Callable[[str], None] = lambda text: None,
    json_too: bool = False,
) -> Path:
    """Write `out`/report.html (and report.json) about the zoo at `path`; `say` hears of the progress.

    Returns the page's path. Raises UsageError: no zoo, a damaged file, a bad `where`, an `out` that cannot be written.
    """
    values = report_values(open_zoo(path), where, say)
    page = out / "report.html"
    try:
        write_atomic(page, rendered(values).encode())
        if json_too:
            write_atomic(out / "report.json", report_json(values).encode())
    except OSError as error:
        raise UsageError(f"{out}: cannot write the page: {error.strerror or error}") from None
    return page


def report_page(zoo: Zoo, where: str | None = None, say: Callable[[str], None] = lambda text: None) -> str:
    """The page as HTML."""
    return rendered(report_values(zoo, where, say))


def report_values(zoo: Zoo, where: str | None = None, say: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """All that the page shows, by section."""
    say("reading the catalogue")
    table = zoo.table(where, TABLE_COLUMNS)
    say("learning curves")
    learning = curves.learning_by_class(table)
    weights = weight_space(zoo, table, where, say)
    return {
        "manifest": zoo.store.manifest,
        "where": where,
        "overview": overview(table),
        "weights": weights,
        "training": training(learning),
        "provenance": provenance(zoo, table),
    }


def report_json(values: dict[str, Any]) -> str:
    """The page's numbers without its pictures, as JSON."""
    weights = values["weights"] or {"distances": None, "accuracy": {"missing": "no network"}, "sections": []}
    told = {
        name: {
            kind: {
                "accuracy": one.accuracy,
                "low": one.low,
                "high": one.high,
                "chance": one.chance,
                "networks": one.total,
            }
            for kind, one in zip(("trained", "initial"), pair, strict=True)
        }
        | {"shuffled": list(pair[0].shuffled)}
        for name, pair in weights["accuracy"].get("rows", {}).items()
    }
    sections = [
        {name: getattr(one, name) for name in ("key", "title", "verdict", "missing", "head", "rows", "code")}
        for one in weights["sections"]
    ]
    found = {
        "manifest": values["manifest"].number,
        "where": values["where"],
        "overview": values["overview"],
        "distances": weights["distances"] and weights["distances"]["words"],
        "class_from_weights": told or weights["accuracy"]["missing"],
        "sections": sections,
        "training": [] if values["training"] is None else values["training"]["rows"],
    }
    return json.dumps(found, indent=1, ensure_ascii=False)


def rendered(values: dict[str, Any]) -> str:
    """`report_values` as HTML."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"picture": picture, "percent": percent, "python": repr}
    template = (Path(__file__).parent / "report.html").read_text()
    return environment.from_string(template).render(**values)


def overview(table: pa.Table) -> dict[str, Any]:
    """What is there and what stands behind it, as (name, number) pairs, and the networks of each class."""
    hosts, checkers = table["host"].to_pylist(), [set(row) for row in table["checkers"].to_pylist()]
    numbers = [
        ("networks", table.num_rows),
        ("checked by another host", sum(bool(them - {host}) for host, them in zip(hosts, checkers, strict=True))),
        ("hosts that trained", len(set(hosts))),
        ("hosts that checked", len(set().union(*checkers))),
        ("checks that agreed", sum(table["checks_valid"].to_pylist())),
        ("segments re-run", sum(table["cells_checked"].to_pylist())),
        ("evidence files", len(table["evidence"].unique())),
        ("credit, network-segments", round(sum(table["credit"].to_pylist()))),
    ]
    return {"numbers": [(name, f"{value:,}") for name, value in numbers], "classes": count_by(table, "class")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Networks of one architecture: their weights now and at step 0."""

    where: str  # the expression that selects them
    note: str  # what was left out, in words; empty when nothing was
    recipe: Recipe  # any of them: the arrays are the same
    labels: list[str]
    seeds: list[int]
    weights_NP: np.ndarray
    initial_NP: np.ndarray


def draw_sample(zoo: Zoo, table: pa.Table, where: str | None) -> Sample:
    """The networks of the most common architecture, thinned by seed so that classes keep their seeds in common.

    Dropout rates are no part of an architecture: trained networks do not drop.
    """
    kind_N = np.array([without_rates(text) for text in table["network.layers"].to_pylist()], object)
    parameters_N = table["network.parameters"].to_numpy()
    counts = Counter(zip(kind_N, parameters_N.tolist(), strict=True))
    (kind, parameters), rows = max(counts.items(), key=lambda pair: (pair[1], pair[0]))
    chosen = table.filter(pa.array((kind_N == kind) & (parameters_N == parameters)))
    conditions, notes = [f"({where})"] if where else [], []
    if rows < table.num_rows:
        layers = chosen["network.layers"].unique().to_pylist()
        column = "network.layers" if len(layers) == 1 else f"regexp_replace(network.layers, {literal(RATE)}, '', 'g')"
        conditions.append(f"{column} = {literal(layers[0] if len(layers) == 1 else kind)}")
        if sum(one == kind for one, _ in counts) > 1:
            conditions.append(f"network.parameters = {parameters}")
        notes.append(f"the {rows:,} of {table.num_rows:,} networks that have the most common layers")
    if rows > SAMPLE_MAX:
        every = -(-rows // SAMPLE_MAX)
        chosen = chosen.filter(pa.array(chosen["seed"].to_numpy() % every == 0))
        conditions.append(f"seed % {every} = 0")
        notes.append(f"{chosen.num_rows:,} of them, those whose seed is a multiple of {every}")
    return Sample(
        where=" and ".join(conditions),
        note="; ".join(notes),
        recipe=zoo.recipe(max(chosen["recipe"].to_pylist())),
        labels=chosen["class"].to_pylist(),
        seeds=chosen["seed"].to_pylist(),
        weights_NP=zoo.weights_of(chosen),
        initial_NP=zoo.initial_weights_of(chosen),
    )


def weight_space(zoo: Zoo, table: pa.Table, where: str | None, say: Callable[[str], None]) -> dict[str, Any] | None:
    """Map, distances and classification, each beside the same on the initial weights; None for an empty zoo."""
    if not table.num_rows:
        return None
    say("weights, and the initial weights from recipe and seed")
    sample = draw_sample(zoo, table, where)
    say("maps")
    maps = network_maps(sample)
    say("distances")
    distances = distance_section(sample)
    return {
        "where": sample.where,
        "note": sample.note,
        "networks": len(sample.labels),
        "parameters": sample.weights_NP.shape[1],
        "map_picture": plots.draw_maps(maps, sample.labels),
        "explained": [where.explained_D for where in maps.values()],
        "distances": distances,
        "accuracy": accuracy_section(sample, say),
        **methods(zoo, sample, say),
    }


def methods(zoo: Zoo, sample: Sample, say: Callable[[str], None]) -> dict[str, Any]:
    """The sections of report_sections, on the classes that have two seeds at least; none with one such class."""
    label_N, seed_N = np.array(sample.labels), np.array(sample.seeds)
    names = [name for name in sorted(set(sample.labels)) if len(np.unique(seed_N[label_N == name])) > 1]
    if len(names) < 2:
        return {"sections": [], "prelude": ""}
    lone = sorted(set(sample.labels) - set(names))
    left_out = f"class not in ({', '.join(map(literal, lone))})" if lone else ""
    where = " and ".join(filter(None, [sample.where, left_out]))
    table, kept = zoo.table(where or None), np.isin(label_N, names)
    people = Population(
        where=where,
        recipe=sample.recipe,
        recipes={row["class"]: zoo.recipe(row["recipe"]) for row in table.select(["class", "recipe"]).to_pylist()},
        table=table,
        labels=label_N[kept].tolist(),
        seeds=seed_N[kept].tolist(),
        weights_NP=sample.weights_NP[kept],
        initial_NP=sample.initial_NP[kept],
        shelf=zoo.store.shelf,
    )
    sections: list[Section] = population_sections(people, say)
    return {"sections": sections, "prelude": prelude(where)}


def network_maps(sample: Sample) -> dict[str, geometry.Map]:
    """Two maps of the trained networks, each beside the same map of their initial weights."""
    trained, initial = sample.weights_NP, sample.initial_NP
    free = [features.standardized(features.invariants(sample.recipe, weights)) for weights in (trained, initial)]
    return {
        "Numbering-free features, trained": geometry.pca(free[0]),
        "Control: the same at step 0": geometry.pca(free[1]),
        "Raw weights, trained": geometry.pca(trained),
        "Control: initial weights": geometry.pca(initial),
    }


def distance_section(sample: Sample) -> dict[str, Any]:
    trained = geometry.class_distances(sample.weights_NP, sample.labels)
    initial = geometry.class_distances(sample.initial_NP, sample.labels)
    rows = [
        ("trained weights", trained, geometry.shuffled_centres(sample.weights_NP, sample.labels).max()),
        ("control: initial weights", initial, geometry.shuffled_centres(sample.initial_NP, sample.labels).max()),
    ]
    picture = plots.draw_distances({"Trained weights": trained, "Control: initial weights": initial})
    return {"rows": rows, "words": distance_words(trained, initial, rows[0][2]), "picture": picture}


def distance_words(trained: geometry.Distances, initial: geometry.Distances, chance: float) -> str:
    if np.isnan(trained.between):
        return "There is one class, so there is no distance between classes."
    if np.isnan(trained.centres):
        return "Fewer than two classes have two networks, so a class's own spread cannot be told from its place."
    moved = trained.centres > chance and trained.centres / trained.within > initial.centres / initial.within
    measured = (
        f"the centres of two classes are {trained.centres:.2f} apart, where two networks of one class are "
        f"{trained.within:.2f} apart; at step 0 it was {initial.centres:.2f} against {initial.within:.2f}, and "
        f"shuffled labels give {chance:.2f} at most."
    )
    return f"Training moved the classes {'' if moved else 'not measurably '}apart: {measured}"


def accuracy_section(sample: Sample, say: Callable[[str], None]) -> dict[str, Any]:
    """Class from weights for every feature set, with both controls; or the reason why there is none."""
    label_N, seed_N = np.array(sample.labels), np.array(sample.seeds)
    lone = [name for name in sorted(set(sample.labels)) if len(np.unique(seed_N[label_N == name])) < 2]
    kept = np.flatnonzero(~np.isin(label_N, lone))
    labels, seeds = label_N[kept].tolist(), seed_N[kept].tolist()
    if len(set(labels)) < 2:
        return {"missing": "Not enough networks: this needs at least two classes with at least two seeds each."}
    rows: dict[str, tuple[Accuracy, Accuracy]] = {}
    for name, transform in FEATURES.items():
        say(f"class from {name}")
        trained_NF, initial_NF = (transform(sample.recipe, w[kept]) for w in (sample.weights_NP, sample.initial_NP))
        rows[name] = class_accuracy(trained_NF, labels, seeds), class_accuracy(initial_NF, labels, seeds, shuffles=0)
    return {
        "missing": "",
        "left_out": lone,
        "where": " and ".join(filter(None, [sample.where, f"class not in ({', '.join(map(literal, lone))})"])),
        "rows": rows,
        "verdict": verdict(rows),
        "picture": plots.draw_accuracies(rows),
        "networks": len(labels),
    }


def is_clear(trained: Accuracy, initial: Accuracy) -> bool:
    """Well above chance and both controls: even the interval's low end beats the best that any of them did."""
    return trained.low > max(trained.chance, initial.chance, initial.high, *trained.shuffled)


def verdict(rows: dict[str, tuple[Accuracy, Accuracy]]) -> list[str]:
    """The accuracies in words, a sentence a line; they may not claim more than the intervals carry."""
    sentences = []
    for name, (trained, initial) in rows.items():
        measured = f"{percent(trained.accuracy)} (95% interval {percent(trained.low)} to {percent(trained.high)})"
        if is_clear(trained, initial):
            sentences.append(
                f"From {name}: yes. The class of networks never seen before is told right in {measured}; guessing "
                f"gives {percent(trained.chance)}, the untrained weights {percent(initial.accuracy)}, shuffled labels "
                f"{percent(trained.shuffled_mean)} on average."
            )
        else:
            sentences.append(
                f"From {name}: no. {measured} is not clearly above guessing ({percent(trained.chance)}), the untrained "
                f"weights ({percent(initial.accuracy)}) and shuffled labels (at best {percent(max(trained.shuffled))})."
            )
        if initial.low > max(initial.chance, *trained.shuffled):
            sentences.append(
                f"Warning: from {name} the untrained weights alone are above chance, so something other than training "
                "tells the classes apart; do not read this row as a finding."
            )
    return sentences


def training(learning: list[curves.Learning]) -> dict[str, Any] | None:
    if not learning:
        return None
    rows = [
        {
            "name": row.name,
            "networks": f"{row.networks:,}",
            "stopped": "no stop rule" if row.stopped is None else f"{row.stopped:,} ({row.stopped / row.networks:.0%})",
            "steps": [f"{value:,.0f}" for value in np.quantile(row.steps_N, (0.05, 0.5, 0.95))],
            "held_out": [f"{value:.2g}" for value in np.quantile(row.held_out_N, (0.05, 0.5, 0.95))],
        }
        for row in learning
    ]
    return {"rows": rows, "curves": plots.draw_curves(learning), "steps": plots.draw_steps(learning)}


def provenance(zoo: Zoo, table: pa.Table) -> dict[str, Any]:
    campaigns = []
    for digest, rows in count_by(table, "campaign"):
        value = campaign_value(zoo.campaigns.get(digest, b"{}"))
        texts = {key: str(value.get(key) or "not stated") for key in ("name", "licence", "citation", "description")}
        campaigns.append({"digest": digest, "networks": f"{rows:,}", **texts})
    recipes = []
    for digest, rows in count_by(table, "recipe"):
        recipe = zoo.recipe(digest)
        layers = [
            f"{layer.__struct_config__.tag} {getattr(layer, 'width', '')}".strip() for layer in recipe.network.layers
        ]
        recipes.append(
            {
                "name": recipe.name,
                "label": recipe.label,
                "layers": " → ".join(layers),
                "parameters": f"{recipe.parameter_count:,}",
                "networks": f"{rows:,}",
                "digest": digest,
            }
        )
    credit = table.group_by("host").aggregate([("credit", "sum"), ("id", "count")]).to_pylist()
    hosts = sorted(credit, key=lambda row: (-row["credit_sum"], row["host"]))
    return {
        "campaigns": campaigns,
        "recipes": sorted(recipes, key=lambda row: (row["label"], row["name"]))[:ROWS_LISTED_MAX],
        "recipes_more": max(0, len(recipes) - ROWS_LISTED_MAX),
        "hosts": [
            (row["host"], f"{row['id_count']:,}", f"{row['credit_sum']:,.0f}") for row in hosts[:ROWS_LISTED_MAX]
        ],
        "hosts_more": max(0, len(hosts) - ROWS_LISTED_MAX),
    }


def campaign_value(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        value = {}
    return value if isinstance(value, dict) else {}


def count_by(table: pa.Table, column: str) -> list[tuple[str, int]]:
    """(value, rows) of every value of a text column, by value."""
    return sorted((pair["values"], pair["counts"]) for pair in table[column].value_counts().to_pylist())


def without_rates(layers: str) -> str:
    """Layers in JSON, their dropout rates left out."""
    return re.sub(RATE, "", layers)


def literal(text: str) -> str:
    """A SQL text literal."""
    return "'" + text.replace("'", "''") + "'"


def picture(figure: Any) -> str:
    """A figure as a data URL: as an image it can neither run anything nor clash with the page's names."""
    return "data:image/svg+xml;base64," + base64.b64encode(plots.svg(figure)).decode()


def percent(share: float) -> str:
    return f"{share:.1%}"
