"""What a zoo's manifest from another host asks for: names that follow from digests, each with a limit in bytes."""

from pathlib import Path
from typing import NamedTuple

from protocol.errors import DamageError, Refused, VersionError, WrongKeyError
from protocol.recipes.recipe import RECIPE_BYTES_MAX
from protocol.trust.evidence import EVIDENCE_BYTES_MAX
from protocol.trust.identity import verify_signature
from protocol.zoo.catalogue import read_part
from protocol.zoo.manifests import Part, ZooManifest, manifest_from_bytes
from protocol.zoo.parquet import check_part
from protocol.zoo.shards import check_shard_size
from protocol.zoo.store import (
    STORED_CAMPAIGN_BYTES_MAX,
    Store,
    campaign_path,
    data_path,
    evidence_path,
    pack_path,
    part_path,
    recipe_path,
    shard_path,
)


class Wanted(NamedTuple):
    """A file of the zoo."""

    name: str  # relative to the zoo's directory
    digest: str
    limit: int  # bytes at most
    announced: int  # bytes, where the manifest says it, else 0


def parse_manifest(exact: bytes, target: str, organizer: str | None) -> ZooManifest:
    """A host's bytes -> a manifest that `organizer` (if known) has signed; its names can be used as paths.

    Raises UsageError.
    """
    try:
        manifest = manifest_from_bytes(exact, verify_signature)
    except Refused as error:
        raise DamageError(
            f"{target}: its manifest is damaged, forged, or not one that this version reads ({error}); nothing was "
            "changed"
        ) from None
    if not manifest.organizer:
        raise VersionError(f"{target}: its manifest is not signed: this host is of version 0.1; ask for its update")
    if organizer is not None and manifest.organizer != organizer:
        raise WrongKeyError(
            f"{target}: this is the zoo of {manifest.organizer}, not of {organizer}; nothing was changed; ask the "
            "organizer for the right address"
        )
    return manifest


def wanted_parts(manifest: ZooManifest) -> list[Wanted]:
    """The catalogue, which says what evidence there is."""
    return [
        Wanted(part_path(Path(), part.digest).as_posix(), part.digest, part.bytes, part.bytes)
        for part in manifest.catalogue
    ]


def wanted_texts(manifest: ZooManifest) -> list[Wanted]:
    """Recipes and campaigns."""
    here = Path()
    files = [Wanted(recipe_path(here, d).as_posix(), d, RECIPE_BYTES_MAX, 0) for d in manifest.recipes]
    files += [Wanted(campaign_path(here, d).as_posix(), d, STORED_CAMPAIGN_BYTES_MAX, 0) for d in manifest.campaigns]
    return list(dict.fromkeys(files))


def check_shards(out: Path, manifest: ZooManifest) -> None:
    """Raises UsageError when a weights file is to be longer than its networks are. The recipes are here."""
    recipes = Store(out, manifest).recipes
    for ref in manifest.shards:
        if ref.recipe not in recipes:
            raise DamageError(f"{out}: a shard names a recipe {ref.recipe[:16]} that the manifest does not list")
        check_shard_size(ref, recipes[ref.recipe])


def wanted_weights(manifest: ZooManifest) -> list[Wanted]:
    """Data sets and weights."""
    here = Path()
    files = [Wanted(data_path(here, r.digest).as_posix(), r.digest, r.bytes, r.bytes) for r in manifest.data]
    for ref in manifest.shards:
        files.append(Wanted(shard_path(here, ref.recipe, ref.digest).as_posix(), ref.digest, ref.bytes, ref.bytes))
    return list(dict.fromkeys(files))


def wanted_packs(manifest: ZooManifest) -> list[Wanted]:
    """Evidence of many bundles each."""
    return [
        Wanted(pack_path(Path(), ref.digest).as_posix(), ref.digest, ref.bytes, ref.bytes) for ref in manifest.packs
    ]


def wanted_evidence(out: Path, manifest: ZooManifest) -> list[Wanted]:
    """What the catalogue's rows name and no pack holds. Parts and packs are here.

    Raises UsageError for a part that is not what it says.
    """
    digests: set[str] = set()
    for part in manifest.catalogue:
        digests |= evidence_of(part_path(out, part.digest), part)
    digests |= {retraction.evidence for retraction in manifest.retracted if retraction.networks}
    digests -= Store(out, manifest).packed.keys()
    here = Path()
    return [Wanted(evidence_path(here, d).as_posix(), d, EVIDENCE_BYTES_MAX, 0) for d in sorted(digests)]


def evidence_of(path: Path, part: Part) -> set[str]:
    """Digests of the evidence that a part's rows name. Raises UsageError: not the part that the manifest names."""
    check_part(path, part.rows)
    return set(read_part(path, ["evidence"])["evidence"].unique().to_pylist())
