"""Past the decoding: messages that are legal and rightly signed, with contents that nobody would write, handed to those
who judge them. Whoever makes them may be anybody, the organizer too.

A sample is a tree of what the messages say, without signatures; an input is signed anew by whom it says. What names
the result that it is about, and did so in the sample, names the new one: so a change goes as deep as it can.
"""

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import msgspec
from support.room import Room
from support.scripted_host import CAMPAIGN, ScriptedHost, trained

from fuzz.targets import Target
from fuzz.workbench import folder
from peer.session.requests import check_cells, fetch_check
from peer.storage.bundle import Bundle
from protocol.canonical import NOT_DECODABLE
from protocol.errors import Refused
from protocol.trust.challenge import BeaconChains
from protocol.trust.envelope import Envelope, unseal
from protocol.trust.evidence import Evidence, evidence_from_bytes, verify_evidence
from protocol.trust.identity import Identity
from protocol.trust.messages import CampaignManifest, CheckRequest, OpeningRequest, Ticket
from protocol.trust.ticket import TICKET_BYTES_MAX, check_ticket, make_ticket, read_ticket

NOW = 1_800_000_000.0
Tree = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A bundle that was checked by others and admitted, as its checkers and as auditors see it."""

    organizer: Identity
    worker: Identity
    checkers: tuple[Identity, ...]
    checks: dict[str, CheckRequest]  # by checker
    manifest: Envelope
    evidence: Evidence
    weights: bytes
    chains: BeaconChains = field(default_factory=BeaconChains)


@cache
def scene() -> Scene:
    room = Room(folder() / "room", CAMPAIGN)
    room.seed()
    alice, *others = (ScriptedHost(name, 1) for name in ("alice", "bob", "carol"))
    digest = room.commit(alice, 0)
    for host in (alice, *others):
        room.poll(host)
    room.tick()
    room.open(alice, digest, 0)
    room.tick()
    checks = {other.host: check for other in others for check in room.poll(other).checks}
    for other in others:
        room.vouch(other, 0)
    room.tick()
    assert room.core.curate(force=True) == 2
    (file,) = (room.core.path / "zoo" / "evidence").rglob("*.*")
    evidence = evidence_from_bytes(file.read_bytes())
    return Scene(
        organizer=room.directory.identity,
        worker=alice.identity,
        checkers=tuple(other.identity for other in others),
        checks=checks,
        manifest=evidence.manifest,
        evidence=evidence,
        weights=alice.weights(0),
    )


def judged_targets() -> list[Target]:
    requests = tuple(msgspec.msgpack.encode(request_tree(check, host)) for host, check in scene().checks.items())
    assert requests, "nobody but the organizer was asked to check"
    bundle = Bundle.create(folder() / "opened bundle", CAMPAIGN.assignment(0))
    for seed, boundaries in trained(CAMPAIGN.assignment(0)).items():
        for boundary in boundaries:
            bundle.append(seed, boundary)
    ticket = make_ticket(scene().organizer, scene().worker.host, NOW + 60)
    opening = msgspec.msgpack.encode({"result": bytes(32), "cells": [{"network": 0, "segment": 1}]})
    return [
        Target(name="check request judged", parse=judge_request, samples=requests, values=True, share=6),
        Target(name="evidence judged", parse=judge_evidence, samples=(evidence_sample(),), values=True, share=6),
        Target(
            name="opening judged",
            parse=lambda data: judge_opening(data, bundle),
            samples=(opening,),
            values=True,
            share=2,
        ),
        Target(name="ticket", parse=judge_ticket, samples=(read_ticket(ticket),)),
        Target(
            name="ticket judged",
            parse=judge_told_ticket,
            samples=(msgspec.msgpack.encode({"host": scene().worker.host, "expires_at": NOW + 60}),),
            values=True,
        ),
        Target(
            name="ticket text",
            parse=lambda data: read_ticket(data.decode("utf-8", "surrogateescape")),
            samples=(ticket.encode(),),
        ),
    ]


# -- a request to check -----------------------------------------------------------------------------------------------


def request_tree(check: CheckRequest, host: str) -> Tree:
    """With its openings as values, and the name of whom it is for."""
    parts = {name: said(getattr(check, name)) for name in ("result", "receipt", "draw")}
    rest = msgspec.to_builtins(check, builtin_types=(bytes,))
    return rest | parts | {"openings": msgspec.msgpack.decode(check.openings), "host": host}


def judge_request(data: bytes) -> object:
    tree = tree_of(data)
    tree = tree | {"openings": msgspec.msgpack.encode(tree.get("openings"))}
    host = text(tree.pop("host", ""))
    request = as_message(signed_parts(tree, ("receipt", "draw")), CheckRequest)
    manifest = unseal(scene().manifest, CampaignManifest)
    return fetch_check(request, CAMPAIGN, manifest, Blobs(), host, scene().chains)  # pyright: ignore[reportArgumentType]


class Blobs:
    """A coordinator that sends as many bytes as it was asked for."""

    organizer = property(lambda self: scene().organizer.host)

    def get(self, result: bytes, part: str, slot: int, size: int) -> bytes:
        assert 0 <= size < 1 << 30, "nobody has so much"
        return (scene().weights if part == "weights" else b"").ljust(min(size, 1 << 20), b"\0")[:size]


# -- evidence ---------------------------------------------------------------------------------------------------------


def evidence_sample() -> bytes:
    found = scene().evidence
    names = ("manifest", "result", "receipt", "draw", "admission")
    parts: Tree = {name: said(getattr(found, name)) for name in names}
    lists: Tree = {name: [said(one) for one in getattr(found, name)] for name in ("answers", "replays")}
    seats = msgspec.to_builtins(found.seats, builtin_types=(bytes,))
    return msgspec.msgpack.encode(parts | lists | {"traces": found.traces, "seats": seats})


def judge_evidence(data: bytes) -> object:
    tree = signed_parts(tree_of(data), ("receipt", "draw", "admission", "manifest"), ("answers", "replays"))
    try:
        exact = msgspec.msgpack.encode(tree)
    except NOT_DECODABLE as error:
        raise Refused("tree", str(error)) from None
    evidence = evidence_from_bytes(exact)
    return verify_evidence(evidence, CAMPAIGN, BeaconChains(), scene().organizer.host)


# -- openings and tickets ---------------------------------------------------------------------------------------------


def judge_opening(data: bytes, bundle: Bundle) -> object:
    """What a coordinator asks a volunteer for."""
    return check_cells(as_message(tree_of(data), OpeningRequest).cells, bundle, CAMPAIGN.policy)


def judge_ticket(data: bytes) -> object:
    return check_ticket(data, scene().organizer.host, scene().worker.host, NOW)


def judge_told_ticket(data: bytes) -> object:
    """Signed by the organizer, whatever it says."""
    told = signed(scene().organizer, Ticket.KIND, tree_of(data))
    assert len(told.to_bytes()) <= TICKET_BYTES_MAX or len(data) > TICKET_BYTES_MAX // 2
    return judge_ticket(told.to_bytes())


# -- trees, and messages of them --------------------------------------------------------------------------------------


def said(envelope: Envelope) -> Tree:
    """What a message says, and who says it."""
    return {"signer": envelope.signer, "kind": envelope.kind, "says": msgspec.msgpack.decode(envelope.payload)}


def tree_of(data: bytes) -> Tree:
    try:
        tree = msgspec.msgpack.decode(data)
    except NOT_DECODABLE as error:
        raise Refused("tree", str(error)) from None
    if not isinstance(tree, dict):
        raise Refused("tree", "no record")
    return tree


def text(value: object) -> str:
    return value if isinstance(value, str) else ""


def as_message(tree: Tree, kind: type[msgspec.Struct]) -> Any:
    """As it is after decoding: legal by its types."""
    try:
        return msgspec.msgpack.decode(msgspec.msgpack.encode(tree), type=kind)
    except NOT_DECODABLE as error:
        raise Refused("tree", str(error)) from None


def signed_parts(tree: Tree, about: tuple[str, ...], lists: tuple[str, ...] = ()) -> Tree:
    """The tree with its messages signed, the result first, since the others name it."""
    result = by_whom(tree.get("result"))
    was, now = scene().evidence.result.digest, result.digest
    named = {name: by_whom(renamed(tree.get(name), was, now)) for name in about}
    many = {name: [by_whom(renamed(one, was, now)) for one in listed(tree.get(name))] for name in lists}
    return tree | {"result": result} | named | many


def listed(value: object) -> list[Any]:
    return value[:64] if isinstance(value, list) else []


def renamed(part: object, was: bytes, now: bytes) -> object:
    if not isinstance(part, dict) or not isinstance(part.get("says"), dict) or part["says"].get("result") != was:
        return part
    return part | {"says": part["says"] | {"result": now}}


def by_whom(part: object) -> Envelope:
    """Signed by whom it names, if that is one of us; else by the worker. Raises Refused for what is no message."""
    if not isinstance(part, dict):
        raise Refused("tree", "no message")
    hosts = {one.host: one for one in (scene().organizer, scene().worker, *scene().checkers)}
    return signed(hosts.get(text(part.get("signer")), scene().worker), text(part.get("kind")), part.get("says"))


def signed(signer: Identity, kind: str, says: object) -> Envelope:
    try:
        payload = msgspec.msgpack.encode(says)
        signature = signer.sign("message/" + kind, payload)
    except (ValueError, OverflowError) as error:  # surrogates, numbers beyond 64 bits
        raise Refused("tree", str(error)) from None
    return Envelope(kind=kind, signer=signer.host, payload=payload, signature=signature)
