"""Parts of a zoo to learn from, to choose by and to test on, that share no seed, no recipe, no machine or no host.

A network's part follows from the digest of what it must not share, and from nothing else: the same in every selection,
in every order, on every computer, and in the zoo of next year. So shares are met on average over many groups, not
exactly. Axes: N networks.
"""

from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from protocol.canonical import hexdigest
from protocol.errors import UsageError

COLUMN_OF = {"machine": "task.machine"}  # other words are names of columns: seed, recipe, host, class, ...
THIRDS = (0.6, 0.2, 0.2)
DIGITS = 13  # of a digest: 52 bits, which a float holds exactly
SUM_TOLERANCE = 1e-9  # shares such as 0.7, 0.2, 0.1 do not add up to 1 in binary


def parts_by_digest(
    values: Iterable[Hashable], shares: Sequence[float] = THIRDS, salt: int = 0, name: str = "groups"
) -> np.ndarray:
    """(N,) numbers of parts from 0: equal values are in one part, about `shares` of the different values in each.

    `salt`: another one gives another split. Raises UsageError: shares that are none, a value that is missing, a part
    that gets nothing (few values).
    """
    shares_K, values = np.asarray(shares, float), list(values)
    if len(shares_K) < 2 or not (shares_K > 0).all() or not abs(shares_K.sum() - 1) <= SUM_TOLERANCE:
        raise UsageError(f"parts {tuple(shares)}: at least two shares above 0 that add up to 1, e.g. {THIRDS}")
    if missing := sum(value is None for value in values):
        raise UsageError(f"{missing} of these networks have no {name}: leave them out by `where`")
    if nested := next((value for value in values if not isinstance(value, Hashable)), None):
        raise UsageError(f"{name} is no group: it holds {type(nested).__name__}s, neither texts nor numbers")
    part_of = {value: part_of_value(value, shares_K, salt) for value in dict.fromkeys(values)}
    if empty := sorted(set(range(len(shares_K))) - set(part_of.values())):
        raise UsageError(
            f"{len(part_of)} different values of {name} leave part {empty[0]} of {len(shares_K)} empty: "
            "another `salt`, fewer parts, or more networks"
        )
    return np.array([part_of[value] for value in values])


def part_of_value(value: Hashable, shares_K: np.ndarray, salt: int) -> int:
    """Where its digest falls on the line from 0 to 1 that the shares cut."""
    place = int(hexdigest(f"zooswarm split {salt} {value}".encode())[:DIGITS], 16) / 16**DIGITS
    return int(np.searchsorted(np.cumsum(shares_K[:-1]), place, side="right"))
