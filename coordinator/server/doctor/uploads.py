"""Keys that are readable and private, and blobs of results that still need them."""

import contextlib
import sqlite3
from contextlib import closing
from pathlib import Path

from coordinator.policy.phases import LIVE, Phase
from coordinator.server.doctor.findings import Findings
from coordinator.server.doctor.records import Records, Row, open_records
from protocol.canonical import sha256
from protocol.files import PRIVATE
from protocol.recipes.campaign import Campaign
from protocol.trust.envelope import envelope_from_bytes
from protocol.trust.identity import Identity
from protocol.trust.messages import BlobPart
from protocol.trust.verdict import open_result, open_traces

BLOBS = "put it back from a copy of ledger.sqlite and blobs/; without it this bundle is never published"
COPY = "put it back from a copy; without it this directory can admit nothing more"


def examine_secrets(path: Path, findings: Findings) -> str | None:
    """The organizer's name, if it can be read."""
    organizer = None
    for name in ("identity", "beacon"):
        if not (path / name).exists():
            findings.problem(f"{path / name}: gone", COPY)
            continue
        mode = (path / name).stat().st_mode & 0o777
        if mode & ~PRIVATE:
            findings.problem(f"{path / name}: others may read it (mode {mode:o})", f"chmod 600 {path / name}")
    if (path / "identity").exists():
        with findings.looking("keys", str(path / "identity"), COPY):
            organizer = Identity.load(path / "identity").host
    return organizer


def examine_blobs(path: Path, records: Records, campaigns: dict[str, Campaign], findings: Findings) -> None:
    """What was uploaded is here, as it was committed to, until its result is void or in the zoo."""
    with closing(open_records(path / "ledger.sqlite")) as connection:
        for row in records.results:
            admitted = row["phase"] == Phase.ADMITTED
            if row["campaign"] not in campaigns or not (row["phase"] in LIVE or (admitted and not row["published"])):
                continue
            parts = {BlobPart.TRACE, BlobPart.WEIGHTS} if admitted else set(filter(None, row["parts"].split(",")))
            for part in sorted(parts):
                data, place = _blob(connection, path / "blobs", row["digest"], part)
                if admitted:
                    with findings.looking("blobs", f"{place}: its bundle is not in the zoo yet", BLOBS):
                        if data is None:
                            raise FileNotFoundError(2, "gone", place)
                        _check_part(data, part, row, campaigns[row["campaign"]])
                else:
                    findings.looked_at["blobs"] += 1
                    if data is None:
                        findings.notes.append(f"{place}: gone; its worker is asked for it again")


def _blob(connection: sqlite3.Connection, path: Path, digest: bytes, part: str) -> tuple[bytes | None, str]:
    """(its bytes, where they are): in the ledger or on the disk."""
    with contextlib.suppress(sqlite3.OperationalError):  # a ledger of before, which has none
        found = connection.execute("select data from blobs where result = ? and part = ?", (digest, part)).fetchone()
        if found:
            return found[0], f"{part} of {digest.hex()} in the ledger"
    place = path / digest.hex() / part
    return (place.read_bytes() if place.is_file() else None), str(place)


def _check_part(data: bytes, part: str, row: Row, campaign: Campaign) -> None:
    """Raises Refused, ValueError."""
    envelope = envelope_from_bytes(row["envelope"])
    result, assignment = open_result(envelope, campaign)
    if part == BlobPart.TRACE:
        open_traces(data, result, assignment, envelope.signer)
    elif part == BlobPart.WEIGHTS:
        length = 4 * assignment.recipe.parameter_count
        found = [sha256(data[i : i + length]) for i in range(0, len(data), length)]
        if found != [network.weights_digest for network in result.networks]:
            raise ValueError("not the weights that were committed to")
