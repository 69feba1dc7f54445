"""A volunteer's disk: bundles and check jobs. It survives a crash, except for the write that was under way.

What `peer.storage.bundle` promises is taken as given: a write is whole or absent, and a bundle that is opened again is
cut back to its last whole state. So a torn write costs the last boundary of one network, or a file its existence.
"""

import random
from dataclasses import dataclass, field

import numpy as np

from protocol.engine.training import Boundary
from protocol.errors import Refused
from protocol.recipes.campaign import Assignment
from protocol.trust.commitment import Trace, traces_to_bytes
from protocol.trust.envelope import Envelope
from protocol.trust.messages import Cell, Result
from protocol.trust.verdict import make_result
from simulation.environment.engine import Truth


@dataclass(eq=False)
class StoredBundle:
    """One assignment's files."""

    assignment: Assignment
    paths: dict[int, list[Boundary]]  # by seed: what is trained so far
    truth: Truth  # for its leaves
    result: Envelope | None = None
    receipt: Envelope | None = None

    def untrained(self) -> tuple[int, ...]:
        return tuple(seed for seed, path in self.paths.items() if not path or not path[-1].final)

    def traces(self) -> list[Trace]:
        return [self.truth.trace(path) for path in self.paths.values()]

    def make_result(self, host: str, backend: str) -> Result:
        """The claim about this bundle, under the name of `host`."""
        return make_result(self.assignment, self.traces(), host, backend)

    def part(self, part: str) -> bytes:
        """The blob of the trace, or of the weights."""
        if part == "trace":
            return traces_to_bytes(self.traces())
        return b"".join(np.asarray(path[-1].state.params, "<f4").tobytes() for path in self.paths.values())

    def states(self, cells: tuple[Cell, ...]) -> bytes:
        """Start states of the challenged cells. Raises Refused for cells that this bundle has not."""
        paths = list(self.paths.values())
        if any(cell.network >= len(paths) or cell.segment >= len(paths[cell.network]) for cell in cells):
            raise Refused("opening-request", "there is no such cell")
        return b"".join(paths[cell.network][cell.segment].state.to_bytes() for cell in cells)


class DiskFull(Exception):
    """Nothing can be written."""


@dataclass(eq=False)
class Disk:
    truth: Truth
    full: bool = False
    bundles: dict[int, StoredBundle] = field(default_factory=dict)  # by assignment index
    _last_write: tuple[int, int] | None = None  # (assignment, seed) of the last boundary

    FREE_BYTES = 10**12

    @property
    def free_bytes(self) -> int:
        return 0 if self.full else self.FREE_BYTES

    def create(self, assignment: Assignment) -> None:
        """Raises DiskFull. Again is harmless."""
        self._writable()
        if assignment.index not in self.bundles:
            self.bundles[assignment.index] = StoredBundle(
                assignment, {seed: [] for seed in assignment.seeds}, self.truth
            )

    def append(self, index: int, seed: int, boundary: Boundary) -> None:
        """Raises DiskFull."""
        self._writable()
        self.bundles[index].paths[seed].append(boundary)
        self._last_write = index, seed

    def keep_result(self, index: int, result: Envelope) -> None:
        self._writable()
        self.bundles[index].result = result

    def keep_receipt(self, index: int, receipt: Envelope) -> None:
        self._writable()
        self.bundles[index].receipt = receipt

    def remove(self, index: int) -> None:
        self.bundles.pop(index, None)

    def crash(self, rng: random.Random, torn: float) -> bool:
        """The power goes. True when the last boundary was torn by it."""
        written, self._last_write = self._last_write, None
        if written is None or rng.random() >= torn:
            return False
        bundle = self.bundles.get(written[0])
        if bundle is None or bundle.result is not None or not bundle.paths[written[1]]:
            return False  # signed: all of it was durable
        bundle.paths[written[1]].pop()
        return True

    def _writable(self) -> None:
        if self.full:
            raise DiskFull("no space left on device")
