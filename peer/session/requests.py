"""The longer requests to a coordinator: fetch and verify a check, open challenged states, upload what belongs to a
result.
"""

from itertools import pairwise

from peer.session.client import Client
from peer.storage.bundle import Bundle
from peer.storage.check_job import CheckJob
from protocol.engine import state_bytes_length
from protocol.errors import Refused
from protocol.recipes.campaign import Campaign, Policy
from protocol.rpc.wire import ENCLOSED_BYTES_MAX
from protocol.trust.challenge import BeaconChains, opened_max
from protocol.trust.commitment import traces_to_bytes
from protocol.trust.messages import BlobPart, CampaignManifest, Cell, CheckRequest, OpeningRequest
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


def open_cells(request: OpeningRequest, bundle: Bundle, policy: Policy) -> bytes:
    """The start states that a challenge names, one after another. Raises Refused."""
    check_cells(request.cells, bundle, policy)
    return bundle.states(request.cells)


def check_cells(cells: tuple[Cell, ...], bundle: Bundle, policy: Policy) -> None:
    """Raises Refused, before a state is read, for what no draw can ask for: cells twice, out of order, or too many."""
    seeds, recipe = bundle.assignment.seeds, bundle.assignment.recipe
    most = opened_max(policy, recipe, len(seeds))
    if len(cells) > most:
        raise Refused("opening-request", f"{len(cells):,} states; this campaign draws at most {most:,}")
    if any(later <= earlier for earlier, later in pairwise(cells)):
        raise Refused("opening-request", "the cells are not in order, or one is there twice")
    for cell in cells:
        if cell.network >= len(seeds):
            raise Refused("opening-request", f"there is no network {cell.network}")
        if not 0 < cell.segment < len(bundle.trace(seeds[cell.network])):
            raise Refused("opening-request", f"network {cell.network} has no state to open at {cell.segment}")


def enclosed_parts(bundle: Bundle) -> dict[BlobPart, bytes]:
    """Trace and weights of a finished bundle, where they are small enough to go along with its result."""
    recipe, count = bundle.assignment.recipe, len(bundle.assignment.seeds)
    if 4 * recipe.parameter_count * count > ENCLOSED_BYTES_MAX:
        return {}
    try:
        parts = {part: part_of(bundle, part) for part in (BlobPart.TRACE, BlobPart.WEIGHTS)}
    except (Refused, OSError):  # whoever uploads them says what is damaged
        return {}
    return parts if sum(map(len, parts.values())) <= ENCLOSED_BYTES_MAX else {}


def part_of(bundle: Bundle, part: BlobPart) -> bytes:
    """The trace or the weights."""
    return bundle.weights() if part == BlobPart.WEIGHTS else traces_to_bytes(bundle.traces())


def hand_in_part(part: BlobPart, result: bytes, bundle: Bundle, client: Client) -> None:
    """Upload one of the blobs that belong to a committed result. Raises Refused or Away."""
    client.put(result, part, part_of(bundle, part))
