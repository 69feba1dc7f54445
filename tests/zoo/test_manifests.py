"""Manifests: signed, in one chain, never passed over in silence; and bundles that are taken back."""

import logging

import msgspec
import numpy as np
import pytest
from support.zoos import ADDER, CAMPAIGN, EVIDENCE, ORGANIZER, PARITY, network, publish

from coordinator.zoo import merge
from coordinator.zoo import writer as zoo_writer
from coordinator.zoo.writer import ZooWriter
from protocol.canonical import canonical_json, hexdigest
from protocol.errors import Refused, UsageError
from protocol.trust.identity import Identity, verify_signature
from protocol.zoo.manifests import (
    TAIL_BYTES,
    find_manifest,
    latest_manifest,
    manifest_from_bytes,
    manifest_path,
    manifest_problems,
    read_manifest,
    signed_bytes,
)
from protocol.zoo.store import evidence_path, open_store, shard_path
from protocol.zoo.verify import verify_zoo

OTHER = b"signed by somebody else"


@pytest.fixture
def writer(tmp_path) -> ZooWriter:
    return ZooWriter(tmp_path / "zoo", ORGANIZER, clock=lambda: 1_800_000_000.0)


def rewrite(writer: ZooWriter, number: int, identity: Identity | None = ORGANIZER, **changes) -> None:
    """Manifest `number` with other fields, signed again or not at all."""
    manifest = msgspec.structs.replace(read_manifest(writer.path, number)[0], **changes)
    if identity is None:
        data = canonical_json(msgspec.structs.replace(manifest, organizer=""))
    else:
        data = signed_bytes(msgspec.structs.replace(manifest, organizer=identity.host), identity.sign)
    manifest_path(writer.path, number).write_bytes(data)


def test_a_manifest_is_json_signed_by_the_organizer_and_names_the_one_before(writer):
    publish(writer, network(PARITY, 0))
    publish(writer, network(PARITY, 1))
    first, second = (manifest_path(writer.path, number).read_bytes() for number in (1, 2))
    plain = msgspec.json.decode(second)
    assert list(plain)[-1] == "signature" and len(plain["signature"]) == 128
    manifest = manifest_from_bytes(second, verify_signature)
    assert (manifest.organizer, manifest.follows, manifest.previous) == (ORGANIZER.host, 1, hexdigest(first))
    assert manifest_problems(writer.path, verify_signature, ORGANIZER.host) == []
    for place in range(0, len(second), 97):
        changed = bytearray(second)
        changed[place] ^= 1
        with pytest.raises(Refused):
            manifest_from_bytes(bytes(changed), verify_signature)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (b"{", "damaged or forged"),
        (b"", "damaged or forged"),
        (b"[" * 100_000, "damaged or forged"),
        (b'{"number":3}', "it is manifest 3"),
        (b'{"format":"zooswarm-zoo/9","number":2}', "damaged or forged"),
    ],
)
def test_a_destroyed_newest_manifest_is_passed_over_aloud_and_nothing_is_built_on_it(writer, damage, words, caplog):
    publish(writer, network(PARITY, 0))
    publish(writer, network(PARITY, 1))
    path = manifest_path(writer.path, 2)
    whole = path.read_bytes()
    path.write_bytes(damage)
    (line,) = find_manifest(writer.path).passed_over
    assert str(path) in line and words in line and "\n" not in line
    with caplog.at_level(logging.WARNING):
        assert open_store(writer.path).manifest.number == 1
    assert len(caplog.messages) == 1 and str(path) in caplog.messages[0]
    assert any("passed over" in problem and str(path) in problem for problem in verify_zoo(writer.path).problems)
    with pytest.raises(UsageError, match="Nothing is published until it is back"):
        publish(writer, network(PARITY, 2))
    with pytest.raises(UsageError, match="damaged or forged"):
        ZooWriter(writer.path, ORGANIZER, clock=lambda: 9e9).collect_garbage()
    path.write_bytes(whole)
    assert publish(writer, network(PARITY, 2)) == 3 and open_store(writer.path).manifest.networks == 3
    assert verify_zoo(writer.path).problems == ()


def test_a_forged_newest_manifest_is_passed_over_by_who_can_check_signatures(writer):
    publish(writer, network(PARITY, 0))
    publish(writer, network(PARITY, 1))
    path = manifest_path(writer.path, 2)
    path.write_bytes(path.read_bytes().replace(b'"number":2', b'"number": 2'))
    assert find_manifest(writer.path).passed_over == ()  # without a check of signatures it looks right
    found = find_manifest(writer.path, verify_signature)
    assert found.manifest and found.manifest.number == 1 and "not signed by" in found.passed_over[0]
    assert open_store(writer.path, verify_signature).manifest.number == 1


def test_a_signature_that_was_cut_off_is_seen(writer):
    publish(writer, network(PARITY, 0))
    publish(writer, network(PARITY, 1))
    path = manifest_path(writer.path, 2)
    whole = path.read_bytes()
    path.write_bytes(whole[:-TAIL_BYTES] + b"}")
    assert "has no signature" in find_manifest(writer.path).passed_over[0]
    path.write_bytes(whole)
    rewrite(writer, 2, None)
    found = find_manifest(writer.path)
    assert found.manifest and found.manifest.number == 1 and "as older manifests are" in found.passed_over[0]


def test_another_organizers_zoo_is_neither_written_nor_taken_for_ours(writer, tmp_path):
    publish(writer, network(PARITY, 0))
    stranger = Identity.generate()
    with pytest.raises(UsageError, match=f"this is the zoo of {ORGANIZER.host}"):
        publish(ZooWriter(writer.path, stranger), network(PARITY, 1))
    (problem,) = manifest_problems(writer.path, verify_signature, stranger.host)
    assert ORGANIZER.host in problem and stranger.host in problem
    publish(writer, network(PARITY, 1))
    rewrite(writer, 2, stranger)
    problems = manifest_problems(writer.path, verify_signature, ORGANIZER.host)
    assert any(stranger.host in problem for problem in problems)


def test_what_does_not_follow_is_named(writer):
    for seed in range(3):
        publish(writer, network(PARITY, seed))
    whole = manifest_path(writer.path, 2).read_bytes()
    rewrite(writer, 2, written_at="2001-01-01T00:00:00+00:00")
    (problem,) = manifest_problems(writer.path, verify_signature)
    assert "00000003" in problem and "another manifest 2" in problem
    manifest_path(writer.path, 2).unlink()  # a pull brings only the newest
    assert manifest_problems(writer.path, verify_signature) == []
    manifest_path(writer.path, 2).write_bytes(whole)
    rewrite(writer, 3, follows=1)
    (problem,) = manifest_problems(writer.path, verify_signature)
    assert "was made from manifest 1" in problem


def test_a_newest_manifest_that_was_taken_away_is_missed_by_the_card(writer):
    publish(writer, network(PARITY, 0))
    publish(writer, network(PARITY, 1))
    manifest_path(writer.path, 2).unlink()
    (problem,) = verify_zoo(writer.path).problems
    assert "manifest 2" in problem and "croissant.json" in problem


# -- bundles that are taken back -------------------------------------------------------------------------------------


def bundle(recipe, seeds, evidence: bytes):
    return [
        (msgspec.structs.replace(row, evidence=hexdigest(evidence)), params)
        for row, params in (network(recipe, seed) for seed in seeds)
    ]


def publish_two(writer: ZooWriter) -> int:
    """Two bundles of PARITY whose networks share a shard, and one of ADDER, in one manifest."""
    networks = (
        bundle(PARITY, range(4), EVIDENCE) + bundle(PARITY, range(4, 8), OTHER) + bundle(ADDER, range(2), EVIDENCE)
    )
    recipes = {recipe.digest: recipe for recipe in (PARITY, ADDER)}
    evidence = {hexdigest(data): data for data in (EVIDENCE, OTHER)}
    return writer.publish(networks, recipes, evidence, {hexdigest(CAMPAIGN): CAMPAIGN})


def test_a_retracted_bundle_leaves_the_next_manifest_which_says_why(writer):
    publish_two(writer)
    (old,) = [ref for ref in open_store(writer.path).manifest.shards if ref.recipe == PARITY.digest]
    assert writer.retract({hexdigest(OTHER): "segment 3 is\nnot what training gives"}) == 2
    store = open_store(writer.path)
    assert sorted(store.catalogue()["seed"].to_pylist()) == [0, 0, 1, 1, 2, 3] and store.manifest.networks == 6
    (told,) = store.manifest.retracted
    assert (told.evidence, told.networks) == (hexdigest(OTHER), 4)
    assert told.reason == "segment 3 is not what training gives" and told.retracted_at.startswith("2027")
    assert old not in store.manifest.shards, "the fakes' weights are still in a file of the zoo"
    table = store.catalogue()
    weights_NP = store.gather(table["shard"].to_pylist(), table["row"].to_numpy())
    truth = {row.id: params for row, params in bundle(PARITY, range(4), EVIDENCE) + bundle(ADDER, range(2), EVIDENCE)}
    assert all(np.array_equal(truth[name], w) for name, w in zip(table["id"].to_pylist(), weights_NP, strict=True))
    assert verify_zoo(writer.path).problems == ()
    assert "4 networks were taken back" in (writer.path / "README.md").read_text()


def test_retracting_again_changes_nothing_and_the_seeds_are_free_for_others(writer):
    publish_two(writer)
    writer.retract({hexdigest(OTHER): "fake"})
    assert writer.retract({hexdigest(OTHER): "fake"}) == 2
    assert publish_two(writer) == 2, "a retracted bundle came back"
    again = bundle(PARITY, range(4, 8), b"trained by somebody honest")
    evidence = {hexdigest(b"trained by somebody honest"): b"trained by somebody honest"}
    assert writer.publish(again, {PARITY.digest: PARITY}, evidence, {hexdigest(CAMPAIGN): CAMPAIGN}) == 3
    assert open_store(writer.path).manifest.networks == 10 and verify_zoo(writer.path).problems == ()


def test_a_bundle_can_be_retracted_before_it_is_published(writer):
    assert writer.retract({hexdigest(OTHER): "fake"}) == 1
    publish_two(writer)
    assert open_store(writer.path).manifest.networks == 6 and verify_zoo(writer.path).problems == ()


def test_when_all_of_a_zoo_is_retracted_others_are_published_in_its_place(writer):
    publish_two(writer)
    writer.retract({hexdigest(EVIDENCE): "fake", hexdigest(OTHER): "fake"})
    assert open_store(writer.path).manifest.networks == 0
    honest = b"trained by somebody honest"
    again = bundle(PARITY, range(4), honest)
    writer.publish(again, {PARITY.digest: PARITY}, {hexdigest(honest): honest}, {hexdigest(CAMPAIGN): CAMPAIGN})
    assert open_store(writer.path).manifest.networks == 4 and verify_zoo(writer.path).problems == ()


@pytest.mark.parametrize("step", ["sync_folders", "create_once", "write_card"])
def test_a_kill_while_retracting_loses_nothing(writer, step):
    publish_two(writer)

    def crash(*_, **__):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(zoo_writer, step, crash)
        writer.retract({hexdigest(OTHER): "fake"})
    done = step == "write_card"
    assert open_store(writer.path).manifest.networks == (6 if done else 10)
    assert verify_zoo(writer.path).problems == ()
    again = ZooWriter(writer.path, ORGANIZER)
    assert again.retract({hexdigest(OTHER): "fake"}) == 2
    assert open_store(writer.path).manifest.networks == 6 and verify_zoo(writer.path).problems == ()
    again = bundle(PARITY, range(4, 8), b"honest")
    writer.publish(again, {PARITY.digest: PARITY}, {hexdigest(b"honest"): b"honest"}, {hexdigest(CAMPAIGN): CAMPAIGN})
    assert open_store(writer.path).manifest.networks == 10


def test_a_whole_bundle_in_files_of_its_own_goes_with_them_but_its_evidence_stays(writer):
    publish(writer, network(PARITY, 0))
    writer.retract({hexdigest(EVIDENCE): "fake"})
    manifest = open_store(writer.path).manifest
    assert manifest.catalogue == () and manifest.shards == () and manifest.networks == 0
    ZooWriter(writer.path, ORGANIZER, clock=lambda: 9e9).collect_garbage()
    assert evidence_path(writer.path, hexdigest(EVIDENCE)).read_bytes() == EVIDENCE
    assert not list((writer.path / "weights").rglob("*.safetensors"))
    assert verify_zoo(writer.path).problems == ()


def test_a_damaged_shard_is_not_given_a_good_name_by_a_retraction(writer, caplog):
    publish_two(writer)
    (ref,) = [ref for ref in open_store(writer.path).manifest.shards if ref.recipe == PARITY.digest]
    path = shard_path(writer.path, ref.recipe, ref.digest)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    writer.retract({hexdigest(OTHER): "fake"})
    assert ref in open_store(writer.path).manifest.shards and open_store(writer.path).manifest.networks == 6
    assert any(ref.digest in problem for problem in verify_zoo(writer.path).problems)


def test_merges_and_retractions_do_not_disturb_each_other(writer, monkeypatch):
    monkeypatch.setattr(merge, "PARTS_MAX", 2)
    publish_two(writer)
    for seed in range(10, 16):
        publish(writer, network(PARITY, seed))
        if seed == 12:
            writer.retract({hexdigest(OTHER): "fake"})
    manifest = latest_manifest(writer.path)
    assert manifest and manifest.networks == 12 and len(manifest.retracted) == 1
    assert verify_zoo(writer.path).problems == () and len(manifest.catalogue) <= 3


# -- what a reader is told -------------------------------------------------------------------------------------------


def test_the_report_says_what_is_wrong_with_the_files(writer, tmp_path, caplog):
    from analysis.report.page import write_report
    from analysis.report.soundness import soundness

    publish_two(writer)
    assert soundness(open_store(writer.path)) == []
    writer.retract({hexdigest(OTHER): "segment 3 is not what training gives"})
    (said,) = soundness(open_store(writer.path))
    assert "took 4 networks back" in said and "segment 3" in said
    ref = open_store(writer.path).manifest.shards[0]
    path = shard_path(writer.path, ref.recipe, ref.digest)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    manifest_path(writer.path, 3).write_bytes(b"{")
    said = soundness(open_store(writer.path, verify_signature))
    assert "1 newer cannot be read" in said[0] and f"1 files are damaged (weights/{ref.recipe[:16]}/" in said[1]
    with caplog.at_level(logging.WARNING):
        page = write_report(writer.path, tmp_path / "page")
    assert "files are damaged" in page.read_text() and sum("files are damaged" in m for m in caplog.messages) == 1


def test_a_zoo_too_large_to_hash_is_said_to_be_unverified(writer, monkeypatch):
    from analysis.report import soundness as module

    publish_two(writer)
    monkeypatch.setattr(module, "HASHED_BYTES_MAX", 10)
    (said,) = module.soundness(open_store(writer.path))
    assert "were not verified" in said
