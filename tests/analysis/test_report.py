"""The analyst's page: every number comes from the call beside it, and nothing is claimed that the controls deny."""

import dataclasses
import html
import io
import json
import re
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console
from support.populations import RECIPES, SEEDS, planted, publish, recipe_of
from support.probes.reproduced import not_reproduced, results_of, scalars

from analysis import open_zoo
from analysis.cli import report as report_verb
from analysis.methods.changes import Dose, DoseResponse
from analysis.methods.families import Family, changed_pairs, dose_families
from analysis.report import cache, page
from analysis.report.page import STUDIES, Settings, report_json, report_page, report_values, write_report
from analysis.report.snippet import run
from analysis.report.studies.changes import dose_words
from analysis.report.studies.training import StepsToStop
from analysis.report.study import Section
from analysis.statistics.auc import auc
from protocol.cli.console import progress
from protocol.errors import UsageError
from protocol.recipes.layers import Flatten, Linear, Relu
from protocol.recipes.recipe import Network, Recipe, Training
from protocol.tasks.datasets import Shelf
from protocol.tasks.kinds import DatasetTask, Poison

FEW = Settings(permutations=60)
DECIMALS = re.compile(r"\d+(?:,\d{3})*\.\d+%?")


def changed(recipe: Recipe, name: str, **task) -> Recipe:
    return msgspec.structs.replace(
        recipe, name=f"net-{name}", label=name, task=msgspec.structs.replace(recipe.task, **task)
    )


def varied(recipe: Recipe, seed: int, shift: float):
    """A planted network whose steps and loss can be seen in the size of its weights."""
    row, params = planted(recipe, seed, shift)
    steps = 50 + 10 * ((7 * seed) % 9)
    values = {"steps": steps, "held_out_loss": 0.5 / steps, "training_losses": (0.5, 0.3 + 0.01 * seed)}
    return msgspec.structs.replace(row, **values), (params * (1 + steps / 100)).astype(np.float32)


@pytest.fixture(scope="module")
def machines(tmp_path_factory) -> Path:
    """Originals, one with a trigger's name, and three doses: planted directions that grow with the dose."""
    parity, xor = RECIPES[:2]
    doses = {changed(parity, f"parity-drop-{dose}", drop=dose): dose for dose in (0.1, 0.2, 0.3)}
    recipes = {parity: 0.3, xor: 0.3, changed(parity, "parity+trigger", sequences=31): 0.6} | doses
    networks = [varied(recipe, seed, shift) for recipe, shift in recipes.items() for seed in range(8)]
    return publish(tmp_path_factory.mktemp("machines") / "zoo", networks, list(recipes))


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory) -> Path:
    """Digits, clean and poisoned."""
    path, recipes = tmp_path_factory.mktemp("poisoned"), []
    for share in (0.0, 0.05, 0.2):
        poison = Poison(fraction=share, target=0, position=(6, 6), size=(2, 2), value=255)
        task = DatasetTask(data="digits8x8", shape=(1, 8, 8), labels=10, train=100, held_out=50, poison=poison)
        layers = (Flatten(), Linear(width=4), Relu(), Linear(width=10))
        training = Training(loss="cross_entropy", learning_rate=0.01, batch=20, max_steps=100)
        label = f"digits+poison-{share}"
        recipes.append(Recipe(name=label, label=label, task=task, network=Network(layers=layers), training=training))
    networks = [varied(recipe, seed, 0.3 * k) for k, recipe in enumerate(recipes) for seed in range(8)]
    digest = recipes[0].data_set
    assert digest is not None
    data = Shelf(path / "shelf").ensure(digest)
    assert data is not None
    return publish(path / "zoo", networks, recipes, {digest: data})


@pytest.fixture(scope="module")
def pages(machines, poisoned) -> dict[str, tuple[Path, dict]]:
    return {
        name: (path, report_values(open_zoo(path), FEW))
        for name, path in (("machines", machines), ("poisoned", poisoned))
    }


# --- the call beside each number -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("zoo", ["machines", "poisoned"])
def test_every_number_of_every_section_comes_from_the_call_beside_it(pages, zoo):
    path, values = pages[zoo]
    wrong, told = [], 0
    for group in values["groups"]:
        for section in group["sections"]:
            if section.missing:
                continue
            names: dict = {}
            exec(f"from analysis import open_zoo\nzoo = open_zoo({str(path)!r})\n{group['prelude']}", names)
            found = scalars(results_of(section.code, names))
            wrong += not_reproduced(section, found)
            told += sum(len(cell.numbers) for row in section.rows for cell in row)
            off = dataclasses.replace(
                section, rows=[[cell._replace(numbers=(0.123456789,)) for cell in section.rows[0]]]
            )
            assert not_reproduced(off, found), "a number that is nowhere must be missed"
    assert not wrong
    assert told > 200


@pytest.mark.slow
class OfOneClass(StepsToStop):
    def snippet(self, selection):
        return super().snippet(selection) + "[:1]"


@pytest.mark.slow
def test_the_page_runs_the_very_call_that_it_shows(pages, monkeypatch):
    path, values = pages["machines"]
    whole = next(one for group in values["groups"] for one in group["sections"] if one.key == "steps")
    monkeypatch.setattr(page, "STUDIES", (OfOneClass(),))
    ((cut,),) = (group["sections"] for group in report_values(open_zoo(path), FEW)["groups"])
    assert cut.code == whole.code + "[:1]" and cut.rows == whole.rows[:1] != whole.rows


def test_a_snippet_sees_what_its_networks_give_and_nothing_that_it_does_not_name():
    class Start:
        seeds = (1, 2, 3)

        @property
        def weights_NP(self):
            raise AssertionError("not asked for")

    assert run("limit = 1\n[seed for seed in seeds if seed > limit]", Start()) == [2, 3]
    with pytest.raises(ValueError, match="the last line"):
        run("limit = 1", Start())


@pytest.mark.slow
def test_every_section_says_what_it_must_and_every_method_was_tried(pages):
    told: dict[str, Section] = {}
    for _, values in pages.values():
        for group in values["groups"]:
            for section in group["sections"]:
                assert section.missing.endswith(".") or (section.verdict and section.control and section.code)
                if not section.missing:
                    told[section.key] = section
                    assert section.picture.startswith("<?xml") and section.rows and section.head
                    assert all(len(row) == len(section.head) for row in section.rows)
                    assert any(len(cell.numbers) == 3 for row in section.rows for cell in row), section.key
    assert set(told) == {one.key for one in STUDIES}


@pytest.mark.slow
@pytest.mark.parametrize("zoo", ["machines", "poisoned"])
def test_the_words_hold_no_number_that_the_table_lacks(pages, zoo):
    for group in pages[zoo][1]["groups"]:
        for section in group["sections"]:
            cells = " ".join(cell.text for row in section.rows for cell in row)
            labels = {row[0].text for row in section.rows if not row[0].text[0].isdigit()}
            words = " ".join(section.verdict)
            for label in sorted(labels | {"parity-drop-0.1", "parity-drop-0.2", "parity-drop-0.3"}, key=len)[::-1]:
                words = words.replace(label, "")
            words = re.sub(r"digits\+poison-[\d.]+\d|at most 0\.05|\(p at most[^)]*\)", "", words)
            missing = [x for x in DECIMALS.findall(words) if x not in cells and section.key != "dose"]
            assert not missing, (section.key, missing)


@pytest.mark.slow
def test_json_has_every_number_of_the_page(pages):
    _, values = pages["machines"]
    text, told = html.unescape(page.rendered(values)), json.loads(report_json(values))
    assert [one["key"] for one in told["sections"]] == [one.key for one in STUDIES]
    cells = [cell for one in told["sections"] for row in one["rows"] for cell in row]
    assert all(f">{cell['text']}</td>" in text for cell in cells)
    assert text.count("data:image/svg+xml;base64,") == sum(not one["missing"] for one in told["sections"])


def test_distances_that_are_all_alike_do_not_rise():
    family = Family(change="drop", base="parity", doses={"a": 0.1, "b": 0.2, "c": 0.3})
    row = Dose(label="a", dose=0.1, distance=0.0, low=0.0, high=0.0, auc=auc(np.zeros(2), np.array([0, 1])))
    flat = DoseResponse([row] * 3, float("nan"), 1.0)  # what a constant row gives
    assert dose_words(family, flat, flat).endswith("so no distance rises.")
    told = dose_words(family, DoseResponse([row] * 3, 1.0, 0.04), flat)
    assert "rises with" in told and told.endswith("at step 0 no distance rises.") and "nan" not in told


def test_doses_and_changes_are_read_from_recipes(machines, poisoned):
    zoo = open_zoo(machines)
    recipes = {recipe.label: recipe for recipe in zoo.recipes.values()}
    (family,) = dose_families(recipes)
    assert (family.change, family.base) == ("drop", "parity") and sorted(family.doses.values()) == [0.1, 0.2, 0.3]
    assert changed_pairs(recipes)[:2] == [("parity", "parity+trigger"), ("parity", "parity-drop-0.1")]
    shares = {recipe.label: recipe for recipe in open_zoo(poisoned).recipes.values()}
    (family,) = dose_families(shares)
    assert (family.change, family.base) == ("poison", "digits+poison-0.0") and set(family.doses.values()) == {0.05, 0.2}
    clean = msgspec.structs.replace(shares["digits+poison-0.0"], label="digits")
    clean = msgspec.structs.replace(clean, task=msgspec.structs.replace(clean.task, poison=None))
    (family,) = dose_families({"digits": clean, "bad": shares["digits+poison-0.2"]})
    assert family.base == "digits"
    other = msgspec.structs.replace(clean.task, train=90)
    assert not dose_families({"digits": msgspec.structs.replace(clean, task=other), "bad": shares["digits+poison-0.2"]})


# --- the page --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clusters(tmp_path_factory) -> Path:
    networks = [planted(recipe, seed, 0.3) for recipe in RECIPES for seed in range(SEEDS)]
    return publish(tmp_path_factory.mktemp("clusters [1]") / "zoo", networks, RECIPES)


@pytest.fixture
def short(monkeypatch) -> list[str]:
    """A page of four sections, for tests of what is around them."""
    kept = tuple(one for one in STUDIES if one.key in ("distances", "class", "modified", "steps"))
    monkeypatch.setattr(page, "STUDIES", kept)
    return [one.key for one in kept]


def verb(*arguments: str | Path):
    return CliRunner().invoke(report_verb, [*map(str, arguments), "--permutations", "300"], catch_exceptions=False)


@pytest.mark.slow
def test_the_page_needs_no_network_repeats_itself_and_is_quick_the_second_time(clusters, tmp_path, monkeypatch, short):
    monkeypatch.setenv("ZOOSWARM_HOME", str(tmp_path / "home"))
    result = verb(clusters, "--out", tmp_path / "out")
    page = Path(result.stdout.strip())
    text = page.read_text()
    assert page == tmp_path / "out" / "report.html" and "1/4  Distances within and between classes" in result.stderr
    assert f"<b>{3 * SEEDS}</b><span>networks</span>" in text
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", text) and "<script" not in text
    assert "From raw weights: yes" in text and "first-zoo" in text and RECIPES[0].digest[:16] in text
    assert write_report(clusters, tmp_path / "again", Settings(permutations=300)).read_text() == text, "without a cache"
    monkeypatch.setattr("analysis.report.page.section_of", lambda *_: pytest.fail("a section was made again"))
    monkeypatch.setattr("analysis.zoo.Zoo.initial_weights_of", lambda *_: pytest.fail("weights were read again"))
    assert Path(verb(clusters, "--out", tmp_path / "third").stdout.strip()).read_text() == text


def test_what_is_kept_goes_with_zoo_expression_settings_and_code(clusters, machines, tmp_path, monkeypatch):
    made = []

    def make() -> str:
        made.append(1)
        return "value"

    manifests = [open_zoo(path).store.manifest for path in (clusters, machines)]
    for manifest, key in ((manifests[0], ["a", 1]), (manifests[0], ["a", 2]), (manifests[1], ["a", 1])):
        for _ in range(2):
            assert cache.Cache(tmp_path, manifest).value(key, make) == "value"
    assert len(made) == 3
    monkeypatch.setattr(cache, "code_digest", lambda: "another version")
    cache.Cache(tmp_path, manifests[0]).value(["a", 1], make)
    assert len(made) == 4
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:3])  # a file cut short is made again
    cache.Cache(tmp_path, manifests[0]).value(["a", 1], make)
    (tmp_path / "file").write_text("x")
    assert cache.Cache(tmp_path / "file", manifests[0]).value(["a", 1], make) == "value"
    assert len(made) == 6


@pytest.mark.slow
def test_ctrl_c_says_what_was_kept_and_the_next_run_goes_on(clusters, tmp_path, monkeypatch, short):
    monkeypatch.setenv("ZOOSWARM_HOME", str(tmp_path / "home"))
    whole, made = page.section_of, []

    def interrupted(study, selection):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(study.key)
        return whole(study, selection)

    monkeypatch.setattr(page, "section_of", interrupted)
    result = verb(clusters, "--out", tmp_path / "out")
    assert result.exit_code == 130 and not (tmp_path / "out").exists()
    assert "stopped: no page was written, 3 of 4 sections are kept" in result.stderr
    monkeypatch.setattr(page, "section_of", lambda study, *rest: made.append(study.key) or whole(study, *rest))
    assert verb(clusters, "--out", tmp_path / "out").exit_code == 0
    assert made == short, "no section was made twice"


def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere():
    for terminal in (True, False):
        console = Console(force_terminal=terminal, record=True, width=100, quiet=False, file=io.StringIO())
        with progress("beginning", line_seconds=0, console=console) as bar:
            bar.update(0, 2, "first [section]")
            bar.update(1, 2, "second")
        text = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
        assert "second" in text and (text == "0/2  first [section]\n1/2  second\n") is not terminal
        assert (bar.done, bar.total, bar.text) == (1, 2, "second")


def test_progress_is_silent_without_a_terminal_unless_lines_are_asked_for(capsys):
    with progress("work", total=2) as bar:
        bar.update(1)
        print("an answer")
    assert capsys.readouterr() == ("an answer\n", "") and bar.done == 1
    console = Console(force_terminal=False, file=io.StringIO())
    with progress("work", line_seconds=3600, console=console) as bar:
        bar.update(1, 2)
    assert console.file.getvalue() == ""  # pyright: ignore[reportAttributeAccessIssue]


def test_the_page_says_so_when_the_weights_tell_nothing(tmp_path, short):
    networks = [planted(recipe, seed, 0.0) for recipe in RECIPES for seed in range(SEEDS)]
    page = report_page(open_zoo(publish(tmp_path / "zoo", networks, RECIPES)), FEW)
    assert "From raw weights: no." in page and ": yes." not in page
    assert "not measurably apart" in page


@pytest.mark.slow
def test_initial_weights_that_name_the_class_are_detected_and_nothing_is_called_a_finding(tmp_path):
    """Only the order of batches varies: every network of a recipe begins at the same point."""
    fixed = [msgspec.structs.replace(recipe, vary=("order",)) for recipe in RECIPES[:2]]
    networks = [planted(recipe, seed, 0.0) for recipe in fixed for seed in range(8)]
    moved = [
        (row, params + np.random.default_rng(i).normal(0, 0.01, len(params)).astype(np.float32))
        for i, (row, params) in enumerate(networks)
    ]
    values = report_values(open_zoo(publish(tmp_path / "zoo", moved, fixed)), FEW)
    assert any(
        "The seed does not decide the initial weights of classes parity, xor" in text for text in values["caveats"]
    )
    for group in values["groups"]:
        for section in group["sections"]:
            if not section.missing and next(study for study in STUDIES if study.key == section.key).compares:
                assert len(section.verdict) == 1 and section.verdict[0].startswith("Not a finding"), section.key
    assert ": yes." not in page.rendered(values)


def test_one_order_of_batches_and_copies_are_said(tmp_path, short):
    fixed = [msgspec.structs.replace(recipe, vary=("init",)) for recipe in RECIPES[:2]]
    networks = [planted(recipe, seed, 0.1) for recipe in fixed for seed in range(6)]
    networks[1] = (networks[1][0], networks[0][1])
    path = publish(tmp_path / "zoo", networks, fixed)
    values = report_values(open_zoo(path), FEW)
    told = " ".join(values["caveats"])
    assert "see their batches in one order" in told and "1 networks are copies" in told
    names: dict = {}
    exec(f"from analysis import open_zoo\nzoo = open_zoo({str(path)!r})\n{values['groups'][0]['prelude']}", names)
    assert names["seeds"][0] == names["seeds"][1] != names["seeds"][2], "the copies are tied together"


@pytest.mark.slow
def test_pairs_that_do_not_begin_alike_are_said(pages):
    sections = {one.key: one for group in pages["poisoned"][1]["groups"] for one in group["sections"]}
    assert "do not share their initial weights" in sections["trojans"].control
    assert "do not share their initial weights" in sections["modified"].control


def test_hostile_text_is_shown_not_run(tmp_path, short):
    row, params = planted(RECIPES[0], 0, 0.0)
    bad = msgspec.structs.replace(row, host="<script>alert(1)</script>")
    page = report_page(open_zoo(publish(tmp_path / "zoo", [(bad, params)], RECIPES)), FEW)
    assert "<script" not in page and "&lt;script&gt;" in page


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ([], "This zoo has no network yet"),
        ([(0, 0)], "Not enough networks"),
        ([(0, seed) for seed in range(6)], "Not enough networks"),
        ([(0, 0), (1, 0), (2, 0)], "Not enough networks"),
        ([(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)], "Left out of comparisons, having a single seed: direct"),
    ],
    ids=["empty", "one network", "one class", "one network a class", "a lone class"],
)
def test_small_zoos_still_give_a_clear_page(tmp_path, chosen, words):
    path = publish(tmp_path / "zoo", [planted(RECIPES[k], seed, 0.3) for k, seed in chosen], RECIPES)
    page = report_page(open_zoo(path), FEW)
    assert words in page and "nan" not in re.sub(r"base64,[^\"]*", "", page).lower()


def test_mixed_shapes_and_many_networks_are_thinned_and_said(clusters, tmp_path, monkeypatch, short):
    monkeypatch.setattr("analysis.report.selection.SAMPLE_MAX", 20)
    wide = recipe_of("wide", (Linear(width=6), Relu(), Linear(width=20)))
    networks = [planted(recipe, seed, 0.3) for recipe in RECIPES for seed in range(SEEDS)] + [planted(wide, 0, 0.0)]
    path = publish(tmp_path / "zoo", networks, [*RECIPES, wide])
    page = report_page(open_zoo(path), FEW)
    assert "the 42 of 43 networks that have the most common layers" in page and "multiple of 3" in page
    names: dict = {"zoo": open_zoo(path)}
    exec(html.unescape(re.findall(r'<pre class="prelude">(.*?)</pre>', page, re.DOTALL)[0]), names)
    assert names["weights_NP"].shape == (15, RECIPES[0].parameter_count)


def test_what_cannot_be_read_or_written_is_one_line(tmp_path, clusters, short):
    with pytest.raises(UsageError, match="no such zoo"):
        write_report(tmp_path / "none", tmp_path / "out")
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="cannot write the page"):
        write_report(clusters, tmp_path / "file", FEW)


def test_the_page_compares_originals_with_modified_classes(tmp_path, short):
    pair = [RECIPES[0], recipe_of("parity+trigger", learning_rate=0.02)]
    networks = [planted(recipe, seed, 1.5) for recipe in pair for seed in range(SEEDS)]
    page = html.unescape(report_page(open_zoo(publish(tmp_path / "zoo", networks, pair)), FEW))
    assert "seen in the weights for 1 of 1 pairs, in the loss alone for 0" in page
    assert "parity, parity+trigger" in page
