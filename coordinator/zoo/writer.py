"""The curator's side of the zoo: publish networks, merge small files, remove what a crash left behind.

Order of a publish: shards, recipes, campaigns and evidence; the catalogue part; the manifest (created, never
replaced); the card. A crash before the manifest leaves the zoo as it was plus stray files; after it, only the card is
old, and the next publish mends it. One writer at a time is the rule; if there are two, one create wins and the other
starts over from the winner's manifest. Axes: N networks, P parameters.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from coordinator.zoo.files import copy_data, put, sync_folders, weights_digest, write_part, write_shard
from coordinator.zoo.merge import Pieces, compact, is_scattered
from protocol.canonical import DIGEST, canonical_json, hexdigest
from protocol.errors import UsageError
from protocol.files import create_once
from protocol.recipes.recipe import Recipe
from protocol.zoo.card import write_card
from protocol.zoo.catalogue import catalogue_schema, recipe_columns
from protocol.zoo.store import (
    SHARD_ROWS_MAX,
    DataRef,
    NetworkRow,
    ShardRef,
    Store,
    ZooManifest,
    campaign_path,
    data_path,
    evidence_path,
    latest_manifest,
    manifest_numbers,
    manifest_path,
    part_path,
    recipe_path,
    shard_path,
)

CREATE_ATTEMPTS_MAX = 8  # lost races against another writer before giving up
GRACE_SECONDS = 24 * 3600.0  # a reader may hold an old manifest for a day

log = logging.getLogger(__name__)
Published = Sequence[tuple[NetworkRow, np.ndarray]]


class ZooWriter:
    """The one writer of a zoo's directory."""

    def __init__(self, path: Path | str, *, clock: Callable[[], float] = time.time):
        self.path, self.clock = Path(path), clock
        self._known: dict[str, str] = {}  # network id -> weights digest, as of the parts below
        self._known_parts: frozenset[str] = frozenset()

    def publish(
        self,
        networks: Published,
        recipes: Mapping[str, Recipe],
        evidence: Mapping[str, bytes],
        campaigns: Mapping[str, bytes],
        data: Mapping[str, Path] | None = None,
    ) -> int:
        """Add networks (row, params (P,) float32) and return the manifest's number. Repeating is harmless.

        A network already in the zoo is passed over. Every recipe, evidence file and campaign that a new row names must
        be given or be in the zoo, and so must a data set that its recipe names; `data` says where its file is. Raises
        ValueError for values that no admission can have let through, OSError when the disk refuses, UsageError when a
        file of the zoo itself is damaged.
        """
        for _ in range(CREATE_ATTEMPTS_MAX):
            base = latest_manifest(self.path) or ZooManifest()
            store = Store(self.path, base)
            fresh = self._fresh(store, networks)
            given = dict(data or {})
            listed = {*recipes, *campaigns} <= {*base.recipes, *base.campaigns}
            listed &= given.keys() <= {ref.digest for ref in base.data}
            if base.number and listed and not fresh:
                write_card(store)
                return base.number
            number = self._publish(store, fresh, recipes, evidence, campaigns, given)
            if number is not None:
                return number
        raise OSError(
            f"{self.path}: {CREATE_ATTEMPTS_MAX} other writers won the next manifest; is there a second curator?"
        )

    def collect_garbage(self, grace_seconds: float = GRACE_SECONDS) -> list[Path]:
        """Remove files that no manifest of the last `grace_seconds` names and that are older; return their paths."""
        horizon = self.clock() - grace_seconds
        kept: set[Path] = set()
        latest = latest_manifest(self.path)
        if latest is None:
            return []
        for number in manifest_numbers(self.path):
            path = manifest_path(self.path, number)
            if number >= latest.number or path.stat().st_mtime > horizon:
                kept.add(path)
                # Networks are never removed, so what evidence an older manifest names the latest names too.
                with contextlib.suppress(msgspec.DecodeError, UsageError):
                    kept |= named_files(self.path, msgspec.json.decode(path.read_bytes(), type=ZooManifest))
        kept |= files_of(Store(self.path, latest))  # damage here must stop us: nothing else says what to keep
        removed = []
        for folder in ("manifests", "catalogue", "weights", "recipes", "campaigns", "evidence", "data"):
            for path in sorted((self.path / folder).rglob("*")):
                if path.is_file() and path not in kept and path.stat().st_mtime <= horizon:
                    path.unlink()
                    removed.append(path)
        return removed

    def _fresh(self, store: Store, networks: Published) -> list[tuple[NetworkRow, np.ndarray]]:
        """The networks that the zoo does not have yet, each once."""
        parts = frozenset(part.digest for part in store.manifest.catalogue)
        if parts != self._known_parts:
            table = store.catalogue(["id", "weights_digest"])
            self._known = dict(zip(table["id"].to_pylist(), table["weights_digest"].to_pylist(), strict=True))
            self._known_parts = parts
        fresh: dict[str, tuple[NetworkRow, np.ndarray]] = {}
        for row, params in networks:
            have = self._known.get(row.id)
            if have is None:
                fresh.setdefault(row.id, (row, params))
            elif have != weights_digest(params):
                log.error(
                    "[network %s host %s] other weights than the zoo has: one of them is wrong",
                    row.id,
                    row.host,
                )
        return list(fresh.values())

    def _publish(
        self,
        store: Store,
        fresh: Published,
        recipes: Mapping[str, Recipe],
        evidence: Mapping[str, bytes],
        campaigns: Mapping[str, bytes],
        data: Mapping[str, Path],
    ) -> int | None:
        """Write one manifest and all that it names; None when another writer took its number."""
        base = store.manifest
        known_recipes = {**store.recipes, **recipes}
        check_input(fresh, known_recipes, recipes, evidence, campaigns, store)
        refs = add_data(self.path, base.data, data)
        check_data(fresh, known_recipes, refs)
        for digest, recipe in recipes.items():
            put(recipe_path(self.path, digest), recipe.exact)
        for digest, exact in campaigns.items():
            put(campaign_path(self.path, digest), exact)
        for digest in {row.evidence for row, _ in fresh} & evidence.keys():
            put(evidence_path(self.path, digest), evidence[digest])
        pieces = Pieces(base.catalogue, base.shards)
        if fresh:
            pieces = add_networks(self.path, pieces, fresh, known_recipes)
        draft = ZooManifest(
            number=max([base.number, *manifest_numbers(self.path)]) + 1,
            written_at=datetime.fromtimestamp(self.clock(), UTC).isoformat(timespec="seconds"),
            catalogue=pieces.catalogue,
            shards=pieces.shards,
            recipes=tuple(sorted({*base.recipes, *recipes})),
            campaigns=tuple(sorted({*base.campaigns, *campaigns})),
            data=refs,
        )
        if is_scattered(draft.catalogue):
            pieces = compact(Store(self.path, draft))
            draft = msgspec.structs.replace(draft, catalogue=pieces.catalogue, shards=pieces.shards)
        sync_folders(self.path)
        if not create_once(manifest_path(self.path, draft.number), canonical_json(draft)):
            return None
        self._known |= {row.id: weights_digest(params) for row, params in fresh}
        self._known_parts = frozenset(part.digest for part in draft.catalogue)
        write_card(Store(self.path, draft))
        return draft.number


def check_input(
    fresh: Published,
    known_recipes: Mapping[str, Recipe],
    recipes: Mapping[str, Recipe],
    evidence: Mapping[str, bytes],
    campaigns: Mapping[str, bytes],
    store: Store,
) -> None:
    """Raise ValueError for what would be wrong for ever: this store is immutable."""
    for digest, recipe in recipes.items():
        if recipe.digest != digest:
            raise ValueError(f"recipe {recipe.name} has the digest {recipe.digest}, not {digest}")
    for kind, blobs in (("evidence", evidence), ("campaign", campaigns)):
        for digest, data in blobs.items():
            if hexdigest(data) != digest:
                raise ValueError(f"{kind} {digest}: its bytes hash to {hexdigest(data)}")
    for row, params in fresh:
        recipe = known_recipes.get(row.recipe)
        if recipe is None:
            raise ValueError(f"network {row.id}: its recipe is neither given nor in the zoo")
        if row.campaign not in campaigns and row.campaign not in store.manifest.campaigns:
            raise ValueError(f"network {row.id}: its campaign is neither given nor in the zoo")
        if row.evidence not in evidence and not evidence_path(store.path, row.evidence).is_file():
            raise ValueError(f"network {row.id}: its evidence is neither given nor in the zoo")
        if not DIGEST.fullmatch(row.state_digest):
            raise ValueError(f"network {row.id}: state_digest: 64 hex digits expected")
        if params.dtype != np.float32 or params.shape != (recipe.parameter_count,) or not np.isfinite(params).all():
            raise ValueError(f"network {row.id}: {recipe.parameter_count} finite float32 parameters expected")


def add_data(zoo: Path, known: tuple[DataRef, ...], data: Mapping[str, Path]) -> tuple[DataRef, ...]:
    """Copy data sets that the zoo does not list, each hashed as it is written. Raises ValueError: another's bytes."""
    refs = {ref.digest: ref for ref in known}
    for digest in data.keys() - refs.keys():
        size = copy_data(data[digest], data_path(zoo, digest))
        refs[digest] = DataRef(digest=digest, bytes=size)
    return tuple(refs[digest] for digest in sorted(refs))


def check_data(fresh: Published, known_recipes: Mapping[str, Recipe], refs: tuple[DataRef, ...]) -> None:
    there = {ref.digest for ref in refs}
    for digest in {row.recipe for row, _ in fresh}:
        data_set = known_recipes[digest].data_set
        if data_set is not None and data_set not in there:
            raise ValueError(f"recipe {known_recipes[digest].name}: its data set is neither given nor in the zoo")


def add_networks(zoo: Path, pieces: Pieces, fresh: Published, recipes: Mapping[str, Recipe]) -> Pieces:
    """Write new networks' shards and one catalogue part; return the pieces with them."""
    shards: list[ShardRef] = []
    lines: list[dict[str, Any]] = []
    ordered = sorted(fresh, key=lambda pair: (recipes[pair[0].recipe].label, pair[0].recipe, pair[0].seed))
    for digest in dict.fromkeys(row.recipe for row, _ in ordered):
        group = [pair for pair in ordered if pair[0].recipe == digest]
        for begin in range(0, len(group), SHARD_ROWS_MAX):
            chunk = group[begin : begin + SHARD_ROWS_MAX]
            weights_NP = np.stack([params for _, params in chunk])
            ref = write_shard(zoo, recipes[digest], [row.seed for row, _ in chunk], weights_NP)
            shards.append(ref)
            lines += [
                catalogue_line(row, recipes[digest], params, ref.digest, i) for i, (row, params) in enumerate(chunk)
            ]
    import pyarrow as pa

    part = write_part(zoo, pa.Table.from_pylist(lines, schema=catalogue_schema()))
    return Pieces((*pieces.catalogue, part), (*pieces.shards, *shards))


def catalogue_line(row: NetworkRow, recipe: Recipe, params: np.ndarray, shard: str, place: int) -> dict[str, Any]:
    line = {name: getattr(row, name) for name in row.__struct_fields__}
    line |= recipe_columns(recipe)
    line |= {"id": row.id, "weights_digest": weights_digest(params), "shard": shard, "row": place}
    line["admitted_at"] = datetime.fromtimestamp(row.admitted_at, UTC)
    return line


def files_of(store: Store) -> set[Path]:
    """Every file that a manifest names, evidence included: this reads the catalogue."""
    evidence = store.catalogue(["evidence"])["evidence"].unique().to_pylist()
    return named_files(store.path, store.manifest) | {evidence_path(store.path, digest) for digest in evidence}


def named_files(zoo: Path, manifest: ZooManifest) -> set[Path]:
    """The files that stand in a manifest itself."""
    files = {part_path(zoo, part.digest) for part in manifest.catalogue}
    files |= {shard_path(zoo, ref.recipe, ref.digest) for ref in manifest.shards}
    files |= {recipe_path(zoo, digest) for digest in manifest.recipes}
    files |= {campaign_path(zoo, digest) for digest in manifest.campaigns}
    return files | {data_path(zoo, ref.digest) for ref in manifest.data}
