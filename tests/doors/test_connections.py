"""TLS pinned to the organizer's key: who may answer, who may listen in, and what an address has to say."""

import socket
import threading
from collections.abc import Iterator

import grpc
import msgspec
import pytest
from support.scripted_host import Stage

from analysis.pull.source import HostSource
from coordinator.server.coordinator import Coordinator
from coordinator.server.directory import open_directory
from coordinator.server.serving import serve, stop
from peer.session.client import Away, Client
from protocol.errors import Refused, UsageError
from protocol.rpc import coordinator_pb2 as pb
from protocol.rpc.channel import is_loopback, open_channel, organizer_at
from protocol.rpc.coordinator_pb2_grpc import CoordinatorStub
from protocol.rpc.wire import open_welcome, to_wire
from protocol.trust.envelope import seal, unseal
from protocol.trust.identity import Identity
from protocol.trust.messages import Inbox


@pytest.fixture
def stage(tmp_path) -> Iterator[Stage]:
    stage = Stage(tmp_path / "host")
    stage.seed()
    yield stage
    stage.close()


@pytest.fixture
def target(stage) -> str:
    return f"127.0.0.1:{stage.port}"


class Tap:
    """A man in the middle: passes all bytes on, and keeps those that the host sends."""

    def __init__(self, port: int):
        self.port, self.heard = port, b""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.own_port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            host = socket.create_connection(("127.0.0.1", self.port))
            for source, sink in ((client, host), (host, client)):
                threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                self.heard += data
                sink.sendall(data)
        except OSError:
            pass
        finally:
            source.close()
            sink.close()


def test_who_has_not_the_organizers_key_cannot_answer(stage, target, tmp_path):
    """Rows 15 and 16 of the attacks: whoever sits at the address needs the key that the address names."""
    organizer, me = Identity.generate().host, Identity.generate()
    client = Client(target, me, organizer)
    with pytest.raises(Refused, match="organizer"):
        client.join("1")
    with pytest.raises(Away, match="key"):  # later on the network may be at fault: the volunteer keeps its work
        client.campaign("0" * 64)
    client.close()
    with HostSource(f"{target}/{organizer}") as source, pytest.raises(UsageError, match="new address"):
        source.greet()


def test_nobody_between_can_read(stage, target):
    """Rows 14, 17 and 18: what cannot be read cannot be changed, and not be sent again."""
    tap = Tap(stage.port)
    client = Client(f"127.0.0.1:{tap.own_port}", Identity.generate(), stage.core.identity.host)
    welcome = client.join("1")
    exact, _ = client.campaign(welcome.campaigns[0])
    client.close()
    tap.listener.close()
    assert len(tap.heard) > len(exact) and exact[:40] not in tap.heard
    assert welcome.campaigns[0].encode() not in tap.heard


def test_who_speaks_plainly_is_not_heard(stage, target):
    with grpc.insecure_channel(target) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/zooswarm.v1.Coordinator/Join")(b"", timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_on_this_machine_an_address_needs_no_name_elsewhere_it_does(stage, target):
    assert organizer_at(target) == stage.core.identity.host
    client = Client(target, Identity.generate())
    client.join("1")
    assert client.organizer == stage.core.identity.host
    client.close()
    for far in ("example.org:7750", "192.0.2.1:7750", "[2001:db8::1]:7750"):
        with pytest.raises(UsageError, match=r"12D3\.\.\."):
            open_channel(far, None)
    assert all(is_loopback(name) for name in ("127.0.0.9", "::1", "localhost"))
    assert not any(is_loopback(name) for name in ("10.0.0.1", "localhost.example.org", "0.0.0.0"))


def test_an_inbox_of_a_hundred_thousand_campaigns_is_refused():
    """Row 24: before anything of it is kept."""
    organizer = Identity.generate()
    inbox = Inbox(
        nonce=bytes(16),
        time=0.0,
        openings=(),
        missing=(),
        checks=(),
        outcomes=(),
        unknown=(),
        credit=0,
        clean_bundles=0,
        banned="",
        banned_hosts=(),
        campaigns=tuple((f"{number:064x}", "running") for number in range(100_000)),
    )
    few = msgspec.structs.replace(inbox, campaigns=inbox.campaigns[:1000])
    assert unseal(seal(organizer, few), Inbox) == few
    with pytest.raises(Refused, match="message-schema"):
        unseal(seal(organizer, inbox), Inbox)


def test_nobody_there_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    client = Client(f"127.0.0.1:{port}", Identity.generate())
    with pytest.raises(Away, match="nobody answers"):
        client.join("1")
    with pytest.raises(UsageError, match="zooswarm host"):
        HostSource(f"127.0.0.1:{port}")


def test_changed_bootstrap_addresses_are_refused_even_where_nothing_is_encrypted(tmp_path):
    """Row 16: who sits between swaps the addresses of the swarm; the signature over nonce and answer tells."""
    core = Coordinator(open_directory(tmp_path / "host", chain_length=256))
    door, service, port = serve(core, "127.0.0.1:0", lambda: ["/ip4/192.0.2.1/tcp/1"], plaintext=True)
    nonce = b"n" * 16
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        reply = CoordinatorStub(channel).Join(pb.JoinRequest(version="1", nonce=nonce))
    stop(door, service, 0.1)
    core.close()
    _, welcome = open_welcome(reply, nonce, core.identity.host)
    assert welcome.bootstrap == ("/ip4/192.0.2.1/tcp/1",)
    swapped = msgspec.structs.replace(welcome, bootstrap=("/ip4/192.0.2.66/tcp/1",))
    reply.payload = msgspec.msgpack.encode(swapped)
    with pytest.raises(Refused, match="signature"):
        open_welcome(reply, nonce, core.identity.host)
    forged = to_wire(seal(Identity.generate(), swapped))
    with pytest.raises(Refused, match="organizer"):
        open_welcome(forged, nonce, core.identity.host)
