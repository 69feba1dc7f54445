"""`zooswarm pull`: a zoo over real gRPC on loopback, and what a lying host can do to a copy: nothing."""

import errno
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from support.pulling import Folder
from support.zoos import ADDER, CAMPAIGN, EVIDENCE, ORGANIZER, PARITY, network, publish

from analysis.audit.check import audit_zoo
from analysis.pull import transfer
from analysis.pull.command import run_pull
from analysis.pull.source import HostSource
from analysis.pull.transfer import pull
from coordinator.server.coordinator import Coordinator
from coordinator.server.directory import open_directory
from coordinator.server.doors import places
from coordinator.server.serving import serve, stop
from coordinator.zoo.files import PACKED_MIN
from coordinator.zoo.writer import ZooWriter
from protocol.canonical import canonical_json, hexdigest
from protocol.cli.console import Progress
from protocol.errors import Refused, UsageError
from protocol.files import write_atomic
from protocol.recipes.recipe import RECIPE_BYTES_MAX
from protocol.tasks.dataset_names import BUILT_IN
from protocol.tasks.datasets import Shelf
from protocol.trust.identity import Identity
from protocol.zoo.manifests import Part, ShardRef, ZooManifest, latest_manifest, manifest_path, signed_bytes
from protocol.zoo.store import evidence_path, open_store
from protocol.zoo.verify import verify_zoo

ZOOSWARM = str(Path(sys.executable).with_name("zooswarm"))


@pytest.fixture
def house(tmp_path):
    """A coordinator that serves, without a swarm, and a writer of its zoo."""
    write_atomic(tmp_path / "host" / "identity", ORGANIZER.file_bytes())
    core = Coordinator(open_directory(tmp_path / "host"))
    server, service, port = serve(core, "127.0.0.1:0")
    yield ZooWriter(tmp_path / "host" / "zoo", ORGANIZER), f"127.0.0.1:{port}", service
    stop(server, service, 0.1)
    core.close()


@pytest.fixture
def source(house):
    with HostSource(house[1]) as source:
        yield source


def files(zoo: Path) -> dict[str, bytes]:
    return {str(p.relative_to(zoo)): p.read_bytes() for p in zoo.rglob("*") if p.is_file() and p.name != ".pull.lock"}


def test_a_pulled_zoo_is_the_zoo_and_the_next_pull_brings_only_what_is_new(house, source, tmp_path):
    writer, *_ = house
    data = Shelf(tmp_path / "shelf").ensure(BUILT_IN["digits8x8"])
    assert data is not None
    recipes = {recipe.digest: recipe for recipe in (PARITY, ADDER)}
    evidence, campaigns = {hexdigest(EVIDENCE): EVIDENCE}, {hexdigest(CAMPAIGN): CAMPAIGN}
    writer.publish([network(PARITY, 1)], recipes, evidence, campaigns, {data.name: data})
    out = tmp_path / "copy"
    first = pull(source, out)
    assert files(out) == files(writer.path)
    assert (first.fetched, first.files, first.here) == (7, 7, 7)  # part, shard, 2 recipes, campaign, data, evidence
    assert verify_zoo(out).problems == () and open_store(out).manifest.data[0].digest == data.name
    assert pull(source, out).fetched == 0
    publish(writer, network(ADDER, 2))
    asked = []
    again = pull(source, out, lambda tally: asked.append(tally.fetched))
    assert (again.fetched, again.manifest.number) == (2, 2) and verify_zoo(out).networks == 2  # one part, one shard
    assert pull(source, tmp_path / "late").fetched == 9 and verify_zoo(tmp_path / "late").problems == ()


def test_packs_of_evidence_come_whole_and_once(house, source, tmp_path):
    writer, *_ = house
    proofs = {hexdigest(data): data for data in (f"signed {i}".encode() for i in range(PACKED_MIN))}
    rows = [(network(PARITY, i), digest) for i, digest in enumerate(proofs)]
    networks = [(msgspec.structs.replace(row, evidence=digest), params) for (row, params), digest in rows]
    writer.publish(networks, {PARITY.digest: PARITY}, proofs, {hexdigest(CAMPAIGN): CAMPAIGN})
    out = tmp_path / "copy"
    first = pull(source, out)
    assert files(out) == files(writer.path) and first.fetched == first.files == 5  # part, shard, recipe, campaign, pack
    assert verify_zoo(out).problems == () and pull(source, out).fetched == 0


def test_rows_of_probes_stay_where_they_are_and_nobody_minds_them(house, source, tmp_path):
    """The host's own rows are not served; the analyst's survive a later pull, and the audit sees the same zoo."""
    writer, *_ = house
    publish(writer, network(PARITY, 1))
    write_atomic(writer.path / "probes" / "sizes.parquet", b"the host's")
    out = tmp_path / "copy"
    pull(source, out)
    assert not (out / "probes").exists()
    before = audit_zoo(out).problems
    write_atomic(out / "probes" / "sizes.parquet", b"the analyst's")
    assert audit_zoo(out).problems == before
    publish(writer, network(ADDER, 2))
    assert pull(source, out).fetched == 2 and verify_zoo(out).problems == ()
    assert (out / "probes" / "sizes.parquet").read_bytes() == b"the analyst's"


def test_nothing_but_the_zoos_files_is_served(house, source):
    writer, target, _ = house
    with pytest.raises(UsageError, match="no zoo is published yet"):
        list(source.file("", 0))
    publish(writer, network(PARITY, 1))
    stray = writer.path / "evidence" / f"{'0' * 64}.msgpack"
    stray.write_bytes(b"left over")
    names = ["../identity", "../beacon", "identity", "/etc/passwd", "README.md", "manifests/00000001.json", "evidence"]
    for name in [*names, str(stray.relative_to(writer.path)), "x" * 100_000, "recipes/../../identity", "\0"]:
        with pytest.raises(Refused) as refused:
            list(source.file(name, 0))
        assert refused.value.reason == "no-file"
    name = evidence_path(Path(), hexdigest(EVIDENCE)).as_posix()
    assert b"".join(source.file(name, 7)) == EVIDENCE[7:] and list(source.file(name, 1 << 60)) == []
    with HostSource(f"{target}/{Identity.generate().host}") as s, pytest.raises(UsageError, match="is not 12D3"):
        s.greet()


def test_a_broken_connection_is_resumed_and_a_lost_host_leaves_the_older_zoo(house, tmp_path):
    writer, *_ = house
    publish(writer, network(PARITY, 1))
    out, waits = tmp_path / "copy", []
    pull(Folder(writer.path), out)
    publish(writer, *(network(ADDER, seed) for seed in range(20)))
    gone = Folder(writer.path, cut=0)
    with pytest.raises(UsageError, match=r"does not answer any more .*files are kept"):
        pull(gone, out, sleep=waits.append)
    assert waits == [1.0, 2.0, 4.0, 8.0] and len(gone.asked) == 6
    assert open_store(out).manifest.number == 1 and verify_zoo(out).problems == ()
    shaky = Folder(writer.path, cut=2500)
    tally = pull(shaky, out, sleep=lambda _: None)
    assert tally.fetched == 2 and verify_zoo(out).networks == 21
    (part,) = (ref for ref in open_store(out).manifest.catalogue if ref.rows == 20)
    offsets = [offset for name, offset in shaky.asked if part.digest in name]
    assert offsets == list(range(0, part.bytes, 2500)) and len(offsets) > 2
    assert not list(out.rglob("*.partial"))


def test_a_busy_host_is_waited_for(house, source, tmp_path, monkeypatch):
    writer, _, service = house
    publish(writer, network(PARITY, 1))
    waits: list[float] = []
    monkeypatch.setattr(places, "WAITING_FOR_PLACE_MAX", 0)
    service.zoo_transfers.number = 0

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2 * transfer.TRIES_MAX:
            service.zoo_transfers.number = 1

    assert pull(source, tmp_path / "copy", sleep=wait).fetched == 6 and len(waits) == 2 * transfer.TRIES_MAX


def test_an_interrupted_pull_keeps_whole_files_and_goes_on(house, tmp_path):
    writer, *_ = house
    publish(writer, network(PARITY, 1))
    out = tmp_path / "copy"

    def interrupt(tally) -> None:
        if tally.here == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(Folder(writer.path), out, interrupt)
    assert latest_manifest(out) is None and len(files(out)) == 3
    (partial,) = [path.with_name(f".{path.name}.partial") for path in (out / "catalogue").iterdir()]
    partial.with_name(partial.name[1:].removesuffix(".partial")).rename(partial)  # whole, but never renamed
    partial.write_bytes(b"damaged" + partial.read_bytes()[7:100])
    assert pull(Folder(writer.path), out).fetched == 4 and verify_zoo(out).problems == ()


@pytest.mark.parametrize("folder", ["catalogue", "weights", "recipes", "campaigns", "evidence"])
@pytest.mark.parametrize("lie", [b"", b"x" * 500, b"x" * 3_000_000])
def test_wrong_bytes_are_never_kept(house, tmp_path, folder, lie):
    writer, *_ = house
    publish(writer, network(PARITY, 1))
    out = tmp_path / "copy"
    with pytest.raises(UsageError, match=rf"{folder}/.*damaged.*zooswarm audit") as said:
        pull(Folder(writer.path, lies={folder: lie}), out)
    assert "\n" not in str(said.value)
    good = files(writer.path)
    assert latest_manifest(out) is None and all(good[name] == data for name, data in files(out).items())
    pull(Folder(writer.path), out)
    assert files(out) == good


def test_too_many_bytes_are_not_even_read(house, tmp_path):
    writer, *_ = house
    publish(writer, network(PARITY, 1))
    told = []

    class Endless(Folder):
        def file(self, name, offset):
            if name.startswith("recipes"):
                while True:
                    told.append(1)
                    yield bytes(1 << 16)
            yield from super().file(name, offset)

    with pytest.raises(UsageError, match="damaged"):
        pull(Endless(writer.path), tmp_path / "copy")
    assert len(told) == RECIPE_BYTES_MAX // (1 << 16) + 1


def manifests() -> list[tuple[str, bytes]]:
    digest, long = "a" * 64, "../" * 20 + "etc/"
    part = Part(digest=digest, bytes=100_000, rows=10, classes={})
    cases = {
        "nothing": b"",
        "not JSON": b"\x80\x04pickle",
        "another format": canonical_json({"format": "zooswarm-zoo/9", "number": 1}),
        "number": canonical_json(ZooManifest(number=100_000_000)),
        "no number": canonical_json(ZooManifest()),
        "part": canonical_json(ZooManifest(number=1, catalogue=(msgspec.structs.replace(part, digest=long),))),
        "rows": canonical_json(ZooManifest(number=1, catalogue=(msgspec.structs.replace(part, rows=1 << 40),))),
        "line feed": canonical_json(ZooManifest(number=1, recipes=(digest + "\n",))),
        "recipe": canonical_json(ZooManifest(number=1, recipes=("../../x",))),
        "shard": canonical_json(
            ZooManifest(number=1, shards=(ShardRef(digest=digest, bytes=1, rows=1, recipe="../../../../x"),))
        ),
    }
    return list(cases.items())


@pytest.mark.parametrize(("name", "lie"), manifests(), ids=[name for name, _ in manifests()])
def test_a_manifest_with_bad_names_changes_nothing(house, tmp_path, name, lie):
    writer, *_ = house
    publish(writer, network(PARITY, 1))
    liar = Folder(writer.path, lies={"": lie})
    with pytest.raises(UsageError, match=r"its manifest is (damaged|not signed)"):
        pull(liar, tmp_path / "copy")
    assert files(tmp_path / "copy") == {} and len(liar.asked) == 1


def test_evidence_that_is_no_digest_is_refused(house, tmp_path):
    import pyarrow as pa

    from coordinator.zoo.files import write_part

    writer, *_ = house
    publish(writer, network(PARITY, 1))
    store = open_store(writer.path)
    table = store.catalogue()
    column = table.schema.get_field_index("evidence")
    bad = write_part(writer.path, table.set_column(column, "evidence", pa.array(["../../../identity"])))
    lie = signed_bytes(msgspec.structs.replace(store.manifest, catalogue=(bad,)), ORGANIZER.sign)
    liar = Folder(writer.path, lies={"": lie})
    with pytest.raises(UsageError, match="no digest"):
        pull(liar, tmp_path / "copy")
    assert [name.split("/")[0] for name, _ in liar.asked] == ["", "catalogue"]


def test_a_publish_and_a_collection_under_way_are_harmless(house, source, tmp_path):
    writer, *_ = house
    publish(writer, network(PARITY, 1))
    out, number = tmp_path / "copy", []

    def disturb(tally) -> None:
        if tally.here == 2 and not number:  # all of the first manifest that is not here yet vanishes, as after a merge
            number.append(publish(writer, network(PARITY, 2)))
            newest = open_store(writer.path).manifest
            (new,) = (ref for ref in newest.shards if ref.digest not in first)
            draft = msgspec.structs.replace(newest, number=3, follows=2, catalogue=newest.catalogue[1:], shards=(new,))
            manifest_path(writer.path, 3).write_bytes(signed_bytes(draft, ORGANIZER.sign))
            for ref in newest.shards:
                if ref != new:
                    (writer.path / "weights" / ref.recipe[:16] / f"{ref.digest}.safetensors").unlink()

    first = {ref.digest for ref in open_store(writer.path).manifest.shards}
    assert pull(source, out, disturb).manifest.number == 3 and number == [2]
    assert verify_zoo(out).problems == () and verify_zoo(out).networks == 1
    lost = next((writer.path / "evidence").iterdir())
    lost.rename(tmp_path / "lost")
    with pytest.raises(UsageError, match="has not all that its manifest names"):
        pull(source, tmp_path / "other")


def test_a_directory_of_something_else_is_left_alone(house, source, tmp_path):
    writer, *_ = house
    publish(writer, network(PARITY, 1))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("my project")
    with pytest.raises(UsageError, match="not empty, and not a zoo"):
        pull(source, tmp_path / "mine")
    assert files(tmp_path / "mine") == {"README.md": b"my project"}
    other = ZooWriter(tmp_path / "other", ORGANIZER)
    campaign = canonical_json({"name": "another"})
    row, params = network(PARITY, 3)
    row = msgspec.structs.replace(row, campaign=hexdigest(campaign))
    evidence = {hexdigest(EVIDENCE): EVIDENCE}
    other.publish([(row, params)], {PARITY.digest: PARITY}, evidence, {hexdigest(campaign): campaign})
    before = files(other.path)
    with pytest.raises(UsageError, match="another manifest 1"):
        pull(source, other.path)
    publish(writer, network(PARITY, 4))
    with pytest.raises(UsageError, match="another zoo"):
        pull(source, other.path)
    assert files(other.path) == before
    with transfer.locked(tmp_path / "busy"), pytest.raises(UsageError, match="another pull"):
        pull(source, tmp_path / "busy")


def test_a_zoo_of_another_organizer_is_never_taken(tmp_path):
    stranger, ours = ZooWriter(tmp_path / "stranger", Identity.generate()), ZooWriter(tmp_path / "ours", ORGANIZER)
    for writer in (stranger, ours):
        publish(writer, network(PARITY, 1))
    liar = Folder(stranger.path)
    with pytest.raises(UsageError, match=f"zoo of {stranger.identity.host}, not of {ORGANIZER.host}") as said:
        pull(liar, tmp_path / "copy")
    assert "\n" not in str(said.value) and files(tmp_path / "copy") == {} and len(liar.asked) == 1
    pull(Folder(ours.path, organizer=None), tmp_path / "copy")  # an address on loopback need not name him
    publish(stranger, network(PARITY, 2))
    before = files(tmp_path / "copy")
    with pytest.raises(UsageError, match=f"holds the zoo of {ORGANIZER.host}, the host's is that of"):
        pull(Folder(stranger.path, organizer=None), tmp_path / "copy")
    forged = manifest_path(ours.path, 1).read_bytes().replace(b'"rows":1', b'"rows":0')
    with pytest.raises(UsageError, match="forged"):
        pull(Folder(ours.path, lies={"": forged}), tmp_path / "copy")
    unsigned = canonical_json(ZooManifest(number=9, written_at="2026"))
    with pytest.raises(UsageError, match=r"not signed: this host is of version 0\.1"):
        pull(Folder(ours.path, lies={"": unsigned}), tmp_path / "copy")
    assert files(tmp_path / "copy") == before


def test_a_zoo_that_was_set_back_is_refused_and_a_damaged_copy_is_mended(tmp_path):
    writer, out = ZooWriter(tmp_path / "zoo", ORGANIZER), tmp_path / "copy"
    publish(writer, network(PARITY, 1))
    old = manifest_path(writer.path, 1).read_bytes()
    publish(writer, network(PARITY, 2))
    pull(Folder(writer.path), out)
    with pytest.raises(UsageError, match=r"holds manifest 2, the host shows an older one \(1\)"):
        pull(Folder(writer.path, lies={"": old}), out)
    path = manifest_path(out, 2)
    whole = path.read_bytes()
    path.write_bytes(b"{")
    with pytest.raises(UsageError, match="the host shows an older one"):
        pull(Folder(writer.path, lies={"": old}), out)
    pull(Folder(writer.path), out)
    assert path.read_bytes() == whole
    fork = ZooWriter(tmp_path / "fork", ORGANIZER)
    publish(fork, network(PARITY, 1))
    publish(fork, network(PARITY, 3))
    with pytest.raises(UsageError, match="somebody signed two"):
        pull(Folder(fork.path), out)
    publish(fork, network(PARITY, 4))
    with pytest.raises(UsageError, match="another zoo of the same organizer"):
        pull(Folder(fork.path), out)


def test_a_copy_made_by_0_1_is_not_taken_further(tmp_path):
    shutil.copytree(Path(__file__).with_name("kept_by_0_1"), tmp_path / "copy")
    writer = ZooWriter(tmp_path / "zoo", ORGANIZER)
    for seed in range(3):
        publish(writer, network(PARITY, seed))
    with pytest.raises(UsageError, match=r"holds a zoo made by version 0\.1"):
        pull(Folder(writer.path), tmp_path / "copy")


def test_a_later_pull_drops_what_was_taken_back(tmp_path, capsys):
    writer, out = ZooWriter(tmp_path / "zoo", ORGANIZER), tmp_path / "copy"
    publish(writer, network(PARITY, 1))
    pull(Folder(writer.path), out)
    writer.retract({hexdigest(EVIDENCE): "segment 7 differs"})
    pull(Folder(writer.path), out)
    store = open_store(out)
    assert store.manifest.networks == 0 and store.manifest.retracted[0].reason == "segment 7 differs"
    assert verify_zoo(out).problems == () and store.evidence(hexdigest(EVIDENCE)) == EVIDENCE


def test_a_full_disk_is_said_and_keeps_what_is_whole(house, source, tmp_path, monkeypatch):
    writer, *_ = house
    publish(writer, network(PARITY, 1))
    real = Path.replace

    def full(self, target):
        if "weights" in self.parts:
            raise OSError(errno.ENOSPC, "No space left on device", str(self))
        return real(self, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UsageError, match="the disk is full; make room"):
        pull(source, tmp_path / "copy")
    monkeypatch.undo()
    assert latest_manifest(tmp_path / "copy") is None and pull(source, tmp_path / "copy").fetched == 2
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda _: _Usage())
    with pytest.raises(UsageError, match="bytes are to come and 10 are free"):
        pull(source, tmp_path / "small")


class _Usage:
    free = 10


@pytest.mark.slow
def test_the_verb_says_what_comes_next_and_what_is_wrong(house, tmp_path):
    writer, target, _ = house

    def run(address: str) -> subprocess.CompletedProcess:
        command = [ZOOSWARM, "pull", address, "--out", str(tmp_path / "copy")]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    for address, words in ((target, "no zoo is published yet"), ("127.0.0.1:1", "answers at"), ("x", "address")):
        done = run(address)
        assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1, done.stderr
    publish(writer, network(PARITY, 1))
    done = run(target)
    assert done.returncode == 0 and "1 networks, manifest 1, 6 files" in done.stdout, done.stderr
    assert f"signed by {ORGANIZER.host}" in done.stdout and "does not say whose it must be" in done.stdout
    assert done.stdout.splitlines()[-1] == f"next: zooswarm report {tmp_path / 'copy'} --out page"


def test_ctrl_c_says_what_is_kept(house, tmp_path, monkeypatch, capsys):
    writer, target, _ = house
    publish(writer, network(PARITY, 1))
    update = Progress.update

    def interrupt(self, done: int, *rest, **words) -> None:
        update(self, done, *rest, **words)
        if done == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "update", interrupt)
    with pytest.raises(SystemExit) as ended:
        run_pull(target, tmp_path / "copy")
    told = capsys.readouterr()
    assert ended.value.code == 130 and told.out == "" and told.err.count("\n") == 1
    assert "2 files are kept" in told.err and "the same command goes on" in told.err
