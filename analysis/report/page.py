"""`zooswarm report`: one self-contained HTML page about a zoo. Equal zoos give equal pages, byte for byte.

`write_report` first. A section is a method (`report_section`) of one of the modules `report_maps`, `report_classes`,
`report_changes`, `report_training`, `report_paths`; METHODS lists them in the order of the page.
"""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.plots import base
from analysis.report.cache import Cache
from analysis.report.overview import TABLE_COLUMNS, overview, provenance
from analysis.report.population import Population, caveats, comparable, draw, names, prelude
from analysis.report.section import Method, Section, section_from
from analysis.report.sections import changes, classes, maps, paths, training
from analysis.zoo import Zoo, open_zoo
from protocol.errors import UsageError
from protocol.files import write_atomic

PERMUTATIONS = 1000  # the smallest p is then 1/1001, which a correction for ten tests leaves below 0.05
METHODS: tuple[Method, ...] = (
    maps.network_maps,
    maps.distances,
    classes.class_from_weights,
    classes.layers,
    classes.groupings,
    changes.modified,
    changes.dose_response,
    changes.trojan_table,
    training.predicted,
    training.transferred,
    maps.barrier,
    paths.separating,
    paths.snapshots,
    training.learning_curves,
    training.steps_to_stop,
)
TOO_FEW = "Not enough networks: this needs at least two classes with at least two seeds each."
Hear = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a reader may choose."""

    where: str | None = None  # only these networks
    permutations: int = PERMUTATIONS
    cache: Path | None = None  # where sections are kept; None: nowhere
    hear: Hear = field(default=lambda done, total, title: None)  # sections done, in all, and the one in work


def write_report(path: Path, out: Path, settings: Settings = Settings(), json_too: bool = False) -> Path:
    """Write `out`/report.html (and report.json) about the zoo at `path`.

    Returns the page's path. Raises UsageError: no zoo, a damaged file, a bad `where`, an `out` that cannot be written.
    """
    values = report_values(open_zoo(path), settings)
    page = out / "report.html"
    try:
        write_atomic(page, rendered(values).encode())
        if json_too:
            write_atomic(out / "report.json", report_json(values).encode())
    except OSError as error:
        raise UsageError(f"{out}: cannot write the page: {error.strerror or error}") from None
    return page


def report_page(zoo: Zoo, settings: Settings = Settings()) -> str:
    """The page as HTML."""
    return rendered(report_values(zoo, settings))


def report_values(zoo: Zoo, settings: Settings) -> dict[str, Any]:
    """All that the page shows."""
    table, cache = zoo.table(settings.where, TABLE_COLUMNS), Cache(settings.cache, zoo.store.manifest)
    values = {
        "manifest": zoo.store.manifest,
        "where": settings.where,
        "overview": overview(table),
        "provenance": provenance(zoo, table),
        "groups": [],
        "caveats": [],
        "note": "",
        "too_few": "",
        "skipped": [],
    }
    if not table.num_rows:
        return values
    everyone = zoo.table(settings.where)
    whole = Population(zoo=zoo, where=settings.where or "", table=everyone, permutations=settings.permutations)
    sample = draw(zoo, everyone, settings.where, settings.permutations)
    several, lone = comparable(sample)
    values["note"] = sample.note
    classes = len(set(several.labels))
    if classes < 2:
        values |= {"too_few": TOO_FEW, "skipped": [one.title for one in METHODS if one.classes > 1]}
    elif lone:
        values["too_few"] = f"Left out of comparisons, having a single seed: {', '.join(lone)}."
    used = [one for one in METHODS if classes > 1 or one.classes < 2]
    by_scope = [(whole, "catalogue"), (sample, "sample"), (several, "classes")]
    sections = []
    for done, one in enumerate(used):
        settings.hear(done, len(used), one.title)
        people, scope = by_scope[min(one.classes, 2)]
        kept = cache.value([one.key, people.where, settings.permutations], lambda: made(one, people).kept())  # noqa: B023
        sections.append((scope if people is not sample else "sample", people, section_from(kept)))
    settings.hear(len(used), len(used), "the page")
    values["caveats"] = cache.value(["caveats", several.where], lambda: caveats(several if classes > 1 else sample))
    values["groups"] = grouped(sections, cache)
    return values


def grouped(sections: list[tuple[str, Population, Section]], cache: Cache) -> list[dict[str, Any]]:
    """Sections that follow each other and start from the same networks, with the lines that their calls start from."""
    groups: list[dict[str, Any]] = []
    for scope, people, section in sections:
        if not groups or groups[-1]["scope"] != scope:
            begin = cache.value(["prelude", scope, people.where], lambda: prelude(people, scope != "catalogue"))  # noqa: B023
            groups.append({"scope": scope, "prelude": begin, "sections": []})
        groups[-1]["sections"].append(section)
    return groups


def made(one: Method, people: Population) -> Section:
    """The section; where the beginnings give the classes away, it may not sound like a finding."""
    section = Section(key=one.key, title=one.title, intro=one.intro)
    try:
        found = one.find(people)
    except UsageError as error:
        section.missing = sentence(str(error))
        return section
    section.verdict = found.verdict
    if one.compares and people.starts.give_away:
        fixed = names(people.starts.fixed)
        section.verdict = [
            f"Not a finding: the initial weights of {fixed} do not vary with the seed, and name the class before any "
            "training. The numbers below cannot tell what was learnt from where it began."
        ]
    section.head, section.rows, section.caption = found.head, found.rows, found.caption
    section.control, section.note, section.code = found.control, found.note, found.code
    section.picture = "" if found.figure is None else base.svg(found.figure).decode()
    return section


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def report_json(values: dict[str, Any]) -> str:
    """The page's numbers without its pictures, as JSON."""
    found = {
        "manifest": values["manifest"].number,
        **{name: values[name] for name in ("where", "overview", "note", "caveats", "too_few", "provenance")},
        "sections": [section.told() for group in values["groups"] for section in group["sections"]],
    }
    return json.dumps(found, indent=1, ensure_ascii=False)


def rendered(values: dict[str, Any]) -> str:
    """`report_values` as HTML."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"picture": picture, "python": repr}
    template = (Path(__file__).parent / "template.html").read_text()
    return environment.from_string(template).render(**values)


def picture(svg: str) -> str:
    """An SVG as a data URL: as an image it can neither run anything nor clash with the page's names."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
