"""Every study is on the page, and everything that it calls is in docs/analyses.md, with its source."""

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import analysis.methods
import analysis.probes
import analysis.report.studies
import analysis.report.studies.probes
from analysis.probes.names import PROBES
from analysis.probes.registry import probe_named
from analysis.report.page import PROBE_STUDIES, STUDIES
from analysis.report.study import Study

DOCS = Path(__file__).parents[2] / "docs"
TEXT, OF_PROBES = (DOCS / "analyses.md").read_text(), (DOCS / "probes.md").read_text()
IMPORTS = re.compile(r"from (analysis\.\w+\.\w+) import ([\w, ]+)")


def documented() -> dict[str, str]:
    """Function -> its source, and what is ours, of the table of methods."""
    table = TEXT.split("## Methods\n")[1].split("\n## ")[0]
    found = {}
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 6:
            origin = "".join(cells[2:4]).replace("–", "").strip()
            found |= {name.split(".")[-1]: origin for name in re.findall(r"`([\w.]+)`", cells[1])}
    return found


def written(package=analysis.report.studies) -> list[type[Study]]:
    """Every study in the modules of a package, in no order."""
    modules = [
        importlib.import_module(f"{package.__name__}.{each.name}") for each in pkgutil.iter_modules(package.__path__)
    ]
    return [
        value
        for module in modules
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Study) and value.__module__ == module.__name__
        if not inspect.isabstract(value)
    ]


def test_every_study_is_on_the_page_once():
    assert sorted(type(study).__name__ for study in STUDIES) == sorted(kind.__name__ for kind in written())
    kinds = written(analysis.report.studies.probes)
    assert sorted(type(study).__name__ for study in PROBE_STUDIES) == sorted(kind.__name__ for kind in kinds)
    assert len({study.key for study in (*STUDIES, *PROBE_STUDIES)}) == len(STUDIES) + len(PROBE_STUDIES)


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.key)
def test_what_it_calls_is_documented_with_its_source(study):
    called = [name for _, names in IMPORTS.findall(inspect.getsource(type(study))) for name in names.split(", ")]
    known = documented()
    assert any(known.get(name) for name in called), f"docs/analyses.md, table of methods, has none of {called}"


@pytest.mark.parametrize("name", PROBES)
def test_every_probe_is_documented_with_all_its_settings_and_columns(name):
    probe = probe_named(name)
    section = re.search(rf"^## .*\(`{name}`\)\n(.*?)(?=^## |\Z)", OF_PROBES, re.MULTILINE | re.DOTALL)
    assert probe.name == probe.settings.probe == name and section, f"docs/probes.md has no section (`{name}`)"
    names = [*probe.columns, *(field.name for field in dataclasses.fields(probe.settings))]
    assert [each for each in names if f"`{each}`" not in section[1]] == []


@pytest.mark.parametrize("module", [each.name for each in pkgutil.iter_modules(analysis.methods.__path__)])
def test_every_method_is_documented(module):
    assert re.search(rf"`{module}\b", TEXT), f"docs/analyses.md does not name {module}"


def test_what_a_zoo_says_enters_a_snippet_only_as_a_literal():
    """A snippet is run, and class names come from strangers: those are written by repr, all else is our own number."""
    makers = ("snippet", "opening", "paths_code", "prelude")
    ours = {"selection.permutations", "PAIRS_TOLD_MAX", "FAMILIES_MAX", "PAIRS_DRAWN + 1"}
    report, inserted = Path(__file__).parents[2] / "analysis" / "report", []
    for path in (*sorted((report / "studies").rglob("*.py")), report / "selection.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef) and function.name in makers:
                inserted += [node for node in ast.walk(function) if isinstance(node, ast.FormattedValue)]
    assert len(inserted) > 10
    assert {ast.unparse(node.value) for node in inserted if node.conversion != ord("r")} <= ours


# -- every p-value of the page, and every probe, has the test that the documents name for it

P_CELLS = ("small(", "_trend(")  # what a study writes a p-value with
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
ENOUGH = re.compile(r"\b200\b|\bDRAWS\b")


def rows_under(document: str, heading: str) -> list[list[str]]:
    """The first table after a heading, without its head."""
    text = (DOCS / document).read_text().split(f"\n{heading}\n")[1]
    lines = [line for line in text.split("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def source_of(file: str, name: str) -> str:
    """Of a test function; fails where there is none."""
    for node in ast.parse((DOCS.parent / file).read_text()).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return ast.unparse(node)
    pytest.fail(f"{file} has no {name}")


HELD = rows_under("analyses.md", "### What holds each p-value")


def writes_a_p(study) -> bool:
    """Itself, or through a function of its module."""
    own = inspect.getsource(type(study))
    functions = inspect.getmembers(inspect.getmodule(type(study)), inspect.isfunction)
    helpers = [name for name, of in functions if any(cell in inspect.getsource(of) for cell in P_CELLS)]
    return any(cell in own for cell in (*P_CELLS, *(f"{name}(" for name in helpers if f"{name}(" not in P_CELLS)))


def test_every_section_with_a_p_value_is_listed_and_no_other():
    written = {study.key for study in (*STUDIES, *PROBE_STUDIES) if writes_a_p(study)}
    assert {re.findall(r"`(\w+)`", row[0])[0] for row in HELD} == written


@pytest.mark.parametrize("row", HELD, ids=lambda row: f"{row[0]} {row[1]}")
def test_each_has_a_test_of_200_nulls(row):
    tests = TEST.findall(row[3])
    assert tests
    for file, name in tests:
        assert ENOUGH.search(source_of(file, name)), f"{name} draws fewer than 200"


def test_no_other_probe_makes_a_p():
    makers = ("permutation_p(", "largest_p(", "rank_trend(", "permutation_test(", ".pvalue")
    found = {
        each.name
        for each in pkgutil.walk_packages(analysis.probes.__path__, analysis.probes.__name__ + ".")
        if any(maker in inspect.getsource(importlib.import_module(each.name)) for maker in makers)
    }
    listed = {
        f"analysis.{name.rsplit('.', 1)[0]}" for row in HELD for name in re.findall(r"`(probes\.[\w.]+)`", row[2])
    }
    assert found == listed


def test_every_probe_has_a_null_and_a_truth():
    rows = rows_under("probes.md", "### A null and a truth for each")
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row[0])} == {*PROBES, "across"}
    for row in rows:
        for cell in row[1:3]:
            tests = TEST.findall(cell)
            assert tests, f"{row[0]}: no test is named"
            for file, name in tests:
                source_of(file, name)
