"""What an inbox asks of this host: fetch and verify checks, open challenged states, take outcomes to heart."""

from pathlib import Path

import msgspec

from peer.session.client import Client
from peer.session.dataset_fetcher import Stock
from peer.storage.bundle import Bundle
from peer.storage.home import Home
from peer.trainer.worker import CheckJob
from protocol.canonical import write_atomic
from protocol.engine import state_bytes_length
from protocol.errors import Refused
from protocol.recipes.campaign import Campaign
from protocol.trust.messages import CheckRequest, Manifest, OpeningRequest, Result
from protocol.trust.openings import match_states, open_check_request
from protocol.trust.spot_check import open_states, open_weights


def fetch_check(
    request: CheckRequest, campaigns: dict[str, tuple[Campaign, Manifest]], client: Client, home: Home, stock: Stock
) -> Path | None:
    """Verify a request, fetch what it needs, write it as the worker's job; None until its data set is here.

    Raises Refused or Away.
    """
    try:  # which campaign is meant; everything else is verified below
        digest = msgspec.msgpack.decode(request.result.payload, type=Result).campaign
    except msgspec.DecodeError as error:
        raise Refused("check-request", str(error)) from None
    if digest not in campaigns:
        raise Refused("check-request", "for a campaign we do not know")
    campaign, manifest = campaigns[digest]
    assert client.organizer is not None
    check = open_check_request(request, campaign, manifest, client.organizer, home.identity.host)
    recipe = check.assignment.recipe
    if not stock.ready(recipe):
        return None
    size = state_bytes_length(recipe) * len(check.task.opened)
    states = client.get(check.result_digest, "states", check.slot, size) if size else b""
    match_states(check, open_states(recipe, states, check.task.opened))
    count = len(check.assignment.seeds)
    weights = client.get(check.result_digest, "weights", check.slot, 4 * recipe.parameter_count * count)
    open_weights(recipe, weights, count)
    job = CheckJob(
        campaign=campaign.digest,
        assignment=check.assignment.index,
        result=check.result_digest,
        slot=check.slot,
        task=check.task,
        states=states,
        weights=weights,
    )
    path = home.path / "checks" / f"{check.result_digest.hex()[:16]}-{check.slot}.job"
    write_atomic(path, msgspec.msgpack.encode(job))
    return path


def open_cells(request: OpeningRequest, bundle: Bundle, client: Client) -> None:
    """Answer a challenge with the start states it names. Raises Refused or Away."""
    for cell in request.cells:
        if cell.network >= len(bundle.assignment.seeds):
            raise Refused("opening-request", f"there is no network {cell.network}")
    client.put(request.result, "states", bundle.states(request.cells))


def hand_in_part(part: str, result: bytes, bundle: Bundle, client: Client) -> None:
    """Upload one of the blobs that belong to a committed result. Raises Refused or Away."""
    if part == "trace":
        client.put(result, part, b"".join(leaf.to_bytes() for trace in bundle.traces() for leaf in trace))
    elif part == "weights":
        client.put(result, part, bundle.weights())
