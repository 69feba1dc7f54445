"""The trust protocol from commitment to evidence, on a really trained bundle; then every lie we could think of."""

import random

import msgspec
import pytest

from coordinator.policy.standing import rank
from protocol.canonical import sha256
from protocol.engine import ENGINE, params_from_bytes, state_from_bytes
from protocol.engine.select import select_engine
from protocol.engine.training import train_networks
from protocol.errors import Refused
from protocol.recipes.campaign import Campaign, Policy, Population
from protocol.recipes.layers import Gru, Linear
from protocol.recipes.recipe import Network, Recipe, Training
from protocol.tasks.kinds import MachineTask
from protocol.trust.admission import Outcome, decide
from protocol.trust.challenge import (
    LINKS_MAX,
    BeaconChain,
    BeaconChains,
    beacon_link,
    challenge,
    check_link,
    draw_cells,
    rank_checkers,
)
from protocol.trust.commitment import (
    LEAF_BYTES,
    bundle_leaves,
    check_proof,
    context,
    leaf_of,
    merkle_levels,
    merkle_path,
    merkle_root,
    network_result,
    prove,
    root_from_path,
    traces_from_bytes,
    traces_to_bytes,
)
from protocol.trust.envelope import envelope_from_bytes, seal, unseal
from protocol.trust.evidence import Evidence, evidence_from_bytes, verify_evidence
from protocol.trust.identity import Identity, public_key
from protocol.trust.messages import (
    Admission,
    AdmissionOutcome,
    Answer,
    CampaignManifest,
    Cell,
    Draw,
    Receipt,
    Result,
)
from protocol.trust.openings import check_checker, make_openings, open_check_request
from protocol.trust.roster import Entry, Roster
from protocol.trust.spot_check import open_states, spot_check
from protocol.trust.verdict import Verdict, judge, make_result, open_result, open_traces, segments_of

RECIPE = Recipe(
    name="tiny",
    label="xor",
    task=MachineTask(machine="SimpleXORMachine", length=4, sequences=64, held_out=16),
    network=Network(layers=(Gru(width=3), Linear(width=20))),
    training=Training(learning_rate=0.02, batch=8, max_steps=90, segment_steps=20),
)
POLICY = Policy(probation_checkers=3, probation_cells=2, checkers=2, cells=2, cells_per_network=1)
CAMPAIGN = Campaign(name="test", populations=(Population(recipe=RECIPE, count=5, bundle=5),), policy=POLICY)
CHAIN = 64


class Scene:
    """One organizer, one worker, three checkers, one trained bundle."""

    def __init__(self) -> None:
        self.engine = select_engine("numpy")
        self.organizer, self.worker = Identity.generate(), Identity.generate()
        self.checkers = [Identity.generate() for _ in range(3)]
        self.assignment = CAMPAIGN.assignment(0)
        self.boundaries: dict[int, list] = {seed: [] for seed in self.assignment.seeds}
        for seed, boundary in train_networks(self.engine, RECIPE, self.assignment.seeds, 5):
            self.boundaries[seed].append(boundary)
        self.traces = [
            tuple(leaf_of(b.state, b.loss, b.held_out_loss) for b in self.boundaries[seed])
            for seed in self.assignment.seeds
        ]
        self.weights = [self.boundaries[seed][-1].state.params for seed in self.assignment.seeds]
        self.anchor = beacon_link(b"secret", CHAIN, 0)

    def result(self, traces=None, worker: Identity | None = None, **changes) -> Result:
        traces = traces or self.traces
        result = make_result(self.assignment, traces, (worker or self.worker).host, "numpy")
        return msgspec.structs.replace(result, **changes)

    def evidence(self, traces=None) -> Evidence:
        """What the coordinator would file, checked by whoever the draw seats."""
        traces = traces or self.traces
        envelope = seal(self.worker, self.result(traces))
        receipt = seal(self.organizer, Receipt(result=envelope.digest, epoch=6, received_at=1.0))
        link = beacon_link(b"secret", CHAIN, 7)
        roster = Roster(Entry(host=c.host, weight=w, tag=bytes([w] * 8)) for w, c in enumerate(self.checkers, 1))
        draw = Draw(
            result=envelope.digest,
            link=link,
            roster_root=roster.root,
            roster_total=roster.total,
            roster_count=roster.count,
            standing=False,
            worker_tag=bytes(8),
        )
        drawn = challenge(link, envelope.digest)
        tasks = draw_cells(POLICY, False, drawn, [len(t) - 1 for t in traces])
        ranked = rank(drawn, roster, self.worker.host, draw.worker_tag, len(tasks))
        seats = dict(zip(range(1, len(tasks)), ranked, strict=False))  # the first slot is the organizer's
        by_host = {c.host: c for c in self.checkers}
        signers = {slot: by_host[seat.host] for slot, seat in seats.items()}
        answers = tuple(
            seal(signers.get(slot, self.organizer), self.answer(envelope.digest, slot, task))
            for slot, task in enumerate(tasks)
        )
        admission = Admission(result=envelope.digest, outcome=AdmissionOutcome.ADMITTED, reason="", credit=1)
        manifest = CampaignManifest(campaign=CAMPAIGN.digest, beacon_anchor=self.anchor, engine=ENGINE, issued_at=0.0)
        return Evidence(
            manifest=seal(self.organizer, manifest),
            result=envelope,
            traces=traces_to_bytes(list(traces)),
            receipt=receipt,
            draw=seal(self.organizer, draw),
            answers=answers,
            replays=(),
            admission=seal(self.organizer, admission),
            seats=seats,
        )

    def answer(self, digest: bytes, slot: int, task):
        blob = b"".join(self.state(cell).to_bytes() for cell in task.opened)
        states = open_states(RECIPE, blob, task.opened)
        return spot_check(self.engine, self.assignment, digest, slot, task, states, self.weights)

    def state(self, cell: Cell):
        return self.boundaries[self.assignment.seeds[cell.network]][cell.segment].state


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene()


# -- commitments --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13])
def test_every_leaf_of_a_merkle_tree_opens_and_nothing_else_does(count):
    hashes = [sha256(bytes([i])) for i in range(count)]
    root = merkle_root(hashes)
    for i in range(count):
        path = merkle_path(merkle_levels(hashes), i)
        assert root_from_path(hashes[i], i, count, path) == root
        assert root_from_path(sha256(b"other"), i, count, path) != root
        with pytest.raises(Refused):
            root_from_path(hashes[i], i, count, (*path, root))
        if path:
            with pytest.raises(Refused):
                root_from_path(hashes[i], i, count, path[:-1])


def levels_of(scene, ctx: bytes) -> list[list[bytes]]:
    """The bundle tree of what the worker trained."""
    pairs = zip(scene.assignment.seeds, scene.traces, strict=True)
    return merkle_levels(bundle_leaves(ctx, [network_result(ctx, *pair) for pair in pairs]))


def test_a_proof_shows_one_leaf_of_one_network_of_one_worker(scene):
    ctx = context(CAMPAIGN.digest, 0, scene.worker.host)
    levels = levels_of(scene, ctx)
    (root,) = levels[-1]
    proof, leaf = prove(ctx, scene.assignment.seeds[2], scene.traces[2], 2, 3, levels), scene.traces[2][3]
    check_proof(root, ctx, scene.assignment.seeds, 90, 6, (2, 3), leaf, proof)
    other = context(CAMPAIGN.digest, 0, scene.checkers[0].host)
    for ctx_, at, leaf_ in (
        (other, (2, 3), leaf),
        (ctx, (1, 3), leaf),
        (ctx, (2, 2), leaf),
        (ctx, (2, 3), scene.traces[2][2]),
    ):
        with pytest.raises(Refused):
            check_proof(root, ctx_, scene.assignment.seeds, 90, 6, at, leaf_, proof)


def test_a_start_states_path_does_not_tell_the_end_states_digests(scene):
    """The sibling of an even leaf *is* the next leaf's hash; an answer has to name the digests inside it."""
    ctx = context(CAMPAIGN.digest, 0, scene.worker.host)
    proof = prove(ctx, scene.assignment.seeds[0], scene.traces[0], 0, 2, levels_of(scene, ctx))
    end = scene.traces[0][3]
    assert all(end.params_digest not in node and end.moments_digest not in node for node in proof.trace_path)


def test_traces_have_one_legal_length(scene):
    data = traces_to_bytes(scene.traces)
    counts = [len(t) for t in scene.traces]
    assert traces_from_bytes(data, counts) == scene.traces
    for wrong in (data[:-1], data + b"\0", b"", data[LEAF_BYTES:]):
        with pytest.raises(Refused):
            traces_from_bytes(wrong, counts)


# -- identities and signatures ------------------------------------------------------------------------------------
def test_a_signature_fits_one_message_of_one_kind_by_one_host(scene):
    receipt = Receipt(result=bytes(32), epoch=1, received_at=0.0)
    envelope = seal(scene.organizer, receipt)
    assert unseal(envelope_from_bytes(envelope.to_bytes()), Receipt) == receipt
    forged = [
        (msgspec.structs.replace(envelope, signer=scene.worker.host), "signature"),
        (msgspec.structs.replace(envelope, payload=envelope.payload[:-1] + b"\x01"), "signature"),
        (msgspec.structs.replace(envelope, signature=bytes(64)), "signature"),
        (msgspec.structs.replace(envelope, kind="draw"), "message-kind"),
        (msgspec.structs.replace(envelope, signer="12D3KooW" + "1" * 44), "host-name"),
    ]
    for bad, reason in forged:
        with pytest.raises(Refused) as caught:
            unseal(bad, Receipt)
        assert caught.value.reason == reason
    with pytest.raises(Refused, match="signer"):
        unseal(envelope, Receipt, signer=scene.worker.host)


@pytest.mark.parametrize(
    "payload", [b"", b"\xc1", b"\x80", b"\x91" * 5000, b"\xdd\xff\xff\xff\xff", b"null", b"\x81\xa1x\x01"]
)
def test_signed_junk_is_refused_not_raised(scene, payload):
    signature = scene.worker.sign("message/receipt", payload)
    envelope = msgspec.structs.replace(
        seal(scene.worker, Receipt(result=bytes(32), epoch=1, received_at=0.0)), payload=payload, signature=signature
    )
    with pytest.raises(Refused, match="message-schema"):
        unseal(envelope, Receipt)
    with pytest.raises(Refused):
        envelope_from_bytes(payload)


def test_a_key_of_small_order_is_no_identity():
    import base58

    for point in (bytes([1]) + bytes(31), bytes(32)):
        name = base58.b58encode(b"\x00\x24\x08\x01\x12\x20" + point).decode()
        with pytest.raises(Refused):
            public_key(name)


# -- states and weights from strangers ----------------------------------------------------------------------------
def test_states_and_weights_have_one_legal_length_and_sound_values(scene):
    state = scene.state(Cell(network=0, segment=2))
    data = state.to_bytes()
    assert state_from_bytes(RECIPE, data).digest == state.digest
    nan = data[:8] + b"\x00\x00\xc0\x7f" + data[12:]
    late = (10**6).to_bytes(8, "little") + data[8:]
    for wrong in (data[:-1], data + b"\0", b"", nan, late):
        with pytest.raises(Refused):
            state_from_bytes(RECIPE, wrong)
    weights = state.params.tobytes()
    huge = b"\x00\x00\x80\x7e" + weights[4:]
    for wrong in (weights[:-4], weights + bytes(4), b"\x00\x00\x80\x7f" + weights[4:], huge):
        with pytest.raises(Refused):
            params_from_bytes(RECIPE, wrong)


# -- challenge ----------------------------------------------------------------------------------------------------
def test_the_beacon_leads_back_to_its_anchor_only_from_its_own_links():
    anchor = beacon_link(b"secret", CHAIN, 0)
    assert check_link(anchor, 9, beacon_link(b"secret", CHAIN, 9))
    assert not check_link(anchor, 8, beacon_link(b"secret", CHAIN, 9))
    assert not check_link(anchor, 9, beacon_link(b"other", CHAIN, 9))


@pytest.mark.parametrize("seed", range(20))
def test_the_draw_covers_what_the_policy_says(seed):
    rng = random.Random(seed)
    segments = [rng.randint(1, 30) for _ in range(rng.randint(1, 12))]
    policy = Policy(checkers=rng.randint(1, 6), cells=rng.randint(0, 5), cells_per_network=rng.randint(0, 2))
    tasks = draw_cells(policy, True, rng.randbytes(32), segments)
    assert len(tasks) == policy.checkers
    assert sorted(n for task in tasks for n in task.networks) == list(range(len(segments)))
    drawn = {cell for task in tasks for cell in task.cells}
    assert all(0 <= cell.segment < segments[cell.network] for cell in drawn)
    assert all(Cell(network=n, segment=count - 1) in drawn for n, count in enumerate(segments))
    assert all(len(task.cells) >= min(policy.cells, sum(segments)) for task in tasks)
    assert tasks == draw_cells(policy, True, *_same(seed))


def _same(seed):
    rng = random.Random(seed)
    segments = [rng.randint(1, 30) for _ in range(rng.randint(1, 12))]
    _ = rng.randint(1, 6), rng.randint(0, 5), rng.randint(0, 2)
    return rng.randbytes(32), segments


def test_a_chain_walks_to_the_nearest_link_it_knows_and_believes_no_other():
    chain, links = BeaconChain(beacon_link(b"secret", CHAIN, 0)), [beacon_link(b"secret", CHAIN, e) for e in range(65)]
    rng = random.Random(5)
    for _ in range(500):
        epoch, of = rng.randrange(65), rng.randrange(65)
        assert chain.check(epoch, links[of]) == (epoch == of), (epoch, of)
    assert not chain.check(-1, links[0]) and not chain.check(LINKS_MAX + 1, links[0])
    many = BeaconChains()
    for i in range(200):  # a zoo may name as many anchors as it likes
        assert many.check(links[i % 60], 1, links[i % 60 + 1])


def test_the_draw_follows_weight_and_knows_neither_the_worker_nor_its_network():
    """Splitting a key into ten changes nothing; a host of the worker's prefix never checks it."""
    big = Entry(host="b" * 52, weight=100, tag=b"bbbbbbbb")
    split = [Entry(host=f"{i}" * 52, weight=10, tag=bytes([i] * 8)) for i in range(10)]
    worker = Entry(host="w" * 52, weight=50, tag=b"wwwwwwww")
    near = Entry(host="n" * 52, weight=50, tag=b"wwwwwwww")
    roster, first = Roster([big, *split, worker, near]), []
    for i in range(3000):
        drawn = sha256(i.to_bytes(2, "little"))
        ((_, place),) = rank_checkers(drawn, roster, worker.host, worker.tag, 1)
        first.append(roster.entries[place].host)
    share = first.count(big.host) / len(first)
    assert worker.host not in first and near.host not in first
    assert share == pytest.approx(0.5, abs=0.03), share


# -- judging and admission ----------------------------------------------------------------------------------------
def test_an_honest_bundle_is_admitted_and_its_evidence_stands_alone(scene):
    evidence = evidence_from_bytes(scene.evidence().to_bytes())
    verified = verify_evidence(evidence, CAMPAIGN, BeaconChains(), scene.organizer.host)
    assert verified.worker == scene.worker.host
    assert all(hosts and scene.worker.host not in hosts for hosts in verified.checkers.values())
    assert all(count >= 1 for count in verified.cells.values())


def test_tampered_evidence_is_refused(scene):
    good = scene.evidence()
    traces = bytearray(good.traces)
    traces[20] ^= 1
    link = beacon_link(b"secret", CHAIN, 8)
    digest = good.result.digest
    other_draw = unseal(good.draw, Draw)
    lies = {
        "traces": bytes(traces),
        "answers": good.answers[:-1],
        "result": seal(scene.checkers[0], scene.result()),
        "receipt": seal(scene.worker, Receipt(result=digest, epoch=6, received_at=1.0)),
        "draw": seal(scene.organizer, msgspec.structs.replace(other_draw, link=link)),
        "manifest": seal(scene.worker, unseal(good.manifest, CampaignManifest)),
        "admission": seal(
            scene.organizer, Admission(result=digest, outcome=AdmissionOutcome.VOID, reason="", credit=0)
        ),
    }
    for field, lie in lies.items():
        with pytest.raises(Refused):
            verify_evidence(
                msgspec.structs.replace(good, **{field: lie}), CAMPAIGN, BeaconChains(), scene.organizer.host
            )
    own = seal(scene.worker, unseal(good.draw, Draw))
    with pytest.raises(Refused):
        verify_evidence(msgspec.structs.replace(good, draw=own), CAMPAIGN, BeaconChains(), scene.organizer.host)


def test_a_strangers_bundle_needs_an_answer_of_the_organizers_side(scene):
    """The first slot answered by a host that was drawn, or named by nobody: refused; named by the campaign: fine."""
    good = scene.evidence()
    answer = unseal(good.answers[0], Answer)
    stranger = scene.checkers[0]
    seat = good.seats[1]
    seated = next(c for c in scene.checkers if c.host == seat.host)
    free = next(c for c in scene.checkers if c.host not in {s.host for s in good.seats.values()})
    swaps = [(stranger, good.seats), (seated, {**good.seats, 0: seat}), (scene.worker, good.seats)]
    for signer, seats in swaps:
        lie = msgspec.structs.replace(good, answers=(seal(signer, answer), *good.answers[1:]), seats=seats)
        with pytest.raises(Refused, match="checker"):
            verify_evidence(lie, CAMPAIGN, BeaconChains(), scene.organizer.host)
    with pytest.raises(Refused, match="checker"):
        check_checker(unseal(good.draw, Draw), POLICY, scene.worker.host, 0, free.host, None)
    named = msgspec.structs.replace(POLICY, named_checkers=(free.host, scene.worker.host))
    check_checker(unseal(good.draw, Draw), named, scene.worker.host, 0, free.host, None)
    with pytest.raises(Refused, match="itself"):
        check_checker(unseal(good.draw, Draw), named, scene.worker.host, 0, scene.worker.host, None)


def test_no_two_checkers_of_one_network(scene):
    good = scene.evidence()
    same = {slot: msgspec.structs.replace(seat, tag=b"samesame") for slot, seat in good.seats.items()}
    with pytest.raises(Refused, match="prefix"):
        verify_evidence(msgspec.structs.replace(good, seats=same), CAMPAIGN, BeaconChains(), scene.organizer.host)


def test_evidence_of_version_0_1_is_named_as_such(scene):
    old = msgspec.msgpack.decode(scene.evidence().to_bytes())
    del old["seats"]
    with pytest.raises(Refused, match="version"):
        evidence_from_bytes(msgspec.msgpack.encode(old))


def test_answers_disagree_with_one_changed_bit_of_the_published_weights(scene):
    """Committed consistently, so only the replay of the final segment can tell."""
    trace = list(scene.traces[1])
    params = scene.weights[1].copy()
    params.view("u4")[7] ^= 1
    trace[-1] = msgspec.structs.replace(trace[-1], params_digest=sha256(params.tobytes()))
    traces = [t if i != 1 else tuple(trace) for i, t in enumerate(scene.traces)]
    evidence = scene.evidence(traces)
    with pytest.raises(Refused, match="admission"):
        verify_evidence(evidence, CAMPAIGN, BeaconChains())
    result, assignment = open_result(evidence.result, CAMPAIGN)
    opened = open_traces(evidence.traces, result, assignment, scene.worker.host)
    tasks = draw_cells(
        POLICY, False, challenge(unseal(evidence.draw, Draw).link, evidence.result.digest), segments_of(RECIPE, result)
    )
    bad = set()
    for slot, task in enumerate(tasks):
        bad |= set(judge(scene.answer(evidence.result.digest, slot, task), task, opened).bad_cells)
    assert bad == {Cell(network=1, segment=len(trace) - 2)}


def test_a_result_that_does_not_hang_together_is_refused(scene):
    traces, worker, assignment = scene.traces, scene.worker, scene.assignment
    data = traces_to_bytes(traces)

    def refusal(result: Result, blob: bytes = data) -> str:
        with pytest.raises(Refused) as caught:
            opened, _ = open_result(seal(worker, result), CAMPAIGN)
            open_traces(blob, opened, assignment, worker.host)
        return caught.value.reason

    honest = scene.result()
    first = honest.networks[0]

    def with_first(**changes) -> Result:
        changed = msgspec.structs.replace(first, **changes)
        return msgspec.structs.replace(honest, networks=(changed, *honest.networks[1:]))

    assert refusal(scene.result(campaign="0" * 64)) == "result-campaign"
    assert refusal(scene.result(assignment=9)) == "result-assignment"
    assert refusal(scene.result(engine="exact-0")) == "result-engine"
    assert refusal(scene.result(commitment=bytes(32))) == "commitment"
    assert refusal(with_first(seed=77)) == "result-seeds"
    assert refusal(with_first(steps=55)) == "result-steps"
    assert refusal(with_first(held_out_loss=float("nan"))) == "result-loss"
    assert refusal(with_first(trace_root=bytes(32))) == "trace-root"
    assert refusal(with_first(weights_digest=bytes(32))) == "trace-weights"
    assert refusal(with_first(held_out_loss=0.5)) == "trace-loss"
    assert refusal(honest, data[:-1]) == "trace-size"
    assert refusal(scene.result(worker=scene.checkers[0])) == "trace-root"  # a copied tree


def test_a_trace_may_not_run_past_or_short_of_the_stop_rule(scene):
    short = [t[:-1] for t in scene.traces]
    with pytest.raises(Refused, match="trace-stop"):
        result, assignment = open_result(seal(scene.worker, scene.result(short)), CAMPAIGN)
        open_traces(traces_to_bytes(short), result, assignment, scene.worker.host)


def test_a_checker_refuses_a_request_that_does_not_prove_itself(scene):
    from protocol.trust.messages import CheckRequest

    evidence = scene.evidence()
    result, assignment = open_result(evidence.result, CAMPAIGN)
    manifest = unseal(evidence.manifest, CampaignManifest)
    tasks = draw_cells(
        POLICY, False, challenge(unseal(evidence.draw, Draw).link, evidence.result.digest), segments_of(RECIPE, result)
    )
    ctx = context(CAMPAIGN.digest, 0, scene.worker.host)
    levels = levels_of(scene, ctx)
    request = CheckRequest(
        result=evidence.result,
        receipt=evidence.receipt,
        draw=evidence.draw,
        slot=1,
        states=0,
        openings=make_openings(ctx, assignment.seeds, scene.traces, tasks[1], levels),
        seat=evidence.seats[1],
    )
    of_the_house = make_openings(ctx, assignment.seeds, scene.traces, tasks[0], levels)
    chains, me = BeaconChains(), evidence.seats[1].host
    task = open_check_request(request, CAMPAIGN, manifest, scene.organizer.host, me, chains)
    assert task.task == tasks[1]
    for changes in (
        {"slot": 99},
        {"openings": b"\x90"},
        {"openings": b"\xc1"},
        {"openings": of_the_house},
        {"slot": 0, "openings": of_the_house},
        {"seat": None},
        {"seat": evidence.seats[2]},  # another's
        {"seat": msgspec.structs.replace(evidence.seats[1], weight=evidence.seats[1].weight + 1)},
        {"seat": msgspec.structs.replace(evidence.seats[1], attempt=evidence.seats[1].attempt + 256)},
        {"receipt": evidence.draw},
    ):
        with pytest.raises(Refused):
            open_check_request(
                msgspec.structs.replace(request, **changes), CAMPAIGN, manifest, scene.organizer.host, me, chains
            )
    with pytest.raises(Refused):
        open_check_request(request, CAMPAIGN, manifest, scene.organizer.host, scene.worker.host, chains)


def test_a_checker_and_an_auditor_refuse_the_same_draws_for_the_same_reason(scene):
    from protocol.trust.messages import CheckRequest
    from protocol.trust.openings import open_check_request

    evidence = scene.evidence()
    receipt, draw = unseal(evidence.receipt, Receipt), unseal(evidence.draw, Draw)
    manifest = unseal(evidence.manifest, CampaignManifest)

    def by(signer, message, **changes):
        return seal(signer, msgspec.structs.replace(message, **changes))

    lies = [
        ({"receipt": by(scene.organizer, receipt, result=bytes(32))}, "receipt"),
        ({"receipt": by(scene.organizer, receipt, epoch=receipt.epoch + 1)}, "beacon"),
        ({"receipt": by(scene.worker, receipt)}, "signer"),
        ({"draw": by(scene.organizer, draw, result=bytes(32))}, "receipt"),
        ({"draw": by(scene.organizer, draw, link=bytes(32))}, "beacon"),
        ({"draw": by(scene.organizer, draw, worker_tag=evidence.seats[1].tag)}, "seat"),
        ({"draw": by(scene.organizer, draw, roster_root=bytes(32))}, "roster"),
        ({"draw": by(scene.organizer, draw, roster_count=2)}, "roster"),
        ({"draw": by(scene.worker, draw)}, "signer"),
        ({"manifest": by(scene.organizer, manifest, campaign="0" * 64)}, "manifest"),
        ({"manifest": by(scene.organizer, manifest, beacon_anchor=bytes(32))}, "beacon"),
    ]
    for changes, reason in lies:
        lie = msgspec.structs.replace(evidence, **changes)
        signed = {"result": lie.result, "receipt": lie.receipt, "draw": lie.draw}
        request = CheckRequest(**signed, slot=1, states=0, openings=b"", seat=lie.seats[1])
        with pytest.raises(Refused) as audited:
            verify_evidence(lie, CAMPAIGN, BeaconChains(), scene.organizer.host)
        with pytest.raises(Refused) as checked:
            open_check_request(
                request,
                CAMPAIGN,
                unseal(lie.manifest, CampaignManifest),
                scene.organizer.host,
                evidence.seats[1].host,
                BeaconChains(),
            )
        assert audited.value.reason == checked.value.reason == reason


GOOD = Verdict(cells=4, bad_cells=(), bad_networks=())
ONE = Verdict(cells=4, bad_cells=(Cell(network=1, segment=2),), bad_networks=())
MANY = Verdict(cells=4, bad_cells=(Cell(network=1, segment=2), Cell(network=3, segment=0)), bad_networks=(4,))


@pytest.mark.parametrize(
    ("answers", "replays", "outcome"),
    [
        ({0: GOOD, 1: GOOD}, {}, Outcome.ADMITTED),
        ({0: GOOD}, {}, Outcome.WAITING),
        ({}, {}, Outcome.WAITING),
        ({0: GOOD, 1: MANY}, {}, Outcome.WAITING),  # until it is replayed
        ({0: GOOD, 1: MANY}, {1: GOOD}, Outcome.ADMITTED),  # the checker lied
        ({0: GOOD, 1: ONE}, {1: ONE}, Outcome.VOID),
        ({0: GOOD, 1: MANY}, {1: MANY}, Outcome.INVALID),
        ({1: MANY}, {1: MANY}, Outcome.INVALID),  # no need to wait for the others
        ({0: ONE, 1: MANY}, {0: ONE, 1: GOOD}, Outcome.VOID),
        ({0: MANY, 1: MANY}, {0: MANY}, Outcome.INVALID),  # nor for a replay of every slot
        ({0: ONE, 1: MANY}, {0: ONE}, Outcome.WAITING),
    ],
)
def test_evidence_decides_not_votes(answers, replays, outcome):
    decision = decide(2, answers, replays)
    assert decision.outcome == outcome
    assert decision.false_accusers == tuple(s for s in replays if answers[s] != GOOD and replays[s] == GOOD)


def test_disputes_are_replayed_one_after_another():
    """A replay by the reference is slow: a stranger's fake must not cost the organizer one of every slot."""
    answers = {0: GOOD, 1: MANY, 2: MANY}
    assert decide(3, answers, {}).disputed == (1,)
    assert decide(3, answers, {1: GOOD}).disputed == (2,)
    assert decide(3, answers, {1: MANY}).outcome is Outcome.INVALID


def test_an_identitys_secrets_are_its_own_and_stay(tmp_path):
    identity = Identity.load_or_create(tmp_path / "identity")
    again = Identity.load_or_create(tmp_path / "identity")
    assert identity.secret("audit") == again.secret("audit") and len(identity.secret("audit")) == 32
    assert len({identity.secret("audit"), identity.secret("prefix"), Identity.generate().secret("audit")}) == 3
