"""One result with all that follows from it: its assignment, what is drawn, what must be opened. Read and cached.

What is in the ledger was verified when it came in; here it is only decoded. Everything is immutable once a draw is
made, so a cache needs no care; its bounds are.
"""

import threading
from collections.abc import Callable, Hashable, MutableMapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np
from cachetools import LRUCache
from sqlalchemy import Row, bindparam, select

from coordinator.checking.blobs import Blobs
from coordinator.ledger.database import Ledger
from coordinator.ledger.prepared import Prepared
from coordinator.ledger.tables import campaigns, results
from protocol.canonical import sha256
from protocol.engine import state_bytes_length
from protocol.errors import Refused
from protocol.recipes.campaign import Assignment, Campaign, campaign_from_bytes
from protocol.trust.challenge import SlotTask
from protocol.trust.commitment import LEAF_BYTES, Trace, bundle_leaves, context, merkle_levels
from protocol.trust.envelope import Envelope
from protocol.trust.messages import BlobPart, CampaignState, Cell, CheckRequest, Draw, Result, Seat
from protocol.trust.openings import check_opened, make_openings, slot_tasks
from protocol.trust.spot_check import open_states, open_weights
from protocol.trust.verdict import open_traces, segments_of

CASES_MAX = 1024  # cases in memory: tens of kilobytes each
LEAVES_MAX = 200_000  # of traces in memory, some 300 bytes each: thousands of small bundles, or a few large ones
BUNDLES_MIN = 8  # so many bundles' traces are kept, however long they are
ENCLOSED_BYTES_MAX = 24 * 1024  # states and weights in a check request: it is sent again until it is answered
SHARED_MAX, SHARED_BYTES_MAX = 64, 128 * 1024  # what all slots of a result share, in memory; its states and weights
REQUESTS_MAX = 512  # check requests in memory: up to a megabyte each, mostly 100 kB

RESULT = Prepared(select(results).where(results.c.digest == bindparam("digest")))

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultCase:
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
    ranked: tuple[Seat, ...] = ()  # the hosts that the draw hits, in their order
    opened: tuple[Cell, ...] = ()  # all slots' together, sorted: what the worker must upload, in this order

    @property
    def context(self) -> bytes:
        return context(self.campaign.digest, self.assignment.index, self.worker)

    def seat(self, host: str) -> Seat | None:
        """Why this host may check; none for the organizer, and for hosts that the campaign names."""
        if host in self.campaign.policy.named_checkers:
            return None
        return next((seat for seat in self.ranked if seat.host == host), None)

    def legal_sizes(self) -> dict[BlobPart, int]:
        """The one length in bytes of every part that this result has to show; states are known once it is drawn."""
        recipe = self.assignment.recipe
        sizes = {
            BlobPart.TRACE: LEAF_BYTES * sum(count + 1 for count in self.segments),
            BlobPart.WEIGHTS: 4 * recipe.parameter_count * len(self.segments),
        }
        if self.opened:
            sizes[BlobPart.STATES] = state_bytes_length(recipe) * len(self.opened)
        return sizes

    def parts(self) -> frozenset[BlobPart]:
        """What has to be uploaded."""
        return frozenset(self.legal_sizes())


class Shared(NamedTuple):
    """What each of a result's slots needs a part of."""

    tree: list[list[bytes]]  # the levels of its bundle tree
    states: bytes = b""  # of all opened cells; empty when they and the weights are not small, or there are none
    weights: bytes = b""


def new_case(envelope: Envelope, result: Result, campaign: Campaign, assignment: Assignment) -> ResultCase:
    """Of a result that comes in: nothing is drawn, and its receipt is not in hand."""
    return ResultCase(
        digest=envelope.digest,
        worker=envelope.signer,
        envelope=envelope,
        receipt=None,
        result=result,
        campaign=campaign,
        assignment=assignment,
        segments=tuple(segments_of(assignment.recipe, result)),
    )


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
            with self._ledger.decoding(f"campaign {digest[:16]}"):
                known = campaign_from_bytes(row.exact), decode_envelope(row.manifest)
                if known[0].digest != digest:
                    raise ValueError(f"its bytes are those of {known[0].digest[:16]}")
            self._known[digest] = known
        return known

    def states(self) -> dict[str, CampaignState]:
        """Digest -> state, in the order of seeding."""
        with self._ledger.read() as connection:
            rows = connection.execute(select(campaigns.c.digest, campaigns.c.state).order_by(campaigns.c.seeded_at))
            with self._ledger.decoding("a campaign's state"):
                return {row.digest: CampaignState(row.state) for row in rows}


class ResultCases:
    """Cases by result digest; may be used from any thread."""

    def __init__(self, ledger: Ledger, book: CampaignBook, blobs: Blobs):
        self._ledger, self._book, self._blobs = ledger, book, blobs
        self._lock = threading.Lock()  # held for a look into a cache, not while a value is made
        self._cases: LRUCache[bytes, ResultCase] = LRUCache(CASES_MAX)
        self._traces: LRUCache[bytes, list[Trace]] = LRUCache(LEAVES_MAX, leaves_of)
        self._shared: LRUCache[bytes, Shared] = LRUCache(SHARED_MAX)
        self._requests: LRUCache[tuple[bytes, int, str], CheckRequest] = LRUCache(REQUESTS_MAX)

    def get(self, digest: bytes) -> ResultCase:
        """Raises Refused for a result that the ledger does not know."""
        with self._lock:
            case = self._cases.get(digest)
        if case is None:
            case = self._load(digest)
            if case.draw is not None:  # before the draw it may still change
                with self._lock:
                    self._cases[digest] = case
        return case

    def _load(self, digest: bytes) -> ResultCase:
        with self._ledger.read() as connection:
            row = RESULT.first(connection, digest=digest)
        if row is None:
            raise Refused("unknown-result", digest.hex()[:64])
        with self._ledger.decoding(f"result {digest.hex()[:16]}"):
            return self._decode(digest, row)

    def _decode(self, digest: bytes, row: Row) -> ResultCase:
        campaign, _ = self._book.get(row.campaign)
        envelope = decode_envelope(row.envelope)
        if envelope.digest != digest:
            raise ValueError("the signed message is not the one that it is named by")
        result = msgspec.msgpack.decode(envelope.payload, type=Result)
        assignment = campaign.assignment(row.assignment)
        draw_envelope = decode_envelope(row.draw) if row.draw else None
        draw = msgspec.msgpack.decode(draw_envelope.payload, type=Draw) if draw_envelope else None
        tasks = slot_tasks(campaign, assignment, result, digest, draw) if draw else []
        return ResultCase(
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
            ranked=msgspec.msgpack.decode(row.ranked, type=tuple[Seat, ...]) if row.ranked else (),
            opened=tuple(sorted({cell for task in tasks for cell in task.opened})),
        )

    def traces(self, case: ResultCase) -> list[Trace]:
        """The committed traces. Raises OSError when the blob is gone, or is no more what it was when it came."""
        return self._cached(self._traces, case.digest, lambda: self._read_traces(case))

    def open_traces(self, case: ResultCase, data: bytes) -> list[Trace]:
        """Traces that the worker uploaded, proved, and remembered: they are looked at soon. Raises Refused."""
        traces = open_traces(data, case.result, case.assignment, case.worker)
        with self._lock:
            self._traces[case.digest] = traces
        return traces

    def _read_traces(self, case: ResultCase) -> list[Trace]:
        data = self.blob(case, BlobPart.TRACE)
        try:  # proved again: a flipped bit on our disk must never convict an honest worker
            return open_traces(data, case.result, case.assignment, case.worker)
        except Refused as error:
            raise OSError(f"{self._blobs.place(case.digest, BlobPart.TRACE)}: damaged: {error}") from None

    def forget(self, digest: bytes) -> None:
        """Its blobs are gone."""
        with self._lock:
            self._traces.pop(digest, None)

    def slot_states(self, case: ResultCase, slot: int, data: bytes = b"") -> bytes:
        """The start states of a slot's opened cells, in its order, as one blob. Raises OSError.

        `data`: those of all slots, when they are in hand.
        """
        opened = case.tasks[slot].opened
        if not opened:
            return b""
        data, length = data or self.blob(case, BlobPart.STATES), state_bytes_length(case.assignment.recipe)
        place = {cell: i * length for i, cell in enumerate(case.opened)}
        return b"".join(data[place[cell] : place[cell] + length] for cell in opened)

    def check_inputs(self, case: ResultCase, slot: int):
        """(states, weights) as `spot_check` wants them, proved to be the committed ones. Raises OSError."""
        recipe, cells = case.assignment.recipe, case.tasks[slot].opened
        try:
            states = open_states(recipe, self.slot_states(case, slot), cells)
            check_opened(self.traces(case), cells, states)
            return states, self.weights(case)
        except Refused as error:
            raise OSError(f"{self._blobs.place(case.digest, BlobPart.STATES)}: damaged: {error}") from None

    def weights(self, case: ResultCase) -> list[np.ndarray]:
        """The bundle's final parameters, (P,) float32 each. Raises OSError, Refused."""
        return committed_weights(case, self.blob(case, BlobPart.WEIGHTS))

    def check_request(self, case: ResultCase, slot: int, host: str) -> CheckRequest:
        """What this checker gets; it shows no end state. Raises OSError when the trace's blob is gone."""
        return self._cached(self._requests, (case.digest, slot, host), lambda: self._make_request(case, slot, host))

    def _make_request(self, case: ResultCase, slot: int, host: str) -> CheckRequest:
        assert case.draw_envelope is not None and case.receipt is not None
        task, sizes = case.tasks[slot], case.legal_sizes()
        states = state_bytes_length(case.assignment.recipe) * len(task.opened)
        small = states + sizes[BlobPart.WEIGHTS] <= ENCLOSED_BYTES_MAX
        shared = self._cached(self._shared, case.digest, lambda: self._share(case))
        return CheckRequest(
            result=case.envelope,
            receipt=case.receipt,
            draw=case.draw_envelope,
            slot=slot,
            states=states,
            openings=make_openings(case.context, case.assignment.seeds, self.traces(case), task, shared.tree),
            seat=case.seat(host),
            enclosed_states=self.slot_states(case, slot, shared.states) if small else b"",
            enclosed_weights=(shared.weights or self.blob(case, BlobPart.WEIGHTS)) if small else b"",
        )

    def _share(self, case: ResultCase) -> Shared:
        sizes, tree = case.legal_sizes(), merkle_levels(bundle_leaves(case.context, case.result.networks))
        if sizes[BlobPart.WEIGHTS] + sizes.get(BlobPart.STATES, 0) > SHARED_BYTES_MAX:
            return Shared(tree)
        states = self.blob(case, BlobPart.STATES) if case.opened else b""
        return Shared(tree, states, self.blob(case, BlobPart.WEIGHTS))

    def _cached(self, cache: MutableMapping[K, T], key: K, make: Callable[[], T]) -> T:
        with self._lock:
            value = cache.get(key)
        if value is None:
            value = make()
            with self._lock:
                cache[key] = value
        return value

    def blob(self, case: ResultCase, part: BlobPart) -> bytes:
        """As it was uploaded. Raises OSError when it is gone, or of another length."""
        data = self._blobs.get(case.digest, part)
        if data is None or len(data) != case.legal_sizes().get(part):
            raise OSError(f"{self._blobs.place(case.digest, part)}: missing or damaged")
        return data


def leaves_of(traces: list[Trace]) -> int:
    """What a bundle's traces take of LEAVES_MAX."""
    return min(LEAVES_MAX // BUNDLES_MIN, sum(map(len, traces)))


def committed_weights(case: ResultCase, data: bytes) -> list[np.ndarray]:
    """A weights blob, finite, bounded, and exactly what the result committed to. Raises Refused."""
    recipe = case.assignment.recipe
    weights = open_weights(recipe, data, len(case.segments))
    length = 4 * recipe.parameter_count
    for i, network in enumerate(case.result.networks):
        if sha256(data[i * length : (i + 1) * length]) != network.weights_digest:
            raise Refused("weights-digest", f"seed {network.seed}: not the weights that were committed to")
    return weights


def decode_envelope(data: bytes) -> Envelope:
    """An envelope that we stored ourselves."""
    return msgspec.msgpack.decode(data, type=Envelope)
