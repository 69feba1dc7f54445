"""A campaign of many recipes: networks of one shape share files of weights, and every way back from them works."""

import msgspec
import numpy as np
import pytest
from support.zoos import ADDER, CAMPAIGN, ORGANIZER, PARITY, network

from coordinator.zoo import merge
from coordinator.zoo.files import FEW_ROWS, RECIPES_APART, shard_groups
from coordinator.zoo.writer import ZooWriter
from protocol.canonical import hexdigest
from protocol.recipes.recipe import Recipe
from protocol.zoo.store import open_store, shard_path
from protocol.zoo.verify import verify_zoo


def variant(recipe: Recipe, number: int) -> Recipe:
    training = msgspec.structs.replace(recipe.training, learning_rate=0.001 * (number + 1))
    return msgspec.structs.replace(recipe, name=f"{recipe.name}-{number}", training=training)


MANY = [variant(PARITY, number) for number in range(RECIPES_APART + 4)]


@pytest.fixture
def writer(tmp_path) -> ZooWriter:
    return ZooWriter(tmp_path / "zoo", ORGANIZER, clock=lambda: 1_800_000_000.0)


def bundle(recipe: Recipe, seeds, proof: bytes):
    pairs = [network(recipe, seed) for seed in seeds]
    return [(msgspec.structs.replace(row, evidence=hexdigest(proof)), params) for row, params in pairs]


def publish(writer: ZooWriter, recipes: list[Recipe], seeds) -> dict[str, np.ndarray]:
    """A bundle of each recipe; network id -> weights."""
    proofs = {recipe.digest: f"{recipe.name} {seeds}".encode() for recipe in recipes}
    pairs = [pair for recipe in recipes for pair in bundle(recipe, seeds, proofs[recipe.digest])]
    evidence = {hexdigest(data): data for data in proofs.values()}
    writer.publish(pairs, {r.digest: r for r in recipes}, evidence, {hexdigest(CAMPAIGN): CAMPAIGN})
    return {row.id: params for row, params in pairs}


def assert_holds(writer: ZooWriter, truth: dict[str, np.ndarray]) -> None:
    store = open_store(writer.path)
    table = store.catalogue()
    assert sorted(table["id"].to_pylist()) == sorted(truth)
    weights_NP = store.gather(table["shard"].to_pylist(), table["row"].to_numpy(), verify=True)
    assert all(np.array_equal(truth[name], w) for name, w in zip(table["id"].to_pylist(), weights_NP, strict=True))
    assert verify_zoo(writer.path).problems == ()


def test_who_shares_files_with_whom():
    recipes = {recipe.digest: recipe for recipe in [*MANY, ADDER]}
    few = dict.fromkeys((recipe.digest for recipe in MANY), 3)
    assert shard_groups(few, recipes) == [list(few)]
    plenty = {**few, MANY[2].digest: FEW_ROWS}
    assert shard_groups(plenty, recipes) == [[MANY[2].digest], [d for d in few if d != MANY[2].digest]]
    handful = dict.fromkeys([recipe.digest for recipe in MANY[:RECIPES_APART]], 3)
    assert shard_groups(handful, recipes) == [[digest] for digest in handful]


def test_recipes_of_one_shape_share_a_file_that_says_whose_its_rows_are(writer):
    from safetensors import safe_open

    truth = publish(writer, [*MANY, ADDER], range(3))
    assert_holds(writer, truth)
    shards = open_store(writer.path).manifest.shards
    assert PARITY.shapes == ADDER.shapes, "all of one shape here"
    (ref,) = shards
    with safe_open(shard_path(writer.path, ref.recipe, ref.digest), "np") as shard:
        told = shard.metadata()
        flat_NP = np.concatenate([shard.get_tensor(name).reshape(ref.rows, -1) for name, _ in PARITY.shapes], axis=1)
    recipes = [told["recipe"].split()[int(i)] for i in told["recipe_of"].split()]
    ids = [f"{recipe[:16]}-{seed}" for recipe, seed in zip(recipes, told["seeds"].split(), strict=True)]
    assert all(np.array_equal(truth[name], w) for name, w in zip(ids, flat_NP, strict=True))


def test_a_bundle_taken_back_leaves_a_shared_file(writer):
    truth = publish(writer, MANY, range(2))
    writer.retract({hexdigest(f"{MANY[3].name} {range(2)}".encode()): "fake"})
    assert_holds(writer, {name: w for name, w in truth.items() if not name.startswith(MANY[3].digest[:16])})


def test_a_merge_joins_shared_files(writer, monkeypatch):
    monkeypatch.setattr(merge, "PARTS_MAX", 3)
    monkeypatch.setattr(merge, "SHARD_ROWS_MAX", 40)
    truth = {}
    for i in range(5):
        truth |= publish(writer, MANY, range(2 * i, 2 * i + 2))
    assert_holds(writer, truth)
    rows = [ref.rows for ref in open_store(writer.path).manifest.shards]
    assert sorted(rows) == [16, 24, 40, 40], "four publishes in full files, and the fifth"
