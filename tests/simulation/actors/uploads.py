"""Blobs at the organizer's: verified as they come, served to checkers, deleted when nobody needs them."""

from collections.abc import Iterable

from coordinator.policy.actions import Action, DeleteBlobs
from coordinator.policy.phases import LIVE
from coordinator.policy.uploads import UploadFacts, is_here, may_fetch
from protocol.canonical import sha256
from protocol.engine import state_bytes_length
from protocol.errors import Refused
from protocol.trust.commitment import LEAF_BYTES
from protocol.trust.messages import BlobPart
from protocol.trust.openings import check_opened
from protocol.trust.spot_check import open_states, open_weights
from protocol.trust.verdict import open_traces
from simulation.actors.ledger import Row


class Mismatch(Exception):
    """An upload is not what was committed to: its result is void."""

    def __init__(self, refused: Refused):
        super().__init__(str(refused))
        self.reason = refused.reason


def legal_sizes(row: Row) -> dict[str, int]:
    """Bytes of each part that has been asked for."""
    recipe = row.assignment.recipe
    sizes = {
        "trace": LEAF_BYTES * sum(count + 1 for count in row.segments),
        "weights": 4 * recipe.parameter_count * len(row.segments),
    }
    if row.opened:
        sizes["states"] = state_bytes_length(recipe) * len(row.opened)
    return sizes


def store(row: Row, host: str, part: str, data: bytes) -> None:
    """Verify a part and keep it. Raises Refused, or Mismatch when it is not what was signed."""
    facts = UploadFacts(
        signer=host,
        worker=row.worker,
        part=BlobPart(part),
        size=len(data),
        phase=row.phase,
        parts=row.blobs.keys(),
        legal_sizes={BlobPart(name): size for name, size in legal_sizes(row).items()},
    )
    if is_here(facts):
        return
    try:
        _verify(row, part, data)
    except Refused as error:
        raise Mismatch(error) from None
    row.blobs[part] = data


def _verify(row: Row, part: str, data: bytes) -> None:
    recipe = row.assignment.recipe
    if part == "trace":
        row.traces = open_traces(data, row.result, row.assignment, row.worker)
    elif part == "weights":
        open_weights(recipe, data, len(row.segments))
        length = 4 * recipe.parameter_count
        for i, network in enumerate(row.result.networks):
            if sha256(data[i * length : (i + 1) * length]) != network.weights_digest:
                raise Refused("weights-digest", f"seed {network.seed}: not the weights that were committed to")
    else:
        check_opened(row.traces, row.opened, open_states(recipe, data, row.opened))


def slot_states(row: Row, slot: int) -> bytes:
    """The start states of one slot's cells, out of the uploaded ones. Raises Refused."""
    opened = row.tasks[slot].opened if slot < len(row.tasks) else ()
    if not opened:
        return b""
    if not may_fetch("states", row.phase, row.blobs.keys(), slot, len(row.tasks)):
        raise Refused("no-blob", "there are no states of this result to fetch now")
    data, length = row.blobs["states"], state_bytes_length(row.assignment.recipe)
    place = {cell: i * length for i, cell in enumerate(row.opened)}
    return b"".join(data[place[cell] : place[cell] + length] for cell in opened)


def weights(row: Row, slot: int) -> bytes:
    """Raises Refused."""
    if "weights" not in row.blobs or not may_fetch("weights", row.phase, row.blobs.keys(), slot, len(row.tasks)):
        raise Refused("no-blob", "there are no weights of this result to fetch now")
    return row.blobs["weights"]


def delete(row: Row, actions: Iterable[Action]) -> None:
    """What the policy says may go. A result that is void has no blobs: handed in again, they are uploaded again."""
    for action in actions:
        if isinstance(action, DeleteBlobs) and action.result == row.digest:
            for part in action.parts or tuple(row.blobs):
                row.blobs.pop(part, None)
    assert row.phase not in LIVE or row.blobs is not None
