"""The house as docs/architecture.md draws it: few rooms, few arrows, no circle, and every file it names is there."""

import ast
import importlib
import re
from pathlib import Path

import pytest
import rooms

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"
GLOSSARY = ROOT / "docs" / "glossary.md"
LIMITS = {"protocol": (12, 33), "peer": (10, 23), "coordinator": (12, 25), "analysis": (11, 28)}  # rooms, arrows
MODULES_MAX = 14  # in one folder: what a reader can keep in mind, and two
TOP = "protocol|peer|coordinator|analysis|tests|scripts|recipes|docs"
FILE = re.compile(rf"\b(?:{TOP})/[\w./-]*\.(?:py|md|toml|proto|c|cu|h)\b")
DEFINED = re.compile(rf"`({FILE.pattern}):(\w+)`")


@pytest.fixture(scope="module")
def plans():
    return {plan.package: plan for plan in rooms.floorplans()}


@pytest.mark.parametrize("package", LIMITS)
def test_a_package_has_few_rooms_few_arrows_and_no_circle(plans, package):
    plan = plans[package]
    assert plan.circle == ()
    assert len(plan.arrows) <= LIMITS[package][0]
    assert plan.arrow_count <= LIMITS[package][1]


def test_a_circle_would_be_seen():
    plan = rooms.Floorplan("p", {"a": ("b",), "b": ("c",), "c": ("b",), "d": ()})
    assert plan.circle == ("a", "b", "c") and plan.arrow_count == 3


def test_no_folder_is_crowded():
    assert {folder: count for folder, count in rooms.crowds().items() if count > MODULES_MAX} == {}


def test_the_picture_is_that_of_the_code():
    assert rooms.BEGIN + rooms.picture() + rooms.END in PAGE.read_text(), "run: python scripts/rooms.py --write"


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name
)
def test_every_file_that_a_page_names_is_there(page):
    named = set(FILE.findall(page.read_text()))
    there = {name for name in named if (ROOT / name).exists() or "NAME" in name}
    assert named - there == set()


def test_the_walk_names_what_is_defined_where_it_says():
    steps = DEFINED.findall(PAGE.read_text())
    assert len(steps) >= 20, "the walk from seed to plot has lost its steps"
    missing = [f"{file}:{name}" for file, name in steps if name not in definitions(ROOT / file)]
    assert missing == []


def test_every_package_and_room_is_a_map_of_what_is_in_it():
    """A room's docstring names each of its modules; a package's, each of its rooms."""
    missing = []
    for init in sorted(path for package in LIMITS for path in (ROOT / package).rglob("__init__.py")):
        text = ast.get_docstring(ast.parse(init.read_text())) or ""
        inside = [path for path in init.parent.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
        names = {path.stem for path in inside} - {"__init__", "coordinator_pb2", "coordinator_pb2_grpc"}
        missing += [f"{init.parent.relative_to(ROOT)}: {name}" for name in sorted(names) if f"`{name}`" not in text]
    assert missing == []


def test_every_name_of_the_glossary_exists():
    named = re.findall(r"`((?:protocol|peer|coordinator|analysis)(?:\.\w+)+)`", GLOSSARY.read_text())
    assert len(named) >= 30
    assert [name for name in named if not exists(name)] == []


def definitions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or something inside of one."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False
