"""New networks as files: what is checked before it is immutable for ever, their shards, and their rows."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coordinator.zoo.files import copy_data, shard_groups, write_part, write_shard
from coordinator.zoo.merge import Pieces
from protocol.canonical import DIGEST, hexdigest
from protocol.recipes.recipe import Recipe
from protocol.zoo.catalogue import catalogue_schema, recipe_columns
from protocol.zoo.manifests import SHARD_ROWS_MAX, DataRef, ShardRef
from protocol.zoo.store import NetworkRow, Store, data_path

if TYPE_CHECKING:
    import pyarrow as pa

Published = Sequence[tuple[NetworkRow, np.ndarray]]
OWN_COLUMNS = tuple(name for name in NetworkRow.__struct_fields__ if name != "recipe")  # of a network, as they are


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
        if row.evidence not in evidence and not store.has_evidence(row.evidence):
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


def add_networks(
    zoo: Path, pieces: Pieces, fresh: Published, recipes: Mapping[str, Recipe], digests: Mapping[str, str]
) -> Pieces:
    """Write new networks' shards and one catalogue part; return the pieces with them.

    `digests`: network id -> SHA-256 of its weights.
    """
    ordered = sorted(fresh, key=lambda pair: (recipes[pair[0].recipe].label, pair[0].recipe, pair[0].seed))
    members: dict[str, list[int]] = {}
    for i, (row, _) in enumerate(ordered):
        members.setdefault(row.recipe, []).append(i)
    shards: list[ShardRef] = []
    place: list[tuple[str, int]] = [("", 0)] * len(ordered)  # (shard, row in it)
    for group in shard_groups({digest: len(rows) for digest, rows in members.items()}, recipes):
        rows_of_group = [i for digest in group for i in members[digest]]
        for begin in range(0, len(rows_of_group), SHARD_ROWS_MAX):
            chunk = rows_of_group[begin : begin + SHARD_ROWS_MAX]
            rows = [ordered[i][0] for i in chunk]
            weights_NP = np.stack([ordered[i][1] for i in chunk])
            ref = write_shard(zoo, [recipes[row.recipe] for row in rows], [row.seed for row in rows], weights_NP)
            shards.append(ref)
            for at, i in enumerate(chunk):
                place[i] = ref.digest, at
    table = catalogue_table([row for row, _ in ordered], place, [recipes[digest] for digest in members], digests)
    return Pieces((*pieces.catalogue, write_part(zoo, table)), (*pieces.shards, *shards))


def catalogue_table(
    rows: Sequence[NetworkRow], place: Sequence[tuple[str, int]], recipes: Sequence[Recipe], digests: Mapping[str, str]
) -> "pa.Table":
    """The rows' lines of the catalogue; `place`: (shard, row in it) of each, `recipes`: all that they name, once."""
    import pyarrow as pa

    schema = catalogue_schema()
    own: dict[str, list[Any]] = {name: [getattr(row, name) for row in rows] for name in OWN_COLUMNS}
    own["id"] = [row.id for row in rows]
    own["weights_digest"] = [digests[name] for name in own["id"]]
    own["shard"], own["row"] = [shard for shard, _ in place], [row for _, row in place]
    own["admitted_at"] = [datetime.fromtimestamp(row.admitted_at, UTC) for row in rows]
    shared = [field for field in schema if field.name not in own]  # what all networks of a recipe have in common
    by_recipe = pa.Table.from_pylist([recipe_columns(recipe) for recipe in recipes], pa.schema(shared))
    number = {recipe.digest: i for i, recipe in enumerate(recipes)}
    columns = dict(zip(by_recipe.column_names, by_recipe.take([number[r.recipe] for r in rows]).columns, strict=True))
    return pa.table(
        [
            columns[field.name] if field.name in columns else pa.array(own[field.name], field.type, from_pandas=False)
            for field in schema
        ],
        schema=schema,
    )
