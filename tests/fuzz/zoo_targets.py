"""What an analyst reads of a zoo that anybody may have made: manifests, shards, the catalogue."""

import shutil
from pathlib import Path

import msgspec
from support.zoos import ADDER, ORGANIZER, PARITY, network, publish

from analysis.pull.wanted import evidence_of, parse_manifest
from analysis.zoo import open_zoo
from coordinator.zoo.writer import ZooWriter
from fuzz.targets import Target
from fuzz.workbench import at, folder
from protocol.canonical import hexdigest
from protocol.zoo.catalogue import read_part
from protocol.zoo.manifests import PackRef, latest_manifest, manifest_from_bytes, manifest_path
from protocol.zoo.packs import pack_bytes, read_pack
from protocol.zoo.shards import map_shard
from protocol.zoo.store import open_store, part_path, shard_path


def zoo_targets() -> list[Target]:
    path = folder() / "zoo"
    writer = ZooWriter(path, ORGANIZER, clock=lambda: 1_800_000_000.0)
    publish(writer, *[network(PARITY, seed) for seed in range(5)], *[network(ADDER, seed) for seed in range(2)])
    store = open_store(path)
    manifest = manifest_path(path, store.manifest.number).read_bytes()
    ref = store.manifest.shards[0]
    shard = shard_path(path, ref.recipe, ref.digest).read_bytes()
    part = store.manifest.catalogue[0]
    parquet = part_path(path, part.digest).read_bytes()
    recipe = store.recipes[ref.recipe]

    def a_shard(data: bytes) -> object:
        return map_shard(at("shard", data), msgspec.structs.replace(ref, bytes=len(data)), recipe)

    def a_part(data: bytes) -> object:
        named = at("part", data)
        evidence_of(named, msgspec.structs.replace(part, bytes=len(data)))
        return read_part(named)

    pack = pack_bytes({hexdigest(data): data for data in (b"first", b"second", b"")})

    def a_pack(data: bytes) -> object:
        return read_pack(at("pack", data), PackRef(digest="0" * 64, bytes=len(data), bundles=3))

    return [
        Target(name="zoo manifest", parse=manifest_of_anybody, samples=(manifest,), share=4),
        Target(name="manifest file", parse=manifest_file, samples=(manifest,)),
        Target(name="shard", parse=a_shard, samples=(shard,), share=4),
        Target(name="evidence pack", parse=a_pack, samples=(pack,), share=2),
        Target(name="catalogue", parse=a_part, samples=(parquet,), share=3),
        Target(name="catalogue table", parse=table_of(path, parquet), samples=(parquet,)),
    ]


def manifest_of_anybody(data: bytes) -> object:
    """As its bytes say, and as a pull takes it, when the signature holds."""
    manifest_from_bytes(data, verify=lambda *_: None)
    return parse_manifest(data, "host", None)


def manifest_file(data: bytes) -> object:
    at("manifests/00000001.json", data)
    return latest_manifest(folder())


def table_of(zoo: Path, parquet: bytes):
    """As `report` reads it: a whole zoo whose part is not what it was."""
    copy = folder() / "opened"
    shutil.copytree(zoo, copy)

    def parse(data: bytes) -> object:
        store = open_store(copy)
        part = store.manifest.catalogue[0]
        part_path(copy, part.digest).write_bytes(data[: part.bytes].ljust(part.bytes, b"\0"))
        return open_zoo(copy).table()

    return parse
