"""`zooswarm report`: one self-contained HTML page about a zoo. Equal zoos give equal pages, byte for byte.

`write_report` first. A section of the page is a study as text; STUDIES lists them in the order of the page.
"""

import base64
import contextlib
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.catalogue.probe_tables import probe_names
from analysis.plots.style import svg
from analysis.report.cache import Cache
from analysis.report.caveats import caveats, names
from analysis.report.hover import network_names, rings
from analysis.report.overview import TABLE_COLUMNS, overview, provenance
from analysis.report.selection import Selection, comparable, draw, prelude
from analysis.report.soundness import soundness
from analysis.report.studies import changes, classes, maps, paths, training
from analysis.report.studies.probes import (
    across,
    attribution,
    corruption,
    information,
    quantitative,
    surrogate_uses,
    surrogates,
    transfer,
    verification,
)
from analysis.report.studies.probes.study import ProbeStudy
from analysis.report.study import Section, Study, section_from
from analysis.zoo import Zoo, open_zoo
from protocol.errors import DiskError, UsageError, shown
from protocol.files import write_atomic

PERMUTATIONS = 1000  # the smallest p is then 1/1001, which a correction for ten tests leaves below 0.05
STUDIES: tuple[Study, ...] = (
    maps.NetworkMaps(),
    maps.Distances(),
    classes.ClassFromWeights(),
    classes.Layers(),
    classes.Groupings(),
    changes.Modified(),
    changes.DoseResponses(),
    changes.Trojans(),
    training.Predicted(),
    training.Transferred(),
    maps.Barriers(),
    paths.Separating(),
    paths.Snapshots(),
    training.LearningCurves(),
    training.StepsToStop(),
)
PROBE_STUDIES: tuple[ProbeStudy, ...] = (  # of those that left rows
    corruption.Corrupted(),
    attribution.Attributions(),
    quantitative.Quantified(),
    information.Informed(),
    surrogates.Frequencies(),
    surrogates.DepthAtBeginning(),
    surrogate_uses.InfluentialPoints(),
    surrogate_uses.Architectures(),
    transfer.TransferGiven(),
    verification.Certified(),
    across.GoTogether(),
    across.ForetoldByWeights(),
)
SPELLED_MAX = 10  # characters that one letter takes when it is spelled out: \U0001f600
TOO_FEW = "Not enough networks: this needs at least two classes with at least two seeds each."
log = logging.getLogger(__name__)
Hear = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a reader may choose."""

    where: str | None = None  # only these networks
    permutations: int = PERMUTATIONS
    probes: bool = False  # a section for each probe that left rows, too
    cache: Path | None = None  # where sections are kept; None: nowhere
    hear: Hear = field(default=lambda done, total, title: None)  # sections done, in all, and the one in work


def write_report(path: Path, out: Path, settings: Settings = Settings(), json_too: bool = False) -> Path:
    """Write `out`/report.html (and report.json) about the zoo at `path`.

    Returns the page's path. Raises UsageError: no zoo, a damaged file, a bad `where`, an `out` that cannot be written.
    """
    values = report_values(open_zoo(path), settings)
    if values["soundness"]:
        log.warning("%s: %s", path, " ".join(values["soundness"]))
    page = out / "report.html"
    try:
        write_atomic(page, rendered(values).encode())
        if json_too:
            write_atomic(out / "report.json", report_json(values).encode())
    except OSError as error:
        raise DiskError(f"{out}: cannot write the page: {error.strerror or error}") from None
    return page


def report_page(zoo: Zoo, settings: Settings = Settings()) -> str:
    """The page as HTML."""
    return rendered(report_values(zoo, settings))


def report_values(zoo: Zoo, settings: Settings) -> dict[str, Any]:
    """All that the page shows: `manifest` (a Manifest), `where`, `overview`, `provenance` (see `overview`), `groups`
    (see `grouped`), and sentences: `soundness` (of the files), `caveats`, `note` (which networks were left out),
    `too_few`, `skipped` (titles)."""
    with single_threaded():
        return _values(zoo, settings)


def _values(zoo: Zoo, settings: Settings) -> dict[str, Any]:
    table, cache = zoo.table(settings.where, TABLE_COLUMNS), Cache(settings.cache, zoo.store.manifest)
    values = {
        "manifest": zoo.store.manifest,
        "where": settings.where,
        "overview": overview(table),
        "provenance": provenance(zoo, table),
        "groups": [],
        "soundness": soundness(zoo.store),
        "caveats": [],
        "note": "",
        "too_few": "",
        "skipped": [],
    }
    if not table.num_rows:
        return values
    everyone = zoo.table(settings.where)
    whole = Selection(zoo=zoo, where=settings.where or "", table=everyone, permutations=settings.permutations)
    sample = draw(zoo, everyone, settings.where, settings.permutations)
    several, lone = comparable(sample)
    values["note"] = sample.note
    comparing = len(set(several.classes)) > 1
    if not comparing:
        values |= {"too_few": TOO_FEW, "skipped": [study.title for study in STUDIES if study.classes > 1]}
    elif lone:
        values["too_few"] = f"Left out of comparisons, having a single seed: {', '.join(lone)}."
    used = [study for study in STUDIES if comparing or study.classes < 2]
    if settings.probes:
        there = probe_names(zoo.store.path)
        used += [study for study in PROBE_STUDIES if study.ready(there)]
    by_classes = [(whole, "catalogue"), (sample, "sample"), (several, "classes")]
    sections = []
    for done, study in enumerate(used):
        settings.hear(done, len(used), study.title)
        selection, scope = by_classes[min(study.classes, 2)]
        key = [study.key, selection.where, settings.permutations, study.stamp(selection)]
        kept = cache.value(key, lambda: section_of(study, selection).kept())  # noqa: B023
        sections.append((scope if selection is not sample else "sample", selection, section_from(kept)))
    settings.hear(len(used), len(used), "the page")
    values["caveats"] = cache.value(["caveats", several.where], lambda: caveats(several if comparing else sample))
    values["groups"] = grouped(sections, cache)
    return values


@contextlib.contextmanager
def single_threaded() -> Iterator[None]:
    """Linear algebra by one thread: products here are small, and threads that wait for each other spin. Sums are then
    in one order, too, whatever the number of cores."""
    import scipy.linalg  # noqa: F401
    import sklearn.cluster  # noqa: F401  libraries that load later would not be held
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield


def grouped(sections: list[tuple[str, Selection, Section]], cache: Cache) -> list[dict[str, Any]]:
    """Sections that follow each other and start from the same networks, with the lines that their calls start from.

    A group has `scope` (catalogue, sample or classes), `prelude` (Python) and `sections`.
    """
    groups: list[dict[str, Any]] = []
    for scope, selection, section in sections:
        if not groups or groups[-1]["scope"] != scope:
            begin = cache.value(["prelude", scope, selection.where], lambda: prelude(selection, scope != "catalogue"))  # noqa: B023
            groups.append({"scope": scope, "prelude": begin, "sections": []})
        groups[-1]["sections"].append(section)
    return groups


def section_of(study: Study, selection: Selection) -> Section:
    """The study as text; where the beginnings give the classes away, it may not sound like a finding."""
    section = Section(key=study.key, title=study.title, intro=study.intro)
    try:
        section.code = "\n".join(filter(None, [study.opening(selection), study.snippet(selection)]))
        result = study.compute(selection)
    except UsageError as error:
        section.missing, section.code = sentence(str(error)), ""
        return section
    section.verdict = study.words(result)
    if study.compares and selection.starts.give_away:
        fixed = names(selection.starts.fixed)
        section.verdict = [
            f"Not a finding: the initial weights of {fixed} do not vary with the seed, and name the class before any "
            "training. The numbers below cannot tell what was learnt from where it began."
        ]
    section.head, section.rows = study.table(result)
    section.control, section.caption, section.note = study.notes(result, selection)
    figure = study.figure(result)
    section.picture = svg(figure).decode()
    if panels := study.dots(result):
        section.hover = rings(figure, panels, network_names(selection.table))
    return section


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def report_json(values: dict[str, Any]) -> str:
    """The page's numbers without its pictures, as JSON."""
    found = {
        "manifest": values["manifest"].number,
        **{name: values[name] for name in ("where", "overview", "note", "caveats", "too_few", "provenance")},
        "soundness": values["soundness"],
        "sections": [section.told() for group in values["groups"] for section in group["sections"]],
    }
    return json.dumps(found, indent=1)  # in ASCII: no letter that a terminal would obey


def rendered(values: dict[str, Any]) -> str:
    """`report_values` as HTML."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=harmless
    )
    environment.filters |= {"picture": picture, "python": repr}
    template = (Path(__file__).parent / "template.html").read_text()
    return environment.from_string(template).render(**values)


def harmless(value: Any) -> Any:
    """What the template writes: texts with their lines, and nothing that turns a line around or cannot be seen."""
    if not isinstance(value, str) or value.isprintable():
        return value
    return "\n".join(shown(line, SPELLED_MAX * len(line)) for line in value.split("\n"))


def picture(svg: str) -> str:
    """An SVG as a data URL: as an image it can neither run anything nor clash with the page's names."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
