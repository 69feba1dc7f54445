"""Sections from rows of probes: every number is that of the call beside it, and it says how its rows were made."""

import dataclasses

import pytest
from support.probes.reproduced import not_reproduced, results_of, scalars
from support.trained import recipe_of, trained_zoo

from analysis import open_zoo
from analysis.probes.attribution.probe import AttributionSettings
from analysis.probes.corruption.probe import CorruptionSettings
from analysis.probes.run import probe
from analysis.report.page import Settings, report_json, report_values, write_report

pytest.importorskip("captum")
FEW = Settings(permutations=60, probes=True)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """Digits with true and with partly wrong labels: 10 networks each, so that two probes can be compared."""
    folder, short = tmp_path_factory.mktemp("sections"), {"max_steps": 300}
    populations = {
        recipe_of("digits-mlp.toml", "digits-true", short): range(10),
        recipe_of("digits-mlp.toml", "digits-wrong", short, label_noise=0.3): range(10),
    }
    zoo = open_zoo(trained_zoo(folder / "zoo", populations))
    for settings in (
        CorruptionSettings(radii=(0.01, 0.03), layer_radii=(), trials=3, steps=3, bisections=5, samples=50),
        AttributionSettings(inputs=10, fresh=1, steps=20, layers=False),
    ):
        probe(zoo, "seed < 10", settings, processes=1, kept=folder / "kept")
    return zoo


@pytest.fixture(scope="module")
def values(zoo):
    return report_values(zoo, FEW)


@pytest.fixture(scope="module")
def sections(values):
    found = {one.key: (group, one) for group in values["groups"] for one in group["sections"]}
    return {key: found[key] for key in ("corruption", "attribution", "together", "foretold")}


@pytest.mark.slow
@pytest.mark.parametrize("key", ["corruption", "attribution", "together", "foretold"])
def test_every_number_comes_from_the_call_beside_it(zoo, sections, key):
    group, section = sections[key]
    assert not section.missing and section.picture and section.verdict and section.control
    names: dict = {}
    exec(f"from analysis import open_zoo\nzoo = open_zoo({str(zoo.store.path)!r})\n{group['prelude']}", names)
    found = scalars(results_of(section.code, names))
    assert not_reproduced(section, found) == []
    assert sum(len(cell.numbers) for row in section.rows for cell in row) > 4
    off = dataclasses.replace(section, rows=[[section.rows[0][0]._replace(numbers=(0.123456789,))]])
    assert not_reproduced(off, found), "a number that is nowhere must be missed"


@pytest.mark.slow
def test_a_section_says_how_its_rows_were_made(sections):
    _, section = sections["corruption"]
    assert "zooswarm probe PATH --probe corruption --where 'seed < 10' --set bisections=5 " in section.note
    assert " --set radii=0.01,0.03 --set samples=50 --set steps=3 --set trials=3 (version " in section.note


@pytest.mark.slow
def test_without_probes_the_page_is_as_it_was(zoo, values):
    plain = report_values(zoo, Settings(permutations=60))
    keys = [one.key for group in plain["groups"] for one in group["sections"]]
    assert "corruption" not in keys and len(keys) >= 10
    assert set(keys) < {one.key for group in values["groups"] for one in group["sections"]}
    assert '"attribution"' in report_json(values)


@pytest.mark.slow
def test_new_rows_are_drawn_anew_although_sections_are_kept(zoo, tmp_path):
    kept = dataclasses.replace(FEW, cache=tmp_path / "cache")
    first = report_values(zoo, kept)
    old = probe_rows(first)
    settings = CorruptionSettings(radii=(0.05,), layer_radii=(), trials=2, steps=2, bisections=1, samples=20)
    path = zoo.store.path / "probes" / "corruption.parquet"
    before = path.read_bytes()
    try:
        probe(zoo, None, settings, processes=1, kept=tmp_path / "kept")
        assert probe_rows(report_values(zoo, kept)) != old
    finally:
        path.write_bytes(before)
    assert probe_rows(report_values(zoo, kept)) == old
    assert write_report(zoo.store.path, tmp_path / "page", kept).read_text().count("<section") >= 14


def probe_rows(values):
    return [one.rows for group in values["groups"] for one in group["sections"] if one.key == "corruption"]
