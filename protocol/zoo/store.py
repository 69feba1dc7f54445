"""The zoo's layout on disk, and how to read it. The curator writes it (`coordinator.zoo`), analysts read it.

Everything is immutable and named by the SHA-256 of its bytes, except numbered manifests that are created once and
never replaced: the zoo *is* what the newest sound manifest names. Axes: N networks, P parameters.

    manifests/00000001.json                        what belongs to the zoo, and how long each file is; signed
    catalogue/<digest>.parquet                     a row a network
    weights/<recipe, 16 digits>/<digest>.safetensors   up to 1,000 networks of one shape, one stacked array a layer
    data/<digest>                                  a data set that recipes name, as `datasets` lays it out
    recipes/<digest>.json  campaigns/<digest>.json  evidence/<digest>.msgpack
    evidence/<digest>.safetensors                  evidence of many bundles (`packs`), in place of as many files
    README.md  croissant.json                      for people and for dataset search engines
"""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from protocol.canonical import NOT_DECODABLE, hexdigest, readable
from protocol.errors import DamageError, FileError, UsageError
from protocol.files import read_limited, whole_or_absent
from protocol.recipes.recipe import RECIPE_BYTES_MAX, SCALARS_MAX, Recipe, decode_recorded
from protocol.tasks.datasets import Shelf
from protocol.zoo.catalogue import catalogue_schema, read_part
from protocol.zoo.manifests import Digest, ShardRef, Verify, ZooManifest, find_manifest
from protocol.zoo.packs import Place, read_pack
from protocol.zoo.parquet import check_part
from protocol.zoo.shards import Piece, checked_size, copy_pieces, damaged, map_shard, split_by

if TYPE_CHECKING:
    import pyarrow as pa

STORED_CAMPAIGN_BYTES_MAX = 16 * 1024 * 1024  # a zoo is read also when later versions allow longer campaigns
STORED_EVIDENCE_BYTES_MAX = 256 * 1024 * 1024  # likewise; what this version verifies is shorter

log = logging.getLogger(__name__)


class NetworkRow(msgspec.Struct, frozen=True, kw_only=True):
    """What the curator knows of one admitted network; the writer adds the recipe's fields, the digests, the place."""

    recipe: Digest
    seed: int
    campaign: Digest
    assignment: str
    steps: int
    held_out_loss: float  # mean squared error when training stopped
    training_losses: tuple[float, ...]  # one a segment
    held_out_losses: tuple[float, ...]  # one a segment
    host: str
    checkers: tuple[str, ...]  # hosts that re-ran a piece of this network
    checks_valid: int  # checks of this network that agreed
    cells_checked: int  # segments of this network that were re-run
    credit: float  # network-segments, for this network
    state_digest: Digest  # of the last state; commits to the weights
    evidence: Digest
    admitted_at: float  # seconds since 1970, UTC

    @property
    def id(self) -> str:
        return network_id(self.recipe, self.seed)


def network_id(recipe_digest: str, seed: int) -> str:
    return f"{recipe_digest[:16]}-{seed}"


def part_path(zoo: Path, digest: str) -> Path:
    return zoo / "catalogue" / f"{digest}.parquet"


def shard_path(zoo: Path, recipe_digest: str, digest: str) -> Path:
    """`recipe_digest`: of the file's first network, as the manifest says."""
    return zoo / "weights" / recipe_digest[:16] / f"{digest}.safetensors"


def recipe_path(zoo: Path, digest: str) -> Path:
    return zoo / "recipes" / f"{digest}.json"


def campaign_path(zoo: Path, digest: str) -> Path:
    return zoo / "campaigns" / f"{digest}.json"


def evidence_path(zoo: Path, digest: str) -> Path:
    return zoo / "evidence" / f"{digest}.msgpack"


def pack_path(zoo: Path, digest: str) -> Path:
    return zoo / "evidence" / f"{digest}.safetensors"


def data_path(zoo: Path, digest: str) -> Path:
    return zoo / "data" / digest


class Store:
    """A zoo as one manifest names it: later publishes do not move under a reader's feet."""

    def __init__(
        self,
        path: Path,
        manifest: ZooManifest,
        passed_over: tuple[str, ...] = (),
        read: Mapping[str, Recipe] | None = None,
    ):
        self.path, self.manifest = path, manifest
        self.passed_over = passed_over  # newer manifests that cannot be used, a line each
        self._read = read or {}  # recipes that were read before, by digest: they never change
        self.shelf = Shelf(path / "data")
        self._shards = {ref.digest: ref for ref in manifest.shards}

    @cached_property
    def recipes(self) -> dict[str, Recipe]:
        """Digest -> recipe. Raises UsageError naming the file."""
        return {digest: self._read.get(digest) or self.recipe(digest) for digest in self.manifest.recipes}

    def recipe(self, digest: str) -> Recipe:
        # Not recipe_from_bytes: a zoo with a machine that this version does not know can still be read.
        path = recipe_path(self.path, digest)
        data = read_limited(path, RECIPE_BYTES_MAX, "recipe")
        check_digest(path, data, digest)
        try:
            recipe = decode_recorded(data, Recipe)
        except msgspec.ValidationError as error:
            raise DamageError(f"{path}: {readable(error)}") from None
        except NOT_DECODABLE:
            raise DamageError(f"{path}: not JSON") from None
        try:
            readable_count = recipe.digest == digest and 0 < recipe.parameter_count <= SCALARS_MAX
        except ValueError:
            readable_count = False  # layers that do not fit
        if not readable_count:
            raise DamageError(f"{path}: not a recipe that this version can read")
        return recipe

    @cached_property
    def campaigns(self) -> dict[str, bytes]:
        """Digest -> the organizer's exact bytes. Raises UsageError naming the file."""
        return {digest: self.campaign(digest) for digest in self.manifest.campaigns}

    def campaign(self, digest: str) -> bytes:
        path = campaign_path(self.path, digest)
        data = read_limited(path, STORED_CAMPAIGN_BYTES_MAX, "campaign")
        check_digest(path, data, digest)
        return data

    def evidence(self, digest: str) -> bytes:
        """The signed evidence of one bundle, retracted or not. Raises UsageError naming the file."""
        path = evidence_path(self.path, digest)
        if path.is_file() or digest not in self.packed:
            data = read_limited(path, STORED_EVIDENCE_BYTES_MAX, "evidence file")
        else:
            path, begin, length = self.packed[digest]
            with path.open("rb") as file:
                file.seek(begin)
                data = file.read(length)
        check_digest(path, data, digest)
        return data

    @cached_property
    def packed(self) -> dict[str, Place]:
        """Where evidence is that has no file of its own. A damaged pack has none: `verify` names it."""
        places: dict[str, Place] = {}
        for ref in self.manifest.packs:
            with contextlib.suppress(UsageError):
                places |= read_pack(pack_path(self.path, ref.digest), ref)
        return places

    def has_evidence(self, digest: str) -> bool:
        return evidence_path(self.path, digest).is_file() or digest in self.packed

    def part_paths(self) -> list[Path]:
        """Catalogue files, their lengths and what they take in memory checked. Raises UsageError naming the file."""
        paths = [checked_size(part_path(self.path, part.digest), part.bytes) for part in self.manifest.catalogue]
        for path, part in zip(paths, self.manifest.catalogue, strict=True):
            check_part(path, part.rows)
        return paths

    def catalogue(self, columns: list[str] | None = None) -> "pa.Table":
        """Every row, in no particular order. Raises UsageError naming a damaged file."""
        import pyarrow as pa

        tables = [read_part(path, columns) for path in self.part_paths()]
        if not tables:
            empty = catalogue_schema().empty_table()
            return empty.select(columns) if columns else empty
        return pa.concat_tables(tables, promote_options="default")

    def shard(self, digest: str) -> dict[str, np.ndarray]:
        """A shard's arrays, mapped, not read: name -> (rows, *shape) float32. Raises UsageError naming the file."""
        ref, recipe = self.listed(digest)
        return map_shard(shard_path(self.path, ref.recipe, digest), ref, recipe)

    def gather(
        self, shards: Sequence[str], rows: np.ndarray, *, into: Path | None = None, verify: bool = False
    ) -> np.ndarray:
        """(N, P) float32: network i is row rows[i] of the file shards[i]. All of one shape, else UsageError.

        Lengths and headers are always checked; with `verify` every file that is read must hash to its name, too.
        `into`: a `.npy` file to be written, of which a read-only mapping is returned. Raises OSError if it cannot be.
        """
        numbers: dict[str, int] = {}
        which_N = np.fromiter((numbers.setdefault(name, len(numbers)) for name in shards), np.int64, len(shards))
        listed = [self.listed(name) for name in numbers]
        widths = {recipe.parameter_count for _, recipe in listed} or {0}
        if len(widths) > 1:
            raise UsageError("these networks do not have one shape: narrow `where`, e.g. to one recipe_name")
        places = split_by(which_N, len(listed))
        pieces = [
            Piece(shard_path(self.path, ref.recipe, ref.digest), ref, recipe, places[i], np.asarray(rows)[places[i]])
            for i, (ref, recipe) in enumerate(listed)
        ]
        shape = (len(shards), widths.pop())
        if into is None:
            weights_NP = np.empty(shape, np.float32)
            copy_pieces(pieces, weights_NP, verify)
            return weights_NP
        with whole_or_absent(into) as partial:
            copy_pieces(pieces, np.lib.format.open_memmap(partial, "w+", np.float32, shape), verify)
        return np.load(into, mmap_mode="r")

    def listed(self, digest: str) -> tuple[ShardRef, Recipe]:
        """What the manifest says of a shard, and its recipe. Raises UsageError."""
        ref = self._shards.get(digest)
        if ref is None:
            raise DamageError(f"{self.path}: the catalogue names a shard {str(digest)[:16]} that no manifest lists")
        recipe = self.recipes.get(ref.recipe)
        if recipe is None:
            raise DamageError(f"{self.path}: a shard names a recipe {ref.recipe[:16]} that the manifest does not list")
        return ref, recipe


def open_store(path: Path | str, verify: Verify | None = None) -> Store:
    """Open a zoo's directory at its newest sound manifest; newer ones that are not are named in the log, in one line.

    With `verify` (`protocol.trust.identity.verify_signature`) a sound one is signed too. Raises UsageError: there is
    none.
    """
    zoo = Path(path)
    if not zoo.is_dir():
        raise FileError(f"{zoo}: there is no such zoo directory")
    found = find_manifest(zoo, verify)
    manifest, passed_over = found.manifest, found.passed_over
    if manifest is None:
        why = f"; {passed_over[0]}" if passed_over else ""
        raise FileError(f"{zoo}: not a zoo, or nothing was published yet: no readable file in manifests/{why}")
    if passed_over:
        told = "; ".join(passed_over[:3])
        log.warning("manifest %d is opened, %d newer passed over: %s", manifest.number, len(passed_over), told)
    return Store(zoo, manifest, passed_over)


def check_digest(path: Path, data: bytes, digest: str) -> None:
    if hexdigest(data) != digest:
        raise damaged(path)
