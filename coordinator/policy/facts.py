"""What decisions depend on, read from the ledger beforehand: results and hosts, as values."""

from dataclasses import dataclass, replace

from coordinator.policy.phases import LIVE, UNDER_WAY, Phase

FAULT_WINDOW = 50  # a host's last bundles, in which faults are counted


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResult:
    """One result as the ledger has it, or as it would be stored."""

    digest: bytes
    campaign: str
    assignment: int
    worker: str
    phase: Phase
    networks: int
    segments: int  # network-segments: what it earns
    event: str = ""  # the last transition's, "" before the first
    uploaded: bool = False  # trace and weights are here
    vests_at: int = 0  # its credit leaves escrow with the worker's admission of this number; 0 before its own
    drawn: bool = False  # its challenge is fixed

    @property
    def shows_work(self) -> bool:
        """Whether its admission proves anything of its host: networks that met their stop rule before the first step
        cost nothing, so a key that waits for such assignments would stand for nothing."""
        return self.segments >= self.networks

    @property
    def holds(self) -> bool:
        """Whether its assignment is taken. A commitment alone takes nothing: it costs nothing to make one."""
        return self.phase in (Phase.CHECKING, Phase.ADMITTED) or (self.phase in UNDER_WAY and self.uploaded)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRecord:
    """What the ledger knows of one host. A host that it does not know has an empty record."""

    host: str
    banned: str = ""  # why, or ""
    convicted: bool = False  # shown to have lied, and all that follows from it has followed
    admissions: int = 0  # bundles ever admitted that show work; what is retracted later stays counted
    settled: tuple[tuple[bytes, bool], ...] = ()  # (digest, whether a fault), the newest first, FAULT_WINDOW at most
    unsettled: tuple[StoredResult, ...] = ()
    unvested: tuple[StoredResult, ...] = ()  # admitted ones whose credit is in escrow, the oldest first

    @property
    def escrow(self) -> int:
        """Network-segments that are credited and would be lost with a conviction."""
        return sum(result.segments for result in self.unvested)

    def with_outcome(self, digest: bytes, phase: Phase, fault: bool) -> "HostRecord":
        """The record after one of its results was settled, or settled anew."""
        assert phase not in LIVE
        others = tuple(pair for pair in self.settled if pair[0] != digest)
        unsettled = tuple(result for result in self.unsettled if result.digest != digest)
        unvested = tuple(result for result in self.unvested if result.digest != digest)
        settled = ((digest, fault), *others)[:FAULT_WINDOW]
        return replace(self, settled=settled, unsettled=unsettled, unvested=unvested)

    def with_unsettled(self, result: StoredResult) -> "HostRecord":
        return replace(self, unsettled=(*self.unsettled, result))
