"""A cheat's way to use a challenge that it knows: hand in the one of many results whose draw misses what it faked.

The label of its backend is free text and part of what is signed, so every other label is another throw of the dice.
"""

from typing import TYPE_CHECKING

import msgspec

from coordinator.policy.standing import bar_of, stands
from protocol.trust.challenge import challenge, draw_cells
from protocol.trust.envelope import seal
from protocol.trust.messages import Result
from protocol.trust.verdict import segments_of

if TYPE_CHECKING:
    from simulation.actors.host import Host

TRIES = 1000


def grind(host: "Host", result: Result, bad: set[tuple[int, int]]) -> Result:
    """With the last link that has been shown: the best that anybody can know when it commits."""
    organizer = host.world.organizer
    link = organizer.beacon.link(organizer.ledger.epoch)
    policy, assignment = organizer.campaign.policy, organizer.campaign.assignment(result.assignment)
    standing = stands(organizer.refereeing.standing(host.host), bar_of(organizer.campaign))
    segments = segments_of(assignment.recipe, result)
    for throw in range(TRIES):
        tried = msgspec.structs.replace(result, backend=f"{result.backend} {throw}")
        digest = seal(host.identity, tried).digest
        tasks = draw_cells(policy, standing, challenge(link, digest), segments)
        if not any((cell.network, cell.segment) in bad for task in tasks for cell in task.cells):
            return tried
    return result
