"""Which kind of directory is it, what is looked at in which order, and what is said in the end."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from coordinator.checking.beacon import CHAIN_LENGTH
from coordinator.server.doctor.findings import Findings
from coordinator.server.doctor.networks import examine_zoo
from coordinator.server.doctor.records import Records, examine_ledger, examine_owner, open_records
from coordinator.server.doctor.uploads import examine_blobs, examine_secrets
from coordinator.server.doctor.volunteer import examine_volunteer
from protocol.errors import FileError, UsageError

Say = Callable[[str], None]


def examine(path: Path, say: Say = lambda _: None, chain_length: int = CHAIN_LENGTH) -> Findings:
    """A host's, a volunteer's, or a zoo's directory. Raises UsageError when it is none of them."""
    findings = Findings()
    if (path / "ledger.sqlite").exists():
        _examine_host(path, findings, say, chain_length)
    elif (path / "manifests").is_dir():
        say("the zoo: every file, every bundle's evidence ...")
        examine_zoo(path, None, findings)
    elif (path / "identity").exists() or (path / "bundles").is_dir():
        say("a volunteer's directory ...")
        examine_volunteer(path, findings)
    else:
        raise FileError(f"{path}: neither a host's nor a volunteer's directory nor a zoo; name the one that you mean")
    return findings


def _examine_host(path: Path, findings: Findings, say: Say, chain_length: int) -> None:
    """The ledger is read before the zoo and after it: a running host writes its zoo first and then its ledger."""
    identity = examine_secrets(path, findings)
    say("the ledger: its pages, then every row ...")
    before = _read(path, findings)
    if before is not None:
        examine_owner(path, before, findings, chain_length)
        examine_blobs(path, before, examine_ledger(before, findings), findings)
    if not (path / "zoo" / "manifests").is_dir():
        if before is not None and before.published():
            findings.problem(f"{path / 'zoo'}: gone", "put the zoo back from a copy, or `pull` it from somebody")
        return
    say("the zoo: every file, every bundle's evidence ...")
    organizer = before.organizer if before is not None else identity
    found = examine_zoo(path / "zoo", organizer, findings)
    after = _read(path, Findings())  # what was found before is not said twice
    if before is not None and after is not None:
        _compare(path, before, after, found, findings)


def _read(path: Path, findings: Findings) -> Records | None:
    try:
        with closing(open_records(path / "ledger.sqlite")) as connection:
            return Records.read(path / "ledger.sqlite", connection, findings)
    except (UsageError, OSError) as error:
        findings.problem(str(error), "put back a copy of this very state, or start a new directory")
        return None


def _compare(path: Path, before: Records, after: Records, found: dict[str, int], findings: Findings) -> None:
    """Ledger and zoo must tell the same story."""
    gone = sorted(before.published() & after.published() - set(found))
    if gone:
        findings.problem(
            f"{path / 'zoo'}: {len(gone)} bundles are in the ledger as published and not in the zoo, the first with "
            f"result {gone[0][:16]}",
            "put the zoo back from a copy; what is still in blobs/ is published again at the next start",
        )
    leaving = set(found) & after.retracted()
    if leaving:
        findings.notes.append(f"{path / 'zoo'}: {len(leaving)} retracted bundles leave with the next manifest")
    strange = sorted(set(found) - after.admitted() - leaving)
    if strange:
        findings.problem(
            f"{path / 'zoo'}: {len(strange)} bundles are not admitted by the ledger, the first with result "
            f"{strange[0][:16]}",
            "the ledger is older than the zoo: put the newer one back",
        )
    newest = max(found.values(), default=0)
    if newest > after.epoch:
        findings.problem(
            f"{path / 'ledger.sqlite'}: {after.epoch} links of the beacon are counted as shown, but the zoo has link "
            f"{newest}",
            "an old copy: links would be used twice. Put the newer ledger back, or start a new directory",
        )


def run_doctor(path: Path, say: Say) -> int:
    """Examine and report; 0 when all is well."""
    findings = examine(path, say)
    looked = ", ".join(f"{count:,} {kind}" for kind, count in findings.looked_at.items())
    for line in [*findings.problems, *findings.more()]:
        say(line)
    for line in findings.notes:
        say(f"note: {line}")
    say(f"{path}: looked at {looked}: " + (f"{len(findings.problems)} problems" if findings.problems else "all well"))
    return 1 if findings.problems else 0
