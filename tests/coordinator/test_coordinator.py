"""The whole life of a result over real gRPC on loopback: honest hosts are admitted, every lie is refused by name."""

import msgspec
import numpy as np
import pytest
from support.scripted_host import CAMPAIGN, Stage, skip_training, trained

from coordinator.policy.actions import NewsKind
from protocol.canonical import sha256
from protocol.errors import Refused
from protocol.rpc import coordinator_pb2 as pb
from protocol.rpc.wire import chunks, open_welcome, refusal, to_wire
from protocol.trust.challenge import BeaconChains
from protocol.trust.commitment import traces_to_bytes
from protocol.trust.envelope import Envelope, seal, unseal
from protocol.trust.evidence import evidence_from_bytes, verify_evidence
from protocol.trust.identity import Identity
from protocol.trust.messages import Admission, Answer, BlobPart, ControlCampaign, Receipt, Result, SeedCampaign, Upload
from protocol.zoo.manifests import latest_manifest
from protocol.zoo.store import Store

grpc = pytest.importorskip("grpc")


@pytest.fixture
def stage(tmp_path):
    stage = Stage(tmp_path / "host")
    stage.seed()
    yield stage
    stage.close()


def refused(call) -> str:
    """The reason with which a call was refused."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    found = refusal(caught.value)
    assert isinstance(found, Refused), caught.value
    return found.reason


def admit(stage: Stage, worker, index: int, *checkers) -> bytes:
    digest = worker.commit(index)
    stage.clock.now += 6
    for checker in checkers:
        checker.poll()
    stage.settle(lambda: worker.open(digest, index))
    stage.settle(lambda: ([c.check() for c in checkers] and None) or worker.outcome(digest))
    outcome = worker.outcome(digest)
    assert outcome is not None and outcome.outcome == "admitted", outcome
    return digest


def zoo(stage: Stage) -> Store:
    manifest = latest_manifest(stage.path / "zoo")
    assert manifest is not None
    return Store(stage.path / "zoo", manifest)


def test_an_honest_result_is_checked_by_others_admitted_and_published(stage):
    alice, bob, carol = (stage.host(name) for name in ("alice", "bob", "carol"))
    alice.poll()
    digest = admit(stage, alice, 0, bob, carol)
    inbox = alice.poll(digest)
    assert (inbox.credit, inbox.clean_bundles) == (12, 1)  # two networks of six segments
    assert stage.core.curate(force=True) == 2
    store = zoo(stage)
    table = store.catalogue().to_pylist()
    assert {row["seed"] for row in table} == {0, 1} and {row["host"] for row in table} == {alice.host}
    for row in table:
        verified = verify_evidence(
            evidence_from_bytes(store.evidence(row["evidence"])), CAMPAIGN, BeaconChains(), stage.core.identity.host
        )
        assert set(row["checkers"]) == set(verified.checkers[row["seed"]]) <= {bob.host, carol.host}
        assert row["checkers"]
    weights_NP = store.gather([row["shard"] for row in table], np.array([row["row"] for row in table]))
    for row, params in zip(table, weights_NP, strict=True):
        assert (params == trained(CAMPAIGN.assignment(0))[row["seed"]][-1].state.params).all()
    assert stage.core.curate(force=True) == 0
    stage.core.stores.ledger.write(lambda connection: None)  # what was posted is done
    assert not stage.core.stores.blobs.results()
    assert not stage.refused()


def test_a_campaign_is_complete_when_all_is_admitted_and_the_organizer_checks_alone_if_nobody_else_does(stage):
    alice = stage.host("alice")
    for index in range(4):
        admit(stage, alice, index)
    status = stage.core.status()
    assert status.campaigns[0].state == "publishing" and status.networks_by_class == {"xor": 8}
    assert stage.core.curate() == 8  # at once: all is admitted
    assert stage.core.status().campaigns[0].state == "complete"
    assert stage.core.all_complete() and NewsKind.COMPLETE in stage.kinds()
    checkers = {host for row in zoo(stage).catalogue(["checkers"]).to_pylist() for host in row["checkers"]}
    assert checkers == {stage.core.identity.host}
    assert refused(lambda: control(stage, "pause")) == "campaign-state"


def control(stage, action, identity=None):
    message = stage.issued(ControlCampaign(campaign=CAMPAIGN.digest, action=action))
    stub = stage.host("organizer").stub
    return stub.ControlCampaign(to_wire(seal(identity or stage.core.identity, message))).state


def test_only_the_organizer_seeds_and_controls(stage):
    mallory = stage.host("mallory")
    assert control(stage, "pause") == "paused"
    assert ("paused" in dict(mallory.poll().campaigns).values()) and control(stage, "resume") == "running"
    assert refused(lambda: control(stage, "cancel", mallory.identity)) == "signer"
    seeding = mallory.sealed(SeedCampaign(campaign=CAMPAIGN.exact))
    assert refused(lambda: mallory.stub.SubmitCampaign(seeding)) == "signer"
    stage.seed()  # again is harmless
    assert stage.kinds().count(NewsKind.STARTED) == 1
    assert stage.refused() == {("signer", mallory.host): 2}


def test_the_same_result_again_gets_the_same_receipt_and_anothers_is_a_duplicate(stage):
    alice, bob = stage.host("alice"), stage.host("bob")
    first = alice.submit(alice.result(0))
    stage.clock.now += 1
    assert alice.submit(alice.result(0)) == first
    assert isinstance(bob.submit(bob.result(0)), Receipt)  # a commitment alone takes nothing
    assert stage.core.done_bits(CAMPAIGN.digest) == {}
    alice.put(first.result, "trace", traces_to_bytes(alice.traces(CAMPAIGN.assignment(0))))
    alice.put(first.result, "weights", alice.weights(0))
    assert stage.core.done_bits(CAMPAIGN.digest) == {0: 0b0001}
    assert bob.outcome(bob.result(0).digest) is None and len(bob.poll().missing) == 2  # kept, should alice's fall
    assert isinstance(bob.submit(bob.result(0)), Receipt)
    carol, dave = stage.host("carol"), stage.host("dave")
    assert isinstance(carol.submit(carol.result(0)), Receipt)
    reply = dave.submit(dave.result(0))
    assert isinstance(reply, Admission) and reply.outcome == "duplicate", "few are kept"
    assert alice.outcome(first.result) is None and not stage.refused()


def test_a_second_different_result_convicts_bans_and_frees_the_assignments(stage):
    alice, bob = stage.host("alice"), stage.host("bob")
    digest, other = alice.commit(0), alice.commit(1)
    reply = alice.submit(alice.result(0, backend="another"))  # the same work: no crime
    assert isinstance(reply, Admission) and reply.outcome == "duplicate"
    reply = alice.submit(alice.result(0, alice.traces(CAMPAIGN.assignment(0), skip_training)))
    assert isinstance(reply, Admission) and reply.outcome == "convicted"
    assert stage.core.done_bits(CAMPAIGN.digest) == {}
    inbox = alice.poll(digest, other)
    assert "second" in inbox.banned and alice.host in bob.poll().banned_hosts
    assert {o.outcome for o in (alice.outcome(digest), alice.outcome(other)) if o} == {"convicted", "void"}
    assert refused(lambda: alice.submit(alice.result(2))) == "banned"
    assert refused(lambda: alice.put(digest, "trace", b"")) == "banned"
    assert isinstance(bob.submit(bob.result(0)), Receipt)


def test_weights_with_a_flipped_bit_are_refused_by_name_and_the_result_is_void(stage):
    alice = stage.host("alice")
    digest = alice.result(0).digest
    alice.submit(alice.result(0))
    data = bytearray(alice.weights(0))
    data[5] ^= 1
    assert refused(lambda: alice.put(digest, "weights", bytes(data))) == "weights-digest"
    assert alice.outcome(digest).outcome == "void" and stage.core.done_bits(CAMPAIGN.digest) == {}
    assert stage.refused() == {("weights-digest", alice.host): 1}
    assert stage.core.status().hosts[0].faults == 1
    alice.submit(alice.result(0))  # the commitment itself was not shown to be wrong: it may come again, sound
    alice.put(digest, "weights", alice.weights(0))


def test_weights_that_are_not_finite_are_refused_though_their_digests_fit(stage):
    alice = stage.host("alice")
    traces = alice.traces(CAMPAIGN.assignment(0))
    bad = np.full(len(alice.weights(0)) // 4, np.nan, "<f4").tobytes()
    one = sha256(bad[: len(bad) // 2])
    traces = [(*t[:-1], msgspec.structs.replace(t[-1], params_digest=one)) for t in traces]
    envelope = alice.result(0, traces)
    alice.submit(envelope)
    assert refused(lambda: alice.put(envelope.digest, "weights", bad)) == "weights-values"
    assert alice.outcome(envelope.digest).outcome == "void"


def test_skipped_training_is_convicted_banned_and_trained_by_another(stage):
    mallory, bob, carol = (stage.host(name) for name in ("mallory", "bob", "carol"))
    fake = mallory.traces(CAMPAIGN.assignment(0), skip_training)
    digest = mallory.commit(0, fake)
    bob.poll()
    carol.poll()
    stage.settle(lambda: mallory.open(digest, 0, skip_training))
    stage.settle(lambda: (bob.check(), carol.check()) and mallory.outcome(digest))
    outcome = mallory.outcome(digest)
    assert outcome is not None and outcome.outcome == "convicted" and "replay disagrees" in outcome.reason
    assert mallory.poll().banned and refused(lambda: mallory.submit(mallory.result(1))) == "banned"
    assert stage.core.done_bits(CAMPAIGN.digest) == {}
    admit(stage, bob, 0, carol)
    assert stage.core.curate(force=True) == 2


def test_a_false_accusation_is_counted_and_a_repeated_liar_is_not_drawn(stage):
    alice, bob = stage.host("alice"), stage.host("bob")

    def accuse(answer: Answer) -> Answer:
        cells = tuple(msgspec.structs.replace(cell, params_digest=bytes(32)) for cell in answer.cells)
        return msgspec.structs.replace(answer, cells=cells)

    for index in range(3):
        digest = alice.commit(index)
        stage.clock.now += 6
        bob.poll()
        stage.settle(lambda digest=digest, index=index: alice.open(digest, index))
        stage.settle(lambda digest=digest: (bob.check(accuse) and None) or alice.outcome(digest))
        assert alice.outcome(digest).outcome == "admitted"
    assert (
        stage.refused() == {("false-accusation", bob.host): 3} and stage.kinds().count(NewsKind.FALSE_ACCUSATION) == 3
    )
    bob.poll()
    admit(stage, alice, 3)  # without bob
    assert stage.core.curate(force=True) == 8


def test_nobody_hands_in_or_uploads_as_somebody_else(stage):
    alice, mallory = stage.host("alice"), stage.host("mallory")
    digest = alice.commit(0)
    stolen = alice.result(1)
    forged = Envelope(kind=stolen.kind, signer=mallory.host, payload=stolen.payload, signature=stolen.signature)
    assert refused(lambda: mallory.submit(forged)) == "signature"
    assert refused(lambda: mallory.put(digest, "states", b"")) == "upload-signer"
    copied = seal(mallory.identity, unseal(stolen, Result))
    mallory.submit(copied)  # only the trace shows that the commitment is not the signer's own
    stolen_trace = b"".join(leaf.to_bytes() for t in alice.traces(CAMPAIGN.assignment(1)) for leaf in t)
    assert refused(lambda: mallory.put(copied.digest, "trace", stolen_trace)) == "trace-root"
    assert stage.refused() == {
        ("signature", ""): 1,  # nobody is blamed for a forged signature
        ("upload-signer", mallory.host): 1,
        ("trace-root", mallory.host): 1,
    }


def test_bad_uploads_cost_one_counted_refusal_and_nothing_else(stage):
    alice = stage.host("alice")
    envelope = alice.result(0)
    alice.submit(envelope)
    digest, good = envelope.digest, alice.weights(0)
    tries = {
        "upload-size": lambda: alice.put(digest, "weights", good + b"x"),
        "blob-size": lambda: alice.put(digest, "weights", good[:-1], size=len(good)),
        "unknown-result": lambda: alice.put(b"?" * 32, "weights", good),
        "upload-first": lambda: alice.stub.PutBlob(iter([pb.BlobChunk(data=b"hello")])),
        "upload-order": lambda: alice.put(digest, "states", b""),
        "no-blob": lambda: list(alice.stub.GetBlob(pb.BlobRequest(result=digest, part="trace"))),
    }
    for reason, call in tries.items():
        assert refused(call) == reason
    too_long = seal(alice.identity, Upload(result=digest, part=BlobPart.WEIGHTS, size=len(good)))
    assert refused(lambda: alice.stub.PutBlob(chunks(good + b"x", too_long))) == "blob-size"
    counted = stage.refused()
    assert counted[("blob-size", alice.host)] == 2 and sum(counted.values()) == 7
    alice.put(digest, "weights", good)
    assert alice.outcome(digest) is None and stage.core.status().hosts[0].faults == 0


@pytest.mark.parametrize("payload", [b"", b"\xff" * 100, b"\x81\xa1a", b"\x93\x01\x02\x03", b"{}", b"\xc1" * 70_000])
def test_garbage_is_refused_on_every_call(stage, payload):
    alice = stage.host("alice")
    before = stage.core.status().campaigns
    calls = {
        "heartbeat": lambda signed: alice.stub.Poll(pb.Visit(heartbeat=signed)),
        "result": lambda signed: alice.stub.SubmitResult(pb.Submission(result=signed)),
        "seed-campaign": alice.stub.SubmitCampaign,
        "upload": lambda signed: alice.stub.PutBlob(iter([pb.BlobChunk(upload=signed)])),
    }
    for kind, call in calls.items():
        signature = alice.identity.sign(f"message/{kind}", payload)
        signed = Envelope(kind=kind, signer=alice.host, payload=payload, signature=signature)
        assert refused(lambda call=call, signed=signed: call(to_wire(signed))) in (
            "message-schema",
            "message-size",
            "signer",
        )
        assert refused(lambda call=call: call(pb.Signed(kind="x" * 100))) == "envelope"
    assert sum(stage.refused().values()) == 2 * len(calls)
    assert stage.core.status().campaigns == before


def test_answers_come_only_from_the_seated_checker(stage):
    alice, bob, mallory = stage.host("alice"), stage.host("bob"), stage.host("mallory")
    digest = alice.commit(0)
    bob.poll()
    stage.settle(lambda: alice.open(digest, 0))
    stage.settle(lambda: bob.poll().checks)
    request = bob.poll().checks[0]
    answer = bob.replay(request)
    assert mallory.answer(seal(mallory.identity, answer)) == "not-seated"
    other = msgspec.structs.replace(answer, slot=63)
    assert bob.answer(seal(bob.identity, other)) == "answer-slot"
    short = msgspec.structs.replace(answer, cells=())
    assert bob.answer(seal(bob.identity, short)) == "answer-task"
    assert mallory.answer(seal(bob.identity, answer)) == "answer-signer"
    assert bob.answer(seal(bob.identity, answer)) == ""
    assert bob.answer(seal(bob.identity, answer)) == "", "again is harmless"
    stage.settle(lambda: alice.outcome(digest))
    assert alice.outcome(digest).outcome == "admitted"


def test_a_silent_checker_is_replaced_by_the_organizer(stage):
    alice, bob = stage.host("alice"), stage.host("bob")
    digest = alice.commit(0)
    bob.poll()
    stage.settle(lambda: alice.open(digest, 0))
    stage.settle(lambda: bob.poll().checks)
    stage.clock.now += 21  # past policy.answer_seconds
    stage.settle(lambda: alice.outcome(digest))
    assert alice.outcome(digest).outcome == "admitted" and NewsKind.SILENT in stage.kinds()


def test_a_result_that_is_never_opened_is_void_without_fault_and_keeps_its_challenge(stage):
    alice = stage.host("alice")
    digest = alice.commit(0)
    stage.settle(lambda: alice.poll(digest).openings)
    asked = alice.poll(digest).openings
    stage.clock.now += 61
    stage.settle(lambda: alice.outcome(digest))
    assert alice.outcome(digest).outcome == "void" and stage.core.status().hosts[0].faults == 0
    assert stage.core.done_bits(CAMPAIGN.digest) == {}
    alice.commit(0)  # handed in again: nobody gets a second throw of the dice
    stage.settle(lambda: alice.poll(digest).openings)
    assert alice.poll(digest).openings == asked
    assert alice.open(digest, 0)
    stage.settle(lambda: alice.outcome(digest))
    assert alice.outcome(digest).outcome == "admitted"


def test_states_that_are_not_the_committed_ones_void_the_result_and_two_faults_ban(stage):
    alice = stage.host("alice")
    for index in range(2):
        digest = alice.commit(index)
        stage.clock.now += 6
        stage.settle(lambda digest=digest: alice.poll(digest).openings)
        assert refused(lambda d=digest, i=index: alice.open(d, i, skip_training)) == "states-digest"
        assert alice.outcome(digest).outcome == "void"
    assert "2 faults" in alice.poll().banned


def test_a_restart_in_every_phase_goes_on_exactly(stage):
    alice, bob = stage.host("alice"), stage.host("bob")
    envelope = alice.result(0)
    receipt = alice.submit(envelope)
    digest = envelope.digest
    stage.restart()
    assert alice.submit(envelope) == receipt
    assert alice.poll(digest).missing == ((digest, "trace"), (digest, "weights"))
    alice.commit(0)
    stage.restart()
    assert alice.poll(digest).missing == ()
    stage.settle(lambda: alice.poll(digest).openings)
    asked = alice.poll(digest).openings
    stage.restart()
    assert alice.poll(digest).openings == asked
    assert alice.open(digest, 0)
    stage.settle(lambda: alice.outcome(digest))
    stage.restart()
    assert stage.core.curate(force=True) == 2
    forget_publishing(stage)
    stage.restart()  # killed after the zoo was written and before the ledger knew
    stage.core.curate(force=True)
    assert zoo(stage).manifest.networks == 2 and bob.poll(digest).unknown == ()
    assert stage.core.status().campaigns[0].networks_published == 2


def forget_publishing(stage):
    """The ledger as it was before the curator's mark; the blobs are still there then."""
    from sqlalchemy import update

    from coordinator.ledger.tables import results

    keep = stage.core.stores.blobs.remove
    stage.core.stores.blobs.remove = lambda *_: None
    try:
        stage.core.stores.ledger.write(lambda c: c.execute(update(results).values(published=0)))
    finally:
        stage.core.stores.blobs.remove = keep
    host = stage.hosts[0]
    digest = host.result(0).digest
    stage.core.stores.blobs.put(digest, "weights", host.weights(0))
    traces = host.traces(CAMPAIGN.assignment(0))
    stage.core.stores.blobs.put(digest, "trace", b"".join(leaf.to_bytes() for t in traces for leaf in t))


def test_a_zoo_that_lost_its_last_manifest_is_filled_again(stage):
    alice = stage.host("alice")
    admit(stage, alice, 0)
    removed = stage.core.stores.blobs.remove
    stage.core.stores.blobs.remove = lambda *_: None  # killed between the mark and the removal of the blobs
    assert stage.core.curate(force=True) == 2
    stage.core.stores.blobs.remove = removed
    for manifest in (stage.path / "zoo" / "manifests").iterdir():
        manifest.unlink()
    stage.restart()
    assert stage.core.curate(force=True) == 2 and zoo(stage).manifest.networks == 2


def test_a_blob_that_our_disk_loses_is_asked_for_again(stage):
    alice = stage.host("alice")
    digest = alice.commit(0)
    stage.settle(lambda: alice.poll(digest).openings)
    stage.core.stores.blobs.put(digest, "weights", b"damaged")
    stage.core.stores.ledger.write(lambda connection: None)
    assert alice.open(digest, 0)
    stage.settle(lambda: alice.poll(digest).missing)
    alice.commit(0)
    assert alice.open(digest, 0)
    stage.settle(lambda: alice.outcome(digest))
    assert alice.outcome(digest).outcome == "admitted"


def test_a_full_disk_is_unavailable_not_refused_and_nothing_is_lost(stage, monkeypatch):
    alice = stage.host("alice")

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("coordinator.checking.blobs.SMALL_BYTES", 0)
        patch.setattr("coordinator.checking.blobs.write_atomic", full)
        with pytest.raises(grpc.RpcError) as caught:
            alice.commit(0)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE and "No space left" in caught.value.details()
    assert str(stage.path) not in caught.value.details() and not stage.refused()
    digest = alice.commit(0)
    stage.settle(lambda: alice.open(digest, 0))
    stage.settle(lambda: alice.outcome(digest))
    with monkeypatch.context() as patch:
        patch.setattr(stage.core.curator.writer, "publish", full)
        with pytest.raises(OSError, match="cannot write the zoo"):
            stage.core.curate(force=True)
    assert stage.core.curate(force=True) == 2


def test_join_and_status_answer_anybody(stage):
    alice = stage.host("alice\x00")
    assert refused(lambda: alice.poll()) == "message-schema"
    organizer, nonce = stage.core.identity.host, b"n" * 16
    reply = alice.stub.Join(pb.JoinRequest(version="1", nonce=nonce))
    signer, welcome = open_welcome(reply, nonce, organizer)
    assert signer == organizer and welcome.campaigns == (CAMPAIGN.digest,) and welcome.time == stage.clock.now
    assert refused(lambda: alice.stub.Join(pb.JoinRequest(version="1"))) == "nonce"
    with pytest.raises(Refused, match="welcome"):
        open_welcome(reply, b"m" * 16, organizer)
    with pytest.raises(Refused, match="organizer"):
        open_welcome(reply, nonce, alice.host)
    status = msgspec.json.decode(next(iter(alice.stub.WatchStatus(pb.StatusRequest()))).json)
    assert status["campaigns"][0]["pending"] == 4
    assert refused(lambda: alice.stub.GetCampaign(pb.CampaignRequest(digest="0" * 64))) == "unknown-campaign"


def test_a_second_coordinator_and_damaged_files_are_one_clear_line(stage, tmp_path):
    from coordinator.server.directory import open_directory
    from protocol.errors import UsageError

    with pytest.raises(UsageError, match="another coordinator"):
        open_directory(stage.path)
    for name, text in (("identity", "identity"), ("beacon", "beacon"), ("ledger.sqlite", "ledger")):
        path = tmp_path / name
        path.mkdir()
        (path / name).write_bytes(b"rubbish" * 100)
        with pytest.raises(UsageError, match=text):
            open_directory(path, chain_length=16)
    assert Identity.load_or_create(stage.path / "identity").host == stage.core.identity.host
    assert (stage.path / "beacon").stat().st_mode & 0o777 == 0o600
