"""Two campaigns with the same networks: when the bundle in the zoo is taken back, the other's takes its place."""

import msgspec
import pytest
from sqlalchemy import select
from support.ring import campaign_of, ring_of, row_of
from support.room import Room
from support.scripted_host import ScriptedHost, skip_training

from coordinator.ledger.tables import networks, results
from coordinator.policy.phases import Phase
from coordinator.zoo.curator import Curator
from protocol.trust.envelope import seal
from protocol.trust.verdict import make_result
from protocol.zoo.manifests import latest_manifest
from protocol.zoo.store import Store

FIRST = campaign_of()
DOUBLE = msgspec.structs.replace(FIRST, name="again")


@pytest.fixture
def room(tmp_path):
    room = Room(tmp_path, FIRST)
    room.seed()
    room.campaign = DOUBLE
    room.seed()
    return room


def equivocate(room: Room, host: ScriptedHost, index: int) -> None:
    """A second, different result: the host is convicted, and what it has in escrow is taken back."""
    honest = make_result(room.campaign.assignment(index), room.traces(index), host.host, "another")
    second = msgspec.structs.replace(honest, commitment=bytes(32))
    room.core.handlers.submit_result(seal(host.identity, second))
    assert room.poll(host).banned


def in_zoo(room: Room) -> dict[int, tuple[str, str]]:
    """Seed -> (host, campaign), with every weight read."""
    zoo = room.core.path / "zoo"
    manifest = latest_manifest(zoo)
    assert manifest is not None
    store = Store(zoo, manifest)
    table = store.catalogue(["seed", "host", "campaign", "shard", "row"])
    store.gather(table["shard"].to_pylist(), table["row"].to_numpy())
    named = zip(table["host"].to_pylist(), table["campaign"].to_pylist(), strict=True)
    return dict(zip(table["seed"].to_pylist(), named, strict=True))


def check_registered(room: Room) -> None:
    """Every network of an admitted bundle is registered, to one that is admitted."""
    with room.directory.stores.ledger.read() as connection:
        found = {row.seed: row.result for row in connection.execute(select(networks))}
        admitted = connection.execute(select(results).where(results.c.phase == Phase.ADMITTED)).all()
    assert set(found) == {seed for row in admitted for seed in FIRST.assignment(row.assignment).seeds}
    assert set(found.values()) <= {row.digest for row in admitted}


def admit_both(room: Room, *, curate: bool = True) -> tuple[ScriptedHost, ScriptedHost, bytes]:
    """Alice's bundle of the one campaign is in the zoo, and bob's of the other stands behind it."""
    alice, bob = ScriptedHost("alice", 1), ScriptedHost("bob", 1)
    room.campaign = FIRST
    room.admit(alice, 0)
    if curate:
        room.core.curate(force=True)
    room.campaign = DOUBLE
    digest = room.admit(bob, 0)
    if curate:
        room.core.curate(force=True)
        assert in_zoo(room) == dict.fromkeys((0, 1), (alice.host, FIRST.digest))
    return alice, bob, digest


@pytest.mark.parametrize("audited", [False, True])
@pytest.mark.parametrize("restart", [False, True])
def test_when_a_bundle_is_taken_back_its_double_takes_its_place(room, audited, restart):
    alice, bob, _ = admit_both(room)
    if audited:
        room.audit()
    if restart:
        room.start()
    room.campaign = FIRST
    equivocate(room, alice, 0)
    room.core.curate(force=True)
    assert in_zoo(room) == dict.fromkeys((0, 1), (bob.host, DOUBLE.digest))
    assert room.poll(bob).credit == 12
    check_registered(room)
    assert room.core.curate(force=True) == 0 and not room.core.curator.waiting(), "once is enough"


def test_what_a_kill_leaves_half_done_is_finished_at_the_next_start(room, monkeypatch):
    alice, bob, _ = admit_both(room)
    room.campaign = FIRST
    equivocate(room, alice, 0)
    with monkeypatch.context() as patch:
        patch.setattr(Curator, "_hand_over", lambda self: 0)  # killed in between
        room.core.curate(force=True)
    assert in_zoo(room) == {}
    room.start()
    room.core.curate(force=True)
    assert in_zoo(room) == dict.fromkeys((0, 1), (bob.host, DOUBLE.digest))
    check_registered(room)


def test_a_bundle_that_is_taken_back_before_it_was_published_leaves_its_double_registered(room):
    alice, bob, _ = admit_both(room, curate=False)
    room.campaign = FIRST
    equivocate(room, alice, 0)
    room.core.curate(force=True)
    assert in_zoo(room) == dict.fromkeys((0, 1), (bob.host, DOUBLE.digest))
    check_registered(room)


def test_a_fake_that_an_audit_finds_gives_its_place_to_the_true_double(room):
    room.campaign = FIRST
    worker, bob, carol = ring_of(room)
    fake = room.admit(worker, 3, bob, carol, lie=skip_training)
    room.core.curate(force=True)
    room.campaign, dave = DOUBLE, ScriptedHost("dave", 1)
    room.clock.now += 40.0
    room.admit(dave, 3)
    room.core.curate(force=True)
    assert in_zoo(room)[6] == (worker.host, FIRST.digest)
    room.audit()
    assert row_of(room, fake).phase == Phase.RETRACTED
    room.core.curate(force=True)
    assert in_zoo(room) == dict.fromkeys((6, 7), (dave.host, DOUBLE.digest))
    check_registered(room)


def test_a_double_that_is_taken_back_itself_takes_nothing_with_it(room):
    alice, bob, digest = admit_both(room)
    equivocate(room, bob, 0)
    room.core.curate(force=True)
    assert in_zoo(room) == dict.fromkeys((0, 1), (alice.host, FIRST.digest))
    assert digest not in room.directory.stores.blobs.results()
    check_registered(room)


def test_only_doubles_are_kept_on_the_disk(room):
    _, _, digest = admit_both(room)
    room.audit()
    room.start()
    assert room.directory.stores.blobs.results() == {digest}
