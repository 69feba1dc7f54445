"""Who has an assignment: the first result that is uploaded; others are kept behind it, and taken up should it fall."""

from collections.abc import Collection

from sqlalchemy import Connection

from coordinator.ledger.database import get_meta
from coordinator.ledger.facts import read_result, read_rivals, read_standing
from coordinator.ledger.results import CHANGE, STATE, move
from coordinator.ledger.settlement import Sign, settle_result
from coordinator.policy.actions import Action, WakeReferee
from coordinator.policy.phases import LIVE, Event
from coordinator.policy.receive import overtaken
from coordinator.policy.standing import bar_of, stands
from protocol.recipes.campaign import Campaign
from protocol.trust.messages import BlobPart, Receipt


def add_parts(
    connection: Connection, digest: bytes, parts: Collection[str], campaign: Campaign, sign: Sign, now: float
) -> tuple[Action, ...]:
    """Verified blobs are kept. No change to a result that was settled meanwhile.

    With trace and weights it takes its assignment, unless it is kept behind another.
    """
    row = STATE.first(connection, key=digest)
    if row is None or row.phase not in LIVE:
        return ()
    here = {*filter(None, row.parts.split(",")), *parts}
    uploaded = here >= {BlobPart.TRACE, BlobPart.WEIGHTS}
    CHANGE.change(connection, key=digest, parts=",".join(sorted(here)), uploaded=int(uploaded))
    return _take_place(connection, digest, campaign, sign, now) if uploaded else ()


def take_up(connection: Connection, digest: bytes, campaign: Campaign, sign: Sign, now: float) -> tuple[Action, ...]:
    """A kept result goes on: the one before it fell. No change when another has the assignment.

    Undrawn it gets a receipt of now: the link that was to challenge it has been shown meanwhile.
    """
    result = read_result(connection, digest)
    if result is None or any(r.holds for r in read_rivals(connection, result.campaign, result.assignment)):
        return ()
    values: dict[str, object] = {}
    if not result.drawn:
        epoch = int(get_meta(connection, "epoch", "0"))
        values = {"receipt": sign(Receipt(result=digest, epoch=epoch, received_at=now)), "epoch": epoch}
    if not move(connection, digest, Event.TAKEN_UP, now, **values):
        return ()
    return (*_take_place(connection, digest, campaign, sign, now), WakeReferee()) if result.uploaded else ()


def _take_place(
    connection: Connection, digest: bytes, campaign: Campaign, sign: Sign, now: float
) -> tuple[Action, ...]:
    """Trace and weights are here: other hosts' results for the assignment that are not wait, or end."""
    result = read_result(connection, digest)
    assert result is not None
    rivals = read_rivals(connection, result.campaign, result.assignment)
    if len(rivals) == 1:  # itself
        return ()
    stand = {r.worker for r in rivals if stands(read_standing(connection, r.worker), bar_of(campaign))}
    late = overtaken(result, rivals, stand)
    for rival in late.kept:
        move(connection, rival.digest, Event.SET_ASIDE, now)
    actions: list[Action] = []
    for rival in late.ended:
        reason = "another host's result for this assignment was uploaded first"
        actions += settle_result(connection, rival.digest, Event.OVERTAKEN, reason, campaign, sign, now)
    return tuple(actions)
