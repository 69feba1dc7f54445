"""What a run asked of the organizer: the largest of each load, over spans of ten seconds."""

from collections import Counter
from dataclasses import dataclass, field

SPAN_SECONDS = 10.0


@dataclass
class Loads:
    messages: Counter[int] = field(default_factory=Counter)  # served, by span
    outcomes: Counter[int] = field(default_factory=Counter)  # of results, by span
    roster: int = 0  # hosts on the largest
    unsettled: int = 0  # results at once

    def served(self, now: float) -> None:
        self.messages[int(now / SPAN_SECONDS)] += 1

    def settled(self, now: float, results: int) -> None:
        self.outcomes[int(now / SPAN_SECONDS)] += results

    def looked(self, unsettled: int) -> None:
        self.unsettled = max(self.unsettled, unsettled)

    def drew(self, hosts: int) -> None:
        self.roster = max(self.roster, hosts)

    def line(self) -> str:
        """For people."""
        messages, outcomes = max(self.messages.values(), default=0), max(self.outcomes.values(), default=0)
        return (
            f"the organizer's largest loads: {messages / SPAN_SECONDS:,.0f} messages/s,"
            f" {outcomes / SPAN_SECONDS:,.0f} outcomes/s, {self.unsettled:,} unsettled results,"
            f" a roster of {self.roster:,} hosts; {sum(self.messages.values()):,} messages in all"
        )
