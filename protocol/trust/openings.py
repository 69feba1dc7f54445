"""Openings: the challenged start states with their Merkle proofs, made by who holds the traces, checked by the checker.

The checker trusts nobody: from the request alone it re-derives its own cells from the beacon link, and proves that
every start state it is given was committed to before that link was known.
"""

from collections.abc import Sequence

import msgspec

from protocol.canonical import NOT_DECODABLE, sha256
from protocol.engine import State
from protocol.errors import Refused
from protocol.recipes.campaign import Assignment, Campaign, Policy
from protocol.trust.challenge import BeaconChains, SlotTask, challenge, check_seat, draw_cells, is_house
from protocol.trust.commitment import (
    Proof,
    Trace,
    check_proof,
    context,
    leaf_from_bytes,
    prove,
)
from protocol.trust.envelope import Envelope, unseal
from protocol.trust.messages import CampaignManifest, Cell, CheckRequest, Draw, Heartbeat, Receipt, Result, Seat
from protocol.trust.verdict import open_result, segments_of

OPENINGS_BYTES_MAX = 4 * 1024 * 1024


class Opening(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One start state's leaf (80 bytes) and the proof that it is under the signed commitment."""

    leaf: bytes
    proof: Proof


class CheckTask(msgspec.Struct, frozen=True, kw_only=True):
    """A verified check request: what to replay, and which leaf every opened start state must match."""

    result: Result
    result_digest: bytes
    worker: str
    assignment: Assignment
    slot: int
    task: SlotTask
    openings: tuple[Opening, ...]


def slot_tasks(
    campaign: Campaign, assignment: Assignment, result: Result, result_digest: bytes, draw: Draw
) -> list[SlotTask]:
    """The tasks of all slots of a drawn result."""
    return draw_cells(
        campaign.policy,
        draw.standing,
        challenge(draw.link, result_digest),
        segments_of(assignment.recipe, result),
    )


def open_draw(
    receipt: Envelope,
    draw: Envelope,
    manifest: CampaignManifest,
    campaign: Campaign,
    result: Envelope,
    organizer: str,
    chains: BeaconChains,
) -> Draw:
    """The draw of a result, with all that makes it one: by the organizer, by chance that is younger than the receipt.

    Checkers ask this before they work, and auditors of the evidence ever after; `chains` spare them the walk to the
    beacon's anchor. Raises Refused.
    """
    if manifest.campaign != campaign.digest:
        raise Refused("manifest", "the manifest is for another campaign")
    received = unseal(receipt, Receipt, signer=organizer)
    drawn = unseal(draw, Draw, signer=organizer)
    if received.result != result.digest or drawn.result != result.digest:
        raise Refused("receipt", "receipt or draw belong to another result")
    if not chains.check(manifest.beacon_anchor, received.epoch + 1, drawn.link):
        raise Refused("beacon", "the link does not lead back to the campaign's anchor")
    return drawn


def check_checker(draw: Draw, policy: Policy, worker: str, slot: int, host: str, seat: Seat | None) -> None:
    """Raises Refused unless this host, which is not the organizer, may have the slot: named, or hit by the draw."""
    if host == worker:
        raise Refused("checker", "the worker checked itself")
    if host in policy.named_checkers and seat is None:
        return
    if seat is None or seat.host != host:
        raise Refused("checker", f"{host} has no seat in slot {slot}")
    if is_house(slot, draw):
        raise Refused("checker", f"slot {slot} of a host without standing is the organizer's")
    check_seat(draw, seat, worker)


def make_openings(
    ctx: bytes, seeds: tuple[int, ...], traces: list[Trace], task: SlotTask, bundle: list[list[bytes]]
) -> bytes:
    """The openings of a slot's cells with segment > 0, in order, as the bytes of CheckRequest.openings.

    `bundle` are the levels of the bundle tree.
    """
    return msgspec.msgpack.encode(
        tuple(
            Opening(
                leaf=traces[cell.network][cell.segment].to_bytes(),
                proof=prove(ctx, seeds[cell.network], traces[cell.network], cell.network, cell.segment, bundle),
            )
            for cell in task.opened
        )
    )


def open_check_request(
    request: CheckRequest,
    campaign: Campaign,
    manifest: CampaignManifest,
    organizer: str,
    me: str,
    chains: BeaconChains,
) -> CheckTask:
    """Verify a request to check. Raises Refused: we then do not spend a second of compute on it."""
    result, assignment = open_result(request.result, campaign)
    worker, digest = request.result.signer, request.result.digest
    if worker == me:
        raise Refused("check-request", "the work is our own")
    draw = open_draw(request.receipt, request.draw, manifest, campaign, request.result, organizer, chains)
    check_checker(draw, campaign.policy, worker, request.slot, me, request.seat)
    tasks = slot_tasks(campaign, assignment, result, digest, draw)
    if request.slot >= len(tasks):
        raise Refused("check-request", f"there is no slot {request.slot}")
    task = tasks[request.slot]
    if len(request.openings) > OPENINGS_BYTES_MAX:
        raise Refused("openings-size", f"{len(request.openings)} bytes")
    try:
        openings = msgspec.msgpack.decode(request.openings, type=tuple[Opening, ...])
    except NOT_DECODABLE as error:
        raise Refused("openings-schema", str(error)) from None
    if len(openings) != len(task.opened):
        raise Refused("openings", "the openings are not those of the drawn cells")
    ctx = context(result.campaign, result.assignment, worker)
    segments = segments_of(assignment.recipe, result)
    for cell, opening in zip(task.opened, openings, strict=True):
        network = result.networks[cell.network]
        check_proof(
            result.commitment,
            ctx,
            assignment.seeds,
            network.steps,
            segments[cell.network] + 1,
            (cell.network, cell.segment),
            leaf_from_bytes(opening.leaf),
            opening.proof,
        )
    return CheckTask(
        result=result,
        result_digest=digest,
        worker=worker,
        assignment=assignment,
        slot=request.slot,
        task=task,
        openings=openings,
    )


def match_states(check: CheckTask, states: dict[Cell, State]) -> None:
    """Raises Refused unless every uploaded start state is the one whose leaf was proved."""
    for cell, opening in zip(check.task.opened, check.openings, strict=True):
        leaf = leaf_from_bytes(opening.leaf)
        if states[cell].digest != leaf.state_digest:
            raise Refused("states-digest", f"the start state of network {cell.network} is not the committed one")


def open_enclosed(beat: Heartbeat, states: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """(result, its start states) of all that came along with a heartbeat: what was signed with it. Raises Refused."""
    if len(states) != len(beat.opened):
        raise Refused("opened", f"{len(states)} openings; the heartbeat names {len(beat.opened)}")
    for opened, data in zip(beat.opened, states, strict=True):
        if sha256(data) != opened.states:
            raise Refused("opened", "not the start states that the heartbeat names")
    return [(opened.result, data) for opened, data in zip(beat.opened, states, strict=True)]


def check_opened(traces: list[Trace], cells: tuple[Cell, ...], states: dict[Cell, State]) -> None:
    """The coordinator's side of `match_states`, against the whole traces. Raises Refused."""
    for cell in cells:
        if states[cell].digest != traces[cell.network][cell.segment].state_digest:
            raise Refused("states-digest", f"the start state of network {cell.network} is not the committed one")
