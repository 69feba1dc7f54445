"""`zooswarm restore`: a backup becomes an organizer's directory again, with its beacon skipped forward (`epochs`)."""

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import msgspec

from coordinator.checking.beacon import CHAIN_LENGTH
from coordinator.ledger.database import get_meta, set_meta
from coordinator.server.directory import open_directory
from coordinator.server.keeping.backup import LEDGER, SECRETS, copy_new, read_about
from coordinator.server.keeping.epochs import skipped_to
from protocol.canonical import NOT_DECODABLE
from protocol.errors import DiskError, FileError, Refused, UsageError, WrongKeyError
from protocol.files import PRIVATE, create_once
from protocol.trust.evidence import evidence_from_bytes
from protocol.trust.messages import Receipt
from protocol.zoo.manifests import latest_manifest
from protocol.zoo.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What a restore did. Epochs count links of the beacon."""

    path: Path
    epoch_before: int
    epoch: int
    manifest: int  # the zoo's newest; 0: there is no zoo here
    manifest_before: int  # that of the backup's ledger


def restore(
    backup: Path,
    path: Path,
    *,
    zoo: Path | None,
    now: float,
    epoch: int = 0,
    epoch_seconds: float | None = None,
    chain_length: int = CHAIN_LENGTH,
) -> Restored:
    """Make DIR, which must not be there yet, from a backup. The host that it was made from must not run any more.

    `zoo`: a newer copy of the zoo; `epoch`: links that are known to have been shown; `epoch_seconds`: the shortest of
    campaigns that were seeded since the backup. Raises UsageError, and then DIR is not there.
    """
    about = read_about(backup)
    if path.exists() and any(path.iterdir()):
        raise FileError(f"{path}: is not empty; a backup is restored into a new directory")
    if now < about.taken_at:
        raise UsageError("this machine's clock is before the time of the backup; set it, for epochs are skipped by it")
    source = zoo or (backup / "zoo" if about.zoo_inside else None)
    shown = newest_epoch(source, about.organizer) if source is not None and source.is_dir() else (0, 0)
    if zoo is not None and not shown[0]:
        raise FileError(f"{zoo}: there is no zoo in it")
    try:
        _copy(backup, path, source)
        before, after = _skip(path, about.taken_at, now, max(epoch, shown[1]), epoch_seconds, chain_length)
    except BaseException as error:
        shutil.rmtree(path, ignore_errors=True)
        if isinstance(error, OSError):
            where = error.filename or path
            raise DiskError(f"{where}: {error.strerror}; nothing was restored, choose a directory with room") from None
        raise
    return Restored(path=path, epoch_before=before, epoch=after, manifest=shown[0], manifest_before=about.manifest)


def _copy(backup: Path, path: Path, zoo: Path | None) -> None:
    path.mkdir(parents=True, exist_ok=True)
    for name in SECRETS:
        create_once(path / name, (backup / name).read_bytes(), PRIVATE)
    for name in (LEDGER, "host.json"):
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(backup / name, path / name)
    for name in ("blobs", "data"):
        copy_new(backup / name, path / name)
    if zoo is not None:
        copy_new(zoo, path / "zoo")


def _skip(
    path: Path, taken_at: float, now: float, seen: int, epoch_seconds: float | None, chain_length: int
) -> tuple[int, int]:
    """(links that the copy counts as shown, that count from now on). Raises UsageError."""
    directory = open_directory(path, chain_length=chain_length)  # whose it is, damage, the right key and beacon
    try:
        ledger, book = directory.stores.ledger, directory.stores.campaigns
        with ledger.read() as connection:
            epoch = int(get_meta(connection, "epoch", "0"))
            revealed_at = float(get_meta(connection, "revealed_at", "0"))
        paces = [book.get(digest)[0].policy.epoch_seconds for digest in book.states()]
        paces += [epoch_seconds] if epoch_seconds is not None else []
        after = skipped_to(epoch, revealed_at or taken_at, now, paces, seen=seen)
        if after >= chain_length:
            raise UsageError(
                f"{path}: the beacon has {chain_length:,} links, and {after:,} may have been shown since this backup: "
                "it is too old to go on with. Start a new directory, and seed what is missing"
            )
        ledger.write(lambda connection: set_meta(connection, "epoch", str(after)))
        ledger.write(lambda connection: set_meta(connection, "revealed_at", repr(now)))
    finally:
        directory.close()
    return epoch, after


def newest_epoch(zoo: Path, organizer: str) -> tuple[int, int]:
    """(number of its newest manifest, links that had been shown for what is in it); zeros when there is none."""
    manifest = latest_manifest(zoo)
    if manifest is None:
        return 0, 0
    if manifest.organizer != organizer:
        raise WrongKeyError(f"{zoo}: the zoo of {manifest.organizer}, and the backup is {organizer}'s")
    store, newest = Store(zoo, manifest), 0
    for digest in store.catalogue(["evidence"])["evidence"].unique().to_pylist():
        try:
            evidence = evidence_from_bytes(store.evidence(digest))
            newest = max(newest, msgspec.msgpack.decode(evidence.receipt.payload, type=Receipt).epoch + 1)
        except (Refused, *NOT_DECODABLE):
            continue  # of an older version, or damaged: `audit` says so
    return manifest.number, newest


def lines(done: Restored) -> list[str]:
    """What a person has to know now."""
    said = [f"{done.path}: restored; the beacon goes on from epoch {done.epoch:,} instead of {done.epoch_before:,}"]
    if done.manifest_before and not done.manifest:
        said.append(f"its zoo is not here: put it at {done.path / 'zoo'} (as of manifest {done.manifest_before})")
    elif done.manifest < done.manifest_before:
        said.append(f"its zoo is old, manifest {done.manifest} of {done.manifest_before}: put the newer one back")
    elif done.manifest > done.manifest_before:
        said.append("its zoo is newer than the ledger: what is in it and not in the ledger is trained once more")
    return [*said, f"go on with: zooswarm host {done.path}"]
