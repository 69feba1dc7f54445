"""What the service does when much is asked of it at once, and what it leaves on the disk."""

import os

import grpc
import pytest
from support.scripted_host import CAMPAIGN, Stage

from coordinator.policy.publishing import TIDY_SECONDS
from protocol.rpc import coordinator_pb2 as pb
from protocol.swarm.records import SHARD_SIZE
from protocol.zoo.manifests import latest_manifest, manifest_path


@pytest.fixture
def stage(tmp_path):
    stage = Stage(tmp_path / "host")
    stage.seed()
    yield stage
    stage.close()


def test_a_blob_is_not_loaded_while_there_is_no_place_to_send_it_from(stage):
    alice = stage.host("alice")
    digest = alice.commit(0)
    loaded = []
    serve_blob = stage.core.handlers.serve_blob
    stage.core.handlers.serve_blob = lambda *request: loaded.append(request) or serve_blob(*request)
    request = pb.BlobRequest(result=digest, part="weights")
    stage.service.transfers.number = 0
    with pytest.raises(grpc.RpcError) as caught:
        list(alice.stub.GetBlob(request, timeout=0.3))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED and loaded == []
    stage.service.transfers.number = 1
    assert b"".join(chunk.data for chunk in alice.stub.GetBlob(request)) == alice.weights(0) and len(loaded) == 1
    with pytest.raises(grpc.RpcError) as caught:
        list(alice.stub.GetBlob(pb.BlobRequest(result=digest, part="trace")))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    list(alice.stub.GetBlob(request))  # a refusal gives its place back


def test_the_curator_removes_what_no_manifest_of_the_last_day_names(stage):
    zoo = stage.path / "zoo"
    for index in (0, 1):
        admit_alone(stage, index)
        assert stage.core.curate(force=True) == 2
    manifest = latest_manifest(zoo)
    assert manifest is not None and manifest.number == 2
    old, stray = manifest_path(zoo, 1), zoo / "weights" / "stray.safetensors"
    stray.write_bytes(b"left behind by a crash")
    now = stage.clock.now

    def age(seconds: float) -> None:
        for path in zoo.rglob("*"):
            os.utime(path, (now - seconds, now - seconds))

    age(3600.0)
    stage.clock.now += TIDY_SECONDS
    stage.core.curate()
    assert old.exists() and stray.exists()  # somebody may be reading by the old manifest
    age(2 * 86400.0)
    stage.core.curate()
    assert stray.exists()  # it is not looked for at every turn
    stage.clock.now += TIDY_SECONDS
    stage.core.curate()
    assert not old.exists() and not stray.exists()
    assert latest_manifest(zoo) == manifest and len(list((zoo / "evidence").rglob("*.*"))) == 2


def admit_alone(stage: Stage, index: int) -> None:
    """The organizer checks it."""
    alice = stage.hosts[0] if stage.hosts else stage.host("alice")
    digest = alice.commit(index)
    stage.clock.now += 6
    stage.settle(lambda: alice.open(digest, index))
    stage.settle(lambda: alice.outcome(digest))


def test_done_bits_are_counted_by_shard(stage):
    from sqlalchemy import insert

    from coordinator.ledger.tables import results

    def put(connection) -> None:
        for assignment in (0, SHARD_SIZE - 1, SHARD_SIZE, 1_000_000 * SHARD_SIZE + 2):
            row = {"digest": assignment.to_bytes(32, "big"), "campaign": CAMPAIGN.digest, "assignment": assignment}
            row |= {"worker": "a", "epoch": 0, "received_at": 0.0, "networks": 1, "segments": 1}
            row |= {"phase": "admitted", "since": 0.0, "receipt": b"", "envelope": b""}
            connection.execute(insert(results).values(row))

    stage.core.stores.ledger.write(put)
    expected = {0: 1 | 1 << SHARD_SIZE - 1, 1: 1, 1_000_000: 0b100}
    assert stage.core.done_bits(CAMPAIGN.digest) == stage.core.touched_bits(CAMPAIGN.digest) == expected
