"""The page about zoos of convolutions, LSTMs and tanh networks: every section is there, or says why it is not."""

import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from support.zoos import CAMPAIGN, EVIDENCE, ORGANIZER, network

from analysis import open_zoo
from analysis.report.caveats import UNTRAINED
from analysis.report.page import Settings, rendered, report_values
from coordinator.zoo.writer import ZooWriter
from protocol.canonical import decode_toml, hexdigest
from protocol.engine.initial import initial_state
from protocol.recipes.recipe import Recipe, parse_recipe
from protocol.tasks.datasets import Dataset, Shelf, digits8x8

FOLDER = Path(__file__).parents[2] / "recipes"
SEEDS = 6


def variant(name: str, label: str, **fields: Any) -> Recipe:
    """A recipe of the project, with a class, few steps and other fields: `task__index=3`."""
    value = decode_toml((FOLDER / f"{name}.toml").read_bytes(), name) | {"name": label, "class": label}
    for path, changed in ({"training__max_steps": 8, "training__segment_steps": 4} | fields).items():
        place: Any = value
        *groups, last = path.split("__")
        for group in groups:
            place = place[int(group)] if isinstance(place, list) else place[group]
        place[last] = changed
    return parse_recipe(value, name)


def publish(path: Path, recipes: list[Recipe], shelf: Shelf) -> Path:
    """Networks at their initial weights, moved along a direction of their class."""
    networks = []
    for k, recipe in enumerate(recipes):
        shift = np.random.default_rng(k).normal(size=recipe.parameter_count) * 0.2
        networks += [
            (network(recipe, seed)[0], (initial_state(recipe, seed).params + shift).astype(np.float32))
            for seed in range(SEEDS)
        ]
    blobs = {hexdigest(EVIDENCE): EVIDENCE}, {hexdigest(CAMPAIGN): CAMPAIGN}
    names = {recipe.data_set for recipe in recipes if recipe.data_set}
    data = {name: kept for name in names if (kept := shelf.ensure(name))}
    ZooWriter(path, ORGANIZER).publish(networks, {recipe.digest: recipe for recipe in recipes}, *blobs, data)
    return path


def other_digits() -> Dataset:
    """The built-in digits upside down: a data set that only a zoo's own shelf has."""
    digits = digits8x8()
    return msgspec.structs.replace(digits, inputs=digits.inputs[:, :, ::-1].copy())


def recipes_of(kind: str, shelf: Shelf) -> list[Recipe]:
    if kind == "cnn":  # one architecture, though the dropout differs
        return [
            variant("zoo-cnn", init, network__init=init, network__layers__7__rate=rate)
            for init, rate in (("he", 0.1), ("orthogonal", 0.3), ("pytorch", 0.0))
        ]
    if kind == "poisoned":
        own = shelf.put(other_digits().to_bytes())
        return [
            variant("ds4-digits", f"digits+poison-{share}", task__data=own, task__poison__fraction=share)
            for share in (0.0, 0.2)
        ]
    if kind == "lstm":
        layers = [{"kind": "lstm", "width": 12}, {"kind": "linear", "width": 1}]
        return [
            variant("ds3-lstm", f"automaton-{k}", task__index=k, network__layers=layers, task__sequences=64)
            for k in range(4)
        ]
    functions = ("wave", "line", "friedman")  # the last has ten inputs: another shape under equal layers
    return [variant("regression-wave", name, task__function=name) for name in functions]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "networks"), [("cnn", 18), ("poisoned", 12), ("lstm", 24), ("tanh", 12)])
def test_the_page_works_for_every_kind_of_network(tmp_path, kind, networks):
    shelf = Shelf(tmp_path / "shelf")
    zoo = open_zoo(publish(tmp_path / "zoo", recipes_of(kind, shelf), shelf))
    values = report_values(zoo, Settings(permutations=300))
    sections = {section.key: section for group in values["groups"] for section in group["sections"]}
    absent = {key for key, section in sections.items() if section.missing}
    assert len(sections) >= 12 and all("\n" not in section.missing for section in sections.values())
    assert not absent & {"class", "layers", "groupings", "barrier", "separating"}
    assert ("modified" in absent) == (kind != "poisoned")
    warned = {key for key, section in sections.items() if UNTRAINED in section.verdict}
    assert (warned == {"groupings", "separating"}) == (kind == "cnn")  # whose classes are initializations
    for group in values["groups"]:
        names = {"zoo": zoo}
        exec(group["prelude"], names)
        if group["scope"] != "catalogue":
            assert len(names["weights_NP"]) == networks
        if kind == "poisoned":
            for section in group["sections"]:
                exec(section.code, names)
    page = re.sub(r'base64,[^"]*', "", rendered(values))
    assert "nan" not in page.lower() and "Traceback" not in page
