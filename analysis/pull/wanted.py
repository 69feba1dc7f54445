"""What a zoo's manifest from another host asks for: names that follow from digests, each with a limit in bytes."""

from pathlib import Path
from typing import NamedTuple

import msgspec

from protocol.canonical import DIGEST, readable
from protocol.errors import Refused, UsageError
from protocol.recipes.recipe import RECIPE_BYTES_MAX
from protocol.trust.evidence import EVIDENCE_BYTES_MAX
from protocol.zoo.catalogue import read_part
from protocol.zoo.store import (
    MANIFEST_BYTES_MAX,
    STORED_CAMPAIGN_BYTES_MAX,
    Part,
    ZooManifest,
    campaign_path,
    data_path,
    evidence_path,
    part_path,
    recipe_path,
    shard_path,
)

ROW_BYTES_MIN = 32  # a catalogue row holds a digest of its own, which does not compress: no part has rows without end
NUMBER_MAX = 99_999_999  # of a manifest: eight digits


class Wanted(NamedTuple):
    """A file of the zoo."""

    name: str  # relative to the zoo's directory
    digest: str
    limit: int  # bytes at most
    announced: int  # bytes, where the manifest says it, else 0


def parse_manifest(exact: bytes, target: str) -> ZooManifest:
    """A host's bytes -> a manifest whose names can be used as paths. Raises UsageError."""
    try:
        if len(exact) > MANIFEST_BYTES_MAX:
            raise Refused("size", f"more than {MANIFEST_BYTES_MAX:,} bytes")
        manifest = msgspec.json.decode(exact, type=ZooManifest)
        check_manifest(manifest)
    except (Refused, msgspec.DecodeError, RecursionError) as error:
        said = readable(error) if isinstance(error, msgspec.ValidationError) else str(error)
        raise UsageError(
            f"{target}: its manifest is damaged or not one that this version reads ({said[:200]}); nothing was changed"
        ) from None
    return manifest


def check_manifest(manifest: ZooManifest) -> None:
    """What the types alone do not say. Raises Refused."""
    refs = (*manifest.catalogue, *manifest.shards, *manifest.data)
    digests = [*(ref.digest for ref in refs), *manifest.recipes, *manifest.campaigns]
    digests += [ref.recipe for ref in manifest.shards]
    if not all(DIGEST.fullmatch(digest) for digest in digests):  # a schema's $ lets a line feed through
        raise Refused("digest", "64 hex digits are expected")
    if not 1 <= manifest.number <= NUMBER_MAX:
        raise Refused("number", f"{manifest.number} is no manifest's number")
    for part in manifest.catalogue:
        if part.rows * ROW_BYTES_MIN > part.bytes:
            raise Refused("catalogue", f"{part.rows:,} rows do not go into {part.bytes:,} bytes")


def wanted_parts(manifest: ZooManifest) -> list[Wanted]:
    """The catalogue, which says what evidence there is."""
    return [
        Wanted(part_path(Path(), part.digest).as_posix(), part.digest, part.bytes, part.bytes)
        for part in manifest.catalogue
    ]


def wanted_files(manifest: ZooManifest) -> list[Wanted]:
    """All but catalogue and evidence, small ones first."""
    here = Path()
    files = [Wanted(recipe_path(here, d).as_posix(), d, RECIPE_BYTES_MAX, 0) for d in manifest.recipes]
    files += [Wanted(campaign_path(here, d).as_posix(), d, STORED_CAMPAIGN_BYTES_MAX, 0) for d in manifest.campaigns]
    files += [Wanted(data_path(here, r.digest).as_posix(), r.digest, r.bytes, r.bytes) for r in manifest.data]
    for ref in manifest.shards:
        files.append(Wanted(shard_path(here, ref.recipe, ref.digest).as_posix(), ref.digest, ref.bytes, ref.bytes))
    return list(dict.fromkeys(files))


def wanted_evidence(out: Path, manifest: ZooManifest) -> list[Wanted]:
    """What the catalogue's rows name; its parts are here. Raises UsageError for a part that is not what it says."""
    digests: set[str] = set()
    for part in manifest.catalogue:
        digests |= evidence_of(part_path(out, part.digest), part)
    here = Path()
    return [Wanted(evidence_path(here, d).as_posix(), d, EVIDENCE_BYTES_MAX, 0) for d in sorted(digests)]


def evidence_of(path: Path, part: Part) -> set[str]:
    """Digests of the evidence that a part's rows name. Raises UsageError: not the part that the manifest names."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_metadata(path).num_rows
    except (pa.ArrowException, OSError):
        rows = -1
    if rows != part.rows:
        raise UsageError(f"{path}: not the catalogue file that the manifest names; the host's zoo is damaged")
    named = read_part(path, ["evidence"])["evidence"].unique().to_pylist()
    if not all(isinstance(digest, str) and DIGEST.fullmatch(digest) for digest in named):
        raise UsageError(f"{path}: names evidence that is no digest; the host's zoo is damaged")
    return set(named)
