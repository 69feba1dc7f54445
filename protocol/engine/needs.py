"""What training takes at most, in bytes, by arithmetic alone: before anything is begun.

Upper bounds: every network trains to its last step, and as many as can be are in flight.
"""

from math import prod

from protocol.engine import state_bytes_length
from protocol.recipes.recipe import Recipe

BASE_BYTES = 600 * 10**6  # the three processes of a volunteer before they have work
IN_FLIGHT = 16  # networks that the training process has at once
COPIES = 2  # of what is in flight: before and after a segment; of a blob: as read, and as sent


def memory_bytes(recipe: Recipe, networks: int, opened: int) -> int:
    """Of all processes of a volunteer with a bundle of so many networks, `opened` of whose states may be asked for."""
    state, shape = state_bytes_length(recipe), recipe.task_shape
    sample = 4 * shape.length * prod(shape.input)
    data = (shape.samples + shape.held_out) * sample * (IN_FLIGHT if "data" in recipe.vary else 1)
    training = IN_FLIGHT * state * COPIES + data
    handing_in = max(opened * state, 4 * recipe.parameter_count * networks) * COPIES
    return BASE_BYTES + training + handing_in
