"""What goes along with what is sent anyway: trace and weights with a result, start states with a heartbeat."""

import numpy as np
import pytest
from support.scripted_host import CAMPAIGN, Stage, skip_training

from protocol.errors import Refused
from protocol.rpc.wire import refusal
from protocol.trust.commitment import traces_to_bytes
from protocol.trust.messages import OPENED_BYTES_MAX, OPENED_MAX, Receipt

grpc = pytest.importorskip("grpc")


@pytest.fixture
def stage(tmp_path):
    stage = Stage(tmp_path / "host")
    stage.seed()
    yield stage
    stage.close()


def refused(call) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    found = refusal(caught.value)
    assert isinstance(found, Refused), caught.value
    return found.reason


def trace(host, index: int) -> bytes:
    return traces_to_bytes(host.traces(CAMPAIGN.assignment(index)))


def challenged(stage: Stage, host, index: int):
    """A result of this host that was drawn: (its digest, the request to open it)."""
    digest = host.commit(index)
    stage.clock.now += 6
    found = []
    stage.settle(lambda: found or found.extend(host.poll(digest).openings))
    return digest, found[0]


def test_trace_and_weights_are_taken_by_the_change_that_takes_the_result(stage):
    alice, ledger = stage.host("alice"), stage.core.stores.ledger
    alice.poll()
    envelope, before = alice.result(0), ledger.version
    assert isinstance(alice.submit(envelope, trace(alice, 0), alice.weights(0)), Receipt)
    assert ledger.version == before + 1, "one commit"
    assert alice.poll(envelope.digest).missing == ()
    blobs = stage.core.stores.blobs
    assert blobs.get(envelope.digest, "trace") == trace(alice, 0)
    assert blobs.get(envelope.digest, "weights") == alice.weights(0)
    assert alice.submit(envelope, trace(alice, 0), alice.weights(0)).result == envelope.digest, "again is harmless"


def test_weights_with_a_flipped_bit_that_go_along_void_the_result_and_nothing_of_them_stays(stage):
    alice = stage.host("alice")
    alice.poll()
    envelope, bad = alice.result(0), bytearray(alice.weights(0))
    bad[5] ^= 1
    assert refused(lambda: alice.submit(envelope, trace(alice, 0), bytes(bad))) == "weights-digest"
    assert alice.outcome(envelope.digest).outcome == "void" and stage.core.done_bits(CAMPAIGN.digest) == {}
    assert stage.refused() == {("weights-digest", alice.host): 1}
    assert not stage.core.stores.blobs.has(envelope.digest, "trace")
    assert isinstance(alice.submit(envelope, trace(alice, 0), alice.weights(0)), Receipt), "it may come again, sound"
    assert alice.poll(envelope.digest).missing == ()


def test_parts_of_another_length_are_refused_and_the_receipt_stands(stage):
    alice = stage.host("alice")
    alice.poll()
    envelope = alice.result(0)
    assert refused(lambda: alice.submit(envelope, trace(alice, 0)[:-1], alice.weights(0))) == "upload-size"
    assert {part for _, part in alice.poll(envelope.digest).missing} == {"trace", "weights"}
    assert isinstance(alice.submit(envelope, trace(alice, 0), alice.weights(0)), Receipt)


def test_start_states_go_along_with_a_heartbeat(stage):
    alice = stage.host("alice")
    digest, request = challenged(stage, alice, 0)
    states = alice.states(0, request.cells)
    visited = alice.visit(digest, opened=[(digest, states)])
    assert list(visited.refused_states) == [""]
    assert alice.poll(digest).openings == ()
    assert list(alice.visit(digest, opened=[(digest, states)]).refused_states) == [""], "again is harmless"
    stage.settle(lambda: alice.outcome(digest))
    assert alice.outcome(digest).outcome == "admitted"


def test_start_states_that_are_not_the_committed_ones_void_the_result(stage):
    alice = stage.host("alice")
    digest, request = challenged(stage, alice, 0)
    visited = alice.visit(digest, opened=[(digest, alice.states(0, request.cells, skip_training))])
    assert visited.refused_states[0].startswith("states-digest")
    assert alice.outcome(digest).outcome == "void"
    assert stage.refused() == {("states-digest", alice.host): 1}


def test_only_what_the_signed_heartbeat_names_is_looked_at(stage):
    """Bytes that somebody else puts beside a heartbeat must not void the result of its host."""
    alice = stage.host("alice")
    digest, request = challenged(stage, alice, 0)
    states, zeros = alice.states(0, request.cells), bytes(len(alice.states(0, request.cells)))
    for sent in ([zeros], [], [states, zeros]):
        assert refused(lambda sent=sent: alice.visit(digest, opened=[(digest, states)], sent=sent)) == "opened"
    many = [(digest, b"")] * (OPENED_MAX + 1)
    assert refused(lambda: alice.visit(digest, opened=many)) == "message-schema"
    large = [(digest, bytes(OPENED_BYTES_MAX + 1))]
    assert refused(lambda: alice.visit(digest, opened=large)) == "enclosed-size"
    assert alice.outcome(digest) is None and alice.poll(digest).openings == (request,)


def test_one_bad_opening_does_not_hold_up_the_others(stage):
    alice, bob = stage.host("alice"), stage.host("bob")
    digest, request = challenged(stage, alice, 0)
    other, asked = challenged(stage, bob, 1)
    mine, his = alice.states(0, request.cells), bob.states(1, asked.cells)
    told = alice.visit(digest, opened=[(other, his), (np.random.default_rng(5).bytes(32), mine), (digest, mine)])
    words = [word.partition(":")[0] for word in told.refused_states]
    assert words == ["upload-signer", "unknown-result", ""]
    assert alice.poll(digest).openings == () and bob.poll(other).openings == (asked,)
