"""Merge what many small publishes leave: thousands of tiny files open slowly and fit no archive."""

import logging
from typing import NamedTuple

import msgspec
import numpy as np

from coordinator.zoo.files import write_part, write_shard
from protocol.errors import UsageError
from protocol.zoo.store import SHARD_ROWS_MAX, Part, ShardRef, Store, check_digest, shard_path

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
    import pyarrow as pa

    full = tuple(part for part in store.manifest.catalogue if part.rows >= PART_ROWS_FULL)
    open_parts = tuple(part for part in store.manifest.catalogue if part.rows < PART_ROWS_FULL)
    small = msgspec.structs.replace(store.manifest, catalogue=open_parts)
    table = Store(store.path, small).catalogue()
    table = table.sort_by([("class", "ascending"), ("recipe", "ascending"), ("seed", "ascending")])
    shard_N, row_N = np.array(table["shard"].to_pylist(), object), table["row"].to_numpy().copy()
    seed_N = table["seed"].to_numpy()
    mergeable = mergeable_shards(store, shard_N)
    shards = [ref for ref in store.manifest.shards if ref.digest not in mergeable]
    for digest, recipe in store.recipes.items():
        members = [name for name, ref in mergeable.items() if ref.recipe == digest]
        places = np.flatnonzero(np.isin(shard_N, members))
        for begin in range(0, len(places), SHARD_ROWS_MAX):
            chunk = places[begin : begin + SHARD_ROWS_MAX]
            weights_NP = store.gather(shard_N[chunk].tolist(), row_N[chunk])
            ref = write_shard(store.path, recipe, seed_N[chunk].tolist(), weights_NP)
            shards.append(ref)
            shard_N[chunk], row_N[chunk] = ref.digest, np.arange(len(chunk))
    table = table.set_column(table.schema.get_field_index("shard"), "shard", pa.array(shard_N.tolist(), pa.string()))
    table = table.set_column(table.schema.get_field_index("row"), "row", pa.array(row_N))
    return Pieces((*full, write_part(store.path, table)), tuple(shards))


def mergeable_shards(store: Store, shard_N: np.ndarray) -> dict[str, ShardRef]:
    """Shards that are not full, undamaged, and whose rows are all in the catalogue rows given."""
    names, counts = np.unique(shard_N.astype(str), return_counts=True)
    rows = dict(zip(names.tolist(), counts.tolist(), strict=True))
    mergeable = {}
    for ref in store.manifest.shards:
        if ref.rows >= SHARD_ROWS_MAX or rows.get(ref.digest) != ref.rows:
            continue
        path = shard_path(store.path, ref.recipe, ref.digest)
        try:
            check_digest(path, path.read_bytes(), ref.digest)
        except (UsageError, OSError) as error:
            log.error("[shard %s] left out of the merge: %s", ref.digest[:16], error)
        else:
            mergeable[ref.digest] = ref
    return mergeable
