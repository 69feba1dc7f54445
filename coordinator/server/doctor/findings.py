"""What a doctor notes down: problems with their mends, and how much was looked at."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from protocol.errors import Refused, UsageError, shown

SAID_MAX = 20  # of one kind; a disk that rots has thousands


@dataclass
class Findings:
    """Lines for a person. `problems` are what makes the exit status 1."""

    problems: list[str] = field(default_factory=list)
    looked_at: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)  # harmless, worth knowing
    _times: Counter[str] = field(default_factory=Counter)

    def problem(self, what: str, mend: str) -> None:
        """One line. Of one mend at most SAID_MAX lines are kept, the others are counted."""
        self._times[mend] += 1
        if self._times[mend] <= SAID_MAX:
            self.problems.append(shown(f"{what}; {mend}"))

    def more(self) -> list[str]:
        """A line for each mend of which not all problems are listed."""
        return [f"and {n - SAID_MAX:,} more like this: {mend}" for mend, n in self._times.items() if n > SAID_MAX]

    @contextlib.contextmanager
    def looking(self, kind: str, what: str, mend: str) -> Iterator[None]:
        """Around looking at one thing: whatever is wrong with its bytes is a problem with this mend."""
        self.looked_at[kind] += 1
        try:
            yield
        except (Refused, UsageError, OSError, ValueError, LookupError, TypeError, msgspec.MsgspecError) as error:
            self.problem(f"{what}: {error}", mend)
