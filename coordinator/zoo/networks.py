"""New networks as files: what is checked before it is immutable for ever, their shards, and their rows."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from coordinator.zoo.files import copy_data, weights_digest, write_part, write_shard
from coordinator.zoo.merge import Pieces
from protocol.canonical import DIGEST, hexdigest
from protocol.recipes.recipe import Recipe
from protocol.zoo.catalogue import catalogue_schema, recipe_columns
from protocol.zoo.manifests import SHARD_ROWS_MAX, DataRef, ShardRef
from protocol.zoo.store import NetworkRow, Store, data_path, evidence_path

Published = Sequence[tuple[NetworkRow, np.ndarray]]


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
    for digest, rows in groupby(ordered, key=lambda pair: pair[0].recipe):
        group = list(rows)
        columns = recipe_columns(recipes[digest])
        for begin in range(0, len(group), SHARD_ROWS_MAX):
            chunk = group[begin : begin + SHARD_ROWS_MAX]
            weights_NP = np.stack([params for _, params in chunk])
            ref = write_shard(zoo, recipes[digest], [row.seed for row, _ in chunk], weights_NP)
            shards.append(ref)
            lines += [catalogue_line(row, columns, params, ref.digest, i) for i, (row, params) in enumerate(chunk)]
    import pyarrow as pa

    part = write_part(zoo, pa.Table.from_pylist(lines, schema=catalogue_schema()))
    return Pieces((*pieces.catalogue, part), (*pieces.shards, *shards))


def catalogue_line(
    row: NetworkRow, columns: Mapping[str, Any], params: np.ndarray, shard: str, place: int
) -> dict[str, Any]:
    """`columns` are its recipe's."""
    line = {name: getattr(row, name) for name in row.__struct_fields__}
    line |= columns
    line |= {"id": row.id, "weights_digest": weights_digest(params), "shard": shard, "row": place}
    line["admitted_at"] = datetime.fromtimestamp(row.admitted_at, UTC)
    return line
