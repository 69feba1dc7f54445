"""A data set's way: from the organizer's disk to the coordinator, and from there to whoever asks."""

from typing import Any

import grpc
import pytest
from support.images import RECIPE, blobs

from coordinator.client import Organizer, issued_now
from coordinator.server.coordinator import Coordinator
from coordinator.server.directory import open_directory
from coordinator.server.serving import serve, stop
from peer.session.client import Client
from protocol.canonical import hexdigest
from protocol.errors import Refused, UsageError
from protocol.rpc import coordinator_pb2 as pb
from protocol.rpc.channel import open_channel
from protocol.rpc.coordinator_pb2_grpc import CoordinatorStub
from protocol.rpc.wire import to_wire
from protocol.tasks.datasets import Shelf
from protocol.trust.envelope import seal
from protocol.trust.identity import Identity
from protocol.trust.messages import UploadData


@pytest.fixture
def digest(tmp_path):
    """A data set on the organizer's own shelf."""
    return Shelf(tmp_path / "mine").put(blobs().to_bytes())


@pytest.fixture
def house(tmp_path):
    """A coordinator that serves, without a swarm."""
    core = Coordinator(open_directory(tmp_path / "host"))
    server, service, port = serve(core, "127.0.0.1:0")
    (tmp_path / "host" / "host.json").write_text(f'{{"address": "127.0.0.1:{port}"}}')
    yield core, f"127.0.0.1:{port}"
    stop(server, service, 0.1)
    core.close()


def upload(target: str, identity: Identity, data: bytes, digest: str | None = None, size: int | None = None) -> None:
    told = UploadData(digest=digest or hexdigest(data), size=len(data) if size is None else size)
    chunks = [pb.BlobChunk(data=data[i : i + 1000]) for i in range(0, len(data), 1000)]
    with open_channel(target, None) as channel:
        first = pb.BlobChunk(upload=to_wire(seal(identity, issued_now(told))))
        CoordinatorStub(channel).PutData(iter([first, *chunks]), timeout=10)


def test_only_the_organizer_uploads_and_only_what_he_announced(house, tmp_path, digest):
    core, target = house
    data = blobs().to_bytes()
    stranger = Identity.load_or_create(tmp_path / "stranger")
    attempts: tuple[tuple[Identity, bytes, dict[str, Any], str], ...] = (
        (stranger, data, {}, "signer"),
        (core.identity, data, {"size": 1 << 30}, "data-size"),
        (core.identity, data, {"size": len(data) - 1}, "data-size"),
        (core.identity, data[:-1], {"size": len(data), "digest": digest}, "data-size"),
        (core.identity, data, {"digest": "0" * 64}, "data-digest"),
        (core.identity, b"x" * 2000, {}, "data-magic"),
    )
    for identity, sent, changes, reason in attempts:
        with pytest.raises(grpc.RpcError) as refused:
            upload(target, identity, sent, **changes)
        assert reason in str(refused.value.details())
        assert list((tmp_path / "host" / "data").iterdir()) == []
    with Organizer(tmp_path / "host") as organizer:
        for _ in range(2):
            organizer.upload_data(digest, tmp_path / "mine" / digest)
    assert core.stores.datasets.shelf.find(digest).read_bytes() == data


def test_names_that_are_no_digest_open_no_file(house, tmp_path):
    core, target = house
    client = Client(target, Identity.load_or_create(tmp_path / "volunteer"), core.identity.host)
    for name in ("", "../identity", "identity", "digits8x8", "0" * 64, "A" * 64, "0" * 63 + "\n"):
        with pytest.raises(Refused) as refused:
            list(client.data(name, 0))
        assert refused.value.reason == "no-data"
    client.close()


def test_a_campaign_without_its_data_is_refused_and_says_what_to_do(tmp_path, house, digest):
    from protocol.recipes.campaign import load_campaign
    from protocol.trust.messages import SeedCampaign

    core, _ = house
    (tmp_path / "a.toml").write_text(RECIPE.format(name="a", data=digest, change=""))
    (tmp_path / "c.toml").write_text('name = "c"\n[[populations]]\nrecipe = "a.toml"\nseeds = "0:2"\n')
    campaign = load_campaign(tmp_path / "c.toml")
    assert campaign.data_sets == (digest,)
    with Organizer(tmp_path / "host") as organizer:
        with pytest.raises(UsageError, match="data add"):
            organizer.seed(SeedCampaign(campaign=campaign.exact))
        organizer.upload_data(digest, tmp_path / "mine" / digest)
        assert organizer.seed(SeedCampaign(campaign=campaign.exact)) == campaign.digest
        text = RECIPE.format(name="b", data=digest, change="").replace("labels = 3", "labels = 4")
        (tmp_path / "a.toml").write_text(text.replace("width = 3 ", "width = 4 "))
        with pytest.raises(UsageError, match="data-mismatch"):
            organizer.seed(SeedCampaign(campaign=load_campaign(tmp_path / "c.toml").exact))
    assert core.stores.campaigns.states() == {campaign.digest: "running"}
