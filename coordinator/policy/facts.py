"""What decisions depend on, read from the ledger beforehand: results and hosts, as values."""

from dataclasses import dataclass, replace

from coordinator.policy.phases import HELD, LIVE, Phase

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
    drawn: bool = False  # its challenge is fixed

    @property
    def holds(self) -> bool:
        """Whether its assignment is taken. A commitment alone takes nothing: it costs nothing to make one."""
        return self.phase in (Phase.CHECKING, Phase.ADMITTED) or (self.phase in HELD and self.uploaded)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRecord:
    """What the ledger knows of one host. A host that it does not know has an empty record."""

    host: str
    banned: str = ""  # why, or ""
    settled: tuple[tuple[bytes, bool], ...] = ()  # (digest, whether a fault), the newest first, FAULT_WINDOW at most
    unsettled: tuple[StoredResult, ...] = ()

    def with_outcome(self, digest: bytes, phase: Phase, fault: bool) -> "HostRecord":
        """The record after one of its results was settled, or settled anew."""
        assert phase not in LIVE
        others = tuple(pair for pair in self.settled if pair[0] != digest)
        unsettled = tuple(result for result in self.unsettled if result.digest != digest)
        return replace(self, settled=((digest, fault), *others)[:FAULT_WINDOW], unsettled=unsettled)

    def with_unsettled(self, result: StoredResult) -> "HostRecord":
        return replace(self, unsettled=(*self.unsettled, result))
