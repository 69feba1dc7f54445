"""Merge what many small publishes leave: thousands of tiny files open slowly and fit no archive. And take bundles
out again."""

import logging
from collections import Counter
from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from coordinator.zoo.files import shard_groups, write_part, write_shard
from protocol.errors import UsageError
from protocol.zoo.manifests import SHARD_ROWS_MAX, Part, ShardRef
from protocol.zoo.shards import split_by
from protocol.zoo.store import Store, check_digest, shard_path

if TYPE_CHECKING:
    import pyarrow as pa

PART_ROWS_FULL = 100_000  # a catalogue file this long is never rewritten, so a publish costs the same for ever
PARTS_MAX = 32  # small catalogue files before they are merged: 2,000 files of 100 rows took DuckDB 1.2 s to open

log = logging.getLogger(__name__)


class Pieces(NamedTuple):
    """Files that a manifest will name."""

    catalogue: tuple[Part, ...]
    shards: tuple[ShardRef, ...]


def is_scattered(catalogue: tuple[Part, ...]) -> bool:
    return sum(part.rows < PART_ROWS_FULL for part in catalogue) > PARTS_MAX


def compact(store: Store) -> Pieces:
    """Merge small catalogue parts into one, and the small shards that only they name into full ones.

    Parts of PART_ROWS_FULL rows and the shards they name stay as they are. A damaged shard stays too, and is reported:
    merging it would give damaged bytes a good name.
    """
    small = tuple(part for part in store.manifest.catalogue if part.rows < PART_ROWS_FULL)
    table = rows_of(store, small)
    open_shards = {ref.digest for ref in store.manifest.shards if ref.rows < SHARD_ROWS_MAX}
    merged = undamaged(store, whole_in(store, table) & open_shards)
    table, fresh = repacked(store, table, merged)
    full = tuple(part for part in store.manifest.catalogue if part not in small)
    shards = tuple(ref for ref in store.manifest.shards if ref.digest not in merged)
    return Pieces((*full, write_part(store.path, table)), (*shards, *fresh))


def without(store: Store, evidence: Collection[str]) -> tuple[Pieces, Counter[str]]:
    """All but these bundles, rows and weights, and how many rows each had. The other rows of their files move on.

    A damaged shard that other rows name as well stays, and is reported.
    """
    touched, rows = [], Counter[str]()
    for part in store.manifest.catalogue:
        names = rows_of(store, (part,), ["evidence"])["evidence"].to_pylist()
        falling = [name for name in names if name in evidence]
        if falling:
            touched.append(part)
            rows.update(falling)
    if not touched:
        return Pieces(store.manifest.catalogue, store.manifest.shards), rows
    table = rows_of(store, tuple(touched))
    falls_N = np.array([name in evidence for name in table["evidence"].to_pylist()])
    left = table.take(np.flatnonzero(~falls_N))
    shards = set(table["shard"].take(np.flatnonzero(falls_N)).to_pylist()) & whole_in(store, table)
    moved = undamaged(store, shards)
    left, fresh = repacked(store, left, moved)
    gone = moved | (shards - set(left["shard"].to_pylist()))
    catalogue = [part for part in store.manifest.catalogue if part not in touched]
    if left.num_rows:
        catalogue.append(write_part(store.path, left))
    return Pieces(tuple(catalogue), (*(ref for ref in store.manifest.shards if ref.digest not in gone), *fresh)), rows


def rows_of(store: Store, parts: tuple[Part, ...], columns: list[str] | None = None) -> "pa.Table":
    """The rows of some parts; whole ones in the catalogue's order. Raises UsageError naming a damaged file."""
    table = Store(store.path, msgspec.structs.replace(store.manifest, catalogue=parts)).catalogue(columns)
    if columns is None:
        table = table.sort_by([("class", "ascending"), ("recipe", "ascending"), ("seed", "ascending")])
    return table


def repacked(store: Store, table: "pa.Table", names: set[str]) -> tuple["pa.Table", list[ShardRef]]:
    """The rows whose weights are in the shards `names` get new shards, as full as can be."""
    import pyarrow as pa

    shard_N, row_N = np.array(table["shard"].to_pylist(), object), table["row"].to_numpy().copy()
    seed_N = table["seed"].to_numpy()
    recipe_N, digests = numbered(table["recipe"])
    number_N, shards = numbered(table["shard"])
    places_N = np.flatnonzero(np.array([shard in names for shard in shards], bool)[number_N])
    of_recipe = {
        digests[i]: places_N[at_N] for i, at_N in enumerate(split_by(recipe_N[places_N], len(digests))) if len(at_N)
    }
    fresh = []
    for group in shard_groups({digest: len(places) for digest, places in of_recipe.items()}, store.recipes):
        places = np.concatenate([of_recipe[digest] for digest in group])
        for begin in range(0, len(places), SHARD_ROWS_MAX):
            chunk = places[begin : begin + SHARD_ROWS_MAX]
            weights_NP = store.gather(shard_N[chunk].tolist(), row_N[chunk])
            recipes = [store.recipes[digests[i]] for i in recipe_N[chunk]]
            ref = write_shard(store.path, recipes, seed_N[chunk].tolist(), weights_NP)
            fresh.append(ref)
            shard_N[chunk], row_N[chunk] = ref.digest, np.arange(len(chunk))
    table = table.set_column(table.schema.get_field_index("shard"), "shard", pa.array(shard_N.tolist(), pa.string()))
    return table.set_column(table.schema.get_field_index("row"), "row", pa.array(row_N)), fresh


def numbered(column: "pa.ChunkedArray") -> tuple[np.ndarray, list[str]]:
    """Texts as numbers: (N,) places in the list of the different ones, which are in the order in which they come."""
    encoded = column.combine_chunks().dictionary_encode()
    return encoded.indices.to_numpy(), encoded.dictionary.to_pylist()


def whole_in(store: Store, table: "pa.Table") -> set[str]:
    """Shards all of whose rows are in the catalogue rows given."""
    rows = Counter(table["shard"].to_pylist())
    return {ref.digest for ref in store.manifest.shards if rows[ref.digest] == ref.rows}


def undamaged(store: Store, names: set[str]) -> set[str]:
    """Those of the shards whose bytes are right; the others are reported."""
    sound = set()
    for ref in store.manifest.shards:
        if ref.digest in names:
            path = shard_path(store.path, ref.recipe, ref.digest)
            try:
                check_digest(path, path.read_bytes(), ref.digest)
            except (UsageError, OSError) as error:
                log.error("[shard %s] left as it is: %s", ref.digest[:16], error)
            else:
                sound.add(ref.digest)
    return sound
