"""How likely it was that a fake gets through: spot checks are a lottery, and a lottery may be lost honestly.

One admitted fake proves nothing; many that were unlikely prove that the draw was not blind.
"""

from collections.abc import Collection, Sequence
from math import comb

from protocol.recipes.campaign import Policy

IMPOSSIBLE = 1e-6  # less likely than this by chance, in one run: the rules are broken


def escapes(
    policy: Policy,
    standing: bool,
    segments: Sequence[int],
    bad: set[tuple[int, int]],
    friends: Collection[int] = (),
) -> float:
    """The probability that no honest checker draws a bad cell (`protocol.trust.challenge.draw_cells`).

    `friends` are the slots whose checkers see no evil.
    """
    slots = policy.checkers if standing else policy.probation_checkers
    own = policy.cells if standing else policy.probation_cells
    if policy.final_cell:
        last = {n for n, count in enumerate(segments) if (n, count - 1) in bad}
        if any(network % slots not in friends for network in last):
            return 0.0
    total = sum(segments)
    drawn = min(own, total)
    missed = (comb(total - len(bad), drawn) / comb(total, drawn)) ** (slots - len(set(friends)))
    for network, count in enumerate(segments):
        share = sum(1 for n, _ in bad if n == network) / max(1, count)
        honest = sum((network + i) % slots not in friends for i in range(min(policy.cells_per_network, count)))
        missed *= (1 - share) ** honest
    return missed


def at_least(admitted: int, chances: Sequence[float]) -> float:
    """The probability that at least so many of the fakes escape, each with its own chance."""
    counts = [1.0]  # counts[k]: probability that k of those so far escaped
    for p in chances:
        counts = [
            (counts[k] * (1 - p) if k < len(counts) else 0.0) + (counts[k - 1] * p if k else 0.0)
            for k in range(len(counts) + 1)
        ]
    return sum(counts[admitted:])
