"""The zoo on disk: whole or absent, said once, readable by anyone, and clear about damage."""

import json
import struct

import msgspec
import numpy as np
import pytest
from support.zoos import ADDER, EVIDENCE, ORGANIZER, PARITY, network, publish

from coordinator.zoo import merge
from coordinator.zoo import networks as zoo_networks
from coordinator.zoo import writer as zoo_writer
from coordinator.zoo.writer import ZooWriter
from protocol.canonical import hexdigest
from protocol.errors import UsageError
from protocol.zoo.catalogue import all_columns
from protocol.zoo.manifests import latest_manifest
from protocol.zoo.store import open_store, part_path, recipe_path, shard_path
from protocol.zoo.verify import verify_zoo


@pytest.fixture
def writer(tmp_path) -> ZooWriter:
    return ZooWriter(tmp_path / "zoo", ORGANIZER, clock=lambda: 1_800_000_000.0)


def test_what_was_published_is_read_back_bit_for_bit(writer):
    networks = [network(PARITY, 3), network(ADDER, 0), network(PARITY, 1)]
    assert publish(writer, *networks) == 1
    store = open_store(writer.path)
    table = store.catalogue()
    assert table["id"].to_pylist() == [row.id for row, _ in (networks[1], networks[2], networks[0])]
    assert table.schema.names == [name for name, _, _ in all_columns()]
    assert table["task.machine"].to_pylist() == ["adder", "parity", "parity"]
    assert table["checkers"].to_pylist()[0] == ["bob", "carol"]
    assert table["admitted_at"].to_pylist()[0].timestamp() == 1_700_000_000.0
    weights_NP = store.gather(table["shard"].to_pylist(), table["row"].to_numpy())
    assert np.array_equal(weights_NP, np.stack([networks[i][1] for i in (1, 2, 0)]))
    assert store.recipes[PARITY.digest] == PARITY
    assert store.evidence(hexdigest(EVIDENCE)) == EVIDENCE
    assert verify_zoo(writer.path) == verify_zoo(writer.path)
    assert verify_zoo(writer.path).problems == () and verify_zoo(writer.path).networks == 3


def test_a_shard_is_ordinary_safetensors_and_names_its_networks(writer):
    from safetensors import safe_open

    rows = [network(PARITY, seed) for seed in (4, 2)]
    publish(writer, *rows)
    (ref,) = open_store(writer.path).manifest.shards
    with safe_open(shard_path(writer.path, PARITY.digest, ref.digest), "np") as shard:
        assert shard.metadata()["recipe"] == PARITY.digest and shard.metadata()["seeds"] == "2 4"
        assert set(shard.keys()) == {name for name, _ in PARITY.shapes}
        flat = np.concatenate([shard.get_tensor(name)[1].ravel() for name, _ in PARITY.shapes])
    assert np.array_equal(flat, rows[0][1])


def test_publishing_again_changes_nothing(writer):
    publish(writer, network(PARITY, 1), network(PARITY, 1))
    before = {path: path.read_bytes() for path in writer.path.rglob("*") if path.is_file()}
    assert publish(writer, network(PARITY, 1)) == 1
    assert publish(ZooWriter(writer.path, ORGANIZER), network(PARITY, 1)) == 1
    assert {path: path.read_bytes() for path in writer.path.rglob("*") if path.is_file()} == before
    assert publish(writer, network(PARITY, 1), network(PARITY, 2)) == 2
    assert open_store(writer.path).manifest.networks == 2


def test_equal_networks_give_equal_files_whoever_publishes_them(tmp_path, writer):
    other = ZooWriter(tmp_path / "other", ORGANIZER, clock=writer.clock)
    publish(writer, network(PARITY, 1), network(ADDER, 2))
    publish(other, network(ADDER, 2), network(PARITY, 1))
    assert latest_manifest(writer.path) == latest_manifest(other.path)


def test_an_empty_zoo_is_a_zoo(writer):
    assert publish(writer) == 1
    assert open_store(writer.path).catalogue().num_rows == 0
    assert verify_zoo(writer.path).problems == ()


WRITES = {
    "write_shard": zoo_networks,
    "write_part": zoo_networks,
    "sync_folders": zoo_writer,
    "create_once": zoo_writer,
    "write_card": zoo_writer,
}


@pytest.mark.parametrize("step", WRITES)
def test_a_crash_at_any_step_leaves_a_valid_zoo_and_the_next_publish_mends_it(writer, step):
    publish(writer, network(PARITY, 1))
    clean = {path for path in writer.path.rglob("*") if path.is_file()}

    def crash(*_, **__):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(WRITES[step], step, crash)
        publish(writer, network(PARITY, 1), network(PARITY, 2))
    admitted = 2 if step == "write_card" else 1
    assert open_store(writer.path).manifest.networks == admitted
    assert verify_zoo(writer.path).problems == ()
    if admitted == 1:
        ZooWriter(writer.path, ORGANIZER, clock=lambda: 3e9).collect_garbage()
        assert {path for path in writer.path.rglob("*") if path.is_file()} == clean
    assert publish(ZooWriter(writer.path, ORGANIZER), network(PARITY, 2)) == 2
    assert open_store(writer.path).manifest.networks == 2
    assert "2 small neural" in (writer.path / "README.md").read_text()
    assert verify_zoo(writer.path).problems == ()


@pytest.mark.slow
def test_many_small_publishes_are_merged_and_every_weight_survives(writer):
    networks = [network(recipe, seed) for seed in range(40) for recipe in (PARITY, ADDER)]
    for i in range(40):
        publish(writer, *networks[2 * i : 2 * i + 2])
    manifest = open_store(writer.path).manifest
    assert len(manifest.catalogue) <= merge.PARTS_MAX and len(manifest.shards) <= 2 * merge.PARTS_MAX
    assert manifest.networks == 80 and manifest.classes == {"adder": 40, "parity": 40}
    assert verify_zoo(writer.path).problems == ()
    store = open_store(writer.path)
    table = store.catalogue()
    weights_NP = store.gather(table["shard"].to_pylist(), table["row"].to_numpy())
    expected = {row.id: params for row, params in networks}
    assert all(np.array_equal(expected[name], w) for name, w in zip(table["id"].to_pylist(), weights_NP, strict=True))
    removed = ZooWriter(writer.path, ORGANIZER, clock=lambda: 3e9).collect_garbage()
    assert len(removed) > 60 and verify_zoo(writer.path).problems == ()


@pytest.mark.slow
def test_a_merge_fills_shards_to_their_limit_and_leaves_full_parts_alone(writer, monkeypatch):
    monkeypatch.setattr(merge, "PARTS_MAX", 3)
    monkeypatch.setattr(merge, "SHARD_ROWS_MAX", 5)
    monkeypatch.setattr(merge, "PART_ROWS_FULL", 8)
    for seed in range(0, 32, 2):
        publish(writer, network(PARITY, seed), network(PARITY, seed + 1))
    manifest = open_store(writer.path).manifest
    assert sum(part.rows for part in manifest.catalogue) == 32
    assert max(ref.rows for ref in manifest.shards) == 5
    assert sum(part.rows >= 8 for part in manifest.catalogue) >= 3
    assert verify_zoo(writer.path).problems == ()


def test_a_damaged_shard_is_not_given_a_good_name_by_a_merge(writer, monkeypatch):
    monkeypatch.setattr(merge, "PARTS_MAX", 2)
    publish(writer, network(PARITY, 0))
    ref = open_store(writer.path).manifest.shards[0]
    flip_last_byte(shard_path(writer.path, ref.recipe, ref.digest))
    for seed in range(1, 5):
        publish(writer, network(PARITY, seed))
    assert ref in open_store(writer.path).manifest.shards
    assert any(ref.digest in problem for problem in verify_zoo(writer.path).problems)


def test_collecting_garbage_keeps_what_a_reader_may_still_hold(writer):
    publish(writer, network(PARITY, 0))
    (writer.path / "weights" / "stray.partial").write_bytes(b"half")
    now = (writer.path / "weights" / "stray.partial").stat().st_mtime
    assert ZooWriter(writer.path, ORGANIZER, clock=lambda: now + 60).collect_garbage() == []
    removed = ZooWriter(writer.path, ORGANIZER, clock=lambda: now + 2 * 86400).collect_garbage()
    assert [path.name for path in removed] == ["stray.partial"]
    assert verify_zoo(writer.path).problems == ()


def test_of_two_writers_one_wins_and_nothing_is_lost(writer):
    publish(writer, network(PARITY, 0))
    rival, real_create = ZooWriter(writer.path, ORGANIZER), zoo_writer.create_once

    def late(path, data):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(zoo_writer, "create_once", real_create)
            publish(rival, network(PARITY, 1))
        return real_create(path, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zoo_writer, "create_once", late)
        assert publish(writer, network(PARITY, 2)) == 3
    assert sorted(open_store(writer.path).catalogue()["seed"].to_pylist()) == [0, 1, 2]


def flip_last_byte(path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_damage_is_one_line_that_names_the_file(writer, tmp_path):
    publish(writer, network(PARITY, 0))
    store = open_store(writer.path)
    ref, part = store.manifest.shards[0], store.manifest.catalogue[0]
    shard = shard_path(writer.path, ref.recipe, ref.digest)
    catalogue, recipe = part_path(writer.path, part.digest), recipe_path(writer.path, PARITY.digest)
    whole = {path: path.read_bytes() for path in (shard, catalogue, recipe)}

    def refused(path, data, act):
        path.write_bytes(data)
        with pytest.raises(UsageError) as error:
            act()
        assert str(path) in str(error.value) and "\n" not in str(error.value)
        path.write_bytes(whole[path])

    header = struct.pack("<Q", 1 << 40) + whole[shard][8:]
    refused(shard, whole[shard][:-4], lambda: open_store(writer.path).shard(ref.digest))
    refused(shard, header, lambda: open_store(writer.path).shard(ref.digest))
    renamed = whole[shard].replace(b"[0,", b"[4,", 1)
    refused(shard, renamed, lambda: open_store(writer.path).shard(ref.digest))
    refused(catalogue, whole[catalogue][:-1], lambda: open_store(writer.path).catalogue())
    refused(catalogue, bytes(len(whole[catalogue])), lambda: open_store(writer.path).catalogue())
    refused(recipe, b"{}", lambda: open_store(writer.path).recipes)
    shard.unlink()
    with pytest.raises(UsageError, match=r"safetensors: cannot read"):
        open_store(writer.path).shard(ref.digest)


def test_no_zoo_is_one_line(tmp_path):
    with pytest.raises(UsageError, match="no such zoo"):
        open_store(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="nothing was published"):
        open_store(tmp_path)


def test_verify_finds_a_flipped_bit_in_weights_and_in_evidence(writer):
    publish(writer, network(PARITY, 0), network(PARITY, 1))
    (ref,) = open_store(writer.path).manifest.shards
    flip_last_byte(shard_path(writer.path, ref.recipe, ref.digest))
    flip_last_byte(writer.path / "evidence" / f"{hexdigest(EVIDENCE)}.msgpack")
    problems = verify_zoo(writer.path).problems
    assert len(problems) == 3
    assert any(f"{PARITY.digest[:16]}-1: its weights" in problem for problem in problems)


@pytest.mark.parametrize(
    "changes", [{"campaign": "0" * 64}, {"evidence": "0" * 64}, {"recipe": "0" * 64}, {"state_digest": "../x"}]
)
def test_rows_that_name_what_is_not_there_are_our_own_mistake(writer, changes):
    with pytest.raises(ValueError, match="network"):
        row, params = network(PARITY, 0)
        publish(writer, (msgspec.structs.replace(row, **changes), params))
    assert latest_manifest(writer.path) is None


def test_wrong_weights_never_reach_the_zoo(writer):
    row, params = network(PARITY, 0)
    for bad in (params[:-1], params.astype(np.float64), np.where(params > 0, np.nan, params).astype(np.float32)):
        with pytest.raises(ValueError, match="finite float32"):
            publish(writer, (row, bad))


def test_the_card_says_what_is_inside(writer):
    publish(writer, network(PARITY, 0), network(PARITY, 1), network(ADDER, 0))
    card = (writer.path / "README.md").read_text()
    assert "3 small neural networks, in 2 classes" in card and "| parity | 2 |" in card
    assert "license: cc-by-4.0" in card and "Doe 2026" in card and "| training.learning_rate |" in card
    croissant = json.loads((writer.path / "croissant.json").read_text())
    (file,) = croissant["distribution"]
    assert hexdigest((writer.path / file["contentUrl"]).read_bytes()) == file["sha256"]
    assert {field["source"]["extract"]["column"] for field in croissant["recordSet"][0]["field"]} == {
        name for name, _, _ in all_columns()
    }
