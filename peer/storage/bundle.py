"""One assignment on the volunteer's disk: every boundary of every network, appended as training goes.

A network's two files grow together: `<seed>.states` holds fixed-length states, `<seed>.leaves` the 80-byte leaves that
vouch for them. Both are the checkpoint and, later, the answer to a challenge. A kill costs at most one segment: a
half-written record is cut off on the next start, a damaged file is set aside and that network starts over.
"""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from protocol.engine import State, digest_of_bytes, state_bytes_length, state_from_bytes
from protocol.engine.training import Boundary, is_final
from protocol.errors import Refused
from protocol.files import write_atomic
from protocol.recipes.campaign import Assignment
from protocol.trust.commitment import LEAF_BYTES, Leaf, Trace, leaf_from_bytes, leaf_of
from protocol.trust.envelope import Envelope, envelope_from_bytes
from protocol.trust.messages import Cell, Result
from protocol.trust.verdict import make_result


class Bundle:
    """The files of one assignment. Only one process writes states (the worker), only one the rest (the daemon)."""

    def __init__(self, path: Path, assignment: Assignment):
        self.path, self.assignment = path, assignment

    @classmethod
    def create(cls, path: Path, assignment: Assignment) -> "Bundle":
        path.mkdir(parents=True, exist_ok=True)
        about = {"campaign": assignment.campaign, "index": assignment.index}
        write_atomic(path / "assignment.json", json.dumps(about).encode())
        return cls(path, assignment)

    # -- training ------------------------------------------------------------------------------------------------
    def append(self, seed: int, boundary: Boundary) -> None:
        """State first, leaf second: a leaf on disk vouches for a whole state."""
        leaf = leaf_of(boundary.state, boundary.loss, boundary.held_out_loss)
        append_to(self.path / f"{seed}.states", boundary.state.pieces())
        append_to(self.path / f"{seed}.leaves", [leaf.to_bytes()])

    def resume(self, seed: int) -> State | None:
        """The last whole state of a network, its files cut back to it; None when it has not begun."""
        states, leaves = self.path / f"{seed}.states", self.path / f"{seed}.leaves"
        if not states.exists() or not leaves.exists():
            states.unlink(missing_ok=True)
            leaves.unlink(missing_ok=True)
            return None
        length = state_bytes_length(self.assignment.recipe)
        count = min(states.stat().st_size // length, leaves.stat().st_size // LEAF_BYTES)
        for path, size in ((states, length), (leaves, LEAF_BYTES)):
            with path.open("r+b") as f:
                f.truncate(count * size)
        if not count:
            return None
        return self._state(seed, count - 1) if self.is_sound(seed) else None

    def is_sound(self, seed: int) -> bool:
        """Whether each state of a network is the one that its leaf vouches for; if not, its files are set aside.

        One that is not would be found by a checker, after we have signed it: a fault of ours.
        """
        try:
            length = state_bytes_length(self.assignment.recipe)
            with (self.path / f"{seed}.states").open("rb", buffering=0) as f:
                if all(digest_of_bytes(f.read(length)) == leaf.state_digest for leaf in self.trace(seed)):
                    return True
        except (Refused, FileNotFoundError):
            pass
        for name in ("states", "leaves"):  # the disk did not keep what was written: keep the evidence, start it over
            path = self.path / f"{seed}.{name}"
            if path.exists():
                path.replace(path.with_suffix(path.suffix + ".damaged"))
        return False

    def trace(self, seed: int) -> Trace:
        try:
            data = (self.path / f"{seed}.leaves").read_bytes()
        except FileNotFoundError:
            return ()
        whole = len(data) // LEAF_BYTES * LEAF_BYTES
        return tuple(leaf_from_bytes(data[i : i + LEAF_BYTES]) for i in range(0, whole, LEAF_BYTES))

    def is_trained(self, seed: int) -> bool:
        trace = self.trace(seed)
        return bool(trace) and self._final(trace[-1])

    def _final(self, leaf: Leaf) -> bool:
        return is_final(self.assignment.recipe, leaf.step, leaf.held_out_loss)

    @property
    def all_trained(self) -> bool:
        return all(self.is_trained(seed) for seed in self.assignment.seeds)

    @property
    def segments_done(self) -> int:
        return sum(max(0, len(self.trace(seed)) - 1) for seed in self.assignment.seeds)

    def _state(self, seed: int, boundary: int) -> State:
        length = state_bytes_length(self.assignment.recipe)
        with (self.path / f"{seed}.states").open("rb") as f:
            f.seek(boundary * length)
            return state_from_bytes(self.assignment.recipe, f.read(length))

    # -- handing in ----------------------------------------------------------------------------------------------
    def traces(self) -> list[Trace]:
        return [self.trace(seed) for seed in self.assignment.seeds]

    def weights(self) -> bytes:
        """Final parameters of all networks, in seed order: the weights blob."""
        return b"".join(
            np.asarray(self._state(seed, len(trace) - 1).params, "<f4").tobytes()
            for seed, trace in zip(self.assignment.seeds, self.traces(), strict=True)
        )

    def states(self, cells: tuple[Cell, ...]) -> bytes:
        """Start states of the challenged cells, in order: the states blob. Raises Refused when a file is damaged."""
        parts = []
        for cell in cells:
            seed = self.assignment.seeds[cell.network]
            state = self._state(seed, cell.segment)
            if state.digest != self.trace(seed)[cell.segment].state_digest:
                raise Refused("states-damaged", f"{self.path / f'{seed}.states'}: boundary {cell.segment}")
            parts.append(state.to_bytes())
        return b"".join(parts)

    def result(self, host: str, backend: str) -> Result:
        """The claim about this bundle, for the host to sign."""
        return make_result(self.assignment, self.traces(), host, backend)

    def keep(self, name: str, envelope: Envelope) -> None:
        """Write a signed message (`result` or `receipt`) whole or not at all."""
        write_atomic(self.path / f"{name}.envelope", envelope.to_bytes())

    def kept(self, name: str) -> Envelope | None:
        path = self.path / f"{name}.envelope"
        try:
            return envelope_from_bytes(path.read_bytes())
        except FileNotFoundError:
            return None
        except Refused:  # made before a crash of the file system; it can be made again
            path.unlink()
            return None

    def forget(self, name: str) -> None:
        (self.path / f"{name}.envelope").unlink(missing_ok=True)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def append_to(path: Path, pieces: Sequence[bytes | memoryview]) -> None:
    """Add to a file, made where there is none. Raises OSError, also when not all of it fits on the disk."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        written = os.writev(file, pieces)
        if written < sum(map(len, pieces)):  # a disk that is nearly full: the next write says so
            rest = memoryview(b"".join(pieces))[written:]
            while rest:
                rest = rest[os.write(file, rest) :]
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None  # which file: a person has to make room
    finally:
        os.close(file)
