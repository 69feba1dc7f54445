"""All probes in one table: what is planted is found, what is not is not, and classes do not pass for networks."""

import numpy as np
import pyarrow as pa
import pytest
from support.populations import RECIPES, planted, publish

from analysis import open_zoo
from analysis.catalogue.probe_tables import Origin, with_origin
from analysis.probes.across import NUMBERS, correlations, foretold, told, wide
from analysis.probes.names import PROBES
from analysis.probes.registry import probe_named
from analysis.probes.store import save, table_of
from protocol.errors import UsageError

SEEDS = 16
TEXTS = ("network", "weights", "layer", "property", "norm", "kind", "compared", "source", "method")


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """Three classes. Halving radius: how far a network has moved. Bits: by class, else chance. The gap: chance."""
    path, rng = tmp_path_factory.mktemp("across") / "zoo", np.random.default_rng(0)
    shifts = {(recipe, seed): 0.2 + 0.1 * rng.random() for recipe in RECIPES for seed in range(SEEDS)}
    networks = [planted(recipe, seed, shift) for (recipe, seed), shift in shifts.items()]
    zoo = open_zoo(publish(path, networks, RECIPES))
    place = {recipe.digest: i for i, recipe in enumerate(RECIPES)}
    keys = zip(networks, shifts, strict=True)
    by_id = {row.id: (shifts[recipe, seed], place[recipe.digest]) for (row, _), (recipe, seed) in keys}
    rows = {"corruption": [], "information": [], "attribution": []}
    for network, (shift, number) in by_id.items():
        rows["corruption"] += [
            {"network": network, "weights": "trained", "layer": "all", "halving": shift + 10 * number},
            {"network": network, "weights": "trained", "layer": "1", "halving": None},
            {"network": network, "weights": "initial", "layer": "all", "halving": 99.0},
        ]
        rows["information"].append({"network": network, "kind": "own", "net_bits": 10.0 * number + rng.random()})
        for compared in ("second", "fresh"):
            rows["attribution"].append({"network": network, "compared": compared, "signed_z": rng.random()})
    for name, of_probe in rows.items():
        save(path, with_origin(pa.Table.from_pylist(of_probe), Origin(name, 1, {}, {})))
    return zoo


def test_each_network_has_one_number_of_each_probe_and_none_where_nobody_looked(zoo):
    table = zoo.table("seed < 12")
    found = wide(zoo, table)
    assert found.ids == table["id"].to_pylist()
    assert found.names == ["halving radius", "bits known", "attribution gap"]
    rows = [row for row in zoo.probe("corruption", table).to_pylist() if row["layer"] == "all"]
    halving = {row["network"]: row["halving"] for row in rows if row["weights"] == "trained"}
    assert found.column("halving radius").tolist() == [halving[network] for network in found.ids]
    with pytest.raises(UsageError, match="Fewer than two probes"):
        wide(zoo, zoo.table("seed < 2"))


@pytest.mark.parametrize("number", [one for one in NUMBERS if one.probe in PROBES], ids=lambda one: one.name)
def test_a_number_asks_for_columns_that_its_probe_has(zoo, number, tmp_path):
    """DuckDB reads the expression against an empty table of the probe's columns."""
    probe = probe_named(number.probe)
    empty = table_of(probe, probe.settings(), [])
    kinds = {name: pa.string() if name in TEXTS else pa.float64() for name in empty.column_names}
    typed = pa.table({name: pa.array([], kind) for name, kind in kinds.items()})
    networks = [planted(recipe, seed, 0.3) for recipe in RECIPES[:1] for seed in range(2)]
    other = open_zoo(publish(tmp_path / "zoo", networks, RECIPES[:1]))
    save(other.store.path, typed.replace_schema_metadata(empty.schema.metadata))
    assert told(other, number) == {}


def test_what_classes_share_is_told_from_what_networks_share(zoo):
    pairs = {(one.first, one.second): one for one in correlations(wide(zoo, zoo.table()))}
    by_class = pairs["halving radius", "bits known"]
    assert by_class.overall[0] > 0.8  # both grow with the class
    assert by_class.within[1] < 0 < by_class.within[2]  # and are chance within it
    null = pairs["halving radius", "attribution gap"]
    assert null.within[1] < 0 < null.within[2]


def test_weights_foretell_what_is_in_them_and_not_chance(zoo):
    everyone = zoo.table()
    numbers = wide(zoo, everyone)
    recipe = zoo.recipe(everyone["recipe"][0].as_py())
    found = foretold(numbers, recipe, zoo.weights_of(everyone), zoo.initial_weights_of(everyone))
    by_seed = {one.number: one for one in found if one.split == "seed"}
    assert {one.split for one in found} == {"seed"}  # three recipes and classes are too few to be kept apart
    halving, gap = by_seed["halving radius"], by_seed["attribution gap"]
    assert max(halving.taus[name][0] for name in ("statistics", "chain features")) > 0.5
    assert abs(gap.taus["statistics"][0]) < 0.3 and abs(halving.shuffled) < 0.35
