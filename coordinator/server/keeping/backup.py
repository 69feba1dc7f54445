"""`zooswarm backup`: a copy of an organizer's directory that one moment of its ledger vouches for, also while it runs.

identity, beacon   as they are, 0600: whoever has the copy is the organizer
ledger.sqlite      SQLite's own copy of one moment; the host goes on writing meanwhile
blobs/, data/      uploads without an outcome, data sets
zoo/               with `--zoo`: as of the newest manifest that this ledger knows all of
host.json, backup.json
"""

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from coordinator.zoo.garbage import files_of
from protocol.canonical import NOT_DECODABLE
from protocol.errors import DamageError, FileError, UsageError
from protocol.files import PRIVATE, create_once, read_limited, sync, sync_folder
from protocol.zoo.manifests import manifest_numbers, manifest_path, read_manifest
from protocol.zoo.store import Store, network_id

ABOUT, ABOUT_BYTES_MAX = "backup.json", 64 * 1024
SECRETS = ("identity", "beacon")
LEDGER = "ledger.sqlite"
PUBLISHED = """
    SELECT networks.recipe, networks.seed FROM networks JOIN results ON results.digest = networks.result
    WHERE results.published = 1
"""


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup says of itself."""

    taken_at: float  # seconds since 1970
    organizer: str
    epoch: Annotated[int, Meta(ge=0)]  # links of the beacon that had been shown
    zoo: str  # where the zoo was; it is in the backup when `zoo_inside`
    zoo_inside: bool
    manifest: int  # the zoo's newest that the ledger knows all of; 0: nothing was published


def back_up(path: Path, out: Path, with_zoo: bool, now: float) -> About:
    """Copy DIR to `out`, which must not be there yet; whole or absent. Raises UsageError, OSError."""
    for name in (*SECRETS, LEDGER):
        if not (path / name).is_file():
            raise FileError(f"{path / name}: is not there; {path} is no host's directory, or was never started")
    if out.exists():
        raise FileError(f"{out}: is there already; a backup is made in a new directory")
    if out.resolve().is_relative_to(path.resolve()):
        raise UsageError(f"{out}: inside of {path}; put the backup elsewhere, on another disk best")
    partial = out.with_name(f".{out.name}.partial")
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(partial)
    partial.mkdir(parents=True, mode=0o700)
    try:
        about = _copy(path, partial, with_zoo, now)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    for file in partial.rglob("*"):
        if file.is_file():
            sync(file)
    partial.rename(out)
    sync_folder(out.parent)
    return about


def _copy(path: Path, out: Path, with_zoo: bool, now: float) -> About:
    for name in SECRETS:
        create_once(out / name, (path / name).read_bytes(), PRIVATE)
    if (path / "host.json").exists():
        shutil.copyfile(path / "host.json", out / "host.json")
    copy_new(path / "blobs", out / "blobs")  # before the ledger, for one may go meanwhile, and after it
    first = max(manifest_numbers(path / "zoo"), default=0)
    epoch, organizer, published = _copy_ledger(path / LEDGER, out / LEDGER)
    copy_new(path / "blobs", out / "blobs")
    copy_new(path / "data", out / "data")
    number = covering(path / "zoo", first, published)
    if with_zoo and number:
        copy_zoo(path / "zoo", out / "zoo", number)
    about = About(
        taken_at=now,
        organizer=organizer,
        epoch=epoch,
        zoo=str((path / "zoo").resolve()),
        zoo_inside=with_zoo,
        manifest=number,
    )
    create_once(out / ABOUT, msgspec.json.format(msgspec.json.encode(about), indent=1))
    return about


def _copy_ledger(source: Path, target: Path) -> tuple[int, str, set[str]]:
    """(epoch, organizer, ids of the networks that it has as published) of the copy."""
    try:
        with (
            contextlib.closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as from_,
            contextlib.closing(sqlite3.connect(target)) as to,
        ):
            from_.backup(to)  # all pages in one step: one moment
            to.execute("PRAGMA journal_mode=DELETE")
            meta = dict(to.execute("SELECT key, value FROM meta").fetchall())
            ids = {network_id(recipe, seed) for recipe, seed in to.execute(PUBLISHED)}
    except sqlite3.Error as error:
        raise DamageError(f"{source}: cannot be copied: {error}; `zooswarm doctor` says more") from None
    return int(meta.get("epoch", "0")), meta.get("organizer", ""), ids


def covering(zoo: Path, first: int, published: set[str]) -> int:
    """The oldest manifest from `first` on that has all these networks; 0 when nothing is published.

    A running host writes its zoo first and its ledger then: a newer manifest may have what our ledger does not know.
    """
    numbers = [number for number in manifest_numbers(zoo) if number >= first]
    for number in sorted(numbers):
        manifest = read_manifest(zoo, number)[0]
        if published <= set(Store(zoo, manifest).catalogue(["id"])["id"].to_pylist()):
            return number
    if published:
        raise DamageError(f"{zoo}: lacks networks that the ledger has as published; `zooswarm doctor` says more")
    return 0


def copy_zoo(zoo: Path, out: Path, number: int) -> None:
    """The zoo as of a manifest, with all manifests before. Raises FileNotFoundError: tidied away meanwhile."""
    files: Iterable[Path] = files_of(Store(zoo, read_manifest(zoo, number)[0]))
    older = [manifest_path(zoo, n) for n in manifest_numbers(zoo) if n <= number]
    for file in [*files, *older]:
        target = out / file.relative_to(zoo)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


def copy_new(source: Path, target: Path) -> None:
    """Every file that is not there yet; their names say what is in them. One that goes meanwhile is not needed."""
    if not source.is_dir():
        return
    for folder, _, names in os.walk(source):
        for name in names:
            there = target / Path(folder).relative_to(source) / name
            if not there.exists() and not name.startswith("."):
                there.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileNotFoundError):
                    shutil.copyfile(Path(folder) / name, there)


def read_about(backup: Path) -> About:
    """Raises UsageError: it is no backup."""
    data = read_limited(backup / ABOUT, ABOUT_BYTES_MAX, "backup's description")
    try:
        return msgspec.json.decode(data, type=About)
    except NOT_DECODABLE as error:
        raise DamageError(f"{backup / ABOUT}: not a backup's description ({error})") from None
