"""A probe's rows are those of its networks, wherever they are computed; what is done stays done."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from support.populations import RECIPES, planted, publish
from support.probes.sizes import SizesSettings

from analysis import open_zoo
from analysis.catalogue.probe_tables import KEY, origin_of, probe_names, probe_path
from analysis.probes.command import PROBE, settings_of
from analysis.probes.contract import Unit, units_of_networks
from analysis.probes.names import PROBES
from analysis.probes.registry import probe_named, settings_from
from analysis.probes.run import probe
from protocol.errors import UsageError
from protocol.zoo.verify import verify_zoo

SETTINGS = SizesSettings()


@pytest.fixture
def zoo(tmp_path):
    networks = [planted(recipe, seed, 0.3) for recipe in RECIPES for seed in range(4)]
    return open_zoo(publish(tmp_path / "zoo", networks, RECIPES))


@pytest.fixture
def ask(zoo, tmp_path):
    def run(settings=SETTINGS, where=None, hear=lambda done, total: None):
        return probe(zoo, where, settings, kept=tmp_path / "kept", processes=1, hear=hear)

    return run


def numbers(table):
    return table.drop_columns(["seconds"]).to_pylist()


def test_rows_are_those_of_the_networks_in_the_catalogues_order(zoo, ask):
    table = ask()
    assert table["network"].to_pylist() == zoo.table()["id"].to_pylist()
    assert table["norm"].to_numpy() == pytest.approx(np.linalg.norm(zoo.weights(), axis=1))
    assert origin_of(table)._asdict() == {
        "probe": "sizes", "version": 1, "settings": dataclasses.asdict(SETTINGS) | {"only": []}, "skipped": {},
        "where": None,
    }  # fmt: skip
    assert numbers(zoo.probe("sizes")) == numbers(table)


def test_what_was_computed_is_read_again_and_only_the_rest_is_computed(ask, tmp_path):
    some = ask(where="seed < 2")
    heard = []
    all_of_them = ask(hear=lambda done, total: heard.append((done, total)))
    assert heard == [(done, 12) for done in range(6, 13)]
    assert [row for row in all_of_them.to_pylist() if row in some.to_pylist()] == some.to_pylist()  # seconds too
    ask(hear=lambda done, total: heard.append((done, total)))
    assert heard[7:] == [(12, 12)]
    assert len(list((tmp_path / "kept").rglob("*.json"))) == 12


def test_other_settings_and_another_version_are_computed_anew(ask, tmp_path, monkeypatch):
    ask()
    assert ask(SizesSettings(power=1.0))["norm"].to_pylist() != ask()["norm"].to_pylist()
    monkeypatch.setattr("support.probes.sizes.Sizes.version", 2)
    ask()
    assert len(list((tmp_path / "kept").iterdir())) == 3


def test_a_run_that_was_stopped_keeps_each_unit_that_was_done_and_goes_on(ask, zoo):
    def stop(done, total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask(hear=stop)
    assert not probe_path(zoo.store.path, "sizes").exists()
    heard = []
    ask(hear=lambda done, total: heard.append(done))
    assert heard[0] == 5


def test_half_a_file_is_computed_again(ask, tmp_path):
    whole = numbers(ask())
    path = next((tmp_path / "kept").rglob("*.json"))
    path.write_bytes(path.read_bytes()[:20])
    assert numbers(ask()) == whole


@pytest.mark.slow
def test_processes_give_the_rows_of_one(ask, tmp_path, zoo):
    alone = numbers(ask())
    together = probe(zoo, None, SETTINGS, kept=tmp_path / "other", processes=2)
    assert numbers(together) == alone


@pytest.mark.slow
def test_a_cluster_gives_the_rows_of_one_process(ask, tmp_path, zoo):
    distributed = pytest.importorskip("dask.distributed")
    alone = numbers(ask())
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        table = probe(zoo, None, SETTINGS, kept=tmp_path / "other", dask=cluster.scheduler_address)
    assert numbers(table) == alone


def test_a_unit_that_gives_no_rows_is_told_and_asked_again_the_next_time(ask):
    table = ask(SizesSettings(only=(1, 2)))
    assert table.num_rows == 6
    assert origin_of(table).skipped == {"not one of these seeds": 6}
    heard = []
    ask(SizesSettings(only=(1, 2)), hear=lambda done, total: heard.append(done))
    assert heard[0] == 6


@pytest.mark.parametrize(("where", "settings"), [("seed < 0", SETTINGS), (None, SizesSettings(only=(99,)))])
def test_a_run_without_rows_leaves_those_of_an_earlier_run(where, settings, ask, zoo):
    before = numbers(ask())
    if where:
        with pytest.raises(UsageError, match="no network is so; the zoo has 12"):
            ask(settings, where)
    else:
        assert ask(settings).num_rows == 0
    assert numbers(zoo.probe("sizes")) == before


def test_a_column_that_nobody_declared_is_the_probes_mistake(ask):
    with pytest.raises(LookupError, match="undeclared"):
        ask(SizesSettings(wrong=True))


def test_rows_join_the_catalogue(zoo, ask):
    ask(SizesSettings(draws=3))
    norms = np.linalg.norm(zoo.weights(), axis=1)
    large = float(np.median(norms))
    found = zoo.table(f"id in (select network from probes.sizes where norm > {large!r})", ["id"])["id"].to_pylist()
    assert sorted(found) == sorted(np.array(zoo.table()["id"].to_pylist())[norms > large])
    joined = zoo.sql(
        "select class, count(*) as rows, avg(norm) as norm from catalogue join probes.sizes s on id = s.network "
        "group by class order by class"
    ).to_pylist()
    classes = np.array(zoo.table()["class"].to_pylist())
    assert [row["rows"] for row in joined] == [12, 12, 12]
    assert [row["norm"] for row in joined] == pytest.approx([norms[classes == row["class"]].mean() for row in joined])


def test_rows_of_some_networks_with_columns_of_the_catalogue(zoo, ask):
    ask()
    found = zoo.probe("sizes", "class = 'parity' and seed > 1", ["class", "seed"])
    assert [(row["class"], row["seed"]) for row in found.to_pylist()] == [("parity", 2), ("parity", 3)]
    table = zoo.table("class = 'xor'")
    assert zoo.probe("sizes", table)["network"].to_pylist() == table["id"].to_pylist()


def test_rows_of_families_are_of_no_network_and_stay(zoo, ask):
    rows = ask()
    named = rows.set_column(0, "network", [["family", *rows["network"].to_pylist()[1:]]])
    pq.write_table(named, probe_path(zoo.store.path, "sizes"))
    found = zoo.probe("sizes", "seed = 3", ["class"]).to_pylist()
    assert [(row["network"], row["class"]) for row in found[:1]] == [("family", None)] and len(found) == 4


def test_what_is_not_there_is_said(zoo, ask):
    with pytest.raises(UsageError, match=r"there: none.*zooswarm probe"):
        zoo.probe("sizes")
    with pytest.raises(UsageError, match="a probe's name"):
        zoo.probe("../../etc/passwd")
    with pytest.raises(UsageError, match=r"no such table|does not exist"):
        zoo.sql("select * from probes.sizes")
    ask()
    path = probe_path(zoo.store.path, "sizes")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UsageError, match="damaged; remove it"):
        zoo.probe("sizes")


@pytest.mark.parametrize("query", ["drop table catalogue", "select * from read_csv('/etc/passwd')", "selec", ""])
def test_sql_reads_this_zoo_and_nothing_else(zoo, query):
    with pytest.raises(UsageError, match="sql: "):
        zoo.sql(query)


def test_a_zoo_with_rows_of_probes_is_as_sound_as_without(zoo, ask):
    before = verify_zoo(zoo.store.path)
    ask()
    assert verify_zoo(zoo.store.path) == before and not before.problems
    assert len(open_zoo(zoo.store.path)) == 12


def test_a_unit_is_named_by_its_networks_their_weights_and_what_it_is_about():
    unit = Unit(networks=("a", "b"), digests=("1", "2"))
    others = [
        Unit(networks=("b", "a"), digests=("2", "1")),
        Unit(networks=("a", "b"), digests=("1", "3")),
        Unit(networks=("a", "b"), digests=("1", "2"), about="x"),
    ]
    assert len({unit.key, *(other.key for other in others)}) == 4


def test_chance_is_the_units_own(zoo):
    units = units_of_networks(zoo.table())
    assert len({unit.key for unit in units}) == 12


# --- the verb --------------------------------------------------------------------------------------------------------


def test_help_names_every_probe_without_loading_any():
    code = "import sys; import analysis.probes.command as c; print(c.PROBE.epilog); print('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert all(f"  {name} " in told and listed.line in told for name, listed in PROBES.items())
    assert told.endswith("False\n")


def test_settings_are_read_from_text_and_a_wrong_one_is_told_with_those_that_there_are():
    given = settings_from(SizesSettings, {"power": "inf", "draws": "3", "only": "1, 2", "wrong": "yes"})
    assert given == SizesSettings(power=float("inf"), draws=3, only=(1, 2), wrong=True)
    with pytest.raises(UsageError, match="settings: power, draws, only, wrong"):
        settings_from(SizesSettings, {"colour": "red"})
    for name, text in (("draws", "many"), ("only", "1,x"), ("wrong", "perhaps")):
        with pytest.raises(UsageError, match=f"--set {name}={text}: not of type"):
            settings_from(SizesSettings, {name: text})


WRONG = {
    "corruption": {"radii": ("", "-1", "nan", "1e400"), "p": ("0.5", "nan"), "share": ("2",), "samples": ("0",)},
    "attribution": {"inputs": ("0",), "fresh": ("0",), "steps": ("0",)},
    "information": {"samples": ("0",), "shuffles": ("0",), "curve": ("0",), "first": ("1",)},
    "quantitative": {"estimate": ("0",), "radius_linf": ("-1",)},
    "verification": {"samples": ("0",), "eps": ("", "-1"), "restarts": ("0",)},
    "gp_depth": {"networks": ("0",), "points": ("1",), "restarts": ("0",)},
}


@pytest.mark.parametrize("name", WRONG)
def test_a_number_outside_of_a_settings_limits_is_told_before_anything_runs(name):
    kind = probe_named(name).settings
    kind()
    for setting, texts in WRONG[name].items():
        for text in texts:
            with pytest.raises(UsageError, match=f"{name}: {setting} is "):
                settings_from(kind, {setting: text})


def test_lists_that_may_be_empty_and_numbers_at_their_limits_are_settings():
    found = settings_from(probe_named("corruption").settings, {"layer_radii": "", "p": "inf", "trials": "0"})
    assert (found.layer_radii, found.p, found.trials) == ((), float("inf"), 0)  # pyright: ignore


def test_a_setting_of_several_probes_says_of_which():
    assert settings_of(["a", "b"], ("b.p=1",)) == {"a": {}, "b": {"p": "1"}}
    assert settings_of(["a"], ("p=1", "a.q=2")) == {"a": {"p": "1", "q": "2"}}
    for wrong in ("p=1", "c.p=1", "b.p"):
        with pytest.raises(UsageError, match=r"write PROBE\.NAME=VALUE"):
            settings_of(["a", "b"], (wrong,))


def test_the_verb_writes_rows_and_says_so(zoo, monkeypatch, tmp_path):
    monkeypatch.setenv("ZOOSWARM_HOME", str(tmp_path / "home"))
    arguments = [str(zoo.store.path), "--probe", SETTINGS.probe, "--set", "draws=2", "--where", "seed < 2"]
    outcome = CliRunner().invoke(PROBE, [*arguments, "--threads", "1"], catch_exceptions=False)
    assert outcome.exit_code == 0 and "12 rows" in outcome.output
    assert origin_of(zoo.probe("sizes")).where == "seed < 2"


def test_ctrl_c_says_what_is_kept(zoo, monkeypatch, tmp_path):
    def stopped(zoo, where, settings, hear, **options):
        hear(5, 12)
        raise KeyboardInterrupt

    monkeypatch.setattr("analysis.probes.run.probe", stopped)
    outcome = CliRunner().invoke(PROBE, [str(zoo.store.path), "--probe", SETTINGS.probe])
    assert outcome.exit_code == 130
    assert "5 of 12 units are kept; the same command goes on from there" in outcome.output


def test_rows_of_a_version_that_says_more_are_read_and_those_of_no_probe_have_no_origin(ask):
    table = ask()
    told = origin_of(table)._asdict()
    for metadata, seen in (
        (json.dumps(told | {"version": 99, "cluster": "x"}), told | {"version": 99}),
        ('{"a": 1}', None), ("[]", None), ("{", None), ("", None),
    ):  # fmt: skip
        found = origin_of(table.replace_schema_metadata({KEY: metadata}))
        assert (found and found._asdict()) == seen


def test_a_folder_is_no_table_and_a_statement_without_rows_says_so(ask, zoo):
    ask()
    probe_path(zoo.store.path, "folder").mkdir()
    assert probe_names(zoo.store.path) == [SETTINGS.probe.split(":")[1].lower()]
    with pytest.raises(UsageError, match="sql: no SELECT: this gives no rows"):
        zoo.sql("")


def test_a_split_by_lists_is_told(zoo):
    with pytest.raises(UsageError, match="training_losses is no group: it holds lists"):
        zoo.splits(by="training_losses")
