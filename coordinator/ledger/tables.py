"""The ledger's tables. Times are seconds since 1970; digests of messages are raw bytes, of files and recipes hex.

Names in quotes are what stands on the disk; a `key` is what the code calls such a column.
"""

from sqlalchemy import (
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
)

LEDGER_VERSION = "2"

metadata = MetaData()

meta = Table("meta", metadata, Column("key", String, primary_key=True), Column("value", String, nullable=False))

campaigns = Table(
    "campaigns",
    metadata,
    Column("digest", String, primary_key=True),
    Column("exact", LargeBinary, nullable=False),
    Column("manifest", LargeBinary, nullable=False),  # the signed envelope, made once
    Column("state", String, nullable=False),  # running, paused, cancelled, complete
    Column("seeded_at", Float, nullable=False),
    Column("admitted", Integer, nullable=False, default=0),  # assignments: counting them would cost more and more
)

orders = Table(  # what the organizer said of a campaign later; none while it is as in its file
    "orders",
    metadata,
    Column("campaign", ForeignKey("campaigns.digest"), primary_key=True),
    Column("priority", Integer, nullable=False),
    Column("max_leased", Integer, nullable=False),  # assignments under way at once; 0: as many as there are
)

results = Table(
    "results",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("campaign", ForeignKey("campaigns.digest"), nullable=False),
    Column("assignment", Integer, nullable=False),
    Column("worker", String, nullable=False),
    Column("epoch", Integer, nullable=False),  # of the receipt
    Column("received_at", Float, nullable=False),
    Column("networks", Integer, nullable=False),
    Column("segments", Integer, nullable=False),  # network-segments: what it earns
    Column("phase", String, nullable=False),
    Column("since", Float, nullable=False),  # when the phase began
    Column("event", String, nullable=False, default=""),  # the last transition's
    Column("reason", String, nullable=False, default=""),
    Column("fault", Integer, nullable=False, default=0),
    Column("parts", String, nullable=False, default=""),  # uploaded and verified, comma separated
    Column("uploaded", Integer, nullable=False, default=0),  # 1: trace and weights are here
    Column("published", Integer, nullable=False, default=0),  # 1: durable in the zoo
    Column("evidence", String, nullable=False, default=""),  # digest of its file in the zoo, "" before
    Column("audit", String, nullable=False, default=""),  # what we owe it, `policy.auditing.Audit`
    Column("vests_at", Integer, nullable=False, default=0),  # with the worker's admission of this number
    Column("vested", Integer, nullable=False, default=0),  # 1: its credit is out of escrow
    # Last, so that reading what stands before does not walk through them.
    Column("receipt", LargeBinary, nullable=False),
    Column("admission", LargeBinary),
    Column("draw", LargeBinary),
    Column("ranked", LargeBinary),  # msgpack of the hosts that may check, in the draw's order, each with its proof
    Column("envelope", LargeBinary, nullable=False),
    Index("results_assignment", "campaign", "assignment"),
    Index("results_worker", "worker", "since"),
    Index("results_phase", "phase", "published"),
    Index("results_fault", "fault", "worker"),
    Index("results_audit", "audit", "since"),
    Index("results_escrow", "worker", "vested", "phase", "vests_at"),
    Index("results_pace", "campaign", "phase", "since", "received_at"),
    Index("results_progress", "campaign", "phase", "assignment", "networks", "published"),  # status reads nothing else
)

blobs = Table(  # small parts of results that are not settled and published yet; larger ones are files
    "blobs",
    metadata,
    Column("result", LargeBinary, nullable=False),
    Column("part", String, nullable=False),
    Column("data", LargeBinary, nullable=False),
    PrimaryKeyConstraint("result", "part"),
)

checkers = Table(  # who has which slot of a result that is being checked
    "seats",
    metadata,
    Column("result", ForeignKey("results.digest"), nullable=False),
    Column("slot", Integer, nullable=False),
    Column("host", String, nullable=False),
    Column("since", Float, nullable=False),
    Column("silent", Integer, nullable=False, default=0),
    PrimaryKeyConstraint("result", "slot", "host"),
    Index("seats_host", "host", "silent"),
)

answers = Table(
    "answers",
    metadata,
    Column("result", ForeignKey("results.digest"), nullable=False),
    Column("slot", Integer, nullable=False),
    Column("replay", Integer, nullable=False),  # 0: by who has the slot; 1: the organizer's, of a dispute
    Column("host", String, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("judged", LargeBinary, key="verdict", nullable=False),
    Column("answered_at", Float, nullable=False),
    PrimaryKeyConstraint("result", "slot", "replay"),
    Index("answers_host", "host", "replay"),
)

proofs = Table(  # why a host was convicted: its statement is in `results` or `answers`, the truth is here
    "proofs",
    metadata,
    Column("host", String, nullable=False),
    Column("result", ForeignKey("results.digest"), nullable=False),
    Column("slot", Integer, nullable=False),  # of its answer; -1: it is the worker
    Column("place", String, nullable=False),  # which leaves
    Column("truth", LargeBinary, nullable=False),  # what a training or a replay gives there, msgpack
    Column("found_at", Float, nullable=False),
    PrimaryKeyConstraint("host", "result", "slot"),
)

hosts = Table(
    "hosts",
    metadata,
    Column("host", String, primary_key=True),
    Column("name", String, nullable=False, default=""),
    Column("device", String, nullable=False, default=""),
    Column("version", String, nullable=False, default=""),
    Column("steps_per_second", Float, nullable=False, default=0.0),
    Column("networks_trained", Integer, nullable=False, default=0),
    Column("checks_done", Integer, nullable=False, default=0),
    Column("first_seen", Float, nullable=False),
    Column("last_seen", Float, nullable=False),
    Column("credit", Integer, nullable=False, default=0),  # network-segments of what is admitted
    Column("escrow", Integer, nullable=False, default=0),  # of these, what a conviction would take back
    Column("admissions", Integer, nullable=False, default=0),  # bundles ever admitted
    Column("clean_bundles", Integer, nullable=False, default=0),
    Column("lies", Integer, key="false_accusations", nullable=False, default=0),
    Column("banned", String, nullable=False, default=""),  # why, or ""
    Column("convicted", Integer, nullable=False, default=0),  # 1: shown to have lied
)

networks = Table(
    "networks",
    metadata,
    Column("recipe", String, nullable=False),
    Column("seed", Integer, nullable=False),
    Column("result", ForeignKey("results.digest"), nullable=False),
    PrimaryKeyConstraint("recipe", "seed"),
    Index("networks_result", "result"),
)

commands = Table(  # of the organizer, that were taken
    "commands",
    metadata,
    Column("nonce", LargeBinary, primary_key=True),
    Column("kind", String, nullable=False),
    Column("subject", String, nullable=False),  # the digest of what it is about
    Column("issued_at", Float, nullable=False),
    Index("commands_subject", "kind", "subject", "issued_at"),
)

moderation = Table(  # what the organizer did about hosts, for ever
    "moderation",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("host", String, nullable=False),
    Column("banned", Integer, nullable=False),
    Column("reason", String, nullable=False),
    Column("envelope", LargeBinary, nullable=False),  # his signed command
)

refusals = Table(
    "refusals",
    metadata,
    Column("reason", String, nullable=False),
    Column("host", String, nullable=False),  # "" where nobody signed
    Column("count", Integer, nullable=False),
    Column("detail", String, nullable=False),  # of the last one
    Column("last_at", Float, nullable=False),
    PrimaryKeyConstraint("reason", "host"),
)
