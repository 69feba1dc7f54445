"""Evidence of many bundles in one file, of a publish that has many: a file for each costs more than all else of it.

A pack is an ordinary safetensors file whose arrays of bytes are the evidence files, each under its SHA-256. So whoever
takes one out can check it, whatever the pack says.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from protocol.canonical import DIGEST, NOT_DECODABLE, canonical_json
from protocol.errors import DamageError
from protocol.zoo.manifests import PackRef
from protocol.zoo.shards import checked_size

FORMAT = "zooswarm-evidence/1"
HEADER_BYTES_MAX = 1024 * 1024  # 150 bytes a bundle
ABOUT = "__metadata__"


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An array of a safetensors header that is bytes."""

    dtype: Annotated[str, Meta(pattern=r"^U8\Z")]
    shape: tuple[int]
    data_offsets: tuple[int, int]


class Place(NamedTuple):
    """Where evidence is."""

    path: Path
    begin: int
    length: int


def pack_bytes(blobs: Mapping[str, bytes]) -> bytes:
    """`blobs` by their digests -> the file."""
    header, begin = dict[str, object]({ABOUT: {"format": FORMAT}}), 0
    for digest in sorted(blobs):
        end = begin + len(blobs[digest])
        header[digest] = {"dtype": "U8", "shape": [end - begin], "data_offsets": [begin, end]}
        begin = end
    text = canonical_json(header)
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *(blobs[digest] for digest in sorted(blobs))])


def read_pack(path: Path, ref: PackRef) -> dict[str, Place]:
    """What is in a pack, by digest. Raises UsageError naming the file: damaged, or not one that we would write."""
    checked_size(path, ref.bytes)
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > HEADER_BYTES_MAX:
                raise ValueError
            header = msgspec.json.decode(file.read(length), type=dict[str, msgspec.Raw])
        header.pop(ABOUT, None)
        entries = {digest: msgspec.json.decode(raw, type=Entry) for digest, raw in header.items()}
    except (OSError, ValueError, *NOT_DECODABLE):
        raise DamageError(f"{path}: damaged: its header cannot be read; fetch it again") from None
    places, at = {}, 0
    for digest, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        begin, end = entry.data_offsets
        if not DIGEST.fullmatch(digest) or begin != at or end - begin != entry.shape[0] or end < begin:
            raise DamageError(f"{path}: damaged: its header does not say what is in it; fetch it again")
        places[digest] = Place(path, 8 + length + begin, end - begin)
        at = end
    if len(places) != ref.bundles or 8 + length + at != ref.bytes:
        raise DamageError(f"{path}: damaged: it does not hold what the manifest says; fetch it again")
    return places
