"""The surrogates' four sections: from rows in a zoo to words, a table and a picture, each from the call beside it."""

import pytest
from support.trained import curve, trained_zoo

from analysis import open_zoo
from analysis.probes.gp.probe_depth import GpDepthSettings
from analysis.probes.gp.probe_influence import GpInfluenceSettings
from analysis.probes.gp.probe_ranking import GpRankingSettings
from analysis.probes.gp.probe_spectrum import GpSpectrumSettings
from analysis.probes.run import probe
from analysis.report.page import PROBE_STUDIES, section_of
from analysis.report.selection import Selection
from protocol.recipes.layers import Relu

pytestmark = pytest.mark.slow
KERNELS = {"restarts": 1, "kernels": ("rbf", "matern-5/2")}
WANTED = {
    "name like 'way-%'": GpSpectrumSettings(networks=8, snapshots=5, points=16, **KERNELS),
    "name like 'deep-%'": GpDepthSettings(networks=24, points=12, restarts=1),
    "name like 'points'": GpInfluenceSettings(networks=8, untrained=16, removed=2, random=3, points=8, **KERNELS),
    "name like 'of-%'": GpRankingSettings(architectures=3, networks=12, others=6, **KERNELS),
}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    path, eight, three = tmp_path_factory.mktemp("surrogates"), range(8), range(3)
    populations = {
        curve("wave", hidden=(8,), steps=400, samples=32, name="way-wave"): eight,
        curve("waves", hidden=(16, 16), steps=400, samples=32, name="way-waves"): eight,
        curve("wave", hidden=(8,), steps=100, samples=12, batch=12, noise=0.2, name="points"): eight,
    }
    for deep in (0, 1, 2, 4):
        populations[curve("friedman", hidden=(8,) * deep, unit=Relu, steps=50, name=f"deep-{deep}")] = three
    for function in ("wave", "runge", "step"):
        for hidden in ((4,), (8, 8), (16,)):
            name = f"of-{function}-{'-'.join(map(str, hidden))}"
            populations[curve(function, hidden=hidden, steps=100, samples=16, batch=8, name=name)] = three
    zoo = open_zoo(trained_zoo(path / "zoo", populations))
    for where, settings in WANTED.items():
        told = probe(zoo, where.replace("name", "recipe_name"), settings, processes=1, kept=path / "kept")
        assert told.num_rows > 3
    return zoo


@pytest.fixture(scope="module")
def sections(zoo):
    everyone = Selection(zoo=zoo, where="", table=zoo.table(), permutations=20)
    return {study.key: (study, section_of(study, everyone)) for study in PROBE_STUDIES if study.key.startswith("gp_")}


@pytest.mark.parametrize("key", ["gp_spectrum", "gp_depth", "gp_influence", "gp_ranking"])
def test_every_number_of_a_section_comes_from_the_call_beside_it(zoo, sections, key):
    study, section = sections[key]
    assert not section.missing and section.verdict and "<svg" in section.picture and section.control
    names = {"zoo": zoo, "table": zoo.table()}
    *lines, last = section.code.splitlines()
    exec("\n".join(lines), names)  # as a notebook would
    assert study.table(eval(last, names)) == (section.head, section.rows)
    assert all(len(row) == len(section.head) for row in section.rows)
    assert f"zooswarm probe PATH --probe {key} --where" in section.note and " --set " in section.note


def test_words_say_no_more_than_the_numbers(sections):
    said = {key: " ".join(section.verdict) for key, (_, section) in sections.items()}
    assert said["gp_spectrum"].count("of 2 families the mean frequency rises with training in") == 2
    assert "of 1 families" in said["gp_spectrum"]  # one target has several waves
    assert "from 1 to 5 layers the correlation goes from" in said["gp_depth"]
    assert "of 1 families" in said["gp_influence"] and "random ones" in said["gp_influence"]
    assert "Holm, 5%" in said["gp_ranking"] and "The best baseline before training is" in said["gp_ranking"]
