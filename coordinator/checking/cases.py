"""One result with all that follows from it: its assignment, what is drawn, what must be opened. Read and cached.

What is in the ledger was verified when it came in; here it is only decoded. Everything is immutable once a draw is
made, so a cache needs no care; its bounds are.
"""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import msgspec
import numpy as np
from sqlalchemy import select

from coordinator.checking.blobs import Blobs
from coordinator.ledger.database import Ledger
from coordinator.ledger.tables import campaigns, results
from protocol.canonical import sha256
from protocol.engine import state_bytes_length
from protocol.errors import Refused
from protocol.recipes.campaign import Assignment, Campaign, campaign_from_bytes
from protocol.trust.challenge import SlotTask, challenge, rank_checkers
from protocol.trust.commitment import LEAF_BYTES, Trace, context
from protocol.trust.envelope import Envelope
from protocol.trust.messages import Cell, CheckRequest, Draw, Result
from protocol.trust.openings import check_opened, make_openings, slot_tasks
from protocol.trust.spot_check import open_states, open_weights
from protocol.trust.verdict import open_traces, segments_of

FILES_MAX = 1024  # cases in memory: tens of kilobytes each
TRACES_MAX = 8  # bundles' traces in memory: a few megabytes each
REQUESTS_MAX = 512  # check requests in memory: up to a megabyte each, mostly 100 kB


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFile:
    """A result and, once it is drawn, its challenge."""

    digest: bytes
    worker: str
    envelope: Envelope
    receipt: Envelope | None  # none for the second result of an equivocation
    result: Result
    campaign: Campaign
    assignment: Assignment
    segments: tuple[int, ...]
    draw: Draw | None = None
    draw_envelope: Envelope | None = None
    tasks: tuple[SlotTask, ...] = ()
    ranked: tuple[str, ...] = ()
    opened: tuple[Cell, ...] = ()  # all slots' together, sorted: what the worker must upload, in this order

    @property
    def context(self) -> bytes:
        return context(self.campaign.digest, self.assignment.index, self.worker)

    def legal_size(self, part: str) -> int:
        """The one length in bytes that this part of this result has. Raises Refused when it was not asked for."""
        recipe = self.assignment.recipe
        if part == "trace":
            return LEAF_BYTES * sum(count + 1 for count in self.segments)
        if part == "weights":
            return 4 * recipe.parameter_count * len(self.segments)
        if self.draw is None or not self.opened:
            raise Refused("upload-order", "no states have been asked for")
        return state_bytes_length(recipe) * len(self.opened)

    def parts(self) -> frozenset[str]:
        """What has to be uploaded; states are known once the draw is made."""
        return frozenset(("trace", "weights", *(("states",) if self.opened else ())))


class CampaignBook:
    """The ledger's campaigns, parsed once."""

    def __init__(self, ledger: Ledger):
        self._ledger = ledger
        self._known: dict[str, tuple[Campaign, Envelope]] = {}

    def get(self, digest: str) -> tuple[Campaign, Envelope]:
        """A campaign and its manifest. Raises Refused."""
        known = self._known.get(digest)
        if known is None:
            with self._ledger.read() as connection:
                row = connection.execute(select(campaigns).where(campaigns.c.digest == digest)).first()
            if row is None:
                raise Refused("unknown-campaign", digest[:64])
            known = campaign_from_bytes(row.exact), decode_envelope(row.manifest)
            self._known[digest] = known
        return known

    def states(self) -> dict[str, str]:
        """Digest -> state, in the order of seeding."""
        with self._ledger.read() as connection:
            found = connection.execute(select(campaigns.c.digest, campaigns.c.state).order_by(campaigns.c.seeded_at))
            return {row.digest: row.state for row in found}


class CaseFiles:
    """Cases by result digest; may be used from any thread."""

    def __init__(self, ledger: Ledger, book: CampaignBook, blobs: Blobs):
        self._ledger, self._book, self._blobs = ledger, book, blobs
        self._files: Recent[CaseFile] = Recent(FILES_MAX)
        self._traces: Recent[list[Trace]] = Recent(TRACES_MAX)
        self._requests: Recent[CheckRequest] = Recent(REQUESTS_MAX)

    def get(self, digest: bytes) -> CaseFile:
        """Raises Refused for a result that the ledger does not know."""
        file = self._files.get(digest)
        if file is None:
            file = self._load(digest)
            if file.draw is not None:  # before the draw it may still change
                self._files.put(digest, file)
        return file

    def _load(self, digest: bytes) -> CaseFile:
        with self._ledger.read() as connection:
            row = connection.execute(select(results).where(results.c.digest == digest)).first()
        if row is None:
            raise Refused("unknown-result", digest.hex()[:64])
        campaign, _ = self._book.get(row.campaign)
        envelope = decode_envelope(row.envelope)
        result = msgspec.msgpack.decode(envelope.payload, type=Result)
        assignment = campaign.assignments[row.assignment]
        draw_envelope = decode_envelope(row.draw) if row.draw else None
        draw = msgspec.msgpack.decode(draw_envelope.payload, type=Draw) if draw_envelope else None
        tasks = slot_tasks(campaign, assignment, result, digest, draw) if draw else []
        return CaseFile(
            digest=digest,
            worker=row.worker,
            envelope=envelope,
            receipt=decode_envelope(row.receipt) if row.receipt else None,
            result=result,
            campaign=campaign,
            assignment=assignment,
            segments=tuple(segments_of(assignment.recipe, result)),
            draw=draw,
            draw_envelope=draw_envelope,
            tasks=tuple(tasks),
            ranked=tuple(rank_checkers(challenge(draw.link, digest), draw.candidates)) if draw else (),
            opened=tuple(sorted({cell for task in tasks for cell in task.opened})),
        )

    def traces(self, file: CaseFile) -> list[Trace]:
        """The committed traces. Raises OSError when the blob is gone, or is no more what it was when it came."""
        traces = self._traces.get(file.digest)
        if traces is None:
            data = self._blob(file, "trace")
            try:  # proved again: a flipped bit on our disk must never convict an honest worker
                traces = open_traces(data, file.result, file.assignment, file.worker)
            except Refused as error:
                raise OSError(f"{self._path(file, 'trace')}: damaged: {error}") from None
            self._traces.put(file.digest, traces)
        return traces

    def forget(self, digest: bytes) -> None:
        """Its blobs are gone."""
        self._traces.drop(digest)

    def slot_states(self, file: CaseFile, slot: int) -> bytes:
        """The start states of a slot's opened cells, in its order, as one blob. Raises OSError."""
        opened = file.tasks[slot].opened
        if not opened:
            return b""
        data, length = self._blob(file, "states"), state_bytes_length(file.assignment.recipe)
        place = {cell: i * length for i, cell in enumerate(file.opened)}
        return b"".join(data[place[cell] : place[cell] + length] for cell in opened)

    def check_inputs(self, file: CaseFile, slot: int):
        """(states, weights) as `spot_check` wants them, proved to be the committed ones. Raises OSError."""
        recipe, cells = file.assignment.recipe, file.tasks[slot].opened
        try:
            states = open_states(recipe, self.slot_states(file, slot), cells)
            check_opened(self.traces(file), cells, states)
            return states, self.weights(file)
        except Refused as error:
            raise OSError(f"{self._blobs.path / file.digest.hex()}: damaged: {error}") from None

    def weights(self, file: CaseFile) -> list[np.ndarray]:
        """The bundle's final parameters, (P,) float32 each. Raises OSError, Refused."""
        return committed_weights(file, self._blob(file, "weights"))

    def check_request(self, file: CaseFile, slot: int) -> CheckRequest:
        """What a checker gets; it shows no end state. Raises OSError when the trace's blob is gone."""
        request = self._requests.get((file.digest, slot))
        if request is None:
            assert file.draw_envelope is not None and file.receipt is not None
            task = file.tasks[slot]
            request = CheckRequest(
                result=file.envelope,
                receipt=file.receipt,
                draw=file.draw_envelope,
                slot=slot,
                states=state_bytes_length(file.assignment.recipe) * len(task.opened),
                openings=make_openings(file.context, file.assignment.seeds, self.traces(file), task),
            )
            self._requests.put((file.digest, slot), request)
        return request

    def _blob(self, file: CaseFile, part: str) -> bytes:
        data = self._blobs.get(file.digest, part)
        if data is None or len(data) != file.legal_size(part):
            raise OSError(f"{self._path(file, part)}: missing or damaged")
        return data

    def _path(self, file: CaseFile, part: str) -> Path:
        return self._blobs.path / file.digest.hex() / part


def committed_weights(file: CaseFile, data: bytes) -> list[np.ndarray]:
    """A weights blob, finite, bounded, and exactly what the result committed to. Raises Refused."""
    recipe = file.assignment.recipe
    weights = open_weights(recipe, data, len(file.segments))
    length = 4 * recipe.parameter_count
    for i, network in enumerate(file.result.networks):
        if sha256(data[i * length : (i + 1) * length]) != network.weights_digest:
            raise Refused("weights-digest", f"seed {network.seed}: not the weights that were committed to")
    return weights


T = TypeVar("T")


class Recent(Generic[T]):
    """The last `limit` values that were asked for; may be used from any thread."""

    def __init__(self, limit: int):
        self._limit, self._lock = limit, threading.Lock()
        self._values: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable) -> T | None:
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: Hashable, value: T) -> None:
        with self._lock:
            self._values[key] = value
            while len(self._values) > self._limit:
                self._values.popitem(last=False)

    def drop(self, key: Hashable) -> None:
        with self._lock:
            self._values.pop(key, None)


def decode_envelope(data: bytes) -> Envelope:
    """An envelope that we stored ourselves."""
    return msgspec.msgpack.decode(data, type=Envelope)
