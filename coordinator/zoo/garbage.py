"""Which files of a zoo belong to it, and removing the others."""

from pathlib import Path

from protocol.errors import DamageError
from protocol.zoo.manifests import ZooManifest, find_manifest, manifest_numbers, manifest_path, read_manifest
from protocol.zoo.store import (
    Store,
    campaign_path,
    data_path,
    evidence_path,
    pack_path,
    part_path,
    recipe_path,
    shard_path,
)

FOLDERS = ("manifests", "catalogue", "weights", "recipes", "campaigns", "evidence", "data")


def collect_garbage(zoo: Path, horizon: float) -> list[Path]:
    """Remove files that are older than `horizon` and that no manifest since then names; return their paths.

    Raises UsageError, and removes nothing, while a manifest of that time cannot be read: only it knows what it names.
    """
    latest, _, passed_over = find_manifest(zoo)
    if passed_over:
        raise DamageError(passed_over[0])
    if latest is None:
        return []
    kept = files_of(Store(zoo, latest))
    for number in manifest_numbers(zoo):
        path = manifest_path(zoo, number)
        if number == latest.number or path.stat().st_mtime > horizon:
            # What evidence an older manifest names, the newest names too, retracted or not.
            kept |= {path, *named_files(zoo, read_manifest(zoo, number)[0])}
    removed = []
    for folder in FOLDERS:
        for path in sorted((zoo / folder).rglob("*")):
            if path.is_file() and path not in kept and path.stat().st_mtime <= horizon:
                path.unlink()
                removed.append(path)
    return removed


def files_of(store: Store) -> set[Path]:
    """Every file that a manifest names, evidence included, retracted or not: this reads the catalogue."""
    evidence = store.catalogue(["evidence"])["evidence"].unique().to_pylist()
    evidence += [retraction.evidence for retraction in store.manifest.retracted if retraction.networks]
    return named_files(store.path, store.manifest) | {evidence_path(store.path, digest) for digest in evidence}


def named_files(zoo: Path, manifest: ZooManifest) -> set[Path]:
    """The files that stand in a manifest itself."""
    files = {part_path(zoo, part.digest) for part in manifest.catalogue}
    files |= {shard_path(zoo, ref.recipe, ref.digest) for ref in manifest.shards}
    files |= {recipe_path(zoo, digest) for digest in manifest.recipes}
    files |= {campaign_path(zoo, digest) for digest in manifest.campaigns}
    files |= {pack_path(zoo, ref.digest) for ref in manifest.packs}
    return files | {data_path(zoo, ref.digest) for ref in manifest.data}
