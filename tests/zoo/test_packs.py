"""Evidence of many bundles in one file: found again, checked, fetched, and named when it is damaged."""

import msgspec
import pytest
from support.zoos import CAMPAIGN, ORGANIZER, PARITY, network

from analysis.pull.wanted import wanted_evidence, wanted_packs
from coordinator.zoo.files import PACKED_MIN, SMALL_BYTES
from coordinator.zoo.garbage import files_of
from coordinator.zoo.writer import ZooWriter
from protocol.canonical import hexdigest
from protocol.errors import UsageError
from protocol.zoo.packs import pack_bytes, read_pack
from protocol.zoo.store import Store, open_store, pack_path
from protocol.zoo.verify import verify_zoo

PROOFS = {hexdigest(data): data for data in (f"signed {i}".encode() for i in range(PACKED_MIN))}
LARGE = b"signed at length" * (SMALL_BYTES // 8)


@pytest.fixture
def writer(tmp_path) -> ZooWriter:
    return ZooWriter(tmp_path / "zoo", ORGANIZER, clock=lambda: 1_800_000_000.0)


def publish(writer: ZooWriter, evidence: dict[str, bytes], first: int = 0) -> None:
    """A network for each."""
    pairs = [network(PARITY, first + i) for i in range(len(evidence))]
    rows = [msgspec.structs.replace(row, evidence=digest) for (row, _), digest in zip(pairs, evidence, strict=True)]
    networks = [(row, params) for row, (_, params) in zip(rows, pairs, strict=True)]
    writer.publish(networks, {PARITY.digest: PARITY}, evidence, {hexdigest(CAMPAIGN): CAMPAIGN})


def test_much_evidence_is_one_file_and_little_is_files(writer):
    few = {hexdigest(data): data for data in (b"one", b"two")}
    publish(writer, few)
    assert open_store(writer.path).manifest.packs == ()
    publish(writer, {**PROOFS, hexdigest(LARGE): LARGE}, first=10)
    store = open_store(writer.path)
    (ref,) = store.manifest.packs
    assert ref.bundles == PACKED_MIN
    names = {path.name for path in (writer.path / "evidence").iterdir()}
    assert names == {f"{digest}.msgpack" for digest in (*few, hexdigest(LARGE))} | {f"{ref.digest}.safetensors"}
    assert all(store.evidence(digest) == data for digest, data in {**few, **PROOFS, hexdigest(LARGE): LARGE}.items())
    assert verify_zoo(writer.path).problems == ()
    pack = pack_path(store.path, ref.digest)
    assert pack in files_of(store)
    assert pack not in ZooWriter(writer.path, ORGANIZER, clock=lambda: 3e9).collect_garbage() and pack.is_file()


def test_a_pack_is_ordinary_safetensors(writer):
    from safetensors.numpy import load_file

    publish(writer, PROOFS)
    (ref,) = open_store(writer.path).manifest.packs
    loaded = load_file(pack_path(writer.path, ref.digest))
    assert {digest: array.tobytes() for digest, array in loaded.items()} == PROOFS


def test_a_retracted_bundle_s_evidence_stays_in_its_pack(writer):
    publish(writer, PROOFS)
    gone = next(iter(PROOFS))
    writer.retract({gone: "fake"})
    assert open_store(writer.path).evidence(gone) == PROOFS[gone] and verify_zoo(writer.path).problems == ()


def test_a_pull_wants_packs_and_what_is_in_none(writer):
    publish(writer, {**PROOFS, hexdigest(LARGE): LARGE})
    manifest = open_store(writer.path).manifest
    (pack,) = wanted_packs(manifest)
    assert pack.name == f"evidence/{manifest.packs[0].digest}.safetensors" and pack.limit == manifest.packs[0].bytes
    assert [file.digest for file in wanted_evidence(writer.path, manifest)] == [hexdigest(LARGE)]


def test_a_damaged_pack_is_named_and_hides_no_other(writer):
    publish(writer, PROOFS)
    more = {hexdigest(data): data for data in (f"later {i}".encode() for i in range(PACKED_MIN))}
    publish(writer, more, first=100)
    first, second = open_store(writer.path).manifest.packs
    path = pack_path(writer.path, first.digest)
    path.write_bytes(path.read_bytes()[:-1])
    store = open_store(writer.path)
    assert all(store.evidence(digest) == data for digest, data in more.items())
    problems = verify_zoo(writer.path).problems
    assert any(str(path) in line for line in problems)
    assert len(problems) == 1 + len(PROOFS), "each bundle's evidence is missing"
    whole = pack_path(writer.path, second.digest).read_bytes()
    pack_path(writer.path, second.digest).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    last = max(more)
    with pytest.raises(UsageError, match="hash to its name"):
        open_store(writer.path).evidence(last)


def test_a_pack_that_lies_is_refused(writer, tmp_path):
    publish(writer, PROOFS)
    store: Store = open_store(writer.path)
    (ref,) = store.manifest.packs
    whole = pack_path(store.path, ref.digest).read_bytes()
    other = pack_bytes({hexdigest(b"x"): b"x"})
    shifted = whole.replace(b"[0,8]", b"[1,8]", 1) if b"[0,8]" in whole else whole.replace(b"[0,9]", b"[1,9]", 1)
    for lie in (shifted, whole.replace(b'"U8"', b'"I8"', 1), whole.replace(b'"shape":[8]', b'"shape":[9]', 1), other):
        assert lie != whole
        path = tmp_path / "pack"
        path.write_bytes(lie)
        with pytest.raises(UsageError, match="damaged"):
            read_pack(path, msgspec.structs.replace(ref, bytes=len(lie)))
