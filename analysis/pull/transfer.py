"""Copy a zoo from a host: every file checked under its digest, whole or absent, and the manifest last.

So an interrupted pull leaves the zoo that was there before, or none; the next one goes on, and a later one brings only
what is new. The manifest is the organizer's by his signature, and no older than the one that is here; names follow from
digests, digests are recomputed, lengths have limits before a byte is read. That the networks are what they claim is
`audit`'s question.
"""

import contextlib
import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

import msgspec

from analysis.pull.source import Away
from analysis.pull.wanted import (
    Wanted,
    check_shards,
    parse_manifest,
    wanted_evidence,
    wanted_packs,
    wanted_parts,
    wanted_texts,
    wanted_weights,
)
from protocol.canonical import hexdigest
from protocol.errors import AwayError, DamageError, DiskError, FileError, Refused, UsageError, WrongKeyError
from protocol.files import lock_directory, move_into_place, write_atomic
from protocol.trust.identity import verify_signature
from protocol.zoo.card import write_card
from protocol.zoo.manifests import (
    MANIFEST_BYTES_MAX,
    UNSIGNED,
    ZooManifest,
    find_manifest,
    manifest_numbers,
    manifest_path,
)
from protocol.zoo.store import Store

ROUNDS_MAX = 20  # newer manifests that a pull turns to when files of the old one are gone
TRIES_MAX = 5  # in a row without a byte, 1 to 8 s apart, before the host counts as gone
BUSY_TRIES_MAX = 60  # 8 s apart: longer than the 300 s that a host gives one transfer, so that places come free
READ_BYTES = 1 << 20
LOCK = ".pull.lock"


class Source(Protocol):
    """Where files come from; see `source.HostSource`."""

    target: str
    organizer: str | None  # whose zoo it must be; None: the address does not say

    def file(self, name: str, offset: int) -> Iterator[bytes]:
        """A file's bytes from `offset` on; without a name, the newest manifest's. Raises Away, Refused, UsageError."""
        ...


class Tally(msgspec.Struct):
    """How far a pull is."""

    manifest: ZooManifest = ZooManifest()  # the host's newest
    files: int = 0  # that the zoo has, as far as is known
    here: int = 0  # of them in DIR, whole
    fetched: int = 0  # files that this pull brought
    fetched_bytes: int = 0


def pull(
    source: Source,
    out: Path,
    hear: Callable[[Tally], None] = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Tally:
    """Bring `out` to the newest manifest of `source`. Raises UsageError; what is whole is kept."""
    try:
        with locked(out):
            return Puller(source, out, hear, sleep).run()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskError(f"{out}: the disk is full; make room, then the same command goes on") from None
        raise DiskError(f"{error.filename or out}: cannot use it: {error.strerror or error}") from None


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Make `out` and keep other pulls away. Raises UsageError when it is in use, or full of something else."""
    fresh = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()) and not (out / LOCK).exists() and not manifest_numbers(out):
        raise FileError(f"{out}: not empty, and not a zoo; choose another --out")
    lock = lock_directory(out, "another pull is under way there; wait for it or choose another --out", name=LOCK)
    try:
        yield
    finally:
        lock.release()
        if fresh and [path.name for path in out.iterdir()] in ([], [LOCK]):  # nothing came
            (out / LOCK).unlink(missing_ok=True)
            out.rmdir()


class Puller:
    """One pull; `run` once."""

    def __init__(self, source: Source, out: Path, hear: Callable[[Tally], None], sleep: Callable[[float], None]):
        self.source, self.out, self.hear, self.sleep = source, out, hear, sleep
        self.tally = Tally()
        self._whole: set[str] = set()  # names of files that were hashed in this pull

    def run(self) -> Tally:
        """Raises UsageError, OSError."""
        before = b""
        for _ in range(ROUNDS_MAX):
            exact = self._manifest_bytes()
            manifest = parse_manifest(exact, self.source.target, self.source.organizer)
            check_same_zoo(self.out, manifest, exact)
            try:
                self._fill(manifest)
            except Refused as error:  # merged away and removed since: a newer manifest says what there is instead
                if exact == before:
                    raise DamageError(
                        f"{self.source.target}: the host has not all that its manifest names ({str(error)[:200]}); "
                        f"its organizer has to run `zooswarm audit` there; {self.kept()}"
                    ) from None
                before = exact
                continue
            self._finish(manifest, exact)
            return self.tally
        raise AwayError(f"{self.source.target}: the zoo changes faster than it can be pulled; try again later")

    def _fill(self, manifest: ZooManifest) -> None:
        """Bring every file that the manifest names. Raises Refused when the host has one no more."""
        self.tally.manifest = manifest
        texts, parts, rest = wanted_texts(manifest), wanted_parts(manifest), wanted_weights(manifest)
        packs = wanted_packs(manifest)
        self.tally.files, self.tally.here = len(texts) + len(parts) + len(rest) + len(packs), 0
        self._bring([*parts, *packs])
        evidence = wanted_evidence(self.out, manifest)
        self.tally.files += len(evidence)
        self._bring(texts)
        check_shards(self.out, manifest)
        self._bring([*rest, *evidence])

    def _bring(self, files: Iterable[Wanted]) -> None:
        missing = []
        for wanted in files:
            if wanted.name in self._whole or is_whole(self.out / wanted.name, wanted):
                self._count(wanted)
            else:
                missing.append(wanted)
        needed, free = sum(wanted.announced for wanted in missing), shutil.disk_usage(self.out).free
        if needed > free:
            raise DiskError(f"{self.out}: {needed:,} bytes are to come and {free:,} are free; make room or move --out")
        for wanted in missing:
            self._fetch(wanted)
            self.tally.fetched += 1
            self._count(wanted)

    def _count(self, wanted: Wanted) -> None:
        self._whole.add(wanted.name)
        self.tally.here += 1
        self.hear(self.tally)

    def _fetch(self, wanted: Wanted) -> None:
        """From where an earlier try ended; renamed into place when its digest is right."""
        path = self.out / wanted.name
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        for from_the_start in (False, True):
            if from_the_start or (partial.exists() and partial.stat().st_size > wanted.limit):
                partial.unlink(missing_ok=True)
            resumed = partial.exists()
            self._patiently(lambda: self._receive(wanted, partial))
            if is_whole(partial, wanted):
                move_into_place(partial, path)
                return
            if not resumed:
                break
        partial.unlink(missing_ok=True)
        raise DamageError(
            f"{self.source.target}: {wanted.name}: damaged: what the host sends is not what its name says; nothing of "
            "it was kept. Try again; if it stays so, its organizer has to run `zooswarm audit` there"
        )

    def _receive(self, wanted: Wanted, partial: Path) -> None:
        """Append what comes, at most one byte more than is legal. Raises Away, Refused, OSError."""
        with partial.open("ab") as f:
            got = f.tell()
            for data in self.source.file(wanted.name, got):
                f.write(data[: wanted.limit + 1 - got])
                got += len(data)
                self.tally.fetched_bytes += len(data)
                self.hear(self.tally)
                if got > wanted.limit:
                    return  # too long to be right

    def _manifest_bytes(self) -> bytes:
        """The newest manifest, at most one byte longer than is legal."""

        def receive() -> bytes:
            data = bytearray()
            for chunk in self.source.file("", 0):
                data += chunk
                if len(data) > MANIFEST_BYTES_MAX:
                    break
            return bytes(data)

        try:
            return self._patiently(receive)
        except Refused as error:
            raise DamageError(f"{self.source.target}: the host refuses its manifest: {str(error)[:200]}") from None

    def _patiently(self, call: Callable[[], "bytes | None"]) -> bytes:
        """Try again while the host is away. Raises UsageError when it stays away."""
        tries = 0
        while True:
            before = self.tally.fetched_bytes
            try:
                return call() or b""
            except Away as error:
                tries = 1 if self.tally.fetched_bytes > before else tries + 1
                if tries >= (BUSY_TRIES_MAX if error.busy else TRIES_MAX):
                    raise UsageError(
                        f"{self.source.target}: the host does not answer any more ({error}); {self.kept()}"
                    ) from None
                self.sleep(min(2.0 ** (tries - 1), 8.0))

    def kept(self) -> str:
        """What this pull leaves when it ends here."""
        return kept(self.tally, self.out)

    def _finish(self, manifest: ZooManifest, exact: bytes) -> None:
        """The manifest makes it a zoo; what it names must be on the disk before it."""
        path = manifest_path(self.out, manifest.number)
        if not path.is_file() or path.read_bytes() != exact:
            os.sync()
            write_atomic(path, exact)
        for pattern in ("*/.*.partial", "weights/*/.*.partial"):  # of files that no manifest names any more
            for partial in self.out.glob(pattern):
                partial.unlink(missing_ok=True)
        write_card(Store(self.out, manifest))


def kept(tally: Tally, out: Path) -> str:
    """What an interrupted pull leaves, in a few words."""
    return f"{tally.here:,} files are kept in {out}; the same command goes on from there"


def check_same_zoo(out: Path, manifest: ZooManifest, exact: bytes) -> None:
    """Raises UsageError when `out` is another organizer's zoo, another of the same one, or newer than the host's.

    A directory is the organizer's who signed its newest manifest. Who shows an older one than was seen here, or another
    of the same number, hides something.
    """
    held, held_exact, _ = find_manifest(out, verify_signature)
    newest = max(manifest_numbers(out), default=0)  # readable or not
    if newest > manifest.number:
        raise WrongKeyError(
            f"{out}: holds manifest {newest}, the host shows an older one ({manifest.number}): it was set back or "
            "hides what came since; ask its organizer, or choose another --out"
        )
    if held is None:
        return
    if held.organizer != manifest.organizer:
        whose = f"the zoo of {held.organizer}" if held.organizer else UNSIGNED
        raise WrongKeyError(f"{out}: holds {whose}, the host's is that of {manifest.organizer}; choose another --out")
    if held.number == manifest.number and held_exact != exact:
        raise WrongKeyError(
            f"{out}: holds another manifest {held.number} of the same organizer: somebody signed two; ask the organizer"
        )
    other = held.number == manifest.follows and hexdigest(held_exact) != manifest.previous
    if other or not {*held.campaigns, *held.recipes} <= {*manifest.campaigns, *manifest.recipes}:
        raise WrongKeyError(f"{out}: holds another zoo of the same organizer; choose another --out")


def is_whole(path: Path, wanted: Wanted) -> bool:
    """Whether the file is here and is what its name says."""
    try:
        size = path.stat().st_size
        if size > wanted.limit or (wanted.announced and size != wanted.announced):
            return False
        with path.open("rb") as f:
            digest = hashlib.sha256()
            while data := f.read(READ_BYTES):
                digest.update(data)
    except FileNotFoundError:
        return False
    return digest.hexdigest() == wanted.digest
