"""The longer requests to a coordinator: fetch and verify a check, open challenged states, upload what belongs to a
result.
"""

from peer.session.client import Client
from peer.storage.bundle import Bundle
from peer.storage.check_job import CheckJob
from protocol.engine import state_bytes_length
from protocol.errors import Refused
from protocol.recipes.campaign import Campaign
from protocol.trust.challenge import BeaconChains
from protocol.trust.messages import BlobPart, CampaignManifest, CheckRequest, OpeningRequest
from protocol.trust.openings import match_states, open_check_request
from protocol.trust.spot_check import open_states, open_weights


def fetch_check(
    request: CheckRequest,
    campaign: Campaign,
    manifest: CampaignManifest,
    client: Client,
    me: str,
    chains: BeaconChains,
) -> CheckJob:
    """Verify a request and fetch what it needs. Raises Refused or Away."""
    assert client.organizer is not None
    check = open_check_request(request, campaign, manifest, client.organizer, me, chains)
    recipe, count = check.assignment.recipe, len(check.assignment.seeds)
    size = state_bytes_length(recipe) * len(check.task.opened)
    states, weights = request.enclosed_states, request.enclosed_weights
    if len(states) != size:
        states = client.get(check.result_digest, BlobPart.STATES, check.slot, size)
    match_states(check, open_states(recipe, states, check.task.opened))
    if len(weights) != 4 * recipe.parameter_count * count:
        weights = client.get(check.result_digest, BlobPart.WEIGHTS, check.slot, 4 * recipe.parameter_count * count)
    open_weights(recipe, weights, count)
    return CheckJob(
        campaign=campaign.digest,
        assignment=check.assignment.index,
        result=check.result_digest,
        slot=check.slot,
        task=check.task,
        states=states,
        weights=weights,
    )


def open_cells(request: OpeningRequest, bundle: Bundle, client: Client) -> None:
    """Answer a challenge with the start states it names. Raises Refused or Away."""
    for cell in request.cells:
        if cell.network >= len(bundle.assignment.seeds):
            raise Refused("opening-request", f"there is no network {cell.network}")
    client.put(request.result, BlobPart.STATES, bundle.states(request.cells))


def hand_in_part(part: BlobPart, result: bytes, bundle: Bundle, client: Client) -> None:
    """Upload one of the blobs that belong to a committed result. Raises Refused or Away."""
    if part == BlobPart.TRACE:
        client.put(result, part, b"".join(leaf.to_bytes() for trace in bundle.traces() for leaf in trace))
    elif part == BlobPart.WEIGHTS:
        client.put(result, part, bundle.weights())
