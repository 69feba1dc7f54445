"""The ledger, row by row: do its parts agree, and is what was signed what was signed?"""

import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from coordinator.checking.beacon import Beacon
from coordinator.ledger.tables import LEDGER_VERSION
from coordinator.policy.phases import LIVE, Event, Phase
from coordinator.server.directory import ANCHOR, ORGANIZER
from coordinator.server.doctor.findings import Findings
from protocol.errors import DamageError
from protocol.recipes.campaign import Campaign, campaign_from_bytes
from protocol.trust.envelope import envelope_from_bytes, unseal
from protocol.trust.identity import Identity
from protocol.trust.messages import Admission, AdmissionOutcome, Answer, CampaignManifest, CampaignState, Draw, Receipt
from protocol.trust.verdict import open_result, segments_of

RESTORE = "put back a copy of this very state, or start a new directory: the zoo stays as it is"
COUNTS = "its counts are wrong, its signed messages are not: say so to the developers, with this line"
Row = dict[str, Any]


@dataclass(frozen=True)
class Records:
    """What one moment's ledger says, read whole. Signed messages stay bytes until they are looked at."""

    path: Path
    meta: dict[str, str]
    campaigns: list[Row]
    results: list[Row]
    answers: list[Row]
    networks: list[Row]
    hosts: list[Row]

    @classmethod
    def read(cls, path: Path, connection: sqlite3.Connection, findings: Findings) -> "Records":
        """Raises UsageError when it cannot be read at all; pages that do not fit are a problem."""
        try:
            for (line,) in connection.execute("PRAGMA quick_check(10)").fetchall():
                if line != "ok":
                    findings.problem(f"{path}: {line}", RESTORE)
            tables = {
                name: _rows(connection, name) for name in ("campaigns", "results", "answers", "networks", "hosts")
            }
            meta = {row["key"]: row["value"] for row in _rows(connection, "meta")}
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise DamageError(f"{path}: cannot read the ledger: {error}") from None
        return cls(path=path, meta=meta, **tables)

    @property
    def organizer(self) -> str:
        return self.meta.get(ORGANIZER, "")

    @property
    def epoch(self) -> int:
        text = self.meta.get("epoch", "0")
        return int(text) if text.isdecimal() else 0

    def admitted(self) -> set[str]:
        """Digests of results, hex."""
        return {row["digest"].hex() for row in self.results if row["phase"] == Phase.ADMITTED}

    def retracted(self) -> set[str]:
        """Admitted once, and taken back; the zoo's next manifest leaves them out."""
        return {row["digest"].hex() for row in self.results if row["phase"] == "retracted"}

    def published(self) -> set[str]:
        """Those that the zoo has. A double is not among them: another campaign's bundle brought in all its networks."""
        bring = {row["result"] for row in self.networks}
        admitted = (row for row in self.results if row["phase"] == Phase.ADMITTED and row["published"])
        return {row["digest"].hex() for row in admitted if row["digest"] in bring}


def open_records(path: Path) -> sqlite3.Connection:
    """For reading alone; a running host may go on writing. Raises UsageError."""
    try:
        connection = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True, timeout=30)
        connection.row_factory = sqlite3.Row
        connection.execute("BEGIN")  # one moment only
    except sqlite3.Error as error:
        raise DamageError(f"{path}: cannot open the ledger: {error}") from None
    return connection


def _rows(connection: sqlite3.Connection, table: str) -> list[Row]:
    with closing(connection.execute(f"select * from {table}")) as found:
        return [dict(row) for row in found]


def examine_owner(path: Path, records: Records, findings: Findings, chain_length: int) -> None:
    """Version, and whether key and beacon are those that the ledger was begun with."""
    version = records.meta.get("version", "none")
    if version != LEDGER_VERSION:
        findings.problem(
            f"{records.path}: of version {version}", f"use the program that writes it, not {LEDGER_VERSION}"
        )
    mend = "put the right file back from a copy: without it nothing more can be admitted here"
    if (path / "identity").exists():
        with findings.looking("keys", str(path / "identity"), mend):
            mine = Identity.load(path / "identity").host
            if records.organizer not in ("", mine):
                raise ValueError(f"{mine}, but the ledger is {records.organizer}'s")
    if (path / "beacon").exists():
        with findings.looking("keys", str(path / "beacon"), mend):
            anchor = records.meta.get(ANCHOR, "")
            if anchor not in ("", Beacon.load(path / "beacon", chain_length).anchor.hex()):
                raise ValueError("not the one that the ledger was begun with")


def examine_ledger(records: Records, findings: Findings) -> dict[str, Campaign]:
    """Every row; the campaigns that are sound."""
    campaigns: dict[str, Campaign] = {}
    for row in records.campaigns:
        with findings.looking("campaigns", f"{records.path}: campaign {row['digest'][:16]}", RESTORE):
            campaigns[row["digest"]] = _campaign(row, records)
    for row in records.results:
        with findings.looking("results", f"{records.path}: result {row['digest'].hex()[:16]}", RESTORE):
            _result(row, campaigns, records)
    results = {row["digest"]: row for row in records.results}
    for row in records.answers:
        with findings.looking("answers", f"{records.path}: answer of result {row['result'].hex()[:16]}", RESTORE):
            _answer(row, results)
    _counts(records, campaigns, findings)
    return campaigns


def _campaign(row: Row, records: Records) -> Campaign:
    campaign = campaign_from_bytes(row["exact"])
    manifest = unseal(envelope_from_bytes(row["manifest"]), CampaignManifest, signer=records.organizer or None)
    CampaignState(row["state"])
    if campaign.digest != row["digest"] or manifest.campaign != row["digest"]:
        raise ValueError("its bytes or its manifest are another campaign's")
    anchor = records.meta.get(ANCHOR, "")
    if anchor and manifest.beacon_anchor.hex() != anchor:
        raise ValueError("its manifest is anchored in another beacon")
    return campaign


def _result(row: Row, campaigns: dict[str, Campaign], records: Records) -> None:
    """The row against the messages in it."""
    phase, envelope = Phase(row["phase"]), envelope_from_bytes(row["envelope"])
    if row["campaign"] not in campaigns:
        raise ValueError("of a campaign that is not here, or damaged")
    result, assignment = open_result(envelope, campaigns[row["campaign"]])
    told = (envelope.digest, envelope.signer, result.assignment, len(result.networks))
    if told != (row["digest"], row["worker"], row["assignment"], row["networks"]):
        raise ValueError("the row and the signed message tell different things")
    if sum(segments_of(assignment.recipe, result)) != row["segments"]:
        raise ValueError("the row states other segments than the signed message")
    organizer = records.organizer or None
    if row["receipt"]:
        receipt = unseal(envelope_from_bytes(row["receipt"]), Receipt, signer=organizer)
        if (receipt.result, receipt.epoch) != (row["digest"], row["epoch"]) or receipt.epoch > records.epoch:
            raise ValueError("its receipt is another's, or of a link that was never shown")
    if row["draw"] and unseal(envelope_from_bytes(row["draw"]), Draw, signer=organizer).result != row["digest"]:
        raise ValueError("its draw is another's")
    if phase not in LIVE:
        if not row["admission"]:
            raise ValueError("it ended without a signed outcome")
        admission = unseal(envelope_from_bytes(row["admission"]), Admission, signer=organizer)
        told = AdmissionOutcome.DUPLICATE if row["event"] == Event.OVERTAKEN else AdmissionOutcome(phase)
        if admission.result != row["digest"] or admission.outcome != told:
            raise ValueError(f"the signed outcome is {admission.outcome.value}, the row says {phase.value}")


def _answer(row: Row, results: dict[bytes, Row]) -> None:
    envelope = envelope_from_bytes(row["envelope"])
    answer = unseal(envelope, Answer, signer=row["host"])
    if row["result"] not in results or (answer.result, answer.slot) != (row["result"], row["slot"]):
        raise ValueError("it is about another result or slot")


def _counts(records: Records, campaigns: dict[str, Campaign], findings: Findings) -> None:
    """What is counted while it happens must be the sum of what happened."""
    admitted = [row for row in records.results if row["phase"] == Phase.ADMITTED]
    twice = [p for p, n in Counter((row["campaign"], row["assignment"]) for row in admitted).items() if n > 1]
    for campaign, index in twice:
        findings.problem(f"{records.path}: assignment {campaign[:16]}/{index} is admitted twice", COUNTS)
    _compare(
        "bundles admitted of campaign",
        Counter(row["campaign"] for row in admitted),
        {row["digest"]: row["admitted"] for row in records.campaigns},
        records,
        findings,
    )
    _compare(
        "clean bundles of host",
        Counter(row["worker"] for row in admitted if row["segments"] >= row["networks"]),
        {row["host"]: row["clean_bundles"] for row in records.hosts},
        records,
        findings,
    )
    earned: Counter[str] = Counter()
    for row in admitted:
        earned[row["worker"]] += row["segments"]
    _compare("credit of host", earned, {row["host"]: row["credit"] for row in records.hosts}, records, findings)
    if all("escrow" in row for row in records.hosts):
        held: Counter[str] = Counter()
        for row in admitted:
            held[row["worker"]] += 0 if row["vested"] else row["segments"]
        _compare("escrow of host", held, {row["host"]: row["escrow"] for row in records.hosts}, records, findings)
    for row in records.campaigns:
        campaign = campaigns.get(row["digest"])
        if campaign is not None and row["state"] == "complete" and row["admitted"] < campaign.assignment_count:
            findings.problem(f"{records.path}: campaign {row['digest'][:16]} is called complete and is not", COUNTS)
    _networks(records, admitted, campaigns, findings)


def _compare(what: str, counted: Counter[str], stored: dict[str, int], records: Records, findings: Findings) -> None:
    for name in sorted(counted.keys() | stored.keys()):
        if counted[name] != stored.get(name, 0):
            line = f"{records.path}: {what} {name[-16:]}: {stored.get(name, 0)} stored, {counted[name]} by its results"
            findings.problem(line, COUNTS)


def _networks(records: Records, admitted: list[Row], campaigns: dict[str, Campaign], findings: Findings) -> None:
    """Each network of an admitted bundle is registered, and each registered one is of an admitted bundle."""
    findings.looked_at["networks"] += len(records.networks)
    registered = {(row["recipe"], row["seed"]) for row in records.networks}
    of = {row["digest"] for row in admitted}
    stray = [row for row in records.networks if row["result"] not in of]
    if stray:
        findings.problem(
            f"{records.path}: {len(stray)} networks are registered of results that are not admitted", COUNTS
        )
    missing = 0
    for row in admitted:
        if row["campaign"] in campaigns:
            assignment = campaigns[row["campaign"]].assignment(row["assignment"])
            missing += sum((assignment.recipe.digest, seed) not in registered for seed in assignment.seeds)
    if missing:
        findings.problem(f"{records.path}: {missing} networks of admitted bundles are not registered", COUNTS)
