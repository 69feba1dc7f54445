"""What comes over the wire and out of the DHT: envelopes, every kind of signed message, blobs, records."""

from types import SimpleNamespace
from typing import Any

import msgspec
from support.scripted_host import CAMPAIGN, RECIPE

from fuzz.targets import Target, decoded_as, drawn, subclasses
from protocol.canonical import sha256
from protocol.engine import State
from protocol.engine.reference.engine import NumpyEngine
from protocol.engine.training import train_networks
from protocol.errors import Refused
from protocol.rpc import coordinator_pb2 as pb
from protocol.rpc.wire import from_wire, to_wire
from protocol.swarm import records
from protocol.trust.allowance import allow
from protocol.trust.commitment import LEAF_BYTES, leaf_from_bytes, leaf_of, traces_to_bytes
from protocol.trust.envelope import Envelope, Message, envelope_from_bytes, seal, unseal
from protocol.trust.evidence import Evidence, evidence_from_bytes
from protocol.trust.identity import Identity
from protocol.trust.messages import Cell, CheckRequest, Heartbeat, Opened, OpeningRequest
from protocol.trust.openings import Opening, open_enclosed
from protocol.trust.spot_check import open_states, open_weights
from protocol.trust.verdict import make_result, open_result, open_traces

ME = Identity.generate()
NOW = 1_800_000_000.0


def message_targets() -> list[Target]:
    kinds = sorted((kind for kind in subclasses(Message) if kind.KIND), key=lambda kind: kind.KIND)
    found = [message_target(kind) for kind in kinds]
    envelopes = drawn(Envelope) + tuple(Envelope(**SEALED, payload=sample).to_bytes() for sample in drawn(kinds[0], 2))
    found.append(Target(name="envelope", parse=envelope_from_bytes, samples=envelopes, share=3))
    found.append(Target(name="signed", parse=from_protobuf, samples=tuple(map(as_protobuf, envelopes)), share=2))
    found.append(Target(name="visit", parse=opened_visit, samples=(visit_sample(),), share=2))
    for kind in (OpeningRequest, CheckRequest, tuple[Opening, ...]):
        name = getattr(kind, "__name__", "openings").lower()
        name = "openings" if name == "tuple" else name
        found.append(Target(name=name, parse=decoded_as(kind), samples=drawn(kind), share=2))
    found.append(Target(name="evidence", parse=evidence_from_bytes, samples=drawn(Evidence), share=3))
    return found + blob_targets()


SEALED: dict[str, Any] = {"kind": "heartbeat", "signer": ME.host, "signature": bytes(64)}


def message_target(kind: type[Message]) -> Target:
    """Signed by a stranger who may sign anything, so that the signature does not stand before the parser."""

    def parse(payload: bytes) -> Message:
        signature = ME.sign("message/" + kind.KIND, payload)
        return unseal(Envelope(kind=kind.KIND, signer=ME.host, payload=payload, signature=signature), kind)

    return Target(name=f"message {kind.KIND}", parse=parse, samples=drawn(kind))


def as_protobuf(data: bytes) -> bytes:
    try:
        envelope = envelope_from_bytes(data)
    except Refused:
        return b""
    return pb.Signed(
        kind=envelope.kind, signer=envelope.signer, payload=envelope.payload, signature=envelope.signature
    ).SerializeToString()


def from_protobuf(data: bytes) -> Envelope:
    from google.protobuf.message import DecodeError

    try:
        return from_wire(pb.Signed.FromString(data))
    except DecodeError as error:  # gRPC itself answers these; no code of ours sees them
        raise Refused("protobuf", str(error)) from None


def visit_sample() -> bytes:
    """A heartbeat that names start states, and these."""
    states = [bytes([i]) * 40 for i in range(3)]
    beat = Heartbeat(
        nonce=bytes(16),
        name="a host",
        device="cpu",
        version="1",
        steps_per_second=1.0,
        networks_trained=0,
        checks_done=0,
        holding=(),
        opened=tuple(Opened(result=bytes(32), states=sha256(data)) for data in states),
    )
    return pb.Visit(heartbeat=to_wire(seal(ME, beat)), states=states).SerializeToString()


def opened_visit(data: bytes) -> object:
    """Signed by whoever sends it, whatever it says."""
    from google.protobuf.message import DecodeError

    try:
        visit = pb.Visit.FromString(data)
    except DecodeError as error:
        raise Refused("protobuf", str(error)) from None
    payload = visit.heartbeat.payload
    signature = ME.sign("message/" + Heartbeat.KIND, payload)
    beat = unseal(Envelope(kind=Heartbeat.KIND, signer=ME.host, payload=payload, signature=signature), Heartbeat)
    return open_enclosed(beat, visit.states)


def blob_targets() -> list[Target]:
    """Traces, leaves, states and weights of a bundle that was trained for real."""
    assignment = CAMPAIGN.assignment(0)
    boundaries: dict[int, list[Any]] = {seed: [] for seed in assignment.seeds}
    for seed, boundary in train_networks(NumpyEngine(), RECIPE, list(assignment.seeds), len(assignment.seeds)):
        boundaries[seed].append(boundary)
    traces = [tuple(leaf_of(b.state, b.loss, b.held_out_loss) for b in all_of) for all_of in boundaries.values()]
    envelope = seal(ME, make_result(assignment, traces, ME.host, "c"))
    result, _ = open_result(envelope, CAMPAIGN)
    trace = traces_to_bytes(traces)
    states: list[State] = [all_of[1].state for all_of in boundaries.values()]
    cells = tuple(Cell(network=i, segment=1) for i in range(len(states)))
    weights = b"".join(all_of[-1].state.params.tobytes() for all_of in boundaries.values())
    return [
        Target(name="trace", parse=lambda data: open_traces(data, result, assignment, ME.host), samples=(trace,)),
        Target(name="leaf", parse=leaf_from_bytes, samples=(trace[:LEAF_BYTES],)),
        Target(
            name="states",
            parse=lambda data: open_states(RECIPE, data, cells),
            samples=(b"".join(state.to_bytes() for state in states),),
            share=2,
        ),
        Target(name="weights", parse=lambda data: open_weights(RECIPE, data, len(states)), samples=(weights,)),
        Target(name="result", parse=result_parser, samples=(envelope.payload,), share=2),
    ]


def result_parser(payload: bytes) -> object:
    """A signed result against its campaign."""
    signature = ME.sign("message/result", payload)
    return open_result(Envelope(kind="result", signer=ME.host, payload=payload, signature=signature), CAMPAIGN)


# -- the DHT ----------------------------------------------------------------------------------------------------------


def record_targets() -> list[Target]:
    values = sorted(subclasses(records.Value), key=lambda kind: kind.__name__)
    found = [
        Target(name=f"record {kind.__name__}", parse=record_parser(kind), samples=(*drawn(kind), *LEGAL.get(kind, ())))
        for kind in values
    ]
    subkeys = tuple(msgspec.msgpack.encode(records.make_subkey(ME.host, kind)) for kind in ("", "c", "d"))
    found.append(Target(name="record subkey", parse=records.split_subkey, samples=subkeys))
    return found


LEGAL: dict[type, tuple[bytes, ...]] = {  # bits that go together
    records.Claim: (msgspec.msgpack.encode(records.Claim(3, 1, allow(ME, ME.host, 64, 1800, int(NOW) + 3600))),),
    records.Done: (msgspec.msgpack.encode([3]),),
}


def record_parser(kind: type[records.Value]):
    """Under every key where it may stand, signed by its owner, who is the organizer too."""
    space = records.KeySpace(ME.host)
    space.allow_campaign(CAMPAIGN.digest, CAMPAIGN.assignment_count)
    places = [
        SimpleNamespace(key=key, subkey=msgspec.msgpack.encode(records.make_subkey(ME.host, name)))
        for key, entry in space.keys.items()
        for name, rule in entry.rules.items()
        if rule.schema is kind
    ]

    def parse(payload: bytes) -> object:
        if not places:
            return records.decode_value(payload, kind)
        place = places[len(payload) % len(places)]
        value = records.sign_record(ME, place.key, place.subkey, payload, NOW)
        return records.check_record(place.key, place.subkey, value, NOW, NOW, space)

    return parse
