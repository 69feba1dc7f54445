"""Manifests: which files belong to a zoo, and the organizer's word for it. `find_manifest` first.

A manifest is canonical JSON, numbered, created once and never replaced. Its last field is the organizer's signature
over all that comes before it, so the bytes stay plain JSON and whoever copies the file copies the proof:

    {"catalogue":[...],"follows":41,"number":42,"organizer":"12D3...","previous":"<SHA-256>",...,"signature":"<hex>"}

Signed are the exact bytes up to `,"signature"`, closed with `}`. `follows` and `previous` are the number and the digest
of the manifest it was made from: a manifest left out, or made twice, shows. Version 0.1 signed none. Who may sign is
not known here: `verify` is `protocol.trust.identity.verify_signature`.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from protocol.canonical import NOT_DECODABLE, canonical_json, hexdigest, readable
from protocol.errors import DamageError, Refused, UsageError
from protocol.files import read_limited
from protocol.tasks.datasets import DATA_BYTES_MAX
from protocol.tasks.fields import Name

FORMAT = "zooswarm-zoo/1"
SHARD_ROWS_MAX = 1000  # networks in a shard: 17 MB of the 4,364-parameter GRU, one digest, one mapping
MANIFEST_BYTES_MAX = 16 * 1024 * 1024  # 150 bytes a shard: a hundred million networks, and 250 MB of memory at worst
PACK_BYTES_MAX = 64 * 1024 * 1024  # of evidence in one file
ROW_BYTES_MIN = 32  # a catalogue row holds a digest of its own, which does not compress: no part has rows without end
REASON_CHARS_MAX = 300
NUMBER_MAX = 99_999_999  # eight digits
MANIFEST_NAME = re.compile(r"\d{8}\.json")
DOMAIN = "zoo-manifest"
SIGNATURE = re.compile(rb',"signature":"([0-9a-f]{128})"\}\Z')
TAIL_BYTES = len(b',"signature":""}') + 128
UNSIGNED = "a zoo made by version 0.1, whose manifest is not signed"

Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Count = Annotated[int, Meta(ge=0)]
Verify = Callable[[str, str, bytes, bytes], None]  # (host, domain, data, signature); raises Refused
Sign = Callable[[str, bytes], bytes]  # (domain, data) -> signature


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A catalogue file. The counts are here so that a zoo's card costs no scan."""

    digest: Digest
    bytes: Count
    rows: Count
    classes: dict[Name, Count]


class ShardRef(msgspec.Struct, frozen=True, kw_only=True):
    """A file of weights. `recipe`: of its first network; those of others in it have the same shapes."""

    digest: Digest
    bytes: Count
    rows: Annotated[int, Meta(ge=1, le=SHARD_ROWS_MAX)]
    recipe: Digest


class DataRef(msgspec.Struct, frozen=True, kw_only=True):
    """A data set that recipes of the zoo name."""

    digest: Digest
    bytes: Annotated[int, Meta(ge=0, le=DATA_BYTES_MAX)]


class PackRef(msgspec.Struct, frozen=True, kw_only=True):
    """A file with the evidence of many bundles (`packs`)."""

    digest: Digest
    bytes: Annotated[int, Meta(ge=0, le=PACK_BYTES_MAX)]
    bundles: Annotated[int, Meta(ge=1)]


class Retraction(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle whose networks were in the zoo, or nearly, and are no more. Its evidence stays as a file."""

    evidence: Digest
    networks: Count  # rows that left the catalogue; 0: it was never published
    reason: Annotated[str, Meta(max_length=REASON_CHARS_MAX)]
    retracted_at: Annotated[str, Meta(max_length=40)]  # UTC, ISO 8601


class ZooManifest(msgspec.Struct, frozen=True, kw_only=True):
    """All that belongs to the zoo. Evidence is not listed: each row names its own, a file or in one of the packs."""

    format: Annotated[str, Meta(pattern=rf"^{FORMAT}\Z")] = FORMAT
    number: Annotated[int, Meta(ge=0, le=NUMBER_MAX)] = 0
    written_at: Annotated[str, Meta(pattern=r"^[0-9TZ:.+-]{0,40}\Z")] = ""  # UTC, ISO 8601
    catalogue: tuple[Part, ...] = ()
    shards: tuple[ShardRef, ...] = ()
    recipes: tuple[Digest, ...] = ()
    campaigns: tuple[Digest, ...] = ()
    data: tuple[DataRef, ...] = ()
    packs: tuple[PackRef, ...] = ()
    retracted: tuple[Retraction, ...] = ()
    organizer: Annotated[str, Meta(max_length=64)] = ""  # who signed it; "": nobody did
    follows: Count = 0  # number of the manifest that it was made from
    previous: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""  # digest of that manifest's file

    @property
    def networks(self) -> int:
        return sum(part.rows for part in self.catalogue)

    @property
    def classes(self) -> dict[str, int]:
        total: dict[str, int] = {}
        for part in self.catalogue:
            for name, rows in part.classes.items():
                total[name] = total.get(name, 0) + rows
        return dict(sorted(total.items()))


class Found(NamedTuple):
    """A directory's newest manifest that can be used, its bytes, and why newer ones were passed over, a line each."""

    manifest: ZooManifest | None
    exact: bytes
    passed_over: tuple[str, ...]


def find_manifest(zoo: Path, verify: Verify | None = None) -> Found:
    """The newest manifest that can be read and, given `verify`, is signed by the organizer that it names.

    Beside signed manifests an unsigned one counts as forged: somebody cut the signature off.
    """
    passed_over: list[str] = []
    unsigned: tuple[ZooManifest, bytes] | None = None
    for number in manifest_numbers(zoo):
        if unsigned is not None and not _ends_signed(manifest_path(zoo, number)):
            continue
        try:
            manifest, exact = read_manifest(zoo, number, verify)
        except UsageError as error:
            passed_over.append(str(error))
            continue
        if manifest.organizer:
            if unsigned is not None:
                path = manifest_path(zoo, unsigned[0].number)
                passed_over.append(f"{path}: not signed, as older manifests are: forged or damaged")
            return Found(manifest, exact, tuple(passed_over))
        unsigned = unsigned or (manifest, exact)
    return Found(*(unsigned or (None, b"")), tuple(passed_over))


def latest_manifest(zoo: Path) -> ZooManifest | None:
    """The newest manifest that parses; a torn or foreign file is passed over."""
    return find_manifest(zoo).manifest


def read_manifest(zoo: Path, number: int, verify: Verify | None = None) -> tuple[ZooManifest, bytes]:
    """One manifest and its bytes. Raises UsageError that names the file."""
    path = manifest_path(zoo, number)
    exact = read_limited(path, MANIFEST_BYTES_MAX, "manifest")
    try:
        manifest = manifest_from_bytes(exact, verify)
        if manifest.number != number:
            raise Refused("number", f"it is manifest {manifest.number}")
    except Refused as error:
        raise DamageError(f"{path}: damaged or forged manifest ({error}); fetch it again") from None
    return manifest, exact


def manifest_from_bytes(exact: bytes, verify: Verify | None = None) -> ZooManifest:
    """Bytes -> a manifest whose names can be used as paths. Raises Refused.

    Signed or not, what it says must fit: a signature without an organizer, or the other way round, is damage.
    """
    if len(exact) > MANIFEST_BYTES_MAX:
        raise Refused("size", f"more than {MANIFEST_BYTES_MAX:,} bytes")
    try:
        manifest = msgspec.json.decode(exact, type=ZooManifest)
    except msgspec.ValidationError as error:
        raise Refused("manifest", readable(error)[:200]) from None
    except NOT_DECODABLE as error:
        raise Refused("manifest", str(error)[:200]) from None
    if manifest.number < 1:
        raise Refused("number", f"{manifest.number} is no manifest's number")
    for part in manifest.catalogue:
        if part.rows * ROW_BYTES_MIN > part.bytes:
            raise Refused("catalogue", f"{part.rows:,} rows do not go into {part.bytes:,} bytes")
    found = SIGNATURE.search(exact[-TAIL_BYTES:])
    if bool(found) != bool(manifest.organizer):
        raise Refused("signature", "it has no signature" if manifest.organizer else "it names no organizer")
    if found and verify is not None:
        verify(manifest.organizer, DOMAIN, exact[:-TAIL_BYTES] + b"}", bytes.fromhex(found[1].decode()))
    return manifest


def signed_bytes(manifest: ZooManifest, sign: Sign) -> bytes:
    """The file of a manifest that names its organizer."""
    body = canonical_json(manifest)
    return body[:-1] + b',"signature":"' + sign(DOMAIN, body).hex().encode() + b'"}'


def manifest_problems(zoo: Path, verify: Verify | None, organizer: str | None = None) -> list[str]:
    """What is wrong with a zoo's manifests, old ones included, a line each: unreadable, forged, another organizer's,
    out of order, or a newest one that is not here any more. `organizer`: who must have signed the newest one."""
    found = find_manifest(zoo, verify)
    problems = [f"passed over: {line}" for line in found.passed_over]
    newest = found.manifest
    if newest is None:
        return problems
    expected = organizer or newest.organizer
    if organizer and newest.organizer != organizer:
        problems.append(f"{zoo}: {newest.organizer or 'nobody'} has signed manifest {newest.number}, not {organizer}")
    digests: dict[int, str] = {}
    for number in reversed(manifest_numbers(zoo)):
        try:
            manifest, exact = read_manifest(zoo, number, verify)
        except UsageError as error:
            problems += [str(error)] if number < newest.number else []
            continue
        digests[number] = hexdigest(exact)
        if not manifest.organizer:
            continue
        path = manifest_path(zoo, number)
        if manifest.organizer != expected and number != newest.number:
            problems.append(f"{path}: signed by {manifest.organizer}, not by {expected}")
        if manifest.follows != number - 1:
            problems.append(f"{path}: was made from manifest {manifest.follows}: what came between was passed over")
        elif digests.get(number - 1, manifest.previous) != manifest.previous:
            problems.append(f"{path}: was made from another manifest {number - 1} than the one that is here")
    return list(dict.fromkeys(problems))


def manifest_path(zoo: Path, number: int) -> Path:
    return zoo / "manifests" / f"{number:08d}.json"


def manifest_numbers(zoo: Path) -> list[int]:
    """Numbers in use, highest first, readable or not."""
    folder = zoo / "manifests"
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return sorted((int(name[:8]) for name in names if MANIFEST_NAME.fullmatch(name)), reverse=True)


def _ends_signed(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            return SIGNATURE.search(file.read(TAIL_BYTES)) is not None
    except OSError:
        return False
