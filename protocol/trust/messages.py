"""Everything that hosts sign, as frozen structs. Hosts sign claims about their own work; the organizer signs time
(receipts), chance (the beacon, the draw) and outcomes. Parse with `envelope.unseal`, never by hand.
"""

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from protocol import StrEnum
from protocol.trust.allowance import Allowance
from protocol.trust.envelope import Envelope, Message
from protocol.trust.roster import RosterPath, Tag, Weight

Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
Hex = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Host = Annotated[str, Meta(min_length=52, max_length=52)]
Index = Annotated[int, Meta(ge=0, lt=2**31)]
Priority = Annotated[int, Meta(ge=-100, le=100)]  # as in the campaign
Text = Annotated[str, Meta(max_length=300)]
Label = Annotated[str, Meta(max_length=64, pattern=r"^[ -~]*\Z")]  # what a terminal prints as it stands
HostLabel = Annotated[str, Meta(max_length=32, pattern=r"^[\w .,:;+@#&()'/-]*\Z")]  # a person chooses it: any letters
PENDING_MAX = 64  # results of one host that wait for an outcome
ANSWERS_MAX = 16  # that go along with one heartbeat
OPENED_MAX = 16  # results whose start states go along with one heartbeat ...
OPENED_BYTES_MAX = 1024 * 1024  # ... and all of these together
CAMPAIGNS_MAX = 1024  # of one coordinator
NONCE_BYTES = 16
Nonce = Annotated[bytes, Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]


class CampaignState(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    COMPLETE = "complete"  # all its assignments are admitted


class CampaignAction(StrEnum):
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    PRIORITY = "priority"  # to `value`
    MAX_LEASED = "max-leased"  # to `value`


class BlobPart(StrEnum):
    """What a worker uploads of a result, each part as one blob."""

    TRACE = "trace"  # all leaves of all networks
    WEIGHTS = "weights"  # the final parameters
    STATES = "states"  # the start states that the challenge asks for


class AdmissionOutcome(StrEnum):
    """What became of a result."""

    ADMITTED = "admitted"
    VOID = "void"
    INVALID = "convicted"
    RETRACTED = "retracted"  # was admitted, and is no more
    DUPLICATE = "duplicate"  # somebody else's is there already


class SeedCampaign(Message, frozen=True, kw_only=True):
    """Organizer -> coordinator: start this campaign (its exact bytes)."""

    KIND: ClassVar[str] = "seed-campaign"
    BYTES_MAX: ClassVar[int] = 1024 * 1024 + 1024
    campaign: bytes
    issued_at: float = 0.0  # seconds since 1970: a command is good for minutes, and once
    nonce: Nonce = bytes(NONCE_BYTES)


class UploadData(Message, frozen=True, kw_only=True):
    """Organizer -> coordinator, before the bytes: this data set belongs to a campaign that I shall start."""

    KIND: ClassVar[str] = "upload-data"
    digest: Hex
    size: Annotated[int, Meta(ge=0, le=1 << 31)]
    issued_at: float = 0.0
    nonce: Nonce = bytes(NONCE_BYTES)


class ControlCampaign(Message, frozen=True, kw_only=True):
    """Organizer -> coordinator: pause, resume or cancel, or another priority or quota."""

    KIND: ClassVar[str] = "control-campaign"
    campaign: Hex
    action: CampaignAction
    value: Annotated[int, Meta(ge=-1_000_000, le=1_000_000)] = 0
    issued_at: float = 0.0
    nonce: Nonce = bytes(NONCE_BYTES)


class ModerateHost(Message, frozen=True, kw_only=True):
    """Organizer -> coordinator: refuse this key from now on, or no longer. The reason is for everybody to read."""

    KIND: ClassVar[str] = "moderate-host"
    host: Host
    banned: bool
    reason: Annotated[str, Meta(max_length=150)]
    issued_at: float = 0.0
    nonce: Nonce = bytes(NONCE_BYTES)


class CampaignManifest(Message, frozen=True, kw_only=True):
    """Organizer -> everybody: this campaign is mine, and this is where my beacon's chain starts."""

    KIND: ClassVar[str] = "manifest"
    campaign: Hex
    beacon_anchor: Digest  # link 0 of the hash chain
    engine: Label
    issued_at: float  # seconds since 1970, the organizer's clock


class NetworkResult(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    seed: Index
    steps: Annotated[int, Meta(ge=0, le=10_000_000)]
    trace_root: Digest
    weights_digest: Digest  # SHA-256 of the final parameters' bytes
    held_out_loss: float


class Result(Message, frozen=True, kw_only=True):
    """Worker -> coordinator: I trained this assignment; the commitment binds every state on the way."""

    KIND: ClassVar[str] = "result"
    BYTES_MAX: ClassVar[int] = 256 * 1024  # 256 networks of about 150 bytes, with room
    campaign: Hex
    assignment: Index
    engine: Label
    backend: Label
    commitment: Digest
    networks: Annotated[tuple[NetworkResult, ...], Meta(min_length=1, max_length=256)]


class Receipt(Message, frozen=True, kw_only=True):
    """Organizer -> worker: your result was here before link epoch + 1 of the beacon was shown to anybody."""

    KIND: ClassVar[str] = "receipt"
    result: Digest
    epoch: Index
    received_at: float


class Draw(Message, frozen=True, kw_only=True):
    """Organizer: who could check this result when link epoch + 1 was revealed, and whether its worker has standing."""

    KIND: ClassVar[str] = "draw"
    result: Digest
    link: Digest  # beacon link receipt.epoch + 1
    roster_root: Digest  # of the hosts with standing that were present (trust.roster)
    roster_total: Annotated[int, Meta(ge=0, lt=1 << 62)]  # their weights together
    roster_count: Index
    standing: bool  # the worker's; without it the first slot is the organizer's
    worker_tag: Tag  # of the worker's network prefix; no host with this tag checks it


class Seat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shows that a draw's challenge hits a host of its roster, in which attempt, and with what weight."""

    attempt: Index
    host: Host
    weight: Weight
    tag: Tag
    path: RosterPath


class CellAnswer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What replaying one segment gave: the end state's digests and losses. Nobody can name them without computing."""

    network: Index
    segment: Index
    params_digest: Digest
    moments_digest: Digest
    loss: float
    held_out_loss: float


class NetworkAnswer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """State 0 made from the seed, and the held-out loss of the published weights."""

    network: Index
    initial_params_digest: Digest
    held_out_loss: float


class Answer(Message, frozen=True, kw_only=True):
    """Checker -> coordinator: a verdict's substance. Whether it says VALID or INVALID is for anyone to judge."""

    KIND: ClassVar[str] = "answer"
    BYTES_MAX: ClassVar[int] = 1024 * 1024
    result: Digest
    slot: Index
    backend: Label
    cells: Annotated[tuple[CellAnswer, ...], Meta(max_length=4096)]
    networks: Annotated[tuple[NetworkAnswer, ...], Meta(max_length=256)]


class Admission(Message, frozen=True, kw_only=True):
    """Organizer -> worker: what became of a result, in one word and one line."""

    KIND: ClassVar[str] = "admission"
    result: Digest
    outcome: AdmissionOutcome
    reason: Text
    credit: Annotated[int, Meta(ge=0)]  # network-segments


class Upload(Message, frozen=True, kw_only=True):
    """Worker -> coordinator, before a blob: these bytes are mine, for this result."""

    KIND: ClassVar[str] = "upload"
    result: Digest
    part: BlobPart
    size: Annotated[int, Meta(ge=0, le=1 << 31)]


class Opened(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Start states that go along with a heartbeat: of which result, and their SHA-256."""

    result: Digest
    states: Digest


class Heartbeat(Message, frozen=True, kw_only=True):
    """Host -> coordinator, as often as the last inbox says: I am here; what is there for me?"""

    KIND: ClassVar[str] = "heartbeat"
    nonce: Nonce
    name: HostLabel
    device: Label
    version: Label
    steps_per_second: float
    networks_trained: Annotated[int, Meta(ge=0)]
    checks_done: Annotated[int, Meta(ge=0)]
    holding: Annotated[tuple[Digest, ...], Meta(max_length=PENDING_MAX)]  # results that wait for an outcome
    bans_list: Index = 0  # of which list of bans ...
    bans_known: Index = 0  # ... how many have come: only later ones are named
    issued_at: float = 0.0  # by the organizer's clock; later than in the heartbeat before
    stamp: Annotated[bytes, Meta(max_length=128)] = b""  # of a key that is new there: challenge and proof
    opened: Annotated[tuple[Opened, ...], Meta(max_length=OPENED_MAX)] = ()  # whose start states go along, in order


class Cell(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, order=True):
    """One network's segment within a bundle: `network` counts in seed order; segment s ends at boundary s + 1."""

    network: Index
    segment: Index


class OpeningRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The challenge to a worker: upload the start states of these cells, in this order, as one blob."""

    result: Digest
    cells: tuple[Cell, ...]


class CheckRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """To a checker: whom and what to check. The evidence travels with it, so the checker need not trust the sender."""

    result: Envelope
    receipt: Envelope
    draw: Envelope
    slot: Index
    states: int  # length in bytes of the opened start states
    openings: bytes  # msgpack of tuple[Opening, ...], in the order of the slot's cells with segment > 0
    seat: Seat | None = None  # the checker's own; none for a host that the campaign names
    enclosed_states: bytes = b""  # the opened start states and the bundle's weights, where they are so small that two
    enclosed_weights: bytes = b""  # more calls would cost more than they do; else to be fetched


class CampaignOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the organizer says of a running campaign after he signed it."""

    campaign: Hex
    priority: Priority
    below: Index  # only assignments before this one are to be claimed now


class Inbox(Message, frozen=True, kw_only=True):
    """Coordinator -> host, the reply to a heartbeat."""

    KIND: ClassVar[str] = "inbox"
    BYTES_MAX: ClassVar[int] = 8 * 1024 * 1024
    nonce: Nonce
    time: float
    openings: Annotated[tuple[OpeningRequest, ...], Meta(max_length=PENDING_MAX)]
    missing: Annotated[
        tuple[tuple[bytes, str], ...], Meta(max_length=3 * PENDING_MAX)
    ]  # (result, part) that still has to be uploaded
    checks: Annotated[tuple[CheckRequest, ...], Meta(max_length=PENDING_MAX)]
    outcomes: Annotated[tuple[Envelope, ...], Meta(max_length=PENDING_MAX)]  # Admission, for results named in `holding`
    unknown: Annotated[
        tuple[bytes, ...], Meta(max_length=PENDING_MAX)
    ]  # results named in `holding` that the ledger does not know: hand them in again
    credit: int
    clean_bundles: int
    banned: str  # why, or ""
    banned_hosts: Annotated[
        tuple[str, ...], Meta(max_length=4096)
    ]  # those that `bans_known` does not count yet, or the first of them
    campaigns: Annotated[tuple[tuple[Hex, Label], ...], Meta(max_length=CAMPAIGNS_MAX)]  # (digest, state)
    allowance: Allowance | None = None  # how much the host may claim
    ask_again_seconds: float = 1.0  # when the next heartbeat is due, unless there is something to hand in
    bans_list: Index = 0  # another one than the host knows: its bans are all forgotten first
    bans_known: Index = 0  # for the next heartbeat
    escrow: int = 0  # of `credit`: what a conviction would take back
    orders: Annotated[tuple[CampaignOrder, ...], Meta(max_length=CAMPAIGNS_MAX)] = ()  # of running ones
    gather_seconds: float = 0.0  # after this heartbeat answers and start states wait so long, to come together


class Welcome(Message, frozen=True, kw_only=True):
    """Organizer -> who joins, the answer to this very call: where the swarm is, and which campaigns there are."""

    KIND: ClassVar[str] = "welcome"
    BYTES_MAX: ClassVar[int] = 1024 * 1024
    nonce: Nonce
    time: float  # seconds since 1970, the organizer's clock
    version: str
    bootstrap: Annotated[tuple[Text, ...], Meta(max_length=64)]
    campaigns: Annotated[tuple[Hex, ...], Meta(max_length=CAMPAIGNS_MAX)]
    stamp_bits: Annotated[int, Meta(ge=0, le=32)] = 0  # what a new key works for its first heartbeat; 0: nothing
    stamp_challenge: Annotated[bytes, Meta(max_length=64)] = b""


class Ticket(Message, frozen=True, kw_only=True):
    """Organizer -> a host that he lets in: show this with your results."""

    KIND: ClassVar[str] = "ticket"
    host: Host
    expires_at: float  # seconds since 1970


class CertificateRequest(Message, frozen=True, kw_only=True):
    """Host -> coordinator: certify my credit."""

    KIND: ClassVar[str] = "certificate-request"
    BYTES_MAX: ClassVar[int] = 1024
    nonce: Nonce
    issued_at: float  # by the organizer's clock: good for minutes


class CreditCertificate(Message, frozen=True, kw_only=True):
    """Organizer -> whom it may concern: so much of this host's work was checked and admitted when I signed this."""

    KIND: ClassVar[str] = "credit-certificate"
    BYTES_MAX: ClassVar[int] = 4096
    nonce: Nonce
    host: Host
    name: HostLabel  # what it calls itself
    credit: Annotated[int, Meta(ge=0)]  # network-segments
    escrow: Annotated[int, Meta(ge=0)]  # of these, what a conviction would take back
    bundles: Annotated[int, Meta(ge=0)]  # admitted ones
    first_seen: float  # seconds since 1970
    issued_at: float
