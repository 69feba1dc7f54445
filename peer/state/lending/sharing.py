"""Campaigns of equal priority share a volunteer: each gets the same work, whatever its bundles are like.

Start-time fair queueing. Each claim of a campaign begins where its last one ended on a clock of work, which stands
where the newest claim began. A campaign that is new, or had nothing free for a while, begins at that clock: it gets
its share from then on, and nothing for the time that is gone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Shares:
    """What each campaign has been given, in multiplications (`limits.training_work`)."""

    clock: float = 0.0
    ends: dict[str, float] = field(default_factory=dict)  # by campaign: where its last claim ended

    def begin(self, campaign: str) -> float:
        return max(self.clock, self.ends.get(campaign, 0.0))

    def give(self, campaign: str, work: float) -> None:
        """A claim of so much was won."""
        self.clock = self.begin(campaign)
        self.ends[campaign] = self.clock + work


def whose_turn(campaigns: Iterable[str], urgency: Mapping[str, int], shares: Shares) -> str:
    """Of these (at least one) the most urgent; among equals the one whose next claim begins first."""
    return min(campaigns, key=lambda campaign: (-urgency[campaign], shares.begin(campaign), campaign))
