"""Recompute every digest of a zoo. It needs nothing but the zoo's own files."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from protocol.canonical import NOT_DECODABLE, hexdigest
from protocol.errors import UsageError
from protocol.files import read_limited
from protocol.zoo.catalogue import read_part
from protocol.zoo.manifests import DataRef, PackRef, Part, ShardRef, Verify, manifest_numbers, manifest_problems
from protocol.zoo.shards import check_file, checked_size
from protocol.zoo.store import (
    Store,
    campaign_path,
    data_path,
    network_id,
    open_store,
    pack_path,
    part_path,
    recipe_path,
    shard_path,
)

if TYPE_CHECKING:
    import pyarrow as pa


BLOCK_BYTES = 64 * 1024 * 1024  # of weights, hashed at once
CARD_BYTES_MAX = 16 * 1024 * 1024


class VerifiedZoo(msgspec.Struct, frozen=True, kw_only=True):
    """What `verify` looked at, and one line for each thing that is wrong."""

    networks: int
    files: int
    problems: tuple[str, ...]


def verify_zoo(path: Store | Path | str, verify: Verify | None = None, organizer: str | None = None) -> VerifiedZoo:
    """Recompute every digest: manifests' files, each row's weights, each bundle's evidence. Reads the whole zoo.

    With `verify` the manifests' signatures too, which must be `organizer`'s if one is given. Raises UsageError: no zoo.
    """
    store = path if isinstance(path, Store) else open_store(path, verify)
    problems = [*manifest_problems(store.path, verify, organizer), *card_problems(store)]
    manifest = store.manifest
    checks = list(_checks(store).values())
    networks, evidence = 0, {retraction.evidence for retraction in manifest.retracted if retraction.networks}
    seen: set[str] = set()
    for part in store.manifest.catalogue:
        try:
            table = read_part(checked_size(part_path(store.path, part.digest), part.bytes))
        except UsageError as error:
            problems.append(str(error))
            continue
        evidence |= set(table["evidence"].to_pylist())
        networks += table.num_rows
        problems += _check_rows(store, table, seen)
    checks += [partial(store.evidence, digest) for digest in sorted(evidence)]
    for check in checks:
        try:
            check()
        except UsageError as error:
            problems.append(str(error))
    return VerifiedZoo(networks=networks, files=len(checks) + 1, problems=tuple(dict.fromkeys(problems)))


def damaged_files(store: Store) -> list[str]:
    """Names, within the zoo, of files that are not what the manifest says. Of evidence only packs are looked at."""
    damaged = []
    for path, check in _checks(store).items():
        try:
            check()
        except (UsageError, OSError):
            damaged.append(path.relative_to(store.path).as_posix())
    return damaged


def _checks(store: Store) -> dict[Path, Callable[[], object]]:
    """A check for each file that stands in the manifest; it raises UsageError, OSError."""
    zoo, manifest = store.path, store.manifest
    checks: dict[Path, Callable[[], object]] = {}
    checks |= {recipe_path(zoo, digest): partial(store.recipe, digest) for digest in manifest.recipes}
    checks |= {campaign_path(zoo, digest): partial(store.campaign, digest) for digest in manifest.campaigns}
    files: list[tuple[Path, ShardRef | Part | DataRef | PackRef]] = []
    files += [(shard_path(zoo, ref.recipe, ref.digest), ref) for ref in manifest.shards]
    files += [(part_path(zoo, part.digest), part) for part in manifest.catalogue]
    files += [(data_path(zoo, ref.digest), ref) for ref in manifest.data]
    files += [(pack_path(zoo, ref.digest), ref) for ref in manifest.packs]
    return checks | {path: partial(_check_file, path, ref) for path, ref in files}


def card_problems(store: Store) -> list[str]:
    """The card is written after its manifest: one that is newer says that the newest manifest was taken away."""
    path = store.path / "croissant.json"
    try:
        told = msgspec.json.decode(read_limited(path, CARD_BYTES_MAX, "card"))
        number = int(str(told["version"]).split(".")[0])
    except (UsageError, *NOT_DECODABLE, ValueError, TypeError, KeyError):
        return []  # it may be edited, or missing
    newest = max(manifest_numbers(store.path), default=0)
    return [f"{path}: is about manifest {number}, which is not here any more; pull again"] if number > newest else []


def _check_file(path: Path, ref: ShardRef | Part | DataRef | PackRef) -> None:
    checked_size(path, ref.bytes)
    check_file(path, ref.digest)


def _check_rows(store: Store, table: "pa.Table", seen: set[str]) -> list[str]:
    """Problems of one catalogue part's rows: names, and weights against their digests."""
    rows = table.select(["id", "recipe", "seed", "shard", "row", "weights_digest"]).to_pylist()
    problems = [f"{row['id']}: in the catalogue twice" for row in rows if row["id"] in seen]
    seen.update(row["id"] for row in rows)
    problems += [
        f"{row['id']}: its recipe and seed say {network_id(row['recipe'], row['seed'])}"
        for row in rows
        if row["id"] != network_id(row["recipe"], row["seed"])
    ]
    by_shard: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_shard.setdefault(row["shard"], []).append(row)
    for shard, members in by_shard.items():
        try:
            _, recipe = store.listed(shard)
            rows_at_once = max(1, BLOCK_BYTES // (4 * recipe.parameter_count))
            for begin in range(0, len(members), rows_at_once):
                some = members[begin : begin + rows_at_once]
                weights_NP = store.gather([shard] * len(some), np.array([row["row"] for row in some]))
                problems += [
                    f"{row['id']}: its weights do not hash to the catalogue's weights_digest"
                    for row, weights_P in zip(some, weights_NP, strict=True)
                    if hexdigest(weights_P.astype("<f4").tobytes()) != row["weights_digest"]
                ]
        except UsageError as error:
            problems.append(str(error))
    return problems
