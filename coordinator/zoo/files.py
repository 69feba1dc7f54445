"""The zoo's immutable files: exact bytes under their digest, whole or absent, and a manifest that one writer wins."""

import io
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from protocol.canonical import canonical_json, hexdigest
from protocol.errors import Refused
from protocol.files import sync_folder, whole_or_absent, write_atomic
from protocol.recipes.layers import Arrays
from protocol.recipes.recipe import Recipe
from protocol.tasks.datasets import check_file
from protocol.zoo.manifests import PackRef, Part, ShardRef
from protocol.zoo.packs import pack_bytes
from protocol.zoo.shards import shard_arrays
from protocol.zoo.store import evidence_path, pack_path, part_path, shard_path

if TYPE_CHECKING:
    import pyarrow as pa

FEW_ROWS = 100  # networks of a recipe that may share a file with those of others
PACKED_MIN, PACKED_MAX = 32, 512  # evidence in a pack
SMALL_BYTES = 64 * 1024  # of evidence that may go into one: 32 MB at most are read and hashed together
RECIPES_APART = 8  # so many of one shape have files of their own all the same


def shard_groups(rows: Mapping[str, int], recipes: Mapping[str, Recipe]) -> list[list[str]]:
    """Which recipes' networks share files of weights. `rows`: how many networks of each recipe, by its digest.

    A recipe has files of its own. But where more than a few of one shape have few networks each, those share: a
    campaign of a thousand recipes would write, and leave, a file for each.
    """
    groups: list[list[str]] = []
    few: dict[Arrays, list[str]] = {}
    for digest, count in rows.items():
        if count < FEW_ROWS:
            few.setdefault(recipes[digest].shapes, []).append(digest)
        else:
            groups.append([digest])
    for alike in few.values():
        groups += [alike] if len(alike) > RECIPES_APART else [[digest] for digest in alike]
    return groups


def write_shard(zoo: Path, recipes: Sequence[Recipe], seeds: Sequence[int], weights_NP: np.ndarray) -> ShardRef:
    """One safetensors file, one stacked array a layer; its header names the networks even without a catalogue.

    `recipes`: of each network; all have the first one's shapes, which names the folder. Written here because the
    library orders metadata by chance, and equal networks must give equal bytes.
    """
    first, seen = recipes[0], {recipe.digest: None for recipe in recipes}
    header: dict[str, Any] = {
        "__metadata__": {
            "format": "zooswarm-shard/1",
            "recipe": " ".join(seen),
            "seeds": " ".join(map(str, seeds)),
        }
    }
    if len(seen) > 1:  # the place of each network's recipe in that list
        place = {digest: str(i) for i, digest in enumerate(seen)}
        header["__metadata__"]["recipe_of"] = " ".join(place[recipe.digest] for recipe in recipes)
    for name, shape, begin, end in shard_arrays(first, len(seeds)):
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, end]}
    blocks = [np.ascontiguousarray(array, "<f4").tobytes() for array in first.split(weights_NP).values()]
    text = canonical_json(header)
    text += b" " * (-(8 + len(text)) % 64)  # aligned, so that a mapping can be used in place
    data = b"".join([len(text).to_bytes(8, "little"), text, *blocks])
    digest = hexdigest(data)
    put(shard_path(zoo, first.digest, digest), data)
    return ShardRef(digest=digest, bytes=len(data), rows=len(seeds), recipe=first.digest)


def write_evidence(zoo: Path, blobs: Mapping[str, bytes]) -> tuple[PackRef, ...]:
    """Evidence by its digest, each in a file of its own, or, of many small ones, in packs, which are returned."""
    small = {digest: data for digest, data in sorted(blobs.items()) if len(data) <= SMALL_BYTES}
    if len(small) < PACKED_MIN:
        small = {}
    for digest in blobs.keys() - small.keys():
        put(evidence_path(zoo, digest), blobs[digest])
    names, packs = list(small), []
    for begin in range(0, len(names), PACKED_MAX):
        some = {name: small[name] for name in names[begin : begin + PACKED_MAX]}
        data = pack_bytes(some)
        packs.append(PackRef(digest=hexdigest(data), bytes=len(data), bundles=len(some)))
        put(pack_path(zoo, packs[-1].digest), data)
    return tuple(packs)


def write_part(zoo: Path, table: "pa.Table") -> Part:
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=100_000, write_page_checksum=True)
    data = sink.getvalue()
    digest = hexdigest(data)
    put(part_path(zoo, digest), data)
    counts = {line["values"]: line["counts"] for line in table["class"].value_counts().to_pylist()}
    return Part(digest=digest, bytes=len(data), rows=table.num_rows, classes=dict(sorted(counts.items())))


def weights_digest(params: np.ndarray) -> str:
    """SHA-256 of one network's parameters (P,), as a host commits to them."""
    return hexdigest(np.asarray(params, "<f4").tobytes())


def put(path: Path, data: bytes) -> None:
    """Write an immutable file; one that is there and damaged is written again."""
    if not path.is_file() or path.stat().st_size != len(data) or path.read_bytes() != data:
        write_atomic(path, data)


def copy_data(source: Path, path: Path) -> int:
    """Copy a data set under its digest, whole or not at all; its length. Raises ValueError: damaged on the way."""
    if not path.is_file():
        try:
            with whole_or_absent(path) as partial:
                shutil.copyfile(source, partial)
                check_file(partial, path.name)
        except Refused as error:
            raise ValueError(f"data set {path.name}: {error}") from None
    return path.stat().st_size


def sync_folders(zoo: Path, recipes: Collection[str]) -> None:
    """A rename is durable once its folder is; the manifest must not outlive the files that it names.

    `recipes`: digests of those of which it names new shards; the folders of others were durable before the last one.
    """
    for folder in [zoo, *zoo.iterdir(), *(shard_path(zoo, digest, "").parent for digest in recipes)]:
        if folder.is_dir():
            sync_folder(folder)
